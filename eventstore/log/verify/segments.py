"""Verification of sealed segments: every row's hash, and with them the tree at every seal.

The segments are those that the log consists of now: an event that was altered as it was compacted changes
the root of a seal that was put long before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from eventstore import layout
from eventstore.chain import SealedSegments
from eventstore.codec.canonical import event_hashes
from eventstore.errors import EventStoreError, NotFoundError
from eventstore.log.verify.chain import ChainCheck, Step
from eventstore.log.verify.report import Inspection
from eventstore.merkle import Peaks
from eventstore.seal import seal_damaged
from eventstore.segment import (
    KindCount,
    Segment,
    check_bytes,
    count_kinds,
    damaged,
    missing,
    read_placed,
    store_id_in,
)

__all__ = ["SegmentsCheck", "bad_row"]


@dataclass(slots=True)
class _Facts:
    """What a seal says of a segment so that readers can skip it, collected from its rows."""

    kinds: Counter[tuple[str, int]] = field(default_factory=Counter)
    times: list[int] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        self.kinds += count_kinds(table)
        self.times.extend(pc.min_max(table["recorded_at"].cast(pa.int64())).as_py().values())

    def are_those_of(self, segment: Segment) -> bool:
        kinds = tuple(sorted(KindCount(*kind, count) for kind, count in self.kinds.items()))
        span = (segment.recorded_from_us, segment.recorded_to_us)
        return kinds == segment.kinds and span == (min(self.times), max(self.times))


class SegmentsCheck:
    """Reads every segment that the log consists of, and recomputes hashes and roots."""

    def __init__(self, inspection: Inspection, chain: ChainCheck) -> None:
        self._inspection = inspection
        self._chain = chain

    def run(self) -> None:
        """Check all segments in order, and the root of every seal; goes on after a finding."""
        report, segments = self._inspection.report, self._chain.chain.segments
        tree = _Tree(self._inspection, self._chain)
        position = 0
        while position < report.size:
            segment = segments.at(position)
            try:
                raw = self._inspection.read(segment.path)
            except EventStoreError as error:
                if isinstance(error, NotFoundError):
                    later = self._replaced_since(segment)
                    if later is not None:
                        segments = later
                        continue
                    error = missing(segment.path, self._inspection.storage.url)
                self._inspection.found(error, position=position)
                hashes = None
            else:
                hashes = self._check_file(segment, raw)
            end = segment.end_position
            # One that took the place of others, while we were at these, holds what was checked already.
            tree.add(hashes[position - end :] if hashes is not None else None, end)
            position = end
            self._inspection.progress(report.events, report.size)

    def _replaced_since(self, segment: Segment) -> SealedSegments | None:
        """Return the segments as they are by now, if the one that is gone is no longer among them."""
        later = ChainCheck(Inspection(self._inspection.storage, self._inspection.store_id))
        later.run()
        now = later.chain.segments
        if not later.whole or len(now) == 0 or segment.path not in later.replaced:
            return None
        return now

    def _check_file(self, segment: Segment, raw: bytes) -> list[bytes] | None:
        """Return the event hashes of a segment; None where it has a fault, which is found."""
        report = self._inspection.report
        report.segments += 1
        whole_file: EventStoreError | None = None
        try:
            check_bytes(segment.path, raw)
        except EventStoreError as error:
            whole_file = error
        hashes, position, fault = self._check_rows(segment, raw)
        worst = whole_file or fault
        if worst is not None:
            self._inspection.found(worst, position=position)
        return None if fault is not None else hashes

    def _check_rows(self, segment: Segment, raw: bytes) -> tuple[list[bytes], int, EventStoreError | None]:
        """Return the event hashes of a segment, and its first fault with its position."""
        path, position = segment.path, int(segment.first_position or 0)
        hashes: list[bytes] = []
        facts = _Facts()
        ends = {str(run.writer): run.first_sequence for run in segment.writers}
        try:
            for table in read_placed(self._inspection.storage, segment, raw=raw):
                recomputed = event_hashes(table)
                bad = bad_row(table, recomputed, ends, position)
                if bad is not None:
                    position += bad[0]
                    return hashes, position, damaged(path, f"the event at position {position} {bad[1]}")
                hashes += recomputed
                facts.add(table)
                self._inspection.note_values(table, position)
                position += table.num_rows
        except EventStoreError as error:
            return hashes, position, error
        except Exception as error:
            # Bytes that were altered can break a decoder in any way; the other files are to be read too.
            return hashes, position, damaged(path, repr(error))
        finally:
            self._inspection.report.events += len(hashes)
        fault = None
        stated = {str(run.writer): run.end_sequence for run in segment.writers}
        if len(hashes) != segment.count or ends != stated:
            fault = damaged(path, f"it holds {len(hashes)} events where {segment.count} were sealed")
        elif not facts.are_those_of(segment) or len(raw) != segment.size_bytes:
            fault = damaged(path, "its kinds, times or size are not those that its seal states")
        elif (store_id := store_id_in(raw)) != self._inspection.store_id:
            fault = damaged(path, f"its footer names the store {store_id}, not {self._inspection.store_id}")
        return hashes, segment.first_position or 0, fault


def bad_row(
    table: pa.Table, hashes: Sequence[bytes], ends: dict[str, int], position: int | None = None
) -> tuple[int, str] | None:
    """Return the first row that is wrong, and how.

    Parameters
    ----------
    hashes
        Those that the rows should have.
    ends
        For each writer of the segment, the sequence of its next event; brought up to date.
    position
        That of the first row, if the table says positions.
    """
    leaves = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(hashes), [None, pa.py_buffer(b"".join(hashes))]
    )
    checks = [(pc.equal(table["event_hash"], leaves), "does not have the hash that is stored with it")]
    if position is not None:
        expected = pa.chunked_array([pa.arange(position, position + table.num_rows)])
        checks.append((pc.equal(table["position"], expected), "stands at another position"))
    worst: tuple[int, str] | None = None
    for good, words in checks:
        row = pc.index(good, False).as_py()
        if row < 0 and good.null_count:
            row = pc.index(good.is_null(), True).as_py()
        if row >= 0 and (worst is None or row < worst[0]):
            worst = (row, words)
    for row, words in _strays(table, ends):
        if worst is None or row < worst[0]:
            worst = (row, words)
    return worst


def _strays(table: pa.Table, ends: dict[str, int]) -> Iterator[tuple[int, str]]:
    """Yield the first row of each writer that is not by one of `ends`, or out of sequence."""
    writers = pc.unique(table["writer"]).to_pylist()
    for writer in writers:
        if writer not in ends:
            yield pc.index(table["writer"], writer).as_py() if writer else 0, "is by no writer of its segment"
            continue
        own = pc.equal(table["writer"], writer) if len(writers) > 1 else None
        sequences = table["sequence"] if own is None else table["sequence"].filter(own)
        good = pc.equal(sequences, pa.chunked_array([pa.arange(ends[writer], ends[writer] + len(sequences))]))
        row = pc.index(good, False).as_py()
        if row >= 0:
            if own is not None:
                row = pc.indices_nonzero(own)[row].as_py()
            yield row, "is out of sequence"
        ends[writer] += len(sequences)


class _Tree:
    """Grows the tree over the events as they are read, and compares it with every seal's root."""

    def __init__(self, inspection: Inspection, chain: ChainCheck) -> None:
        self._inspection = inspection
        self._chain = chain
        self._steps = iter(chain.steps)
        self._next: Step | None = next(self._steps, None)
        self._before = self._reached = 0
        self._peaks: Peaks | None = Peaks()

    def add(self, hashes: Sequence[bytes] | None, end: int) -> None:
        """Go on with the events up to position `end`; None where their hashes are not known."""
        start = self._reached
        while self._next is not None and self._next.size <= end:
            step = self._next
            self._grow(hashes, start, step.size)
            self._close(step)
        self._grow(hashes, start, end)

    def _grow(self, hashes: Sequence[bytes] | None, start: int, end: int) -> None:
        if end > self._reached:
            if hashes is None:
                self._peaks = None
            elif self._peaks is not None:
                self._peaks.extend(hashes[self._reached - start : end - start])
            self._reached = end

    def _close(self, step: Step) -> None:
        peaks = self._peaks
        if peaks is None or peaks.root() != step.root:
            if peaks is not None:
                self._inspection.found(
                    seal_damaged(
                        layout.seal_path(step.number),
                        f"the events up to position {step.size} have the root {peaks.root().hex()}, not "
                        f"{step.root.hex()}",
                    ),
                    position=self._before,
                )
            # What is wrong is named; the next seals are checked against what this one says.
            self._peaks = Peaks(step.size, self._chain.seal(step.number).peaks)
        self._before = step.size
        self._next = next(self._steps, None)
