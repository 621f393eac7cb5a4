"""What tests of the chain share: seals that follow one another, in memory, without a store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from store_kit import STORE_ID, WRITERS, beats, segment_of

from eventstore import layout
from eventstore.chain import Snapshot, entries_digest
from eventstore.ids import Digest
from eventstore.seal import Seal
from eventstore.segment import Segment, combined

START = Snapshot(STORE_ID)
"""The empty sequence."""
SEALED_AT = "2024-05-06T07:08:09+00:00"

Part = tuple[Segment, list[bytes]]


def part(names: str, *, writer: int = 0, first: int = 0) -> Part:
    """A segment of events with these names, and their hashes."""
    file, hashes = segment_of(beats(*names), writer=WRITERS[writer], first=first)
    return file.segment, hashes


def adding(after: Snapshot, *parts: Part, place: Callable[[Segment], Segment] | None = None) -> Seal:
    """The seal that adds these segments; `place` may put each elsewhere than it belongs."""
    peaks, placed = after.peaks.copy(), []
    for segment, hashes in parts:
        at = replace(segment, first_position=peaks.size)  # type: ignore[arg-type]
        placed.append(place(at) if place else at)
        peaks.extend(hashes)
    return _seal(
        after,
        segments=tuple(placed),
        size=peaks.size,
        peaks=peaks.peaks,
        root=peaks.root(),
        entries=entries_digest(after.entries, placed),
    )


def compacted(after: Snapshot, start: int, stop: int, *, digest: str = "c" * 64) -> Segment:
    """What a compacted segment says that takes the place of these segments."""
    originals = after.segments[start:stop]
    path = layout.compacted_path(originals[0].first_position or 0, originals[-1].end_position, digest)
    return combined(originals, path=path, digest=Digest(digest), size_bytes=1000)


def compacting(after: Snapshot, *segments: Segment, **changes: Any) -> Seal:
    """The seal that puts compacted segments in the place of others."""
    listed = after.segments
    for segment in segments:
        listed = listed.replaced(segment)
    return _seal(
        after,
        segments=(),
        compacted=segments,
        size=after.peaks.size,
        peaks=after.peaks.peaks,
        root=after.peaks.root(),
        entries=listed.entries,
        **changes,
    )


def follow(after: Snapshot, *seals: Seal) -> Snapshot:
    """The sequence after these seals."""
    return after.then((seal.encode()[0], seal) for seal in seals)


def _seal(after: Snapshot, **said: Any) -> Seal:
    fields = {
        "number": after.number + 1,
        "previous": after.digest,
        "store_id": STORE_ID,
        "sealed_at": SEALED_AT,
        "software": "test",
    }
    return Seal(**(fields | said))
