"""The folder of all journals of one store's writers on this machine, and the locks that tell who lives.

A writer holds its lock while it lives; whoever gets the lock of a dead one may recover its journals. Sealing
takes turns by a lock of the same kind. See docs/format.md, section "Journal".
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from eventstore.bell import Bell, Ringer
from eventstore.errors import StateError, StorageError
from eventstore.ids import WRITER_PATTERN, WriterId
from eventstore.journal import JOURNAL_NAME
from eventstore.local_files import LocalFiles, translated

__all__ = ["JournalFolder", "Lock", "boot_id"]

logger = logging.getLogger(__name__)
TURN_SECONDS = 2.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOCK = re.compile(rf"({WRITER_PATTERN})\.lock")


class Lock:
    """A held lock file; whoever holds it is the writer, or the one who recovers it."""

    # Held strongly: the descriptor of one that was dropped unreleased must not outlive a fork either.
    _held: ClassVar[set[Lock]] = set()

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._held.add(self)

    @classmethod
    def forget(cls) -> None:
        """Close the copies that a fork has made: a child must not keep its dead parent's locks alive."""
        for lock in list(cls._held):
            os.close(lock._descriptor)
            lock._descriptor = -1
        cls._held.clear()

    def release(self, *, remove: bool) -> None:
        """Let go; `remove` deletes the file first, so nobody can meet a stale one."""
        # Taken first: of two threads that let go at once only one may close the number, which another file
        # may have by then.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            if remove:
                try:
                    self.path.unlink(missing_ok=True)
                except OSError as error:
                    # It is stale then, and whoever opens the store next takes it away.
                    logger.warning("the lock %s was not removed: %s", self.path.name, error)
            _let_go(descriptor)
        self._held.discard(self)

    @staticmethod
    def take(path: Path) -> Lock | None:
        """Take the lock, or return None if someone holds it or it just went away."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return Lock(path, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        _let_go(descriptor)
        return None


os.register_at_fork(after_in_child=Lock.forget)


def _let_go(descriptor: int) -> None:
    # Not by closing alone: a process that was forked meanwhile has the descriptor too.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        os.close(descriptor)


class JournalFolder:
    """All journals of one store's writers on this machine.

    Parameters
    ----------
    root
        The state folder of the store; the machine's name is added, because a home folder may be shared.
    host
        The name to add; None takes this machine's.
    """

    def __init__(self, root: Path, *, files: LocalFiles | None = None, host: str | None = None) -> None:
        self.root = root
        self.host = host or socket.gethostname() or "localhost"
        self.path = root / self.host / "journals"
        self.files = files or LocalFiles()
        self._ringer: Ringer | None = None

    @property
    def ringer(self) -> Ringer | None:
        """What tells other processes of this machine that something was journaled; None without a bell."""
        if self._ringer is None:
            bell = Bell.of(self.path.parent / "bell")
            self._ringer = bell.ringer() if bell is not None else None
        return self._ringer

    def ring(self) -> None:
        """Tell the other processes of this machine that a journal grew or went."""
        ringer = self._ringer or self.ringer
        if ringer is not None:
            ringer.ring()

    def close(self) -> None:
        """Give back what was taken of the bell."""
        ringer, self._ringer = self._ringer, None
        if ringer is not None:
            ringer.close()

    def siblings(self) -> list[JournalFolder]:
        """Return the folders of other host names: of this machine by an earlier name, or of another one."""
        hosts = sorted(path.parent.name for path in self.root.glob("*/journals"))
        return [JournalFolder(self.root, files=self.files, host=host) for host in hosts if host != self.host]

    def open_writer(self, writer: WriterId) -> Lock:
        """Make the lock of a new writer and hold it."""
        lock_path = self.path / f"{writer}.lock"
        hidden = lock_path.with_suffix(".new")
        with translated("make", lock_path):
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True)
                for made in self.path.parents[:3]:
                    self.files.sync_folder(made)
            # Held before it has its name: whoever recovers dead writers must not meet it unheld.
            lock = Lock.take(hidden)
            if lock is not None:
                hidden.rename(lock_path)
                lock.path = lock_path
        if lock is None:
            raise StateError(
                f"the lock {lock_path.name} was expected to be free, found it held; open the store again",
                code="writer_open",
            )
        return lock

    def journal_path(self, writer: WriterId, first_sequence: int) -> Path:
        """Where the journal of the segment that begins at `first_sequence` lies."""
        return self.path / f"{writer}-{first_sequence:012d}.jsonl"

    def journals(self, writer: WriterId | None = None) -> list[Path]:
        """Return the journal files of one writer or of all, oldest first; other files are not ours."""
        return sorted(
            path for path in self.path.glob(f"{writer or '*'}-*.jsonl") if JOURNAL_NAME.fullmatch(path.name)
        )

    @staticmethod
    def first_sequence(path: Path) -> int:
        """The first sequence that the name of a journal says."""
        return int(path.stem.rpartition("-")[2])

    def set_aside(self) -> list[Path]:
        """Return the files that `put_aside` renamed because of damage."""
        return sorted(self.path.glob("*.jsonl.damaged*"))

    def put_aside(self, path: Path, why: Literal["damaged", "torn"]) -> Path:
        """Rename a journal so that it is read no more and nothing of it is lost; returns its new path."""
        number, target = 1, path.with_name(f"{path.name}.{why}")
        while target.exists():
            number += 1
            target = path.with_name(f"{path.name}.{why}-{number}")
        with translated("rename", path):
            path.rename(target)
        return target

    def touched_at(self, writer: WriterId) -> float:
        """When a file of the writer was last changed, in seconds of Unix time; 0 if there is none."""
        times = [0.0]
        for path in (self.path / f"{writer}.lock", *self.journals(writer)):
            with contextlib.suppress(FileNotFoundError):
                times.append(path.stat().st_mtime)
        return max(times)

    def remove(self, path: Path) -> None:
        """Delete a journal whose rows are in a segment; raises StorageError."""
        with translated("remove", path):
            self.files.remove(path)

    @contextlib.contextmanager
    def sealing_turn(self, *, wait: bool) -> Iterator[None]:
        """Hold the machine's turn to seal this store.

        Parameters
        ----------
        wait
            However long it takes. Otherwise the turn is only good manners, and after `TURN_SECONDS` the
            caller goes on without it: the seal's number decides who wins.
        """
        path = self.path.parent / "sealing.turn"
        descriptor = -1
        try:
            with translated("make", path):
                self.path.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            until = time.monotonic() + TURN_SECONDS
            with translated("lock", path):
                while not _take_turn(descriptor, wait=wait) and time.monotonic() < until:
                    time.sleep(0.002)
        except StorageError as error:
            if wait:
                if descriptor >= 0:
                    _let_go(descriptor)
                raise
            # Good manners need no lock, and not every filesystem has them.
            logger.debug("sealing out of turn: %s", error)
        try:
            yield
        finally:
            if descriptor >= 0:
                _let_go(descriptor)

    def compacting_turn(self) -> Lock | None:
        """Take the machine's turn to compact this store; None while another process has it."""
        path = self.path.parent / "compacting.turn"
        with translated("lock", path):
            self.path.mkdir(parents=True, exist_ok=True)
            return Lock.take(path)

    def dead_writers(self) -> Iterator[tuple[WriterId, Lock]]:
        """Yield writers that nobody holds any more, each with its lock taken.

        Those without a lock file are among them: a journal that could not be removed outlives its lock.
        """
        matches = [_LOCK.fullmatch(path.name) for path in self.path.glob("*.lock")]
        matches += [JOURNAL_NAME.fullmatch(path.name) for path in self.journals()]
        for writer in sorted({match[1] for match in matches if match}):
            path = self.path / f"{writer}.lock"
            with translated("lock", path):
                lock = Lock.take(path)
            if lock is not None:
                yield WriterId(writer), lock


def boot_id() -> str | None:
    """Return what tells this boot of this machine from all others, where the system has such an id.

    Processes with the same one share a kernel, hence also their locks, whatever names they go by.
    """
    try:
        return _BOOT_ID.read_text().strip() or None
    except OSError:
        return None


def _take_turn(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
