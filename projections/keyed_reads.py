"""Point reads: the row of a table with a key, in microseconds, from local indexes of its runs.

Each run has an index of its own, made at the first look-up, checked as it is read and made again where it is
damaged. Most keys are in one run alone, whose row is the answer. What newer runs speak of is joined here, for
recipes where that is rows by key; for the others it is read as a scan would read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from eventstore import ProjectionError, StorageError
from eventstore.checked_file import IndexDamagedError
from projections.joined import JoinedProjection
from projections.key_index import Key, KeyIndex, build, open_index
from projections.merge import merge_sorted
from projections.projection import Keep, Projection
from projections.run import Role, Run, read_chunks
from projections.snapshot import Snapshot
from projections.view import View

__all__ = ["KeyedReads"]

logger = logging.getLogger(__name__)

Row = tuple[Any, ...]
Get = Callable[[Row], Row | None]

_UNUSED_SECONDS = 3_600.0
"""Indexes of runs that a table no longer has are removed when they are as old as this."""


class KeyedReads:
    """Look-ups by key in one table as it stands at one position. Threads may share one.

    Parameters
    ----------
    folder
        Where the indexes of this version of the table are, on this machine.
    """

    def __init__(self, view: View, folder: Path) -> None:
        self._view = view
        self._recipe = view.recipe
        self._folder = folder
        self._lock = threading.Lock()
        self._indexes: dict[str, KeyIndex] = {}
        self._columns = tuple(view.recipe.schema)
        self._memory: dict[Row, Row] | None = None
        self._answer: Get | None = None

    def close(self) -> None:
        """Close the indexes."""
        with self._lock:
            self._answer, indexes, self._indexes = None, self._indexes, {}
        for index in indexes.values():
            index.close()

    def get(self, key: Key) -> dict[str, Any] | None:
        """Return the row with this key by column, or None; see `Tables.lookup`."""
        wanted = self._cells(key)
        for _ in range(3):
            answer = self._answer or self._open()
            try:
                row = answer(wanted)
            except IndexDamagedError as error:
                self._set_aside(error)
                continue
            return None if row is None else dict(zip(self._columns, row, strict=True))
        row = self._scanned(wanted)
        return None if row is None else dict(zip(self._columns, row, strict=True))

    def many(self, keys: Iterable[Key]) -> list[dict[str, Any] | None]:
        """Return what `get` gives for each key."""
        return [self.get(key) for key in keys]

    def _cells(self, key: Key) -> Row:
        cells = key if isinstance(key, tuple) else (key,)
        if len(cells) != len(self._recipe.key):
            raise ProjectionError(
                f"a key of {', '.join(self._recipe.key)} was expected for the table {self._recipe.name}, "
                f"found {key!r}; give a tuple of {len(self._recipe.key)}",
                code="bad_key",
                projection=self._recipe.name,
            )
        return cells

    # opening ---------------------------------------------------------------------------------------------

    def _open(self) -> Get:
        """Make the answering function of this table's runs."""
        with self._lock:
            if self._answer is None:
                self._answer = self._make()
                self._remove_unused()
            return self._answer

    def _make(self) -> Get:
        view, recipe = self._view, self._recipe
        if not view.parts:
            return self._from_memory(view.frame().collect(), recipe.key)
        if not isinstance(recipe, JoinedProjection):
            return self._table_index()
        newer = [(snapshot, run) for snapshot, run in view.parts[1:] if run.rows]
        newest = view.newest if view.newest is not None and view.newest.height else None
        if not newer and newest is None:
            return self._table_index()
        if recipe.group != recipe.key or (recipe.first_event_of and recipe.finish is not None):
            return self._evading(recipe, newer, newest)
        if recipe.first_event_of:
            return self._choosing(recipe, newer, newest)
        return self._joining(recipe, newer, newest)

    def _table_index(self) -> Get:
        return self._index(*self._view.parts[0], "table", self._recipe.key).get

    def _joining(
        self, recipe: JoinedProjection, newer: Sequence[tuple[Snapshot, Run]], newest: pl.DataFrame | None
    ) -> Get:
        """Answer by joining the states of all runs that speak of a key."""
        table = self._table_index()
        states: list[Get] = [self._index(*part, "state", recipe.group).get for part in newer]
        if newest is not None:
            states.append(self._from_memory(newest, recipe.group))
        first = table if recipe.finish is None else self._lazily(*self._view.parts[0], recipe.group)
        join, newest_counts = _joiner(recipe), recipe.keeps_row("last")

        def answer(key: Row) -> Row | None:
            found = [row for state in states if (row := state(key)) is not None]
            if not found:
                return table(key)
            before = None if newest_counts else first(key)
            return self._finished(recipe, join([before, *found] if before is not None else found))

        return answer

    def _choosing(
        self, recipe: JoinedProjection, newer: Sequence[tuple[Snapshot, Run]], newest: pl.DataFrame | None
    ) -> Get:
        """Answer from the first run that speaks of the thing which is stated once."""
        table, things = self._table_index(), recipe.together
        in_table = self._lazily(*self._view.parts[0], things)
        layers: list[tuple[Get, Get]] = [
            (self._index(*part, "state", things).get, self._index(*part, "state", recipe.group).get)
            for part in newer
        ]
        if newest is not None:
            memory = self._from_memory(newest, recipe.group)
            layers.append((self._from_memory(newest.select(things).unique(), things), memory))
        width = len(things)

        def answer(key: Row) -> Row | None:
            thing = key[:width]
            for speaks, rows in layers:
                if speaks(thing) is not None:
                    return table(key) if in_table(thing) is not None else rows(key)
            return table(key)

        return answer

    def _lazily(self, snapshot: Snapshot, run: Run, key: Sequence[str]) -> Get:
        """Index the first run's state only when a newer run speaks of something."""

        def get(cells: Row) -> Row | None:
            with self._lock:
                index = self._index(snapshot, run, "state", key)
            return index.get(cells)

        return get

    def _finished(self, recipe: JoinedProjection, state: Row) -> Row | None:
        if recipe.finish is None:
            return state
        frame = pl.DataFrame([state], schema=recipe.state_schema, orient="row")
        table = recipe.table(frame)
        return table.row(0) if table.height else None

    def _evading(
        self, recipe: JoinedProjection, newer: Sequence[tuple[Snapshot, Run]], newest: pl.DataFrame | None
    ) -> Get:
        """Answer from the first run unless a newer one speaks of what is finished together with the key."""
        table = self._table_index()
        spoken: list[Get] = [self._index(*part, "state", recipe.together).get for part in newer]
        if newest is not None:
            spoken.append(self._from_memory(newest.select(recipe.together).unique(), recipe.together))
        width = len(recipe.together)

        def answer(key: Row) -> Row | None:
            if any(one(key[:width]) is not None for one in spoken):
                return self._scanned(key)
            return table(key)

        return answer

    def _scanned(self, key: Row) -> Row | None:
        recipe = self._recipe
        wanted = pl.DataFrame([key], schema={name: recipe.schema[name] for name in recipe.key}, orient="row")
        together = recipe.together if isinstance(recipe, JoinedProjection) else recipe.key
        found = self._view.select(wanted.select(together))
        found = found.join(wanted, on=list(recipe.key), how="semi")
        return found.row(0) if found.height else None

    @staticmethod
    def _from_memory(frame: pl.DataFrame, key: Sequence[str]) -> Get:
        places = [frame.columns.index(name) for name in key]
        rows = {tuple(row[place] for place in places): row for row in frame.iter_rows()}
        return rows.get

    # indexes ---------------------------------------------------------------------------------------------

    def _index(self, snapshot: Snapshot, run: Run, role: Role, key: Sequence[str]) -> KeyIndex:
        """Return the index of a run's rows by `key`; of a shorter key than theirs, of what keys there are."""
        name = f"{run.name}-{role}-{len(key)}"
        known = self._indexes.get(name)
        if known is not None:
            return known
        path = self._folder / f"{name}.index"
        said = [file.sha256 for file in run.of_role(role)]
        identity = hashlib.sha256("\n".join([*said, *key]).encode()).hexdigest()
        index = None
        try:
            index = open_index(path, identity=identity)
        except IndexDamagedError as error:
            logger.warning("%s; it is built anew", error.message)
        if index is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            build(path, _frames(self._recipe, snapshot, run, role, key), key=key, identity=identity)
            index = open_index(path, identity=identity)
        if index is None:
            raise StorageError(
                f"the index {path.name} was expected in {path.parent}, where it was just built, and is not "
                "there; look up again",
                code="index_refused",
                transient=True,
            )
        self._indexes[name] = index
        return index

    def _set_aside(self, error: IndexDamagedError) -> None:
        """Let go of all indexes and delete the damaged one, so that it is built anew."""
        logger.warning("%s; it is built anew", error.message)
        self.close()
        path = error.facts.get("path")
        if path is not None:
            Path(str(path)).unlink(missing_ok=True)

    def _remove_unused(self) -> None:
        used = {run.name for _, run in self._view.parts}
        with contextlib.suppress(OSError):
            for path in self._folder.glob("*.index"):
                old = time.time() - path.stat().st_mtime > _UNUSED_SECONDS
                if old and not any(path.name.startswith(name) for name in used):
                    path.unlink(missing_ok=True)


def _frames(
    recipe: Projection, snapshot: Snapshot, run: Run, role: Role, key: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Yield a run's rows in the order of the key; at least one batch."""
    schema = recipe.schema if role == "table" or recipe.state is None else recipe.state_schema
    whole = recipe.key if role == "table" else recipe.group
    slices = [
        read_chunks(snapshot.storage, recipe, run, files)
        for files in (run.slices("table") if role == "table" else run.slices("state"))
    ]
    yield schema.to_frame().select(key) if len(key) < len(whole) else schema.to_frame()
    for batch in merge_sorted(slices, key=whole, together=key, reduce=lambda rows: rows):
        yield batch if len(key) == len(whole) else batch.select(key).unique(maintain_order=True)


_JOIN: Mapping[Keep, Callable[[list[Any]], Any]] = {
    "any": any,
    "first": lambda cells: cells[0],
    "first_non_null": lambda cells: next((cell for cell in cells if cell is not None), None),
    "last": lambda cells: cells[-1],
    "last_non_null": lambda cells: next((cell for cell in reversed(cells) if cell is not None), None),
    "max": lambda cells: max((cell for cell in cells if cell is not None), default=None),
    "min": lambda cells: min((cell for cell in cells if cell is not None), default=None),
}


def _joiner(recipe: JoinedProjection) -> Callable[[list[Row]], Row]:
    """Return what makes one state of several rows with one key, in the order of their runs."""
    keeps = [_JOIN[column.keep] for column in recipe.state_columns.values()]

    def join(rows: list[Row]) -> Row:
        if len(rows) == 1:
            return rows[0]
        return tuple(keep(list(cells)) for keep, cells in zip(keeps, zip(*rows, strict=True), strict=True))

    return join
