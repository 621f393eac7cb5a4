"""`EventStore`: one folder or bucket, opened. Joins writer, sequence, reader, values and look-ups."""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import platformdirs
import pyarrow as pa

from eventstore.codec.rows import recorded_events
from eventstore.errors import (
    EventStoreError,
    NotFoundError,
    StateError,
    StorageError,
)
from eventstore.events.envelope import Event, RecordedEvent
from eventstore.events.registry import Registry, default_registry
from eventstore.filesystem import Storage, open_storage
from eventstore.ids import EventId
from eventstore.index import HistoryIndex, open_index
from eventstore.journal import Durability
from eventstore.journal_folder import JournalFolder
from eventstore.local_files import LocalFiles
from eventstore.log.cleaning import GRACE, CleanPlan, CleanReport
from eventstore.log.compaction import CompactionGoals, CompactionReport
from eventstore.log.journaled import Journaled
from eventstore.log.levels import Level, Receipt
from eventstore.log.maintenance import Maintenance
from eventstore.log.ranges import ranges_of
from eventstore.log.reader import LogReader
from eventstore.log.recovery import recover_dead_writers
from eventstore.log.sequence import Head, SealSequence
from eventstore.log.subscription import Checkpoint, Checkpoints, Clocks, Patience, Start, Subscription
from eventstore.log.transfer import Side, TransferReport, plan_transfer, transfer
from eventstore.log.verify import VerifyReport, verify_store
from eventstore.log.writer import Author, Limits, Writer
from eventstore.segment import SegmentFile
from eventstore.store_file import open_store_file
from eventstore.tags import Pairs
from eventstore.value import ValueTypes, default_types
from eventstore.value_store import ValueStore
from eventstore.workflow import Execution

if TYPE_CHECKING:
    import polars as pl

__all__ = ["EventStore", "Level", "Receipt", "software_name"]

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
STATE_VARIABLE = "EVENTSTORE_STATE"
"""Environment variable that names the folder for journals; else the user's state folder."""


LOOK_SECONDS = 10.0
"""How often a flush that seals also looks for the segments of others, and a look-up that finds nothing.

The first flush, `EventStore.seal` and `EventStore.close` always do.
"""


def software_name() -> str:
    """Return the name and version that new events and seals carry."""
    try:
        return f"eventstore/{version('eventstore')}"
    except PackageNotFoundError:
        return "eventstore/unknown"


def _now_us() -> int:
    return time.time_ns() // 1000


class EventStore:
    """An open event store; a context manager that flushes, seals and closes at its end.

    Use `EventStore.open`. All methods may be called from any thread; another process opens its own.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        store_id: str,
        read_only: bool,
        durability: Durability,
        author: Author,
        registry: Registry,
        limits: Limits,
        max_value_bytes: int,
        value_level: int,
        value_dictionary: str | None,
        auto_seal: bool,
        auto_compact: bool,
        single_sealer: bool,
        types: ValueTypes,
        folder: JournalFolder | None,
        local_folder: Path,
        fresh_seconds: float,
        clock: Callable[[], int],
    ) -> None:
        self.storage = storage
        self.store_id = store_id
        self.local_folder = local_folder
        self.registry = registry
        self.read_only = read_only
        self.types = types
        self.values = ValueStore(
            storage, level=value_level, max_bytes=max_value_bytes, dictionary=value_dictionary
        )
        self._author = author
        self._durability = durability
        self._limits = limits
        self._auto_seal = auto_seal
        self._auto_compact = auto_compact
        self._single_sealer = single_sealer
        self._folder = folder
        self._clock = clock
        self._writer: Writer | None = None
        self._lock = threading.RLock()
        self._closed = False
        self._let_go = False
        self._process = os.getpid()
        self._looked_at = float("-inf")
        turn = partial(folder.sealing_turn, wait=single_sealer) if folder and not read_only else None
        self._sequence = SealSequence(
            storage,
            store_id=store_id,
            software=author.software,
            clock=clock,
            turn=turn,
            single_sealer=single_sealer,
        )
        self._maintenance = Maintenance(
            storage, self._sequence, store_id=store_id, folder=folder, clock=clock
        )
        self._reader = LogReader(
            storage,
            self._sequence,
            store_id=store_id,
            registry=registry,
            folder=folder,
            own_rows=self._own_rows,
        )
        self.lookup: HistoryIndex = open_index(
            self._reader,
            self._sequence,
            self.values,
            store_id=store_id,
            folder=folder,
            local_folder=local_folder,
            own_rows=self._own_rows,
            fresh_seconds=fresh_seconds,
            look_seconds=max(fresh_seconds, LOOK_SECONDS),
        )
        """What the history says of one thing: of an evaluation, a value, a call, a job, a tag, a handle."""

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str],
        *,
        create: bool = False,
        read_only: bool = False,
        durability: Durability = "process",
        actor: str | None = None,
        software: str | None = None,
        registry: Registry | None = None,
        flush_rows: int = 200_000,
        flush_bytes: int = 64 * 1024 * 1024,
        flush_seconds: float | None = 5.0,
        inline_limit: int = 64 * 1024,
        max_value_bytes: int = 1_000_000_000,
        value_level: int = 3,
        value_dictionary: str | None = None,
        auto_seal: bool = True,
        auto_compact: bool = False,
        single_sealer: bool = False,
        trust_pickle: bool = True,
        fresh_seconds: float = 1.0,
        state_dir: str | os.PathLike[str] | None = None,
        clock: Callable[[], int] = _now_us,
        storage_options: Mapping[str, Any] | None = None,
        storage: Storage | None = None,
        local_files: LocalFiles | None = None,
    ) -> Self:
        """Open the store at `url`, and take over what dead writers of this machine left in journals.

        Parameters
        ----------
        url
            A folder, or any fsspec URL; ``memory://name`` lives and dies with this process.
        create
            Make the store if there is none.
        read_only
            Never write: no recovery, no sealing.
        durability
            ``process`` survives a killed process, ``fsync`` also power loss.
        actor
            Who appends, for events that do not say so.
        software
            What appends, with its version; None means this package.
        registry
            The kinds that are known; None means `default_registry`.
        flush_rows, flush_bytes, flush_seconds
            A segment is put when so many events or journal bytes are open, or when the oldest is so old
            (None: never by time).
        inline_limit
            Longest value that rides inside its event, in bytes; longer ones go to ``values/``.
        max_value_bytes
            Longest value that is taken at all.
        value_level
            zstd level of values beside the log, 1 to 22.
        value_dictionary
            SHA-256 of a dictionary that `values.train` made: values beside the log of at most 64 KiB use it,
            which are there with a lower `inline_limit`. Reading needs no setting.
        auto_seal
            Seal after each flush.
        auto_compact
            After a seal, merge small files in passing where there are many; in bounded steps, beside the
            writer. `compact` merges all, and `clean` removes what was replaced.
        single_sealer
            This machine does all sealing; needed where storage has no atomic put-if-absent.
        trust_pickle
            Whether values may be unpickled, which runs code that they name. Without, `types` refuses to load
            pickles (StateError, code ``pickle_not_trusted``), and tasks run again rather than take a
            pickled result from the cache.
        fresh_seconds
            How old an answer of `lookup` may be with respect to what other machines have sealed.
        state_dir
            Where journals and the index of `lookup` go; None means the environment variable EVENTSTORE_STATE,
            or else the user's state folder.
        clock
            Microseconds of Unix time.
        storage_options
            For the filesystem: credentials, endpoints. Never stored or printed.
        storage, local_files
            An opened root and the journal's file operations, for wrappers and tests.

        Raises
        ------
        NotFoundError
            There is no store (code ``store_not_found``).
        FormatError
            Not a store (``not_a_store``), or one of a newer format (``newer_format``).
        StorageError
            The place cannot be reached or written.
        """
        place = storage or open_storage(url, **(storage_options or {}))
        store_id = _despite_links(
            partial(open_store_file, place, create=create and not read_only, software=software_name()),
            single_sealer=single_sealer,
        )
        local_folder = _state_root(state_dir) / store_id
        folder = JournalFolder(local_folder, files=local_files) if place.abilities.shared else None
        store = cls(
            place,
            store_id=store_id,
            read_only=read_only,
            durability=durability,
            author=Author(store_id, actor, software or software_name()),
            registry=registry or default_registry,
            # What is longer than both goes to the value store, which refuses it.
            limits=Limits(flush_rows, flush_bytes, flush_seconds, min(inline_limit, max_value_bytes)),
            max_value_bytes=max_value_bytes,
            value_level=value_level,
            value_dictionary=value_dictionary,
            auto_seal=auto_seal,
            auto_compact=auto_compact,
            single_sealer=single_sealer,
            types=default_types if trust_pickle else default_types.without_pickle(),
            folder=folder,
            local_folder=local_folder,
            fresh_seconds=fresh_seconds,
            clock=clock,
        )
        if not read_only:
            store.recover()
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EventStore({self.url!r})"

    @property
    def url(self) -> str:
        """Where the store is, credentials masked."""
        return self.storage.url

    @property
    def appended(self) -> int:
        """How many events were appended through this object; costs nothing, so it can be watched."""
        writer = self._own_writer()
        return 0 if writer is None else writer.end

    # writing ---------------------------------------------------------------------------------------------

    def append(self, *events: Event) -> Receipt:
        """Record events, all or none, in this order and next to each other.

        Returns when they are journaled (`Level.JOURNALED`); `flush` and `seal` take them further.

        Raises
        ------
        InvalidEventError
            Unknown kind, or a value that is too large; nothing was stored.
        StateError
            The store is closed, read-only, or was opened in another process; or the clock jumped back.
        StorageError
            The journal's disk refused; nothing of this call was stored.
        """
        writer = self._writer or self._open_writer()
        first = writer.append(events)
        self.lookup.observe(events, writer.id, first)
        return Receipt(writer.id, first, len(events), self.level)

    def execution(
        self,
        *,
        args: Sequence[Any] = (),
        tags: Pairs = (),
        name: str = "run",
        cache: bool = True,
    ) -> Execution:
        """Return a run, to be entered with ``with``: calls of tasks inside are recorded and cached.

        Parameters
        ----------
        args
            How the run was asked for, as JSON can say it; usually the command line.
        tags
            Put on the execution: a mapping, or pairs.
        name
            Name of the root job's task.
        cache
            Whether results of earlier runs may answer, and results of this one are kept.
        """
        return Execution(self, args=args, tags=tags, name=name, cache=cache, types=self.types)

    def flush(self) -> None:
        """Put what was appended here into segments; raises StorageError, and then nothing is lost."""
        self._check_open()
        writer = self._writer
        if writer is not None:
            writer.flush()
            self._after_flush()

    def seal(self, *, everywhere: bool = False) -> Head:
        """Flush, then give every durable event of any writer its position.

        Parameters
        ----------
        everywhere
            Look for unsealed segments in every day's folder, not only in recent ones.
        """
        self._check_writable()
        self._check_open()
        if self._writer is not None:
            self._writer.flush()
        return self._seal(everywhere=everywhere)

    def recover(self) -> int:
        """Make durable what dead writers of this machine left journaled; returns how many events.

        A damaged journal is kept and logged as an error, and `verify` reports it.
        """
        if self._folder is None:
            return 0
        self._check_writable()
        recovered = recover_dead_writers(self.storage, self._folder, self._sequence, clock=self._clock)
        if recovered and self._auto_seal:
            self._try_seal()
        return recovered

    def close(self) -> None:
        """Flush, seal, and let go. A second close does nothing, unless the first was interrupted.

        Raises
        ------
        StorageError
            The flush failed; what was acknowledged stays journaled and is taken over at the next open.
        """
        with self._lock:
            if self._let_go:
                return
            self._closed = True
            writer = self._writer
            if writer is not None:
                self._looked_at = time.monotonic()  # not amid the flush, as it comes now
                writer.close()
                if self._auto_seal:
                    self._try_seal(look=True)
            self._maintenance.close()
            self.lookup.close()
            if self._folder is not None:
                self._folder.close()
            self._let_go = True

    def abandon(self) -> None:
        """Let go at once, as if the process died: nothing is flushed, journals stay for the next opener."""
        with self._lock:
            self._closed = self._let_go = True
            if self._writer is not None:
                self._writer.abandon()

    def level(self, event: EventId) -> Level:
        """Return how safe an event is.

        Raises
        ------
        NotFoundError
            It is neither in the log nor in a journal of this machine (code ``no_such_event``).
        """
        if self._sequence.level_is_sealed(event):
            return Level.SEALED
        writer = self._own_writer()
        if writer is not None and event.writer == writer.id:
            journaled, durable = event.sequence < writer.end, event.sequence < writer.durable_end
        else:
            # Journals before segments before seals: what leaves the one is in the next before it goes.
            journaled = any(
                name == event.writer and any(row.sequence == event.sequence for row in rows)
                for name, rows, _ in self._reader.journaled()
            )
            self._sequence.refresh()
            durable = any(
                known[0].holds(event)
                for path in self._sequence.unsealed(everywhere=True)
                if (known := self._sequence.describe(path))
            )
        self._sequence.refresh()
        if self._sequence.level_is_sealed(event):
            return Level.SEALED
        if durable:
            return Level.DURABLE
        if journaled:
            return Level.JOURNALED
        raise NotFoundError(
            f"the event {event} was expected in the log, in an unsealed segment or in a journal of this "
            "machine, found in none; correct the id, or run `eventstore verify`",
            code="no_such_event",
        )

    def _open_writer(self) -> Writer:
        writer = self._writer
        if writer is not None:
            return writer
        with self._lock:
            self._check_writable()
            self._check_open()
            if self._writer is None:
                self._writer = Writer(
                    self.storage,
                    author=self._author,
                    registry=self.registry,
                    values=self.values,
                    folder=self._folder,
                    durability=self._durability,
                    limits=self._limits,
                    clock=self._clock,
                    on_durable=self._on_durable,
                )
            return self._writer

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("the store is closed: open it again to write", code="closed")

    def _check_writable(self) -> None:
        if self.read_only:
            raise StateError(
                f"{self.url} was opened with read_only=True: open it again without, to write",
                code="read_only",
            )

    def _on_durable(self, file: SegmentFile, hashes: list[bytes]) -> None:
        self._sequence.offer(file.segment, hashes)
        if self._auto_seal:
            self._try_seal()
            self.lookup.after_seal()
        if self._auto_compact:
            self._maintenance.in_passing(file.segment.count)

    def _after_flush(self) -> None:
        """Seal what could not be sealed when it was put."""
        writer = self._writer
        if not self._auto_seal or writer is None:
            return
        try:
            behind = self._sequence.sealed_end(writer.id) < writer.durable_end
        except EventStoreError:
            behind = True  # the attempt below says why
        if behind:
            self._try_seal()

    def _try_seal(self, *, look: bool = False) -> None:
        """Seal in passing. What is durable needs no seal to be safe, so a refusal is only reported."""
        look = look or time.monotonic() - self._looked_at >= LOOK_SECONDS
        if look:
            self._looked_at = time.monotonic()
        try:
            self._seal(look=look)
        except EventStoreError as error:
            logger.warning("the events are durable and not sealed yet: %s", error)

    def _seal(self, *, look: bool = True, everywhere: bool = False) -> Head:
        return _despite_links(
            lambda: self._sequence.seal(look=look, everywhere=everywhere), single_sealer=self._single_sealer
        )

    def _own_writer(self) -> Writer | None:
        """The writer, in the process that opened it: a fork's copy of it goes stale at once."""
        return self._writer if self._process == os.getpid() else None

    def _own_rows(self) -> Journaled | None:
        writer = self._own_writer()
        if writer is None:
            return None
        header = {"actor": self._author.actor, "software": self._author.software}
        return writer.id, writer.open_rows(), header

    # reading ---------------------------------------------------------------------------------------------

    def head(self) -> Head:
        """Return where the sealed log ends now."""
        return self._sequence.head()

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
        """Yield committed events in position order, as Arrow; see `LogReader.read`."""
        return self._reader.read(
            after=after, until=until, kinds=kinds, columns=columns, limit=limit, tail=tail
        )

    def events(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        limit: int | None = None,
        tail: bool = False,
    ) -> Iterator[RecordedEvent]:
        """Yield committed events in position order, typed; parameters as in `read`."""
        batches = self.read(after=after, until=until, kinds=kinds, limit=limit, tail=tail)
        return (event for batch in batches for event in recorded_events(batch, self.registry))

    def position_at(self, moment: dt.datetime) -> int:
        """Return how many events were sealed by `moment`: the position that "as of then" means.

        Before the first seal there were none. A time without a timezone is an InvalidEventError (code
        ``naive_time``).
        """
        self._check_open()
        return self._sequence.size_at(moment)

    def ranges(
        self, *, after: int | None = None, until: int | None = None, rows: int = 131_072
    ) -> list[tuple[int, int]]:
        """Return ``(first, end)`` of ranges of sealed positions, to be read one after another.

        Parameters
        ----------
        after, until
            As in `read`.
        rows
            Positions that a range has at most, unless a segment or a block alone has more.
        """
        self._check_open()
        now = self._sequence.refresh()
        end = now.peaks.size if until is None else min(until, now.peaks.size)
        return list(ranges_of(now.segments, self._reader.blocks, after=after, until=end, rows=rows))

    def scan(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        tail: bool = False,
        check: bool = True,
    ) -> pl.LazyFrame:
        """Return events as a lazy polars table, ``position`` first; parameters as in `read`.

        With `check`, damage to a segment is an error and never a wrong answer; see `scan_log`.
        """
        from eventstore.log.scan import scan_log  # polars is a third of the time that a program starts in

        return scan_log(
            self.storage,
            self._sequence,
            self._reader,
            self.registry,
            after=after,
            until=until,
            kinds=kinds,
            columns=columns,
            tail=tail,
            check=check,
        )

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
        """Yield sealed events as they come; see `LogReader.subscribe`."""
        return self._reader.subscribe(
            after=after,
            kinds=kinds,
            columns=columns,
            poll_seconds=poll_seconds,
            stop=stop,
            idle_seconds=idle_seconds,
        )

    def subscription(
        self,
        name: str,
        *,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        start: Start = None,
        batch_rows: int = 1_000,
        retries: int = 3,
        backoff_seconds: float = 0.5,
        split: bool = True,
        checkpoint_seconds: float = 1.0,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> Subscription:
        """Return the subscription of this name, made if there is none; it hands over sealed events.

        Where it stands lies in the store, so a later process, here or elsewhere, goes on there. Events come
        in position order and at least once. Two runners of one name notice each other; where storage has no
        atomic put-if-absent they may not, and events then come more often than needed.

        Parameters
        ----------
        name
            1 to 100 lower-case letters, digits, ``-`` and ``_``.
        kinds
            Only events of these kinds. They belong to the name: None takes those that it was made with, or
            all for a new one.
        columns
            Only these columns, always after ``position``; None means all.
        start
            Where a new one begins: a position, ``"head"``, or None for the first event.
        batch_rows
            Most events that are handed over at once.
        retries, backoff_seconds
            How often a batch is handed over again after the handler raised, and the pause before the first
            time, which doubles with each, up to a minute.
        split
            Then halve the batch until the event that the handler does not take is alone, so that only this
            one parks the subscription.
        checkpoint_seconds
            A checkpoint is written at most so often while events are taken.
        timer, sleep
            Seconds that never go back; how to pause, None for a pause that `stop` ends.

        Raises
        ------
        InvalidEventError
            The name is bad, or stands for other kinds (code ``bad_subscription``); `start` is not in the log
            (``bad_range``).
        NotFoundError
            There is none, and this store is read-only (``no_such_subscription``).
        """
        return Subscription(
            name,
            log=self,
            checkpoints=Checkpoints(self.storage, store_id=self.store_id),
            software=self._author.software,
            kinds=kinds,
            columns=columns,
            start=start,
            batch_rows=batch_rows,
            checkpoint_seconds=checkpoint_seconds,
            patience=Patience(retries, backoff_seconds, split),
            clocks=Clocks(self._clock, timer, sleep),
        )

    def subscriptions(self) -> list[Checkpoint]:
        """Return where each named subscription stands, by name."""
        return Checkpoints(self.storage, store_id=self.store_id).all()

    # other stores ----------------------------------------------------------------------------------------

    def pull(
        self,
        other: EventStore,
        *,
        apply: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> TransferReport:
        """Take over what is sealed in another store and missing here: events, and the values they mention.

        Events keep their writer, number, salt and hash, and get positions of this store, in the order of the
        other's. So a second call, or one by way of a third store, adds nothing. To send, call it on the other
        store.

        Parameters
        ----------
        other
            An open store; read-only is enough.
        apply
            Otherwise only plan, and count the values too; then nothing is changed.
        progress
            Called with (events sealed here, events that were missing).

        Raises
        ------
        InvalidEventError
            The other store is this one, or a copy of it (code ``same_store``); or one of its values is larger
            than `max_value_bytes`.
        IntegrityError, NotFoundError
            A segment or a value of the other store is damaged or gone. What stands before it was taken over.
        StateError
            This store is read-only or closed.
        """
        sides = other._side(), self._side()
        if not apply:
            return TransferReport(plan_transfer(*sides, values=True))
        self._check_writable()
        self._check_open()
        return _despite_links(
            lambda: transfer(*sides, clock=self._clock, progress=progress),
            single_sealer=self._single_sealer,
        )

    def _side(self) -> Side:
        return Side(self.storage, self.store_id, self._sequence, self.values)

    # upkeep ----------------------------------------------------------------------------------------------

    def compact(
        self,
        *,
        apply: bool = True,
        goals: CompactionGoals | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompactionReport:
        """Merge many small segments into few large ones, laid out for readers; events and root stay.

        What is durable is sealed first. Each new file is decoded again and compared with what went into it
        before a seal names it. The old files stay until `clean`.

        Parameters
        ----------
        apply
            Otherwise only plan; then nothing is changed.
        goals
            How large files may become; None takes the format's own.
        progress
            Called with (events written, events to write).

        Raises
        ------
        IntegrityError
            A segment is damaged, or a new file did not read back; it was not published.
        ConflictError
            Another process of this machine is compacting (code ``compacting``).
        StateError
            The store is read-only or closed.
        """
        if not apply:
            return CompactionReport(self._maintenance.plan_compaction(goals))
        self.seal()
        return _despite_links(
            lambda: self._maintenance.compact(goals=goals, progress=progress),
            single_sealer=self._single_sealer,
        )

    def clean(
        self,
        *,
        apply: bool = True,
        grace: dt.timedelta = GRACE,
        plan: CleanPlan | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> CleanReport:
        """Remove files that compaction has made needless, after a grace period.

        Parameters
        ----------
        apply
            Otherwise only plan; then nothing is changed.
        grace
            How long a file stays after it has become needless; longer than any reader holds on to the
            sequence that it took.
        plan
            That of an earlier call, to act on just that; None makes one now.
        progress
            Called with (files removed, files to remove).

        Raises
        ------
        IntegrityError
            The chain is broken, or what is to stay is damaged: nothing was removed.
        StateError
            The store is read-only or closed.
        """
        to_do = plan if plan is not None else self._maintenance.plan_cleaning(grace)
        if not apply:
            return CleanReport(to_do)
        self._check_writable()
        self._check_open()
        return self._maintenance.clean(to_do, progress=progress)

    def verify(
        self, *, values: bool = True, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        """Check everything against everything; see `verify_store`."""
        return verify_store(
            self.storage,
            store_id=self.store_id,
            folder=self._folder,
            check_values=values,
            progress=progress,
        )


def _despite_links(action: Callable[[], Result], *, single_sealer: bool) -> Result:
    """Do `action`, and again if it found out that this filesystem has no hard links: then it goes without."""
    try:
        return action()
    except StorageError as error:
        if error.code != "no_atomic_create" or not single_sealer:
            raise
        return action()


def _state_root(state_dir: str | os.PathLike[str] | None) -> Path:
    chosen = state_dir or os.environ.get(STATE_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_state_path("eventstore")
