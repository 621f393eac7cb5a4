"""The front of the read side: tables by name, as fresh as asked or as of any moment, each a lazy frame."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import polars as pl

from eventstore import NotFoundError, ProjectionError
from projections.asof import views_at
from projections.builder import SCRATCH, Store
from projections.catalog import default_projections
from projections.fold import MEMORY_BYTES
from projections.key_index import Key
from projections.keyed_reads import KeyedReads
from projections.projection import Projection
from projections.registry import ProjectionRegistry
from projections.scratch import Scratch
from projections.snapshot import Snapshot, find_older, find_snapshot, list_snapshots
from projections.view import FinishedTable, View

__all__ = ["INDEXES", "Fresh", "Tables", "open_tables", "position_of"]

INDEXES = "indexes"
"""The folder for indexes of tables, in a store's local folder."""

Fresh = Literal["snapshot", "sealed", "tail"]
"""How fresh tables are: as last built; up to the sealed head; or with the unsealed tail behind it."""


class Tables(Mapping[str, pl.LazyFrame]):
    """Lazy frames by table name, all as of one position where that is possible; see `positions`.

    What was folded for these tables alone is kept until `close`, or until neither they nor a lazy frame that
    came from them is used any more.

    Raises
    ------
    NotFoundError
        From ``tables[name]``, if that table was not opened or has no snapshot (code ``no_snapshot``).
    ProjectionError
        From ``tables[name]``, if a file is missing or damaged.
    """

    def __init__(self, views: Mapping[str, View], indexes: Path, scratch: Scratch | None = None) -> None:
        self.views: Mapping[str, View] = dict(views)
        """What is behind each table."""
        self._scratch = scratch
        self._reads = {
            name: KeyedReads(view, indexes / name / f"v{view.version}") for name, view in self.views.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what was folded for these tables, and of their indexes."""
        for reads in self._reads.values():
            reads.close()
        if self._scratch is not None:
            self._scratch.close()

    @property
    def position(self) -> int:
        """Every table has folded at least the events 0 to position - 1."""
        return min(view.position for view in self.views.values())

    @property
    def positions(self) -> dict[str, int]:
        """Where each table stands."""
        return {name: view.position for name, view in self.views.items()}

    @property
    def versions(self) -> dict[str, int]:
        """Which version of its recipe made each table."""
        return {name: view.version for name, view in self.views.items()}

    def __getitem__(self, name: str) -> pl.LazyFrame:
        self._check(name)
        return self.views[name].frame()

    def lookup(self, name: str, key: Key) -> dict[str, Any] | None:
        """Return the row of the table `name` with this key, by column; None if there is none.

        The first look-up in a run of the table makes an index of it on this machine; the next ones, and other
        processes, find their rows in it within microseconds. Of a table that an older version of the recipe
        made (`versions`), key and columns are those of that version.

        Parameters
        ----------
        key
            The value of the key column, or a tuple of the values where there are several.

        Raises
        ------
        NotFoundError
            The table was not opened or has no snapshot (code ``no_snapshot``).
        ProjectionError
            The key has another number or other types of cells (code ``bad_key``); a file is damaged.
        """
        self._check(name)
        return self._reads[name].get(key)

    def lookup_many(self, name: str, keys: Iterable[Key]) -> list[dict[str, Any] | None]:
        """Return what `lookup` gives for each key, in their order."""
        self._check(name)
        return self._reads[name].many(keys)

    def _check(self, name: str) -> None:
        if name not in self.views:
            raise _none([name], f"there are {', '.join(self.views)}")

    def __contains__(self, name: object) -> bool:
        return name in self.views

    def __iter__(self) -> Iterator[str]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)


def open_tables(
    store: Store,
    names: Iterable[str] | None = None,
    *,
    fresh: Fresh = "snapshot",
    at: int | dt.datetime | None = None,
    registry: ProjectionRegistry = default_projections,
    verify: bool = True,
    memory_bytes: int = MEMORY_BYTES,
) -> Tables:
    """Open tables, as fresh as asked or as of a moment. Nothing is written into the store.

    Parameters
    ----------
    names
        Tables to open; None opens all, and with ``fresh="snapshot"`` those that have a snapshot.
    fresh
        ``"snapshot"`` reads what was built last, ``"sealed"`` folds the events up to the sealed head on top
        of it, ``"tail"`` also those that no seal has placed. Own events are in the tail at once.
    at
        A position: what the events 0 to at - 1 made of the tables. Or a time with a zone: what was sealed by
        then. Not together with `fresh`.
    verify
        Compare each file with its SHA-256, once in a process; False looks at presence and size only.
    memory_bytes
        About how much memory folding may use.

    Raises
    ------
    NotFoundError
        A name is not registered (``unknown_projection``); or, with ``fresh="snapshot"``, a table that was
        asked for, or every table, has no snapshot (``no_snapshot``).
    ProjectionError
        All snapshots of a table are damaged, the code says how; a recipe failed; `at` is beyond the sealed
        head (``beyond_head``) or before the first event (``before_first_event``).
    """
    recipes = registry.select(names)
    indexes = store.local_folder / INDEXES
    if at is None and fresh == "snapshot":
        return Tables(_built(store, recipes, all_of_them=names is not None, verify=verify), indexes)
    if at is not None:
        if fresh != "snapshot":
            raise ValueError(f"`at` or `fresh` was expected, found at={at!r} and fresh={fresh!r}; drop one")
        position: int | None = position_of(store, at)
    else:
        position = store.head().size if fresh == "sealed" else None
    scratch = Scratch(store.local_folder / SCRATCH)
    try:
        views = views_at(store, recipes, position, scratch=scratch, memory_bytes=memory_bytes, verify=verify)
    except BaseException:
        scratch.close()
        raise
    return Tables(views, indexes, scratch)


def position_of(store: Store, at: int | dt.datetime) -> int:
    """Return the position of tables as of `at`; parameters and errors as of `open_tables`."""
    head = store.head().size
    if isinstance(at, dt.datetime):
        position = store.position_at(at)
        if not position:
            raise ProjectionError(
                f"a time at which something was sealed was expected, found {at.isoformat()}, which is before "
                "the first event; `eventstore info` says when the history begins",
                code="before_first_event",
                at=at.isoformat(),
            )
        return position
    if not 0 <= at <= head:
        raise ProjectionError(
            f"a position from 0 to the sealed head, {head}, was expected, found {at}; "
            "what is not sealed has none: seal first, or ask for fresh='tail'",
            code="beyond_head",
            position=at,
        )
    return at


def _built(
    store: Store, recipes: Sequence[Projection], *, all_of_them: bool, verify: bool
) -> dict[str, View]:
    """Return what was built last, all at one position where snapshots are there for it."""
    found = {one.name: find_snapshot(store, one, verify=verify) for one in recipes}
    newest = [snapshot.position for snapshot in found.values() if snapshot is not None]
    if newest and min(newest) != max(newest):
        # Someone may be just publishing: what they had before stands at one position.
        for one in recipes:
            snapshot = found[one.name]
            if snapshot is not None and snapshot.position > min(newest):
                found[one.name] = _at(store, one, min(newest), verify=verify) or snapshot
    views = {}
    for one in recipes:
        snapshot = found[one.name]
        if snapshot is not None:
            views[one.name] = View(one, snapshot.position, snapshot.parts, None, one.version)
        elif (older := _older(store, one, verify=verify)) is not None:
            views[one.name] = older
    missing = [one.name for one in recipes if one.name not in views]
    if missing and (all_of_them or not views):
        raise _none(missing, "there is none")
    return views


def _at(store: Store, recipe: Projection, position: int, *, verify: bool) -> Snapshot | None:
    if not any(found == position for found, _ in list_snapshots(store, recipe)):
        return None
    try:
        found = find_snapshot(store, recipe, until=position, verify=verify)
    except ProjectionError:
        return None  # damaged, but there is a newer one
    return found if found is not None and found.position == position else None


def _older(store: Store, recipe: Projection, *, verify: bool) -> View | None:
    """Return what an older version of the recipe made, while the present one is not built yet.

    Its recipe is not known here, so of its runs only the first can be read, which is a finished table, with
    the key and columns that its manifest says.
    """
    for version in range(recipe.version - 1, 0, -1):
        snapshot = find_older(store, replace(recipe, version=version), verify=verify)
        if snapshot is None:
            continue
        try:
            table = FinishedTable.of(snapshot)
        except ProjectionError:
            continue  # damaged, as was not looked for
        run = snapshot.manifest.runs[0]
        return View(table, run.until, ((snapshot, run),), None, version)
    return None


def _none(names: list[str], found: str) -> NotFoundError:
    what = " ".join(names)
    return NotFoundError(
        f"a snapshot of {', '.join(names)} was expected, {found}; run `eventstore rebuild`",
        code="no_snapshot",
        projection=what,
    )
