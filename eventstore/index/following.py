"""Keeps what the index knows up to date: runs on disk, and over them an overlay of all that is newer.

What is newer comes four ways: own appends as they are made, the journals of this machine's other processes,
sealed segments, and segments that no seal has placed. Each event is taken in once, whichever way it comes.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import pyarrow as pa

from eventstore.codec.rows import Row
from eventstore.events.envelope import Event
from eventstore.index.builder import build_runs, is_of_chain
from eventstore.index.facts import HandleFacts
from eventstore.index.families import (
    BUILDERS,
    COLUMNS,
    HANDLE_KINDS,
    KINDS,
    Entry,
    Family,
    Key,
    Place,
    Record,
    decoded,
    key_bytes,
)
from eventstore.index.handle_states import HandleStates
from eventstore.index.log_events import log_events
from eventstore.index.overlay import Overlay
from eventstore.index.peers import PeerJournals
from eventstore.index.runs import IndexDamagedError, IndexRuns
from eventstore.log.journaled import Journaled
from eventstore.log.reader import LogReader
from eventstore.log.sequence import SealSequence
from eventstore.segment import Segment
from eventstore.threads import start_thread

__all__ = ["LogFollower"]

logger = logging.getLogger(__name__)
_RUN_EVENTS = 50_000
"""Sealed events that are not in runs, from which on a run is made of them."""
_RUN_BYTES = 64 * 1024 * 1024
"""The same for bytes of values that the overlay holds."""
_MOST_BYTES = 4 * _RUN_BYTES
"""Bytes of values in the overlay, from which on they are let go although no seal has placed them."""
_MOST_EVENTS = 150_000
"""Sealed events that are not in runs, from which on whoever seals waits for the run."""
_DROP_EVENTS = 10_000
"""Own events after which it is looked whether the runs hold some of the overlay."""
_CLOSING_EVENTS = 2_000
"""The same as `_RUN_EVENTS` when a store is closed, so that the next opener finds little to read."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Answer = TypeVar("Answer")


class LogFollower:
    """Records by family and key, of the whole history. Its methods want `lock` held, but for `after_seal`.

    Parameters
    ----------
    reader, sequence
        The log and its order.
    runs
        Opens the part of the index that is on disk; None keeps all of it in memory.
    peers
        Journals of other processes of this machine; None for a store that no other process can see.
    own_rows
        The rows that this process' writer has in no segment yet.
    on_value
        Called with the fields of each value that is not sealed yet.
    fresh_seconds, look_seconds
        As for `HistoryIndex`.
    """

    def __init__(
        self,
        reader: LogReader,
        sequence: SealSequence,
        *,
        runs: Callable[[], IndexRuns] | None,
        peers: PeerJournals | None,
        own_rows: Callable[[], Journaled | None],
        on_value: Callable[[Mapping[str, Any]], None],
        fresh_seconds: float,
        look_seconds: float,
    ) -> None:
        self.lock = threading.RLock()
        self.fresh_seconds = fresh_seconds
        self.look_seconds = look_seconds
        self.overlay = Overlay()
        self.runs: IndexRuns | None = None
        """What is on disk, once it was opened."""
        self._reader = reader
        self._sequence = sequence
        self._open_runs = runs
        self._peers = peers
        self._own_rows = own_rows
        self._on_value = on_value
        self._handle_events: list[tuple[Place, str, Mapping[str, Any]]] = []
        self._active = False
        self._builder: threading.Thread | None = None
        self._looked_at = self._fresh_at = -math.inf
        self._forget()

    def _forget(self) -> None:
        """Begin as if nothing had been read."""
        self.overlay.clear()
        self._handle_events = []
        self._handles = HandleStates(self._stored_handle, self._stored_handle_children)
        self._own: str | None = None
        self._own_from = math.inf
        """From which sequence on own events were taken as they were appended; those before it are read."""
        self._own_seen = 0
        self._taken: dict[str, int] = {}
        self._reached = -1
        """Last sealed position that was read into the overlay, or is in runs."""
        self._position = 0
        """Where the runs ended when the overlay was last cleared of what they hold."""
        self._drop_at = _DROP_EVENTS
        self._checked: str | None = None
        """The mark of the runs that were found to be of this chain."""
        if self._peers is not None:
            self._peers.forget()

    # records ---------------------------------------------------------------------------------------------

    def first(self, family: Family, key: Key, *, look: bool = True) -> Record | None:
        """Return the first record of a key; what is known needs no look at what is new."""
        if not self._active:
            self._activate()
        while True:
            # Runs before the overlay, which may hold a later record of the same key.
            found = self.stored(family, key) or self.overlay.get(family, key)
            if found:
                return found[0]
            if not look or not self.catch_up():
                return None
            look = False

    def all(self, family: Family, key: Key, *, look: bool = True) -> list[Record]:
        """Return the records of a key, in the order of the log, some perhaps twice."""
        if look or not self._active:
            self.catch_up()
        stored, recent = self.stored(family, key), self.overlay.get(family, key)
        return [*stored, *recent] if recent else stored

    def handle(self, handle_hash: str) -> HandleFacts | None:
        """Return a state of a handle."""
        self.catch_up()
        return self._handles.get(handle_hash)

    def stored(self, family: Family, key: Key) -> list[Record]:
        """Return the records that are in runs."""
        payloads = self._payloads(family, key)
        return [decoded(family, payload) for payload in payloads] if payloads else []

    def knows(self, family: Family, key: Key) -> bool:
        """Whether there is a record of a key, as of the last look at what is new."""
        return self.overlay.knows(family, key) or bool(self._payloads(family, key))

    def newest(self, family: Family, key: Key) -> Record | None:
        """Return a record of a key that is as good as the last one, as of the last look at what is new.

        Of a key that has very many records all of them need not be read.
        """
        found = self.overlay.newest(family, key)
        if found is not None or self.runs is None:
            return found
        payload = self._of_runs(self.runs.newest, key_bytes(family, key))
        return None if payload is None else decoded(family, payload)

    def _payloads(self, family: Family, key: Key) -> list[bytes]:
        return [] if self.runs is None else self._of_runs(self.runs.get, key_bytes(family, key))

    def _of_runs(self, ask: Callable[[bytes], Answer], key: bytes) -> Answer:
        while True:
            try:
                return ask(key)
            except IndexDamagedError as error:
                if self.runs is not None:
                    self.runs.reset(str(error))
                self._start_again()

    def _stored_handle(self, handle_hash: str) -> HandleFacts | None:
        stored = self.stored(Family.HANDLE, handle_hash)
        return HandleFacts(handle_hash, *stored[-1]) if stored else None

    def _stored_handle_children(self, handle_hash: str) -> list[str]:
        return [record[0] for record in self.stored(Family.HANDLE_CHILD, handle_hash)]

    def is_in_runs(self, place: Place) -> bool:
        """Whether the runs hold the event that is at `place`."""
        if self.runs is None:
            return False
        if isinstance(place, int):
            return place < self.runs.position
        return place[1] < self.runs.writers.get(place[0], 0)

    # bringing up to date ---------------------------------------------------------------------------------

    def observe(self, events: Iterable[Event], writer: str, first: int) -> None:
        """Take in events that this process has just appended, as `first` and following of `writer`."""
        if not self._active:
            return  # the first question reads them
        self._own = writer
        self._own_from = min(self._own_from, first)
        for sequence, event in enumerate(events, first):
            if sequence >= self._own_seen:
                self._put(writer, sequence, event.kind, event.__dict__)
        if self.overlay.events >= self._drop_at:
            # One that records and never asks would hold on to it.
            if self._runs_go_on() and self.runs is not None and self.runs.position != self._position:
                self._drop()
            self._drop_at = self.overlay.events + _DROP_EVENTS

    def look_again(self) -> None:
        """Look at once for what other machines have made durable, whatever the bounds say."""
        self._fresh_at = self._looked_at = -math.inf
        self.catch_up()

    def catch_up(self) -> bool:
        """Take in what is new; False if there was certainly nothing."""
        if self._active:
            return self._take_new()
        self._activate()
        return True

    def _take_new(self, *, everything: bool = False) -> bool:
        """Read journals before segments before seals, so that none falls between, and take them in last."""
        journaled: list[tuple[str, list[Row]]] = []
        look = everything
        if self._peers is not None:
            journaled, gone = self._peers.poll()
            # One that went left a segment; one that begins behind what is known has one before it.
            gaps = (rows[0].sequence > self._taken.get(writer, 0) for writer, rows in journaled)
            look = look or gone or any(gaps)
        now = time.monotonic()
        due = look or now - self._fresh_at >= self.fresh_seconds
        if due and not self._runs_go_on():
            self._start_again()
            return True
        if due:
            self._take_sealed(wait=everything)
            if look or now - self._looked_at >= self.look_seconds:
                self._take_unsealed()
                self._looked_at = now
            self._fresh_at = now
        for writer, rows in journaled:
            self._take_rows(writer, rows)
        return due or bool(journaled)

    def _activate(self) -> None:
        """Read what is behind the runs, own rows before all else."""
        if self.runs is None and self._open_runs is not None:
            self.runs = self._open_runs()
        own = self._own_rows()
        if own is not None:
            writer, rows, _ = own
            self._own = writer
            if rows:
                self._own_from, self._own_seen = rows[0].sequence, rows[-1].sequence + 1
        try:
            self._active = True
            self._take_new(everything=True)
            if own is not None:
                self._take_rows(own[0], own[1])
        except BaseException:
            self._forget()
            self._active = False
            raise

    def _start_again(self) -> None:
        """Read everything again: the runs that the overlay stood on are gone."""
        self._forget()
        self._activate()

    def _runs_go_on(self) -> bool:
        """Take in what others have made of the runs; False where they were set aside.

        They are set aside here if they are of another chain, as after the store was restored from a copy.
        """
        runs = self.runs
        if runs is None:
            return True
        runs.refresh()
        if runs.position and runs.mark != self._checked:
            if not is_of_chain(self._sequence, runs.mark):
                runs.reset("the index was made of a chain of seals that is not the one of this store")
            self._checked = runs.mark
        return runs.position >= self._position

    def _take_rows(self, writer: str, rows: Sequence[Row]) -> None:
        known = self._taken.get(writer, 0)
        for row in rows:
            if row.sequence >= known:
                self._put(writer, row.sequence, row.kind, row.fields, row.recorded_us)
        if rows:
            self._taken[writer] = max(known, rows[-1].sequence + 1)

    def _take_sealed(self, *, wait: bool = False) -> None:
        now = self._reader.sealed()
        if self.runs is not None:
            if wait and now.peaks.size - self.runs.position >= _RUN_EVENTS:
                logger.info("building the index of %d events", now.peaks.size - self.runs.position)
                build_runs(self._reader, self._sequence, self.runs, wait=True)
            if self.runs.position != self._position:
                self._drop()
        if now.peaks.size <= self._reached + 1:
            return
        for segment in now.segments[self._segment_at(now.segments, self._reached + 1) :]:
            first, end = int(segment.first_position or 0), segment.end_position
            if end <= self._reached + 1 or self._is_own(segment):
                continue
            after, until = max(first - 1, self._reached), end
            for batch in self._reader.read(after=after, until=until, kinds=KINDS, columns=COLUMNS):
                self._take_batch(batch)
        self._reached = now.peaks.size - 1
        for writer, end in now.writers.items():
            self._taken[writer] = max(end, self._taken.get(writer, 0))
        self.after_seal()

    @staticmethod
    def _segment_at(segments: Sequence[Segment], position: int) -> int:
        low, high = 0, len(segments)
        while low < high:
            middle = (low + high) // 2
            if segments[middle].end_position <= position:
                low = middle + 1
            else:
                high = middle
        return low

    def _is_own(self, segment: Segment) -> bool:
        """Whether all of a segment was observed when it was appended."""
        return all(
            run.writer == self._own and run.first_sequence >= self._own_from for run in segment.writers
        )

    def _take_unsealed(self) -> None:
        for batch in self._reader.read_unsealed(kinds=KINDS, columns=COLUMNS, known=self._taken):
            self._take_batch(batch)
            last: dict[str, int] = {}
            for writer, sequence in zip(
                batch.column("writer").to_pylist(), batch.column("sequence").to_pylist(), strict=True
            ):
                last[writer] = max(sequence + 1, last.get(writer, 0))
            for writer, end in last.items():
                self._taken[writer] = max(end, self._taken.get(writer, 0))

    def _take_batch(self, batch: pa.RecordBatch) -> None:
        """Take in events of segments, but for those that came through a journal or were observed."""
        handle_events = []
        for events in log_events(batch):
            if events.kind in HANDLE_KINDS:
                handle_events += [(place, events.kind, fields) for place, fields in events.fields()]
                continue
            is_evaluation = events.kind == "evaluation.cached"
            for writer, sequence, entries in events.entries():
                if self._is_new(writer, sequence) and not (
                    is_evaluation and self._waits(writer, sequence, entries)
                ):
                    self.overlay.add(writer, sequence, entries)
        for (writer, sequence, position), kind, fields in sorted(
            handle_events, key=lambda event: (event[0][2] or 0, event[0][1])
        ):
            if self._is_new(writer, sequence):
                self._put_handle((writer, sequence) if position is None else position, kind, fields)

    def _is_new(self, writer: str, sequence: int) -> bool:
        """Whether an event of a segment was not taken in before it was one."""
        return sequence >= self._taken.get(writer, 0) and (writer != self._own or sequence < self._own_from)

    def _waits(self, writer: str, sequence: int, entries: Sequence[Entry]) -> bool:
        """Whether a later evaluation of the same key waits for a seal, and will stand behind this one."""
        for family, key, _ in entries:
            for _, place in self.overlay.get(family, key)[-1:]:
                if not isinstance(place, int) and place[1] >= self._sequence.sealed_end(place[0]):
                    return bool(place[0] != writer or place[1] > sequence)
        return False

    def _put(
        self, writer: str, sequence: int, kind: str, fields: Mapping[str, Any], at_us: int | None = None
    ) -> None:
        build = _BUILD.get(kind)
        if build is None:
            if kind in HANDLE_KINDS:
                self._put_handle((writer, sequence), kind, fields)
            return
        cells, builder = build
        occurred_at = fields.get("occurred_at")
        if occurred_at is not None:
            at_us = _microseconds(occurred_at)
        elif at_us is None:
            at_us = time.time_ns() // 1000
        try:
            values = cells(fields)
        except KeyError:
            values = tuple(map(fields.get, BUILDERS[kind].columns))
        if kind == "value.recorded":
            self._on_value(fields)
            if self.overlay.size_bytes > _MOST_BYTES:
                self.overlay.shed_bytes()
        self.overlay.add(writer, sequence, builder((writer, sequence), at_us, *values))

    def _put_handle(self, place: Place, kind: str, fields: Mapping[str, Any]) -> None:
        self._handle_events.append((place, kind, fields))
        self._handles.apply(kind, fields)

    def _drop(self) -> None:
        """Forget what the runs hold by now."""
        if self.runs is None:
            return
        self._position = self.runs.position
        self._reached = max(self._reached, self._position - 1)
        self.overlay.drop(self.runs.writers)
        self._handle_events = [event for event in self._handle_events if not self.is_in_runs(event[0])]
        self._handles = HandleStates(self._stored_handle, self._stored_handle_children)
        for _, kind, fields in self._handle_events:
            self._handles.apply(kind, fields)

    # runs ------------------------------------------------------------------------------------------------

    def after_seal(self, *, wait: bool = False) -> None:
        """Make a run of what was sealed, in the background, where there is enough of it.

        Parameters
        ----------
        wait
            For the run before, where what is not in runs has grown too much to be held in memory.
        """
        runs = self.runs
        if runs is None or not self._active:
            return
        behind = self._sequence.known().peaks.size - runs.position
        if self._builder is not None and self._builder.is_alive():
            if not wait or behind < _MOST_EVENTS:
                return
            self._builder.join()
            behind = self._sequence.known().peaks.size - runs.position
        if behind >= _RUN_EVENTS or (behind and self.overlay.size_bytes >= _RUN_BYTES):
            self._builder = start_thread(self._build, name="eventstore-index")

    def _build(self) -> None:
        try:
            if self.runs is not None:
                build_runs(self._reader, self._sequence, self.runs)
        except Exception as error:
            # Derived data: the overlay goes on answering, and the next seal tries again.
            logger.warning("the index was not brought up to date: %s", error)

    def close(self) -> None:
        """Make a run of what was sealed, if it is worth it, and let go of the files."""
        builder, self._builder = self._builder, None
        if builder is not None:
            builder.join()
        runs = self.runs
        if runs is None:
            return
        if self._active and self._sequence.known().peaks.size - runs.position >= _CLOSING_EVENTS:
            self._build()
        runs.close()


def _cells(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    (name,) = names
    return lambda fields: (fields[name],)


_BUILD = {kind: (_cells(builder.columns), builder.build) for kind, builder in BUILDERS.items()}


def _microseconds(moment: dt.datetime | int) -> int:
    if isinstance(moment, int):
        return moment
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
