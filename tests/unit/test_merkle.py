"""The tree: grown from its right edge it is the one that RFC 6962 defines, and its proofs prove."""

from __future__ import annotations

import hashlib
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.merkle import EMPTY_ROOT, Peaks, audit_path, root_from_path, tree_root

SIZES = [*range(1, 34), 63, 64, 65, 100, 127, 128, 129]


def leaves_of(size: int) -> list[bytes]:
    """That many different leaves."""
    return [hashlib.sha256(b"leaf %d" % number).digest() for number in range(size)]


def naive_root(leaves: list[bytes]) -> bytes:
    """The definition: split at the largest power of two below the size, and hash both sides."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def test_the_empty_tree_has_the_root_of_the_rfc() -> None:
    """The root of no leaves is SHA-256 of nothing."""
    assert Peaks().root() == EMPTY_ROOT == tree_root([]) == hashlib.sha256().digest()


@pytest.mark.parametrize("size", SIZES)
def test_roots_are_those_of_the_definition(size: int) -> None:
    """The root over any number of leaves is that of the recursive definition."""
    assert tree_root(leaves_of(size)) == naive_root(leaves_of(size))


@given(st.lists(st.integers(0, 40), max_size=8))
def test_any_split_into_batches_grows_the_same_tree(batches: list[int]) -> None:
    """Leaves appended in batches, also empty ones, give at each stop the root over all so far."""
    leaves = leaves_of(sum(batches))
    tree = Peaks()
    for start, end in zip([0, *accumulate(batches)], accumulate(batches), strict=False):
        tree.extend(leaves[start:end])
        assert (tree.size, tree.root()) == (end, naive_root(leaves[:end]))


@pytest.mark.parametrize("size", SIZES)
def test_a_tree_continues_from_its_peaks(size: int) -> None:
    """Size and peaks are all there is to keep: a tree made from them grows as the first would have."""
    leaves = leaves_of(size + 5)
    tree = Peaks()
    tree.extend(leaves[:size])
    assert len(tree.peaks) == size.bit_count()
    again = Peaks(tree.size, tree.peaks)
    again.extend(leaves[size:])
    assert again.root() == naive_root(leaves)


def test_a_copy_grows_alone() -> None:
    """Appending to a copy leaves the tree that it was made from as it was."""
    tree = Peaks()
    tree.extend(leaves_of(3))
    copy = tree.copy()
    copy.extend(leaves_of(2))
    assert (tree.size, tree.root()) == (3, naive_root(leaves_of(3)))
    assert (copy.size, copy.root()) == (5, naive_root(leaves_of(3) + leaves_of(2)))


@pytest.mark.parametrize(
    ("size", "peaks"), [(0, [b"x" * 32]), (3, [b"x" * 32]), (2, []), (1, [b"x" * 31]), (3, [b"x" * 32] * 3)]
)
def test_peaks_that_do_not_fit_the_size_are_refused(size: int, peaks: list[bytes]) -> None:
    """A tree has one peak of 32 bytes for each set bit of its size."""
    with pytest.raises(ValueError, match="peaks of 32 bytes"):
        Peaks(size, peaks)


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_has_a_path_to_the_root(size: int) -> None:
    """The audit path of each leaf proves the root, and is at most as long as the tree is high."""
    leaves = leaves_of(size)
    root = naive_root(leaves)
    for index, leaf in enumerate(leaves):
        path = audit_path(leaves, index)
        assert root_from_path(leaf, index, size, path) == root
        assert len(path) <= (size - 1).bit_length()


@given(st.integers(2, 40).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))), st.data())
def test_a_wrong_leaf_place_or_path_proves_nothing(place: tuple[int, int], data: st.DataObject) -> None:
    """Another leaf, another place, an altered or a shorter or longer path never gives the root."""
    size, index = place
    leaves = leaves_of(size)
    root, path = naive_root(leaves), audit_path(leaves, index)

    def proves(leaf: bytes, at: int, by: list[bytes]) -> bool:
        try:
            return root_from_path(leaf, at, size, by) == root
        except ValueError:
            return False

    assert not proves(b"\x00" * 32, index, path)
    assert not proves(leaves[index], data.draw(st.integers(0, size - 1).filter(lambda i: i != index)), path)
    altered = data.draw(st.integers(0, len(path) - 1))
    assert not proves(leaves[index], index, [*path[:altered], b"\x00" * 32, *path[altered + 1 :]])
    assert not proves(leaves[index], index, path[:-1])
    assert not proves(leaves[index], index, [*path, b"\x00" * 32])


@pytest.mark.parametrize("index", [-1, 3, 4])
def test_a_place_outside_the_tree_is_refused(index: int) -> None:
    """There is no path for a leaf that the tree does not have, and none is checked."""
    with pytest.raises(IndexError, match="leaves 0 to 2"):
        audit_path(leaves_of(3), index)
    with pytest.raises(ValueError, match="no leaf"):
        root_from_path(b"x" * 32, index, 3, [])


@pytest.mark.parametrize(("path", "word"), [([], "shorter"), ([b"x" * 32] * 3, "longer")])
def test_a_path_of_the_wrong_length_is_an_error(path: list[bytes], word: str) -> None:
    """A path that ends below or above the root says which."""
    with pytest.raises(ValueError, match=word):
        root_from_path(b"y" * 32, 0, 4, path)
