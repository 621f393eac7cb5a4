"""Which neighbours to merge: few files are left, and each event is rewritten a bounded number of times."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.log.tiers import FULL, merges

shares = st.lists(st.floats(1e-6, 1.0), max_size=40)


def _after(sizes: list[float], *, least: int) -> list[float]:
    """The sizes that are left when all merges are done."""
    for one in reversed(merges(sizes, least=least)):
        sizes = [*sizes[: one.start], sum(sizes[one]), *sizes[one.stop :]]
    return sizes


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([0.1], []),
        ([0.1, 0.1], [slice(0, 2)]),
        ([0.9, 0.8], []),
        ([0.4, 0.1, 0.1], [slice(1, 3)]),
        ([0.4, 0.2, 0.1], []),
        ([0.4, 0.1, 0.1, 0.2], [slice(0, 4)]),
        ([0.4, 0.1, 0.05, 0.05], [slice(1, 4)]),
        ([0.3, 0.3, 0.3, 0.3], [slice(0, 3)]),
        ([0.1, 0.2, 0.9, 0.01], [slice(0, 2)]),
        ([0.4, 0.01, 0.9], [slice(0, 2)]),
        ([0.01, 0.9, 0.01, 0.9], []),
        ([0.2] * 8, [slice(0, 5), slice(5, 8)]),
        ([0.4] * 6, [slice(0, 2), slice(2, 4), slice(4, 6)]),
    ],
    ids=str,
)
def test_merges_are_those_that_are_worth_it(sizes: list[float], expected: list[slice]) -> None:
    """Not what is full; at the end, from the first that is no larger than all after it."""
    assert merges(sizes, least=2) == expected


def test_few_files_at_the_end_are_not_worth_a_merge() -> None:
    """But what lies between full ones is merged however few it is: nothing comes there any more."""
    assert merges([0.1, 0.1, 0.1], least=4) == []
    assert merges([0.1, 0.1, 0.1, 0.1], least=4) == [slice(0, 4)]
    assert merges([0.1, 0.1, 0.9], least=4) == [slice(0, 2)]


@given(shares, st.integers(2, 5))
def test_merges_are_disjoint_in_order_and_never_too_large(sizes: list[float], least: int) -> None:
    """Each takes two files or more, none of them full, and makes no file larger than may be."""
    found = merges(sizes, least=least)
    assert all(one.stop - one.start >= 2 for one in found)
    assert all(first.stop <= second.start for first, second in pairwise(found))
    assert all(sum(sizes[one]) <= 1 + 1e-9 for one in found)
    assert all(share < FULL for one in found for share in sizes[one])


@given(shares)
def test_what_is_left_stays(sizes: list[float]) -> None:
    """A second run finds nothing at the end; between full files, one more at most."""
    left = _after(sizes, least=2)
    assert _after(left, least=2) in (left, _after(_after(left, least=2), least=2))
    small = [share for share in left if share < FULL]
    full = len(left) - len(small)
    assert full <= 2 * sum(sizes)
    assert len(small) <= 2 * (full + 1) + math.log2(max(1, sum(sizes) / min(sizes, default=1))) + 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("flush", [1, 7, 300])
def test_events_are_rewritten_a_logarithm_of_times(seed: int, flush: int) -> None:
    """However small the flushes are, and however often someone compacts: 1,000 flushes of random sizes."""
    chance = random.Random(seed)
    full, rewritten, total = 20_000, 0, 0
    sizes: list[int] = []
    for _ in range(1_000):
        sizes.append(chance.randint(1, 2 * flush))
        total += sizes[-1]
        if chance.random() < 0.3:
            for one in reversed(merges([size / full for size in sizes], least=2)):
                rewritten += sum(sizes[one])
                sizes[one] = [sum(sizes[one])]
    assert sum(sizes) == total
    assert rewritten <= total * (1 + math.log2(full / flush))
    assert len(sizes) <= 4 * total / full + 20 + 10
