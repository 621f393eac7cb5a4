"""Records made of whole columns: what they say, key by key, of what the property test seldom meets."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from columns_kit import batch_of, by_columns, one_by_one
from hypothesis import given
from hypothesis import strategies as st
from tables_kit import at, h

from eventstore import (
    Argument,
    CallNodeRecorded,
    EvaluationCached,
    ExecutionStarted,
    HandleRecorded,
    JobEnded,
    JobStarted,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.index import columns
from eventstore.index.cells import Digests, first_rows, last_rows, row, text, texts
from eventstore.index.families import INLINE_BYTES, KEEP, Family, decoded, digest, key_bytes
from eventstore.index.handle_states import HandleStates
from eventstore.index.log_events import RunRecords

ODD = [
    "",
    "a",
    '"',
    "\\",
    '\\"',
    "a\nb",
    "\x00",
    "\x1f\x7f",
    "ß",
    "日本",
    "😀",
    "\u2028",
    " ",
    "null",
    "ab" * 20,
]


def job(number: int, **more: Any) -> JobStarted:
    """A job that started, of a parent."""
    fields = {"job_id": f"job-{number}", "execution_id": "x", "parent_id": "root", "task_hash": h("0")}
    return JobStarted(**{**fields, **more})


@given(st.lists(st.none() | st.text() | st.sampled_from(ODD), min_size=1))
def test_texts_become_json_that_reads_the_same(given_texts: list[str | None]) -> None:
    """Whatever characters they have, and at any place of a longer column."""
    given_texts = [each and each.encode("utf-8", "replace").decode() for each in given_texts]
    column = pa.array(["x", *given_texts], pa.string())[1:]
    lists = pa.array([[], given_texts, None], pa.list_(pa.string()))
    numbers = pa.array(range(len(column)), pa.int64()).cast(pa.string())
    made = row(text(column), text(numbers)).to_pylist()
    assert [decoded(Family.TAG, each.encode()) for each in made] == [
        (each, str(number)) for number, each in enumerate(given_texts)
    ]
    made = row(texts(lists), text(pa.array(["a", "b", "c"]))).to_pylist()
    assert [decoded(Family.TAG, each.encode())[0] for each in made] == [[], given_texts, []]


@given(
    st.lists(
        st.sampled_from([*ODD, h("1"), h("1").upper(), "zz" * 20, "ab " * 13 + " ", "٣" * 40]) | st.text()
    )
)
def test_digests_are_those_of_keys(keys: list[str]) -> None:
    """Of hashes the bytes, of other texts, whatever their length, a digest; also when they are met again."""
    keys = [key.encode("utf-8", "replace").decode() for key in keys]
    known = Digests()
    many = [f"job-{number}" for number in range(40)]
    assert known.of(pa.array(many)).to_pylist() == list(map(digest, many))
    assert known.of(pa.array(["job-1"])).to_pylist() == [digest("job-1")]
    for start in (0, 1):
        column = pa.array(["x", *keys], pa.string())[start:]
        assert known.of(column).to_pylist() == [digest(key) for key in ["x", *keys][start:]]
    assert {len(key_bytes(Family.JOB, key)) for key in keys} <= {21}


def test_rows_that_are_first_or_last_of_their_kind() -> None:
    """Both are the numbers of rows of the column that was given."""
    column = pa.array(["a", "b", "a", "c", "b"])
    assert first_rows(column).to_pylist() == [0, 1, 3]
    assert sorted(last_rows(column).to_pylist()) == [2, 3, 4]
    assert first_rows(column[:0]).to_pylist() == last_rows(column[:0]).to_pylist() == []


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1])
def test_values_are_kept_up_to_a_length(size: int) -> None:
    """Bytes behind a new line, whatever they are; of longer ones only what is said."""
    data = (b'\n"\x00\xff' * (size // 4 + 1))[:size]
    events = [
        ValueRecorded(value_hash=h("1"), type_name='a"b', size_bytes=size, data=data, subvalues=(h("2"),)),
        ValueRecorded(
            value_hash=h("2"), type_name="c\n", size_bytes=9, data_digest="0" * 64, file_path="a\\b"
        ),
    ]
    found = by_columns(batch_of(events))
    assert found == one_by_one(batch_of(events))
    (first,) = found[key_bytes(Family.VALUE, h("1"))]
    assert first[-1] == (data if size <= INLINE_BYTES else None)
    (second,) = found[key_bytes(Family.VALUE, h("2"))]
    assert second == ("c\n", second[1], 9, "0" * 64, [], "a\\b", 1, None)


def test_texts_of_any_kind_come_through() -> None:
    """Names, sources, arguments and tags with what JSON escapes; ids of any length, also of 40 characters."""
    arguments = (
        Argument(position=0, value_hash=h("1")),
        Argument(key='k"', value_hash=h("2"), upstreams=(h("3"),)),
    )
    events: list[Any] = []
    for number, odd in enumerate(ODD):
        name = odd or "x"
        call = {"call_hash": h(odd), "task_hash": h("t"), "args_hash": h("a"), "value_hash": h("v")}
        events += [
            TaskRecorded(task_hash=h(odd), task_name=name, task_namespace=odd, source=odd, task_version=odd),
            CallNodeRecorded(task_name=name, arguments=arguments[: number % 3], children=(h("c"),), **call),
            job(0, job_id=name, parent_id=name, execution_id=name),
            JobEnded(job_id=name, execution_id=name, parent_id=name, task_hash=h("t"), status="FAILED"),
            TagsRecorded(
                entity_type="Job",
                entity_id=name,
                tags=(
                    Tag(tag_hash=h(odd), key=name, value='"a\\n"'),
                    Tag(tag_hash=h("b"), key="b", value="1"),
                ),
                superseded=(h("c"), h("d"))[: number % 3],
            ),
        ]
    batch = batch_of(events)
    assert by_columns(batch) == one_by_one(batch)


@pytest.mark.parametrize("second", [-(10**10), -1, 0, 10**10])
def test_times_of_any_age(second: int) -> None:
    """Before 1970 too."""
    started = ExecutionStarted(execution_id="x", job_id=None, args="[]", occurred_at=at(second))
    batch = batch_of([started, job(1, occurred_at=at(second))])
    assert by_columns(batch) == one_by_one(batch)


def test_order_is_that_of_the_log_whatever_the_kind() -> None:
    """Edges of jobs and tags come from two kinds of events each, whose events take turns here."""
    ended = [
        JobEnded(job_id=f"job-{n}", execution_id="x", parent_id="root", task_hash=h("0"), status="DONE")
        for n in range(4)
    ]
    tag = TagsRecorded(
        entity_type="Job",
        entity_id="x",
        tags=(Tag(tag_hash=h("2"), key="a", value="1"),),
        superseded=(h("0"),),
    )
    events = [
        *(job(1), ended[0], job(3), ended[2], job(0), ended[1], ended[3]),
        *(TagsDeleted(tag_hash=h("1"), superseded=(h("0"),)), tag),
        TagsDeleted(tag_hash=h("3"), superseded=(h("0"),)),
    ]
    found = by_columns(batch_of(events))
    assert found == one_by_one(batch_of(events))
    assert found[key_bytes(Family.CHILD_JOB, "root")] == [("job-1",), ("job-0",), ("job-3",), ("job-2",)]
    assert found[key_bytes(Family.SUPERSEDED, h("0"))] == [(h("1"),), (h("2"),), (h("3"),)]


def test_an_edge_is_stated_once_of_a_batch() -> None:
    """Start and end of a job both say whose it is: one record of it is written."""
    events = [job(1), JobEnded(status="DONE", **job(1).model_dump(exclude={"kind", "occurred_at"}))]
    families = [
        family for part in columns.records_of(batch_of(events)) for family in part.families.to_pylist()
    ]
    assert families.count(Family.CHILD_JOB) == 1


def test_only_the_last_record_is_made_where_keys_are_few() -> None:
    """A task that is called a thousand times has one newest call."""
    call = {"task_hash": h("t"), "task_name": "t", "args_hash": h("a"), "value_hash": h("v")}
    events = [CallNodeRecorded(call_hash=h(str(number)), **call) for number in range(9)]
    parts = columns.records_of(batch_of(events))
    (newest,) = (part for part in parts if part.families[0].as_py() == Family.CALL_OF_TASK)
    assert [decoded(Family.CALL_OF_TASK, each)[0] for each in newest.payloads.to_pylist()] == [h("8")]


def test_large_batches_are_taken_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of texts has an end; what is made of the parts is the same."""
    cached = EvaluationCached(eval_hash=h("1"), task_hash=h("t"), args_hash=h("a"), value_hash=h("2"))
    batch = batch_of([*map(job, range(20)), cached] * 2)
    wanted = one_by_one(batch)
    monkeypatch.setattr(columns, "MOST_BYTES", 1)
    assert by_columns(batch) == wanted
    monkeypatch.setattr("eventstore.index.log_events.MOST_BYTES", 1)
    assert by_columns(batch) == wanted


def test_a_batch_in_which_everything_was_erased_has_no_records() -> None:
    """And one without any event of a known kind."""
    frame = pl.DataFrame(
        batch_of([job(1), HandleRecorded(handle_hash=h("1"), handle_name="a", value_hash=h("2"))])
    )
    kept = ("position", "kind", "writer", "sequence", "recorded_at")
    erased = frame.with_columns(
        pl.lit(None, frame.schema[n]).alias(n) for n in frame.columns if n not in kept
    )
    for each in (erased, frame.head(0)):
        batch = batch_of(each)
        assert by_columns(batch) == one_by_one(batch) == {}


def test_a_range_says_how_far_it_goes_for_each_writer() -> None:
    """Whatever the size of the batches, and also where a later one goes less far."""
    batch = batch_of([job(1), job(2)])
    records = RunRecords(HandleStates(lambda _: None, lambda _: []))
    records.take(batch)
    records.take(batch[:1])
    assert (records.events, records.size_bytes) == (3, 0)
    assert len(records.finished().settled({int(f): keep for f, keep in KEEP.items()})) == 2 + 2
    assert (records.writers, records.size_bytes > 0) == ({"0" * 26: 2}, True)
