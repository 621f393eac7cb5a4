"""What tests of the index' columns share: batches as the log gives them, and their records both ways."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl
import pyarrow as pa
from tables_kit import frame_of

from eventstore.index.families import BUILDERS, COLUMNS, KEEP, Family, decoded, encoded, key_bytes
from eventstore.index.handle_states import HandleStates
from eventstore.index.log_events import RunRecords, log_events
from eventstore.index.records import Records
from eventstore.log.reader import READ_SCHEMA

BY_FAMILY = {int(family): keep for family, keep in KEEP.items()}

Found = dict[bytes, list[tuple[Any, ...]]]


def batch_of(events: Iterable[Any] | pl.DataFrame) -> pa.RecordBatch:
    """Return events, or a frame of them, as the reader gives them to the index."""
    frame = events if isinstance(events, pl.DataFrame) else frame_of(events)
    schema = pa.schema([field for field in READ_SCHEMA if field.name in ("position", *COLUMNS)])
    table = frame.select(schema.names).to_arrow().cast(schema)
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=schema)


def found_in(records: Records) -> Found:
    """Return what counts by key, decoded."""
    counting = records.settled(BY_FAMILY).between(0, 1 << 32)
    found: Found = {}
    for key, payload in zip(counting.keys.to_pylist(), counting.payloads.to_pylist(), strict=True):
        found.setdefault(key, []).append(decoded(Family(key[-1]), payload))
    return found


def by_columns(*batches: pa.RecordBatch) -> Found:
    """Return the records of a range of the log, by key, as runs get them."""
    records = RunRecords(HandleStates(lambda _: None, lambda _: []))
    for batch in batches:
        records.take(batch)
    return found_in(records.finished())


def one_by_one(*batches: pa.RecordBatch) -> Found:
    """Return the same of one event after another, by the builders that the overlay has."""
    handles = HandleStates(lambda _: None, lambda _: [])
    keys, payloads = [], []
    for batch in batches:
        for place in range(batch.num_rows):
            for events in log_events(batch[place : place + 1]):
                if events.kind not in BUILDERS:
                    for _, fields in events.fields():
                        handles.apply(events.kind, fields)
                    continue
                for _, _, entries in events.entries():
                    keys += [key_bytes(family, key) for family, key, _ in entries]
                    payloads += [encoded(family, record) for family, _, record in entries]
    entries = list(handles.entries())
    keys += [key_bytes(family, key) for family, key, _ in entries]
    payloads += [encoded(family, record) for family, _, record in entries]
    return found_in(Records.of_columns(keys, payloads))
