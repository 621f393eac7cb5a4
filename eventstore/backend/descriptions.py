"""What an engine tells a backend and what it is told: small immutable records, no engine's classes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple

__all__ = [
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
    "TaskDescription",
]


class CacheScope(StrEnum):
    """From where a call may be answered."""

    NONE = "none"
    """From nowhere: it always runs."""
    EXECUTION = "execution"
    """From what the same execution has computed."""
    STORE = "store"
    """From all that the store has."""


class CacheCheck(StrEnum):
    """How far down a cached result is checked."""

    FULL = "full"
    """Each call below is asked for in its turn."""
    SHALLOW = "shallow"
    """A whole call is taken as it is, if all tasks at and below it are current."""


class CacheKind(StrEnum):
    """Which cache answered."""

    EXECUTION = "execution"
    """A job of the same execution."""
    CALL = "call"
    """A call node whose tasks are all current."""
    EVALUATION = "evaluation"
    """The result of a single reduction: perhaps an expression that is still to be evaluated."""
    MISS = "miss"
    """None of them."""


class CacheAnswer(NamedTuple):
    """What `Backend.check_cache` found."""

    value: Any
    call_hash: str | None
    """The call node that the value comes from; None for an evaluation and for a miss."""
    kind: CacheKind


class CacheMiss(NamedTuple):
    """Why a call was not in the cache, and the call that comes closest."""

    reason: Literal["new_task", "new_args", "new_call"]
    """The newest call of this name had the same arguments and another task; the newest call of this task had
    other arguments; or nothing is like it."""
    call_hash: str | None = None
    task_hash: str | None = None
    args_hash: str | None = None


class TaskDescription(NamedTuple):
    """A task as a call or a job mentions it."""

    task_hash: str
    name: str
    """Without namespace."""
    namespace: str = ""
    source: str | None = None
    version: str | None = None
    """What stands for the source in the hash, if something does."""
    value: Any = None
    """The object that is recorded as a value under the task's hash; None for none."""

    @property
    def full_name(self) -> str:
        """Name with namespace, joined by a dot."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


class CallArgument(NamedTuple):
    """An argument of a call, by position or by key: exactly one of them."""

    position: int | None
    key: str | None
    value: Any
    """The evaluated argument, before it was prepared for the task; recorded as a value."""
    upstreams: Sequence[str] = ()
    """Call nodes whose results went into it; one that is named twice counts once."""


class CallNode(NamedTuple):
    """A call that has ended, and how it came about."""

    task_name: str
    """With namespace."""
    task_hash: str
    args_hash: str
    arguments: Sequence[CallArgument]
    """Positional ones first, then those given by keyword, then defaults."""
    result_hash: str
    children: Sequence[str] = ()
    """Hashes of the calls below in call order, also of those that were not recorded; all enter the hash."""
    subtree_tasks: Sequence[TaskDescription] = ()
    """The tasks at and below the call; one that is given twice counts once."""


class JobDescription(NamedTuple):
    """A job, as far as the engine knows it when it starts or ends."""

    job_id: str
    execution_id: str
    parent_id: str | None
    """None for the root job of its execution."""
    task: TaskDescription
    is_cached: bool = False
    """Whether its result came from a cache; read at its end."""
    call_hash: str | None = None
    """The call node that it ended with; read at its end."""


class HandleState(NamedTuple):
    """One state of a handle."""

    handle_hash: str
    name: str
    """With namespace; all states of one thing share it."""
    key: str
    value: Any
    """The handle itself, which is recorded as a value under the same hash."""
    is_recorded: bool = False
    """Whether the engine knows that a history has it: then its forks' origins are not recorded again."""
    fork_parent: HandleState | None = None
    """The state that it was forked from, in this process."""


class ExecutionState(NamedTuple):
    """An execution, as it stands."""

    execution_id: str
    job_id: str | None
    """The root job."""
    args: str
    """JSON text of a list."""
    start_us: int
    """Microseconds of Unix time."""
    updated_us: int | None
    """The last heartbeat."""
    status: str
    """FAILED without a recorded root job; DONE if that is done or cached; else that of the root job."""
