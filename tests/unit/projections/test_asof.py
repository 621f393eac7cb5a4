"""Tables at any moment: every position, the sealed head, the unsealed tail, and a time."""

from __future__ import annotations

import datetime as dt
import gc
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_kit import flip, open_store
from tables_kit import ALL, Noted, assert_tables, at, expected, h, jobs, shrink, table_from

from eventstore import (
    CallNodeRecorded,
    EventStore,
    HandleAdvanced,
    HandleRolledBack,
    InvalidEventError,
    JobEnded,
    ProjectionError,
    Tag,
    TagsDeleted,
    TagsRecorded,
)
from projections import find_snapshot, open_tables, rebuild, refresh
from projections.builder import SCRATCH

TAG = Tag(tag_hash=h("t"), key="a", value="1")


def history() -> list[Any]:
    """A history in which what comes later changes rows of what came before."""
    run = {"execution_id": "run", "task_hash": h("task"), "parent_id": "root"}
    call = {"task_hash": h("task"), "task_name": "weigh", "args_hash": h("args"), "value_hash": h("v")}
    return [
        *jobs(0, 2),
        JobEnded(job_id="job000000", status="FAILED", occurred_at=at(1), **run),
        HandleAdvanced(handle_hash=h("b"), handle_name="db", parents=(h("a"),)),
        TagsRecorded(entity_type="Job", entity_id="job000001", tags=(TAG,), occurred_at=at(2)),
        CallNodeRecorded(call_hash=h("one"), children=(h("x"),), occurred_at=at(2), **call),
        JobEnded(job_id="job000000", status="DONE", occurred_at=at(3), **run),
        HandleRolledBack(handle_hash=h("a"), handle_name="db"),
        TagsDeleted(tag_hash=h("d"), superseded=(h("t"),), occurred_at=at(4)),
        CallNodeRecorded(call_hash=h("two"), children=(h("x"), h("y")), occurred_at=at(5), **call),
        HandleAdvanced(handle_hash=h("c"), handle_name="db", parents=(h("b"),)),
        *jobs(1, 3, "another"),
    ]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the history, sealed in twos; its tables were built here and there on the way."""
    folder = tmp_path_factory.mktemp("filled") / "store"
    with open_store(folder) as store:
        events = history()
        for start in range(0, len(events), 2):
            store.append(*events[start : start + 2])
            store.seal()
            if start == 4:
                rebuild(store, registry=ALL)
            if start == 8:
                refresh(store, registry=ALL)
    return folder


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Iterator[EventStore]:
    """A copy of that store."""
    shutil.copytree(filled, tmp_path / "store")
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.mark.parametrize("small", [False, True])
def test_every_position_is_the_fold_of_what_is_before_it(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    """At each position of the history, every table is what the events before it made; so it is by digest."""
    if small:
        shrink(monkeypatch)
    events = store.scan().collect()
    for position in range(0, store.head().size + 1, 5 if small else 1):
        with open_tables(store, at=position, registry=ALL, memory_bytes=10 if small else 10**9) as tables:
            assert tables.position == position
            assert set(tables.positions.values()) == {position}
            assert_tables(store, tables, position)
            for name in ("jobs", "handles", "tags", "newest"):
                table = table_from(ALL.get(name), events.head(position))
                assert tables.views[name].content()[0] == table.height


def test_a_position_is_what_a_store_of_only_those_events_has(store: EventStore, tmp_path: Path) -> None:
    """By content digest: tables as of position 8 are those of a store in which nothing came after."""
    with open_store(tmp_path / "short") as short:
        short.append(*history()[:8])
        short.seal()
        made = rebuild(short, registry=ALL)
        tables = open_tables(store, at=8, registry=ALL)
        # What the log says of the writing itself differs.
        same = [one.name for one in ALL if not {"actor", "software"} & set(one.schema)]
        assert len(same) > 15
        assert {name: made[name].digest for name in same} == {
            name: tables.views[name].content()[1] for name in same
        }


def test_what_was_built_is_used_as_far_as_it_reaches(tmp_path: Path) -> None:
    """At a snapshot's position no event is read; a little behind it, only those in between."""
    place = Noted(tmp_path / "state")
    for start in range(0, 40, 4):
        place.store.append(*jobs(start, start + 4))
        place.store.seal()
        if start in (16, 28):
            refresh(place.store, ["jobs"])
    store = place.open()
    for position, segments in ((20, 0), (32, 0), (24, 1), (36, 1), (19, 5)):
        store.head()
        place.forget()
        assert open_tables(store, ["jobs"], at=position)["jobs"].collect().height == position
        read = set(place.noted("read", "open", "polars_source", under="segments"))
        assert len(read) <= segments, position


def test_sealed_and_tail(store: EventStore) -> None:
    """`sealed` has what is sealed, `tail` one's own appended events at once, numbered onwards."""
    store.append(*jobs(7, 9))
    sealed = open_tables(store, fresh="sealed", registry=ALL)
    assert sealed.position == store.head().size == len(history())
    assert_tables(store, sealed)
    tail = open_tables(store, fresh="tail", registry=ALL)
    assert set(tail.positions.values()) == {len(history()) + 2}
    found = tail["jobs"].collect().sort("position")
    assert found["position"].to_list()[-2:] == [len(history()), len(history()) + 1]
    before = tail["jobs"].collect().sort("job_id")
    store.seal()
    assert before.equals(expected(store, ALL.get("jobs")))
    assert_tables(store, open_tables(store, fresh="sealed", registry=ALL))


def test_the_tail_is_numbered_from_the_sealed_head(tmp_path: Path) -> None:
    """Also when the newest sealed events are none that a table speaks of, with and without a snapshot."""
    with open_store(tmp_path / "store") as store:
        store.append(*jobs(0, 2), TagsRecorded(entity_type="Job", entity_id="x", tags=(TAG,)))
        store.seal()
        deleted = TagsDeleted(tag_hash=h("d"))
        store.append(deleted, *jobs(2, 3), deleted)
        for _ in range(2):
            tables = open_tables(store, ["jobs", "tags"], fresh="tail")
            assert tables["jobs"].collect().sort("position")["position"].to_list() == [0, 1, 4]
            assert tables.positions == {"jobs": 6, "tags": 6}
            rebuild(store, ["jobs"])


def test_the_tail_of_another_process_is_seen_when_it_is_journaled(tmp_path: Path) -> None:
    """Two stores of one machine: each has the other's events in its tail."""
    with open_store(tmp_path / "store") as one, open_store(tmp_path / "store") as other:
        one.append(*jobs(0, 3))
        other.append(*jobs(3, 5))
        for store in (one, other):
            tables = open_tables(store, ["jobs"], fresh="tail")
            assert tables["jobs"].collect()["job_id"].n_unique() == 5
            assert tables.position == 5


def test_a_damaged_snapshot_is_passed_over(store: EventStore, caplog: pytest.LogCaptureFixture) -> None:
    """The answer comes from an older one, or from the log, and is right; the damage is told."""
    snapshot = find_snapshot(store, ALL.get("jobs"))
    assert snapshot is not None
    for run in snapshot.manifest.runs:
        path = store.storage.local_path(f"projections/jobs/v1/runs/{run.name}/{run.files[0].name}")
        assert path is not None
        flip(path, 30)
    with caplog.at_level(logging.WARNING):
        for position in (4, 8, 12):
            assert_tables(store, open_tables(store, ["jobs"], at=position), position)
    assert "is passed over" in caplog.text


def test_positions_that_are_none(store: EventStore) -> None:
    """Beyond the head and below nought is an error that says what there is; so is asking for two things."""
    for position in (-1, len(history()) + 1):
        with pytest.raises(ProjectionError, match=f"{len(history())}") as got:
            open_tables(store, at=position)
        assert got.value.code == "beyond_head"
    with pytest.raises(ValueError, match="drop one"):
        open_tables(store, at=3, fresh="tail")


def test_a_time_is_what_was_sealed_by_then(tmp_path: Path) -> None:
    """Between two seals the tables are those of the first; before all of them there is nothing."""
    clock = [1_000_000_000_000_000]
    with open_store(tmp_path / "store", clock=lambda: clock[0]) as store:
        times = []
        for number in range(3):
            clock[0] += 60_000_000
            store.append(*jobs(number, number + 1))
            store.seal()
            times.append(dt.datetime.fromtimestamp(clock[0] / 1e6, dt.UTC))
        for number, time in enumerate(times):
            later = open_tables(store, ["jobs"], at=time + dt.timedelta(seconds=30))
            assert_tables(store, later, number + 1)
        with pytest.raises(ProjectionError) as got:
            open_tables(store, ["jobs"], at=times[0] - dt.timedelta(seconds=30))
        assert got.value.code == "before_first_event"
        with pytest.raises((ValueError, InvalidEventError)):
            open_tables(store, ["jobs"], at=dt.datetime(2030, 1, 1))


# scratch -------------------------------------------------------------------------------------------------


@pytest.fixture
def spilled(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's scratch folder, when everything that is folded for a reader goes there."""
    shrink(monkeypatch)
    return store.local_folder / SCRATCH


def test_scratch_files_go_when_the_tables_are_closed(store: EventStore, spilled: Path) -> None:
    """They are there while the tables are open, and gone afterwards."""
    with open_tables(store, fresh="sealed", registry=ALL, memory_bytes=10) as tables:
        assert len(list(spilled.iterdir())) == 1
        assert_tables(store, tables)
    assert list(spilled.iterdir()) == []


def test_scratch_files_go_when_nobody_has_the_tables(store: EventStore, spilled: Path) -> None:
    """Tables that were not closed let go of them when they are collected."""
    tables = open_tables(store, fresh="sealed", registry=ALL, memory_bytes=10)
    assert len(list(spilled.iterdir())) == 1
    del tables
    gc.collect()
    assert list(spilled.iterdir()) == []


def test_a_lazy_frame_keeps_what_it_reads(store: EventStore, spilled: Path) -> None:
    """Whoever takes a frame and lets the tables go can still collect it, and what was made of it."""
    frame = open_tables(store, ["jobs"], fresh="sealed", memory_bytes=10)["jobs"]
    chosen = frame.filter(job_id="job000001").select("job_id", "position")
    del frame
    gc.collect()
    assert len(list(spilled.iterdir())) == 1
    assert chosen.collect().rows() == [("job000001", 1)]
    del chosen
    gc.collect()
    assert list(spilled.iterdir()) == []
    found = open_tables(store, ["jobs"], at=13, memory_bytes=10)["jobs"].collect()
    assert found.sort("job_id").equals(expected(store, ALL.get("jobs")))


def test_a_recipe_that_fails_leaves_no_scratch(
    store: EventStore, spilled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while tables are opened removes what was spilled until then."""

    def broken(*given: Any) -> None:
        raise RuntimeError("out of ink")

    monkeypatch.setattr("projections.asof._manifest", broken)
    with pytest.raises(RuntimeError, match="ink"):
        open_tables(store, fresh="sealed", registry=ALL, memory_bytes=10)
    assert list(spilled.iterdir()) == []
