"""A seeded generator of realistic histories, in the order in which a recorder would append them.

A history of n events is the beginning of every longer history with the same seed, whatever the batch size.
`generate` yields event objects; `generate_tables` lays down the same history as segment tables, which goes
round the door: nothing is validated or journaled. The mix is described, and was measured, in README.md.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator

import pyarrow as pa

from eventstore.codec.rows import Row, table_of
from eventstore.events import Event, default_registry
from eventstore.ids import WriterId
from tools.bench.history import Fact, History

__all__ = ["WRITER", "facts", "generate", "generate_rows", "generate_tables"]

WRITER = WriterId("01kdxe7c000000000000000000")
"""The writer of generated tables."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def facts(size: int, *, seed: int = 0, put: Callable[[bytes], str] | None = None) -> Iterator[Fact]:
    """Yield `size` facts.

    Parameters
    ----------
    size
        How many events; the last execution is cut off where they end.
    put
        Takes the bytes of values above 64 KiB and returns their SHA-256, such as ``store.values.put``;
        None leaves such values out.
    """
    history = History(random.Random(seed), put)
    left = size
    while left > 0:
        facts_of_run = history.execution()
        yield from facts_of_run[:left]
        left -= len(facts_of_run)


def generate(
    size: int, *, seed: int = 0, batch: int = 1000, put: Callable[[bytes], str] | None = None
) -> Iterator[list[Event]]:
    """Yield `size` validated events in lists of `batch`; parameters as of `facts`."""
    events: list[Event] = []
    for model, _, fields in facts(size, seed=seed, put=put):
        moment = fields.get("occurred_at")
        if moment is not None:
            fields["occurred_at"] = _EPOCH + dt.timedelta(microseconds=moment)
        events.append(model(**fields))
        if len(events) == batch:
            yield events
            events = []
    if events:
        yield events


def generate_rows(
    size: int, *, seed: int = 0, batch: int = 200_000, put: Callable[[bytes], str] | None = None
) -> Iterator[list[Row]]:
    """Yield the same history as lists of rows, ready for `table_of`; nothing is validated."""
    types = {event_type.model: event_type for event_type in default_registry}
    blanks = {
        model: {name: info.get_default() for name, info in model.model_fields.items()} for model in types
    }
    rows: list[Row] = []
    for number, (model, recorded_us, fields) in enumerate(facts(size, seed=seed, put=put)):
        event_type = types[model]
        rows.append(
            Row(
                event_type.kind,
                event_type.version,
                event_type.columns,
                blanks[model] | fields,
                number,
                recorded_us,
            )
        )
        if len(rows) == batch:
            yield rows
            rows = []
    if rows:
        yield rows


def generate_tables(
    size: int,
    *,
    seed: int = 0,
    rows_per_table: int = 200_000,
    writer: str = WRITER,
    actor: str | None = "bench",
    software: str | None = "bench/1",
    put: Callable[[bytes], str] | None = None,
) -> Iterator[pa.Table]:
    """Yield the same history as tables of the segment schema, with salts and event hashes."""
    for rows in generate_rows(size, seed=seed, batch=rows_per_table, put=put):
        yield table_of(rows, writer=writer, actor=actor, software=software)
