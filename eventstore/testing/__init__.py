"""The public test kit: faults for storage and journals, a model of the log, strategies for events.

`eventstore.testing.strategies` needs hypothesis and is imported by itself.
"""

from eventstore.testing.faults import KILLED, Act, FaultPlan, FaultyFiles, FaultyStorage, When
from eventstore.testing.model import ModelEvent, ModelLog, stored_form

__all__ = [
    "KILLED",
    "Act",
    "FaultPlan",
    "FaultyFiles",
    "FaultyStorage",
    "ModelEvent",
    "ModelLog",
    "When",
    "stored_form",
]
