"""Events to rows of the columns and back: the step between typed events and Arrow.

A `Row` keeps what the log adds to an event until a segment is built. `table_of` builds all columns kind by
kind, so a column that a kind does not fill costs nothing for its rows.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.codec.canonical import kind_hashes
from eventstore.codec.payload import dump_json, dump_model, load_json
from eventstore.codec.schema import BODY_COLUMNS, HEADER_COLUMNS, SCHEMA, TIME
from eventstore.codec.upcast import upcast_fields
from eventstore.errors import InvalidEventError
from eventstore.events.envelope import Event, RecordedEvent
from eventstore.events.registry import AUDIT_FIELDS, SHARED_COLUMNS, EventType, Registry
from eventstore.hashing import SALT_BYTES
from eventstore.ids import EventId, Position, WriterId

__all__ = ["Row", "fields_of", "recorded_events", "table_of"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NEAR = 128


class Row(NamedTuple):
    """One event on its way into a segment. `fields` maps body columns to Python values (None: absent);
    times are datetimes or integer microseconds.
    """

    kind: str
    version: int
    columns: tuple[str, ...]
    fields: Mapping[str, Any]
    sequence: int
    recorded_us: int


def fields_of(event_type: EventType, event: Event) -> Mapping[str, Any]:
    """Return an event as body columns: its own fields, or shared columns and a JSON payload.

    Raises
    ------
    InvalidEventError
        A field of a user's kind holds what JSON cannot (code ``not_json``).
    """
    if event_type.built_in:
        return event.__dict__
    columns = (*AUDIT_FIELDS, *SHARED_COLUMNS)
    row = {name: value for name, value in event.__dict__.items() if name in columns}
    own = event.__dict__.keys() - row.keys()
    row["payload"] = dump_model(event, own).decode() if own else "{}"
    return row


def table_of(rows: Sequence[Row], *, writer: str, actor: str | None, software: str | None) -> pa.Table:
    """Build the table of a segment: all columns with salts and event hashes, rows in the given order.

    `actor` and `software` stand where an event does not say its own, and the time of recording where it
    does not say when it occurred.
    """
    count = len(rows)
    kinds, versions, filled, all_fields, sequences, times = _transposed(6, rows)
    groups: dict[tuple[str, int, tuple[str, ...]], list[int]] = {}
    for place, key in enumerate(zip(kinds, versions, filled, strict=True)):
        if key in groups:
            groups[key].append(place)
        else:
            groups[key] = [place]
    salts = pa.py_buffer(os.urandom(SALT_BYTES * count))
    header: dict[str, pa.Array] = {
        "sequence": pa.array(sequences, pa.int64()),
        "recorded_at": pa.array(times, pa.int64()).cast(TIME),
        "salt": pa.FixedSizeBinaryArray.from_buffers(pa.binary(SALT_BYTES), count, [None, salts]),
    }
    common = {"writer": pa.scalar(writer, pa.string())}
    if software is not None:
        common["software"] = pa.scalar(software, pa.string())
    parts: list[dict[str, pa.Array]] = []
    hashes: list[bytes] = []
    for (kind, version, columns), places in groups.items():
        part = header
        if len(groups) > 1:
            chosen = pa.array(places, pa.int64())
            part = {name: column.take(chosen) for name, column in header.items()}
        said = {"kind": pa.scalar(kind, pa.string()), "version": pa.scalar(version, pa.int32())}
        fields = [all_fields[place] for place in places]
        body = _body_columns(columns, fields, part["recorded_at"], actor)
        # Hashed while the rows of a kind are together, so that nothing is taken apart again.
        hashes += kind_hashes({**part, **body, **said, **common})
        parts.append(body)
    order = None
    if len(groups) > 1:
        order = pc.sort_indices(pa.array(list(chain.from_iterable(groups.values())), pa.int64()))
    leaves = pa.py_buffer(b"".join(hashes))
    grouped = {"event_hash": pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), count, [None, leaves])}
    sizes = [len(places) for places in groups.values()]
    for name in BODY_COLUMNS:
        if any(name in part for part in parts):
            grouped[name] = _joined([part.get(name) for part in parts], sizes, SCHEMA.field(name).type)
    made = {
        **header,
        "kind": pa.array(kinds, pa.string()),
        "version": pa.array(versions, pa.int32()),
        **{name: column if order is None else column.take(order) for name, column in grouped.items()},
        **{name: pa.repeat(scalar, count) for name, scalar in common.items()},
    }
    return pa.Table.from_arrays(
        [made[field.name] if field.name in made else pa.nulls(count, field.type) for field in SCHEMA],
        schema=SCHEMA,
    )


def _joined(parts: Sequence[pa.Array | None], sizes: Sequence[int], kind: pa.DataType) -> pa.Array:
    return pa.concat_arrays(
        [pa.nulls(size, kind) if part is None else part for part, size in zip(parts, sizes, strict=True)]
    )


def _body_columns(
    columns: tuple[str, ...], fields: Sequence[Mapping[str, Any]], recorded_at: pa.Array, actor: str | None
) -> dict[str, pa.Array]:
    """The columns that some of the rows fill, for rows of one kind."""
    made = {}
    for name, cells in _cells((*columns, *AUDIT_FIELDS), fields).items():
        array = _array(cells, SCHEMA.field(name).type)
        if name == "occurred_at":
            array = recorded_at if array.null_count == len(array) else pc.coalesce(array, recorded_at)
        elif name == "actor" and actor is not None:
            array = pc.fill_null(array, actor) if array.null_count else array
        if array.null_count < len(array):
            made[name] = array
    return made


def _cells(names: Sequence[str], fields: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn mappings into one list a name; what a mapping does not have is None."""
    unique = tuple(dict.fromkeys(names))
    try:
        columns = _transposed(len(unique), map(itemgetter(*unique), fields))
    except KeyError:
        columns = _transposed(len(unique), (tuple(map(each.get, unique)) for each in fields))
    return dict(zip(unique, columns, strict=True))


def _transposed(width: int, tuples: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn tuples of `width` members into `width` lists.

    A few tuples at a time, so that each is still in the processor's cache when its next member is read.
    """
    columns: list[list[Any]] = [[] for _ in range(width)]
    left = iter(tuples)
    while near := list(islice(left, _NEAR)):
        for column, more in zip(columns, zip(*near, strict=True), strict=True):
            column += more
    return columns


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        spans = [value if value is None or value.__class__ is int else value - _EPOCH for value in values]
        return pa.array(spans, pa.duration("us")).cast(pa.int64()).cast(kind)
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return _list_array(values, kind)
    return pa.array(values, kind)


def _list_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Lists of structs, built member by member: several times faster than through dicts."""
    offsets: list[int | None] = []
    items: list[Any] = []
    for value in values:
        offsets.append(None if value is None else len(items))
        if value is not None:
            items.extend(value)
    struct = kind.value_type
    dicts = [item if isinstance(item, Mapping) else item.__dict__ for item in items]
    cells = _cells([field.name for field in struct], dicts)
    members = [pa.array(cells[field.name], field.type) for field in struct]
    child = pa.StructArray.from_arrays(members, fields=list(struct))
    return pa.ListArray.from_arrays(pa.array([*offsets, len(items)], pa.int32()), child, type=kind)


def recorded_events(batch: pa.RecordBatch, registry: Registry) -> Iterator[RecordedEvent]:
    """Yield the rows of a batch as typed events, brought up to today's versions.

    Rows of kinds that `registry` does not know, rows whose body was erased, and rows that today's model
    refuses carry a plain mapping.
    """
    names = [name for name in batch.schema.names if batch.column(name).null_count < len(batch)]
    for row in batch.select(names).to_pylist():
        header = {name: row.pop(name, None) for name in HEADER_COLUMNS}
        position = row.pop("position", None)
        fields = {name: value for name, value in row.items() if value is not None}
        software = fields.pop("software", None)
        event_type = registry.get(header["kind"])
        event: Event | Mapping[str, Any] = fields
        version = header["version"]
        if event_type is not None and header["body_digest"] is None and version <= event_type.version:
            # A model that has grown stricter under the same version must not hide what was recorded.
            with contextlib.suppress(InvalidEventError):
                event = _event(event_type, version, dict(fields))
                version = event_type.version
        yield RecordedEvent(
            id=EventId(WriterId(header["writer"]), header["sequence"]),
            position=None if position is None else Position(position),
            kind=header["kind"],
            version=version,
            recorded_at=header["recorded_at"].astimezone(dt.UTC),
            software=software,
            event_hash=header["event_hash"],
            event=event,
        )


def _event(event_type: EventType, version: int, fields: dict[str, Any]) -> Event:
    if not event_type.built_in:
        payload = fields.pop("payload", None)
        fields = {**fields, **(load_json(payload, where="payload") if payload else {})}
    fields = upcast_fields(event_type, version, fields)
    if event_type.built_in:
        fields = {name: _dense(value) for name, value in fields.items()}
        return event_type.model(**fields)
    return event_type.model.from_json(dump_json(fields))


def _dense(value: Any) -> Any:
    """Drop the nulls that Arrow puts into structs."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [{k: v for k, v in item.items() if v is not None} for item in value]
    return value
