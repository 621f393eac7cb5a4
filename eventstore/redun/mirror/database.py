"""The file of a mirror: opened, checked, made anew where it is of no use, and folded into by one at a time.

A mirror is derived data. What is wrong with it is no one's loss: it is thrown away and made again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from eventstore.errors import EventStoreError, StorageError
from eventstore.journal_folder import Lock
from eventstore.redun.mirror.schema import OWN_TABLES, TABLES, State, create_tables, read_state

__all__ = ["MirrorFile", "is_damage", "refused"]

logger = logging.getLogger(__name__)
_CHECKED_BYTES = 64 * 1024 * 1024
"""A longer file is not read through when it is opened; damage is then found when it is met."""
_CACHE_KIB = 64 * 1024
_PAUSE_SECONDS = 0.005


class MirrorFile:
    """One SQLite file and this process' connection for folding into it.

    Parameters
    ----------
    path
        Where it lies, or is made; ``<path>.turn`` is the lock of who folds.
    store_id
        Whose events it holds; a file that says another one is made anew.
    """

    def __init__(self, path: Path, store_id: str) -> None:
        self.path = path
        self._store_id = store_id
        self._db: sqlite3.Connection | None = None
        self._inode = 0

    @contextlib.contextmanager
    def turn(self, *, wait_seconds: float) -> Iterator[bool]:
        """Hold the turn to fold, and give whether it is held; it is not if another had it for so long.

        Raises
        ------
        StorageError
            The folder cannot be written (code ``mirror_refused``).
        """
        path = self.path.with_name(f"{self.path.name}.turn")
        until = time.monotonic() + wait_seconds
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = Lock.take(path)
            while lock is None and time.monotonic() < until:
                time.sleep(_PAUSE_SECONDS)
                lock = Lock.take(path)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release(remove=False)

    def exists(self) -> bool:
        """Whether the file that this process has open is still the one at the path."""
        try:
            return self._db is not None and self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def open(self, *, is_of_log: Callable[[State], bool]) -> tuple[sqlite3.Connection, State]:
        """Return the connection for folding, and what the mirror says of itself; within a turn.

        Parameters
        ----------
        is_of_log
            Whether what a mirror has folded is of the log that is here; one of another history is made anew.

        Raises
        ------
        StorageError
            The disk refused (code ``mirror_refused``).
        """
        with self._translated():
            if self._db is not None and not self.exists():
                self.close()
            for _ in range(2):
                try:
                    db = self._db or self._connect()
                    state = read_state(db)
                    if state is None and not self._is_empty(db):
                        why = "it is of another version, or no mirror"
                    elif state is not None and state.store_id != self._store_id:
                        why = f"it belongs to the store {state.store_id}"
                    elif state is not None and not is_of_log(state):
                        why = f"it has {state.position:,} events of another history than the log's"
                    else:
                        if state is None:
                            create_tables(db, self._store_id)
                            state = read_state(db)
                        if state is not None:
                            return db, state
                        why = "it did not keep what was written"
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    why = str(error)
                self.discard(why)
            raise sqlite3.OperationalError(why)

    def discard(self, why: str) -> None:
        """Throw the file away: the next `open` makes a new one."""
        self.close()
        if self.path.exists():
            logger.warning("the mirror %s is made anew: %s", self.path, why)
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the connection."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def forget(self) -> None:
        """Drop what a fork has copied without touching it: closing it would disturb the parent's."""
        self._db = None

    def _connect(self) -> sqlite3.Connection:
        found = self.path.exists()
        if not found:
            # It holds values: nobody else's business, like the journals beside it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
        self._db, self._inode = db, self.path.stat().st_ino
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute(f"PRAGMA journal_size_limit = {_CHECKED_BYTES}")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if found and self.path.stat().st_size <= _CHECKED_BYTES:
            said = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if said != "ok":
                raise sqlite3.DatabaseError(f"malformed: {said}")
        if found and not self._is_empty(db):
            names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            missing = {"mirror_state", *TABLES, *OWN_TABLES} - names
            if missing:
                raise sqlite3.DatabaseError(f"malformed: no table {', '.join(sorted(missing))}")
        return db

    @staticmethod
    def _is_empty(db: sqlite3.Connection) -> bool:
        return not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except EventStoreError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise refused(self.path, error) from error


def is_damage(error: BaseException) -> bool:
    """Whether an error of SQLite says that the file is not what it should be."""
    words = str(error)
    return isinstance(error, sqlite3.DatabaseError) and any(
        sign in words for sign in ("malformed", "not a database", "no such table", "no such column")
    )


def refused(path: Path, error: BaseException) -> StorageError:
    """Build the error for a mirror's file that the disk refused."""
    words = getattr(error, "strerror", None) or error
    full = "is full" in str(error) or getattr(error, "errno", None) == 28
    return StorageError(
        f"could not use the mirror {path.name} in {path.parent}: {words}; "
        f"{'make room' if full else 'check the state folder (EVENTSTORE_STATE)'}, then ask again. The log "
        "is not touched by this",
        code="disk_full" if full else "mirror_refused",
        path=str(path),
    )
