"""The Merkle tree of RFC 6962 over event hashes, grown from its right edge.

`Peaks` holds the roots of the perfect subtrees that make up the tree, largest first: at most 64 digests
whatever the size, enough to append and to compute the root without reading history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from eventstore.hashing import hash_node

__all__ = ["EMPTY_ROOT", "Peaks", "audit_path", "root_from_path", "tree_root"]

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of the tree without leaves (RFC 6962, 2.1)."""


class Peaks:
    """An append-only RFC 6962 tree, kept as the roots of its perfect subtrees.

    Parameters
    ----------
    size
        How many leaves the tree has.
    peaks
        The 32-byte roots of its perfect subtrees, largest first: one for each set bit of `size`.

    Raises
    ------
    ValueError
        `peaks` do not fit `size`.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count() or any(len(peak) != 32 for peak in peaks):
            raise ValueError(
                f"a tree of {size} leaves has {size.bit_count()} peaks of 32 bytes, found {len(peaks)}"
            )
        self.size = size
        self._peaks = list(peaks)

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the perfect subtrees, largest first: with `size`, all that there is to keep."""
        return tuple(self._peaks)

    def copy(self) -> Peaks:
        """Return a tree that grows on its own from here."""
        return Peaks(self.size, self._peaks)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append event hashes, in order.

        Whole perfect subtrees are folded level by level, so the cost is one SHA-256 a leaf.
        """
        start, total = 0, len(leaves)
        while start < total:
            # The next subtree is as large as alignment allows (the lowest set bit of the size) and
            # as the leaves at hand fill.
            alignment = self.size & -self.size or 1 << 62
            height = min(alignment, 1 << (total - start).bit_length() - 1).bit_length() - 1
            self._push(_perfect_root(leaves[start : start + (1 << height)]), height)
            start += 1 << height

    def _push(self, node: bytes, height: int) -> None:
        size = self.size >> height
        while size & 1:
            node = hash_node(self._peaks.pop(), node)
            size >>= 1
        self._peaks.append(node)
        self.size += 1 << height

    def root(self) -> bytes:
        """Return the root of the whole tree: the peaks folded from the right."""
        if not self._peaks:
            return EMPTY_ROOT
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = hash_node(peak, node)
        return node


def _perfect_root(level: Sequence[bytes]) -> bytes:
    sha256 = hashlib.sha256
    while len(level) > 1:
        level = [
            sha256(b"\x01" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=True)
        ]
    return level[0]


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over all `leaves`."""
    peaks = Peaks()
    peaks.extend(leaves)
    return peaks.root()


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the proof that leaf `index` is in the tree over `leaves` (RFC 6962, 2.1.1), lowest first.

    Raises
    ------
    IndexError
        `index` is not in ``[0, len(leaves))``.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"the tree has leaves 0 to {len(leaves) - 1}, asked for {index}")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        split = low + (1 << (high - low - 1).bit_length() - 1)
        if index < split:
            path.append(tree_root(leaves[split:high]))
            high = split
        else:
            path.append(tree_root(leaves[low:split]))
            low = split
    return path[::-1]


def root_from_path(leaf: bytes, index: int, size: int, path: Iterable[bytes]) -> bytes:
    """Return the root that `path` proves for `leaf` at `index` of a tree of `size` leaves.

    Source: RFC 9162, 2.1.3.2. A wrong leaf, place or path gives another root.

    Raises
    ------
    ValueError
        The path has the wrong length for this place.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    node, last = leaf, size - 1
    for sibling in path:
        if last == 0:
            raise ValueError("the path is longer than the tree is high")
        if index & 1 or index == last:
            node = hash_node(sibling, node)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            node = hash_node(node, sibling)
        index >>= 1
        last >>= 1
    if last:
        raise ValueError("the path is shorter than the tree is high")
    return node
