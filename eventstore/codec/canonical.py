"""The canonical bytes of events, and their hashes from them, in bulk over Arrow columns.

A header and a body are bencoded maps of the fields that are not null, so they do not depend on Parquet,
on column order, or on columns that are added later. docs/format.md, section "Event hash", is the law;
`eventstore.hashing.bencode` gives the same bytes one event at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.codec.schema import BODY_COLUMNS, DICTIONARY_COLUMNS
from eventstore.hashing import bencode

__all__ = ["NO_HASH", "event_hashes", "kind_hashes"]

NO_HASH = bytes(32)
"""Stands for the hash of a row that is no event of the format; no event has it."""

_BINARY = pa.binary()
_BULK_BYTES = 256 * 1024 * 1024
_HEADER = ("kind", "recorded_at", "sequence", "version", "writer")
_REPEATING = frozenset({*DICTIONARY_COLUMNS, "cached"})


def event_hashes(table: pa.Table) -> list[bytes]:
    """Recompute the hashes of all rows of a table with the columns of a segment, in row order.

    The stored ``event_hash`` is not looked at. Rows whose body was erased enter by ``body_digest``. A row
    that the format does not allow gets `NO_HASH`: one whose header has a null, with both a salt and a body
    digest or neither, with a body beside its digest, or with a null inside a list.
    """
    if table.num_rows > 1 and table.nbytes > _BULK_BYTES:
        half = table.num_rows // 2
        return event_hashes(table.slice(0, half)) + event_hashes(table.slice(half))
    table = table.combine_chunks()
    if not table.num_rows:
        return []
    used = [
        name
        for name in (*_HEADER, "salt", "body_digest", *BODY_COLUMNS)
        if name in table.column_names and table[name].null_count < table.num_rows
    ]
    columns = {name: _one_array(table[name]) for name in used}
    unsound = _unsound_rows(columns, table.num_rows)
    if unsound:
        hashes = [NO_HASH] * table.num_rows
        sound = [place for place in range(table.num_rows) if place not in unsound]
        for place, digest in zip(sound, event_hashes(table.take(pa.array(sound, pa.int64()))), strict=True):
            hashes[place] = digest
        return hashes
    codes = columns["kind"].dictionary_encode().indices
    filled = _filled(columns, codes)
    if len(filled) == 1:
        return kind_hashes(columns)
    hashes = [NO_HASH] * table.num_rows
    for code, names in enumerate(filled):
        places = pc.indices_nonzero(pc.equal(codes, code))
        digests = kind_hashes({name: columns[name].take(places) for name in names})
        for place, digest in zip(memoryview(places.buffers()[1]).cast("Q"), digests, strict=True):
            hashes[place] = digest
    return hashes


def _unsound_rows(columns: Mapping[str, pa.Array], rows: int) -> set[int]:
    """Rows in which something would not be committed to, or could be read in two ways."""
    bad: set[int] = set()
    for name in _HEADER:
        if name not in columns:
            return set(range(rows))
        if columns[name].null_count:
            bad.update(pc.indices_nonzero(columns[name].is_null()).to_pylist())
    salt, erased = columns.get("salt"), columns.get("body_digest")
    if erased is not None or salt is None or salt.null_count:
        hidden = [False] * rows if erased is None else erased.is_valid().to_pylist()
        salted = [False] * rows if salt is None else salt.is_valid().to_pylist()
        bad.update(place for place in range(rows) if hidden[place] == salted[place])
    for name in BODY_COLUMNS:
        if name not in columns:
            continue
        column = columns[name]
        if erased is not None:
            bad.update(pc.indices_nonzero(pc.and_(column.is_valid(), erased.is_valid())).to_pylist())
        if pa.types.is_list(column.type) and _null_items(column):
            bad.update(place for place, cell in enumerate(column.to_pylist()) if _null_inside(cell))
    return bad


def _null_items(column: pa.Array) -> bool:
    items = column.flatten()
    members = items.flatten() if pa.types.is_struct(items.type) else []
    return items.null_count > 0 or any(
        _null_items(member) for member in members if pa.types.is_list(member.type)
    )


def _null_inside(cell: list[Any] | None) -> bool:
    for item in cell or ():
        if item is None:
            return True
        if isinstance(item, dict) and any(isinstance(own, list) and None in own for own in item.values()):
            return True
    return False


def _filled(columns: Mapping[str, pa.Array], codes: pa.Array) -> list[list[str]]:
    """The columns that each kind fills, by the kind's code: counted, not believed.

    An event's hash commits to whatever is there, also where a kind should leave a column empty.
    """
    filled: list[list[str]] = [[] for _ in range(pc.max(codes).as_py() + 1)]
    for name, column in columns.items():
        some = codes if not column.null_count else codes.filter(column.is_valid())
        for code in some.drop_null().unique().to_pylist():
            filled[code].append(name)
    return filled


def kind_hashes(columns: Mapping[str, pa.Array | pa.Scalar]) -> list[bytes]:
    """Return the hashes of events of one kind, in row order.

    Parameters
    ----------
    columns
        The columns of a segment by name, of equal length, or one scalar for all rows; those that are null
        throughout may be left out. ``recorded_at`` is never a scalar.
    """
    rows = len(columns["recorded_at"])
    digests = [b""] * rows
    if "salt" in columns:
        pieces = [_constant(b"\x02"), columns["salt"].cast(_BINARY), _constant(b"d")]
        for name in BODY_COLUMNS:
            if name in columns:
                pieces.extend(_field(name, columns[name]))
        pieces.append(_constant(b"e"))
        digests = _digests(pieces, rows)
    if "body_digest" in columns:
        erased = columns["body_digest"].to_pylist()
        digests = [kept or digest for kept, digest in zip(erased, digests, strict=True)]
    joined = pa.py_buffer(b"".join(digests))
    bodies = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), rows, [None, joined])
    pieces = [_constant(b"\x00d11:body_digest32:"), bodies.cast(_BINARY)]
    for name in _HEADER:
        pieces.extend(_field(name, columns[name]))
    pieces.append(_constant(b"e"))
    return _digests(pieces, rows)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _digests(pieces: Sequence[pa.Array | pa.Scalar], rows: int) -> list[bytes]:
    """SHA-256 of each row of the joined pieces, over views: no row becomes an object of its own."""
    sha256 = hashlib.sha256
    joined = _join(pieces, rows)
    _, ends, data = joined.buffers()
    view = memoryview(data)
    bounds = memoryview(ends).cast("i")[joined.offset : joined.offset + rows + 1].tolist()
    return [sha256(view[start:end]).digest() for start, end in pairwise(bounds)]


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


def _field(name: str, column: pa.Array | pa.Scalar) -> list[pa.Array | pa.Scalar]:
    """The pieces of one map entry: key and value, or nothing where the column is null."""
    key = b"%d:%b" % (len(name), name.encode())
    if name in _REPEATING and not isinstance(column, pa.Scalar) and not column.null_count:
        first = column[0]
        column = first if pc.all(pc.equal(column, first)).as_py() else column
    if isinstance(column, pa.Scalar):
        value = column.as_py()
        return [_constant(key + bencode(int(value) if isinstance(value, bool) else value))]
    kind = column.type
    if pa.types.is_boolean(kind):
        return [pc.if_else(column, _constant(key + b"i1e"), _constant(key + b"i0e"))]
    if pa.types.is_timestamp(kind) or pa.types.is_integer(kind):
        number = column.cast(pa.int64()).cast(pa.string()).cast(_BINARY)
        return [_beside(column, key + b"i"), number, _beside(column, b"e")]
    if pa.types.is_list(kind):
        return [_beside(column, key + b"l"), _items(column), _beside(column, b"e")]
    raw = column.cast(_BINARY)
    return [_lengths(raw, key), raw]


def _beside(column: pa.Array, raw: bytes) -> pa.Array | pa.Scalar:
    """`raw` where the column is valid, and nothing where it is null."""
    if not column.null_count:
        return _constant(raw)
    return pc.if_else(column.is_valid(), _constant(raw), pa.scalar(None, _BINARY))


def _lengths(raw: pa.Array, key: bytes) -> pa.Array | pa.Scalar:
    """What stands before the bytes of a string: `key`, length and colon; nothing where it is null."""
    lengths = pc.binary_length(raw)
    extremes = pc.min_max(lengths)
    if extremes["min"].as_py() == extremes["max"].as_py() is not None:
        return _beside(raw, b"%b%d:" % (key, extremes["max"].as_py()))
    # Few lengths are different, so each is spelled once.
    codes = lengths.dictionary_encode()
    spelled = pa.array([b"%b%d:" % (key, length) for length in codes.dictionary.to_pylist()], _BINARY)
    return spelled.take(codes.indices)


def _items(column: pa.Array) -> pa.Array:
    """The items of each list, encoded and joined; empty for an empty list and for null."""
    items = column.flatten()
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    if not len(items):
        encoded = pa.array([], _BINARY)
    elif pa.types.is_struct(items.type):
        pieces: list[pa.Array | pa.Scalar] = [_constant(b"d")]
        for member, values in zip(items.type, items.flatten(), strict=True):
            if values.null_count < len(values):
                pieces.extend(_field(member.name, values))
        encoded = _join([*pieces, _constant(b"e")], len(items))
    else:
        raw = items.cast(_BINARY)
        encoded = _join([_lengths(raw, b""), raw], len(items))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, encoded), _constant(b""))
