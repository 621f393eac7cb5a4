"""What a file asks of the place it lies in, and which place answers for which protocol.

A path is local unless it begins with ``<protocol>://``. Places are known by protocol; another one, or one
with options such as an endpoint or credentials, is registered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple, Protocol

from eventstore.errors import InvalidEventError
from eventstore.filesystem import mask_url

__all__ = ["LOCAL", "FileSystem", "Found", "Progress", "place_of", "protocol_of", "register_protocol"]

LOCAL = "local"
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

Progress = Callable[[int, int | None], None]
"""Told how many bytes are done, and of how many (None where nobody knows)."""


class Found(NamedTuple):
    """One file of a listing: its path, as one would write it, and its hash at that moment."""

    path: str
    hash: str


class FileSystem(Protocol):
    """What a `File` asks of the place that it lies in; paths are as the user wrote them.

    Failures are `FileMissingError`, `FilePermissionError` or another `StorageError`, and carry the path. A
    place that cannot be asked is an error, never a missing file.
    """

    def hash(self, path: str) -> str:
        """Return the hash of the file as it is now, or as a missing one."""

    def found(self, pattern: str) -> Iterator[Found]:
        """Yield the files that a glob pattern matches, folders left out."""

    def below(self, path: str) -> Iterator[Found]:
        """Yield the files at any depth in a folder, its path taken literally; none if it is not there."""

    def folder_hashes(self, path: str) -> Iterator[str]:
        """Yield what the hash of a folder is made of, in any order."""

    def version(self, path: str) -> object:
        """Return something that compares unequal after the file was written; raises FileMissingError."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""

    def is_file(self, path: str) -> bool:
        """Whether there is such a file."""

    def is_folder(self, path: str) -> bool:
        """Whether there is such a folder."""

    def size(self, path: str) -> int:
        """Return its size in bytes; raises FileMissingError."""

    def open(
        self, path: str, mode: str, *, done: Callable[[], None] | None = None, **options: Any
    ) -> IO[Any]:
        """Open it as the built-in ``open`` does; a file that is written gets its folder made.

        With mode ``w`` the file appears whole when it is closed, or not at all where the ``with`` block
        failed. `done` is called after a file that was written has been closed.
        """

    def store(self, path: str, source: IO[bytes], *, size: int | None, progress: Progress | None) -> None:
        """Write a file whole from what is left in `source`; `size` is what `progress` is told."""

    def copy(self, source: str, target: str) -> bool:
        """Copy a file within this place without moving its bytes through here; False if it cannot."""

    def touch(self, path: str, times: tuple[float, float] | None) -> None:
        """Make an empty file, or set access and change time of one (None: to now)."""

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is fine."""

    def make_folder(self, path: str) -> None:
        """Make a folder with those above it, where the place has folders."""

    def remove_folder(self, path: str, *, recursive: bool) -> None:
        """Delete a folder; one that is gone already is fine, one with files needs `recursive`."""


Maker = Callable[[], FileSystem]

_places: dict[str, FileSystem] = {}
_makers: dict[str, Maker] = {}


def protocol_of(path: str) -> str:
    """The protocol of a path or URL; ``local`` without one."""
    match = _PROTOCOL.match(path)
    return match[1] if match else LOCAL


def register_protocol(name: str, files: FileSystem | Maker) -> None:
    """Let `files` (or what it makes, when first needed) answer for all paths that begin with ``name://``."""
    if callable(files):
        _places.pop(name, None)
        _makers[name] = files
    else:
        _places[name] = files


def place_of(path: str) -> FileSystem:
    """Return the place that answers for `path`; nothing is connected yet.

    Raises
    ------
    InvalidEventError
        Nobody answers for its protocol (code ``unknown_protocol``).
    """
    protocol = protocol_of(path)
    found = _places.get(protocol)
    if found is not None:
        return found
    if protocol not in _makers:
        raise InvalidEventError(
            f"a file of one of the protocols {sorted({*_places, *_makers})} was expected, found {protocol!r} "
            f"in {mask_url(path)!r}; register_protocol() adds one",
            code="unknown_protocol",
            protocol=protocol,
        )
    return _places.setdefault(protocol, _makers[protocol]())
