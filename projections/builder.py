"""Rebuild: fold the sealed log into tables in one pass, batch by batch, and publish a snapshot of each.

The log is read once for all tables, with the columns that they need; each batch is split by kind and handed
to the recipes. A snapshot stands at the sealed head that the rebuild saw when it began.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Protocol

import polars as pl

from eventstore import EventStoreError, ProjectionError, StateError, Storage
from projections.catalog import default_projections
from projections.projection import Projection
from projections.registry import ProjectionRegistry
from projections.snapshot import Snapshot, publish

__all__ = ["Head", "Log", "Progress", "fold_log", "rebuild"]

Progress = Callable[[int, int], None]
"""Called with (events folded, events to fold), after each batch and once at the end."""

_BATCH_ROWS = 250_000
_THREADS = 2


class Head(Protocol):
    """The newest sealed state of the log."""

    @property
    def size(self) -> int:
        """Number of sealed events."""


class Log(Protocol):
    """What of a store a rebuild needs; `eventstore.store.EventStore` has it."""

    @property
    def storage(self) -> Storage:
        """Where snapshots are kept."""

    @property
    def store_id(self) -> str:
        """Which store this is."""

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written."""

    def head(self) -> Head:
        """Return the newest sealed state."""

    def scan(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
    ) -> pl.LazyFrame:
        """Return sealed events in position order, ``position`` first."""


def rebuild(
    store: Log,
    names: Iterable[str] | None = None,
    *,
    progress: Progress | None = None,
    registry: ProjectionRegistry = default_projections,
) -> dict[str, Snapshot]:
    """Fold the sealed log from its first event and publish a snapshot of each table.

    Parameters
    ----------
    names
        Tables to build; None means all that `registry` knows.

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
    """
    projections = registry.select(names)
    if store.read_only:
        raise StateError(
            "the store was opened with read_only=True and a rebuild writes snapshots: open it again without",
            code="read_only",
        )
    position = store.head().size
    states = fold_log(store, projections, until=position, progress=progress)

    # Frames are given away as they are used up: a table and its state need not be held to the end.
    def finish(one: Projection) -> pl.DataFrame:
        return one.table(states.pop(one.name) if one.finish is None else states[one.name])

    def save(one: Projection) -> Snapshot:
        return publish(store, one, position, tables.pop(one.name), states.pop(one.name, None))

    built = [one.name for one in projections]
    with ThreadPoolExecutor(_THREADS) as pool:
        # All recipes finish before the first snapshot is published: a failure leaves nothing half done.
        tables = dict(zip(built, pool.map(finish, projections), strict=True))
        return dict(zip(built, pool.map(save, projections), strict=True))


def fold_log(
    store: Log,
    projections: Sequence[Projection],
    *,
    until: int,
    progress: Progress | None = None,
    batch_rows: int = _BATCH_ROWS,
) -> dict[str, pl.DataFrame]:
    """Return each recipe's state after the events 0 to `until` - 1, by name.

    Parameters
    ----------
    batch_rows
        About how many events are in memory at a time; the result does not depend on it.
    """
    _check_inputs(store, projections)
    folds = {one.name: one.begin() for one in projections}
    needs = _needs(projections)

    def split(batch: pl.DataFrame, kind: str) -> tuple[str, pl.DataFrame]:
        return kind, batch.select(needs[kind]).filter(pl.col("kind") == kind)

    def feed(one: Projection, by_kind: dict[str, pl.DataFrame]) -> None:
        parts = [by_kind[kind].select(one.reads) for kind in one.kinds if by_kind[kind].height]
        if parts:
            folds[one.name].add(pl.concat(parts).sort("position") if len(parts) > 1 else parts[0])

    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in _batches(store, needs, until=until, batch_rows=batch_rows):
            by_kind = dict(pool.map(split, repeat(batch), needs))
            list(pool.map(feed, projections, repeat(by_kind)))
            if progress is not None and batch.height:
                progress(int(batch["position"][-1]) + 1, until)
        made = {name: pool.submit(fold.state) for name, fold in folds.items()}
        states = {name: state.result() for name, state in made.items()}
    if progress is not None:
        progress(until, until)
    return states


def _check_inputs(store: Log, projections: Sequence[Projection]) -> None:
    columns = set(store.scan(until=0).collect_schema())
    for one in projections:
        one.check_inputs(columns)


def _needs(projections: Sequence[Projection]) -> dict[str, list[str]]:
    """For each kind of event the columns that the recipes read of it."""
    needs: dict[str, set[str]] = {}
    for one in projections:
        for kind in one.kinds:
            needs.setdefault(kind, set()).update(one.reads)
    return {kind: sorted(columns) for kind, columns in sorted(needs.items())}


def _batches(
    store: Log, needs: Mapping[str, Sequence[str]], *, until: int, batch_rows: int
) -> Iterator[pl.DataFrame]:
    columns = sorted({column for names in needs.values() for column in names} - {"position"})
    if not needs or not until:
        return
    try:
        events = store.scan(kinds=list(needs), until=until, columns=columns).select("position", *columns)
        yield from events.collect_batches(chunk_size=batch_rows, maintain_order=True)
    except EventStoreError:
        raise
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ProjectionError(
            f"events 0 to {until - 1} were expected, but the log could not be read "
            f"({type(error).__name__}: {error}). Next: run `eventstore verify`",
            code="log_unreadable",
            position=until,
        ) from error
