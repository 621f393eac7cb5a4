"""The disk of this machine, for as much as `FsspecStorage` asks of a filesystem.

fsspec has one too, but takes longer to import than most processes then have to do.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import IO, Any

__all__ = ["LocalDisk", "local_folder", "make_folder", "sync_folder"]

_PREFIX = re.compile(r"(?:file|local):(?://)?")


def local_folder(text: str) -> str | None:
    """Return the absolute path that a path or a URL of this machine names; None for what lies elsewhere."""
    match = _PREFIX.match(text)
    if match is None and ("://" in text or "::" in text):
        return None
    text = text[match.end() :] if match else text
    folder = Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's refuses "~nobody", which may be a folder
    return str(folder if folder.is_absolute() else Path.cwd() / folder)


class LocalDisk:
    """Opens, lists and deletes files as fsspec's local filesystem does; paths are absolute."""

    def open(self, path: str, mode: str) -> IO[Any]:
        """Open a file as the built-in ``open`` does."""
        return Path(path).open(mode)

    def cat_file(self, path: str) -> bytes:
        """Return a file's bytes."""
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a third of the time of Path.read_bytes
            return file.readall()

    def info(self, path: str) -> dict[str, Any]:
        """Return name, type, size and time of change; of a link, those of what it leads to."""
        found = Path(path).stat()
        return _facts(path, found, found.st_size)

    def ls(self, path: str, *, detail: bool) -> list[dict[str, Any]]:  # noqa: ARG002 - it costs no more
        """Return the same of all that is directly in a folder, where a link is neither file nor folder."""
        facts = self.info(path)
        if facts["type"] != "directory":
            return [facts]
        found = []
        with os.scandir(path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # deleted since
                    found.append(_entry_facts(entry))
        return found

    def rm_file(self, path: str) -> None:
        """Delete a file."""
        Path(path).unlink()


def _entry_facts(entry: os.DirEntry[str]) -> dict[str, Any]:
    own = entry.stat(follow_symlinks=False)
    size = own.st_size
    if entry.is_symlink():
        try:
            size = entry.stat().st_size
        except OSError:
            size = 0
    return _facts(entry.path, own, size)


def _facts(path: str, found: os.stat_result, size: int) -> dict[str, Any]:
    kind = "other"
    if stat.S_ISDIR(found.st_mode):
        kind = "directory"
    elif stat.S_ISREG(found.st_mode):
        kind = "file"
    return {"name": path, "type": kind, "size": size, "mtime": found.st_mtime}


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, so that they outlive a power cut."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
