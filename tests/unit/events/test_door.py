"""The door: good events of every kind come in, and every fault of a bad one is named."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from eventstore.errors import InvalidEventError
from eventstore.events import BUILT_IN, Event, JobStatus

A, B, C = "a" * 40, "b" * 40, "c" * 40
NOW = dt.datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=dt.UTC)
TAG = {"tag_hash": A, "key": "project", "value": '{"name":"acme"}'}

GOOD: dict[str, dict[str, Any]] = {
    "call_context.recorded": {"call_hash": A, "context_hash": B},
    "call_node.recorded": {
        "call_hash": A,
        "task_hash": B,
        "task_name": "lab.align",
        "args_hash": C,
        "value_hash": A,
        "children": [B, B],
        "arguments": [{"position": 0, "value_hash": A, "upstreams": [B]}, {"key": "depth", "value_hash": B}],
        "subtree_tasks": [B],
    },
    "evaluation.cached": {"eval_hash": A, "task_hash": B, "args_hash": C, "value_hash": A},
    "execution.heartbeat": {"execution_id": "e"},
    "execution.started": {"execution_id": "e", "job_id": "j", "args": '["redun","run"]'},
    "handle.advanced": {"handle_hash": A, "handle_name": "lab.db", "parents": [B, C]},
    "handle.forked": {"handle_hash": A, "handle_name": "lab.db", "handle_key": "left", "parents": [B]},
    "handle.recorded": {"handle_hash": A, "handle_name": "lab.db", "value_hash": B},
    "handle.rolled_back": {"handle_hash": A, "handle_name": "lab.db"},
    "job.ended": {"job_id": "j", "execution_id": "e", "task_hash": A, "status": "CACHED", "cached": True},
    "job.started": {"job_id": "j", "execution_id": "e", "task_hash": A, "parent_id": "p"},
    "tags.deleted": {"tag_hash": A, "superseded": [B]},
    "tags.recorded": {"entity_type": "Job", "entity_id": "j", "tags": [TAG]},
    "task.recorded": {"task_hash": A, "task_name": "align", "source": "def align(): ..."},
    "value.recorded": {"value_hash": A, "type_name": "builtins.int", "size_bytes": 3, "data": b"\x80\x03."},
}
MODELS = {model.kind: model for model in BUILT_IN}
AUDIT = {"occurred_at": NOW, "actor": "ada", "reason": "because"}


def make(kind: str, **changes: Any) -> Event:
    """A good event of `kind` with some fields changed, or left out where the change is ``...``."""
    fields = {**GOOD[kind], **changes}
    return MODELS[kind](**{name: value for name, value in fields.items() if value is not ...})


def refused(kind: str, **changes: Any) -> InvalidEventError:
    """The error that a good event of `kind` with `changes` meets."""
    with pytest.raises(InvalidEventError) as caught:
        make(kind, **changes)
    return caught.value


def test_there_is_a_good_example_of_every_kind() -> None:
    """The examples below cover the vocabulary."""
    assert set(GOOD) == set(MODELS)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_event_comes_in_as_it_is(kind: str) -> None:
    """Every built-in kind accepts its example, with and without the audit fields, and keeps the fields."""
    event = make(kind, **AUDIT)
    assert (event.kind, event.version) == (kind, 1)
    assert (event.occurred_at, event.actor, event.reason) == (NOW, "ada", "because")
    assert make(kind).occurred_at is None
    dumped = event.model_dump(exclude_unset=True)
    for name, value in GOOD[kind].items():
        assert json.dumps(dumped[name], default=str) == json.dumps(value, default=str)


@pytest.mark.parametrize("kind", GOOD)
def test_json_says_the_same_as_the_constructor(kind: str) -> None:
    """An event read from the JSON of its fields equals the one built from them."""
    event = make(kind, **AUDIT)
    assert type(event).from_json(event.model_dump_json()) == event


@pytest.mark.parametrize("kind", GOOD)
def test_a_field_that_is_unknown_or_missing_is_named(kind: str) -> None:
    """In every kind an extra field and each required one that is left out have their codes."""
    error = refused(kind, colour="red")
    assert (error.code, error.field, error.kind) == ("unknown_field", "colour", kind)
    for name, info in MODELS[kind].model_fields.items():
        if info.is_required():
            error = refused(kind, **{name: ...})
            assert (error.code, error.field) == ("missing_field", name)
            assert f"{name}: expected a value, found nothing" in str(error)


BAD: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("job.started", {"job_id": 5}, "wrong_type", "job_id", "expected a valid string, found int 5"),
    ("job.started", {"job_id": ""}, "too_short", "job_id", "at least 1 characters, found ''"),
    ("job.started", {"job_id": "x" * 513}, "too_long", "job_id", "at most 512 characters, found 513"),
    ("job.started", {"job_id": "\ud800"}, "bad_text", "job_id", "UTF-8"),
    ("job.started", {"task_hash": A + "0"}, "hash_length", "task_hash", "found 41 characters"),
    ("job.started", {"task_hash": A[:39] + "\n"}, "bad_hash", "task_hash", "40 lower-case hex"),
    ("job.started", {"task_hash": A.upper()}, "bad_hash", "task_hash", "40 lower-case hex"),
    ("job.started", {"task_hash": "s3://b/x"}, "path_as_hash", "task_hash", "not a path, found 's3://b/x'"),
    ("job.started", {"task_hash": "a\\b"}, "path_as_hash", "task_hash", "not a path"),
    ("job.started", {"occurred_at": dt.datetime(2026, 1, 1)}, "naive_time", "occurred_at", "timezone.utc"),
    (
        "job.started",
        {"occurred_at": 1_700_000_000},
        "wrong_type",
        "occurred_at",
        "a valid datetime, found int",
    ),
    ("job.started", {"occurred_at": "2026-01-01T00:00:00Z"}, "wrong_type", "occurred_at", "found str"),
    (
        "job.started",
        {"occurred_at": dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))},
        "out_of_range",
        "occurred_at",
        "0001-01-01",
    ),
    ("job.started", {"reason": b"x"}, "wrong_type", "reason", "found bytes of length 1"),
    ("job.ended", {"status": "RUNNING"}, "bad_value", "status", "one of 'DONE', 'CACHED' or 'FAILED'"),
    ("job.ended", {"cached": False}, "bad_value", "event", "`cached` to agree with `status`"),
    ("job.ended", {"status": "DONE"}, "bad_value", "event", "`cached` to agree with `status`"),
    ("job.ended", {"cached": 1}, "wrong_type", "cached", "found int 1"),
    ("task.recorded", {"task_name": "x" * 4097}, "too_long", "task_name", "at most 4096 characters"),
    ("execution.started", {"args": "not json"}, "bad_value", "args", "a JSON list"),
    ("execution.started", {"args": '{"a":1}'}, "bad_value", "args", "a JSON list"),
    ("execution.started", {"args": "[" * 100_000}, "bad_value", "args", "nested too deeply"),
    ("value.recorded", {"data": "text"}, "wrong_type", "data", "found str 'text'"),
    ("value.recorded", {"data": None}, "bad_value", "event", "either `data` or `data_digest`"),
    ("value.recorded", {"data_digest": "0" * 64}, "bad_value", "event", "either `data` or `data_digest`"),
    ("value.recorded", {"data": ..., "data_digest": A}, "hash_length", "data_digest", "64 lower-case hex"),
    ("value.recorded", {"size_bytes": 4}, "bad_value", "event", "to be the length of `data` (3)"),
    ("value.recorded", {"size_bytes": -1}, "out_of_range", "size_bytes", "greater than or equal to 0"),
    ("value.recorded", {"size_bytes": 2**63}, "out_of_range", "size_bytes", "less than or equal to"),
    ("value.recorded", {"size_bytes": True}, "wrong_type", "size_bytes", "found bool True"),
    ("value.recorded", {"subvalues": A}, "wrong_type", "subvalues", "found str"),
    ("call_node.recorded", {"children": [A, "x"]}, "hash_length", "children.1", "found 1 characters: 'x'"),
    (
        "call_node.recorded",
        {"arguments": [{"value_hash": A}]},
        "bad_value",
        "arguments.0",
        "either `position` or `key`",
    ),
    (
        "call_node.recorded",
        {"arguments": [{"value_hash": A, "position": 0, "key": "x"}]},
        "bad_value",
        "arguments.0",
        "either `position` or `key`",
    ),
    (
        "call_node.recorded",
        {"arguments": [{"value_hash": A, "position": 2**31}]},
        "out_of_range",
        "arguments.0.position",
        "2147483647",
    ),
    ("handle.forked", {"parents": []}, "too_short", "parents", "at least 1 items"),
    ("handle.forked", {"parents": [A, B]}, "too_long", "parents", "at most 1 items"),
    ("tags.recorded", {"tags": []}, "too_short", "tags", "at least 1 items, found list of length 0"),
    ("tags.recorded", {"entity_type": "job"}, "bad_value", "entity_type", "one of 'Execution'"),
    ("tags.recorded", {"tags": [{**TAG, "key": ""}]}, "too_short", "tags.0.key", "at least 1 characters"),
    ("tags.recorded", {"tags": [{**TAG, "value": "acme"}]}, "bad_value", "tags.0.value", "canonical JSON"),
    ("tags.recorded", {"tags": [{**TAG, "value": '{"b":1,"a":2}'}]}, "bad_value", "tags.0.value", "sorted"),
    ("tags.recorded", {"tags": [{**TAG, "value": "[1, 2]"}]}, "bad_value", "tags.0.value", "no blanks"),
    ("tags.recorded", {"tags": [{**TAG, "value": "[" * 100_000}]}, "bad_value", "tags.0.value", "nested"),
]


@pytest.mark.parametrize(("kind", "changes", "code", "field", "says"), BAD)
def test_bad_input_is_an_error_that_helps(
    kind: str, changes: dict[str, Any], code: str, field: str, says: str
) -> None:
    """Code and field tell a program what is wrong; the message says expected, found and what to do."""
    error = refused(kind, **changes)
    assert (error.code, error.field, error.kind) == (code, field, kind)
    assert len(error.faults) == 1
    message = str(error)
    assert message.startswith(f"{kind}: {field}: expected ")
    assert says in message
    assert ", found " in message
    assert message.endswith("Correct the input and append again; nothing was stored")


def test_all_faults_are_reported_together() -> None:
    """Three faults, one of them nested, give one error with three entries; its code is the first's."""
    error = refused(
        "call_node.recorded",
        task_name=7,
        args_hash="x/y",
        arguments=[{"position": 0, "value_hash": A}, {"position": -1, "value_hash": B}],
    )
    assert [(fault.field, fault.code) for fault in error.faults] == [
        ("task_name", "wrong_type"),
        ("args_hash", "path_as_hash"),
        ("arguments.1.position", "out_of_range"),
    ]
    assert (error.code, error.field) == ("wrong_type", "task_name")
    assert all(fault.field in str(error) for fault in error.faults)


def test_long_input_is_not_echoed() -> None:
    """A message shows a glimpse of what was found, not a megabyte of it."""
    assert len(str(refused("job.started", task_hash="z" * 1_000_000))) < 300
    assert len(str(refused("value.recorded", data=None, data_digest="z" * 1_000_000))) < 300


def test_an_object_that_cannot_be_printed_is_still_a_clear_error() -> None:
    """Bad input whose repr raises is reported, not raised over."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert refused("job.started", job_id=Shy()).code == "wrong_type"


@pytest.mark.parametrize("status", list(JobStatus))
def test_the_three_ends_of_a_job_are_accepted(status: JobStatus) -> None:
    """DONE, CACHED and FAILED come in, as enum and as text, when `cached` agrees."""
    cached = status is JobStatus.CACHED
    assert make("job.ended", status=status, cached=cached) == make(
        "job.ended", status=str(status), cached=cached
    )


@pytest.mark.parametrize("text", ['{"execution_id": "e"', "", "nope", b"\xff\xfe"])
def test_broken_json_is_a_clear_error(text: str | bytes) -> None:
    """Text that is no JSON gives ``bad_json``."""
    with pytest.raises(InvalidEventError) as caught:
        MODELS["execution.heartbeat"].from_json(text)
    assert caught.value.code == "bad_json"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[]", "wrong_type"),
        ('{"execution_id": 5}', "wrong_type"),
        ('{"execution_id": "e", "occurred_at": 1700000000}', "wrong_type"),
        ('{"execution_id": "e", "occurred_at": "2026-01-01T00:00:00"}', "naive_time"),
        ('{"execution_id": "e", "occurred_at": "yesterday"}', "wrong_type"),
        ('{"colour": "red"}', "missing_field"),
    ],
)
def test_json_is_checked_like_any_input(text: str, code: str) -> None:
    """What the constructor refuses, JSON does not smuggle in."""
    with pytest.raises(InvalidEventError) as caught:
        MODELS["execution.heartbeat"].from_json(text)
    assert caught.value.code == code


def test_times_are_kept_in_utc_to_the_microsecond() -> None:
    """A time in another zone is the same moment in UTC, also where the zone's offset has seconds."""
    zone = dt.timezone(dt.timedelta(hours=5, minutes=53, seconds=28))
    event = make("execution.heartbeat", occurred_at=NOW.astimezone(zone))
    assert event.occurred_at == NOW
    assert event.occurred_at.tzinfo is dt.UTC
    assert type(event).from_json(event.model_dump_json()).occurred_at == NOW


def test_events_do_not_change() -> None:
    """A field of an event cannot be set."""
    event = make("execution.heartbeat")
    with pytest.raises(ValueError, match="frozen"):
        event.actor = "eve"  # type: ignore[misc]


def test_a_changed_copy_is_checked_at_the_door() -> None:
    """A copy with new fields is an event like any other: good ones are kept, bad ones refused."""
    event = make("job.started", **AUDIT)
    assert event.model_copy(update={"reason": "later"}) == make("job.started", **{**AUDIT, "reason": "later"})
    assert event.model_copy() == event
    with pytest.raises(InvalidEventError) as caught:
        event.model_copy(update={"task_hash": 5})
    assert caught.value.code == "wrong_type"
