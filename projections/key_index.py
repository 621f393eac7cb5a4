"""An index of one table by its key: a local file, derived from the table, that finds a row in microseconds.

The content of the file (`eventstore.checked_file`) is the rows in order of their encoded keys, in blocks of
`block_rows`, then a directory. A block is where its keys begin and the last one ends (4 bytes each, counted
from the first), the same of its rows, the keys, the rows (both as `projections.index_cells` says). The
directory is where the blocks begin and the last one ends (8 bytes each), where their first keys begin and the
last one ends (4 bytes each), and these keys.

A look-up bisects twice: among the first keys, in memory, and in one block, mapped. Every page that its answer
rests on is compared with its sum, so it is right or raises `IndexDamagedError`, also where there is no such
row.
"""

from __future__ import annotations

import itertools
import struct
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from eventstore import ProjectionError, StateError
from eventstore.checked_file import CheckedFile, IndexDamagedError, open_file
from projections.index_builder import FORMAT, build
from projections.index_cells import Form, row_decoder
from projections.index_keys import Key, KeyCodec

__all__ = ["IndexDamagedError", "Key", "KeyIndex", "build", "open_index"]

_NUMBERS = struct.Struct("<II")


def open_index(path: Path, *, identity: str) -> KeyIndex | None:
    """Open an index; None if there is none of this name, identity and format: build it.

    The caller's whole duty, where `set_aside` renames or deletes the file::

        try:
            index = open_index(path, identity=identity)
        except IndexDamagedError:
            set_aside(path)
            index = None
        if index is None:
            build(path, frames(), key=key, identity=identity)
            index = open_index(path, identity=identity)

    Raises
    ------
    IndexDamagedError
        The file is not whole, or not an index. A look-up may raise it later, for what is read only then.
    StorageError
        The disk refused (code ``index_refused``).
    """
    file = open_file(path)
    if file is None:
        return None
    try:
        if file.header.get("format") == FORMAT and file.header.get("identity") == identity:
            return KeyIndex(file)
    except BaseException:
        file.close()
        raise
    file.close()
    return None


class KeyIndex:
    """The rows of one table by key. Threads may share one; `open_index` makes them.

    Parameters
    ----------
    file
        An index of today's format, open; closed with this.
    """

    def __init__(self, file: CheckedFile) -> None:
        try:
            header = file.header
            self.columns: tuple[str, ...] = tuple(name for name, _, _ in header["columns"])
            """The table's columns, in order."""
            self.key: tuple[str, ...] = tuple(header["key"])
            """The columns that tell rows apart."""
            self.rows: int = header["rows"]
            """How many there are."""
            forms: dict[str, Form] = {name: form for name, _, form in header["columns"]}
            self._block_rows: int = header["block_rows"]
            self._codec = KeyCodec(self.key, [forms[name] for name in self.key])
            self._decode = row_decoder(list(forms.values()))
            self._key_cells = [self.columns.index(name) for name in self.key]
            blocks = -(-self.rows // self._block_rows)
            self._starts, self._first_keys = _read_directory(file, header["directory"], blocks)
        except (KeyError, TypeError, ValueError, IndexError, struct.error, ProjectionError) as error:
            raise file.damaged("the header and directory of an index", repr(error)) from error
        self._file = file
        self._map = file.map
        self._checked = bytearray(len(self._first_keys))

    def get(self, key: Key) -> tuple[Any, ...] | None:
        """Return the cells of the row with this key, in order of the columns; None if there is none.

        Parameters
        ----------
        key
            The key's cells in order; of a key of one text column also the text itself.

        Returns
        -------
        Python values; times are aware and in UTC, unless their column has no time zone.

        Raises
        ------
        IndexDamagedError
            What the answer would rest on is damaged.
        ProjectionError
            The key has another number or other types of cells (code ``bad_key``).
        StateError
            The index is closed (code ``closed``).
        """
        wanted = self._codec.encode(key)
        try:
            return self._find(wanted)
        except (ValueError, struct.error) as error:
            if self._map.closed:
                raise self._closed() from error
            raise self._file.damaged("rows as they were written", repr(error)) from error

    def many(self, keys: Iterable[Key]) -> list[tuple[Any, ...] | None]:
        """Return what `get` gives for each key; raises like it."""
        return [self.get(key) for key in keys]

    def _find(self, wanted: bytes) -> tuple[Any, ...] | None:
        mapped, unpack = self._map, _NUMBERS.unpack_from
        if mapped.closed:
            raise self._closed()
        block = bisect_right(self._first_keys, wanted) - 1
        if block < 0:
            return None  # before the first key of all, which was checked with the directory
        start = self._starts[block]
        count = min(self._block_rows, self.rows - block * self._block_rows)
        rows_at = start + 4 * (count + 1)
        keys = rows_at + 4 * (count + 1)
        if not self._checked[block]:
            self._check_keys(block, rows_at, keys)
        # The first key is at most `wanted`, and that of the next block is above: bisect between them.
        low, high = 0, count
        while high - low > 1:
            middle = (low + high) >> 1
            begin, end = unpack(mapped, start + 4 * middle)
            if mapped[keys + begin : keys + end] <= wanted:
                low = middle
            else:
                high = middle
        begin, end = unpack(mapped, start + 4 * low)
        if mapped[keys + begin : keys + end] != wanted:
            return None
        rows = keys + unpack(mapped, rows_at - 4)[0]
        begin, end = unpack(mapped, rows_at + 4 * low)
        self._file.check(rows + begin, rows + end)
        row = self._decode(mapped[rows + begin : rows + end])
        found = self._codec.encode(tuple([row[cell] for cell in self._key_cells]))
        if found != wanted:
            raise self._file.damaged(f"the row of the key {wanted!r}", f"that of {found!r}")
        return row

    def _check_keys(self, block: int, rows_at: int, keys: int) -> None:
        """Check the pages of a block up to the end of its keys, once."""
        self._file.check(self._starts[block], keys)
        (length,) = struct.unpack_from("<I", self._map, rows_at - 4)
        self._file.check(keys, keys + length)
        self._checked[block] = 1

    def _closed(self) -> StateError:
        return StateError(
            f"an open index was expected, {self._file.path} is closed. Next: open it again",
            code="closed",
            path=str(self._file.path),
        )

    def close(self) -> None:
        """Give the memory map back; a second time does nothing."""
        self._file.close()

    def __enter__(self) -> KeyIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_directory(file: CheckedFile, start: int, blocks: int) -> tuple[tuple[int, ...], list[bytes]]:
    """Return where the blocks begin, and their first keys."""
    file.check(start, file.content_bytes)
    raw = file.map[start : file.content_bytes]
    starts = struct.unpack_from(f"<{blocks + 1}Q", raw)
    ends = struct.unpack_from(f"<{blocks + 1}I", raw, 8 * (blocks + 1))
    keys = raw[12 * (blocks + 1) :]
    return starts, [keys[begin:end] for begin, end in itertools.pairwise(ends)]
