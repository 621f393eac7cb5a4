"""Refresh: what it costs, how runs are merged, and what two at once do."""

from __future__ import annotations

import datetime as dt
import math
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from store_kit import open_store
from tables_kit import ALL, Noted, add, assert_tables, ended, h, jobs

from eventstore import (
    EventStore,
    HandleAdvanced,
    StateError,
    Tag,
    TagsRecorded,
)
from projections import (
    Snapshot,
    default_projections,
    find_snapshot,
    open_tables,
    rebuild,
    refresh,
)
from projections import builder as builder_room

JOBS = default_projections.get("jobs")


@pytest.fixture
def place(tmp_path: Path) -> Noted:
    """A store in memory with 100 jobs, built; what is done to its storage is written down."""
    made = Noted(tmp_path / "state")
    made.store.append(*jobs(0, 100))
    made.store.seal()
    rebuild(made.store)
    made.forget()
    return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store in a folder."""
    with open_store(tmp_path / "store") as store:
        yield store


def runs(snapshot: Snapshot) -> list[tuple[int, int, int]]:
    """Return first, until and rows of a snapshot's runs."""
    return [(run.first, run.until, run.rows) for run in snapshot.manifest.runs]


# what it costs -------------------------------------------------------------------------------------------


def test_it_reads_and_writes_what_is_new(place: Noted) -> None:
    """One new event in a large table: one segment is read, one small run and one manifest are written."""
    add(place.store, *jobs(100, 101))
    new = place.noted("put", under="segments")
    store = place.open()
    place.forget()
    made = refresh(store, ["jobs"])
    assert place.noted("read", "open", "polars_source", under="segments") == new
    # Of the table only manifests are read: of what was built, nothing.
    assert {
        path for path in place.noted("read", "open", "polars_source") if "/manifests/" not in path
    } == set()
    [run_file] = place.noted("put")
    assert run_file.startswith("projections/jobs/v1/runs/00000000000000000100-00000000000000000101-")
    assert place.noted("create") == [made["jobs"].path]
    assert place.noted("delete") == []
    assert runs(made["jobs"]) == [(0, 100, 100), (100, 101, 1)]
    assert_tables(store, open_tables(store, ["jobs"]))


def test_nothing_new_costs_a_look(place: Noted) -> None:
    """Without new events nothing is folded or written, and the snapshots are those that are there."""
    before = {one.name: find_snapshot(place.store, one) for one in default_projections}
    place.forget()
    seen: list[Any] = []
    made = refresh(place.store, progress=lambda *done: seen.append(done))
    assert {name: one.path for name, one in made.items()} == {
        name: one.path for name, one in before.items() if one
    }
    assert place.noted("read", "open", "polars_source", under="segments") == []
    assert place.noted("put", "create", "delete", under="") == []
    assert all("/manifests/" in path for path in place.noted("read"))
    assert seen == []


def test_events_of_other_kinds_move_the_position_only(place: Noted) -> None:
    """A table that the new events say nothing of gets a manifest, and keeps its runs."""
    before = refresh(place.store, ["jobs"])["jobs"]
    add(
        place.store,
        TagsRecorded(entity_type="Job", entity_id="x", tags=(Tag(tag_hash=h("t"), key="a", value="1"),)),
    )
    place.forget()
    made = refresh(place.store, ["jobs"])["jobs"]
    assert (made.position, made.manifest.runs) == (101, before.manifest.runs)
    assert place.noted("put") == []
    add(place.store, *jobs(100, 101))
    made = refresh(place.store, ["jobs"])["jobs"]
    assert runs(made) == [(0, 100, 100), (101, 102, 1)]
    assert open_tables(place.store, ["jobs"], at=101)["jobs"].collect().height == 100
    assert_tables(place.store, open_tables(place.store, ["jobs"]))


def test_the_number_of_runs_stays_logarithmic(place: Noted) -> None:
    """Over many refreshes runs are merged by size: few at any time, and rows are written a few times each."""
    total, rows_written = 100, 0
    for _ in range(25):
        add(place.store, *jobs(total, total + 5))
        total += 5
        place.forget()
        made = refresh(place.store, ["jobs"])["jobs"]
        assert len(made.manifest.runs) <= 2 + math.log(total / 5, 4)
        sizes = [run.rows for run in made.manifest.runs]
        assert all(larger >= 4 * smaller for larger, smaller in pairwise(sizes))
        wrote = {path.partition("/runs/")[2].partition("/")[0] for path in place.noted("put")}
        rows_written += sum(run.rows for run in made.manifest.runs if run.name in wrote)
    assert rows_written <= total * (2 + math.log(total / 5, 4))
    assert_tables(place.store, open_tables(place.store, ["jobs"]))


def test_merging_all_makes_the_table_whole_by_path(place: Noted) -> None:
    """`merge="all"` leaves one run, whose digest is that of a rebuild; also when nothing is new."""
    add(place.store, *jobs(100, 103), ended(1))
    made = refresh(place.store)
    assert made["jobs"].digest is None
    made = refresh(place.store, merge="all")
    digests = {name: one.digest for name, one in made.items()}
    assert None not in digests.values()
    assert digests == {name: one.digest for name, one in rebuild(place.store).items()}
    place.forget()
    refresh(place.store, merge="all")
    assert place.noted("put", "create", "delete", under="") == []


def test_a_table_that_was_never_built_is_built(place: Noted) -> None:
    """One refresh brings tables from different positions, and new ones, to the head."""
    add(place.store, *jobs(100, 105))
    refresh(place.store, ["jobs", "executions"])
    add(place.store, *jobs(105, 110))
    seen: list[tuple[int, int]] = []
    made = refresh(place.store, registry=ALL, progress=lambda *done: seen.append(done))
    assert {one.position for one in made.values()} == {110}
    assert seen == sorted(seen)
    # From the first event for the user's, from 100 for most, from 105 for two.
    assert seen[-1] == (110 + 10 + 5, 110 + 10 + 5)
    assert_tables(place.store, open_tables(place.store, registry=ALL))


def test_a_table_without_rows_is_refreshed(store: EventStore) -> None:
    """A table of which nothing happened yet has an empty state, from which a fold that needs it goes on."""
    names = ["handles", "newest"]
    add(store, *jobs(0, 3))
    rebuild(store, names, registry=ALL)
    add(store, *jobs(3, 4))
    refresh(store, names, registry=ALL)
    add(store, HandleAdvanced(handle_hash=h("b"), handle_name="db", parents=(h("a"),)), ended(0))
    refresh(store, names, registry=ALL)
    tables = open_tables(store, names, registry=ALL)
    assert {name: tables[name].collect().height for name in names} == {"handles": 2, "newest": 1}
    assert_tables(store, tables)
    for name in names:
        assert open_tables(store, names, at=4, registry=ALL)[name].collect().height == 0


def test_an_empty_store_is_refreshed(store: EventStore) -> None:
    """Tables of no events grow into tables of some."""
    made = refresh(store, registry=ALL)
    assert {one.position for one in made.values()} == {0}
    add(store, *jobs(0, 3))
    refresh(store, registry=ALL)
    assert_tables(store, open_tables(store, registry=ALL))


def test_a_store_that_was_opened_to_read_is_left_alone(store: EventStore) -> None:
    """A refresh writes, so a read-only store refuses it."""
    with (
        EventStore.open("", storage=store.storage, read_only=True) as reader,
        pytest.raises(StateError) as got,
    ):
        refresh(reader)
    assert got.value.code == "read_only"


# two at once ---------------------------------------------------------------------------------------------


def test_two_refreshers_at_once(tmp_path: Path) -> None:
    """Both succeed, each with a whole snapshot, and whichever counts is the table."""
    url = tmp_path / "store"
    with open_store(url) as first, open_store(url) as second:
        for round_ in range(3):
            add(first, *jobs(10 * round_, 10 * round_ + 10))
            together = threading.Barrier(2)

            def work(store: EventStore, together: threading.Barrier = together) -> list[Snapshot]:
                together.wait()
                return list(refresh(store, ["jobs", "handles", "executions"]).values())

            with ThreadPoolExecutor(2) as pool:
                for snapshots in pool.map(work, (first, second)):
                    for snapshot in snapshots:
                        snapshot.check()
            assert_tables(first, open_tables(first, ["jobs", "handles", "executions"]))


@pytest.mark.parametrize("merge", ["tiers", "all"])
@pytest.mark.parametrize("more", [0, 3])
def test_another_publishes_between_fold_and_publish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merge: Any, more: int
) -> None:
    """Who is overtaken publishes what is right for its position; nothing that is used is ever deleted."""
    monkeypatch.setattr("projections.snapshot.RUN_GRACE", dt.timedelta(0))
    url = tmp_path / "store"
    with open_store(url) as slow, open_store(url) as quick:
        add(slow, *jobs(0, 40))
        rebuild(slow, ["jobs"])
        publish = builder_room.publish
        overtaken = [False]

        def late(*given: Any) -> Snapshot:
            if not overtaken[0]:
                overtaken[0] = True
                if more:
                    add(quick, *jobs(41, 41 + more))
                refresh(quick, ["jobs"], merge=merge)
            return publish(*given)

        monkeypatch.setattr(builder_room, "publish", late)
        add(slow, *jobs(40, 41))
        made = refresh(slow, ["jobs"])["jobs"]
        assert made.position == 41
        made.check()
        for _ in range(5):
            newest = find_snapshot(slow, JOBS)
            assert newest is not None
            assert newest.set_aside == ()
            assert newest.position == slow.head().size
            assert_tables(slow, open_tables(slow, ["jobs"]))
            add(slow, *jobs(slow.head().size, slow.head().size + 1))
            refresh(slow, ["jobs"])


# a log that was restored from a copy ---------------------------------------------------------------------


@pytest.mark.parametrize("more", [1, 9, 30], ids=["shorter", "as long", "longer"])
def test_tables_of_a_lost_history_are_not_believed(tmp_path: Path, more: int, caplog: Any) -> None:
    """The log was restored from an older copy and went on differently; its tables were not restored."""
    place, copy = tmp_path / "store", tmp_path / "copy"
    with open_store(place) as store:
        add(store, *jobs(0, 20), ended(1))
        refresh(store)
    shutil.copytree(place, copy)
    with open_store(place) as store:
        add(store, *jobs(100, 109), ended(2))
        refresh(store)
    shutil.copytree(place / "projections", copy / "projections", dirs_exist_ok=True)
    with open_store(copy, state_dir=tmp_path / "elsewhere") as store:
        add(store, *jobs(200, 200 + more), ended(3))
        for fresh in ("snapshot", "sealed", "tail"):
            with open_tables(store, fresh=fresh) as tables:
                assert_tables(store, tables)
        assert "restored from a copy" in caplog.text
        with open_tables(store, at=21 + more) as tables:
            assert_tables(store, tables, 21 + more)
        made = refresh(store)
        assert {one.position for one in made.values()} == {store.head().size}
        for one in default_projections:
            newest = find_snapshot(store, one)
            assert newest is not None
            assert (newest.position, newest.set_aside) == (store.head().size, ())
        with open_tables(store) as tables:
            assert_tables(store, tables)
