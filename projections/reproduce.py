"""Proof that a table is what its recipe makes of the log: it is made again, elsewhere, and compared.

What differs was altered, or its recipe is not a pure function of the events in their order: it looks at the
clock, at chance, at the order of rows that it did not sort, or at how events are cut into batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eventstore import ProjectionError
from projections.asof import views_at
from projections.builder import SCRATCH, Store
from projections.catalog import default_projections
from projections.fold import MEMORY_BYTES, Progress
from projections.projection import Projection
from projections.registry import ProjectionRegistry
from projections.scratch import Scratch
from projections.snapshot import Snapshot, find_snapshot
from projections.view import View

__all__ = ["Reproduced", "reproduce"]


@dataclass(frozen=True, slots=True)
class Reproduced:
    """What came of making one table again."""

    name: str
    version: int
    position: int
    rows: int
    digest: str
    """Content digest of the table as it is stored."""
    again: str
    """Content digest of the table as it was made again."""

    @property
    def ok(self) -> bool:
        """Whether both are the same."""
        return self.digest == self.again

    def error(self) -> ProjectionError:
        """Return the error for a table that came out differently."""
        return ProjectionError(
            f"table {self.name} version {self.version} at position {self.position}: expected the content "
            f"digest {self.digest}, as stored, found {self.again} when it was made again. Next: if the "
            f"recipe is a pure function of the events, run `eventstore rebuild {self.name}`; if it was "
            "changed, give it the next version",
            code="not_reproducible",
            projection=self.name,
            version=self.version,
            position=self.position,
        )


def reproduce(
    store: Store,
    names: Iterable[str] | None = None,
    *,
    progress: Progress | None = None,
    registry: ProjectionRegistry = default_projections,
    memory_bytes: int = MEMORY_BYTES,
) -> list[Reproduced]:
    """Make tables again from the log, at the positions of their newest snapshots, and compare the contents.

    Nothing is written into the store.

    Parameters
    ----------
    names
        Tables to check, those without a snapshot are left out; None means all that `registry` knows.

    Raises
    ------
    NotFoundError
        A name is not registered (code ``unknown_projection``).
    ProjectionError
        All snapshots of a table are damaged, or a recipe failed.
    """
    by_position: dict[int, list[tuple[Projection, Snapshot]]] = {}
    for one in registry.select(names):
        snapshot = find_snapshot(store, one)
        if snapshot is not None:
            by_position.setdefault(snapshot.position, []).append((one, snapshot))
    found = []
    for position, group in sorted(by_position.items()):
        with Scratch(store.local_folder / SCRATCH) as scratch:
            again = views_at(
                store,
                [one for one, _ in group],
                position,
                scratch=scratch,
                memory_bytes=memory_bytes,
                from_start=True,
                progress=progress,
            )
            for one, snapshot in group:
                stored = View(one, position, snapshot.parts, None, one.version)
                rows, digest = stored.content()
                found.append(
                    Reproduced(one.name, one.version, position, rows, digest, again[one.name].content()[1])
                )
    return sorted(found, key=lambda one: one.name)
