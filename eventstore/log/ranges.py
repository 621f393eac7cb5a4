"""Ranges of positions that can be read one after another at no more cost than all at once.

A writer's segment is decoded whole, and so is a block of a compacted one: a range that ends inside would read
it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from eventstore.log.reader import select_segments
from eventstore.segment import Segment

__all__ = ["ranges_of"]


def ranges_of(
    segments: Sequence[Segment],
    blocks: Callable[[Segment], Sequence[int]],
    *,
    after: int | None,
    until: int,
    rows: int,
) -> Iterator[tuple[int, int]]:
    """Yield ``(first, end)`` of ranges which together are ``(after, until)``.

    Parameters
    ----------
    blocks
        Says how many rows each block of a compacted segment has.
    rows
        Positions that a range has at most, unless a segment or a block alone has more.
    """
    first = 0 if after is None else after + 1
    end = first
    for segment in select_segments(segments, after=after, until=until, kinds=None):
        stop = segment.first_position or 0
        for count in blocks(segment) if segment.is_compacted else (segment.count,):
            stop += count
            if stop <= end:
                continue
            if end > first and min(stop, until) - first > rows:
                yield first, end
                first = end
            end = min(stop, until)
            if end == until:
                break
    if end > first:
        yield first, end
