"""The backend: what a workflow engine needs of a history, and how the log gives it.

`Backend` is the contract, free of any engine's classes; `LogBackend` implements it on an `EventStore`.
"""

from eventstore.backend.base import Backend, Types, ValueTooLargeError
from eventstore.backend.descriptions import (
    CacheAnswer,
    CacheCheck,
    CacheKind,
    CacheMiss,
    CacheScope,
    CallArgument,
    CallNode,
    ExecutionState,
    HandleState,
    JobDescription,
    TaskDescription,
)
from eventstore.backend.log_backend import LogBackend
from eventstore.backend.types import StoreTypes

__all__ = [
    "Backend",
    "CacheAnswer",
    "CacheCheck",
    "CacheKind",
    "CacheMiss",
    "CacheScope",
    "CallArgument",
    "CallNode",
    "ExecutionState",
    "HandleState",
    "JobDescription",
    "LogBackend",
    "StoreTypes",
    "TaskDescription",
    "Types",
    "ValueTooLargeError",
]
