"""Events of what an engine says all day, made at a part of the price of their constructors.

A constructor checks every field. Most fields here were made by this package a moment ago: hashes of values,
texts of tags, times. What comes from the engine is checked by hand, and cheaply; whatever does not pass goes
to the constructor, which accepts it or says what is wrong. So an event made here is one that its constructor
would have made.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from eventstore.events import (
    Argument,
    CallNodeRecorded,
    EntityType,
    EvaluationCached,
    JobEnded,
    JobStarted,
    JobStatus,
    Tag,
    TagsRecorded,
    ValueRecorded,
)
from eventstore.events.envelope import Record
from eventstore.pickling import PICKLE_FORMAT

__all__ = [
    "call_argument",
    "call_node_recorded",
    "evaluation_cached",
    "is_hash",
    "job_ended",
    "job_started",
    "tag_record",
    "tags_recorded",
    "value_recorded",
]

is_hash = re.compile("[0-9a-f]{40}").fullmatch
"""Whether a text is an entity's hash; for text only."""
_LONGEST_NAME = 4096
_LONGEST_ID = 512
_LARGEST_PLACE = (1 << 31) - 1
_new, _set = object.__new__, object.__setattr__
Made = TypeVar("Made", bound=Record)


def job_started(
    job_id: str, execution_id: str, parent_id: str | None, task_hash: str, occurred_at: dt.datetime
) -> JobStarted:
    """Return the event of a job's start."""
    fields: dict[str, Any] = {
        "occurred_at": occurred_at,
        "actor": None,
        "reason": None,
        "job_id": job_id,
        "execution_id": execution_id,
        "parent_id": parent_id,
        "task_hash": task_hash,
    }
    if _are_job_ids(job_id, execution_id, parent_id) and _is_hash(task_hash) and _is_utc(occurred_at):
        return _made(JobStarted, fields)
    return JobStarted(**fields)


def job_ended(
    job_id: str,
    execution_id: str,
    parent_id: str | None,
    task_hash: str,
    occurred_at: dt.datetime,
    status: JobStatus,
    *,
    cached: bool,
    call_hash: str | None,
) -> JobEnded:
    """Return the event of a job's end; `status` and `cached` agree."""
    fields: dict[str, Any] = {
        "occurred_at": occurred_at,
        "actor": None,
        "reason": None,
        "job_id": job_id,
        "execution_id": execution_id,
        "parent_id": parent_id,
        "task_hash": task_hash,
        "status": status,
        "cached": cached,
        "call_hash": call_hash,
    }
    if (
        _are_job_ids(job_id, execution_id, parent_id)
        and _is_hash(task_hash)
        and (call_hash is None or _is_hash(call_hash))
        and _is_utc(occurred_at)
    ):
        return _made(JobEnded, fields)
    return JobEnded(**fields)


def value_recorded(
    value_hash: str,
    type_name: str,
    media_type: str,
    size_bytes: int,
    *,
    data: bytes | None,
    data_digest: str | None,
    subvalues: tuple[str, ...],
    file_path: str | None,
) -> ValueRecorded:
    """Return the event of a value that was described and, if its bytes lie in the value store, put there."""
    fields: dict[str, Any] = {
        "occurred_at": None,
        "actor": None,
        "reason": None,
        "value_hash": value_hash,
        "type_name": type_name,
        "format": media_type,
        "size_bytes": size_bytes,
        "data": data,
        "data_digest": data_digest,
        "subvalues": subvalues,
        "file_path": file_path,
    }
    # A path and the names of types are the user's: only the plain ones are known to be right.
    if file_path is None and media_type == PICKLE_FORMAT and _is_name(type_name) and _is_hash(value_hash):
        return _made(ValueRecorded, fields)
    return ValueRecorded(**fields)


def evaluation_cached(eval_hash: str, task_hash: str, args_hash: str, value_hash: str) -> EvaluationCached:
    """Return the event of an entry in the evaluation cache."""
    fields: dict[str, Any] = {
        "occurred_at": None,
        "actor": None,
        "reason": None,
        "eval_hash": eval_hash,
        "task_hash": task_hash,
        "args_hash": args_hash,
        "value_hash": value_hash,
    }
    if _is_hash(eval_hash) and _is_hash(task_hash) and _is_hash(args_hash) and _is_hash(value_hash):
        return _made(EvaluationCached, fields)
    return EvaluationCached(**fields)


def call_argument(
    position: int | None, key: str | None, value_hash: str, upstreams: tuple[str, ...]
) -> Argument:
    """Return one argument of a call."""
    fields: dict[str, Any] = {
        "position": position,
        "key": key,
        "value_hash": value_hash,
        "upstreams": upstreams,
    }
    if key is None:
        named = position.__class__ is int and 0 <= position <= _LARGEST_PLACE
    else:
        named = position is None and _is_name(key)
    if named and _is_hash(value_hash) and (not upstreams or all(map(_is_hash, upstreams))):
        return _made(Argument, fields)
    return Argument(**fields)


def call_node_recorded(
    call_hash: str,
    task_hash: str,
    task_name: str,
    args_hash: str,
    value_hash: str,
    occurred_at: dt.datetime,
    *,
    children: tuple[str, ...],
    arguments: tuple[Argument, ...],
    subtree_tasks: tuple[str, ...],
) -> CallNodeRecorded:
    """Return the event of a call."""
    fields: dict[str, Any] = {
        "occurred_at": occurred_at,
        "actor": None,
        "reason": None,
        "call_hash": call_hash,
        "task_hash": task_hash,
        "task_name": task_name,
        "args_hash": args_hash,
        "value_hash": value_hash,
        "children": children,
        "arguments": arguments,
        "subtree_tasks": subtree_tasks,
    }
    if (
        _is_name(task_name)
        and _is_hash(task_hash)
        and _is_hash(args_hash)
        and _is_hash(value_hash)
        and all(map(_is_hash, children))
        and all(map(_is_hash, subtree_tasks))
        and _is_utc(occurred_at)
    ):
        return _made(CallNodeRecorded, fields)
    return CallNodeRecorded(**fields)


def tag_record(tag_hash: str, key: str, value: str) -> Tag:
    """Return one tag, of a checked key and canonical text."""
    fields: dict[str, Any] = {"tag_hash": tag_hash, "key": key, "value": value}
    # Canonical text is ASCII: only its length could be wrong.
    return _made(Tag, fields) if _is_name(key) and len(value) <= _LONGEST_NAME else Tag(**fields)


def tags_recorded(
    entity_type: EntityType, entity_id: str, tags: tuple[Tag, ...], superseded: Iterable[str] = ()
) -> TagsRecorded:
    """Return the event that puts `tags`, of which there is one, on an entity."""
    fields: dict[str, Any] = {
        "occurred_at": None,
        "actor": None,
        "reason": None,
        "entity_type": entity_type,
        "entity_id": entity_id,
        "tags": tags,
        "superseded": superseded,
    }
    if superseded == () and _is_name(entity_id):
        return _made(TagsRecorded, fields)
    return TagsRecorded(**fields)


def _made(model: type[Made], fields: dict[str, Any]) -> Made:
    """Return the model of fields that are all there, and right."""
    record: Made = _new(model)
    _set(record, "__dict__", fields)
    _set(record, "__pydantic_fields_set__", _ALL_FIELDS[model])
    _set(record, "__pydantic_extra__", None)
    _set(record, "__pydantic_private__", None)
    return record


_MODELS: tuple[type[Record], ...] = (
    Argument,
    CallNodeRecorded,
    EvaluationCached,
    JobEnded,
    JobStarted,
    Tag,
    TagsRecorded,
    ValueRecorded,
)
_ALL_FIELDS = {model: set(model.model_fields) for model in _MODELS}


def _is_hash(text: Any) -> bool:
    return text.__class__ is str and is_hash(text) is not None


def _is_name(text: Any) -> bool:
    return text.__class__ is str and text.isascii() and len(text) <= _LONGEST_NAME


def _is_utc(moment: Any) -> bool:
    return moment.__class__ is dt.datetime and moment.tzinfo is dt.UTC


def _are_job_ids(job_id: Any, execution_id: Any, parent_id: Any) -> bool:
    return (
        job_id.__class__ is str
        and execution_id.__class__ is str
        and job_id.isascii()
        and execution_id.isascii()
        and 0 < len(job_id) <= _LONGEST_ID
        and 0 < len(execution_id) <= _LONGEST_ID
        and (
            parent_id is None
            or (parent_id.__class__ is str and parent_id.isascii() and 0 < len(parent_id) <= _LONGEST_ID)
        )
    )
