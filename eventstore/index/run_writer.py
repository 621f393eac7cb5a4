"""The making of a run: sorted records in, one file out, in memory that one part of the keys needs.

What the file holds is said in `eventstore.index.run_file`. All work on records is done by Arrow on columns.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.checked_file import PagedWriter, create_file
from eventstore.errors import InvalidEventError
from eventstore.index.records import KEY_BYTES, PREFIX_BITS, Records, numbers

__all__ = ["ENTRY", "FORMAT", "PART_BYTES", "block_seed", "write_run"]

FORMAT = 2
"""What `eventstore.index.run_file` reads; runs of another format are set aside."""
PART_BYTES = 16 << 20
"""About how much is sorted, joined and written at a time; peak memory is some multiples of it."""
ENTRY = struct.Struct("<QII")
"""An entry of the directory: where a block begins, how many records it has, its CRC-32."""

_BLOCK = struct.Struct("<II")
_PAGE_BITS = 12
_BLOCK_RECORDS = 16
_MOST_BITS = 26
_MOST_PAYLOADS = (1 << 32) - 1


def write_run(
    path: Path,
    source: Callable[[int, int], Records],
    *,
    count: int,
    size_bytes: int,
    facts: Mapping[str, Any],
) -> int:
    """Write a run under a new name; it is there once it is whole.

    Parameters
    ----------
    source
        Returns the records whose prefix is at least the first number and below the second, sorted by key.
        It is asked for all, in order.
    count, size_bytes
        How many records there are at most, and about how many bytes they have.
    facts
        What the header says besides.

    Returns
    -------
    The number of records written.

    Raises
    ------
    InvalidEventError
        Payloads that share the bits of a block have 4 GiB or more (code ``too_large``).
    StorageError
        The disk refused (codes ``disk_full``, ``index_refused``); nothing is left of the file.
    """
    bits = min(max((count - 1) // _BLOCK_RECORDS, 0).bit_length(), _MOST_BITS)
    part_bits = min(max(size_bytes // PART_BYTES, 0).bit_length(), bits)
    prefixes, blocks = 1 << (PREFIX_BITS - part_bits), 1 << (bits - part_bits)
    with create_file(path, page_bits=_PAGE_BITS, grouped=True) as file:
        writer = _Writer(file, bits)
        for part in range(1 << part_bits):
            records = source(part * prefixes, (part + 1) * prefixes)
            writer.add(records, part * blocks, blocks)
        return writer.finish(facts)


def block_seed(block: int, count: int) -> int:
    """Return what a block's CRC-32 begins with: that of its number and how many records it has."""
    return zlib.crc32(_BLOCK.pack(block, count))


class _Writer:
    """Writes the blocks of one run, then the directory and the header."""

    def __init__(self, file: PagedWriter, bits: int) -> None:
        self._file = file
        self._bits = bits
        self._starts = array("q")
        self._counts = array("I")
        self._sums = array("I")
        self._records = 0

    def add(self, records: Records, first: int, blocks: int) -> None:
        """Write sorted records as some blocks, beginning with block `first`."""
        numbered = pc.subtract(
            pc.shift_right(records.prefixes, pa.scalar(PREFIX_BITS - self._bits, pa.uint64())).cast(
                pa.int64()
            ),
            first,
        )
        # One of each number beside those of the records: so all are counted, and in order.
        counted = pc.value_counts(pa.concat_arrays([numbers(blocks), numbered]))
        counts = pc.subtract(counted.field("counts"), 1)
        begins = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(counts)])
        payload_begins, payload_ends, payload_data = _layout(records.payloads)
        block_begins = payload_begins.take(begins)
        ends = pc.subtract(payload_ends, block_begins.take(numbered))
        if len(ends) and pc.max(ends).as_py() > _MOST_PAYLOADS:
            raise InvalidEventError(
                f"a run of the history index: expected less than 4 GiB of payloads in a block of keys, found "
                f"{pc.max(ends).as_py()} bytes. Next: leave large payloads out of the index",
                code="too_large",
                found=pc.max(ends).as_py(),
            )
        pieces = pa.concat_arrays(
            [
                _pieces(pc.multiply(begins, KEY_BYTES), records.key_data),
                _pieces(pc.multiply(begins, 4), ends.cast(pa.uint32()).buffers()[1]),
                _pieces(block_begins, payload_data),
            ]
        ).take(_interleaved(blocks))
        _, offsets, data = pieces.buffers()
        bounds = memoryview(offsets).cast("q")[: 3 * blocks + 1 : 3].tolist()
        content = memoryview(data or b"")[: bounds[-1]]
        sizes = counts.to_pylist()
        self._starts.extend(map(self._file.position.__add__, bounds[:-1]))
        self._counts.extend(sizes)
        self._sums.extend(
            zlib.crc32(content[begin:end], block_seed(block, size))
            for block, size, (begin, end) in zip(
                range(first, first + blocks), sizes, pairwise(bounds), strict=True
            )
        )
        self._records += len(records)
        self._file.write(content)

    def finish(self, facts: Mapping[str, Any]) -> int:
        """Write the directory and the header; returns how many records there are."""
        directory = self._file.position
        starts, table = self._starts, memoryview(bytearray(ENTRY.size * (len(self._starts) + 1)))
        starts.append(directory)
        table.cast("q")[0::2] = memoryview(starts)
        small = table.cast("I")
        small[2:-4:4], small[3:-4:4] = memoryview(self._counts), memoryview(self._sums)
        self._file.write(table)
        own = {
            "format": FORMAT,
            "records": self._records,
            "bits": self._bits,
            "directory": directory,
            "made_by": f"pyarrow {pa.__version__}",
        }
        self._file.finish({**facts, **own})
        return self._records


def _layout(payloads: Any) -> tuple[Any, Any, Any]:
    """Return where payloads begin (and the last one ends), where they end, and the bytes they are in."""
    _, offsets, data = payloads.buffers()
    if not len(payloads):
        return pa.array([0], pa.int64()), pa.array([], pa.int64()), b""
    begins = pa.Array.from_buffers(pa.int64(), len(payloads) + 1, [None, offsets], offset=payloads.offset)
    return begins, begins[1:], data or b""


def _pieces(offsets: Any, data: Any) -> Any:
    """Return parts of some bytes as a column."""
    buffers = [None, offsets.buffers()[1], pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers, offset=offsets.offset)


def _interleaved(count: int) -> Any:
    """Return the rows of three columns that stand behind one another: all first ones, all second ones, ..."""
    rows = memoryview(bytearray(24 * count)).cast("q")
    for column in range(3):
        rows[column::3] = array("q", range(column * count, (column + 1) * count))
    return pa.Array.from_buffers(pa.int64(), 3 * count, [None, pa.py_buffer(rows.cast("B"))])
