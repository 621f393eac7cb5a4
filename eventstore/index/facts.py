"""What the index answers with: one small record for each kind of thing, as the events stated it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "CallFacts",
    "CallMention",
    "CallOutcome",
    "ExecutionFacts",
    "HandleFacts",
    "JobFacts",
    "StoredValue",
    "TagFacts",
    "TaskFacts",
    "ValueFacts",
]


class StoredValue(NamedTuple):
    """A value as it was recorded: type name, media type of the bytes, and the bytes."""

    type_name: str
    format: str
    data: bytes


class ValueFacts(NamedTuple):
    """What is known of a value besides its bytes."""

    value_hash: str
    type_name: str
    format: str
    size_bytes: int
    data_digest: str | None
    """SHA-256 of the bytes, where they lie in the value store."""
    subvalues: Sequence[str]
    file_path: str | None


class TaskFacts(NamedTuple):
    """A task, by its hash."""

    task_hash: str
    name: str
    namespace: str
    source: str | None
    version: str | None


class CallFacts(NamedTuple):
    """A call node."""

    call_hash: str
    task_hash: str
    task_name: str
    args_hash: str
    value_hash: str
    at_us: int
    """When it was recorded, in microseconds of Unix time."""
    children: Sequence[str]
    """Call nodes below it in call order, repeats kept."""
    arguments: Sequence[Mapping[str, Any]]
    """Of each: ``position`` or ``key``, ``value_hash``, ``upstreams``."""
    subtree_tasks: Sequence[str]


class CallMention(NamedTuple):
    """A call node, as far as choosing between several needs."""

    call_hash: str
    task_hash: str
    args_hash: str
    at_us: int


class CallOutcome(NamedTuple):
    """A call node, as far as answering the same call with it needs."""

    call_hash: str
    at_us: int
    task_hash: str
    args_hash: str
    value_hash: str
    subtree_tasks: Sequence[str]
    """Tasks at and below it."""


class JobFacts(NamedTuple):
    """A job: what its start and its last end say."""

    job_id: str
    execution_id: str
    parent_id: str | None
    task_hash: str
    start_us: int
    end_us: int | None
    status: str | None
    """DONE, CACHED or FAILED; None while it has no end."""
    is_cached: bool
    call_hash: str | None


class ExecutionFacts(NamedTuple):
    """An execution and its last heartbeat."""

    execution_id: str
    job_id: str | None
    """The root job."""
    args: str
    """JSON text of a list."""
    start_us: int
    updated_us: int | None


class TagFacts(NamedTuple):
    """A tag; the delete tag has the entity type ``Null``, no entity, no key, and the value ``null``."""

    tag_hash: str
    entity_type: str
    entity_id: str
    key: str
    value: str
    """Canonical JSON text."""
    parents: Sequence[str]
    """Tags that it replaces, sorted."""


class HandleFacts(NamedTuple):
    """A state of a handle."""

    handle_hash: str
    name: str
    key: str
    value_hash: str | None
    is_valid: bool
