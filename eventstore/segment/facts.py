"""What is known of a segment without opening it: a writer's own, or one that compaction made of several.

Seals carry these facts, and readers skip files by them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from eventstore import layout
from eventstore.ids import Digest, EventId, Position, WriterId

__all__ = ["KindCount", "Segment", "SegmentFile", "WriterRun", "combined"]


@dataclass(frozen=True, slots=True, order=True)
class KindCount:
    """How many events of one kind and schema version a segment holds."""

    kind: str
    version: int
    count: int


@dataclass(frozen=True, slots=True, order=True)
class WriterRun:
    """The events of one writer in a segment: numbered without a gap, placed in the order of their numbers."""

    writer: WriterId
    first_sequence: int
    count: int

    @property
    def end_sequence(self) -> int:
        """One past the last sequence number."""
        return self.first_sequence + self.count


@dataclass(frozen=True, slots=True)
class Segment:
    """What is known of a segment without opening it; times are microseconds of Unix time.

    `writers` has one entry in a writer's own segment; in a compacted one, one for each writer, sorted.
    `first_position` is None until a seal has placed it.
    """

    path: str
    digest: Digest
    size_bytes: int
    writers: tuple[WriterRun, ...]
    count: int
    recorded_from_us: int
    recorded_to_us: int
    kinds: tuple[KindCount, ...]
    first_position: Position | None = None

    @property
    def is_compacted(self) -> bool:
        """Whether compaction made it: rows lie in blocks, sorted by kind."""
        return self.path.startswith(f"{layout.COMPACTED}/")

    @property
    def run(self) -> WriterRun:
        """The only writer's events; a compacted segment may have several."""
        (run,) = self.writers
        return run

    @property
    def writer(self) -> WriterId:
        """The only writer."""
        return self.run.writer

    @property
    def first_sequence(self) -> int:
        """The only writer's first sequence number."""
        return self.run.first_sequence

    @property
    def end_sequence(self) -> int:
        """One past the only writer's last sequence number."""
        return self.run.end_sequence

    def holds(self, event: EventId) -> bool:
        """Whether the event is in it."""
        return any(
            event.writer == run.writer and run.first_sequence <= event.sequence < run.end_sequence
            for run in self.writers
        )

    @property
    def end_position(self) -> int:
        """One past the last position; only for a sealed segment."""
        if self.first_position is None:
            raise ValueError(f"{self.path} is not sealed")
        return self.first_position + self.count


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment in memory: what is known of it, and its bytes."""

    segment: Segment
    data: bytes


def combined(segments: Sequence[Segment], path: str, digest: Digest, size_bytes: int) -> Segment:
    """Return what is known of a file that holds the events of neighbouring sealed segments, and no others."""
    writers: dict[WriterId, WriterRun] = {}
    kinds: Counter[tuple[str, int]] = Counter()
    for segment in segments:
        for run in segment.writers:
            before = writers.get(run.writer)
            writers[run.writer] = run if before is None else replace(before, count=before.count + run.count)
        for kind in segment.kinds:
            kinds[kind.kind, kind.version] += kind.count
    return Segment(
        path=path,
        digest=digest,
        size_bytes=size_bytes,
        writers=tuple(sorted(writers.values())),
        count=sum(segment.count for segment in segments),
        recorded_from_us=min(segment.recorded_from_us for segment in segments),
        recorded_to_us=max(segment.recorded_to_us for segment in segments),
        kinds=tuple(sorted(KindCount(*kind, count) for kind, count in kinds.items())),
        first_position=segments[0].first_position,
    )
