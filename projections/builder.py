"""Rebuild and refresh: fold what is new of the log into tables, and publish a snapshot of each.

A rebuild begins at the first event and a refresh where the newest snapshot stands; otherwise they are one.
What is new becomes a run of its own, merged with the runs before it while those are not much larger: so each
row is written again a few times in all, however often tables are refreshed. All files of all tables are
written before the first manifest makes one of them visible.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import polars as pl

from eventstore import ProjectionError, StateError, StorageError
from projections.catalog import default_projections
from projections.deltas import Delta, StateDelta
from projections.fold import MEMORY_BYTES, EventSource, Progress, fold_events
from projections.joined import JoinedProjection
from projections.merge import merge_sorted
from projections.projection import Projection
from projections.registry import ProjectionRegistry
from projections.run import Place, Run, RunWriter, read_chunks
from projections.scratch import Scratch
from projections.snapshot import Head, Log, Snapshot, find_snapshot, publish
from projections.view import whole_state

__all__ = ["SCRATCH", "Head", "Merge", "Store", "advance_delta", "rebuild", "refresh"]

logger = logging.getLogger(__name__)

SCRATCH = "scratch"
"""The folder for temporary files, in a store's local folder."""

Merge = Literal["all", "tiers"]
"""Which runs a refresh merges: all, so that files by path are the table; or by size, at the cost of what is
new."""

_TIER = 4
"""A run is merged with the next when it has less than so many times its rows."""
_THREADS = 2


class Store(Log, EventSource, Protocol):
    """What of a store building needs; `eventstore.EventStore` has it."""

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written."""

    @property
    def local_folder(self) -> Path:
        """A folder of this machine for what can be made again."""

    def head(self) -> Head:
        """Return the newest sealed state."""

    def position_at(self, moment: dt.datetime) -> int:
        """Return how many events were sealed at a moment."""


def rebuild(
    store: Store,
    names: Iterable[str] | None = None,
    *,
    progress: Progress | None = None,
    registry: ProjectionRegistry = default_projections,
    memory_bytes: int = MEMORY_BYTES,
) -> dict[str, Snapshot]:
    """Fold the sealed log from its first event and publish a snapshot of each table.

    Parameters
    ----------
    names
        Tables to build; None means all that `registry` knows.
    memory_bytes
        About how much memory may be used; what does not fit goes to temporary files of this machine.

    Returns
    -------
    The new snapshots by name; all stand at the same position.

    Raises
    ------
    NotFoundError
        A name is not registered (code ``unknown_projection``).
    StateError
        The store is read-only (code ``read_only``).
    ProjectionError
        A recipe failed, or the log could not be read; no snapshot was published.
    StorageError
        The storage refused. Each table stands whole, some perhaps at the new position already.
    """
    recipes = registry.select(names)
    _check_writable(store)
    head = store.head()
    newest = {one.name: _newest(store, one) for one in recipes}
    return _advance(
        store,
        recipes,
        dict.fromkeys(newest),
        newest,
        head,
        progress,
        merge="all",
        memory_bytes=memory_bytes,
    )


def refresh(
    store: Store,
    names: Iterable[str] | None = None,
    *,
    merge: Merge = "tiers",
    progress: Progress | None = None,
    registry: ProjectionRegistry = default_projections,
    memory_bytes: int = MEMORY_BYTES,
) -> dict[str, Snapshot]:
    """Bring tables up to the sealed head, folding only what is new since their newest snapshots.

    A table without a whole snapshot is rebuilt. Parameters, results and errors are those of `rebuild`, and:

    Parameters
    ----------
    merge
        ``"tiers"`` costs what is new; ``"all"`` writes each table anew, so that its files by path are it.
    """
    recipes = registry.select(names)
    _check_writable(store)
    for _ in recipes:
        try:
            return _refresh(store, recipes, merge, progress, memory_bytes)
        except ProjectionError as error:
            if error.code not in _DAMAGE:
                raise
            # What is damaged is made anew from the log; the others then go on from where they stand.
            logger.warning("%s; it is built anew", error.message)
            name = str(error.facts["projection"])
            rebuild(store, [name], progress=progress, registry=registry, memory_bytes=memory_bytes)
    return _refresh(store, recipes, merge, progress, memory_bytes)


def _refresh(
    store: Store, recipes: Sequence[Projection], merge: Merge, progress: Progress | None, memory_bytes: int
) -> dict[str, Snapshot]:
    head = store.head()
    bases = {one.name: _newest(store, one) for one in recipes}
    fresh: dict[str, Snapshot] = {}
    stale = []
    for one in recipes:
        base = bases[one.name]
        if base is None or base.position < head.size or (merge == "all" and not base.manifest.is_whole):
            stale.append(one)
        else:
            fresh[one.name] = base
    made = _advance(store, stale, bases, bases, head, progress, merge=merge, memory_bytes=memory_bytes)
    return {one.name: (fresh | made)[one.name] for one in recipes}


_DAMAGE = {"missing_file", "wrong_size", "wrong_digest"}
"""Codes of errors that say that a file of a table is not what it was."""


def _check_writable(store: Store) -> None:
    if store.read_only:
        raise StateError(
            "the store was opened with read_only=True and tables are written into it: open it again without",
            code="read_only",
        )


def _newest(store: Store, recipe: Projection) -> Snapshot | None:
    """Return the newest whole snapshot; None where there is none or all are damaged, which is told."""
    try:
        found = find_snapshot(store, recipe, verify=False)
    except ProjectionError as error:
        logger.warning("%s; it is built anew", error.message)
        return None
    for passed in found.set_aside if found else ():
        logger.warning("%s; an older one serves", passed.message)
    return found


def _advance(
    store: Store,
    recipes: Sequence[Projection],
    bases: Mapping[str, Snapshot | None],
    newest: Mapping[str, Snapshot | None],
    head: Head,
    progress: Progress | None,
    *,
    merge: Merge,
    memory_bytes: int,
) -> dict[str, Snapshot]:
    """Fold what is new behind `bases` and publish; `newest` are what the new snapshots replace."""
    position = head.size
    groups: dict[int, list[Projection]] = {}
    for one in recipes:
        base = bases[one.name]
        groups.setdefault(base.position if base else 0, []).append(one)
    work = _Work(sum(position - start for start in groups), progress)
    made: dict[str, Sequence[Run]] = {}
    written: dict[str, RunWriter] = {}
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(Scratch(store.local_folder / SCRATCH))
        # What no manifest may name yet does not stay, unless all comes to its end.
        stack.callback(_discard, written)
        for start, group in sorted(groups.items()):
            deltas = fold_events(
                store,
                group,
                after=start - 1 if start else None,
                until=position,
                scratch=scratch,
                before={
                    one.name: partial(whole_state, one, base.parts)
                    for one in group
                    if (base := bases[one.name]) is not None
                },
                progress=work.part(position - start),
                memory_bytes=memory_bytes,
            )

            def write(one: Projection, deltas: dict[str, Delta] = deltas) -> None:
                # A delta is given away, so that its memory is free when its files are written.
                delta = deltas.pop(one.name)
                made[one.name] = _write(store, one, bases[one.name], delta, position, merge, written)

            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(write, sorted(group, key=lambda one: one.name)))
        snapshots = {}
        for one in recipes:
            # From here on a manifest may be visible, even if its storage says that it failed.
            written.pop(one.name, None)
            snapshots[one.name] = publish(store, one, head, made[one.name], newest[one.name])
    return snapshots


def _discard(written: Mapping[str, RunWriter]) -> None:
    for one in written.values():
        with contextlib.suppress(StorageError):
            one.discard()


class _Work:
    """Progress over several folds."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def part(self, events: int) -> Progress | None:
        progress, before = self._progress, self._done
        self._done += events
        if progress is None:
            return None
        return lambda done, _all: progress(before + done, self._total)


def _write(
    store: Store,
    recipe: Projection,
    base: Snapshot | None,
    delta: Delta,
    position: int,
    merge: Merge,
    written: dict[str, RunWriter],
) -> list[Run]:
    """Write what is new, merged with the runs that it should be merged with; returns all runs then."""
    runs = list(base.manifest.runs) if base else []
    if delta.empty and runs and (merge == "tiers" or len(runs) == 1):
        return runs
    keep = _kept(runs, delta) if merge == "tiers" else 0
    first = runs[keep].first if keep < len(runs) else base.position if base else 0
    writer = RunWriter(store, recipe, first=first, until=position)
    written[recipe.name] = writer
    for state in advance_delta(store, recipe, runs[keep:], delta):
        writer.add(state)
    return [*runs[:keep], writer.close()]


def _kept(runs: Sequence[Run], delta: Delta) -> int:
    """Return how many runs stay as they are: those that are much larger than all that comes behind them."""
    if isinstance(delta, StateDelta):
        return 0
    rows, keep = delta.rows, len(runs)
    while keep and runs[keep - 1].rows < _TIER * rows:
        keep -= 1
        rows += runs[keep].rows
    return keep


def advance_delta(
    store: Place, recipe: Projection, runs: Sequence[Run], delta: Delta
) -> Iterator[pl.DataFrame]:
    """Yield the state after runs and what came behind them, in key order."""
    if not isinstance(recipe, JoinedProjection):
        for sequence in delta.sequences():
            yield from sequence
        return
    yield from merge_sorted(
        [
            *(
                read_chunks(store.storage, recipe, run, files)
                for run in runs
                for files in run.slices("state")
            ),
            *delta.sequences(),
        ],
        key=recipe.group,
        together=recipe.together,
        reduce=recipe.reduce_sorted,
    )
