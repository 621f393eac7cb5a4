"""The fold: events in position order, read once for all tables, become what they add to each table.

Batches are read ahead and split by kind; each table's delta takes those of its kinds. What waits in memory is
spilled when it is more than the memory that is set allows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Protocol, TypeVar

import polars as pl

from eventstore import EventStoreError, ProjectionError
from eventstore.threads import settle
from projections.deltas import Delta, KeyedDelta, ReadState, delta_of
from projections.projection import Projection
from projections.scratch import Scratch

__all__ = ["MEMORY_BYTES", "EventSource", "Progress", "fold_events"]

Progress = Callable[[int, int], None]
"""Called with (events folded, events to fold), after each batch and once at the end."""

MEMORY_BYTES = 1_500_000_000
"""About as much memory as folding takes, unless another limit is given."""

Item = TypeVar("Item")

_BATCH_ROWS = 131_072
_THREADS = 2
_STATE_SHARE = 5
"""States that wait may take this part of the memory; batches and the merge need theirs, and so do copies."""


class EventSource(Protocol):
    """What of a store a fold reads."""

    def ranges(
        self, *, after: int | None = None, until: int | None = None, rows: int = ...
    ) -> list[tuple[int, int]]:
        """Return ``(first, end)`` of ranges of sealed positions to read one after another."""

    def scan(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        tail: bool = False,
    ) -> pl.LazyFrame:
        """Return events in position order, ``position`` first; null in the unsealed tail."""


def fold_events(
    store: EventSource,
    recipes: Sequence[Projection],
    *,
    after: int | None,
    until: int | None,
    scratch: Scratch,
    before: Mapping[str, ReadState] | None = None,
    progress: Progress | None = None,
    batch_rows: int = _BATCH_ROWS,
    memory_bytes: int = MEMORY_BYTES,
) -> dict[str, Delta]:
    """Return what the events in ``(after, until)`` make of each table, by name.

    Parameters
    ----------
    until
        Exclusive end; None means the sealed head and behind it the unsealed tail, numbered onwards.
    before
        What reads the states that recipes go on from; a keyed recipe needs none.
    batch_rows, memory_bytes
        About how many events are in memory at a time, and how much memory is used. The result depends on
        neither.
    """
    _check_inputs(store, recipes)
    start = 0 if after is None else after + 1
    states = before or {}
    deltas = {one.name: delta_of(one, states.get(one.name), start) for one in recipes}
    needs = _needs(recipes)
    bound = memory_bytes // _STATE_SHARE

    def split(batch: pl.DataFrame, kind: str) -> tuple[str, pl.DataFrame]:
        return kind, batch.select(needs[kind]).filter(pl.col("kind") == kind)

    def feed(one: Projection, by_kind: dict[str, pl.DataFrame]) -> None:
        kinds = dict.fromkeys(one.kinds)
        parts = [by_kind[kind].select(one.reads) for kind in kinds if by_kind[kind].height]
        if parts:
            deltas[one.name].add(pl.concat(parts).sort("position") if len(parts) > 1 else parts[0])

    settle()
    with ThreadPoolExecutor(_THREADS) as pool, ThreadPoolExecutor(1) as ahead:
        for batch, end in _ahead(_batches(store, needs, after=after, until=until, rows=batch_rows), ahead):
            by_kind = dict(pool.map(split, repeat(batch), needs))
            list(pool.map(feed, recipes, repeat(by_kind)))
            del batch, by_kind
            if sum(one.size_bytes for one in deltas.values()) > bound:
                list(pool.map(KeyedDelta.spill, _largest(deltas.values(), bound), repeat(scratch)))
            for one in deltas.values():
                one.end = end
            if progress is not None and until is not None:
                progress(end - start, until - start)
    return deltas


def _ahead(items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Item]:
    """Yield items while the next one is being made."""
    coming = pool.submit(next, items, None)
    while (item := coming.result()) is not None:
        coming = pool.submit(next, items, None)
        yield item


def _largest(deltas: Iterable[Delta], bound: int) -> list[KeyedDelta]:
    """Return the largest deltas, which hold three quarters of all that wait."""
    chosen, freed = [], 0
    found = [one for one in deltas if isinstance(one, KeyedDelta)]
    for one in sorted(found, key=lambda one: one.size_bytes, reverse=True):
        chosen.append(one)
        freed += one.size_bytes
        if freed >= bound * 3 // 4:
            break
    return chosen


def _check_inputs(store: EventSource, recipes: Sequence[Projection]) -> None:
    columns = set(store.scan(until=0).collect_schema())
    for one in recipes:
        one.check_inputs(columns)


def _needs(recipes: Sequence[Projection]) -> dict[str, list[str]]:
    """For each kind of event the columns that the recipes read of it."""
    needs: dict[str, set[str]] = {}
    for one in recipes:
        for kind in one.kinds:
            needs.setdefault(kind, set()).update(one.reads)
    return {kind: sorted(columns) for kind, columns in sorted(needs.items())}


def _batches(
    store: EventSource, needs: Mapping[str, Sequence[str]], *, after: int | None, until: int | None, rows: int
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Yield events in position order, and where each batch ends."""
    columns = sorted({column for names in needs.values() for column in names} - {"position"})
    position = after

    def read(kinds: list[str] | None, *, after: int | None, until: int | None) -> pl.DataFrame:
        events = store.scan(after=after, until=until, kinds=kinds, columns=columns, tail=until is None)
        # Rows of many small chunks cost several times as much to sort by kind.
        return events.select("position", *columns).collect().rechunk()

    kinds = list(needs)
    try:
        for first, end in store.ranges(after=after, until=until, rows=rows):
            yield read(kinds, after=first - 1 if first else None, until=end), end
            position = end - 1
        if until is None:
            # Events of other kinds have numbers, too: all tables count alike, as the next seal may.
            tail = _numbered(read(None, after=position, until=None), position)
            if tail.height:
                yield tail, int(tail["position"][-1]) + 1
    except EventStoreError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ProjectionError(
            f"events {0 if position is None else position + 1} and following were expected, but the log "
            f"could not be read ({type(error).__name__}: {error}). Next: run `eventstore verify`",
            code="log_unreadable",
            position=position,
        ) from error


def _numbered(batch: pl.DataFrame, position: int | None) -> pl.DataFrame:
    """Number the events of the tail, which have no position yet, onwards from the last that has one."""
    unplaced = pl.col("position").is_null()
    last = pl.col("position").max().fill_null(-1 if position is None else position)
    onwards = last + unplaced.cum_sum().cast(pl.Int64)
    return batch.with_columns(position=pl.coalesce("position", onwards))
