"""Records of the history index as columns: keys of one width and payloads, sorted and thinned by Arrow.

A key is 20 bytes of a digest and a byte for the family. Several records may have one key; their order is that
of the log, and stays. Nothing here loops over records in Python.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.errors import InvalidEventError

__all__ = ["KEY_BYTES", "PREFIX_BITS", "Keep", "Records", "Settled", "numbers"]

Keep = Literal["first", "last", "all"]
"""Which of several records with one key count; of `all`, identical ones count once, where the first was."""

KEY_BYTES = 21
PREFIX_BITS = 32
"""How many of a key's leading bits a directory may go by."""

_PREFIX_BYTES = PREFIX_BITS // 8


@dataclass(frozen=True, slots=True)
class Records:
    """Some records, one row each.

    Parameters
    ----------
    keys
        A `pyarrow.FixedSizeBinaryArray` without nulls.
    payloads
        A `pyarrow.LargeBinaryArray` without nulls.
    """

    keys: Any
    payloads: Any

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def of_columns(cls, keys: Any, payloads: Any) -> Records:
        """Make columns of keys and payloads of one length, or take such columns.

        Raises
        ------
        InvalidEventError
            A key has another length than 21 bytes (code ``bad_key``).
        """
        if isinstance(keys, pa.FixedSizeBinaryArray) and keys.type.byte_width == KEY_BYTES:
            wrong = set()
        else:
            wrong = set(map(len, keys)) - {KEY_BYTES}
        if wrong or len(keys) != len(payloads):
            raise InvalidEventError(
                f"records of the history index: expected a payload for each key of {KEY_BYTES} bytes, found "
                f"{len(keys)} keys, {len(payloads)} payloads, keys of other lengths: {sorted(wrong)}. Next: "
                "correct what makes the records",
                code="bad_key",
                found=sorted(wrong),
            )
        if isinstance(keys, pa.Array):
            return cls(keys, payloads)
        return cls.of_buffers(b"".join(keys), pa.array(payloads, pa.large_binary()))

    @classmethod
    def of_buffers(cls, key_data: Any, payloads: Any) -> Records:
        """Make columns of keys that stand one after another, and payloads."""
        data = pa.py_buffer(key_data)
        keys = pa.Array.from_buffers(pa.binary(KEY_BYTES), data.size // KEY_BYTES, [None, data])
        return cls(keys, payloads)

    @classmethod
    def join(cls, parts: Sequence[Records]) -> Records:
        """Put records behind one another."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            pa.concat_arrays([part.keys for part in parts]),
            pa.concat_arrays([part.payloads for part in parts]),
        )

    @property
    def key_data(self) -> memoryview:
        """The keys, one after another."""
        start = KEY_BYTES * self.keys.offset
        return memoryview(self.keys.buffers()[1] or b"")[start : start + KEY_BYTES * len(self.keys)]

    @property
    def size_bytes(self) -> int:
        """How many bytes keys and payloads have."""
        return KEY_BYTES * len(self) + int(pc.sum(pc.binary_length(self.payloads)).as_py() or 0)

    @property
    def prefixes(self) -> Any:
        """The leading bits of the keys, as a column of unsigned integers."""
        data, out = bytes(self.key_data), bytearray(8 * len(self))
        for place in range(_PREFIX_BYTES):
            out[place::8] = data[_PREFIX_BYTES - 1 - place :: KEY_BYTES]
        return pa.Array.from_buffers(pa.uint64(), len(self), [None, pa.py_buffer(out)])

    @property
    def families(self) -> Any:
        """The last bytes of the keys, as a column."""
        data = bytes(self.key_data)[KEY_BYTES - 1 :: KEY_BYTES]
        return pa.Array.from_buffers(pa.uint8(), len(self), [None, pa.py_buffer(data)])

    def take(self, rows: Any) -> Records:
        """Return the records of these rows, in this order."""
        return Records(self.keys.take(rows), self.payloads.take(rows))

    def between(self, low: int, high: int) -> Records:
        """Of sorted records, return those whose prefix is at least `low` and below `high`."""
        data, rows = self.key_data, range(len(self))

        def prefix(row: int) -> int:
            return int.from_bytes(data[KEY_BYTES * row : KEY_BYTES * row + _PREFIX_BYTES], "big")

        begin, end = (bisect_left(rows, bound, key=prefix) for bound in (low, high))
        return Records(self.keys[begin:end], self.payloads[begin:end])

    def settled(self, keep: Mapping[int, Keep]) -> Settled:
        """Sort by key, records with one key in their order, and leave those that count.

        Parameters
        ----------
        keep
            What counts, by family; all of one that is not in it.
        """
        order = pc.sort_indices(self.keys)
        ordered = Records(self.keys.take(order), order)
        rows = ordered._counting(keep, self.payloads)
        return Settled(ordered if rows is None else ordered.take(rows), self.payloads)

    def _counting(self, keep: Mapping[int, Keep], payloads: Any) -> Any:
        """Of sorted keys, with row numbers for payloads, return the rows that count, or None for all."""
        if len(self) < 2:
            return None
        same = pc.equal(self.keys[1:], self.keys[:-1])
        if not pc.any(same).as_py():
            return None
        as_before = pa.concat_arrays([pa.array([False]), same])
        as_after = pa.concat_arrays([same, pa.array([False])])
        is_first, is_last = (
            pc.is_in(self.families, pa.array([f for f, what in keep.items() if what == which], pa.uint8()))
            for which in ("first", "last")
        )
        drop = pc.or_(pc.and_(is_first, as_before), pc.and_(is_last, as_after))
        several = pc.and_not(pc.or_(as_before, as_after), pc.or_(is_first, is_last))
        rows = pc.indices_nonzero(several).cast(pa.int64())
        again = _again(rows, payloads.take(self.payloads.take(rows)), as_before)
        if len(again):
            drop = pc.or_(drop, pc.is_in(numbers(len(self)), again))
        return pc.indices_nonzero(pc.invert(drop))


@dataclass(frozen=True, slots=True)
class Settled:
    """Records in order of their keys; payloads follow when they are asked for, some at a time.

    Parameters
    ----------
    rows
        The keys, and for payloads the numbers of their rows.
    payloads
        The payloads, in any order.
    """

    rows: Records
    payloads: Any

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size_bytes(self) -> int:
        """How many bytes keys and payloads have."""
        lengths = pc.binary_length(self.payloads).take(self.rows.payloads)
        return KEY_BYTES * len(self) + int(pc.sum(lengths).as_py() or 0)

    def between(self, low: int, high: int) -> Records:
        """Return those whose prefix is at least `low` and below `high`."""
        part = self.rows.between(low, high)
        return Records(part.keys, self.payloads.take(part.payloads))


def _again(rows: Any, payloads: Any, as_before: Any) -> Any:
    """Of some rows, return those with key and payload of an earlier one."""
    groups = pc.cumulative_sum(pc.invert(as_before).cast(pa.int64())).take(rows)
    contents = pc.dictionary_encode(payloads)
    codes = contents.indices.cast(pa.int64())
    pairs = pc.add(pc.multiply(groups, len(contents.dictionary)), codes)
    order = pc.sort_indices(pairs)
    pairs = pairs.take(order)
    return rows.take(order[1:].filter(pc.equal(pairs[1:], pairs[:-1])))


def numbers(count: int) -> Any:
    """Return a column of the integers from 0 on."""
    return pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(array("q", range(count)))])
