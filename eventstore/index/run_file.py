"""One run of the history index: an immutable local file of records sorted by key, read in microseconds.

The content (see `eventstore.checked_file`) is 2^bits blocks, then a directory. Block number *n* has the
records whose keys begin with the bits of *n*: the keys (21 bytes each), where each payload ends, counted from
the first one's beginning (4 bytes each), the payloads. The directory says of each block, and of the end,
where it begins (8 bytes), how many records it has and what its sum is (4 bytes each). Numbers are
little-endian.

A look-up goes by the directory to a block, compares it with its sum the first time, and searches its keys.
The sum covers the block's number and how many records it has, so a wrong entry of the directory is found as
well. A crowded block, where many records share a key, is bisected, and only the pages that the answer rests
on are compared with their sums.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.checked_file import CheckedFile, open_file
from eventstore.index.records import KEY_BYTES, PREFIX_BITS, Records
from eventstore.index.run_writer import ENTRY, FORMAT, block_seed

__all__ = ["Run"]

_ONE = struct.Struct("<I")
_TWO = struct.Struct("<II")
_from_bytes = int.from_bytes
_PREFIX_BYTES = PREFIX_BITS // 8

_SMALL_RECORDS = 64
_SMALL_BYTES = 1 << 16
"""Blocks up to these are checked whole and searched from the front."""
_crc32 = zlib.crc32
_entry_from = ENTRY.unpack_from


class Run:
    """The records of one file. Threads may share one; the memory map goes with the last reference.

    Parameters
    ----------
    file
        A run, open.
    name
        What the header must say.

    Raises
    ------
    IndexDamagedError
        It is not this run.
    """

    __slots__ = ("_bits", "_directory", "_file", "_known", "_map", "_shift", "name", "records", "size_bytes")

    def __init__(self, file: CheckedFile, name: str) -> None:
        header = file.header
        if header.get("format") != FORMAT or header.get("name") != name:
            found = f"{header.get('name')!r}, format {header.get('format')!r}"
            raise file.damaged(f"a run named {name!r}, format {FORMAT}", found)
        self.name = name
        self.size_bytes = len(file.map)
        """Of the file."""
        try:
            self.records: int = header["records"]
            """How many there are."""
            self._bits: int = header["bits"]
            self._directory: int = header["directory"]
            self._shift = PREFIX_BITS - self._bits
            size = self._directory + ENTRY.size * ((1 << self._bits) + 1)
        except (KeyError, TypeError, ValueError) as error:
            raise file.damaged("the header of a run", repr(error)) from error
        if size != file.content_bytes:
            raise file.damaged(f"{size} bytes of content", f"{file.content_bytes}")
        self._file = file
        self._map = file.map
        self._known = bytearray(1 << self._bits)  # 1 for small blocks that were compared with their sums

    @classmethod
    def open(cls, path: Path) -> Run | None:
        """Open a run by its path; None if it is not there.

        Raises
        ------
        IndexDamagedError
            The file is not whole, or not this run.
        StorageError
            The disk refused (code ``index_refused``).
        """
        file = open_file(path)
        if file is None:
            return None
        try:
            return cls(file, path.stem)
        except BaseException:
            file.close()
            raise

    def one(self, key: bytes) -> bytes | None:
        """Return the first payload with this key; None if there is none.

        Raises
        ------
        IndexDamagedError
            What the answer would rest on is damaged.
        """
        block = _from_bytes(key[:4], "big") >> self._shift
        mapped = self._map
        start, count, _ = _entry_from(mapped, self._directory + 16 * block)
        if self._known[block] or self._is_good(block):
            table = start + 21 * count
            at = mapped[start:table].find(key)
            if at < 0:
                return None
            number, rest = divmod(at, 21)
            if not rest:
                payloads = table + 4 * count
                if number:
                    begin, end = _TWO.unpack_from(mapped, table + 4 * number - 4)
                    return mapped[payloads + begin : payloads + end]
                return mapped[payloads : payloads + _ONE.unpack_from(mapped, table)[0]]
        found = self._searched(key, block)
        return found[0] if found else None

    def all(self, key: bytes) -> list[bytes]:
        """Return all payloads with this key, oldest first; raises as `one`."""
        block = _from_bytes(key[:4], "big") >> self._shift
        mapped = self._map
        start, count, _ = _entry_from(mapped, self._directory + 16 * block)
        if self._known[block] or self._is_good(block):
            table = start + 21 * count
            keys = mapped[start:table]
            at = keys.find(key)
            if at < 0:
                return []
            number, rest = divmod(at, 21)
            if not rest:
                payloads = table + 4 * count
                begin = _ONE.unpack_from(mapped, table + 4 * number - 4)[0] if number else 0
                found = []
                while keys.startswith(key, at):
                    (end,) = _ONE.unpack_from(mapped, table + 4 * number)
                    found.append(mapped[payloads + begin : payloads + end])
                    begin, at, number = end, at + 21, number + 1
                return found
        return self._searched(key, block)

    def newest(self, key: bytes) -> bytes | None:
        """Return the last payload with this key, without reading the others where there are many; or None."""
        block = _from_bytes(key[:4], "big") >> self._shift
        if self._known[block] or self._is_good(block):
            found = self.all(key)
        else:
            found = self._searched(key, block, newest=True)
        return found[-1] if found else None

    def _is_good(self, block: int) -> bool:
        """Compare a block with its sum; False if it is too large for that, or the directory makes it so."""
        at = self._directory + 16 * block
        start, count, expected = _entry_from(self._map, at)
        end = _entry_from(self._map, at + 16)[0]
        if count > _SMALL_RECORDS or not 0 <= end - start <= _SMALL_BYTES:
            return False
        found = _crc32(self._map[start:end], block_seed(block, count))
        if found != expected:
            raise self._file.damaged(f"the CRC-32 {expected:08x} of block {block}", f"{found:08x}")
        self._known[block] = 1
        return True

    def _searched(self, key: bytes, block: int, *, newest: bool = False) -> list[bytes]:
        """Return all payloads with this key of a large block, or the last one, checking what they rest on."""
        check = self._file.check
        start, count, _ = self._entry(block)
        table = start + KEY_BYTES * count
        first = self._bisected(start, count, key, after=False)
        last = self._bisected(start, count, key, after=True)
        if first == last:
            return []
        if newest:
            first = last - 1
        known = max(first - 1, 0)  # where the payload before ends, the first one begins
        check(table + 4 * known, table + 4 * last)
        ends = struct.unpack_from(f"<{last - known}I", self._map, table + 4 * known)
        bounds = ends if first else (0, *ends)
        payloads = table + 4 * count
        check(payloads + bounds[0], payloads + bounds[-1])
        return [self._map[payloads + begin : payloads + end] for begin, end in pairwise(bounds)]

    def _entry(self, block: int) -> tuple[int, int, int]:
        """Return where a block begins, how many records it has, and where it ends, checked."""
        at = self._directory + ENTRY.size * block
        self._file.check(at, at + 2 * ENTRY.size)
        start, count, _ = _entry_from(self._map, at)
        end = _entry_from(self._map, at + ENTRY.size)[0]
        if not start + (KEY_BYTES + 4) * count <= end <= self._directory:
            raise self._file.damaged(f"a block of {count} records", f"bytes {start} to {end}")
        return start, count, end

    def _bisected(self, start: int, count: int, key: bytes, *, after: bool) -> int:
        """Return how many of a block's keys are below `key`, or not above it."""
        low, high = 0, count
        while low < high:
            middle = (low + high) >> 1
            at = start + KEY_BYTES * middle
            self._file.check(at, at + KEY_BYTES)
            found = self._map[at : at + KEY_BYTES]
            if found < key or (after and found == key):
                low = middle + 1
            else:
                high = middle
        return low

    def between(self, low: int, high: int) -> Records:
        """Return the records whose prefix is at least `low` and below `high`, sorted; raises as `one`."""
        first, last = low >> self._shift, ((high - 1) >> self._shift) + 1
        records = self._blocks(first, last - first)
        # What was read once is not asked for soon: the pages need not stay in this process.
        self._map.madvise(mmap.MADV_DONTNEED)
        if low == first << self._shift and high == last << self._shift:
            return records
        return records.between(low, high)

    def _blocks(self, first: int, blocks: int) -> Records:
        """Return the records of some blocks."""
        file, mapped = self._file, self._map
        at = self._directory + ENTRY.size * first
        file.check(at, at + ENTRY.size * (blocks + 1))
        entries = memoryview(mapped[at : at + ENTRY.size * (blocks + 1)]).cast("q")
        start, end = entries[0], entries[2 * blocks]
        file.check(start, end)
        counts = pc.bit_wise_and(_column(entries[1 : 2 * blocks : 2].tobytes()), 0xFFFFFFFF)
        starts = pc.subtract(_column(entries[0::2].tobytes()), start)
        tables = pc.add(starts[:-1], pc.multiply(counts, KEY_BYTES))
        payloads = pc.add(tables, pc.multiply(counts, 4))
        bounds = memoryview(bytearray(24 * blocks + 8)).cast("q")
        for place, column in enumerate((starts[:-1], tables, payloads)):
            bounds[place : 3 * blocks : 3] = memoryview(column.buffers()[1]).cast("q")[:blocks]
        bounds[3 * blocks] = end - start
        pieces = pa.Array.from_buffers(
            pa.large_binary(),
            3 * blocks,
            [None, pa.py_buffer(bounds.cast("B")), pa.py_buffer(mapped[start:end])],
        )
        key_data, table_data, payload_data = (
            _joined(pieces.take(pa.array(range(place, 3 * blocks, 3), pa.int64()))) for place in range(3)
        )
        begins = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(counts)])
        return Records.of_buffers(
            key_data[1], _payloads(table_data[1], begins, payload_data, int(pc.sum(counts).as_py()))
        )


def _column(data: bytes) -> Any:
    return pa.Array.from_buffers(pa.int64(), len(data) // 8, [None, pa.py_buffer(data)])


def _joined(pieces: Any) -> tuple[Any, memoryview]:
    """Return where pieces begin in what they are together, and that."""
    _, offsets, data = pieces.buffers()
    begins = pa.Array.from_buffers(pa.int64(), len(pieces), [None, offsets])
    return begins, memoryview(data or b"")[: memoryview(offsets).cast("q")[len(pieces)]]


def _payloads(table: memoryview, begins: Any, parts: tuple[Any, memoryview], count: int) -> Any:
    """Return payloads as a column, of where they end in their blocks and of the blocks' payloads."""
    ends = pa.Array.from_buffers(pa.uint32(), count, [None, pa.py_buffer(table)]).cast(pa.int64())
    block = pc.list_parent_indices(pa.LargeListArray.from_arrays(begins, ends))
    ends = pc.add(ends, parts[0].take(block))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    return pa.Array.from_buffers(
        pa.large_binary(), count, [None, offsets.buffers()[1], pa.py_buffer(parts[1])]
    )
