"""The content digest of a table: what it says, whatever Parquet, its library or its compression made of it.

SHA-256 over these bytes, for a table sorted by its key: UTF-8 JSON of `{"columns":[[name,type],...],
"key":[...],"rows":n}` (sorted keys, no blanks) and a line feed; then the columns in order. A column is
a byte 0 if no cell is null, else a byte 1 and one byte for each row (1: a value, 0: null); then, with nulls
as zero or empty: fixed-width cells little-endian (booleans and dates as their bytes, times as 64-bit integers
of their unit); text and binary as 32-bit lengths of all cells, then all bytes; a list as 32-bit lengths, then
its items as a column; a struct as its fields, each a column.
"""

from __future__ import annotations

import hashlib
import json
from typing import Protocol

import polars as pl

from eventstore import ProjectionError

__all__ = ["content_digest"]


class _Hash(Protocol):
    def update(self, data: memoryview | bytes, /) -> None: ...


def content_digest(table: pl.DataFrame, key: tuple[str, ...]) -> str:
    """Return the digest of a table that is sorted by `key`, as 64 hex characters.

    Raises
    ------
    ProjectionError
        A column's type has no canonical form (code ``unsupported_type``).
    """
    head = {
        "columns": [[name, str(dtype)] for name, dtype in table.schema.items()],
        "key": list(key),
        "rows": table.height,
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    for column in table.iter_columns():
        _add(digest, column.rechunk())
    return digest.hexdigest()


def _add(digest: _Hash, column: pl.Series) -> None:
    dtype = column.dtype
    if column.null_count():
        digest.update(b"\x01")
        digest.update(_fixed(column.is_not_null().cast(pl.UInt8)))
    else:
        digest.update(b"\x00")
    if dtype == pl.String:
        _add_bytes(digest, column.cast(pl.Binary))
    elif dtype == pl.Binary:
        _add_bytes(digest, column)
    elif isinstance(dtype, pl.List):
        digest.update(_fixed(column.list.len().cast(pl.UInt32).fill_null(0)))
        _add(digest, column.filter(column.list.len() > 0).explode().rechunk())
    elif isinstance(dtype, pl.Struct):
        for name in column.struct.fields:
            _add(digest, column.struct.field(name).rechunk())
    elif dtype == pl.Boolean:
        digest.update(_fixed(column.cast(pl.UInt8).fill_null(0)))
    elif dtype.is_numeric() or dtype.is_temporal():
        digest.update(_fixed(column.to_physical().fill_null(0)))
    else:
        raise ProjectionError(
            f"a column of text, bytes, numbers, times, lists or structs was expected, found {column.name!r} "
            f"of type {dtype}; cast it in the recipe",
            code="unsupported_type",
            column=column.name,
        )


def _add_bytes(digest: _Hash, column: pl.Series) -> None:
    filled = column.fill_null(b"") if column.null_count() else column
    digest.update(_fixed(filled.bin.size().cast(pl.UInt32)))
    array = filled.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    if not len(array):
        return
    _, offsets, data = array.buffers()
    ends = memoryview(offsets).cast("q")
    if data is not None:
        digest.update(memoryview(data)[ends[array.offset] : ends[array.offset + len(array)]])


def _fixed(column: pl.Series) -> memoryview | bytes:
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    width = array.type.bit_width // 8
    if not len(array):
        return b""
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
