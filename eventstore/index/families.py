"""Which events the index knows, and what it keeps of each: records by key, in families.

One table of builders serves both ways in: an event that was just appended, and columns that were read from
segments. A record is a tuple of what JSON has, so that runs on disk and the overlay in memory hold the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from eventstore.codec.payload import dump_fields, load_json

__all__ = [
    "BUILDERS",
    "COLUMNS",
    "HANDLE_KINDS",
    "INLINE_BYTES",
    "KEEP",
    "KINDS",
    "RECORDS_VERSION",
    "Builder",
    "Entry",
    "Family",
    "Key",
    "Place",
    "Record",
    "decoded",
    "digest",
    "encoded",
    "key_bytes",
]

INLINE_BYTES = 64 * 1024
"""Longest value that the index keeps itself; longer ones are read where they lie."""

Key = str | tuple[str, str]
Record = tuple[Any, ...]
Place = int | tuple[str, int]
"""Where an event is: its position, or its writer and sequence while no seal has placed it."""


class Family(IntEnum):
    """What a record is about; the last byte of its key. Numbers are stored: they are never used again."""

    EVALUATION = 1
    """Evaluation hash: the value hash, and where the event was (not in runs)."""
    VALUE = 2
    """Value hash: type name, format, size, digest, subvalues, path, place, bytes."""
    TASK = 3
    """Task hash: name, namespace, source, version."""
    CALL = 4
    """Call hash: task hash and name, arguments hash, value hash, time, children, arguments, subtree tasks."""
    CALLS_OF = 5
    """Task hash and arguments hash: call hash, time, task hash, arguments hash, value hash, subtree tasks."""
    CALL_WITH_ARGUMENTS = 6
    """Arguments hash and task name: call hash, time, task hash, arguments hash, task name."""
    CALL_OF_TASK = 7
    """Task hash: call hash, time, task hash, arguments hash."""
    JOB = 8
    """Job id: time, execution, parent, task; of an end also status, cached, call hash."""
    ENDED = 9
    """Execution id and call hash: job id, execution id, call hash."""
    CHILD_JOB = 10
    """Job id: the id of a job that it called."""
    EXECUTION = 11
    """Execution id: arguments, root job, time."""
    HEARTBEAT = 12
    """Execution id: time."""
    TAG = 13
    """Tag hash: entity type, entity id, key, value, parents."""
    TAG_OF = 14
    """Entity id: tag hash, entity type, entity id, key, value, parents."""
    SUPERSEDED = 15
    """Tag hash: the hash of a tag in its place."""
    HANDLE = 16
    """Handle hash: name, key, value hash, valid."""
    HANDLE_CHILD = 17
    """Handle hash: the hash of a state that follows."""


Entry = tuple[Family, Key, Record]

RECORDS_VERSION = 2
"""Of what records say; runs of another version are set aside."""

KEEP: Mapping[Family, Literal["first", "last", "all"]] = {
    Family.EVALUATION: "last",
    Family.VALUE: "first",
    Family.TASK: "first",
    Family.CALL: "first",
    Family.CALLS_OF: "all",
    Family.CALL_WITH_ARGUMENTS: "last",
    Family.CALL_OF_TASK: "last",
    Family.JOB: "all",
    Family.ENDED: "all",
    Family.CHILD_JOB: "all",
    Family.EXECUTION: "first",
    Family.HEARTBEAT: "last",
    Family.TAG: "first",
    Family.TAG_OF: "all",
    Family.SUPERSEDED: "all",
    Family.HANDLE: "last",
    Family.HANDLE_CHILD: "all",
}
"""Which records of one key count, in the order of the log."""


class Builder(NamedTuple):
    """How one kind of event becomes records.

    `build` is called with the event's place, its time in microseconds and the cells of `columns`. A cell is
    None where the event's body was erased: such an event says nothing.
    """

    columns: tuple[str, ...]
    build: Callable[..., Sequence[Entry]]


def _evaluation(place: Place, _at: int, eval_hash: str | None, value_hash: str) -> Sequence[Entry]:
    return ((Family.EVALUATION, eval_hash, (value_hash, place)),) if eval_hash is not None else ()


def _value(
    place: Place,
    _at: int,
    value_hash: str | None,
    type_name: str,
    media_type: str,
    size_bytes: int,
    data: bytes | None,
    data_digest: str | None,
    subvalues: Sequence[str] | None,
    file_path: str | None,
) -> Sequence[Entry]:
    if value_hash is None:
        return ()
    short = data if data is not None and len(data) <= INLINE_BYTES else None
    facts = (type_name, media_type, size_bytes, data_digest, subvalues or (), file_path, place, short)
    return ((Family.VALUE, value_hash, facts),)


def _task(
    _place: Place,
    _at: int,
    task_hash: str | None,
    name: str,
    namespace: str | None,
    source: str | None,
    version: str | None,
) -> Sequence[Entry]:
    return ((Family.TASK, task_hash, (name, namespace or "", source, version)),) if task_hash else ()


def _call(
    _place: Place,
    at: int,
    call_hash: str | None,
    task_hash: str,
    task_name: str,
    args_hash: str,
    value_hash: str,
    children: Sequence[str] | None,
    arguments: Iterable[Any] | None,
    subtree_tasks: Sequence[str] | None,
) -> Sequence[Entry]:
    if call_hash is None:
        return ()
    given = [
        (each["position"], each["key"], each["value_hash"], each["upstreams"] or ())
        for each in (one if isinstance(one, Mapping) else one.__dict__ for one in arguments or ())
    ]
    facts = (task_hash, task_name, args_hash, value_hash, at, children or (), given, subtree_tasks or ())
    mention = (call_hash, at, task_hash, args_hash)
    return (
        (Family.CALL, call_hash, facts),
        (Family.CALLS_OF, (args_hash, task_hash), (*mention, value_hash, subtree_tasks or ())),
        (Family.CALL_WITH_ARGUMENTS, (args_hash, task_name), (*mention, task_name)),
        (Family.CALL_OF_TASK, task_hash, mention),
    )


def _job_started(
    _place: Place, at: int, job_id: str | None, execution_id: str, parent_id: str | None, task_hash: str
) -> Sequence[Entry]:
    if job_id is None:
        return ()
    job = (Family.JOB, job_id, (at, execution_id, parent_id, task_hash))
    return (job,) if parent_id is None else (job, (Family.CHILD_JOB, parent_id, (job_id,)))


def _job_ended(
    _place: Place,
    at: int,
    job_id: str | None,
    execution_id: str,
    parent_id: str | None,
    task_hash: str,
    status: str,
    cached: bool,
    call_hash: str | None,
) -> Sequence[Entry]:
    if job_id is None:
        return ()
    entries: list[Entry] = [
        (
            Family.JOB,
            job_id,
            (at, execution_id, parent_id, task_hash, str(status), bool(cached), call_hash),
        )
    ]
    if call_hash is not None:
        entries.append((Family.ENDED, (call_hash, execution_id), (job_id, execution_id, call_hash)))
    if parent_id is not None:
        entries.append((Family.CHILD_JOB, parent_id, (job_id,)))
    return entries


def _execution(
    _place: Place, at: int, execution_id: str | None, job_id: str | None, args: str | None
) -> Sequence[Entry]:
    if execution_id is None:
        return ()
    return ((Family.EXECUTION, execution_id, (args or "[]", job_id, at)),)


def _heartbeat(_place: Place, at: int, execution_id: str | None) -> Sequence[Entry]:
    return ((Family.HEARTBEAT, execution_id, (at,)),) if execution_id is not None else ()


def _tags(
    _place: Place,
    _at: int,
    entity_type: str | None,
    entity_id: str,
    tags: Iterable[Any] | None,
    superseded: Sequence[str] | None,
) -> Sequence[Entry]:
    if entity_type is None:
        return ()
    entries: list[Entry] = []
    parents = superseded or ()
    for tag in tags or ():
        each = tag if isinstance(tag, Mapping) else tag.__dict__
        tag_hash = each["tag_hash"]
        facts = (str(entity_type), entity_id, each["key"], each["value"], parents)
        entries.append((Family.TAG, tag_hash, facts))
        entries.append((Family.TAG_OF, entity_id, (tag_hash, *facts)))
        entries.extend((Family.SUPERSEDED, parent, (tag_hash,)) for parent in parents)
    return entries


def _tags_deleted(
    _place: Place, _at: int, tag_hash: str | None, superseded: Sequence[str] | None
) -> Sequence[Entry]:
    if tag_hash is None:
        return ()
    parents = superseded or ()
    facts = ("Null", "", "", "null", parents)
    return (
        (Family.TAG, tag_hash, facts),
        (Family.TAG_OF, "", (tag_hash, *facts)),
        *((Family.SUPERSEDED, parent, (tag_hash,)) for parent in parents),
    )


BUILDERS: Mapping[str, Builder] = {
    "call_node.recorded": Builder(
        (
            "call_hash",
            "task_hash",
            "task_name",
            "args_hash",
            "value_hash",
            "children",
            "arguments",
            "subtree_tasks",
        ),
        _call,
    ),
    "evaluation.cached": Builder(("eval_hash", "value_hash"), _evaluation),
    "execution.heartbeat": Builder(("execution_id",), _heartbeat),
    "execution.started": Builder(("execution_id", "job_id", "args"), _execution),
    "job.ended": Builder(
        ("job_id", "execution_id", "parent_id", "task_hash", "status", "cached", "call_hash"), _job_ended
    ),
    "job.started": Builder(("job_id", "execution_id", "parent_id", "task_hash"), _job_started),
    "tags.deleted": Builder(("tag_hash", "superseded"), _tags_deleted),
    "tags.recorded": Builder(("entity_type", "entity_id", "tags", "superseded"), _tags),
    "task.recorded": Builder(("task_hash", "task_name", "task_namespace", "source", "task_version"), _task),
    "value.recorded": Builder(
        (
            "value_hash",
            "type_name",
            "format",
            "size_bytes",
            "data",
            "data_digest",
            "subvalues",
            "file_path",
        ),
        _value,
    ),
}
"""By kind; those of handles are folded one after another, see `eventstore.index.handle_states`."""

HANDLE_KINDS: Mapping[str, tuple[str, ...]] = {
    "handle.advanced": ("handle_hash", "handle_name", "parents"),
    "handle.forked": ("handle_hash", "handle_name", "parents", "handle_key"),
    "handle.recorded": ("handle_hash", "handle_name", "parents", "handle_key", "value_hash"),
    "handle.rolled_back": ("handle_hash", "handle_name"),
}
"""Kinds of events of handles, and their columns."""

KINDS = (*BUILDERS, *HANDLE_KINDS)
COLUMNS = tuple(
    dict.fromkeys(
        [
            *("kind", "writer", "sequence", "occurred_at", "recorded_at"),
            *(name for builder in BUILDERS.values() for name in builder.columns),
            *(name for columns in HANDLE_KINDS.values() for name in columns),
        ]
    )
)
"""What is read of the log."""


# on disk -------------------------------------------------------------------------------------------------


def key_bytes(family: Family, key: Key) -> bytes:
    """Return the 21 bytes under which runs keep a record: 20 that are spread evenly, and the family.

    Of a pair, half of each digest: the record says both in full.
    """
    if isinstance(key, tuple):
        return digest(key[0])[:10] + digest(key[1])[:10] + _FAMILY_BYTES[family]
    return digest(key) + _FAMILY_BYTES[family]


_FAMILY_BYTES = {family: bytes([family]) for family in Family}


def digest(key: str) -> bytes:
    """Return 20 bytes: those of a hash as they are, of another text its digest."""
    if len(key) == 40:
        try:
            found = bytes.fromhex(key)
        except ValueError:
            pass
        else:
            if len(found) == 20:  # white space is no error, and stands for nothing
                return found
    return _digest_of_text(key)


@lru_cache(maxsize=16_384)
def _digest_of_text(key: str) -> bytes:
    # Ids of jobs and executions come several times in a row.
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=20).digest()


def encoded(family: Family, record: Record) -> bytes:
    """Return a record as runs keep it: a JSON list, and behind a new line a value's bytes."""
    if family is Family.VALUE:
        head = dump_fields(record[:-1])
        return head if record[-1] is None else head + b"\n" + record[-1]
    if family is Family.EVALUATION:
        return dump_fields(record[:1])
    return dump_fields(record)


def decoded(family: Family, payload: bytes) -> Record:
    """Return the record that `encoded` made these bytes of."""
    if family is Family.VALUE:
        head, line, data = payload.partition(b"\n")
        return (*load_json(head, where="index"), data if line else None)
    return tuple(load_json(payload, where="index"))
