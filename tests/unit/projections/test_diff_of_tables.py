"""Differences between two states of a table, against plain dictionaries, and between two moments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kit import beat, open_store

from eventstore import JobEnded, JobStarted, JobStatus, NotFoundError, ProjectionError
from projections import DiffCounts, diff_moments, diff_tables, open_tables, refresh

SCHEMA = {
    "place": pl.Int64,
    "name": pl.String,
    "count": pl.Int64,
    "level": pl.Float64,
    "labels": pl.List(pl.String),
    "about": pl.Struct({"size": pl.Int64, "parts": pl.List(pl.Int64)}),
    "data": pl.Binary,
}
KEY = ("place", "name")
COLUMNS = tuple(name for name in SCHEMA if name not in KEY)

_few = st.none() | st.integers(0, 2)
_texts = st.none() | st.sampled_from(["", "a", "b"])
_keys = st.tuples(_few, _texts)
_rows = st.fixed_dictionaries(
    {
        "count": _few,
        "level": st.none() | st.sampled_from([0.0, 1.5, float("nan"), float("inf")]),
        "labels": st.none() | st.lists(_texts, max_size=2),
        "about": st.none()
        | st.fixed_dictionaries({"size": _few, "parts": st.none() | st.lists(_few, max_size=2)}),
        "data": st.none() | st.sampled_from([b"", b"\x00", b"x"]),
    }
)
states = st.dictionaries(_keys, _rows, max_size=6)
State = dict[tuple[Any, Any], dict[str, Any]]


def _frame(state: State) -> pl.LazyFrame:
    rows = [{"place": key[0], "name": key[1], **row} for key, row in state.items()]
    return pl.LazyFrame(rows, schema=SCHEMA)


def _spelled(cell: Any) -> str:
    """A cell or row as text that is equal where the contents are: NaN is itself, null is no value."""
    return json.dumps(cell, sort_keys=True, default=repr)


def _by_key(frame: pl.LazyFrame) -> dict[tuple[Any, Any], dict[str, Any]]:
    rows = frame.collect().to_dicts()
    made = {(row.pop("place"), row.pop("name")): row for row in rows}
    assert len(made) == len(rows)
    return made


@given(states, states)
def test_a_diff_says_what_two_dictionaries_say(before: State, after: State) -> None:
    """Rows that came, went, changed, and in which columns; with nulls in keys, and nested values."""
    found = diff_tables(_frame(before), _frame(after), KEY)
    assert (found.key, found.columns) == (KEY, COLUMNS)
    differ = {
        key: [name for name in COLUMNS if _spelled(before[key][name]) != _spelled(after[key][name])]
        for key in before.keys() & after.keys()
    }
    changed = {key: names for key, names in differ.items() if names}
    added, removed = after.keys() - before.keys(), before.keys() - after.keys()
    for frame, state, keys in ((found.added, after, added), (found.removed, before, removed)):
        came = _by_key(frame)
        assert came.keys() == keys
        assert all(_spelled(row) == _spelled(state[key]) for key, row in came.items())
    rows = _by_key(found.changed)
    assert {key: row["differs"] for key, row in rows.items()} == changed
    for key, row in rows.items():
        for name in COLUMNS:
            assert _spelled(row[f"{name}_before"]) == _spelled(before[key][name])
            assert _spelled(row[f"{name}_after"]) == _spelled(after[key][name])
    assert found.counts() == DiffCounts(len(added), len(removed), len(changed), len(differ) - len(changed))
    cells = found.cells().collect()
    assert cells.columns == [*KEY, "column", "before", "after"]
    assert sorted(map(repr, cells.select(*KEY, "column").rows())) == sorted(
        repr((*key, name)) for key, names in changed.items() for name in names
    )


@given(states, states)
def test_a_diff_backwards_swaps_the_sides(before: State, after: State) -> None:
    """What came went, and what differs differs."""
    forward = diff_tables(_frame(before), _frame(after), KEY)
    back = diff_tables(_frame(after), _frame(before).select(reversed(list(SCHEMA))), KEY)
    assert _by_key(forward.added).keys() == _by_key(back.removed).keys()
    assert _by_key(forward.removed).keys() == _by_key(back.added).keys()
    assert _by_key(forward.changed).keys() == _by_key(back.changed).keys()


def test_cells_are_text_that_people_can_read() -> None:
    """Nested values as JSON, bytes as hex, and a null stays one."""
    row = {"count": 1, "level": 1.5, "labels": ["a", None], "about": None, "data": b"\x00x"}
    other = {"count": None, "level": 2.0, "labels": [], "about": {"size": 3, "parts": [1]}, "data": b""}
    cells = diff_tables(_frame({(1, "a"): row}), _frame({(1, "a"): other}), KEY).cells().collect()
    found = {name: (before, after) for _, _, name, before, after in cells.rows()}
    assert found["count"] == ("1", None)
    assert found["level"] == ("1.5", "2.0")
    assert [json.loads(text) for text in found["labels"]] == [["a", None], []]
    assert found["about"][0] is None
    assert json.loads(found["about"][1]) == {"size": 3, "parts": [1]}
    assert found["data"] == ("0078", "")


def test_a_table_of_nothing_but_keys_has_no_changed_rows() -> None:
    """Rows come and go."""
    before, after = pl.LazyFrame({"id": [1, 2]}), pl.LazyFrame({"id": [2, 3]})
    found = diff_tables(before, after, ["id"])
    assert found.counts() == DiffCounts(added=1, removed=1, changed=0, unchanged=1)
    assert found.cells().collect().schema == {
        "id": pl.Int64,
        "column": pl.String,
        "before": pl.String,
        "after": pl.String,
    }


@pytest.mark.parametrize(
    ("after", "key", "code"),
    [
        ({"id": [1], "x": [1.0]}, ["id"], "schemas_differ"),
        ({"id": [1]}, ["id"], "schemas_differ"),
        ({"id": [1], "x": [1]}, ["no"], "unknown_key"),
        ({"id": [1], "x": [1]}, [], "unknown_key"),
    ],
)
def test_frames_that_cannot_be_compared_are_refused(after: dict[str, Any], key: list[str], code: str) -> None:
    """At once, naming the columns."""
    with pytest.raises(ProjectionError) as caught:
        diff_tables(pl.LazyFrame({"id": [1], "x": [1]}), pl.LazyFrame(after), key)
    assert caught.value.code == code


@pytest.mark.parametrize("names", [("id", "x", "x_before"), ("differs", "x"), ("column", "x")])
def test_names_that_would_meet_in_the_result_are_refused(names: tuple[str, ...]) -> None:
    """Rather than give one of two columns under the name of both."""
    frame = pl.LazyFrame({name: [1] for name in names})
    key = ["id", "x_before"] if "id" in names else [names[0]]
    with pytest.raises(ProjectionError) as caught:
        diff_tables(frame, frame, key)
    assert caught.value.code == "name_clash"


def test_a_diff_streams_and_reads_nothing_before_it_is_collected() -> None:
    """Making one of frames that cannot be read does not fail; collecting it does."""

    def broken(frame: pl.DataFrame) -> pl.DataFrame:
        raise ValueError("read")

    frame = pl.LazyFrame({"id": [1], "x": [1]})
    unread = frame.map_batches(broken, schema=frame.collect_schema())
    found = diff_tables(unread, frame, ["id"])
    with pytest.raises(Exception, match="read"):
        found.counts()


def test_a_table_is_compared_between_two_moments(tmp_path: Path) -> None:
    """By the key of its recipe: the job that ended since has changed, the new one was added."""
    job = {"job_id": "j-1", "execution_id": "e-1", "task_hash": "a" * 40}
    with open_store(tmp_path / "store") as store:
        store.append(JobStarted(**job))
        position = store.seal().size
        refresh(store)
        store.append(beat(), JobEnded(**job, status=JobStatus.DONE), JobStarted(**{**job, "job_id": "j-2"}))
        store.seal()
        refresh(store)
        then, now = open_tables(store, ["jobs"], at=position), open_tables(store, ["jobs"])
        found = diff_moments(then, now, "jobs")
        assert found.counts() == DiffCounts(added=1, removed=0, changed=1, unchanged=0)
        (row,) = found.changed.select("job_id", "differs", "status_before", "status_after").collect().rows()
        assert row == ("j-1", ["status", "ended_at"], "RUNNING", "DONE")
        with pytest.raises(NotFoundError) as caught:
            diff_moments(then, now, "tasks")
        assert caught.value.code == "no_snapshot"
        with pytest.raises(NotFoundError) as caught:
            diff_moments(then, now, "no_such")
        assert caught.value.code == "unknown_projection"
