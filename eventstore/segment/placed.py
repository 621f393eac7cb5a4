"""Rows of a sealed segment with their positions, whoever made the file: the one way that readers need."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa

from eventstore.codec.schema import POSITION
from eventstore.filesystem import Storage
from eventstore.segment.compacted import read_compacted
from eventstore.segment.facts import Segment
from eventstore.segment.opening import damaged
from eventstore.segment.own import read_segment

__all__ = ["read_placed"]


def read_placed(
    storage: Storage,
    segment: Segment,
    *,
    columns: Sequence[str] | None = None,
    kinds: Collection[str] | None = None,
    start: int = 0,
    end: int | None = None,
    raw: bytes | None = None,
) -> Iterator[pa.Table]:
    """Yield the rows of a sealed segment in order of position, ``position`` first, some at a time.

    Parameters
    ----------
    columns
        Those to read besides ``position``; None reads all.
    kinds, start, end
        What need not be read: rows of other kinds, or outside of this half-open range of positions. Row
        groups and blocks are left out by what is known of them and not cut, so the caller filters.
    raw
        The file's bytes, where they are at hand.

    Raises
    ------
    NotFoundError, IntegrityError, FormatError
        As `read_segment`; also where the file holds more or fewer events than were sealed.
    """
    path, first = segment.path, int(segment.first_position or 0)
    if segment.is_compacted:
        yield from read_compacted(storage, path, columns=columns, kinds=kinds, start=start, end=end, raw=raw)
        return
    rows = 0
    for row, table in read_segment(storage, path, columns=columns, first_row=max(0, start - first), raw=raw):
        rows = row + table.num_rows
        if end is None or first + row < end:
            positions = pa.chunked_array([pa.arange(first + row, first + rows)])
            yield table.add_column(0, POSITION, positions)
        else:
            return
    if rows != segment.count:
        raise damaged(path, f"it holds {rows} events where {segment.count} were sealed")
