"""The making of an index of a table by its key: sorted batches in, one file out, in bounded memory.

What the file holds is said in `projections.key_index`. All work on rows is done by polars on whole columns.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from eventstore import ProjectionError
from eventstore.checked_file import PagedWriter, create_file
from projections.index_cells import check_cells, form_of, row_column
from projections.index_keys import KeyCodec

__all__ = ["BLOCK_ROWS", "FORMAT", "build"]

FORMAT = 1
"""What `projections.key_index` reads; an index of another format is built anew."""
BLOCK_ROWS = 128
"""Fewer make more first keys, which an open index holds in memory; more make longer bisections on disk."""

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 32 << 20
_MOST_BYTES = (1 << 32) - 1
_ZERO = bytes(4)


def build(path: Path, frames: Iterable[pl.DataFrame], *, key: Sequence[str], identity: str) -> None:
    """Write the index of a table; a file at `path` is replaced once the new one is whole.

    Memory is bounded by the largest of `frames` and some copies of 65,536 of its rows.

    Parameters
    ----------
    frames
        Consecutive batches of the table, at least one. Rows are sorted by `key`, as polars sorts, also from
        one batch to the next.
    key
        Columns that tell the rows apart; none of their cells is null.
    identity
        What exactly is indexed, such as the table's digest; `open_index` asks for it.

    Raises
    ------
    ProjectionError
        The frames are not such a table: codes ``no_frames``, ``wrong_columns``, ``unsupported_type``,
        ``out_of_range``, ``null_key``, ``key_not_unique``, ``not_sorted``, ``row_too_large``.
    StorageError
        The disk refused (codes ``disk_full``, ``index_refused``).
    """
    with create_file(path) as file:
        writer: _Writer | None = None
        for batch in _batches(frames):
            if writer is None:
                writer = _Writer(file, batch.schema, tuple(key))
            writer.add(batch)
        if writer is None:
            raise _bad_table("no_frames", "at least one frame, which may be empty", "none", "give one")
        writer.finish(identity)


class _Writer:
    """Writes the blocks of one table, then the directory and the header."""

    def __init__(self, file: PagedWriter, schema: pl.Schema, key: tuple[str, ...]) -> None:
        missing = [name for name in key if name not in schema]
        if missing or not key:
            raise _bad_table(
                "wrong_columns", f"a key of the columns {list(schema)}", f"{key}", "correct the key"
            )
        self._file = file
        self._schema = schema
        self._forms = [form_of(name, dtype) for name, dtype in schema.items()]
        form_by_name = dict(zip(schema, self._forms, strict=True))
        self._codec = KeyCodec(key, [form_by_name[name] for name in key])
        self._rows = 0
        self._last: str | None = None
        self._starts: list[int] = []
        self._first_keys: list[bytes] = []

    def add(self, batch: pl.DataFrame) -> None:
        """Write rows as blocks; all batches but the last are a multiple of `BLOCK_ROWS`."""
        if not batch.height:
            return
        check_cells(batch)
        keys = self._keys(batch)
        key_bytes, key_ends, key_tables = _layout(keys)
        row_bytes, row_ends, row_tables = _layout(row_column(batch, self._forms))
        pieces: list[bytes | memoryview] = []
        position = self._file.position
        for first in range(0, batch.height, BLOCK_ROWS):
            end = min(first + BLOCK_ROWS, batch.height)
            block_keys = key_bytes[key_ends[first] : key_ends[end]]
            block_rows = row_bytes[row_ends[first] : row_ends[end]]
            if max(len(block_keys), len(block_rows)) > _MOST_BYTES:
                raise _bad_table(
                    "row_too_large",
                    f"{BLOCK_ROWS} rows of less than 4 GiB together",
                    f"{max(len(block_keys), len(block_rows))} bytes from row {self._rows + first} on",
                    "leave the large column out",
                )
            block = (_ZERO, key_tables[4 * first : 4 * end], _ZERO, row_tables[4 * first : 4 * end])
            pieces += (*block, block_keys, block_rows)
            self._starts.append(position)
            self._first_keys.append(bytes(key_bytes[key_ends[first] : key_ends[first + 1]]))
            position += 8 * (end - first + 1) + len(block_keys) + len(block_rows)
        self._file.write(b"".join(pieces))
        self._rows += batch.height

    def _keys(self, batch: pl.DataFrame) -> pl.Series:
        """Return the encoded keys of rows that follow those before, or raise."""
        for name in self._codec.columns:
            if batch[name].null_count():
                raise _bad_table(
                    "null_key", f"a key in every row ({name!r})", "null", "drop the rows without a key"
                )
        keys = self._codec.encode_column(batch)
        before = keys.shift(1, fill_value=self._last)
        wrong = (keys <= before).arg_true()  # the first row of all has null before it
        if len(wrong):
            row = wrong[0]
            again = keys[row] == before[row]
            raise _bad_table(
                "key_not_unique" if again else "not_sorted",
                "one row for each key" if again else f"rows sorted by {list(self._codec.columns)}",
                f"row {self._rows + row} with {batch.select(self._codec.columns).row(row)} after "
                + ("another one" if again else repr(before[row])),
                "correct the table's recipe" if again else "sort the table by its key",
            )
        self._last = keys[-1]
        return keys

    def finish(self, identity: str) -> None:
        """Write the directory and the header."""
        directory = self._file.position
        ends = itertools.accumulate(map(len, self._first_keys), initial=0)
        blocks = len(self._first_keys)
        starts = struct.pack(f"<{blocks + 1}Q", *self._starts, directory)
        self._file.write(starts + struct.pack(f"<{blocks + 1}I", *ends) + b"".join(self._first_keys))
        columns = zip(self._schema.items(), self._forms, strict=True)
        self._file.finish(
            {
                "format": FORMAT,
                "identity": identity,
                "key": list(self._codec.columns),
                "columns": [[name, str(dtype), form] for (name, dtype), form in columns],
                "rows": self._rows,
                "block_rows": BLOCK_ROWS,
                "directory": directory,
                "made_by": f"polars {pl.__version__}",
            }
        )


def _batches(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Cut and join frames into batches of bounded size: multiples of `BLOCK_ROWS`, but for the last one."""
    waiting: list[pl.DataFrame] = []
    rows = 0
    schema: pl.Schema | None = None
    for frame in frames:
        if schema is None:
            schema = frame.schema
            yield frame.clear()
        elif list(frame.schema.items()) != list(schema.items()):
            raise _bad_table(
                "wrong_columns", f"frames with {schema}", f"{frame.schema}", "correct the recipe"
            )
        row_bytes = frame.estimated_size() / max(frame.height, 1)
        most = min(_BATCH_ROWS, int(_BATCH_BYTES / max(row_bytes, 1))) // BLOCK_ROWS * BLOCK_ROWS
        for part in frame.iter_slices(max(most, BLOCK_ROWS)):
            waiting.append(part)
            rows += part.height
            if rows >= max(most, BLOCK_ROWS):
                joined = pl.concat(waiting)
                whole = rows // BLOCK_ROWS * BLOCK_ROWS
                yield joined[:whole]
                waiting, rows = [joined[whole:]], rows - whole
    if rows:
        yield pl.concat(waiting)


def _layout(column: pl.Series) -> tuple[memoryview, memoryview, memoryview]:
    """Return a column's text as bytes, where each cell begins in them (and the end), and the blocks' tables.

    The tables are where each cell ends, counted from the beginning of its block, as 4 bytes each.
    """
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    ends = column.str.len_bytes().cast(pl.UInt64).cum_sum()
    begins = ends.shift(1, fill_value=0).gather_every(BLOCK_ROWS)
    numbers = pl.int_range(len(column), eager=True) // BLOCK_ROWS
    relative = (ends - begins.gather(numbers)).cast(pl.UInt32, wrap_numerical=True).rechunk()
    table = relative.to_arrow(compat_level=pl.CompatLevel.oldest()).buffers()[1]
    return memoryview(data or b""), memoryview(offsets).cast("q"), memoryview(table)


def _bad_table(code: str, expected: str, found: str, hint: str) -> ProjectionError:
    return ProjectionError(
        f"index of a table: expected {expected}; found {found}. Next: {hint}",
        code=code,
        expected=expected,
        found=found,
    )
