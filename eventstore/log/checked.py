"""Segments whose bytes were compared with the digest in their name, remembered while they stay as they are.

One pass of SHA-256 over a file before its first use in a process is what turns "damaged" from a wrong answer
into an error; it costs less than decoding the file.
"""

from __future__ import annotations

import hashlib
import os
import threading

from eventstore import layout
from eventstore.filesystem import Storage, storage_error
from eventstore.segment import check_bytes, damaged, digest_in, missing

__all__ = ["CheckedSegments"]


class CheckedSegments:
    """Remembers which segment files were found whole.

    Writers' segments that are not local are fetched, and checked, at every read; compacted ones, which are
    large, at the first. Of these later reads fetch what they need, and pages have checksums of their own.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._good: dict[str, tuple[int, int, int]] = {}
        self._fetched: set[str] = set()

    def ensure(self, path: str) -> bytes | None:
        """Check a segment; returns its bytes where it had to be fetched whole, else None.

        Raises
        ------
        NotFoundError
            No such file (code ``segment_missing``).
        IntegrityError
            The file is not what its name says (code ``segment_damaged``).
        StorageError
            The file cannot be read, which says nothing of its content.
        """
        local = self._storage.local_path(path)
        if local is None:
            with self._lock:
                if path in self._fetched:
                    return None
            raw = self._storage.read(path)
            check_bytes(path, raw)
            if layout.parse_compacted(path) is not None:
                with self._lock:
                    self._fetched.add(path)
            return raw
        try:
            with local.open("rb") as stream:
                about = os.fstat(stream.fileno())
                mark = (about.st_ino, about.st_size, about.st_mtime_ns)
                with self._lock:
                    if self._good.get(path) == mark:
                        return None
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise missing(path, self._storage.url) from error
        except OSError as error:
            raise storage_error("read", path, self._storage.url, error) from error
        if digest_in(path) != found:
            raise damaged(path, f"its {mark[1]} bytes have SHA-256 {found}")
        with self._lock:
            self._good[path] = mark
        return None
