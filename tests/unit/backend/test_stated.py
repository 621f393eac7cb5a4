"""Events made without their constructor are those that it would have made, or the error is its error."""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eventstore.backend import stated
from eventstore.errors import InvalidEventError
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
from eventstore.hashing import canonical_json
from eventstore.pickling import PICKLE_FORMAT

HASHES = st.text("0123456789abcdef", min_size=40, max_size=40)
ODD = st.one_of(st.text(max_size=45), st.none(), st.integers(), st.binary(max_size=3))
ANY_HASH = st.one_of(HASHES, ODD)
IDS = st.one_of(st.uuids().map(str), st.text(max_size=5), ODD)
NAMES = st.one_of(st.text(max_size=5), st.sampled_from(["x" * 4096, "x" * 4097]), ODD)
ZONES = st.sampled_from([dt.UTC, None, dt.timezone(dt.timedelta(hours=2)), dt.timezone.min])
TIMES = st.one_of(st.datetimes(timezones=ZONES), ODD)


def attempt(make: Any) -> Any:
    """What is made, or the error."""
    try:
        return make()
    except InvalidEventError as error:
        return error


def check(quick: Any, model: type[Any], fields: dict[str, Any]) -> None:
    """`quick` and the constructor give the same event, or the same error."""
    expected = attempt(lambda: model(**fields))
    made = attempt(quick)
    if isinstance(expected, InvalidEventError):
        assert isinstance(made, InvalidEventError)
        assert (made.code, str(made)) == (expected.code, str(expected))
        return
    assert made == expected
    assert type(made) is model
    assert {name: type(value) for name, value in made.__dict__.items()} == {
        name: type(value) for name, value in expected.__dict__.items()
    }
    assert made.__dict__.keys() == expected.__dict__.keys()
    assert repr(made) == repr(expected)
    assert made.model_copy(update={}) == expected


@given(IDS, IDS, IDS, ANY_HASH, TIMES)
def test_job_started(job_id: Any, execution_id: Any, parent_id: Any, task_hash: Any, at: Any) -> None:
    """Starts of jobs."""
    check(
        lambda: stated.job_started(job_id, execution_id, parent_id, task_hash, at),
        JobStarted,
        {
            "occurred_at": at,
            "job_id": job_id,
            "execution_id": execution_id,
            "parent_id": parent_id,
            "task_hash": task_hash,
        },
    )


@given(IDS, IDS, ANY_HASH, TIMES, st.sampled_from(JobStatus), st.one_of(st.none(), ANY_HASH))
def test_job_ended(
    job_id: Any, parent_id: Any, task_hash: Any, at: Any, status: JobStatus, call_hash: Any
) -> None:
    """Ends of jobs."""
    cached = status is JobStatus.CACHED
    check(
        lambda: stated.job_ended(
            job_id, "run", parent_id, task_hash, at, status, cached=cached, call_hash=call_hash
        ),
        JobEnded,
        {
            "occurred_at": at,
            "job_id": job_id,
            "execution_id": "run",
            "parent_id": parent_id,
            "task_hash": task_hash,
            "status": status,
            "cached": cached,
            "call_hash": call_hash,
        },
    )


@given(
    ANY_HASH,
    NAMES,
    st.sampled_from([PICKLE_FORMAT, "text/plain", "ü", None]),
    st.binary(max_size=5),
    st.booleans(),
    st.lists(HASHES, max_size=2),
    st.one_of(st.none(), NAMES),
)
def test_value_recorded(
    value_hash: Any,
    type_name: Any,
    media_type: Any,
    data: bytes,
    is_inline: bool,
    subvalues: list[str],
    file_path: Any,
) -> None:
    """Values, with bytes or a digest."""
    fields = {
        "data": data if is_inline else None,
        "data_digest": None if is_inline else "ab" * 32,
        "subvalues": tuple(subvalues),
        "file_path": file_path,
    }
    check(
        lambda: stated.value_recorded(value_hash, type_name, media_type, len(data), **fields),
        ValueRecorded,
        {
            "value_hash": value_hash,
            "type_name": type_name,
            "format": media_type,
            "size_bytes": len(data),
            **fields,
        },
    )


@given(ANY_HASH, ANY_HASH, ANY_HASH, ANY_HASH)
def test_evaluation_cached(eval_hash: Any, task_hash: Any, args_hash: Any, value_hash: Any) -> None:
    """Entries of the evaluation cache."""
    check(
        lambda: stated.evaluation_cached(eval_hash, task_hash, args_hash, value_hash),
        EvaluationCached,
        {
            "eval_hash": eval_hash,
            "task_hash": task_hash,
            "args_hash": args_hash,
            "value_hash": value_hash,
        },
    )


@given(
    st.one_of(st.none(), st.integers(-1, 3), st.integers(), st.booleans(), st.text(max_size=2)),
    st.one_of(st.none(), NAMES),
    ANY_HASH,
    st.lists(ANY_HASH, max_size=2),
)
def test_call_argument(position: Any, key: Any, value_hash: Any, upstreams: list[Any]) -> None:
    """Arguments, by position or by key."""
    check(
        lambda: stated.call_argument(position, key, value_hash, tuple(upstreams)),
        Argument,
        {"position": position, "key": key, "value_hash": value_hash, "upstreams": tuple(upstreams)},
    )


@given(ANY_HASH, NAMES, ANY_HASH, ANY_HASH, TIMES, st.lists(ANY_HASH, max_size=2), st.lists(HASHES))
def test_call_node_recorded(
    task_hash: Any,
    task_name: Any,
    args_hash: Any,
    value_hash: Any,
    at: Any,
    subtree_tasks: list[Any],
    children: list[str],
) -> None:
    """Calls: their own hash was computed here, and their children are recorded."""
    arguments = (Argument(position=0, value_hash="ab" * 20),)
    more = {
        "children": tuple(children),
        "arguments": arguments,
        "subtree_tasks": tuple(subtree_tasks),
    }
    check(
        lambda: stated.call_node_recorded("cd" * 20, task_hash, task_name, args_hash, value_hash, at, **more),
        CallNodeRecorded,
        {
            "occurred_at": at,
            "call_hash": "cd" * 20,
            "task_hash": task_hash,
            "task_name": task_name,
            "args_hash": args_hash,
            "value_hash": value_hash,
            **more,
        },
    )


@given(
    st.sampled_from(EntityType),
    NAMES,
    st.text(min_size=1, max_size=3),
    st.text(max_size=3),
    st.one_of(st.just([]), st.lists(ANY_HASH, max_size=2)),
)
def test_tags_recorded(
    entity_type: EntityType, entity_id: Any, key: str, value: str, superseded: list[Any]
) -> None:
    """Tags of checked keys and canonical values."""
    fields = {"tag_hash": "ab" * 20, "key": key, "value": canonical_json(value)}
    check(lambda: stated.tag_record(**fields), Tag, fields)
    try:
        tag = Tag(**fields)
    except InvalidEventError:
        return
    check(
        lambda: stated.tags_recorded(entity_type, entity_id, (tag,), tuple(superseded)),
        TagsRecorded,
        {
            "entity_type": entity_type,
            "entity_id": entity_id,
            "tags": (tag,),
            "superseded": tuple(superseded),
        },
    )
