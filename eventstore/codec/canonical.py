"""The canonical bytes of events, and their hashes from them, in bulk over Arrow columns.

A header and a body are bencoded maps of the fields that are not null, so they do not depend on Parquet,
on column order, or on columns that are added later. docs/format.md, section "Event hash", is the law;
`eventstore.hashing.bencode` gives the same bytes one event at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.codec.schema import BODY_COLUMNS

__all__ = ["event_hashes"]

_BINARY = pa.binary()
_BULK_BYTES = 256 * 1024 * 1024


def event_hashes(table: pa.Table) -> list[bytes]:
    """Recompute the hashes of all rows of a table with the columns of a segment, in row order.

    The stored ``event_hash`` is not looked at. Rows whose body was erased enter by ``body_digest``.
    """
    if table.num_rows > 1 and table.nbytes > _BULK_BYTES:
        half = table.num_rows // 2
        return event_hashes(table.slice(0, half)) + event_hashes(table.slice(half))
    table = table.combine_chunks()
    if not table.num_rows:
        return []
    used = [name for name in table.column_names if table[name].null_count < table.num_rows]
    table = table.select(used)
    kinds = table["kind"].unique().to_pylist()
    if len(kinds) == 1:
        return _hashes_of_kind(table)
    hashes: list[bytes] = [b""] * table.num_rows
    for kind in kinds:
        rows = pc.indices_nonzero(pc.equal(table["kind"], kind))
        for row, digest in zip(
            rows.to_pylist(), _hashes_of_kind(table.take(rows).combine_chunks()), strict=True
        ):
            hashes[row] = digest
    return hashes


def _hashes_of_kind(table: pa.Table) -> list[bytes]:
    sha256 = hashlib.sha256
    if "salt" in table.column_names:
        pieces = [_constant(b"\x02"), _column(table, "salt").cast(_BINARY), _constant(b"d")]
        for name in BODY_COLUMNS:
            if name in table.column_names and table[name].null_count < table.num_rows:
                pieces.extend(_field(name, _column(table, name)))
        pieces.append(_constant(b"e"))
        digests = [sha256(raw).digest() for raw in _join(pieces, table.num_rows).to_pylist()]
    else:
        digests = [b""] * table.num_rows
    if "body_digest" in table.column_names:
        erased = table["body_digest"].to_pylist()
        digests = [kept or digest for kept, digest in zip(erased, digests, strict=True)]
    pieces = [_constant(b"\x00d11:body_digest32:"), pa.array(digests, _BINARY)]
    for name in ("kind", "recorded_at", "sequence", "version", "writer"):
        pieces.extend(_field(name, _column(table, name)))
    pieces.append(_constant(b"e"))
    return [sha256(raw).digest() for raw in _join(pieces, table.num_rows).to_pylist()]


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _constant(raw: bytes) -> pa.Scalar:
    return pa.scalar(raw, _BINARY)


def _join(pieces: Sequence[pa.Array | pa.Scalar], rows: int) -> pa.Array:
    """Concatenate pieces row by row; a null piece adds nothing."""
    merged: list[pa.Array | pa.Scalar] = []
    for piece in pieces:
        if isinstance(piece, pa.Scalar) and merged and isinstance(merged[-1], pa.Scalar):
            merged[-1] = _constant(merged[-1].as_py() + piece.as_py())
        else:
            merged.append(piece)
    if not any(isinstance(piece, pa.Array) for piece in merged):
        return pa.array([b"".join(piece.as_py() for piece in merged)] * rows, _BINARY)
    return pc.binary_join_element_wise(*merged, _constant(b""), null_handling="replace", null_replacement=b"")


def _field(name: str, column: pa.Array) -> list[pa.Array | pa.Scalar]:
    """The pieces of one map entry: key and value, or nothing where the column is null."""
    key = _constant(b"%d:%b" % (len(name), name.encode()))
    pieces = [key, *_encoded(column)]
    if not column.null_count:
        return pieces
    return [_where_valid(_join(pieces, len(column)), column)]


def _where_valid(encoded: pa.Array, column: pa.Array) -> pa.Array:
    return pc.if_else(column.is_valid(), encoded, pa.scalar(None, _BINARY))


def _encoded(column: pa.Array) -> list[pa.Array | pa.Scalar]:
    """The pieces that together are the bencode of each item; where an item is null they are arbitrary."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return [_constant(b"i"), _decimal(column.cast(pa.int8())), _constant(b"e")]
    if pa.types.is_timestamp(kind) or pa.types.is_integer(kind):
        return [_constant(b"i"), _decimal(column.cast(pa.int64())), _constant(b"e")]
    if pa.types.is_list(kind):
        return [_constant(b"l"), _encoded_items(column), _constant(b"e")]
    if pa.types.is_struct(kind):
        pieces: list[pa.Array | pa.Scalar] = [_constant(b"d")]
        for member, values in zip(kind, column.flatten(), strict=True):
            if len(values) and values.null_count == len(values):
                continue
            pieces.extend(_field(member.name, values))
        return [*pieces, _constant(b"e")]
    raw = column.cast(_BINARY)
    lengths = pc.binary_length(raw)
    extremes = pc.min_max(lengths)
    if extremes["min"].as_py() == extremes["max"].as_py() is not None:
        return [_constant(b"%d:" % extremes["min"].as_py()), raw]
    return [_decimal(lengths), _constant(b":"), raw]


def _decimal(numbers: pa.Array) -> pa.Array:
    return numbers.cast(pa.string()).cast(_BINARY)


def _encoded_items(column: pa.Array) -> pa.Array:
    """The items of each list, encoded and joined; empty for an empty list and for null."""
    items = column.flatten()
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    encoded = _join(_encoded(items), len(items)) if len(items) else pa.array([], _BINARY)
    lists = pa.ListArray.from_arrays(offsets, encoded)
    return pc.binary_join(lists, _constant(b""))
