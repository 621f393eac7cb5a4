"""Compaction: neighbouring segments become one, laid out for readers, proven before it is published.

Events, hashes, positions and root stay. The long work holds no lock; a seal decides between two compactors,
and what was replaced stays until `eventstore.log.cleaning` removes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from eventstore.errors import EventStoreError, IntegrityError, NotFoundError
from eventstore.filesystem import Storage
from eventstore.log.checked import CheckedSegments
from eventstore.log.sequence import SealSequence
from eventstore.log.tiers import FULL, merges
from eventstore.segment import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    CompactedEncoder,
    Segment,
    SegmentFile,
    laid_out,
    read_compacted,
    read_placed,
)
from eventstore.threads import settle

__all__ = ["CompactionGoals", "CompactionPlan", "CompactionReport", "compact", "encode_compacted", "plan"]

logger = logging.getLogger(__name__)
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class CompactionGoals:
    """How large a compacted file may become, and when merging is worth it.

    After compaction a log has at most four files for each `events` of its events, four for each `bytes` of
    its segments, and `MOST_SMALL_FILES` more.

    Parameters
    ----------
    events, bytes
        A file holds at most so many events, made of so many bytes of segments.
    least_files
        Fewest files at the end of the log that are worth a merge.
    block_rows, block_bytes
        A block has at most so many rows, and ends beyond so many uncompressed bytes.
    """

    events: int = 1_000_000
    bytes: int = 256 * 1024 * 1024
    least_files: int = 4
    block_rows: int = BLOCK_ROWS
    block_bytes: int = BLOCK_BYTES

    def share(self, segment: Segment) -> float:
        """Return how much of a full file a segment is."""
        return max(segment.count / self.events, segment.size_bytes / self.bytes)


MOST_SMALL_FILES = 20
"""Files that are not full which compaction leaves at the end of a log: each is twice as large as the next."""


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What to merge: each group of neighbouring segments becomes one file."""

    groups: tuple[tuple[Segment, ...], ...]
    files: int
    """Files that the log consists of now."""

    @property
    def files_after(self) -> int:
        """Files that it will consist of."""
        return self.files - sum(len(group) - 1 for group in self.groups)

    @property
    def events(self) -> int:
        """Events to write anew."""
        return sum(segment.count for group in self.groups for segment in group)

    @property
    def size_bytes(self) -> int:
        """Bytes to read."""
        return sum(segment.size_bytes for group in self.groups for segment in group)


@dataclass(slots=True)
class CompactionReport:
    """What was done."""

    plan: CompactionPlan
    made: list[Segment] = field(default_factory=list)
    """The compacted segments that the log consists of now."""
    given_up: int = 0
    """Groups that someone else had compacted meanwhile."""
    archived_seals: int = 0
    seconds: float = 0.0

    @property
    def events(self) -> int:
        """Events that were written anew."""
        return sum(segment.count for segment in self.made)

    @property
    def size_bytes(self) -> int:
        """Bytes of the new files."""
        return sum(segment.size_bytes for segment in self.made)


def plan(segments: Sequence[Segment], goals: CompactionGoals | None = None) -> CompactionPlan:
    """Return what to merge of the segments that a log consists of; nothing is read.

    A segment of a writer that is full by itself is among the groups, alone: it gets the layout for readers.
    """
    goals = goals or CompactionGoals()
    shares = [goals.share(segment) for segment in segments]
    chosen = merges(shares, least=goals.least_files)
    chosen += [
        slice(place, place + 1)
        for place, segment in enumerate(segments)
        if shares[place] >= FULL and not segment.is_compacted
    ]
    groups = (tuple(segments[one]) for one in sorted(chosen, key=lambda one: one.start))
    return CompactionPlan(tuple(groups), len(segments))


def compact(
    storage: Storage,
    sequence: SealSequence,
    to_do: CompactionPlan,
    *,
    store_id: str,
    goals: CompactionGoals | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CompactionReport:
    """Do what a plan says, group by group; each is published by a seal of its own.

    Parameters
    ----------
    progress
        Called with (events written, events to write).

    Raises
    ------
    IntegrityError
        A segment is damaged (code ``segment_damaged``), or its events did not read back from the new file as
        they were (``compaction_differs``). Nothing of its group was published; the groups before it were.
    StorageError
        Storage refused; as above.
    """
    goals = goals or CompactionGoals()
    report, started, seen = CompactionReport(to_do), time.perf_counter(), 0
    for group in to_do.groups:
        made = _compact_group(storage, sequence, group, store_id, goals)
        if made is None:
            report.given_up += 1
        else:
            report.made.append(made)
        seen += sum(segment.count for segment in group)
        if progress is not None:
            progress(seen, to_do.events)
    report.seconds = time.perf_counter() - started
    return report


def _compact_group(
    storage: Storage,
    sequence: SealSequence,
    group: Sequence[Segment],
    store_id: str,
    goals: CompactionGoals,
) -> Segment | None:
    """Publish the file that takes the place of a group; None if others have replaced some of it."""
    try:
        file = encode_compacted(storage, group, store_id=store_id, goals=goals)
    except NotFoundError:
        if _is_present(sequence, group):
            raise
        return None
    storage.put(file.segment.path, file.data)
    if sequence.replace(group, file.segment) is None:
        logger.info("others were faster to compact %s", file.segment.path)
        # Its name is nobody else's, so nobody can have sealed it.
        storage.delete(file.segment.path)
        return None
    return file.segment


def _is_present(sequence: SealSequence, group: Sequence[Segment]) -> bool:
    now = sequence.refresh().segments
    return now[now.run(group[0].first_position or 0, group[-1].end_position)] == list(group)


# one file -------------------------------------------------------------------------------------------------


def encode_compacted(
    storage: Storage, group: Sequence[Segment], *, store_id: str, goals: CompactionGoals | None = None
) -> SegmentFile:
    """Encode neighbouring sealed segments as one compacted file, and prove that it holds what they hold.

    The originals are compared with the digests in their names. The new bytes are decoded again, put back in
    order, and compared with the originals, column by column.

    Raises
    ------
    NotFoundError, IntegrityError
        An original is missing or damaged, or the new file does not read back; the error says which file and
        from which position on.
    """
    goals = goals or CompactionGoals()
    checked = CheckedSegments(storage)
    raws = [_checked(checked, segment) for segment in group]
    encoder = CompactedEncoder(store_id)
    rows = _Rows(_tables(storage, group, raws))

    def make() -> tuple[pa.Table, pa.Table] | None:
        block = rows.take(goals.block_rows, goals.block_bytes)
        return None if block is None else (block, laid_out(block))

    for block, in_layout in _ahead(make):
        encoder.add(block, in_layout)
    file = encoder.finish(group)
    del encoder
    _prove(storage, file, _Rows(_tables(storage, group, raws)))
    return file


def _checked(checked: CheckedSegments, segment: Segment) -> bytes | None:
    """Compare an original with the digest in its name; returns its bytes where it is not a local file."""
    try:
        return checked.ensure(segment.path)
    except IntegrityError as error:
        raise _at(error, int(segment.first_position or 0)) from error


def _tables(storage: Storage, group: Sequence[Segment], raws: Sequence[bytes | None]) -> Iterator[pa.Table]:
    for segment, raw in zip(group, raws, strict=True):
        position = int(segment.first_position or 0)
        try:
            for table in read_placed(storage, segment, raw=raw):
                yield table
                position += table.num_rows
        except IntegrityError as error:
            raise _at(error, position) from error


def _at(error: IntegrityError, position: int) -> IntegrityError:
    """Return an error that says where the damage begins."""
    return IntegrityError(
        f"{error.message} (from position {position} on; nothing was published)",
        code=error.code,
        **(error.facts | {"position": position}),
    )


class _Rows:
    """A stream of tables, from which so many rows at a time are taken."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self._waiting: list[pa.Table] = []

    def take(self, rows: int, size_bytes: int | None = None) -> pa.Table | None:
        """Return the next rows: as many, or as are reached with so many bytes; None at the end."""
        taken: list[pa.Table] = []
        count = size = 0
        while count < rows and (size_bytes is None or size < size_bytes):
            table = self._waiting.pop() if self._waiting else next(self._tables, None)
            if table is None:
                break
            most = rows - count
            if size_bytes is not None:
                most = min(most, max(1, (size_bytes - size) * table.num_rows // max(1, table.nbytes)))
            if table.num_rows > most:
                self._waiting.append(table.slice(most))
                table = table.slice(0, most)
            taken.append(table)
            count += table.num_rows
            size += table.nbytes
        return pa.concat_tables(taken) if taken else None


def _ahead(make: Callable[[], Made | None]) -> Iterator[Made]:
    """Yield what `make` returns until it is None, each made in another thread while the last is used."""
    settle()
    with ThreadPoolExecutor(1, thread_name_prefix="eventstore-ahead") as pool:
        waiting = pool.submit(make)
        while (made := waiting.result()) is not None:
            waiting = pool.submit(make)
            yield made


def _prove(storage: Storage, file: SegmentFile, originals: _Rows) -> None:
    position = int(file.segment.first_position or 0)
    path = file.segment.path
    try:
        blocks = read_compacted(storage, path, raw=file.data)
        for block in _ahead(lambda: next(blocks, None)):
            expected = originals.take(block.num_rows)
            if expected is None or not block.equals(expected):
                raise _differs(path, block, expected, position)
            position += block.num_rows
    except EventStoreError as error:
        if error.code == "compaction_differs":
            raise
        raise _at_file(path, position, str(error)) from error
    if originals.take(1) is not None or position != file.segment.end_position:
        raise _at_file(path, position, "it ends there")


def _differs(path: str, block: pa.Table, expected: pa.Table | None, position: int) -> IntegrityError:
    if expected is None or expected.num_rows != block.num_rows:
        return _at_file(path, position, "it holds more events than were given")
    for name in expected.column_names:
        if not block[name].equals(expected[name]):
            row = next(
                row for row in range(block.num_rows) if not block[name][row].equals(expected[name][row])
            )
            return _at_file(path, position + row, f"its column {name!r} reads back differently")
    return _at_file(path, position, "its columns are others")


def _at_file(path: str, position: int, found: str) -> IntegrityError:
    return IntegrityError(
        f"the events of {path!r} were expected to read back as they were given, and at position {position} "
        f"{found}; nothing was published. Check this machine's memory and the versions of its libraries, "
        "then compact again",
        code="compaction_differs",
        path=path,
        position=position,
    )
