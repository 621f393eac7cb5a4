"""Copying files between any two places: by the place itself where it can, else streamed through here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from eventstore.errors import InvalidEventError
from eventstore.file.local import pump
from eventstore.file.places import Progress, place_of

if TYPE_CHECKING:
    from eventstore.file.file import File

__all__ = ["copy_between", "copy_by_path", "inside"]


def copy_between(source: File, target: File, progress: Progress | None = None) -> None:
    """Copy one file, whole or not at all; a large one goes in pieces and tells `progress` of each."""
    place, other = source.filesystem, target.filesystem
    if source.path == target.path:
        place.version(source.path)  # it is to be there
        return
    if type(place) is type(other) and place.copy(source.path, target.path):
        if progress is not None:
            moved = other.size(target.path)
            progress(moved, moved)
        return
    with place.open(source.path, "rb") as stream:
        size = place.size(source.path) if progress is not None else None
        other.store(target.path, stream, size=size, progress=progress)


def copy_by_path(source: str | None, target: str | None, *, recursive: bool = False) -> None:
    """Copy by path or URL; None is standard input, or standard output.

    Raises
    ------
    InvalidEventError
        A folder was to be copied from or to a stream (code ``no_stream_of_folder``).
    """
    from eventstore.file.file import File
    from eventstore.file.folder import Dir

    if recursive:
        if source is None or target is None:
            raise InvalidEventError(
                "two folders were expected for a recursive copy, found a stream; name both",
                code="no_stream_of_folder",
            )
        Dir(source).copy_to(Dir(target))
    elif source is not None and target is not None:
        File(source).copy_to(File(target))
    elif source is not None:
        with place_of(source).open(source, "rb") as stream:
            pump(stream, sys.stdout.buffer, size=None, progress=None)
        sys.stdout.buffer.flush()
    elif target is not None:
        place_of(target).store(target, sys.stdin.buffer, size=None, progress=None)
    else:
        pump(sys.stdin.buffer, sys.stdout.buffer, size=None, progress=None)


def inside(folder: str, relative: str) -> str:
    """Return the path of something in a folder.

    Raises
    ------
    InvalidEventError
        `relative` is absolute, a URL, or leads out of the folder (code ``outside_folder``).
    """
    parts = relative.split("/")
    depth = 0
    for part in parts:
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            break
    if depth < 0 or relative.startswith("/") or "://" in relative or "\0" in relative:
        raise InvalidEventError(
            f"a path inside of the folder {folder!r} was expected, found {relative!r}, which leads out "
            "of it; name the file itself",
            code="outside_folder",
            path=relative,
        )
    return f"{folder}/{relative}" if folder else relative
