"""Named, durable subscriptions: where they stand, how events are handed over, and what is stored of both."""

from eventstore.log.subscription.checkpoint import (
    Checkpoint,
    HandlerFailure,
    SubscriptionState,
    checkpoint_beyond_head,
    foreign_checkpoint,
    is_of_log,
)
from eventstore.log.subscription.checkpoints import Checkpoints
from eventstore.log.subscription.delivery import Handler, Patience
from eventstore.log.subscription.standing import Clocks, Start
from eventstore.log.subscription.subscription import Subscription

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Clocks",
    "Handler",
    "HandlerFailure",
    "Patience",
    "Start",
    "Subscription",
    "SubscriptionState",
    "checkpoint_beyond_head",
    "foreign_checkpoint",
    "is_of_log",
]
