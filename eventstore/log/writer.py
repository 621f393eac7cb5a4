"""One open appender: numbers events, journals them, and turns them into segments.

An append is acknowledged when its journal line is written; a flush puts the open rows as one segment under
a name that nobody else can choose, and then removes the journal. Nothing here waits for another writer.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from eventstore import layout
from eventstore.codec.rows import Row, fields_of, table_of
from eventstore.errors import EventStoreError, InvalidEventError, StateError, StorageError
from eventstore.events.envelope import Event
from eventstore.events.registry import AUDIT_FIELDS, SHARED_COLUMNS, EventType, Registry
from eventstore.filesystem import Storage
from eventstore.ids import WriterId, new_writer_id
from eventstore.journal import Durability, Journal
from eventstore.journal_folder import JournalFolder, Lock, boot_id
from eventstore.segment import SegmentFile, encode_segment
from eventstore.threads import start_thread
from eventstore.value_store import ValueStore

__all__ = ["Author", "Limits", "Writer", "encode_rows", "put_segment"]

logger = logging.getLogger(__name__)
CLOCK_TOLERANCE_US = 60_000_000
"""How far a clock may jump back before appending refuses; up to here the last time is kept."""
MAX_BATCH_EVENTS = 1_000_000
"""Most events of one append, which are never split over two segments."""

new_row = tuple.__new__
"""`Row` without the cost of its own constructor: an append makes one for each event."""

OnDurable = Callable[[SegmentFile, list[bytes]], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """When the open rows become a segment, and how large values may be."""

    rows: int = 200_000
    bytes: int = 64 * 1024 * 1024
    seconds: float | None = 5.0
    inline_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Author:
    """What a segment says of its making: the store, and defaults for who and with what."""

    store_id: str
    actor: str | None
    software: str


@dataclass(slots=True)
class _Open:
    """Rows on their way into one segment."""

    first_sequence: int
    journal: Journal | None
    opened_at: float
    rows: list[Row] = field(default_factory=list)
    size_bytes: int = 0
    intended_path: str | None = None
    file: SegmentFile | None = None
    hashes: list[bytes] = field(default_factory=list)

    @property
    def end(self) -> int:
        """One past the last sequence."""
        return self.first_sequence + len(self.rows)


class Writer:
    """The sole author of the segments that bear its id. Safe to share between threads, not processes.

    Parameters
    ----------
    folder
        Where journals lie; None keeps rows in memory only (for ``memory://``).
    on_durable
        Called with each segment that was put, and its event hashes.
    clock
        Microseconds of Unix time.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        author: Author,
        registry: Registry,
        values: ValueStore,
        folder: JournalFolder | None,
        durability: Durability,
        limits: Limits,
        clock: Callable[[], int],
        on_durable: OnDurable,
    ) -> None:
        self.id: WriterId = new_writer_id()
        self._storage = storage
        self._author = author
        self._registry = registry
        self._values = values
        self._folder = folder
        self._durability = durability
        self._limits = limits
        self._clock = clock
        self._on_durable = on_durable
        self._process = os.getpid()
        self._append_lock = threading.Lock()
        self._flush_lock = threading.Lock()
        self._lock_file: Lock | None = folder.open_writer(self.id) if folder else None
        self._sequence = 0
        self._durable_end = 0
        self._last_us = 0
        self._open: _Open | None = None
        self._pending: list[_Open] = []
        self._closed = False
        self._released = False
        self._wake = threading.Event()
        self._timer: threading.Thread | None = None
        self._timer_after = 0.0

    @property
    def durable_end(self) -> int:
        """One past the last sequence that is in a segment."""
        return self._durable_end

    @property
    def end(self) -> int:
        """One past the last sequence that was acknowledged."""
        return self._sequence

    def append(self, events: Sequence[Event]) -> int:
        """Journal `events` as one line, all or none, and return the sequence of the first.

        Raises
        ------
        InvalidEventError
            A kind is unknown, an inline value is too large, there is no event or more than one append takes
            (code ``batch_too_large``); nothing was stored.
        StateError
            The writer is closed or was opened in another process, or the clock jumped back further than
            `CLOCK_TOLERANCE_US` (code ``clock_went_back``).
        StorageError
            The journal's disk refused; nothing of this call was stored.
        """
        # Before any lock, which another thread may have held when this process was forked.
        self._check_open()
        if len(events) > MAX_BATCH_EVENTS:
            raise InvalidEventError(
                f"at most {MAX_BATCH_EVENTS:,} events were expected in one append, found {len(events):,}; "
                "append them in smaller batches. Nothing was stored",
                code="batch_too_large",
            )
        prepared = [self._prepared(event) for event in events]
        if not prepared:
            raise InvalidEventError("at least one event was expected, found none", code="no_event")
        with self._append_lock:
            if self._closed:
                raise _closed()
            now = self._time()
            batch = self._open
            if batch is not None and not batch.rows and batch.journal is not None and batch.journal.broken:
                # There is nothing to flush, which is how one with rows is got rid of.
                _drop(batch.journal)
                batch = self._open = None
            # From the rows, which change in one step: an interrupt cannot come between them and a count.
            first = batch.end if batch is not None else self._sequence
            rows = [
                new_row(Row, (kind.kind, kind.version, kind.columns, fields, sequence, now))
                for sequence, (kind, fields) in enumerate(prepared, first)
            ]
            if batch is None:
                batch = self._open = self._begin(first)
            size = batch.journal.append(rows) if batch.journal else 256 * len(rows)
            batch.rows.extend(rows)
            batch.size_bytes += size
            self._sequence = batch.end
            self._last_us = now
            if self._folder is not None:
                self._folder.ring()
            full = self._is_full(batch)
        # From here on the batch is acknowledged: whatever fails is not this call's failure.
        if full:
            self._flush_quietly()
        elif self._timer is None and self._limits.seconds is not None:
            self._start_timer()
        return first

    def _prepared(self, event: Event) -> tuple[EventType, Mapping[str, Any]]:
        kind = self._registry.of(event)
        fields = fields_of(kind, event)
        if not kind.built_in:
            _check_columns(kind, fields)
        if (
            "data" in fields
            and (data := fields["data"]) is not None
            and len(data) > self._limits.inline_bytes
        ):
            # The value before the event: nothing stored ever points at something missing.
            fields = {**fields, "data": None, "data_digest": self._values.put(data)}
        elif fields.get("data_digest") is not None and not self._values.has(fields["data_digest"]):
            raise InvalidEventError(
                f"{kind.kind}: the bytes of the value were expected in the value store under "
                f"{fields['data_digest']}, found nothing there; put them first (store.values.put), or give "
                "them as `data`. Nothing was stored",
                code="value_not_stored",
                kind=kind.kind,
            )
        return kind, fields

    def open_rows(self) -> list[Row]:
        """Return the rows that are in no segment yet, in order."""
        with self._append_lock:
            batches = [*self._pending, *([self._open] if self._open else [])]
            return [row for batch in batches for row in batch.rows]

    def flush(self) -> None:
        """Make everything that was acknowledged durable, in one segment or more.

        Raises
        ------
        StorageError
            Storage refused. Nothing is lost: the rows stay journaled, and the next flush puts them.
        StateError
            The writer is closed or was opened in another process.
        """
        self._check_open()
        self._put_all()

    def _put_all(self) -> None:
        with self._flush_lock:
            waiting = bool(self._pending)
            # While storage is away the open rows grow up to their limits, rather than one batch a try.
            self._rotate(only_full=waiting)
            self._put_pending()
            if waiting:
                self._rotate()
                self._put_pending()

    def _rotate(self, *, only_full: bool = False) -> None:
        """Let the open rows wait for their segment; the next append begins a new batch."""
        with self._append_lock:
            batch = self._open
            if batch is None or not batch.rows or (only_full and not self._is_full(batch)):
                return
            self._sequence = batch.end
            # In one statement, so that an interrupt cannot leave the rows in both or in neither.
            self._pending, self._open = [*self._pending, batch], None

    def _put_pending(self) -> None:
        try:
            while self._pending:
                self._put(self._pending[0])
                with self._append_lock:
                    done = self._pending.pop(0)
                    self._durable_end = done.end
                _drop(done.journal)
                if self._folder is not None:
                    self._folder.ring()
        finally:
            # An outage may last, and descriptors are few.
            for batch in self._pending:
                if batch.journal is not None:
                    batch.journal.rest()

    def _is_full(self, batch: _Open) -> bool:
        return len(batch.rows) >= self._limits.rows or batch.size_bytes >= self._limits.bytes

    def _flush_quietly(self) -> None:
        """Flush for one who did not ask: what was appended is acknowledged, whatever becomes of the flush."""
        # Nothing is lost; flush() and close() raise it to whoever asks.
        try:
            self._put_all()
        except EventStoreError as error:
            logger.warning("a flush failed and will be tried again: %s", error)
        except Exception:
            logger.exception("a flush failed for a reason that was not foreseen; it will be tried again")

    def close(self) -> None:
        """Flush, and let go of the journal. A second close does nothing, or ends one that was interrupted."""
        self._check_process()
        with self._append_lock:
            if self._released:
                return
            # First of all: an append that is acknowledged after the flush would go with the journal.
            self._closed = True
        self._stop_timer()
        whole = False
        try:
            self._put_all()
            whole = True
        finally:
            if whole and self._open is not None:
                _drop(self._open.journal)
            self._release(remove=whole)

    def abandon(self) -> None:
        """Let go without flushing; what was acknowledged stays in the journal for the next opener."""
        self._stop_timer()
        self._release(remove=False)

    def _release(self, *, remove: bool) -> None:
        with self._append_lock:
            self._closed = self._released = True
            for batch in [*self._pending, *([self._open] if self._open else [])]:
                if batch.journal is not None:
                    batch.journal.close()
            if self._lock_file is not None:
                self._lock_file.release(remove=remove)

    def _check_open(self) -> None:
        self._check_process()
        if self._closed:
            raise _closed()

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise StateError(
                f"this store was opened in process {self._process} and is used in {os.getpid()}: open "
                "the store again in the new process",
                code="other_process",
            )

    def _time(self) -> int:
        now = self._clock()
        if now >= self._last_us:
            return now
        if self._last_us - now > CLOCK_TOLERANCE_US:
            raise StateError(
                f"the clock was expected at or after {_iso(self._last_us)}, found {_iso(now)}: it jumped "
                "back. Set the clock right, or close the store and open it again to go on from the new "
                "time; nothing of this append was stored",
                code="clock_went_back",
                last=_iso(self._last_us),
                found=_iso(now),
            )
        return self._last_us

    def _begin(self, first: int) -> _Open:
        journal = None
        if self._folder is not None:
            header = {
                "store_id": self._author.store_id,
                "writer": self.id,
                "first_sequence": first,
                "actor": self._author.actor,
                "software": self._author.software,
                "boot": boot_id(),
            }
            path = self._folder.journal_path(self.id, first)
            journal = Journal(path, header, durability=self._durability, files=self._folder.files)
        return _Open(first, journal, time.monotonic())

    def _put(self, batch: _Open) -> None:
        day = layout.segment_day(dt.datetime.fromtimestamp(self._clock() / 1e6, dt.UTC))
        if batch.file is None:
            batch.file, batch.hashes = encode_rows(batch.rows, self.id, self._author, day)
        known = batch.file.segment
        path = layout.segment_path(day, known.writer, known.first_sequence, known.digest)
        if path != known.path:
            # After an outage: sealers look into the folders of late, and not into that of the first attempt.
            batch.file = replace(batch.file, segment=replace(known, path=path))
        if batch.journal is not None and batch.intended_path != path:
            try:
                batch.journal.intend(path)
                batch.intended_path = path
            except EventStoreError as error:
                # A full disk must not stop what would empty it. A crash amid the put can then make the
                # recovery put these events a second time, and sealing passes over a repeat.
                logger.warning("the journal does not name the segment that is put now: %s", error)
        put_segment(self._storage, batch.file)
        self._on_durable(batch.file, batch.hashes)

    # flushing by time ------------------------------------------------------------------------------------

    def _start_timer(self) -> None:
        with self._append_lock:
            if self._timer is not None or self._closed or time.monotonic() < self._timer_after:
                return
            try:
                timer = start_thread(self._tick, name="eventstore-flush")
            except Exception as error:
                # No more threads, or the interpreter is about to end: without one nothing is lost.
                self._timer_after = time.monotonic() + (self._limits.seconds or 0.0)
                logger.warning("nothing is flushed by time for now: %s", error)
            else:
                self._timer = timer

    def _stop_timer(self) -> None:
        self._wake.set()
        timer = self._timer
        if timer is not None and timer is not threading.current_thread() and timer.is_alive():
            timer.join()

    def _tick(self) -> None:
        seconds = self._limits.seconds or 0.0
        pause = seconds
        while not self._wake.wait(pause):
            with self._append_lock:
                oldest = self._pending[0] if self._pending else self._open
                age = time.monotonic() - oldest.opened_at if oldest else 0.0
            pause = seconds if age >= seconds else max(seconds - age, 0.01)
            if oldest is None or age < seconds:
                continue
            self._flush_quietly()


def _drop(journal: Journal | None) -> None:
    """Remove a journal whose rows are in a segment. One that stays is removed at the next opening."""
    if journal is not None:
        try:
            journal.remove()
        except StorageError as error:
            logger.warning("%s", error)


def _check_columns(kind: EventType, fields: Mapping[str, Any]) -> None:
    """Refuse what a user's own validators or defaults put where a column would not take it.

    Checked before anything is acknowledged: a row that no segment can hold would be in the way for ever.
    """
    for name in (*AUDIT_FIELDS, *SHARED_COLUMNS):
        value, is_time = fields.get(name), name == "occurred_at"
        if value is None or (not is_time and isinstance(value, str)):
            continue
        if is_time and isinstance(value, dt.datetime) and value.tzinfo is not None:
            continue
        expected = "a time with a timezone" if is_time else "text"
        raise InvalidEventError(
            f"{kind.kind}: {name}: {expected} or None was expected, found {value!r:.60}; correct the model's "
            "defaults and validators. Nothing was stored",
            code="wrong_type",
            kind=kind.kind,
            field=name,
        )


def _closed() -> StateError:
    return StateError("the store is closed: open it again to write", code="closed")


def _iso(microseconds: int) -> str:
    return dt.datetime.fromtimestamp(microseconds / 1e6, dt.UTC).isoformat()


def encode_rows(
    rows: Sequence[Row], writer: WriterId, author: Author, day: str
) -> tuple[SegmentFile, list[bytes]]:
    """Encode rows of one writer as a segment file for the folder `day`; also returns their hashes."""
    table = table_of(rows, writer=writer, actor=author.actor, software=author.software)
    hashes: list[bytes] = table["event_hash"].to_pylist()
    return encode_segment(table, day=day, store_id=author.store_id), hashes


def put_segment(storage: Storage, file: SegmentFile) -> None:
    """Put a segment whole. Its name says its content, so putting it again changes nothing."""
    storage.put(file.segment.path, file.data)
