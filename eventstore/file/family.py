"""Families of file values: which class of file goes with which class of folder and of staging.

A folder of one family holds files of that family, and they are staged by its staging values. The members
name each other through their family, so they can live in rooms of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from eventstore.file.file import File
    from eventstore.file.folder import Dir, FileSet
    from eventstore.file.staging import StagingDir, StagingFile

__all__ = ["BY_CONTENT", "BY_NAME", "PLAIN", "Family"]

Member = TypeVar("Member", bound=type)


class Family:
    """The five classes that belong together; each enters itself where it is defined."""

    file: type[File]
    file_set: type[FileSet]
    folder: type[Dir]
    staging_file: type[StagingFile]
    staging_folder: type[StagingDir]

    def member(self, role: str) -> Callable[[Member], Member]:
        """Enter the decorated class, and tell it of its family."""

        def enter(cls: Member) -> Member:
            setattr(self, role, cls)
            cls.family = self  # type: ignore[attr-defined]
            return cls

        return enter


PLAIN = Family()
"""Hashed by what the place says of a file without reading it: size and time, ETag, size."""
BY_NAME = Family()
"""Hashed by path alone: written once, never changed."""
BY_CONTENT = Family()
"""Hashed by what is in the files."""
