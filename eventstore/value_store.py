"""Large values by content: bytes named by their SHA-256, one zstd frame a file, put whole or not at all.

A name can only ever hold one content, so a put is idempotent, needs no lock, and a get checks what it reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from eventstore import layout
from eventstore.codec.compression import DEFAULT_LEVEL, compress, decompress
from eventstore.errors import IntegrityError, InvalidEventError, NotFoundError
from eventstore.filesystem import Storage
from eventstore.ids import Digest

__all__ = ["ValueStore"]


class ValueStore:
    """Bytes by digest under ``values/`` of a store.

    Parameters
    ----------
    storage
        The store's root.
    level
        zstd level of new files.
    max_bytes
        Largest value that `put` takes, in bytes before compression.
    """

    def __init__(
        self, storage: Storage, *, level: int = DEFAULT_LEVEL, max_bytes: int = 1_000_000_000
    ) -> None:
        self._storage = storage
        self._level = level
        self._max_bytes = max_bytes

    def put(self, data: bytes) -> Digest:
        """Store `data` unless it is there, and return its SHA-256.

        Raises
        ------
        InvalidEventError
            `data` is longer than `max_bytes` (code ``value_too_large``); nothing is stored.
        StorageError
            The filesystem refused; nothing is visible.
        """
        if len(data) > self._max_bytes:
            raise InvalidEventError(
                f"a value of at most {self._max_bytes} bytes was expected, found {len(data)}: keep "
                "it in a file and record the file, or raise max_value_bytes; nothing was stored",
                code="value_too_large",
                size_bytes=len(data),
            )
        digest = Digest(hashlib.sha256(data).hexdigest())
        path = layout.value_path(digest)
        if not self._storage.exists(path):
            self._storage.put(path, compress(data, level=self._level))
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes whose SHA-256 is `digest`.

        Raises
        ------
        NotFoundError
            No such value (code ``value_missing``).
        IntegrityError
            The file is truncated or altered (``bad_frame``, ``value_digest``).
        """
        path = layout.value_path(_checked(digest))
        try:
            frame = self._storage.read(path)
        except NotFoundError as error:
            raise self._missing(path) from error
        data = decompress(frame, where=path)
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise IntegrityError(
                f"bytes with SHA-256 {digest} were expected in {path!r}, found {found}; restore the "
                "file from a copy and run `eventstore verify`",
                code="value_digest",
                path=path,
            )
        return data

    def has(self, digest: str) -> bool:
        """Whether the value is stored."""
        return self._storage.exists(layout.value_path(_checked(digest)))

    def size(self, digest: str) -> int:
        """Return how many bytes the stored (compressed) value takes; raises NotFoundError."""
        path = layout.value_path(_checked(digest))
        try:
            return self._storage.size(path)
        except NotFoundError as error:
            raise self._missing(path) from error

    def _missing(self, path: str) -> NotFoundError:
        return NotFoundError(
            f"a value was expected at {path!r} in {self._storage.url}, found no file; restore it from a "
            "copy, or record the value again",
            code="value_missing",
            path=path,
        )

    def __iter__(self) -> Iterator[Digest]:
        """Yield the digests of all stored values, in order."""
        for entry in self._storage.files(layout.VALUES):
            digest = layout.parse_value(entry.path)
            if digest is not None:
                yield digest


def _checked(digest: str) -> Digest:
    """Refuse what is no digest before it becomes a path."""
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidEventError(
            f"a SHA-256 of 64 lower-case hex characters was expected, found {digest[:80]!r}; a value "
            "is asked for by the `data_digest` of its event",
            code="bad_digest",
        )
    return Digest(digest)
