"""The journal of one writer on this machine: what it acknowledged before a segment took it.

Plain text, one line for each append: a CRC-32 in hex, a blank, a JSON object, a newline. A line without
its newline was torn by a crash and was never acknowledged; a whole line whose CRC is wrong is damage. A
lock file tells live writers from dead ones. See docs/format.md, section "Journal".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
import weakref
import zlib
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa

from eventstore.codec.payload import dump_fields, dump_json, load_json
from eventstore.codec.rows import Row
from eventstore.codec.schema import BODY_COLUMNS, SCHEMA
from eventstore.errors import FormatError, IntegrityError, StateError, StorageError
from eventstore.ids import WriterId

__all__ = ["Durability", "Journal", "JournalContent", "JournalFolder", "LocalFiles", "read_journal"]

JOURNAL_VERSION = 1
TURN_SECONDS = 2.0
Durability = Literal["process", "fsync"]
"""``process`` survives a killed process; ``fsync`` also survives power loss."""


class LocalFiles:
    """The file operations of a journal, in one place so that a test can fail or kill any of them."""

    def create(self, path: Path) -> int:
        """Open a new file for appending; returns its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes) -> int:
        """Write at the end; returns how many bytes were taken."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Force the file's data to the device."""
        os.fdatasync(descriptor) if hasattr(os, "fdatasync") else os.fsync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Force the names in a folder to the device."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut the file."""
        os.ftruncate(descriptor, length)

    def remove(self, path: Path) -> None:
        """Delete the file, if it is there."""
        path.unlink(missing_ok=True)


class Journal:
    """One journal file, open for appending. It serves one segment and is removed with it.

    Parameters
    ----------
    path
        A new file; one that is there is what a failed attempt left, and is replaced.
    header
        What the first line says: store, writer, first sequence, actor, software.

    Raises
    ------
    StorageError
        The disk refused (code ``disk_full``, ...); nothing of it is left, if the disk lets us remove it.
    """

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any],
        *,
        durability: Durability,
        files: LocalFiles,
    ) -> None:
        self.path = path
        self._files = files
        self._sync = durability == "fsync"
        self._length = 0
        self._broken = False
        with _translated("make", path):
            try:
                self._descriptor = files.create(path)
            except FileExistsError:
                files.remove(path)
                self._descriptor = files.create(path)
        try:
            self._line(dump_json({"journal": JOURNAL_VERSION, **header}))
            if self._sync:
                with _translated("make", path):
                    files.sync_folder(path.parent)
        except BaseException:
            self.close()
            with contextlib.suppress(OSError):
                files.remove(path)
            raise

    def append(self, rows: Sequence[Row]) -> int:
        """Write one line with all `rows`, which have consecutive sequences; returns its length in bytes.

        Raises
        ------
        StorageError
            The disk refused (code ``disk_full``, ...); the file is as it was before.
        """
        return self._line(
            dump_fields(
                {
                    "sequence": rows[0].sequence,
                    "recorded_us": rows[0].recorded_us,
                    "events": [(row.kind, row.version, row.fields) for row in rows],
                }
            )
        )

    def intend(self, segment_path: str) -> None:
        """Note under which name the rows are about to be put, for whoever recovers this journal."""
        self._line(dump_json({"segment": segment_path}))

    def close(self) -> None:
        """Close the file and keep it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Close and delete the file: its rows are in a segment."""
        self.close()
        with _translated("remove", self.path):
            self._files.remove(self.path)

    def _line(self, body: bytes) -> int:
        if self._broken or self._descriptor < 0:
            raise StateError(
                f"the journal {self.path.name} is closed or could not be repaired after a failed "
                "write; flush, then append again: what was acknowledged is kept",
                code="journal_closed",
            )
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        try:
            done = self._files.write(self._descriptor, line)
            while done < len(line):
                done += self._files.write(self._descriptor, line[done:])
            if self._sync:
                self._files.sync(self._descriptor)
        except BaseException as error:
            # Also where someone interrupts us: half a line in the middle would spoil all that follow.
            self._undo()
            if isinstance(error, OSError):
                raise _refused("write", self.path, error) from error
            raise
        self._length += len(line)
        return len(line)

    def _undo(self) -> None:
        self._broken = True
        with contextlib.suppress(OSError):
            self._files.truncate(self._descriptor, self._length)
            self._broken = False


@dataclass(slots=True)
class JournalContent:
    """What a journal file holds. `torn_bytes` were never acknowledged."""

    path: Path
    header: Mapping[str, Any]
    rows: list[Row] = field(default_factory=list)
    segment_path: str | None = None
    torn_bytes: int = 0
    length: int = 0


def read_journal(path: Path, known: JournalContent | None = None) -> JournalContent | None:
    """Read a journal file; None if it is gone, or was torn before its first line was whole.

    Parameters
    ----------
    known
        What an earlier call returned for this file: only what was added since is read, into the same
        object.

    Raises
    ------
    IntegrityError
        A whole line has the wrong CRC or does not follow the one before (code ``journal_damaged``).
    FormatError
        Written by a newer version.
    StorageError
        The file cannot be read.
    """
    content = known
    try:
        with path.open("rb") as stream:
            stream.seek(content.length if content else 0)
            raw = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused("read", path, error) from error
    *lines, rest = raw.split(b"\n")
    for line in lines:
        offset = content.length if content else 0
        record = _record(path, offset, line)
        if content is None:
            content = JournalContent(path, _header(path, record))
        elif "segment" in record:
            content.segment_path = record["segment"]
        else:
            place = record["sequence"] - content.header["first_sequence"]
            if not 0 <= place <= len(content.rows):
                expected = content.header["first_sequence"] + len(content.rows)
                raise _damaged(path, offset, f"event {record['sequence']} where {expected} belongs")
            # A number that comes again: its first line was interrupted before it was acknowledged.
            del content.rows[place:]
            content.rows.extend(_rows(record))
        content.length = offset + len(line) + 1
    if content is not None:
        content.torn_bytes = len(rest)
    return content


def _header(path: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
    if record.get("journal") != JOURNAL_VERSION:
        raise FormatError(
            f"a journal of version {JOURNAL_VERSION} was expected in {path.name}, found "
            f"{record.get('journal')!r}; recover it with the version of eventstore that wrote it",
            code="newer_format",
            path=path.name,
        )
    return record


def _record(path: Path, offset: int, line: bytes) -> Mapping[str, Any]:
    crc, blank, body = line[:8], line[8:9], line[9:]
    try:
        good = blank == b" " and int(crc, 16) == zlib.crc32(body)
    except ValueError:
        good = False
    if not good:
        raise _damaged(path, offset, "the line there has the wrong CRC-32")
    record: Mapping[str, Any] = load_json(body, where=path.name)
    return record


def _damaged(path: Path, offset: int, found: str) -> IntegrityError:
    return IntegrityError(
        f"the journal {path.name} is damaged near byte {offset}: {found}; nothing of it was taken over. "
        "Keep the file, take its good lines over by hand with `eventstore append`, then move it away",
        code="journal_damaged",
        path=str(path.name),
        offset=offset,
    )


def _rows(record: Mapping[str, Any]) -> Iterator[Row]:
    for place, (kind, version, fields) in enumerate(record["events"]):
        typed = {
            name: _typed(value, SCHEMA.field(name).type)
            for name, value in fields.items()
            if value is not None
        }
        columns = tuple(name for name in BODY_COLUMNS if name in typed)
        yield Row(kind, version, columns, typed, record["sequence"] + place, record["recorded_us"])


def _typed(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_binary(kind):
        return b64decode(value)
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    return value


class Lock:
    """A held lock file; whoever holds it is the writer, or the one who recovers it."""

    _held: ClassVar[weakref.WeakSet[Lock]] = weakref.WeakSet()

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
        if self._descriptor >= 0:
            if remove:
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1
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
        os.close(descriptor)
        return None


os.register_at_fork(after_in_child=Lock.forget)


class JournalFolder:
    """All journals of one store's writers on this machine.

    Parameters
    ----------
    root
        The state folder of the store; the machine's name is added, because a home folder may be shared.
    """

    def __init__(self, root: Path, *, files: LocalFiles | None = None) -> None:
        self.path = root / (socket.gethostname() or "localhost") / "journals"
        self.files = files or LocalFiles()

    def open_writer(self, writer: WriterId) -> Lock:
        """Make the lock of a new writer and hold it."""
        lock_path = self.path / f"{writer}.lock"
        hidden = lock_path.with_suffix(".new")
        with _translated("make", lock_path):
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
        """Return the journal files of one writer or of all, oldest first."""
        return sorted(self.path.glob(f"{writer or '*'}-*.jsonl"))

    def remove(self, path: Path) -> None:
        """Delete a journal whose rows are in a segment; raises StorageError."""
        with _translated("remove", path):
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
        with _translated("make", path):
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + TURN_SECONDS
            with _translated("lock", path):
                while not _take_turn(descriptor, wait=wait) and time.monotonic() < until:
                    time.sleep(0.002)
            yield
        finally:
            # Not by closing alone: a process that was forked meanwhile has the descriptor too.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def dead_writers(self) -> Iterator[tuple[WriterId, Lock]]:
        """Yield writers that nobody holds any more, each with its lock taken.

        Those without a lock file are among them: a journal that could not be removed outlives its lock.
        """
        writers = {path.stem for path in self.path.glob("*.lock")}
        writers.update(path.stem.rpartition("-")[0] for path in self.journals())
        for writer in sorted(writers):
            path = self.path / f"{writer}.lock"
            with _translated("lock", path):
                lock = Lock.take(path)
            if lock is not None:
                yield WriterId(writer), lock


def _take_turn(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _translated(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _refused(verb, path, error) from error


def _refused(verb: str, path: Path, error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "the disk is full: make room" if full else "check the state folder (EVENTSTORE_STATE)"
    if verb in ("make", "write"):
        hint += ", then append again. Nothing of this append was stored"
    else:
        hint += ", then try again. What was acknowledged is kept"
    return StorageError(
        f"could not {verb} the journal {path.name} in {path.parent}: {error.strerror or error}; {hint}",
        code="disk_full" if full else "journal_refused",
        path=str(path),
    )
