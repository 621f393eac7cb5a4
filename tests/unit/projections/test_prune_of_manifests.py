"""Which manifests and runs may go where seals cannot be read, histories parted, and tables change often."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from snapshots_kit import TABLE, THINGS, Place, build, recipe, written
from store_kit import memory_url

from projections import Leftover, Snapshot, find_snapshot, plan_prune
from projections.manifest import Retired
from projections.snapshot import KEPT_MANIFESTS, list_snapshots, publish

NOW = dt.datetime.now(dt.UTC)
LATER = NOW + dt.timedelta(days=2)
SECOND = recipe(2)


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place, in memory or in a folder."""
    url = memory_url() if request.param == "memory" else str(tmp_path / "store")
    return Place(url, tmp_path / "local")


def planned(place: Place, now: dt.datetime) -> list[Leftover]:
    """Return what may go; a place is as much of a store as this takes."""
    return plan_prune(cast("Any", place), now=now)


def parts(plan: list[Leftover]) -> set[tuple[str, str]]:
    """Return the versions and manifests or runs of a plan."""
    return {(one.path.split("/")[2], one.path.split("/")[4]) for one in plan}


def name_of(made: Snapshot) -> str:
    """Return the name of a snapshot's first run."""
    return made.manifest.runs[0].name


def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let publishers be killed before they tidy up: all manifests stay."""
    monkeypatch.setattr("projections.snapshot.KEPT_MANIFESTS", 100)


def test_nothing_goes_because_its_seal_cannot_be_read(place: Place) -> None:
    """It is not known to be of another log: manifest and runs stay, also when no other is left."""
    build(place, 5)
    build(place, 7)
    for unreadable in ({5}, {7}, {5, 7}):
        place.unreadable = unreadable
        assert planned(place, LATER) == []


def test_an_old_manifest_whose_seal_cannot_be_read_goes_as_others_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its run, once three newer ones are known to be of this log."""
    crowded(monkeypatch)
    made = [build(place, position) for position in range(1, KEPT_MANIFESTS + 2)]
    place.unreadable = {1}
    plan = planned(place, LATER)
    assert parts(plan) == {("v1", f"{1:020d}-{1:06d}.json"), ("v1", name_of(made[0]))}
    assert plan[0].reason == "there are 3 newer snapshots"
    place.unreadable = {1, 2}
    assert planned(place, LATER) == []


def test_manifests_of_a_lost_history_do_not_count(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go, and what is of this log stays, as many of the others as there are above it."""
    crowded(monkeypatch)
    build(place, 4)
    build(place, 5)
    lost = [build(place, position) for position in (6, 7, 8)]
    place.common, place.history = 5, "second"
    plan = planned(place, NOW)
    assert parts(plan) == {("v1", one.path.rpartition("/")[2]) for one in lost}
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert found.position == 5


def test_a_damaged_manifest_is_not_counted_and_goes_with_age(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is newer than the third whole one it stays, and takes the place of none of these."""
    crowded(monkeypatch)
    made = [build(place, position) for position in range(1, 5)]
    place.storage.put(made[2].path, b"")
    assert parts(planned(place, NOW)) == set()
    place.storage.put(made[2].path, b"not a manifest")
    build(place, 5)
    assert parts(planned(place, NOW)) == {("v1", f"{1:020d}-{1:06d}.json")}
    assert len(list_snapshots(place, THINGS)) == 5


def test_what_others_publish_between_listing_and_reading_stays(place: Place) -> None:
    """The manifest that was listed has gone, and newer ones name its run: the table is listed again."""
    made = build(place, 1)
    read_file = place.storage.read
    busy = [True]

    def slow(path: str) -> bytes:
        if busy.pop() if busy else False:
            for position in (2, 3, 4):
                publish(place, THINGS, place.head(position), made.manifest.runs, None)
            assert not place.storage.exists(path)
        return read_file(path)

    place.storage.read = slow  # type: ignore[method-assign]
    assert planned(place, LATER) == []
    assert len(list_snapshots(place, THINGS)) == KEPT_MANIFESTS


def test_a_version_whose_seals_cannot_be_read_is_not_built(place: Place) -> None:
    """The older version stays, since nobody may be able to read the newer one."""
    build(place, 5)
    build(place, 7, one=SECOND)
    place.unreadable = {7}
    assert planned(place, LATER) == []
    place.unreadable = set()
    assert {version for version, _ in parts(planned(place, LATER))} == {"v1"}


def test_a_table_that_changes_often_lets_the_older_version_go(place: Place) -> None:
    """All its manifests are of a minute ago; what they say that was replaced tells how long it is there."""
    build(place, 5)
    first = written(place, TABLE, 5, one=SECOND)
    old = publish(place, SECOND, place.head(5), [first], None)
    at = (NOW - dt.timedelta(minutes=50)).isoformat()
    before = replace(old, manifest=replace(old.manifest, retired=(Retired(replace(first, name=OTHER), at),)))
    second = written(place, TABLE, 7, one=SECOND)
    publish(place, SECOND, place.head(7), [second], before)
    assert planned(place, NOW + dt.timedelta(minutes=9)) == []
    assert {one for one, _ in parts(planned(place, NOW + dt.timedelta(minutes=11)))} == {"v1"}


OTHER = f"{0:020d}-{5:020d}-20260101T000000-0123abcd"
"""Name of a run from 0 on: when it was begun says nothing of when it was seen."""
