"""File operations of the state folder, in one place so that a test can fail or kill any of them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from eventstore.errors import StorageError

__all__ = ["LocalFiles", "refused", "translated"]


class LocalFiles:
    """The file operations of a journal, in one place so that a test can fail or kill any of them."""

    def create(self, path: Path) -> int:
        """Open a new file for appending; returns its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def reopen(self, path: Path) -> int:
        """Open a file that is there for appending; returns its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

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


@contextlib.contextmanager
def translated(verb: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into the StorageError of a journal's file."""
    try:
        yield
    except OSError as error:
        raise refused(verb, path, error) from error


def refused(verb: str, path: Path, error: OSError) -> StorageError:
    """Build the error for a file of the state folder that the disk refused."""
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
