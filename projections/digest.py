"""The content digest of a table: what it says, whatever Parquet, its library or its compression made of it.

A table is taken batch by batch in key order, and its split into batches does not matter. Each column is
written to streams, each of which has a SHA-256 of its own:

- nulls: the row numbers of its null cells, as 64-bit integers, where it has any;
- cells, with nulls as zero or empty: of fixed width, little-endian (booleans as one byte, dates as 32-bit
  days, times as 64-bit integers of their unit, decimals as 128-bit integers of their last digit); text and
  binary as a stream of 32-bit lengths and one of bytes; a list as a stream of 32-bit lengths and its items as
  a column; a struct as no cells and its fields, each a column, null where it is.

The digest is the SHA-256 over UTF-8 JSON of `{"columns":[[name,type],...],"key":[...],"rows":n}` (sorted
keys, no blanks), a line feed, and the digests of all streams in order, 32 bytes each: of a column its nulls,
its cells, then the bytes of text or the streams of its parts. All integers are little-endian.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

import polars as pl

from eventstore import ProjectionError
from projections.projection import DataType

__all__ = ["ContentDigest", "content_digest"]


class ContentDigest:
    """The digest of a table that is given batch by batch, in key order.

    Raises
    ------
    ProjectionError
        A column's type has no canonical form (code ``unsupported_type``).
    """

    def __init__(self, schema: pl.Schema, key: Sequence[str]) -> None:
        self._schema, self._key = schema, list(key)
        self._columns = [_column(name, dtype) for name, dtype in schema.items()]
        self.rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Take in the next rows, which have the schema's columns in its order."""
        for column, cells in zip(self._columns, frame.iter_columns(), strict=True):
            column.add(cells.rechunk(), self.rows)
        self.rows += frame.height

    def hexdigest(self) -> str:
        """Return the digest of all rows so far, as 64 hex characters."""
        head = {
            "columns": [[name, str(dtype)] for name, dtype in self._schema.items()],
            "key": self._key,
            "rows": self.rows,
        }
        whole = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        for column in self._columns:
            for stream in column.streams():
                whole.update(stream)
        return whole.hexdigest()


def content_digest(table: pl.DataFrame, key: Sequence[str]) -> str:
    """Return the digest of a table that is sorted by `key`; raises like `ContentDigest`."""
    digest = ContentDigest(table.schema, key)
    digest.add(table)
    return digest.hexdigest()


class _Column:
    """The streams of one column: its nulls, its cells or lengths, and those of its parts."""

    def __init__(self, *parts: _Column) -> None:
        self._nulls, self._cells = hashlib.sha256(), hashlib.sha256()
        self._parts = parts

    def add(self, cells: pl.Series, row: int) -> None:
        """Take in cells, the first of which is number `row`."""
        if cells.null_count():
            nulls = cells.is_null().arg_true().cast(pl.UInt64) + row
            self._nulls.update(_fixed(nulls))
        self._add(cells, row)

    def _add(self, cells: pl.Series, _row: int, /) -> None:
        self._cells.update(_fixed(cells.to_physical().fill_null(0)))

    def streams(self) -> Iterator[bytes]:
        """Yield the digests of all streams."""
        yield self._nulls.digest()
        yield self._cells.digest()
        for part in self._parts:
            yield from part.streams()


class _Decimals(_Column):
    def _add(self, cells: pl.Series, _row: int, /) -> None:
        self._cells.update(_fixed(cells.fill_null(0)))


class _Flags(_Column):
    def _add(self, cells: pl.Series, _row: int, /) -> None:
        self._cells.update(_fixed(cells.cast(pl.UInt8).fill_null(0)))


class _Bytes(_Column):
    def __init__(self) -> None:
        super().__init__()
        self._data = hashlib.sha256()

    def _add(self, cells: pl.Series, _row: int, /) -> None:
        filled = cells.cast(pl.Binary).fill_null(b"").rechunk()
        self._cells.update(_fixed(filled.bin.size().cast(pl.UInt32)))
        array = filled.to_arrow(compat_level=pl.CompatLevel.oldest())
        _, offsets, data = array.buffers()
        if len(array) and data is not None:
            ends = memoryview(offsets).cast("q")
            self._data.update(memoryview(data)[ends[array.offset] : ends[array.offset + len(array)]])

    def streams(self) -> Iterator[bytes]:
        yield from super().streams()
        yield self._data.digest()


class _List(_Column):
    def __init__(self, items: _Column) -> None:
        super().__init__(items)
        self._items, self._count = items, 0

    def _add(self, cells: pl.Series, _row: int, /) -> None:
        lengths = cells.list.len()
        self._cells.update(_fixed(lengths.cast(pl.UInt32).fill_null(0)))
        items = cells.filter(lengths > 0).explode().rechunk()
        self._items.add(items, self._count)
        self._count += len(items)


class _Struct(_Column):
    def _add(self, cells: pl.Series, row: int, /) -> None:
        for name, part in zip(cells.struct.fields, self._parts, strict=True):
            part.add(cells.struct.field(name).rechunk(), row)


def _column(name: str, dtype: pl.DataType) -> _Column:
    if dtype in (pl.String, pl.Binary):
        return _Bytes()
    if isinstance(dtype, pl.List):
        return _List(_column(name, _instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return _Struct(*(_column(name, _instance(field.dtype)) for field in dtype.fields))
    if dtype == pl.Boolean:
        return _Flags()
    if isinstance(dtype, pl.Decimal):
        return _Decimals()
    if (dtype.is_numeric() and dtype not in (pl.Int128, pl.UInt128)) or dtype.is_temporal():
        return _Column()
    raise ProjectionError(
        f"a column of text, bytes, numbers, times, lists or structs was expected, found {name!r} of type "
        f"{dtype}; cast it in the recipe",
        code="unsupported_type",
        column=name,
    )


def _instance(dtype: DataType) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def _fixed(column: pl.Series) -> memoryview | bytes:
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    width = array.type.bit_width // 8
    if not len(array):
        return b""
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]
