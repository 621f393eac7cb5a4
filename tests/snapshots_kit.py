"""What tests of snapshots share: a recipe, a table, and a place that keeps it without a log."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from eventstore import IntegrityError, Storage
from eventstore.filesystem import open_storage
from eventstore.testing import FaultPlan, FaultyStorage
from projections import (
    KeyedProjection,
    ProjectionRegistry,
    Snapshot,
    find_snapshot,
    text,
    whole,
)
from projections.merge import sorted_chunks
from projections.run import Run, RunWriter
from projections.snapshot import publish


def recipe(version: int = 1, *more: str, **changes: Any) -> KeyedProjection:
    """Return a recipe with text columns for each of `more`."""
    columns = {"name": text("name"), "size": whole("size"), **{name: text(name) for name in more}}
    base: dict[str, Any] = {
        "name": "things",
        "version": version,
        "doc": "One thing.",
        "kinds": ("lab.seen",),
        "inputs": (),
        "key": ("name",),
        "columns": columns,
        "rows": lambda events: events,
    }
    return KeyedProjection(**{**base, **changes})


THINGS = recipe()
FINISHED = recipe(
    state={"name": text("name"), "position": whole("first"), "raw": whole("twice the size")},
    finish=lambda state: state.select("name", "position", size=pl.col("raw") // 2),
)
TABLE = pl.DataFrame({"name": ["a", "b"], "position": [0, 1], "size": [1, None]}, schema=THINGS.schema)
ONLY = ProjectionRegistry([THINGS])


@dataclass(frozen=True)
class Head:
    """Where a log ends, one event a seal."""

    size: int
    number: int
    digest: str


class Place:
    """A storage with a store's id and a log of which nothing but its heads is there."""

    def __init__(self, url: str, local_folder: Path, store_id: str = "here") -> None:
        self.plan = FaultPlan()
        self.storage: Storage = FaultyStorage(open_storage(url), self.plan)
        self.store_id = store_id
        self.local_folder = local_folder
        self.history = "first"
        """A log that went on differently says other digests."""
        self.common = 0
        """So many events are the same in every history."""
        self.sealed = 1_000
        self.unreadable: set[int] = set()
        """Numbers of seals that are damaged."""

    def head_at(self, number: int) -> Head | None:
        """Return where the log ended after so many events."""
        if number in self.unreadable:
            raise IntegrityError(f"the seal {number} is damaged", code="seal_damaged")
        if number > self.sealed:
            return None
        history = "first" if number <= self.common else self.history
        return Head(number, number, hashlib.sha256(f"{history} {number}".encode()).hexdigest())

    def head(self, number: int) -> Head:
        """Return a head that there is."""
        found = self.head_at(number)
        assert found is not None
        return found


def written(
    place: Place, state: pl.DataFrame, until: int, *, first: int = 0, one: KeyedProjection = THINGS
) -> Run:
    """Write a run of this state."""
    writer = RunWriter(place, one, first=first, until=until)
    for batch in sorted_chunks(state, 3):
        writer.add(batch)
    return writer.close()


def build(
    place: Place, position: int, state: pl.DataFrame = TABLE, *, one: KeyedProjection = THINGS
) -> Snapshot:
    """Publish a table of one run."""
    run = written(place, state, position, one=one)
    return publish(place, one, place.head(position), [run], find_snapshot(place, one))


def read(snapshot: Snapshot) -> pl.DataFrame:
    """Return the table of a snapshot of one run."""
    return snapshot.scan(snapshot.manifest.runs[0], "table").collect()


def first_file(made: Snapshot) -> str:
    """Return the path of a snapshot's first file."""
    return next(made.files(made.manifest.runs[0]))[0]


def body_of(manifest: dict[str, Any]) -> bytes:
    """Return the bytes whose digest a manifest states."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
