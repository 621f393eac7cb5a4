"""Where one subscription stands: in memory, in the store, and the step from the one to the other.

What is stored is never ahead of what was done. Whoever finds that another runner has stored something
gives up its own progress: the events come again there. What is stored of another log is not gone on with.
"""

from __future__ import annotations

import datetime as dt
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import pyarrow as pa

from eventstore.errors import ConflictError, EventStoreError, InvalidEventError, NotFoundError
from eventstore.log.sequence import Head
from eventstore.log.subscription.checkpoint import (
    Checkpoint,
    HandlerFailure,
    SubscriptionState,
    checkpoint_beyond_head,
    foreign_checkpoint,
    is_of_log,
)
from eventstore.log.subscription.checkpoints import Checkpoints

__all__ = ["Clocks", "Log", "Standing", "Start"]

logger = logging.getLogger(__name__)

Start = int | Literal["head"] | None
"""Where a new subscription begins: at a position, or at the head; None is the first event."""


class Log(Protocol):
    """What a subscription asks of a store."""

    store_id: str
    read_only: bool

    @property
    def url(self) -> str:
        """Where the store is, for messages."""

    def head(self) -> Head:
        """Return where the sealed log ends now."""

    def head_at(self, number: int) -> Head | None:
        """Return where the log ended with seal `number`; None if the chain has no such seal."""

    def read(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield sealed events in position order."""


def _now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Clocks:
    """Time, to be replaced in tests.

    Parameters
    ----------
    now_us
        Microseconds of Unix time.
    timer
        Seconds that never go back.
    sleep
        How to pause; None pauses until `stop` is set, if that comes first.
    """

    now_us: Callable[[], int] = _now_us
    timer: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] | None = None

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Pause; returns whether `stop` is set."""
        if self.sleep is None:
            return stop.wait(seconds)
        self.sleep(seconds)
        return stop.is_set()


class Standing:
    """The place of one subscription; made if there is none of its name.

    Parameters
    ----------
    software
        What its checkpoints say wrote them.
    kinds
        What a new one asks for, and what one that is there has to ask for; None leaves that open.
    start
        Where a new one begins.
    checkpoint_seconds
        See `keep_if_due`.

    Raises
    ------
    InvalidEventError
        Bad name, or it asks for other kinds (code ``bad_subscription``); `start` is not in the log
        (``bad_range``).
    NotFoundError
        There is none, and the store is read-only (``no_such_subscription``).
    """

    def __init__(
        self,
        name: str,
        *,
        log: Log,
        checkpoints: Checkpoints,
        software: str,
        kinds: Collection[str] | None,
        start: Start,
        checkpoint_seconds: float,
        clocks: Clocks,
    ) -> None:
        self.name = name
        self._log = log
        self._checkpoints = checkpoints
        self._software = software
        self._checkpoint_seconds = checkpoint_seconds
        self._clocks = clocks
        self._runner = secrets.token_hex(8)
        self._stored_at = clocks.timer()
        self._head: Head | None = None
        """An end of the log that has the position; None while that is not known to be of this log."""
        asked = None if kinds is None else tuple(sorted(set(kinds)))
        self._revision, stored = checkpoints.newest(name)
        if stored is None or stored.state is SubscriptionState.DELETED:
            stored = self._make(asked, start)
        self.stored = stored
        self.position = stored.position
        """Every event before it is done."""
        if asked is not None and stored.kinds != asked:
            raise InvalidEventError(
                f"the subscription {name!r} was expected to ask for {_spelled(asked)}, found that it asks "
                f"for {_spelled(stored.kinds)} and has passed over the rest; choose another name, or delete "
                "it and start anew",
                code="bad_subscription",
                subscription=name,
            )

    def _make(self, kinds: tuple[str, ...] | None, start: Start) -> Checkpoint:
        if self._log.read_only:
            raise NotFoundError(
                f"a subscription {self.name!r} was expected in {self._log.url}, found none; open the store "
                "for writing to make it",
                code="no_such_subscription",
                subscription=self.name,
            )
        head = self._log.head()
        made = Checkpoint(
            name=self.name,
            revision=self._revision + 1,
            position=head.size if start == "head" else self._checked(start or 0, head),
            seal=head.number,
            seal_digest=head.digest,
            kinds=kinds,
            state=SubscriptionState.ACTIVE,
            failure=None,
            updated_at=self._now(),
            software=self._software,
            runner=self._runner,
            store_id=self._log.store_id,
        )
        try:
            made = self._checkpoints.put(made)
        except ConflictError:
            # Someone else has made it in the meantime, which is as good.
            self._revision, stored = self._checkpoints.newest(self.name)
            if stored is None or stored.state is SubscriptionState.DELETED:
                raise
            return stored
        self._revision, self._head = made.revision, head
        return made

    def reload(self) -> None:
        """Take over what another process has stored since; own progress stays if there is nothing.

        Raises
        ------
        NotFoundError
            It was deleted (code ``no_such_subscription``).
        """
        self._revision, stored = self._checkpoints.newest(self.name)
        if stored is None or stored.state is SubscriptionState.DELETED:
            raise NotFoundError(
                f"the subscription {self.name!r} was expected, found that it was deleted; ask the store for "
                "it again to begin anew",
                code="no_such_subscription",
                subscription=self.name,
            )
        if stored.runner != self._runner or stored.revision > self.stored.revision:
            self.position, self._head = stored.position, None
        self.stored = stored
        self._stored_at = self._clocks.timer()

    def check(self) -> None:
        """Look whether what was taken over is of the log that is here; own progress is.

        Raises
        ------
        StateError
            The log has no such seal as the checkpoint names (code ``foreign_checkpoint``).
        IntegrityError
            The log ends before the checkpoint (``checkpoint_beyond_head``), or that seal is damaged.
        """
        if self._head is not None:
            return
        head = self._log.head_at(self.stored.seal)
        if not is_of_log(self.stored, head):
            size = self._log.head().size
            if self.stored.position > size:
                raise checkpoint_beyond_head(self.stored, size)
            raise foreign_checkpoint(self.stored, head)
        self._head = head

    def look(self) -> int:
        """Return the size of the log now; of what was checked, the position may go on up to it."""
        self._head = self._log.head()
        return self._head.size

    def _checked(self, position: int, head: Head) -> int:
        """Return `position`, or raise InvalidEventError (code ``bad_range``) if it is not in the log."""
        if not isinstance(position, int) or not 0 <= position <= head.size:
            raise InvalidEventError(
                f"a position from 0 to {head.size}, the head, was expected for the subscription "
                f"{self.name!r}, found {position!r}",
                code="bad_range",
                subscription=self.name,
            )
        return position

    # storing ---------------------------------------------------------------------------------------------

    def store(self, state: SubscriptionState, failure: HandlerFailure | None = None) -> None:
        """Write a checkpoint.

        Raises
        ------
        ConflictError
            Another runner has gone on (code ``subscription_taken``).
        """
        head = self._head
        made = replace(
            self.stored,
            revision=self._revision + 1,
            position=self.position,
            seal=self.stored.seal if head is None else head.number,
            seal_digest=self.stored.seal_digest if head is None else head.digest,
            state=state,
            failure=failure,
            updated_at=self._now(),
            software=self._software,
            runner=self._runner,
        )
        try:
            self.stored = self._checkpoints.put(made)
        except ConflictError:
            self.position, self._head = self.stored.position, None
            raise
        self._revision = self.stored.revision
        self._stored_at = self._clocks.timer()

    def move(self, position: int) -> None:
        """Go on at another position from now on, not parked; raises as `store`, and then nothing moved.

        InvalidEventError (code ``bad_range``) if it is not in the log.
        """
        before = self.position, self._head
        head = self._log.head()
        self.position, self._head = self._checked(position, head), head
        try:
            self.store(SubscriptionState.ACTIVE)
        except ConflictError:
            raise
        except EventStoreError:
            self.position, self._head = before
            raise

    def keep(self) -> None:
        """Write a checkpoint if there is progress that is not stored; raises as `store`."""
        if self.position != self.stored.position:
            self.store(self.stored.state, self.stored.failure)

    def keep_if_due(self) -> None:
        """Do so if the last one is `checkpoint_seconds` old; after a crash, what came since comes again."""
        if self._clocks.timer() - self._stored_at >= self._checkpoint_seconds:
            self.keep()

    def keep_amid_error(self) -> None:
        """Do so while an error is on its way, which is what the caller is to hear of."""
        try:
            self.keep()
        except EventStoreError as error:
            logger.warning("events that were taken may come again, as this was not stored: %s", error)

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clocks.now_us() / 1e6, dt.UTC)


def _spelled(kinds: tuple[str, ...] | None) -> str:
    return "all kinds" if kinds is None else ", ".join(kinds) or "no kind"
