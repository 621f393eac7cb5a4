"""The sequence of the log, link by link: which segments it consists of, and what each link may change.

A link adds segments at the end, or puts compacted ones in the place of others; positions, events and the
tree over them stay. Nothing of a link is believed that can be computed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import overload

from eventstore import layout
from eventstore.codec.payload import dump_json
from eventstore.ids import Digest, WriterId
from eventstore.merkle import Peaks
from eventstore.seal import GENESIS, Seal, plain_segment, seal_damaged
from eventstore.segment import Segment, combined

__all__ = ["Chain", "SealedSegments", "Snapshot", "entries_digest"]


def entries_digest(before: Digest, segments: Iterable[Segment]) -> Digest:
    """Return the digest of a list of segments that goes on with `segments`, from that of the list `before`.

    It is what a seal states as `entries`: whoever holds the list alone can so compare it with one seal.
    """
    for segment in segments:
        said = before.encode() + dump_json(plain_segment(segment))
        before = Digest(hashlib.sha256(said).hexdigest())
    return before


class SealedSegments(Sequence[Segment]):
    """The segments that the log consists of, in order, without a gap.

    Lists that have grown from one another share what is behind them: going on costs what is added, and
    whoever holds an earlier one sees what it always held. Where segments are replaced the list is copied.
    """

    __slots__ = ("_digests", "_length", "_segments")

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._digests: list[Digest] = [GENESIS]
        """What `entries` is after so many segments."""
        self._length = 0

    @property
    def entries(self) -> Digest:
        """The digest of the list."""
        return self._digests[self._length]

    def then(self, segments: Iterable[Segment]) -> SealedSegments:
        """Return these and the next segments."""
        after = SealedSegments()
        after._segments, after._digests = self._segments, self._digests
        if len(self._segments) != self._length:
            # Someone else has grown from here already, another way.
            after._segments, after._digests = self._copy()
        for segment in segments:
            after._segments.append(segment)
            after._digests.append(entries_digest(after._digests[-1], [segment]))
        after._length = len(after._segments)
        return after

    def _copy(self, length: int | None = None) -> tuple[list[Segment], list[Digest]]:
        length = self._length if length is None else length
        return self._segments[:length], self._digests[: length + 1]

    def replaced(self, compacted: Segment) -> SealedSegments:
        """Return these with a compacted segment in the place of those that hold the same positions.

        Raises
        ------
        ValueError
            There is no run of whole segments with these positions and facts.
        """
        run = self.run(compacted.first_position or 0, compacted.end_position)
        originals = self[run]
        file = compacted.path, compacted.digest, compacted.size_bytes
        anew = bool(originals) and all(segment.path != compacted.path for segment in originals)
        if not anew or combined(originals, *file) != compacted:
            raise ValueError(f"{compacted.path} is not what the segments with its positions are together")
        after = SealedSegments()
        after._segments, after._digests = self._copy(run.start)
        after._length = len(after._segments)
        return after.then([compacted, *self[run.stop :]])

    def run(self, first_position: int, end_position: int) -> slice:
        """Return the place of the segments that hold exactly these positions; an empty one if none do."""
        start = bisect_left(self, first_position, key=_first_position)
        stop = bisect_left(self, end_position, key=_first_position)
        if start < stop and (self[start].first_position, self[stop - 1].end_position) == (
            first_position,
            end_position,
        ):
            return slice(start, stop)
        return slice(start, start)

    def covering(self, first_position: int, end_position: int) -> list[Segment]:
        """Return the segments that hold some of these positions."""
        start = max(0, bisect_right(self, first_position, key=_first_position) - 1)
        return self[start : bisect_left(self, end_position, key=_first_position)]

    def at(self, position: int) -> Segment:
        """Return the segment that holds a position of the log."""
        return self[bisect_right(self, position, key=_first_position) - 1]

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SealedSegments):
            return NotImplemented
        return len(self) == len(other) and self.entries == other.entries

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Segment]:
        return islice(self._segments, self._length)

    @overload
    def __getitem__(self, place: int) -> Segment: ...
    @overload
    def __getitem__(self, place: slice) -> list[Segment]: ...
    def __getitem__(self, place: int | slice) -> Segment | list[Segment]:
        if isinstance(place, slice):
            return [self._segments[number] for number in range(self._length)[place]]
        return self._segments[range(self._length)[place]]


def _first_position(segment: Segment) -> int:
    return segment.first_position or 0


@dataclass(slots=True)
class Chain:
    """Where a chain of seals stands. It goes on link by link."""

    store_id: str
    number: int = 0
    digest: Digest = GENESIS
    peaks: Peaks = field(default_factory=Peaks)
    sealed_at: str | None = None
    segments: SealedSegments = field(default_factory=SealedSegments)
    writers: dict[WriterId, int] = field(default_factory=dict)
    """One past the last sealed sequence of every writer."""

    def follow(self, digest: Digest, seal: Seal) -> None:
        """Go on to the next seal.

        Raises
        ------
        IntegrityError
            The seal does not follow: number, chain, store, time, positions, sequences, what it compacts, or
            entries are wrong. The chain stays where it was.
        """
        path = layout.seal_path(seal.number)
        if seal.store_id != self.store_id:
            raise seal_damaged(path, f"it belongs to the store {seal.store_id}, not {self.store_id}")
        if seal.number != self.number + 1 or seal.previous != self.digest:
            raise seal_damaged(path, f"it follows {seal.previous}, and the seal before it is {self.digest}")
        if self.sealed_at is not None and seal.moment < dt.datetime.fromisoformat(self.sealed_at):
            raise seal_damaged(path, f"it is of {seal.sealed_at}, and the seal before it of {self.sealed_at}")
        if seal.compacted and seal.segments:
            raise seal_damaged(path, "it adds segments and replaces others")
        ends = self._placed(path, seal)
        segments = self._compacted(path, seal) if seal.compacted else self.segments.then(seal.segments)
        if seal.entries != segments.entries:
            raise seal_damaged(path, "its `entries` are not the digest of the segments up to it")
        self.number, self.digest, self.segments = seal.number, digest, segments
        self.sealed_at = seal.sealed_at
        self.peaks = Peaks(seal.size, seal.peaks)
        self.writers.update(ends)

    def _placed(self, path: str, seal: Seal) -> dict[WriterId, int]:
        """Check what the seal adds; returns how far it brings its writers."""
        ends: dict[WriterId, int] = {}
        position = self.peaks.size
        for segment in seal.segments:
            expected = ends.get(segment.writer, self.writers.get(segment.writer, 0))
            if segment.first_position != position or segment.first_sequence != expected:
                raise seal_damaged(
                    path,
                    f"{segment.path} stands at position {segment.first_position} and sequence "
                    f"{segment.first_sequence} where {position} and {expected} belong",
                )
            if segment.run.count != segment.count:
                raise seal_damaged(path, f"{segment.path} has {segment.count} events, {segment.run.count} ")
            ends[segment.writer] = segment.end_sequence
            position += segment.count
        if position != seal.size:
            raise seal_damaged(path, f"it says {seal.size} events where {position} belong")
        return ends

    def _compacted(self, path: str, seal: Seal) -> SealedSegments:
        """Check what the seal replaces; returns the segments after it."""
        if seal.peaks != self.peaks.peaks:
            raise seal_damaged(path, "it compacts, and names another tree than the seal before it")
        segments = self.segments
        for compacted in seal.compacted:
            name = layout.parse_compacted(compacted.path)
            if name is None or (name.first_position, name.end_position) != (
                compacted.first_position,
                compacted.end_position,
            ):
                raise seal_damaged(path, f"{compacted.path} stands at other positions than its name says")
            try:
                segments = segments.replaced(compacted)
            except ValueError as error:
                raise seal_damaged(path, str(error)) from error
        return segments


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole sequence up to and including seal `number`, whose digest is `digest`."""

    store_id: str
    number: int = 0
    digest: Digest = GENESIS
    peaks: Peaks = field(default_factory=Peaks)
    sealed_at: str | None = None
    segments: SealedSegments = field(default_factory=SealedSegments)
    writers: Mapping[WriterId, int] = field(default_factory=dict)
    """One past the last sealed sequence of every writer."""

    @property
    def entries(self) -> Digest:
        """The digest of the segments."""
        return self.segments.entries

    def then(self, links: Iterable[tuple[Digest, Seal]]) -> Snapshot:
        """Return the sequence with more seals; raises like `Chain.follow`."""
        chain: Chain | None = None
        for digest, seal in links:
            if chain is None:
                chain = self.chain()
            chain.follow(digest, seal)
        return self if chain is None else Snapshot.of(chain)

    def chain(self) -> Chain:
        """Return a chain that goes on from here."""
        return Chain(
            self.store_id,
            self.number,
            self.digest,
            self.peaks,
            self.sealed_at,
            self.segments,
            dict(self.writers),
        )

    @classmethod
    def of(cls, chain: Chain) -> Snapshot:
        """Return where a chain stands; the chain is not to go on after that."""
        return cls(
            chain.store_id,
            chain.number,
            chain.digest,
            chain.peaks,
            chain.sealed_at,
            chain.segments,
            chain.writers,
        )
