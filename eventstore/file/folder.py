"""Many files as one value: those that a pattern matches, or all in a folder. One listing gives all hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

from eventstore.errors import FileMissingError, InvalidEventError, StorageError
from eventstore.file.copying import inside
from eventstore.file.family import BY_CONTENT, BY_NAME, PLAIN, Family
from eventstore.file.file import File, checked_path
from eventstore.file.places import FileSystem, Found, Progress, place_of
from eventstore.file.shell import render_copy
from eventstore.hashing import hash_struct
from eventstore.pickling import stores_as
from eventstore.value import Value

__all__ = ["ContentDir", "ContentFileSet", "Dir", "FileSet", "IDir", "IFileSet"]


@PLAIN.member("file_set")
@stores_as("redun.file.FileSet")
class FileSet(Value):
    """The files that a pattern matches, at any depth with ``**``.

    Parameters
    ----------
    pattern
        A path or URL with ``*``, ``?``, ``[...]`` or ``**``, as it is to be recorded.
    """

    type_name: ClassVar[str] = "redun.FileSet"
    tag: ClassVar[str] = "FileSet"
    family: ClassVar[Family]

    def __init__(self, pattern: str | os.PathLike[str]) -> None:
        self.pattern = checked_path(pattern)
        self.filesystem: FileSystem = place_of(self.pattern)
        self._hash: str | None = None
        self._files: list[File] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pattern!r})"

    def __getstate__(self) -> dict[str, str]:
        return {"pattern": self.pattern, "hash": self.hash}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.pattern = checked_path(state["pattern"])
        self.filesystem = place_of(self.pattern)
        self._hash = state["hash"]
        self._files = None

    def _found(self) -> Iterator[Found]:
        return self.filesystem.found(self.pattern)

    def __iter__(self) -> Iterator[File]:
        kind = self.family.file
        return (kind(found.path).seen_as(found.hash) for found in self._found())

    def files(self) -> list[File]:
        """Return the files as they are now."""
        return list(self)

    # as a value ------------------------------------------------------------------------------------------

    def _now(self) -> str:
        self._files = self.files()
        return hash_struct([self.tag, self.pattern, *sorted(file.hash for file in self._files)])

    @property
    def hash(self) -> str:
        """The hash of the files as they were when last looked at."""
        if self._hash is None:
            self._hash = self._now()
        return self._hash

    @property
    def own_hash(self) -> str:
        """The same, as the value's id."""
        return self.hash

    def refresh(self) -> None:
        """Look at the files again, so that `hash` is that of now."""
        self._hash = self._now()

    def is_valid(self) -> bool:
        """Whether the files are still as they were when last looked at."""
        before = self.hash
        try:
            return self._now() == before
        except FileMissingError:
            return False
        except StorageError as error:
            if error.code == "symlink_loop":
                return False
            raise

    def iter_subvalues(self) -> Iterator[Value]:
        """Yield each file, as it was when the hash was taken."""
        if self._files is None:
            self._files = self.files()
        return iter(self._files)


@PLAIN.member("folder")
@stores_as("redun.file.Dir")
class Dir(FileSet):
    """All files in a folder, at any depth; local files whose names begin with a dot are left out.

    Parameters
    ----------
    path
        Of the folder, taken literally; slashes at its end are dropped.
    """

    type_name: ClassVar[str] = "redun.Dir"
    tag: ClassVar[str] = "Dir"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = self._trimmed(checked_path(path))
        super().__init__(f"{self.path}/**")

    @staticmethod
    def _trimmed(path: str) -> str:
        trimmed = path.rstrip("/")
        if not trimmed or trimmed.endswith(":"):
            raise InvalidEventError(
                f"a folder below the root was expected, found {path!r}; name one of its folders",
                code="bad_path",
            )
        return trimmed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    def __getstate__(self) -> dict[str, str]:
        return {"path": self.path, "hash": self.hash}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.path = self._trimmed(checked_path(state["path"]))
        super().__setstate__({"pattern": f"{self.path}/**", "hash": state["hash"]})

    def _found(self) -> Iterator[Found]:
        return self.filesystem.below(self.path)

    def _now(self) -> str:
        self._files = None
        # Always of plain hashes, in every family but the one by name: so in redun, and so in its stores.
        return hash_struct([self.tag, self.path, *sorted(self.filesystem.folder_hashes(self.path))])

    def exists(self) -> bool:
        """Whether the folder is there; an object store's is when there are files in it."""
        return self.filesystem.exists(self.path)

    def mkdir(self) -> None:
        """Make it with those above it; an object store needs none."""
        self.filesystem.make_folder(self.path)
        self.refresh()

    def rmdir(self, recursive: bool = False) -> None:
        """Delete it; one that is gone already is fine, one with files needs `recursive`."""
        self.filesystem.remove_folder(self.path, recursive=recursive)
        self.refresh()

    def file(self, rel_path: str) -> File:
        """Return the file at a path in it; one that leads out of it is refused (``outside_folder``)."""
        return self.family.file(inside(self.path, rel_path))

    def rel_path(self, path: str) -> str:
        """Return the path of a file as seen from it."""
        return os.path.relpath(path, self.path)

    def copy_to(
        self, dest_dir: Dir, skip_if_exists: bool = False, *, progress: Progress | None = None
    ) -> Dir:
        """Copy all its files, to any place, and return the target.

        Parameters
        ----------
        skip_if_exists
            Leave files that are there as they are.
        progress
            Told, for each file in turn, bytes done and bytes in all.
        """
        start = len(self.path) + 1
        for file in self:
            file.copy_to(dest_dir.file(file.path[start:]), skip_if_exists, progress=progress)
        dest_dir.refresh()
        return dest_dir

    def shell_copy_to(self, dest_path: str, as_mount: bool = False) -> str:
        """Return the shell command that copies it with all its files to `dest_path`."""
        return render_copy(self.path, dest_path, recursive=True, as_mount=as_mount)

    def stage(self, local: str | None = None) -> Any:
        """Return what copies it to a local folder and back; None takes its last name."""
        return self.family.staging_folder(local or os.path.basename(self.path), self)


class _ByName(FileSet):
    """What both families by name do."""

    def _now(self) -> str:
        return hash_struct([self.tag, self.path if isinstance(self, Dir) else self.pattern])

    def is_valid(self) -> bool:
        """Always."""
        return True


@BY_NAME.member("file_set")
@stores_as("redun.file.IFileSet")
class IFileSet(_ByName):
    """Files that are written once: the hash is that of the pattern, and it is always valid."""

    type_name: ClassVar[str] = "redun.IFileSet"
    tag: ClassVar[str] = "IFileSet"


@BY_NAME.member("folder")
@stores_as("redun.file.IDir")
class IDir(_ByName, Dir):
    """A folder whose files are written once: the hash is that of its path, and it is always valid."""

    type_name: ClassVar[str] = "redun.IDir"
    tag: ClassVar[str] = "IDir"


@BY_CONTENT.member("file_set")
@stores_as("redun.file.ContentFileSet")
class ContentFileSet(FileSet):
    """The files that a pattern matches, by what is in them."""

    type_name: ClassVar[str] = "redun.CnotentFileSet"  # so in redun, and so in its stores
    tag: ClassVar[str] = "ContentFileSet"


@BY_CONTENT.member("folder")
@stores_as("redun.file.ContentDir")
class ContentDir(Dir):
    """All files in a folder, which are `ContentFile`; its own hash is made of plain ones, as redun's is."""

    type_name: ClassVar[str] = "redun.ContentDir"
    tag: ClassVar[str] = "ContentDir"
