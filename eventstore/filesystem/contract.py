"""What the log asks of a place: whole-file put, put-if-absent, ranged read, listing, delete, abilities."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

__all__ = ["TEMPORARY", "Abilities", "Entry", "Storage"]

TEMPORARY = ".tmp-"
"""Files whose name begins so are half-written leftovers; no reader looks at them."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a place can do; read it instead of trying."""

    atomic_create: bool
    """`create` is exclusive among all processes that share the place. On a local disk this is known only
    after the first `create`: some filesystems have no hard links."""
    local: bool
    """Files have paths on this machine, so they can be memory-mapped."""
    shared: bool
    """Other processes see the files (not so for ``memory://``)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a listing: path relative to the root, size in bytes.

    `modified_at` is when the place says that it was written, in seconds of Unix time; None if it does not.
    """

    path: str
    size_bytes: int
    modified_at: float | None = field(default=None, compare=False)


class Storage(Protocol):
    """A root folder somewhere. All paths are relative to it and use ``/``."""

    @property
    def url(self) -> str:
        """Where the root is, for a person: credentials masked."""

    @property
    def abilities(self) -> Abilities:
        """What the place can do."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes; raises NotFoundError or StorageError."""

    def open(self, path: str) -> IO[bytes]:
        """Open a file for ranged reading; raises NotFoundError or StorageError."""

    def put(self, path: str, data: bytes) -> None:
        """Write a file whole, replacing one of this name; on an error nothing is visible."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a file whole if the name is free; False if it was taken.

        Raises
        ------
        StorageError
            The filesystem refused, or has no atomic put-if-absent (code ``no_atomic_create``).
        """

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""

    def size(self, path: str) -> int:
        """Return a file's size in bytes; raises NotFoundError."""

    def files(self, folder: str = "", *, temporary: bool = False) -> list[Entry]:
        """Return all files at any depth below `folder`, sorted by path; none if there is no such folder.

        Half-written leftovers are left out unless `temporary`.
        """

    def folders(self, folder: str) -> list[str]:
        """Return the folders directly in `folder`, sorted, as paths relative to the root."""

    def delete(self, path: str) -> None:
        """Delete a file; one that is gone already is fine."""

    def local_path(self, path: str) -> Path | None:
        """Return where the file lies on this machine, or None."""

    def polars_source(self, path: str) -> Any:
        """Return what polars can scan: a local path, or the file's bytes in memory."""
