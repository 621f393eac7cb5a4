"""A file or folder in two places: where it lies for good, and a local copy for a program that wants one."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

from eventstore.errors import InvalidEventError
from eventstore.file.family import BY_CONTENT, BY_NAME, PLAIN, Family
from eventstore.file.file import File
from eventstore.file.folder import Dir
from eventstore.hashing import hash_struct
from eventstore.pickling import stores_as
from eventstore.value import Value

__all__ = [
    "ContentStagingDir",
    "ContentStagingFile",
    "IStagingDir",
    "IStagingFile",
    "Staging",
    "StagingDir",
    "StagingFile",
]

Staged = TypeVar("Staged", File, Dir)


class Staging(Value, Generic[Staged]):
    """What both kinds of staging do; the hash is that of the two paths."""

    family: ClassVar[Family]
    local: Staged
    remote: Staged

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.local.path!r}, {self.remote.path!r})"

    def __getstate__(self) -> dict[str, Staged]:
        return {"local": self.local, "remote": self.remote}

    def __setstate__(self, state: dict[str, Staged]) -> None:
        self.local, self.remote = state["local"], state["remote"]

    @property
    def own_hash(self) -> str:
        """``H([type name, local path, remote path])``."""
        return hash_struct([self.type_name, self.local.path, self.remote.path])

    @classmethod
    def parse_arg(cls, text: str) -> Staging[Staged]:  # noqa: ARG003 - see Raises
        """Never: one text does not say two paths.

        Raises
        ------
        InvalidEventError
            Always (code ``no_parsing``).
        """
        raise InvalidEventError(
            f"the path of a file or folder was expected as argument, found the type {cls.__name__}, which "
            "has two; take a File and call stage() on it",
            code="no_parsing",
        )

    @property
    def _apart(self) -> bool:
        return self.local.path != self.remote.path

    def render_stage(self, as_mount: bool = False) -> str:
        """Return the shell command that makes the local copy; empty where both are one."""
        return self.remote.shell_copy_to(self.local.path, as_mount=as_mount) if self._apart else ""

    def render_unstage(self, as_mount: bool = False) -> str:
        """Return the shell command that copies back; empty where both are one."""
        return self.local.shell_copy_to(self.remote.path, as_mount=as_mount) if self._apart else ""


@PLAIN.member("staging_file")
@stores_as("redun.file.StagingFile")
class StagingFile(Staging[File]):
    """A file and its local copy.

    Parameters
    ----------
    local, remote
        Files, or their paths.
    """

    type_name: ClassVar[str] = "redun.StagingFile"

    def __init__(self, local: File | str, remote: File | str) -> None:
        kind = self.family.file
        self.local = kind(local) if isinstance(local, str) else local
        self.remote = kind(remote) if isinstance(remote, str) else remote

    def stage(self) -> File:
        """Make the local copy, and return it."""
        return self.remote.copy_to(self.local) if self._apart else self.local

    def unstage(self) -> File:
        """Copy the local file back, and return the remote one."""
        return self.local.copy_to(self.remote) if self._apart else self.remote


@PLAIN.member("staging_folder")
@stores_as("redun.file.StagingDir")
class StagingDir(Staging[Dir]):
    """A folder and its local copy.

    Parameters
    ----------
    local, remote
        Folders, or their paths.
    """

    type_name: ClassVar[str] = "redun.StagingDir"

    def __init__(self, local: Dir | str, remote: Dir | str) -> None:
        kind = self.family.folder
        self.local = kind(local) if isinstance(local, str) else local
        self.remote = kind(remote) if isinstance(remote, str) else remote

    def stage(self) -> Dir:
        """Make the local copy, and return it."""
        return self.remote.copy_to(self.local) if self._apart else self.local

    def unstage(self) -> Dir:
        """Copy the local folder back, and return the remote one."""
        return self.local.copy_to(self.remote) if self._apart else self.remote


@BY_NAME.member("staging_file")
@stores_as("redun.file.IStagingFile")
class IStagingFile(StagingFile):
    """A file that is written once, and its local copy."""

    type_name: ClassVar[str] = "redun.IStagingFile"


@BY_NAME.member("staging_folder")
@stores_as("redun.file.IStagingDir")
class IStagingDir(StagingDir):
    """A folder of files that are written once, and its local copy."""

    type_name: ClassVar[str] = "redun.IStagingDir"


@BY_CONTENT.member("staging_file")
@stores_as("redun.file.ContentStagingFile")
class ContentStagingFile(StagingFile):
    """A file by its content, and its local copy."""

    type_name: ClassVar[str] = "redun.ContentStagingFile"


@BY_CONTENT.member("staging_folder")
@stores_as("redun.file.ContentStagingDir")
class ContentStagingDir(StagingDir):
    """A folder of files by their content, and its local copy."""

    type_name: ClassVar[str] = "redun.ContentStagingDir"
