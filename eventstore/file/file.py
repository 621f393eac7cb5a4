"""A file as a value: a path, and a hash that changes when the file does. Unaware of any log."""

from __future__ import annotations

import os
from typing import IO, Any, ClassVar, Self

from eventstore.errors import FileMissingError, InvalidEventError, StorageError
from eventstore.file.copying import copy_between
from eventstore.file.failures import shown, translated
from eventstore.file.family import BY_CONTENT, BY_NAME, PLAIN, Family
from eventstore.file.places import FileSystem, Progress, place_of
from eventstore.file.shell import render_copy
from eventstore.file.streams import writing
from eventstore.hashing import hash_stream, hash_struct
from eventstore.pickling import stores_as
from eventstore.value import Value

__all__ = ["ContentFile", "File", "IFile", "checked_path"]


def checked_path(path: str | os.PathLike[str]) -> str:
    """Return the path as text; raises InvalidEventError (``bad_path``) for what can name no file."""
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidEventError(f"the path of a file as text was expected, found {text!r}", code="bad_path")
    return text


@PLAIN.member("file")
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
    family: ClassVar[Family]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = checked_path(path)
        self.filesystem: FileSystem = place_of(self.path)
        self._hash: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __fspath__(self) -> str:
        return self.path

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path, "hash": self.hash}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.path = checked_path(state["path"])
        self.filesystem = place_of(self.path)
        self._hash = state["hash"]

    # as a value ------------------------------------------------------------------------------------------

    def _now(self) -> str:
        return self.filesystem.hash(self.path)

    @property
    def hash(self) -> str:
        """The hash of the file as it was when last looked at."""
        if self._hash is None:
            self._hash = self._now()
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
        self._hash = self._now()

    def is_valid(self) -> bool:
        """Whether the file is still as it was when it was last looked at; one that is gone is not."""
        try:
            return self._now() == self.hash
        except FileMissingError:
            return False
        except StorageError as error:
            if error.code == "symlink_loop":
                return False
            raise

    def seen_as(self, found: str) -> Self:
        """Take `found`, from a listing of this moment, for the hash; returns itself."""
        self._hash = found
        return self

    # the file itself -------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.filesystem.exists(self.path)

    def isfile(self) -> bool:
        """Whether there is a file at the path."""
        return self.filesystem.is_file(self.path)

    def isdir(self) -> bool:
        """Whether there is a folder at the path."""
        return self.filesystem.is_folder(self.path)

    def size(self) -> int:
        """Return its size in bytes; raises FileMissingError."""
        return self.filesystem.size(self.path)

    def basename(self) -> str:
        """The last part of the path."""
        return os.path.basename(self.path)

    def dirname(self) -> str:
        """The path without its last part."""
        return os.path.dirname(self.path)

    def open(self, mode: str = "r", encoding: str | None = None, **options: Any) -> IO[Any]:
        """Open it as the built-in ``open`` does; text is UTF-8, folders of a file that is written are made.

        With mode ``w`` the file appears whole when the stream is closed, and not at all if the ``with`` block
        fails. Closing a stream that writes looks at the file again.

        Raises
        ------
        FileMissingError, FilePermissionError, StorageError
            There is no such file, it may not be opened, or the place cannot be asked.
        """
        if encoding is not None:
            if "b" in mode:
                raise ValueError(f"a text mode was expected with an encoding, found {mode!r}")
            options["encoding"] = encoding
        done = self.refresh if writing(mode) else None
        return self.filesystem.open(self.path, mode, done=done, **options)

    def read(self, mode: str = "r", encoding: str | None = None) -> Any:
        """Return all that is in it: text, or bytes with mode "rb"."""
        with self.open(mode, encoding) as stream, translated("read", self.path):
            return stream.read()

    def readlines(self, mode: str = "r") -> list[Any]:
        """Return its lines, with their ends: text, or bytes with mode "rb"."""
        with self.open(mode) as stream, translated("read", self.path):
            return list(stream.readlines())

    def write(self, content: str | bytes, mode: str = "w", encoding: str | None = None) -> Self:
        """Replace what is in it by `content` (add it with mode "a"), look at it again, and return it."""
        if isinstance(content, bytes):
            mode = mode.replace("b", "") + "b"
        with translated("write", self.path), self.open(mode, encoding) as stream:
            stream.write(content)
        self.refresh()
        return self

    def touch(self, time: tuple[float, float] | None = None) -> None:
        """Make it, empty; or set access and change time of one that is there (None: to now)."""
        self.filesystem.touch(self.path, time)
        self.refresh()

    def remove(self) -> None:
        """Delete it; one that is gone already is fine."""
        self.filesystem.remove(self.path)

    def copy_to(
        self, dest_file: File, skip_if_exists: bool = False, *, progress: Progress | None = None
    ) -> File:
        """Copy it, to any place, and return the target.

        Parameters
        ----------
        skip_if_exists
            Leave a target that is there as it is.
        progress
            Told bytes done and bytes in all (None if the place does not say).
        """
        if not (skip_if_exists and dest_file.exists()):
            copy_between(self, dest_file, progress)
            dest_file.refresh()
        return dest_file

    def shell_copy_to(self, dest_path: str | None, as_mount: bool = False) -> str:
        """Return the shell command that copies it to `dest_path`, or to standard output with None."""
        return render_copy(self.path, dest_path, as_mount=as_mount)

    def stage(self, local: str | None = None) -> Any:
        """Return what copies it to a local file and back; `local` with a slash at its end is a folder."""
        if not local or local.endswith("/"):
            local = f"{local or ''}{self.basename()}"
        return self.family.staging_file(local, self)


@BY_NAME.member("file")
@stores_as("redun.file.IFile")
class IFile(File):
    """A file that is written once: its hash is that of its path, and it is always valid."""

    type_name: ClassVar[str] = "redun.IFile"

    def _now(self) -> str:
        return hash_struct(["IFile", self.path])

    def is_valid(self) -> bool:
        """Always."""
        return True

    def seen_as(self, found: str) -> Self:  # noqa: ARG002 - the path decides
        """Change nothing."""
        return self


@BY_CONTENT.member("file")
@stores_as("redun.file.ContentFile")
class ContentFile(File):
    """A file by what is in it: a copy with another time is the same, another content of its size is not.

    Taking its hash reads all of it, and raises FileMissingError where there is no file.
    """

    type_name: ClassVar[str] = "redun.ConentFile"  # so in redun, and so in its stores

    def _now(self) -> str:
        before = self.filesystem.version(self.path)
        with self.filesystem.open(self.path, "rb") as stream, translated("hash", self.path):
            found = hash_stream(stream)
        if self.filesystem.version(self.path) != before:
            named = shown(self.path)
            raise StorageError(
                f"hash {named!r} failed: it was written to meanwhile, so this would be the hash of no state "
                "of it; try again when its writer is done",
                code="changed_while_hashed",
                transient=True,
                path=named,
            )
        return hash_struct(["ContentFile", self.path, found])

    def seen_as(self, found: str) -> Self:  # noqa: ARG002 - a listing says nothing of the content
        """Change nothing."""
        return self
