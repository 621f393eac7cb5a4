"""The front of the read side: tables by name, each a lazy frame over its newest snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from eventstore import NotFoundError
from projections.catalog import default_projections
from projections.registry import ProjectionRegistry
from projections.snapshot import Place, Snapshot, find_snapshot

__all__ = ["Tables", "open_tables"]


class Tables(Mapping[str, pl.LazyFrame]):
    """Lazy frames by table name; `position` says up to where all of them have folded the log.

    Raises
    ------
    NotFoundError
        From ``tables[name]``, if that table has no snapshot (code ``no_snapshot``).
    """

    def __init__(self, snapshots: Mapping[str, Snapshot]) -> None:
        self.snapshots: Mapping[str, Snapshot] = dict(snapshots)
        """The snapshot behind each table."""

    @property
    def position(self) -> int:
        """Every table has folded at least the events 0 to position - 1."""
        return min(snapshot.position for snapshot in self.snapshots.values())

    @property
    def positions(self) -> dict[str, int]:
        """Where each table stands."""
        return {name: snapshot.position for name, snapshot in self.snapshots.items()}

    def __getitem__(self, name: str) -> pl.LazyFrame:
        snapshot = self.snapshots.get(name)
        if snapshot is None:
            raise _none([name], f"there are {', '.join(self.snapshots)}")
        return snapshot.scan()

    def __contains__(self, name: object) -> bool:
        return name in self.snapshots

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshots)

    def __len__(self) -> int:
        return len(self.snapshots)


def open_tables(
    store: Place,
    names: Iterable[str] | None = None,
    *,
    registry: ProjectionRegistry = default_projections,
    until: int | None = None,
    verify: bool = True,
) -> Tables:
    """Open the newest whole snapshot of each table.

    Parameters
    ----------
    names
        Tables to open, all of which must have a snapshot; None opens those that have one.
    until
        Only snapshots at this position or before; None means the newest.
    verify
        Compare each file with its SHA-256 first; False looks at presence and size only.

    Raises
    ------
    NotFoundError
        A name is not registered (``unknown_projection``); or a table that was asked for, or every table,
        has no snapshot (``no_snapshot``).
    ProjectionError
        All snapshots of a table are damaged; the code says how.
    """
    asked = registry.select(names)
    found = {one.name: find_snapshot(store, one, until=until, verify=verify) for one in asked}
    snapshots = {name: snapshot for name, snapshot in found.items() if snapshot is not None}
    missing = [name for name in found if name not in snapshots]
    if missing and (names is not None or not snapshots):
        raise _none(missing, "there is none")
    return Tables(snapshots)


def _none(names: list[str], found: str) -> NotFoundError:
    what = " ".join(names)
    return NotFoundError(
        f"a snapshot of {', '.join(names)} was expected, {found}; run `eventstore rebuild`",
        code="no_snapshot",
        projection=what,
    )
