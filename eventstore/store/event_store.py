"""`EventStore`: opening, writing, closing."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import platformdirs

from eventstore.errors import (
    EventStoreError,
    NotFoundError,
    StateError,
)
from eventstore.events.envelope import Event
from eventstore.events.registry import Registry, default_registry
from eventstore.filesystem import Storage, open_storage
from eventstore.ids import EventId
from eventstore.index import HistoryIndex, open_index
from eventstore.journal import Durability
from eventstore.journal_folder import JournalFolder
from eventstore.local_files import LocalFiles
from eventstore.log.journaled import Journaled
from eventstore.log.levels import Level, Receipt
from eventstore.log.maintenance import Maintenance
from eventstore.log.reader import LogReader
from eventstore.log.recovery import recover_dead_writers
from eventstore.log.sequence import Head, SealSequence
from eventstore.log.writer import Author, Limits, Writer
from eventstore.segment import SegmentFile
from eventstore.store.reading import Reading
from eventstore.store.upkeep import Upkeep, despite_links
from eventstore.store_file import open_store_file
from eventstore.tags import Pairs
from eventstore.value import ValueTypes, default_types
from eventstore.value_store import ValueStore
from eventstore.workflow import Execution

if TYPE_CHECKING:
    pass

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


class EventStore(Reading, Upkeep):
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
        store_id = despite_links(
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
        return despite_links(
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


def _state_root(state_dir: str | os.PathLike[str] | None) -> Path:
    chosen = state_dir or os.environ.get(STATE_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_state_path("eventstore")
