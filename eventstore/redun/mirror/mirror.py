"""`SqlMirror`: the log as redun's own SQL tables, for redun's own tools."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from eventstore.errors import StateError
from eventstore.redun.mirror.database import MirrorFile, is_damage, refused
from eventstore.redun.mirror.fold import Fold
from eventstore.redun.mirror.rows import COLUMNS, KINDS
from eventstore.redun.mirror.schema import State, create_indexes, file_name, write_state
from eventstore.redun.mirror.sessions import Sessions
from eventstore.redun.mirror.tail import begin_tail, end_tail, undo_tail
from eventstore.redun.mirror.values import MirrorValues

if TYPE_CHECKING:
    from redun.backends.db import RedunSession
    from redun.value import TypeRegistry
    from sqlalchemy import Engine

    from eventstore.log.sequence import Head
    from eventstore.store import EventStore

__all__ = ["SqlMirror"]

logger = logging.getLogger(__name__)
COMMIT_EVENTS = 100_000
"""Events that are folded in one transaction while the mirror is far behind."""
FLUSH_EVENTS = 300
"""With so many events of our own in no segment, a look puts them into one rather than fold them twice."""
_WAIT_SECONDS = 3600.0
_MOST_PAUSE_SECONDS = 1.0

Progress = Callable[[int, int], None]


class SqlMirror:
    """A projection of one store's log into redun's SQL schema, brought up to date whenever it is read.

    It is a SQLite file in the store's local folder, made from the log and never more than that: one that is
    deleted, damaged, of another version or of another history than the log's is made anew. Safe to share by
    threads, and by processes, of which one at a time folds.

    Parameters
    ----------
    store
        An open store; read-only will do.
    path
        Where the file lies; None takes the store's local folder, or a temporary folder for a store in memory.
    types
        redun's type registry, for the values that rows are asked for; None takes redun's own.
    backend
        What `session.backend` is; None takes `values`. It must answer `_get_value`, `_get_value_data`,
        `_get_value_size` and `_deserialize_value`.
    fresh_seconds
        How long a look at what others have recorded is good for; 0 looks with each query. Otherwise it is
        stretched, to a second at most, so that looking takes at most a fifth of the time. What was appended
        through `store` is seen at once.
    """

    def __init__(
        self,
        store: EventStore,
        path: Path | None = None,
        *,
        types: TypeRegistry | None = None,
        backend: Any = None,
        fresh_seconds: float = 0.005,
    ) -> None:
        self._store = store
        self._fresh_seconds = fresh_seconds
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._closed = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if path is None and not store.storage.abilities.shared:
            folder = tempfile.TemporaryDirectory(prefix="eventstore-mirror-", ignore_cleanup_errors=True)
            self._folder = folder
            path = Path(folder.name) / file_name()
        elif path is None:
            # By machine: a home folder may be shared, and SQLite's locks may not.
            path = store.local_folder / (socket.gethostname() or "localhost") / file_name()
        self.path = path
        self._file = MirrorFile(path, store.store_id)
        self._state: State | None = None
        self._reached: Head | None = None
        """The end of the log that the mirror's state names, once it is known to be of this log."""
        self._appended = -1
        self._flushed = 0
        self._look_at = float("-inf")
        self._damage: str | None = None
        self.values = MirrorValues(store, self._stored, types)
        self._sessions = Sessions(
            path,
            backend=self.values if backend is None else backend,
            refresh=self.refresh,
            on_damage=self._note_damage,
        )

    def __repr__(self) -> str:
        return f"SqlMirror({str(self.path)!r})"

    # asking ----------------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine on the tables, for reading; each connection that is taken is up to date."""
        self._check_open()
        self.refresh()
        return self._sessions.engine

    @property
    def session(self) -> RedunSession:
        """A session of redun's models, always the same one; each query sees what was recorded before it.

        Raises
        ------
        StateError
            From the session, when something is written through it (code ``mirror_read_only``).
        """
        self._check_open()
        self.refresh()
        return self._sessions.main

    def new_session(self) -> RedunSession:
        """Return another session, for another thread."""
        self._check_open()
        self.refresh()
        return self._sessions.new()

    @property
    def position(self) -> int:
        """How many sealed events are folded, as of the last look."""
        return self._state.position if self._state else 0

    # refreshing ------------------------------------------------------------------------------------------

    def refresh(self, *, progress: Progress | None = None) -> None:
        """Fold what was recorded since the last look: sealed events, and on top those that are not sealed.

        Where another process is folding and nothing of our own is new, what it has committed is read as it
        is.

        Parameters
        ----------
        progress
            Called with (sealed events folded, sealed events to fold).

        Raises
        ------
        StorageError
            The state folder refused (code ``mirror_refused``), or the store.
        IntegrityError
            The log is damaged.
        """
        with self._lock:
            self._check_process()
            appended = self._store.appended
            started = time.monotonic()
            news = appended != self._appended
            if not news and started < self._look_at and self._damage is None and self._file.exists():
                return
            if not self._store.read_only and appended - self._flushed >= FLUSH_EVENTS:
                self._flushed = appended
                self._store.flush()
            # Whoever has never been up to date has nothing to read meanwhile.
            must = news or self._damage is not None or self._state is None or not self._state.complete
            with self._file.turn(wait_seconds=_WAIT_SECONDS if must else 0) as mine:
                if mine:
                    self._fold(tail=True, progress=progress)
            self._appended = appended
            now = time.monotonic()
            pause = max(self._fresh_seconds, min(4 * (now - started), _MOST_PAUSE_SECONDS))
            self._look_at = now + (pause if self._fresh_seconds else 0)

    def rebuild(self, *, progress: Progress | None = None) -> None:
        """Throw the file away and make it again from the log; parameters and errors as of `refresh`."""
        with self._lock:
            self._damage = "it was asked for"
            self.refresh(progress=progress)

    @contextmanager
    def settled(self, *, progress: Progress | None = None) -> Iterator[tuple[sqlite3.Connection, State]]:
        """Give a connection that reads the tables as the sealed log makes them, whatever comes meanwhile.

        Without anything that no seal has placed; what this process appended is flushed and sealed first.

        Raises
        ------
        StorageError, IntegrityError
            As of `refresh`; also where reading finds the mirror damaged, which the next look then makes anew.
        """
        with self._lock:
            self._check_process()
            if not self._store.read_only and self._store.appended:
                self._store.flush()
            with self._file.turn(wait_seconds=_WAIT_SECONDS):
                state = self._fold(tail=False, progress=progress)
                db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
                db.execute("BEGIN")
                # The first read takes the snapshot; the turn may go on without us.
                db.execute("SELECT position FROM mirror_state").fetchone()
            self._look_at = float("-inf")
        try:
            yield db, state
        except sqlite3.Error as error:
            if is_damage(error):
                self._note_damage(str(error))
            raise refused(self.path, error) from error
        finally:
            db.close()

    def _fold(self, *, tail: bool, progress: Progress | None) -> State:
        if self._damage is not None:
            why, self._damage = self._damage, None
            self._file.discard(why)
        try:
            return self._fold_once(tail=tail, progress=progress)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise refused(self.path, error) from error
            # Once more, on a new file; if that is damaged too, it is not for us to go on.
            self._file.discard(str(error))
        try:
            return self._fold_once(tail=tail, progress=progress)
        except sqlite3.Error as error:
            raise refused(self.path, error) from error

    def _fold_once(self, *, tail: bool, progress: Progress | None) -> State:
        head = self._store.head()
        db, state = self._file.open(is_of_log=self._is_of_log)
        newest = max(head.size, state.position)
        rest = list(self._store.read(after=newest - 1, columns=COLUMNS, tail=True)) if tail else []
        if newest > head.size or any(map(_is_sealed, rest)):
            head = self._store.head()  # others sealed meanwhile
        marks = _marks(rest)
        more = newest > state.position or any(map(_is_sealed, rest)) or marks != state.tail
        if more or not state.complete:
            try:
                state = state._replace(seal=head.number, seal_digest=head.digest)
                state = self._apply(db, state, newest, rest, marks, progress)
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                end_tail(db)
                raise
            self._reached = head  # so that the next look need not read that seal again
        if state != self._state:
            self._state = state
            self._sessions.changed(state.generation, (state.position, state.tail))
        return state

    def _is_of_log(self, state: State) -> bool:
        """Whether a mirror has folded the log that is here, which may have gone on from an older copy."""
        head = self._reached
        if head is None or head.number != state.seal:
            head = self._store.head_at(state.seal)
        if head is None or head.digest != state.seal_digest or head.size < state.position:
            return False
        self._reached = head
        return True

    def _apply(
        self,
        db: sqlite3.Connection,
        state: State,
        size: int,
        rest: list[pa.RecordBatch],
        marks: str,
        progress: Progress | None,
    ) -> State:
        fold, first = Fold(db), state.position
        db.execute("BEGIN IMMEDIATE")
        if state.tail:
            undo_tail(db)
            state = state._replace(tail="")
        if size > first:
            # Read by ranges of whole segments: what is committed is always a state that the log once had.
            for _, end in self._store.ranges(after=first - 1, until=size, rows=COMMIT_EVENTS):
                for batch in self._store.read(
                    after=state.position - 1, until=end, kinds=KINDS, columns=COLUMNS
                ):
                    fold.add(batch)
                state = state._replace(position=end)
                if end < size:
                    write_state(db, state)
                    db.execute("COMMIT")
                    db.execute("BEGIN IMMEDIATE")
                if progress is not None:
                    progress(end - first, size - first)
        for batch in rest:
            if _is_sealed(batch):
                fold.add(batch)
                state = state._replace(position=batch.column("position")[-1].as_py() + 1)
        if not state.complete:
            create_indexes(db)
            state = state._replace(complete=True)
        if marks:
            begin_tail(db)
            for batch in rest:
                if not _is_sealed(batch):
                    fold.add(batch)
            end_tail(db)
        state = state._replace(tail=marks)
        write_state(db, state)
        db.execute("COMMIT")
        return state

    # what it stands on -----------------------------------------------------------------------------------

    def _stored(self, value_hash: str) -> tuple[str, int] | None:
        """Return digest and size of a value's bytes in the value store; None if they are not there."""
        with self._sessions.engine.connect() as connection:
            row = connection.exec_driver_sql(
                "SELECT data_digest, size_bytes FROM mirror_value WHERE value_hash = ?", (value_hash,)
            ).first()
        return None if row is None else (row[0], row[1])

    def _note_damage(self, why: str) -> None:
        self._damage = why

    def _check_process(self) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._file.forget()
            self._sessions.forget()
            self._appended, self._look_at = -1, float("-inf")

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("the mirror is closed: make another one to read", code="closed")

    def close(self) -> None:
        """Close sessions and connections; the file stays for the next one."""
        with self._lock:
            self._closed = True
            self._sessions.close()
            self._file.close()
            if self._folder is not None:
                self._folder.cleanup()


def _is_sealed(batch: pa.RecordBatch) -> bool:
    return bool(batch.column("position").null_count == 0)


def _marks(batches: list[pa.RecordBatch]) -> str:
    """Say which events no seal has placed: of each writer the first and one past the last."""
    ends: dict[str, tuple[int, int]] = {}
    for batch in batches:
        if _is_sealed(batch):
            continue
        writers, sequences = batch.column("writer").to_pylist(), batch.column("sequence").to_pylist()
        for writer, sequence in zip(writers, sequences, strict=True):
            first, _ = ends.get(writer, (sequence, 0))
            ends[writer] = (first, sequence + 1)
    return " ".join(f"{writer}:{first}-{end}" for writer, (first, end) in ends.items())
