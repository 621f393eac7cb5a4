"""Versions of recipes, and tables at one common position while others publish."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from store_kit import flip, open_store
from tables_kit import ALL, assert_tables, expected, jobs

from eventstore import EventStore, NotFoundError
from projections import (
    KeyedProjection,
    ProjectionRegistry,
    find_snapshot,
    open_tables,
    rebuild,
    refresh,
    text,
    whole,
)
from projections import builder as builder_room


def recipe(version: int) -> KeyedProjection:
    """Return a recipe of jobs; the second version has another column, key and state."""
    more: dict[str, Any] = {
        "key": ("job_id",),
        "columns": {"job_id": text("job"), "task_hash": text("task")},
        "rows": lambda events: events.select("job_id", "position", "task_hash"),
    }
    if version > 1:
        more = {
            "key": ("execution_id",),
            "columns": {
                "execution_id": text("execution"),
                "position": whole("first"),
                "jobs": whole("how many"),
            },
            "state": {"execution_id": text(""), "job_id": text(""), "position": whole("")},
            "state_key": ("execution_id", "job_id"),
            "finish": lambda state: state.group_by("execution_id").agg(
                pl.col("position").min(), jobs=pl.len().cast(pl.Int64)
            ),
            "rows": lambda events: events.select("execution_id", "job_id", "position"),
        }
    return KeyedProjection(
        name="mine",
        version=version,
        doc="Mine.",
        kinds=("job.started",),
        inputs=("job_id", "execution_id", "task_hash"),
        **more,
    )


OLD, NEW = ProjectionRegistry([recipe(1)]), ProjectionRegistry([recipe(2)])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """A store whose tables were built by the old recipe, with a newer run behind the first."""
    with open_store(tmp_path / "store") as store:
        store.append(*jobs(0, 10))
        store.seal()
        rebuild(store, registry=OLD)
        store.append(*jobs(10, 11))
        store.seal()
        refresh(store, registry=OLD)
        yield store


def test_before_it_is_built_the_new_version_has_the_old_table(store: EventStore) -> None:
    """Whoever opens with the next version reads what the old one finished, and is told which made it."""
    tables = open_tables(store, registry=NEW)
    assert (tables.versions, tables.positions) == ({"mine": 1}, {"mine": 10})
    found = tables["mine"].collect()
    assert found.columns == ["job_id", "position", "task_hash"]
    assert found.height == 10


def test_the_new_version_can_be_asked_as_of_a_moment_before_it_is_built(store: EventStore) -> None:
    """At a position, and up to the head, it is folded from the log: no run of the old one is mixed in."""
    for asked in ({"at": 5}, {"fresh": "sealed"}):
        tables = open_tables(store, registry=NEW, **asked)  # type: ignore[arg-type]
        assert tables.versions == {"mine": 2}
        assert_tables(store, tables, asked.get("at"))  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [rebuild, refresh])
def test_after_it_is_built_the_new_version_is_read_and_the_old_goes_on(store: EventStore, build: Any) -> None:
    """Each reader has the table of its recipe; a refresh of the one leaves the other's files alone."""
    before = open_tables(store, registry=OLD)
    frame = before["mine"]
    build(store, registry=NEW)
    tables = open_tables(store, registry=NEW)
    assert (tables.versions, tables.position) == ({"mine": 2}, 11)
    assert tables["mine"].collect().rows() == [("run", 0, 11)]
    store.append(*jobs(11, 13))
    store.seal()
    for _ in range(3):
        refresh(store, registry=NEW, merge="all")
    assert frame.collect().height == 11
    assert_tables(store, open_tables(store, registry=OLD), 11)
    refresh(store, registry=OLD)
    assert_tables(store, open_tables(store, registry=OLD), 13)
    assert_tables(store, open_tables(store, registry=NEW), 13)


def test_a_damaged_old_version_is_none(store: EventStore) -> None:
    """Of an old version only a whole table is read; without one there is no snapshot."""
    snapshot = find_snapshot(store, recipe(1))
    assert snapshot is not None
    path = store.storage.local_path(next(snapshot.files(snapshot.manifest.runs[0]))[0])
    assert path is not None
    flip(path, 40)
    with pytest.raises(NotFoundError) as got:
        open_tables(store, registry=NEW)
    assert got.value.code == "no_snapshot"


def test_the_newest_of_several_old_versions_is_read(store: EventStore) -> None:
    """Version 4 reads what version 2 made, not what version 1 did."""
    rebuild(store, registry=NEW)
    newer = KeyedProjection(**{**vars(recipe(2)), "version": 4})
    tables = open_tables(store, registry=ProjectionRegistry([newer]))
    assert tables.versions == {"mine": 2}
    assert tables["mine"].collect().rows() == [("run", 0, 11)]


def test_while_a_publisher_is_half_through_tables_stand_at_one_position(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens between two manifests has all tables as they were before, and they agree."""
    names = ["busy", "executions", "jobs", "tags"]
    refresh(store, names, registry=ALL)
    store.append(*jobs(11, 14))
    store.seal()
    publish = builder_room.publish
    seen: list[set[int]] = []

    def watched(*given: Any) -> Any:
        with open_tables(store, names, registry=ALL) as tables:
            seen.append(set(tables.positions.values()))
            assert_tables(store, tables, tables.position)
        return publish(*given)

    monkeypatch.setattr(builder_room, "publish", watched)
    refresh(store, names, registry=ALL)
    assert seen == [{11}] * 4
    assert set(open_tables(store, names, registry=ALL).positions.values()) == {14}


def test_tables_that_never_stood_together_are_opened_where_each_is(store: EventStore) -> None:
    """Without a common position each is the newest there is, and says where it stands."""
    refresh(store, ["jobs"], registry=ALL)
    store.append(*jobs(11, 14))
    store.seal()
    refresh(store, ["busy"], registry=ALL)
    tables = open_tables(store, ["busy", "jobs"], registry=ALL)
    assert (tables.position, tables.positions) == (11, {"busy": 14, "jobs": 11})
    for name, position in tables.positions.items():
        found = tables[name].collect().sort(ALL.get(name).key)
        assert found.equals(expected(store, ALL.get(name), position))
