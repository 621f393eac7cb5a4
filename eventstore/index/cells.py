"""Columns of the log as the keys and payloads of records: digests, and JSON that is put together by Arrow.

Other threads run meanwhile. Texts that are no hashes are digested by Python, each distinct one once, and so
are texts with control characters made JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.codec.payload import dump_fields
from eventstore.index.families import Family, digest
from eventstore.index.records import KEY_BYTES

__all__ = ["Cell", "Digests", "first_rows", "keys", "last_rows", "listed", "number", "row", "text", "texts"]

_DIGEST = 20
_FEWER = 16
"""To look for texts among so many times as many that are known costs more than to digest them."""


class Cell(NamedTuple):
    """A member of JSON lists: a column without nulls, and the same text before each of it, and behind it.

    Without a column it is the same for all rows.
    """

    before: str
    column: Any
    after: str

    def whole(self, count: int) -> Any:
        """Return all of it as a column of `count` rows."""
        if self.column is None:
            return pa.repeat(self.before + self.after, count)
        return pc.binary_join_element_wise(self.before, self.column, self.after, "")


# payloads ------------------------------------------------------------------------------------------------


def text(column: Any) -> Cell:
    """Return texts as JSON; null for null."""
    if column.null_count == len(column):
        return Cell("null", None, "")
    cell = Cell('"', _escaped(column), '"')
    if column.null_count == 0:
        return cell
    return Cell("", cell.whole(len(column)).fill_null("null"), "")


def number(column: Any) -> Cell:
    """Return integers or truth values as JSON; null for null."""
    if column.null_count == len(column):
        return Cell("null", None, "")
    return Cell("", column.cast(pa.string()).fill_null("null"), "")


def texts(column: Any) -> Cell:
    """Return lists of texts as JSON; the empty list for null."""
    return listed(column, text)


def listed(column: Any, member: Callable[[Any], Cell]) -> Cell:
    """Return lists as JSON; the empty list for null.

    Parameters
    ----------
    member
        Makes JSON of the members of all lists, which it is given as one column.
    """
    members = column.flatten()
    if not len(members):
        return Cell("[]", None, "")
    ends = pc.cumulative_sum(pc.list_value_length(column).fill_null(0))
    bounds = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    lists = pa.ListArray.from_arrays(bounds, member(members).whole(len(members)))
    return Cell("[", pc.binary_join(lists, ","), "]")


def row(*cells: Cell) -> Any:
    """Return a column of JSON lists; at least one of the cells has a column."""
    pieces: list[Any] = []
    between = "["
    for place, cell in enumerate(cells):
        between += ("," if place else "") + cell.before
        if cell.column is not None:
            pieces += (between, cell.column)
            between = ""
        between += cell.after
    return pc.binary_join_element_wise(*pieces, f"{between}]", "")


def _escaped(column: Any) -> Any:
    """Return texts as they stand between the quotes of JSON."""
    if not _has_special(column):
        return column
    escaped = pc.replace_substring(pc.replace_substring(column, "\\", r"\\"), '"', r"\"")
    rare = pc.match_substring_regex(column, r"[\x00-\x1f]").fill_null(False)
    made = [dump_fields(each).decode()[1:-1] for each in column.filter(rare).to_pylist()]
    return pc.replace_with_mask(escaped, rare, pa.array(made, column.type)) if made else escaped


def _has_special(column: Any) -> bool:
    """Whether any text has what JSON does not leave as it is; all are looked through as one."""
    data = _data(column)
    if data.size % 2 and memoryview(data)[-1] in _SPECIAL:
        return True
    pairs = pa.Array.from_buffers(pa.uint16(), data.size // 2, [None, data])
    return bool(pc.max(_is_special().take(pairs)).as_py())


_SPECIAL = frozenset(b'"\\' + bytes(range(32)))


@cache
def _is_special() -> Any:
    """For each pair of bytes, read as one number, whether one of the two is special."""
    known = [not _SPECIAL.isdisjoint(divmod(pair, 256)) for pair in range(1 << 16)]
    return pa.array(known).cast(pa.uint8())


def _data(column: Any) -> Any:
    """Return the bytes of all texts, one behind another."""
    _, offsets, data = column.buffers()
    if data is None or not len(column):
        return pa.py_buffer(b"")
    bounds = memoryview(offsets).cast("i")
    start, end = bounds[column.offset], bounds[column.offset + len(column)]
    return data.slice(start, end - start)


# keys ----------------------------------------------------------------------------------------------------


class Digests:
    """The 20 bytes that keys have of texts, see `eventstore.index.families.digest`, as columns.

    It knows the texts that it has met: jobs are met when they start, when they end, and as parents.
    """

    def __init__(self) -> None:
        self._texts = pa.array([], pa.string())
        self._made = pa.array([], pa.binary(_DIGEST))

    def of(self, column: Any) -> Any:
        """Return the digests of a column without nulls."""
        if pc.all(pc.equal(pc.binary_length(column), 2 * _DIGEST)).as_py():
            pairs = pa.Array.from_buffers(pa.uint16(), _DIGEST * len(column), [None, _data(column)])
            found = _bytes_of_hex().take(pairs)
            if not found.null_count:
                return pa.Array.from_buffers(pa.binary(_DIGEST), len(column), [None, found.buffers()[1]])
        distinct = pc.dictionary_encode(column)
        if _FEWER * len(distinct.dictionary) < len(self._texts):
            return _made_of(distinct.dictionary).take(distinct.indices)
        places = pc.index_in(distinct.dictionary, self._texts)
        if places.null_count:
            is_new = places.is_null()
            fresh = distinct.dictionary.filter(is_new)
            numbers = pa.arange(len(self._texts), len(self._texts) + len(fresh)).cast(pa.int32())
            places = pc.replace_with_mask(places, is_new, numbers)
            self._texts = pa.concat_arrays([self._texts, fresh])
            self._made = pa.concat_arrays([self._made, _made_of(fresh)])
        return self._made.take(places).take(distinct.indices)


def _made_of(distinct: Any) -> Any:
    return pa.array(map(digest, distinct.to_pylist()), pa.binary(_DIGEST))


@cache
def _bytes_of_hex() -> Any:
    """Return for each two characters, as a number of this machine, the byte that they stand for, or null."""
    found: list[int | None] = [None] * (1 << 16)
    for pair in product(b"0123456789abcdefABCDEF", repeat=2):
        found[int.from_bytes(pair, sys.byteorder)] = int(bytes(pair), 16)
    return pa.array(found, pa.uint8())


def keys(family: Family, first: Any, second: Any = None) -> Any:
    """Return keys as `eventstore.index.families.key_bytes` makes them, of digests; with two, of a pair."""
    parts = (
        [first] if second is None else [pc.binary_slice(each, 0, _DIGEST // 2) for each in (first, second)]
    )
    last, nothing = pa.scalar(bytes([family]), pa.binary()), pa.scalar(b"", pa.binary())
    joined = pc.binary_join_element_wise(*(part.cast(pa.binary()) for part in parts), last, nothing)
    return pa.Array.from_buffers(pa.binary(KEY_BYTES), len(joined), [None, joined.buffers()[2]])


# rows ----------------------------------------------------------------------------------------------------


def first_rows(column: Any) -> Any:
    """Return the numbers of the rows that have what no row before them has."""
    # Codes are given out in the order in which what they stand for is met.
    highest = pc.cumulative_max(pc.dictionary_encode(column).indices)
    before = pa.concat_arrays([pa.array([-1], pa.int32()), highest])[: len(highest)]
    return pc.indices_nonzero(pc.not_equal(highest, before))


def last_rows(column: Any) -> Any:
    """Return the numbers of the rows that have what no row behind them has, the last one first."""
    end = len(column) - 1
    return pc.subtract(end, first_rows(column[::-1]).cast(pa.int64()))
