"""Tables at any position: the newest runs that end before it, and behind them the events up to it.

What was built is used as far as it reaches, so an answer near a snapshot costs the events in between. What is
folded for one reader stays in memory if it is small, else in scratch files that live as long as the reader.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from eventstore import NotFoundError, ProjectionError, Storage
from projections.builder import Store, advance_delta
from projections.deltas import Delta, StateDelta
from projections.fold import Progress, fold_events
from projections.manifest import Manifest, columns_of, made_by
from projections.projection import Projection
from projections.run import Run, RunWriter
from projections.scratch import Scratch
from projections.snapshot import Snapshot, list_snapshots, open_snapshot
from projections.view import View, whole_state

__all__ = ["views_at"]

logger = logging.getLogger(__name__)

_MEMORY_ROWS = 250_000
"""Rows of a folded state that stay in memory; more go to scratch files."""


@dataclass(frozen=True, slots=True)
class _Start:
    """Runs that say all of a table up to `position`."""

    position: int
    parts: tuple[tuple[Snapshot, Run], ...]


def views_at(
    store: Store,
    recipes: Sequence[Projection],
    position: int | None,
    *,
    scratch: Scratch,
    memory_bytes: int,
    verify: bool = True,
    from_start: bool = False,
    progress: Progress | None = None,
) -> dict[str, View]:
    """Return each table as of `position`: what the events 0 to position - 1 made of it.

    Parameters
    ----------
    position
        None means the sealed head and, behind it, the unsealed tail.
    scratch
        Where what does not fit into memory is kept; it must live as long as the views.
    from_start
        Use nothing that was built before.
    """
    starts = {
        one.name: _Start(0, ()) if from_start else _start(store, one, position, verify=verify)
        for one in recipes
    }
    by_start: dict[int, list[Projection]] = {}
    for one in recipes:
        by_start.setdefault(starts[one.name].position, []).append(one)
    views: dict[str, View] = {}
    for start, group in sorted(by_start.items()):
        deltas = fold_events(
            store,
            group,
            after=start - 1 if start else None,
            until=position,
            scratch=scratch,
            before={
                one.name: partial(whole_state, one, parts)
                for one in group
                if (parts := starts[one.name].parts)
            },
            progress=progress,
            memory_bytes=memory_bytes,
        )
        for one in group:
            views[one.name] = _view(store, one, starts[one.name], deltas[one.name], position, scratch)
    return views


def _start(store: Store, recipe: Projection, position: int | None, *, verify: bool) -> _Start:
    """Return the runs that reach furthest without going beyond `position`."""
    best = _Start(0, ())
    for named in list_snapshots(store, recipe):
        try:
            snapshot = open_snapshot(store, recipe, *named)
        except NotFoundError:
            continue
        except ProjectionError as error:
            logger.warning("%s; it is passed over", error.message)
            continue
        found = _reach(snapshot, position)
        if found is None or found.position <= best.position:
            continue
        try:
            for part, run in found.parts if verify else ():
                part.check_run(run)
        except ProjectionError as error:
            logger.warning("%s; it is passed over", error.message)
            continue
        best = found
    return best


def _reach(snapshot: Snapshot, position: int | None) -> _Start | None:
    runs = [run for run in snapshot.manifest.runs if position is None or run.until <= position]
    if not runs:
        return None
    later = snapshot.manifest.runs[len(runs) :]
    # Between two runs nothing happened to the table: what it is at the one's end it is up to the next.
    end = later[0].first if later else snapshot.position
    reached = end if position is None else min(end, position)
    return _Start(reached, tuple((snapshot, run) for run in runs))


def _view(
    store: Store,
    recipe: Projection,
    start: _Start,
    delta: Delta,
    position: int | None,
    scratch: Scratch,
) -> View:
    end = delta.end if position is None else position
    if delta.empty and start.parts:
        return View(recipe, end, start.parts, None, recipe.version)
    if isinstance(delta, StateDelta):
        return View(recipe, end, (), delta.state(), recipe.version)
    if delta.rows <= _MEMORY_ROWS:
        return View(recipe, end, start.parts, delta.frame(), recipe.version)
    place = _ScratchPlace(scratch.storage(), store.store_id)
    writer = RunWriter(place, recipe, first=start.position if start.parts else 0, until=end)
    for state in advance_delta(place, recipe, [], delta):
        writer.add(state)
    run = writer.close()
    snapshot = Snapshot(recipe, _manifest(store, recipe, end, run), 0, place.storage, keeper=scratch)
    return View(recipe, end, (*start.parts, (snapshot, run)), None, recipe.version)


@dataclass(frozen=True, slots=True)
class _ScratchPlace:
    storage: Storage
    store_id: str


def _manifest(store: Store, recipe: Projection, position: int, run: Run) -> Manifest:
    return Manifest(
        projection=recipe.name,
        version=recipe.version,
        position=position,
        seal=0,
        seal_digest="",
        store_id=store.store_id,
        key=recipe.key,
        columns=columns_of(recipe),
        runs=(run,),
        retired=(),
        made_at=dt.datetime.now(dt.UTC).isoformat(),
        made_by=made_by(),
    )
