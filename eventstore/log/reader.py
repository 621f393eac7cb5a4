"""Batches of events in position order: the sealed log, and after it the tail that no seal has placed.

A read takes one sequence and keeps it. Segments are skipped by what their seals say of them: positions and
kinds. Rows of older versions are upcast on the way.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.chain import Snapshot
from eventstore.codec.rows import table_of
from eventstore.codec.schema import POSITION, SCHEMA
from eventstore.codec.upcast import needs_upcast, upcast_table
from eventstore.errors import InvalidEventError, NotFoundError
from eventstore.events.registry import Registry
from eventstore.filesystem import Storage
from eventstore.ids import WriterId
from eventstore.journal_folder import JournalFolder
from eventstore.log.checked import CheckedSegments
from eventstore.log.journaled import Journaled, JournaledRows
from eventstore.log.sequence import SealSequence
from eventstore.segment import Segment, read_blocks, read_placed, read_segment

__all__ = ["READ_SCHEMA", "LogReader", "check_question", "checked_columns", "select_segments"]

READ_SCHEMA: pa.Schema = pa.schema([POSITION, *SCHEMA])
"""The columns of what is read: ``position``, then those of a segment."""

BATCH_ROWS = 65_536
_SETTLED_BY_SEAL = ("event_hash", "salt")


def checked_columns(columns: Collection[str] | None) -> list[str]:
    """Return the columns to read, ``position`` first, in the order of the format.

    Raises
    ------
    InvalidEventError
        There is no such column (code ``unknown_column``).
    """
    if columns is None:
        return list(READ_SCHEMA.names)
    unknown = sorted(set(columns) - set(READ_SCHEMA.names))
    if unknown:
        raise InvalidEventError(
            f"columns of the log were expected ({', '.join(READ_SCHEMA.names)}), found {unknown}",
            code="unknown_column",
        )
    return [name for name in READ_SCHEMA.names if name == "position" or name in columns]


def check_question(
    *,
    kinds: Collection[str] | None,
    limit: int | None = None,
    until: int | None = None,
    tail: bool = False,
) -> None:
    """Refuse what would get an empty answer by mistake.

    Raises
    ------
    InvalidEventError
        `kinds` is one text instead of several (code ``bad_kinds``); `limit` is negative, or `until` and
        `tail` are given together (``bad_range``).
    """
    if isinstance(kinds, str):
        raise InvalidEventError(
            f"a collection of kinds was expected, found the text {kinds!r}; write [{kinds!r}]",
            code="bad_kinds",
        )
    if limit is not None and limit < 0:
        raise InvalidEventError(
            f"a limit of 0 or more events was expected, found {limit}; None means all", code="bad_range"
        )
    if tail and until is not None:
        raise InvalidEventError(
            f"a range that ends at a position, or the tail, which has none, was expected, found both until="
            f"{until} and tail=True; leave one of them out",
            code="bad_range",
        )


def select_segments(
    segments: Sequence[Segment],
    *,
    after: int | None,
    until: int,
    kinds: Collection[str] | None,
) -> list[Segment]:
    """Return the sealed segments that can hold events of `kinds` in ``(after, until)``, in order."""
    start = 0
    if after is not None:
        start = max(0, bisect_right(segments, after, key=lambda s: s.first_position or 0) - 1)
    chosen = []
    for segment in segments[start:]:
        if (segment.first_position or 0) >= until:
            break
        if after is not None and segment.end_position <= after + 1:
            continue
        if kinds is None or any(kind.kind in kinds for kind in segment.kinds):
            chosen.append(segment)
    return chosen


class LogReader:
    """Reads one store's log.

    Parameters
    ----------
    store_id
        Journals that say another one are not ours, and left out.
    folder
        Journals of this machine's writers; None reads no journals.
    own_rows
        The rows that this process' writer has in no segment yet.
    """

    def __init__(
        self,
        storage: Storage,
        sequence: SealSequence,
        *,
        store_id: str,
        registry: Registry,
        folder: JournalFolder | None,
        own_rows: Callable[[], Journaled | None],
    ) -> None:
        self._storage = storage
        self._sequence = sequence
        self._registry = registry
        self._journaled = JournaledRows(store_id, folder=folder, own_rows=own_rows)
        self.checked = CheckedSegments(storage)
        self._blocks: dict[str, tuple[int, ...]] = {}

    def read(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        limit: int | None = None,
        tail: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield committed events in position order.

        Parameters
        ----------
        after
            Exclusive start, usually where a projection stopped; None begins at the first event.
        until
            Exclusive end; None means the sealed head. Not together with `tail`.
        kinds
            Only events of these kinds; None means all.
        columns
            Only these columns, always after ``position``; None means all.
        limit
            Most events to yield over all batches; None means all.
        tail
            Afterwards also events that no seal has placed: durable ones, then journaled ones of this
            machine. Their ``position``, ``event_hash`` and ``salt`` are null: who seals decides on the
            first, and an event that is put again after a crash gets another hash.

        Returns
        -------
        Batches of 1 to 65,536 rows, columns as in docs/format.md, section "Columns".

        Raises
        ------
        IntegrityError, NotFoundError
            A segment is damaged or missing.
        InvalidEventError
            There is no such column, or the question makes no sense; raised by the call itself.
        """
        check_question(kinds=kinds, limit=limit, until=until, tail=tail)
        return _batches(self._tables(after, until, kinds, checked_columns(columns), tail), limit)

    def _tables(
        self,
        after: int | None,
        until: int | None,
        kinds: Collection[str] | None,
        names: list[str],
        tail: bool,
    ) -> Iterator[pa.Table]:
        # Journals before segments before seals: what leaves the one is in the next before it goes.
        journaled = self.journaled() if tail else []
        unsealed = self._unsealed() if tail else []
        now = self._sequence.refresh()
        end = now.peaks.size if until is None else min(until, now.peaks.size)
        yield from self._sealed_tables(now, after, end, kinds, names)
        if tail:
            yield from self._tail(dict(now.writers), unsealed, journaled, kinds, names)

    def _sealed_tables(
        self, now: Snapshot, after: int | None, until: int, kinds: Collection[str] | None, names: list[str]
    ) -> Iterator[pa.Table]:
        reached = after
        while True:
            try:
                for segment in select_segments(now.segments, after=reached, until=until, kinds=kinds):
                    for table in self._segment(segment, reached, until, kinds, names):
                        if table.num_rows:
                            reached = table["position"][-1].as_py()
                            yield table
            except NotFoundError as error:
                now = self.anew(now, error)
            else:
                return

    def anew(self, held: Snapshot, error: NotFoundError) -> Snapshot:
        """Return the sequence as it is now, where a file of the one that was held is no longer there.

        The same positions are in another file, if compaction has replaced it and it was cleaned away since;
        else the error is raised.
        """
        now, path = self._sequence.refresh(), error.facts.get("path")
        if now.number == held.number or any(segment.path == path for segment in now.segments):
            raise error
        return now

    def blocks(self, segment: Segment) -> tuple[int, ...]:
        """Return how many rows each block of a compacted segment has; read once."""
        found = self._blocks.get(segment.path)
        if found is None:
            found = self._blocks[segment.path] = read_blocks(self._storage, segment.path)
        return found

    def _segment(
        self,
        segment: Segment,
        after: int | None,
        until: int,
        kinds: Collection[str] | None,
        names: list[str],
    ) -> Iterator[pa.Table]:
        begin = 0 if after is None else after + 1
        old = any(needs_upcast(self._registry, kind.kind, kind.version) for kind in segment.kinds)
        needed = None if old else [name for name in (*names, "kind") if name != "position"]
        raw = self.checked.ensure(segment.path)
        for table in read_placed(
            self._storage, segment, columns=needed, kinds=kinds, start=begin, end=until, raw=raw
        ):
            positions = table["position"]
            if positions[0].as_py() < begin or positions[-1].as_py() >= until:
                inside = pc.and_(pc.greater_equal(positions, begin), pc.less(positions, until))
                table = table.filter(inside)
            yield self._shaped(table, kinds, names, old)

    def _shaped(
        self, table: pa.Table, kinds: Collection[str] | None, names: list[str], old: bool
    ) -> pa.Table:
        if kinds is not None:
            # No array is made of Python values: for the first one pyarrow imports pandas.
            found = pc.unique(table["kind"])
            wanted = [found[at : at + 1] for at, kind in enumerate(found.to_pylist()) if kind in kinds]
            if len(wanted) < len(found):
                table = table.filter(pc.is_in(table["kind"], pa.concat_arrays([found[:0], *wanted])))
        if old:
            table = upcast_table(table, self._registry)
        return table.select(names)

    def read_unsealed(
        self,
        *,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        known: Mapping[str, int] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the events that are durable and not sealed, by any writer; see `read`.

        Parameters
        ----------
        known
            By writer, one past the last sequence of which the caller knows: segments that hold nothing
            later are passed over.
        """
        names = checked_columns(columns)
        unsealed = self._unsealed()
        ends = dict(self._sequence.refresh().writers)
        return _batches(self._tail(ends, unsealed, [], kinds, names, known or {}), None)

    def sealed(self) -> Snapshot:
        """Return where the sealed log ends now, and how far it holds each writer's events."""
        return self._sequence.refresh()

    def sealed_end(self, writer: str) -> int:
        """One past the last sealed sequence of `writer`, without a look at the storage."""
        return self._sequence.sealed_end(writer)

    def _unsealed(self) -> list[str]:
        self._sequence.refresh()  # else the listing names what is sealed already
        return self._sequence.unsealed()

    # the tail --------------------------------------------------------------------------------------------

    def journaled(self) -> list[Journaled]:
        """Rows that are in no segment; see `JournaledRows.read`."""
        return self._journaled.read()

    def _tail(
        self,
        ends: dict[WriterId, int],
        unsealed: Sequence[str],
        journaled: Sequence[Journaled],
        kinds: Collection[str] | None,
        names: list[str],
        known: Mapping[str, int] = MappingProxyType({}),
    ) -> Iterator[pa.Table]:
        described = [item[0] for path in unsealed if (item := self._sequence.describe(path))]
        for segment in sorted(described, key=lambda s: (s.recorded_from_us, s.writer, s.first_sequence)):
            if segment.first_sequence < ends.get(segment.writer, 0):
                continue
            ends[segment.writer] = segment.end_sequence
            if segment.end_sequence <= known.get(segment.writer, 0):
                continue
            try:
                for _, table in read_segment(self._storage, segment.path):
                    yield self._unplaced(table, kinds, names)
            except NotFoundError:
                continue
        for writer, rows, header in journaled:
            fresh = [row for row in rows if row.sequence >= ends.get(WriterId(writer), 0)]
            if not fresh:
                continue
            ends[WriterId(writer)] = fresh[-1].sequence + 1
            table = table_of(fresh, writer=writer, actor=header.get("actor"), software=header.get("software"))
            yield self._unplaced(table, kinds, names)

    def _unplaced(self, table: pa.Table, kinds: Collection[str] | None, names: list[str]) -> pa.Table:
        for name in _SETTLED_BY_SEAL:
            # Made with a segment, and made anew with a second one after a crash: only a seal settles them.
            nulls = pa.nulls(table.num_rows, SCHEMA.field(name).type)
            table = table.set_column(table.schema.get_field_index(name), SCHEMA.field(name), nulls)
        table = table.add_column(0, POSITION, pa.nulls(table.num_rows, pa.int64()))
        return self._shaped(table, kinds, names, old=True)

    # following -------------------------------------------------------------------------------------------

    def subscribe(
        self,
        *,
        after: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        poll_seconds: float = 0.5,
        stop: threading.Event | None = None,
        idle_seconds: float | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield sealed events in position order, for ever: what is there, then what comes.

        Parameters
        ----------
        after, kinds, columns
            As in `read`.
        poll_seconds
            Pause between two looks at the head.
        stop
            Ends the iteration when set.
        idle_seconds
            Ends it when nothing new came for so long; None waits for ever.
        """
        check_question(kinds=kinds)
        checked_columns(columns)
        return self._follow(after, kinds, columns, poll_seconds, stop or threading.Event(), idle_seconds)

    def _follow(
        self,
        after: int | None,
        kinds: Collection[str] | None,
        columns: Collection[str] | None,
        poll_seconds: float,
        stop: threading.Event,
        idle_seconds: float | None,
    ) -> Iterator[pa.RecordBatch]:
        reached = -1 if after is None else after
        quiet_since = time.monotonic()
        while not stop.is_set():
            size = self._sequence.refresh().peaks.size
            if size > reached + 1:
                for batch in self.read(after=reached, until=size, kinds=kinds, columns=columns):
                    yield batch
                    if stop.is_set():
                        return
                reached, quiet_since = size - 1, time.monotonic()
            if idle_seconds is not None and time.monotonic() - quiet_since >= idle_seconds:
                return
            stop.wait(poll_seconds)


def _batches(tables: Iterable[pa.Table], limit: int | None) -> Iterator[pa.RecordBatch]:
    left = limit if limit is not None else 1 << 62
    for table in tables:
        for batch in table.slice(0, left).to_batches(max_chunksize=BATCH_ROWS):
            if batch.num_rows:
                left -= batch.num_rows
                yield batch
        if left <= 0:
            return
