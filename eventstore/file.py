"""Files as values: a path, and a hash that changes when the file does. Unaware of any log.

Local paths are known here. Another protocol is one more `FileSystem` in `register_protocol`; what its hash
is made of is its own affair, and the `File` stays the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, Self
from urllib.parse import urlsplit

from eventstore.errors import InvalidEventError
from eventstore.hashing import hash_struct
from eventstore.pickling import stores_as
from eventstore.value import Value

__all__ = ["File", "FileSystem", "LocalFiles", "register_protocol"]


class FileSystem(Protocol):
    """What a `File` asks of the place that it lies in; paths are as the user wrote them."""

    def hash(self, path: str) -> str:
        """Return the hash of the file as it is now, or as a missing one."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""

    def size(self, path: str) -> int:
        """Return its size in bytes; raises FileNotFoundError."""

    def open(self, path: str, mode: str, **options: Any) -> IO[Any]:
        """Open it as the built-in ``open`` does; a file that is written gets its folder made."""


class LocalFiles:
    """Files of this machine: hashed by path, size and time of the last change."""

    def hash(self, path: str) -> str:
        """Return ``H(["File", "local", path, size, text of mtime])``; a missing file is -1 and "-1"."""
        try:
            found = os.stat(path)  # noqa: PTH116 - a path is text here, and this runs for every job
        except (FileNotFoundError, NotADirectoryError):
            return hash_struct(["File", "local", path, -1, "-1"])
        return hash_struct(["File", "local", path, found.st_size, str(found.st_mtime)])

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return Path(path).exists()

    def size(self, path: str) -> int:
        """Return its size in bytes; raises FileNotFoundError."""
        return Path(path).stat().st_size

    def open(self, path: str, mode: str, **options: Any) -> IO[Any]:
        """Open it as the built-in ``open`` does; a file that is written gets its folder made."""
        if any(letter in mode for letter in "wax"):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        return Path(path).open(mode, **options)


_protocols: dict[str, FileSystem] = {"local": LocalFiles()}


def register_protocol(name: str, files: FileSystem) -> None:
    """Let `files` answer for all paths that begin with ``name://``."""
    _protocols[name] = files


def _filesystem(path: str) -> FileSystem:
    protocol = urlsplit(path).scheme or "local"
    try:
        return _protocols[protocol]
    except KeyError:
        raise InvalidEventError(
            f"a file of one of the protocols {sorted(_protocols)} was expected, found {protocol!r} in the "
            "path; register_protocol() adds one",
            code="unknown_protocol",
            protocol=protocol,
        ) from None


@stores_as("redun.file.File")
class File(Value):
    """A file by its path. Its hash is taken when first asked for, and again whenever it is recorded.

    Parameters
    ----------
    path
        As it is to be recorded: a relative path stays relative, and is hashed so.

    Raises
    ------
    InvalidEventError
        The path is empty (``bad_path``) or of a protocol that is not known (``unknown_protocol``).
    """

    type_name: ClassVar[str] = "redun.File"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not isinstance(self.path, str) or not self.path:
            raise InvalidEventError(
                f"the path of a file as text was expected, found {path!r}", code="bad_path"
            )
        self._files = _filesystem(self.path)
        self._hash: str | None = None

    def __repr__(self) -> str:
        return f"File({self.path!r})"

    def __fspath__(self) -> str:
        return self.path

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path, "hash": self.hash}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.path = state["path"]
        self._files = _filesystem(self.path)
        self._hash = state["hash"]

    @property
    def hash(self) -> str:
        """The hash of the file as it was when last looked at."""
        if self._hash is None:
            self._hash = self._files.hash(self.path)
        return self._hash

    @property
    def own_hash(self) -> str:
        """The same, as the value's id."""
        return self.hash

    @property
    def file_path(self) -> str:
        """The path, as it is recorded."""
        return self.path

    def refresh(self) -> None:
        """Look at the file again, so that `hash` is that of now."""
        self._hash = self._files.hash(self.path)

    def is_valid(self) -> bool:
        """Whether the file is still as it was when it was last looked at."""
        return self._files.hash(self.path) == self.hash

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._files.exists(self.path)

    def size(self) -> int:
        """Return its size in bytes; raises FileNotFoundError."""
        return self._files.size(self.path)

    def open(self, mode: str = "r", **options: Any) -> IO[Any]:
        """Open it as the built-in ``open`` does; folders of a file that is written are made."""
        return self._files.open(self.path, mode, **options)

    def read(self, mode: str = "r") -> Any:
        """Return all that is in it: text, or bytes with mode "rb"."""
        with self.open(mode) as stream:
            return stream.read()

    def write(self, content: str | bytes) -> Self:
        """Replace what is in it by `content`, look at it again, and return it."""
        with self.open("wb" if isinstance(content, bytes) else "w") as stream:
            stream.write(content)
        self.refresh()
        return self
