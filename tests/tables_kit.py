"""What tests of tables share: short hashes and times, events as a frame, and one fold to rows."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from eventstore.codec.rows import Row, fields_of, table_of
from eventstore.events import Event, Registry, default_registry
from eventstore.events.registry import AUDIT_FIELDS
from projections import Projection

_WRITER = "0" * 26


def h(name: str) -> str:
    """Return a hash of 40 hex characters that stands for `name`."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def at(second: int) -> dt.datetime:
    """Return a moment, counted in seconds from one that all tests share."""
    return dt.datetime(2026, 1, 31, 12, 0, tzinfo=dt.UTC) + dt.timedelta(seconds=second)


def frame_of(events: Iterable[Event], *, first: int = 0, registry: Registry | None = None) -> pl.DataFrame:
    """Return events as the log would give them, at positions from `first` on."""
    rows = []
    for number, event in enumerate(events):
        kind = (registry or default_registry).of(event)
        columns = (*kind.columns, *AUDIT_FIELDS)
        rows.append(Row(kind.kind, kind.version, columns, fields_of(kind, event), number, number))
    table = table_of(rows, writer=_WRITER, actor="ada", software="test 1")
    frame = pl.DataFrame(table)
    return frame.insert_column(0, pl.Series("position", range(first, first + len(rows)), pl.Int64))


def erased(frame: pl.DataFrame, position: int) -> pl.DataFrame:
    """Return events with the body of one of them erased: its kind and position stay."""
    kept = ("position", "kind", "version", "writer", "sequence", "recorded_at", "event_hash")
    return frame.with_columns(
        pl.when(pl.col("position") != position).then(pl.col(name)).alias(name)
        for name in frame.columns
        if name not in kept
    )


def table_from(projection: Projection, frame: pl.DataFrame, cuts: Sequence[int] = ()) -> pl.DataFrame:
    """Fold a frame of events that is cut before each of `cuts`, with the state saved at each cut."""
    state = None
    bounds = [0, *sorted(cuts), frame.height]
    for start, end in pairwise(bounds):
        state = projection.fold(state, frame.slice(start, end - start))
    assert state is not None
    return projection.table(state)


def rows_of(projection: Projection, *events: Event) -> list[dict[str, Any]]:
    """Return the table of these events, a mapping for each row, sorted by the key."""
    return table_from(projection, frame_of(events)).to_dicts()
