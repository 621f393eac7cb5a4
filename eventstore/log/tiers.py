"""Which neighbours to merge, so that files stay few and every event is rewritten a bounded number of times.

A pure function over sizes. It serves compacted segments and archives of seals alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

__all__ = ["FULL", "merges"]

FULL = 0.5
"""The share of a full file from which on a file is not merged any more."""


def merges(shares: Sequence[float], *, least: int) -> list[slice]:
    """Return which neighbouring files to merge, as slices of two or more, in order.

    Files that are `FULL` stay. What lies between two of them is merged at once, as nothing comes between
    them any more. At the end, where new files come, the longest run is merged whose first file is no larger
    than all that follow it: so a file that is rewritten becomes at least twice as large (or twice as large
    as it was when it was rewritten last), and what remains falls by halves. An event is so rewritten as
    often as the sizes from its first file to a full one can be doubled.

    Parameters
    ----------
    shares
        How large each file is, as a share of the largest that may be made.
    least
        Fewest files that a merge at the end takes; a merge of fewer is not worth a seal.
    """
    found: list[slice] = []
    start = 0
    while start < len(shares):
        end = start
        while end < len(shares) and shares[end] < FULL:
            end += 1
        if end < len(shares):
            found += _full_files(shares, start, end)
        elif start < end:
            first = start + _first_worth(shares[start:end])
            if end - first >= least:
                found += _full_files(shares, first, end)
        start = end + 1
    return found


def _first_worth(shares: Sequence[float]) -> int:
    """Return the place of the first share that is no larger than the sum of those after it."""
    after = list(accumulate(reversed(shares)))[::-1]
    return next((place for place, rest in enumerate(after[1:]) if shares[place] <= rest), len(shares))


def _full_files(shares: Sequence[float], start: int, end: int) -> list[slice]:
    """Split a run into files as large as may be; what is alone stays as it is."""
    found, first, size = [], start, 0.0
    for place in range(start, end):
        if place > first and size + shares[place] > 1:
            found.append(slice(first, place))
            first, size = place, 0.0
        size += shares[place]
    found.append(slice(first, end))
    return [one for one in found if one.stop - one.start > 1]
