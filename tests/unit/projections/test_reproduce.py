"""Tables made again: the same content, unless something was altered or a recipe is not pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from store_kit import memory_url, open_store
from tables_kit import ALL, jobs

from eventstore import EventStore, ProjectionError
from projections import (
    KeyedProjection,
    ProjectionRegistry,
    find_snapshot,
    rebuild,
    refresh,
    reproduce,
    text,
    whole,
)
from projections.run import RunWriter
from projections.snapshot import publish


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """A store with sealed jobs."""
    with open_store(memory_url(), state_dir=tmp_path / "state") as store:
        store.append(*jobs(0, 40))
        store.seal()
        yield store


def test_tables_come_out_the_same(store: EventStore) -> None:
    """After a rebuild and after refreshes, at the position where each stands, within little memory."""
    rebuild(store, registry=ALL)
    store.append(*jobs(40, 45))
    store.seal()
    refresh(store, ["jobs"], registry=ALL)
    found = reproduce(store, registry=ALL, memory_bytes=1)
    assert all(one.ok for one in found)
    assert {one.name: one.position for one in found} == {
        name: 45 if name == "jobs" else 40 for name in ALL.names
    }
    assert next(one.rows for one in found if one.name == "jobs") == 45


def test_what_was_not_built_is_left_out(store: EventStore) -> None:
    """There is nothing to compare it with."""
    rebuild(store, ["jobs"])
    assert [one.name for one in reproduce(store)] == ["jobs"]


def test_a_recipe_that_counts_its_calls_is_found(store: EventStore) -> None:
    """It gives another table each time: not a pure function of the events."""
    calls = itertools.count()
    recipe = KeyedProjection(
        name="odd",
        version=1,
        doc="Odd.",
        kinds=("job.started",),
        inputs=("job_id",),
        key=("job_id",),
        columns={"job_id": text("job"), "call": whole("which call of the recipe")},
        rows=lambda events: events.select("job_id", "position", call=pl.lit(next(calls), pl.Int64)),
    )
    registry = ProjectionRegistry([recipe])
    rebuild(store, registry=registry)
    (found,) = reproduce(store, registry=registry)
    assert not found.ok
    error = found.error()
    assert isinstance(error, ProjectionError)
    assert (error.code, found.name in error.message, found.digest in error.message) == (
        "not_reproducible",
        True,
        True,
    )


def test_a_table_that_says_something_else_is_found(store: EventStore) -> None:
    """Files and manifest may be whole in themselves: what they say is not what the log gives."""
    rebuild(store, ["jobs"])
    recipe = ALL.get("jobs")
    snapshot = find_snapshot(store, recipe)
    assert snapshot is not None
    writer = RunWriter(store, recipe, first=0, until=40)
    (state,) = snapshot.scan(snapshot.manifest.runs[0], "state").collect().iter_slices(40)
    writer.add(state.with_columns(status=pl.lit("DONE")))
    publish(store, recipe, store.head(), [writer.close()], snapshot)
    (found,) = reproduce(store, ["jobs"])
    assert not found.ok
