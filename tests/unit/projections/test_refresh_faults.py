"""Refresh when things are damaged or fail, and what goes when: tables stay right, nothing used is deleted."""

from __future__ import annotations

import datetime as dt
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from faults_kit import worth_striking
from store_kit import flip, open_store
from tables_kit import ALL, Noted, add, assert_tables, ended, file_of, h, jobs

from eventstore import (
    EventStore,
    EventStoreError,
    ProjectionError,
    StorageError,
    TaskRecorded,
)
from eventstore.testing import When
from projections import (
    GeneralProjection,
    KeyedProjection,
    ProjectionRegistry,
    Snapshot,
    default_projections,
    find_snapshot,
    open_tables,
    rebuild,
    refresh,
    text,
)
from projections import builder as builder_room
from projections.snapshot import list_snapshots

JOBS = default_projections.get("jobs")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store in a folder."""
    with open_store(tmp_path / "store") as store:
        yield store


# damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["altered", "cut", "gone"])
def test_a_damaged_run_that_a_merge_meets_is_built_anew(
    store: EventStore, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Damage is logged, the table is folded again from the log, and the others are refreshed all the same."""
    add(store, *jobs(0, 20))
    refresh(store, ["jobs", "executions"])
    add(store, *jobs(20, 22))
    made = refresh(store, ["jobs", "executions"])["jobs"]
    path = file_of(store, made, 1)
    if how == "altered":
        flip(path, 40)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    add(store, *jobs(22, 24))
    with caplog.at_level(logging.WARNING):
        fresh = refresh(store, ["jobs", "executions"])
    assert path.name in caplog.text
    assert {one.position for one in fresh.values()} == {24}
    for one in fresh.values():
        one.check()
    assert_tables(store, open_tables(store, ["jobs", "executions"]))


def test_a_damaged_first_run_is_not_read_by_a_small_refresh_and_found_by_readers(store: EventStore) -> None:
    """What a refresh does not read it does not vouch for: readers find damage, a merge of all heals it."""
    add(store, *jobs(0, 20))
    made = refresh(store, ["jobs"])["jobs"]
    flip(file_of(store, made, 0), 40)
    add(store, *jobs(20, 21))
    refresh(store, ["jobs"])
    with pytest.raises(ProjectionError) as got:
        open_tables(store, ["jobs"])
    assert got.value.code == "wrong_digest"
    refresh(store, ["jobs"], merge="all")
    assert_tables(store, open_tables(store, ["jobs"]))


def test_a_damaged_segment_ends_the_refresh(store: EventStore) -> None:
    """The error names the segment, nothing is published, and the old snapshot stays and is read."""
    add(store, *jobs(0, 20))
    rebuild(store, ["jobs", "handles"])
    before = store.storage.files("projections")
    add(store, *jobs(20, 22))
    path = max(store.storage.files("segments"), key=lambda entry: entry.path).path
    local = store.storage.local_path(path)
    assert local is not None
    flip(local, local.stat().st_size // 2)
    with (
        open_store(local.parents[4], state_dir=store.local_folder.parent) as again,
        pytest.raises(EventStoreError, match=local.name[:30]),
    ):
        refresh(again, ["jobs", "handles"])
    assert store.storage.files("projections") == before
    assert open_tables(store, ["jobs", "handles"]).position == 20


def test_a_recipe_that_raises_half_way_leaves_nothing(store: EventStore) -> None:
    """Whichever step fails, files that were written for other tables go, and nothing is visible."""
    fails: set[str] = set()

    def rows(events: pl.LazyFrame) -> pl.LazyFrame:
        if "rows" in fails:
            raise RuntimeError("out of ink")
        return events.select("position", "job_id")

    def finish(state: pl.LazyFrame) -> pl.LazyFrame:
        if "finish" in fails:
            raise RuntimeError("out of paper")
        return state

    def step(state: pl.DataFrame | None, events: pl.DataFrame) -> pl.DataFrame:
        if "step" in fails:
            raise RuntimeError("out of steps")
        return events.select("job_id", "position")

    base: dict[str, Any] = {
        "version": 1,
        "doc": "A job.",
        "kinds": ("job.started",),
        "inputs": ("job_id",),
        "key": ("job_id",),
        "columns": {"job_id": text("job")},
    }
    registry = ProjectionRegistry(
        [
            *default_projections,
            KeyedProjection(name="zz_rows", rows=rows, finish=finish, **base),
            GeneralProjection(name="zz_steps", step=step, **base),
        ]
    )
    add(store, *jobs(0, 3))
    refresh(store, registry=registry)
    before = store.storage.files("projections")
    add(store, *jobs(3, 9))
    for step_name, message in (("rows", "ink"), ("step", "steps"), ("finish", "paper")):
        fails.add(step_name)
        with pytest.raises(ProjectionError, match=message) as got:
            refresh(store, registry=registry, merge="all")
        assert got.value.code == "recipe_failed"
        assert store.storage.files("projections") == before
        fails.clear()
    refresh(store, registry=registry)
    assert open_tables(store, registry=registry).position == 9


# what goes -----------------------------------------------------------------------------------------------


def all_runs(store: EventStore) -> set[str]:
    """Return the names of the runs of `jobs` that have files."""
    found = store.storage.files("projections/jobs/v1/runs")
    return {entry.path.split("/")[4] for entry in found}


def test_retired_runs_stay_for_the_grace(store: EventStore) -> None:
    """However often a table is refreshed, what was replaced less than an hour ago is still there."""
    for number in range(8):
        add(store, *jobs(number, number + 1))
        made = refresh(store, ["jobs"], merge="all")["jobs"]
    assert len(all_runs(store)) == 8
    assert {one.run.name for one in made.manifest.retired} | {made.manifest.runs[0].name} == all_runs(store)


def test_retired_runs_go_after_the_grace(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then their files are deleted, but for those that a manifest names which is kept."""
    for number in range(4):
        add(store, *jobs(number, number + 1))
        refresh(store, ["jobs"], merge="all")
    monkeypatch.setattr("projections.snapshot.RUN_GRACE", dt.timedelta(0))
    for number in range(4, 8):
        add(store, *jobs(number, number + 1))
        made = refresh(store, ["jobs"], merge="all")["jobs"]
        listed = sorted(list_snapshots(store, JOBS))
        assert listed == [(number - 1, 1), (number, 1), (number + 1, 1)]
        for position, _ in listed:
            kept = find_snapshot(store, JOBS, until=position)
            assert kept is not None
            assert (kept.position, kept.set_aside) == (position, ())
    assert len(all_runs(store)) <= 5
    assert {run.name for run in made.manifest.runs} <= all_runs(store)


def test_a_damaged_newest_table_has_an_older_one_however_late_the_refresh(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However rarely tables are refreshed, a whole older snapshot serves when the newest is damaged."""
    monkeypatch.setattr("projections.snapshot.RUN_GRACE", dt.timedelta(0))
    for number in range(4):
        add(store, *jobs(number, number + 1))
        made = refresh(store, ["jobs"], merge="all")["jobs"]
    flip(file_of(store, made, 0), 40)
    tables = open_tables(store, ["jobs"])
    assert tables.position == 3
    assert_tables(store, tables, 3)


def test_one_table_that_is_refreshed_alone_does_not_hide_the_others(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables at different positions open, also when what the first had at the others' position is gone."""
    monkeypatch.setattr("projections.snapshot.RUN_GRACE", dt.timedelta(0))
    add(store, *jobs(0, 2), TaskRecorded(task_hash=h("t"), task_name="weigh"))
    flip(file_of(store, refresh(store, ["jobs", "tasks"])["jobs"], 0), 40)
    for number in range(2, 6):
        add(store, *jobs(number, number + 1))
        refresh(store, ["jobs"], merge="all")
        tables = open_tables(store, ["jobs", "tasks"])
        assert tables.positions == {"jobs": number + 2, "tasks": 3}
        assert tables["jobs"].collect().height == number + 1


def test_a_reader_that_opened_before_goes_on(store: EventStore) -> None:
    """Tables that were opened stay what they were while others publish."""
    add(store, *jobs(0, 10))
    refresh(store, ["jobs"])
    add(store, *jobs(10, 12))
    refresh(store, ["jobs"])
    tables = open_tables(store, ["jobs"])
    frame = tables["jobs"]
    for number in range(12, 20):
        add(store, *jobs(number, number + 1))
        refresh(store, ["jobs"], merge="all")
    assert frame.collect().height == 12
    assert_tables(store, tables, 12)


# faults --------------------------------------------------------------------------------------------------


FEW = ProjectionRegistry([ALL.get(name) for name in ("busy", "newest")])
"""A keyed table with a state of its own, and a general one."""


def prepared(folder: Path) -> Noted:
    """A store whose tables are one run behind, so that a refresh merges, writes, publishes and deletes."""
    place = Noted(folder / "state", str(folder / "store"))
    store = place.open(faulty=False)
    for number in range(4):
        add(store, *jobs(3 * number, 3 * number + 3), ended(number))
        refresh(store, registry=FEW, merge="all" if number % 2 else "tiers")
    add(store, *jobs(12, 13), ended(5))
    store.close()
    return place


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_a_fault_at_every_storage_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When
) -> None:
    """A full disk, or a lost reply, anywhere: tables stay whole, and the next refresh puts all right."""
    monkeypatch.setattr("projections.snapshot.RUN_GRACE", dt.timedelta(0))
    prepared(tmp_path / "ready")

    def again(name: str) -> Noted:
        shutil.copytree(tmp_path / "ready", tmp_path / name)
        return Noted(tmp_path / name / "state", str(tmp_path / name / "store"))

    place = again("counted")
    place.forget()
    refresh(place.store, registry=FEW)
    trace = list(place.plan.trace)
    # What is not deleted is as if the fault came after the operation before.
    least = ("seals",) if when is When.AFTER else ("seals", "delete")
    struck = [one for one, _ in worth_striking(trace, when) if not any(word in trace[one] for word in least)]
    assert {"put", "create"} <= {trace[number].split()[0] for number in struck}
    written = max(number for number, line in enumerate(trace) if line.startswith("put"))
    for number in struck:
        place = again(f"at{number}")
        there = place.store.storage.files("projections")
        place.forget()
        place.plan.at, place.plan.when, place.plan.number = number, when, errno.ENOSPC
        with pytest.raises(EventStoreError):
            refresh(place.store, registry=FEW)
        place.plan.disarm()
        if number <= written:  # nothing was published yet, and nothing stays
            assert place.store.storage.files("projections") == there, trace[number]
        with place.open(faulty=False) as store:
            tables = open_tables(store, registry=FEW)
            assert len(tables) == len(FEW), trace[number]
            assert set(tables.positions.values()) <= {16, 18}, trace[number]
            assert_tables(store, tables)
            made = refresh(store, registry=FEW)
            for snapshot in made.values():
                snapshot.check()
            assert_tables(store, open_tables(store, registry=FEW))
        shutil.rmtree(tmp_path / f"at{number}")


def test_a_publication_that_fails_leaves_the_others_whole(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the second manifest cannot be put, the table that was published before it has all its files."""
    add(store, *jobs(0, 3), ended(1))
    publish = builder_room.publish
    done: list[str] = []

    def refused(place: Any, recipe: Any, *more: Any) -> Snapshot:
        if done:
            raise StorageError("no", code="disk_full", transient=False)
        done.append(recipe.name)
        return publish(place, recipe, *more)

    monkeypatch.setattr(builder_room, "publish", refused)
    with pytest.raises(StorageError):
        refresh(store, registry=FEW)
    tables = open_tables(store, registry=FEW)
    assert list(tables) == done
    assert_tables(store, tables)
    # What no manifest names and nobody began to publish is gone.
    folders = {entry.path.split("/")[1] for entry in store.storage.files("projections")}
    assert len(folders) == 2
