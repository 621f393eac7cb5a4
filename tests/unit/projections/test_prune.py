"""What may go: old recipes, old snapshots, runs that nobody needs; and nothing else."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_kit import open_store
from tables_kit import add, file_of, jobs

from eventstore import EventStore, StateError
from eventstore.layout import manifest_folder, projection_folder
from projections import (
    ProjectionRegistry,
    Snapshot,
    default_projections,
    find_snapshot,
    open_tables,
    plan_prune,
    prune,
    rebuild,
    refresh,
)
from projections import builder as builder_room
from projections.run import RunWriter

JOBS = default_projections.get("jobs")
LATER = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """A store with jobs, and their table built."""
    with open_store(tmp_path / "store") as store:
        store.append(*jobs(0, 20))
        store.seal()
        rebuild(store, ["jobs"])
        yield store


def test_a_whole_table_has_nothing_to_go(store: EventStore) -> None:
    """Neither now nor later."""
    assert plan_prune(store) == []
    assert plan_prune(store, now=LATER) == []


def test_an_older_version_goes_when_the_newer_is_built(store: EventStore) -> None:
    """Before, and for an hour, readers are at it; the plan changes nothing, acting on it leaves the newer."""
    newer = ProjectionRegistry([dataclasses.replace(JOBS, version=2)])
    assert open_tables(store, registry=newer).versions == {"jobs": 1}
    assert plan_prune(store, now=LATER) == []
    rebuild(store, registry=newer)
    built = dt.datetime.now(dt.UTC)
    assert plan_prune(store) == plan_prune(store, now=built + dt.timedelta(minutes=59)) == []
    plan = plan_prune(store, now=built + dt.timedelta(minutes=60))
    assert plan
    assert plan == plan_prune(store, grace=dt.timedelta(0)) == plan_prune(store, grace=-HOUR)
    assert plan == plan_prune(store, now=built + HOUR, grace=24 * HOUR)
    old = projection_folder("jobs", 1)
    assert {one.path for one in plan} == {entry.path for entry in store.storage.files(old)}
    assert all("version 2 is built" in one.reason for one in plan)
    assert open_tables(store)["jobs"].collect().height == 20
    assert prune(store, plan) == sum(one.size_bytes for one in plan)
    assert store.storage.files(old) == []
    assert open_tables(store, registry=newer)["jobs"].collect().height == 20
    assert plan_prune(store, now=LATER) == []


def test_replaced_runs_go_after_the_grace(store: EventStore) -> None:
    """A reader may still be at them for an hour; those that one of the kept manifests names stay whole."""
    first = find_snapshot(store, JOBS)
    assert first is not None
    for number in (20, 21):
        add(store, *jobs(number, number + 1))
        refresh(store, ["jobs"], merge="all")
        assert plan_prune(store, now=LATER) == []
    add(store, *jobs(22, 40))
    refresh(store, ["jobs"], merge="all")
    assert plan_prune(store) == []
    plan = plan_prune(store, now=LATER)
    assert {one.path for one in plan} == {path for path, _, _ in first.files(first.manifest.runs[0])}
    assert all("replaced by a newer run" in one.reason for one in plan)
    prune(store, plan)
    assert open_tables(store)["jobs"].collect().height == 40
    for position in (21, 22, 40):
        kept = find_snapshot(store, JOBS, until=position)
        assert kept is not None
        assert (kept.position, kept.set_aside) == (position, ())
    assert plan_prune(store, now=LATER) == []


def test_what_the_newest_names_stays_whoever_retired_it(
    store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuild that began before a refresh and ended after it retires a run that the refreshed table has."""
    publish = builder_room.publish

    def late(*given: Any) -> Snapshot:
        monkeypatch.setattr(builder_room, "publish", publish)
        add(store, *jobs(21, 22))
        refresh(store, ["jobs"])
        return publish(*given)

    add(store, *jobs(20, 21))
    monkeypatch.setattr(builder_room, "publish", late)
    with open_store(tmp_path / "store", state_dir=tmp_path / "slow") as slow:
        assert rebuild(slow, ["jobs"])["jobs"].position == 21
    newest = find_snapshot(store, JOBS)
    assert newest is not None
    assert (newest.position, [run.until for run in newest.manifest.runs]) == (22, [20, 22])
    assert plan_prune(store, now=LATER) == []
    # Once the slow one's manifest has gone, its run goes, and the refreshed table's stay.
    for number in (22, 23):
        add(store, *jobs(number, number + 1))
        refresh(store, ["jobs"])
    prune(store, plan_prune(store, now=LATER))
    newest = find_snapshot(store, JOBS)
    assert newest is not None
    assert (newest.position, newest.set_aside) == (24, ())
    assert open_tables(store)["jobs"].collect().height == 24


def test_what_a_killed_process_left_goes_after_a_day(store: EventStore) -> None:
    """Files that no manifest names may be somebody's work under way, but not for ever."""
    writer = RunWriter(store, JOBS, first=0, until=20)
    writer.add(JOBS.state_schema.to_frame())
    writer.close()
    assert plan_prune(store) == []
    plan = plan_prune(store, now=LATER)
    assert {one.reason for one in plan} == {"no snapshot names it"}
    assert all(writer.name in one.path for one in plan)
    prune(store, plan)
    assert plan_prune(store, now=LATER) == []
    assert open_tables(store)["jobs"].collect().height == 20


def test_older_manifests_go_first(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a store whose refreshes were killed before they tidied up, the newest three stay."""
    monkeypatch.setattr("projections.snapshot.KEPT_MANIFESTS", 100)
    for number in range(4):
        store.append(*jobs(20 + number, 21 + number))
        store.seal()
        refresh(store, ["jobs"])
    manifests = manifest_folder("jobs", 1)
    before = [entry.path for entry in store.storage.files(manifests)]
    plan = plan_prune(store)
    assert [one.path for one in plan] == before[:2][::-1]
    prune(store, plan)
    assert [entry.path for entry in store.storage.files(manifests)] == before[2:]
    assert open_tables(store)["jobs"].collect().height == 24


def test_an_older_version_stays_while_the_newer_is_not_whole(store: EventStore) -> None:
    """A newer version whose files are gone or cut answers nobody, so the older one is what there is."""
    newer = ProjectionRegistry([dataclasses.replace(JOBS, version=2)])
    path = file_of(store, rebuild(store, registry=newer)["jobs"], 0)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    assert plan_prune(store, now=LATER) == []
    path.unlink()
    assert plan_prune(store, now=LATER) == []
    path.write_bytes(raw)
    assert {one.path.split("/")[2] for one in plan_prune(store, now=LATER)} == {"v1"}


def test_an_older_version_stays_where_the_newer_is_of_a_lost_history(tmp_path: Path) -> None:
    """Built after the copy was made from which the log was restored: only the older one is of this log."""
    newer = ProjectionRegistry([dataclasses.replace(JOBS, version=2)])
    place, copy = tmp_path / "store", tmp_path / "copy"
    with open_store(place) as store:
        add(store, *jobs(0, 20))
        rebuild(store, ["jobs"])
    shutil.copytree(place, copy)
    with open_store(place) as store:
        add(store, *jobs(20, 25))
        rebuild(store, registry=newer)
    shutil.copytree(place / "projections", copy / "projections", dirs_exist_ok=True)
    with open_store(copy, state_dir=tmp_path / "elsewhere") as restored:
        add(restored, *jobs(30, 33))
        plan = plan_prune(restored, now=LATER, grace=dt.timedelta(0))
        assert {one.path.split("/")[2] for one in plan} == {"v2"}
        prune(restored, plan)
        assert open_tables(restored, ["jobs"], registry=newer).versions == {"jobs": 1}
        assert open_tables(restored, ["jobs"], fresh="sealed")["jobs"].collect().height == 23


def test_a_read_only_store_is_not_pruned(store: EventStore, tmp_path: Path) -> None:
    """To plan is to read; to act is not."""
    with EventStore.open(store.storage.local_path("") or "", read_only=True, state_dir=tmp_path) as reader:
        assert plan_prune(reader) == []
        with pytest.raises(StateError) as caught:
            prune(reader, [])
        assert caught.value.code == "read_only"


def test_snapshots_of_a_lost_history_go(store: EventStore, tmp_path: Path) -> None:
    """After the log was restored from a copy and went on, only tables of what it is now are needed."""
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "store", copy)
    store.append(*jobs(20, 25))
    store.seal()
    refresh(store, ["jobs"])
    folder = manifest_folder("jobs", 1)
    [lost] = [entry.path for entry in store.storage.files(folder) if not (copy / entry.path).exists()]
    store.close()
    shutil.copytree(tmp_path / "store" / "projections", copy / "projections", dirs_exist_ok=True)
    with open_store(copy) as restored:
        restored.append(*jobs(30, 40))
        restored.seal()
        plan = plan_prune(restored)
        assert [one.path for one in plan] == [lost]
        assert "went on differently" in plan[0].reason
        prune(restored, plan)
        assert open_tables(restored, fresh="sealed")["jobs"].collect().height == 30
