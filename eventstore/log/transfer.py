"""Sending the sealed events of one store to another: only what is missing there, in the source's order.

An event keeps its writer, sequence, salt and hash; only its position is each store's own. So how far the
target knows each writer says what is missing, and sending again, or in a circle, adds nothing twice.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from eventstore import layout
from eventstore.codec.canonical import event_hashes
from eventstore.errors import ConflictError, EventStoreError, InvalidEventError, NotFoundError
from eventstore.filesystem import Storage
from eventstore.ids import WriterId
from eventstore.log.checked import CheckedSegments
from eventstore.log.sequence import SealSequence
from eventstore.log.verify.segments import bad_row
from eventstore.log.writer import put_segment
from eventstore.segment import Segment, damaged, encode_segment, read_placed
from eventstore.value_store import ValueStore

__all__ = ["Side", "TransferPlan", "TransferReport", "plan_transfer", "transfer"]

PIECE_ROWS, PIECE_BYTES = 200_000, 64 * 1024 * 1024
"""Most rows, and about most bytes before compression, of a segment that is put."""
SEAL_SEGMENTS, SEAL_ROWS, SEAL_BYTES = 256, 1_000_000, 128 * 1024 * 1024
"""When what was put is sealed: so many files, events, or bytes of files."""
_MOST_ROUNDS = 100
_KNOWN_VALUES = 1_000_000


@dataclass(frozen=True, slots=True)
class Side:
    """What a transfer needs of one of the two stores."""

    storage: Storage
    store_id: str
    sequence: SealSequence
    values: ValueStore


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What is missing in the target, by what the seals of both stores say."""

    segments: tuple[Segment, ...] = ()
    """Sealed segments of the source with missing events, in order of position."""
    events: int = 0
    size_bytes: int = 0
    """Of the files of these segments, which is the most that is read of them."""
    writers: int = 0
    """How many writers the missing events are by."""
    values: int | None = None
    """Large values that the target does not have; None where they were not looked for."""


@dataclass(slots=True)
class TransferReport:
    """What was sent."""

    plan: TransferPlan
    events: int = 0
    """Events that were given a position in the target."""
    files: int = 0
    """Segments that were put for them."""
    values: int = 0
    value_bytes: int = 0
    """Large values that were put, and their bytes before compression."""
    seconds: float = 0.0


def plan_transfer(source: Side, target: Side, *, values: bool = False) -> TransferPlan:
    """Return what of `source` is missing in `target`. Reads seals only, but for `values`.

    Parameters
    ----------
    values
        Count the large values that would be put, too: reads one column of the segments, and asks the target
        for each value.

    Raises
    ------
    InvalidEventError
        Both are the same store, or copies of one (code ``same_store``).
    """
    if source.store_id == target.store_id:
        raise InvalidEventError(
            f"two different stores were expected, found the store {source.store_id} at {source.storage.url} "
            f"and at {target.storage.url}; send to a new store instead. Nothing was changed",
            code="same_store",
        )
    ends = target.sequence.refresh().writers
    segments, events, writers = [], 0, set[WriterId]()
    for segment in source.sequence.refresh().segments:
        missing = {
            run.writer: run.end_sequence - max(run.first_sequence, ends.get(run.writer, 0))
            for run in segment.writers
            if run.end_sequence > ends.get(run.writer, 0)
        }
        if missing:
            segments.append(segment)
            events += sum(missing.values())
            writers.update(missing)
    return TransferPlan(
        tuple(segments),
        events,
        sum(segment.size_bytes for segment in segments),
        len(writers),
        _count_values(source, target, segments, ends) if values else None,
    )


def _count_values(source: Side, target: Side, segments: list[Segment], ends: Mapping[WriterId, int]) -> int:
    found: set[str] = set()
    for segment in segments:
        if not any(kind.kind == "value.recorded" for kind in segment.kinds):
            continue
        columns = ["writer", "sequence", "data_digest"]
        for table in read_placed(source.storage, segment, columns=columns, kinds=["value.recorded"]):
            large = table.filter(pc.is_valid(table["data_digest"]))
            rows = (large[name].to_pylist() for name in columns)
            found.update(
                digest
                for writer, sequence, digest in zip(*rows, strict=True)
                if sequence >= ends.get(writer, 0)
            )
    return sum(not target.values.has(digest) for digest in found)


def transfer(
    source: Side,
    target: Side,
    *,
    clock: Callable[[], int],
    progress: Callable[[int, int], None] | None = None,
) -> TransferReport:
    """Put what is missing in `target`, and seal it there in the order of the source's positions.

    What the target has durable and not sealed is sealed first. Values are put before the events that mention
    them. Each segment of the source is compared with the digest in its name before anything of it is put, and
    every event with its hash. After an interrupt, the same call goes on with what is missing by then.

    Parameters
    ----------
    clock
        Microseconds of Unix time: names the day folders in which segments are put.
    progress
        Called with (events sealed, events that were missing).

    Raises
    ------
    InvalidEventError
        Both are the same store (code ``same_store``).
    IntegrityError, NotFoundError
        A segment, an event or a value of the source is damaged or gone; nothing of this segment was put,
        and what was sealed before stays.
    ConflictError
        Others kept sealing the same events (code ``transfer_races``).
    StorageError
        A place refused; what was sealed before stays.
    """
    began = time.monotonic()
    plan_transfer(source, target)  # refuses the same store, before anything is changed
    target.sequence.seal()
    plan = plan_transfer(source, target)
    report = TransferReport(plan)
    work = _Transfer(source, target, report, clock, progress or (lambda _done, _all: None))
    left = plan
    for _ in range(_MOST_ROUNDS):
        if not left.events:
            report.seconds = time.monotonic() - began
            return report
        try:
            work.send(left)
        except NotFoundError as error:
            # Compaction may have replaced the segment since the plan was made, and cleaning removed it.
            paths = {segment.path for segment in source.sequence.refresh().segments}
            if error.code != "segment_missing" or error.facts.get("path") in paths:
                raise
        left = plan_transfer(source, target)
    raise ConflictError(
        f"the events of {source.storage.url} were expected to be sealed at {target.storage.url}, found "
        f"others sealing the same in {_MOST_ROUNDS} tries: run it again when they are done",
        code="transfer_races",
    )


class _Transfer:
    """One transfer: what is collected for a segment, what was put and waits for a seal."""

    def __init__(
        self,
        source: Side,
        target: Side,
        report: TransferReport,
        clock: Callable[[], int],
        progress: Callable[[int, int], None],
    ) -> None:
        self._source = source
        self._target = target
        self._report = report
        self._clock = clock
        self._progress = progress
        self._checked = CheckedSegments(source.storage)
        self._known: set[str] = set()
        self._ends: dict[str, int] = {}
        """One past the last sequence of each writer that the target has, or that was collected."""
        self._clear()

    def _clear(self) -> None:
        self._piece: list[pa.Table] = []
        self._piece_rows = self._piece_bytes = 0
        self._writer: str | None = None
        self._waiting: list[tuple[Segment, list[bytes]]] = []
        self._waiting_rows = self._waiting_bytes = 0

    def send(self, plan: TransferPlan) -> None:
        """Put and seal the missing events of these segments."""
        self._clear()
        self._ends = {str(writer): end for writer, end in self._target.sequence.known().writers.items()}
        self._progress(self._report.events, self._report.plan.events)
        for segment in plan.segments:
            try:
                tables = self._prepared(segment)
            except EventStoreError:
                self._settle()  # what stands before it is whole
                raise
            for table in tables:
                for run in _runs(table):
                    self._collect(run)
        self._settle()

    def _prepared(self, segment: Segment) -> Iterable[pa.Table]:
        """Return the rows of a segment, all of which were compared with their hashes, its values being sent.

        So nothing is put of one that is damaged, or whose values are. Those of a compacted one, which may be
        large, are read a second time.
        """
        raw = self._checked.ensure(segment.path)
        rows = self._rows(segment, raw)
        if not segment.is_compacted:
            return list(rows)
        for _ in rows:
            pass
        return read_placed(self._source.storage, segment, raw=raw)

    def _rows(self, segment: Segment, raw: bytes | None) -> Iterator[pa.Table]:
        ends = {str(run.writer): run.first_sequence for run in segment.writers}
        position = int(segment.first_position or 0)
        for table in read_placed(self._source.storage, segment, raw=raw):
            bad = bad_row(table, event_hashes(table), ends, position)
            if bad is not None:
                raise damaged(segment.path, f"the event at position {position + bad[0]} {bad[1]}")
            position += table.num_rows
            self._send_values(table)
            yield table

    def _send_values(self, table: pa.Table) -> None:
        """Put the values of missing events that the target does not have."""
        column = table["data_digest"]
        if column.null_count == len(column):
            return
        large = table.select(["writer", "sequence", "data_digest"]).filter(pc.is_valid(column))
        for writer, sequence, digest in zip(*(each.to_pylist() for each in large.columns), strict=True):
            if digest in self._known or sequence < self._ends.get(writer, 0):
                continue
            if not self._target.values.has(digest):
                data = self._source.values.get(digest)
                self._target.values.put(data)
                self._report.values += 1
                self._report.value_bytes += len(data)
            if len(self._known) >= _KNOWN_VALUES:
                self._known.clear()
            self._known.add(digest)

    def _collect(self, run: pa.Table) -> None:
        """Take in consecutive events of one writer."""
        writer, first = run["writer"][0].as_py(), run["sequence"][0].as_py()
        run = run.slice(max(0, self._ends.get(writer, 0) - first)).drop_columns(["position"])
        if not run.num_rows:
            return
        if writer != self._writer:
            self._put()
            self._writer = writer
        self._ends[writer] = run["sequence"][-1].as_py() + 1
        row_bytes = max(1, run.nbytes // run.num_rows)
        while run.num_rows:
            room = min(PIECE_ROWS - self._piece_rows, (PIECE_BYTES - self._piece_bytes) // row_bytes + 1)
            part = run.slice(0, room)
            self._piece.append(part)
            self._piece_rows += part.num_rows
            self._piece_bytes += part.num_rows * row_bytes
            run = run.slice(part.num_rows)
            if self._piece_rows >= PIECE_ROWS or self._piece_bytes >= PIECE_BYTES:
                self._put()

    def _put(self) -> None:
        """Put what was collected as a segment of the target."""
        if not self._piece:
            return
        table = pa.concat_tables(self._piece)
        day = layout.segment_day(dt.datetime.fromtimestamp(self._clock() / 1e6, dt.UTC))
        file = encode_segment(table, day=day, store_id=self._target.store_id)
        put_segment(self._target.storage, file)
        self._report.files += 1
        self._waiting.append((file.segment, table["event_hash"].to_pylist()))
        self._waiting_rows += table.num_rows
        self._waiting_bytes += len(file.data)
        self._piece, self._piece_rows, self._piece_bytes = [], 0, 0
        if (
            len(self._waiting) >= SEAL_SEGMENTS
            or self._waiting_rows >= SEAL_ROWS
            or self._waiting_bytes >= SEAL_BYTES
        ):
            self._seal()

    def _settle(self) -> None:
        self._put()
        self._seal()

    def _seal(self) -> None:
        """Place what was put, in this order. What someone else was faster with is not placed twice."""
        if not self._waiting:
            return
        ends = self._target.sequence.place(self._waiting).writers
        placed = (segment for segment, _ in self._waiting if segment.end_sequence <= ends[segment.writer])
        self._report.events += sum(segment.count for segment in placed)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        self._progress(self._report.events, self._report.plan.events)


def _runs(table: pa.Table) -> Iterator[pa.Table]:
    """Cut a table where the writer changes."""
    ends = pc.run_end_encode(table["writer"].combine_chunks()).run_ends.to_pylist()
    start = 0
    for end in ends:
        yield table.slice(start, end - start)
        start = end
