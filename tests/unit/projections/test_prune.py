"""What may go: old recipes, old snapshots, runs that nobody needs; and nothing else."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_kit import open_store
from tables_kit import jobs

from eventstore import EventStore, StateError
from eventstore.layout import manifest_folder, projection_folder
from projections import (
    ProjectionRegistry,
    default_projections,
    open_tables,
    plan_prune,
    prune,
    rebuild,
    refresh,
)
from projections.run import RunWriter

JOBS = default_projections.get("jobs")
LATER = dt.datetime.now(dt.UTC) + dt.timedelta(days=2)


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
    """Before, it is what readers get; the plan changes nothing, and acting on it leaves the newer whole."""
    newer = ProjectionRegistry([dataclasses.replace(JOBS, version=2)])
    assert open_tables(store, registry=newer).versions == {"jobs": 1}
    assert plan_prune(store, now=LATER) == []
    rebuild(store, registry=newer)
    plan = plan_prune(store)
    old = projection_folder("jobs", 1)
    assert {one.path for one in plan} == {entry.path for entry in store.storage.files(old)}
    assert all("version 2 is built" in one.reason for one in plan)
    assert open_tables(store)["jobs"].collect().height == 20
    assert prune(store, plan) == sum(one.size_bytes for one in plan)
    assert store.storage.files(old) == []
    assert open_tables(store, registry=newer)["jobs"].collect().height == 20
    assert plan_prune(store, now=LATER) == []


def test_replaced_runs_go_after_the_grace(store: EventStore) -> None:
    """A reader may still be at them for an hour; the present ones stay."""
    store.append(*jobs(20, 40))
    store.seal()
    refresh(store, ["jobs"], merge="all")
    assert plan_prune(store) == []
    plan = plan_prune(store, now=LATER)
    assert plan
    assert all("replaced by a newer run" in one.reason for one in plan)
    prune(store, plan)
    assert open_tables(store)["jobs"].collect().height == 40
    assert plan_prune(store, now=LATER) == []


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
