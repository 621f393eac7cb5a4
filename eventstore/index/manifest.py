"""The manifest of the history index: which runs there are, and up to where they hold the log.

A line of JSON, and a line with its SHA-256. It is replaced whole, by renaming, and only within a turn; so
whoever reads it sees some state as it was published.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eventstore.checked_file import PARTIAL, translated
from eventstore.index.run_writer import FORMAT

__all__ = [
    "MANIFEST",
    "Manifest",
    "OpenManifest",
    "RetiredRun",
    "RunEntry",
    "open_manifest",
    "put_manifest",
    "stamp_of",
]

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run: the sealed positions that it covers, half-open, and its size."""

    name: str
    start: int
    until: int
    records: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RetiredRun:
    """A run that is no longer in use, and since when, in seconds of Unix time."""

    name: str
    since: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """One published state of the index."""

    epoch: str
    """Drawn anew when everything is set aside: states of different epochs have nothing in common."""
    rules: Mapping[str, Any]
    """By which the runs were written: `records`, the version of what they say, and `keep`, by family."""
    position: int = 0
    mark: str = ""
    writers: Mapping[str, int] = field(default_factory=dict)
    runs: tuple[RunEntry, ...] = ()
    """Oldest first."""
    retired: tuple[RetiredRun, ...] = ()

    @classmethod
    def empty(cls, rules: Mapping[str, Any], retired: tuple[RetiredRun, ...] = ()) -> Manifest:
        """Make the first state of a new epoch."""
        return cls(secrets.token_hex(8), rules, retired=retired)


class OpenManifest:
    """What a manifest says, and its file, open until the last reference is gone.

    While it is open no other file can get its inode number. So `stamp` tells, with one look at the path,
    whether what is published still is this.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._descriptor = descriptor
        self.stamp = stamp_of(os.fstat(descriptor))
        self.manifest: Manifest | None = None
        """None if it cannot be read."""
        self.problem = ""
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read()
        try:
            self.manifest = _parse(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.problem = f"{path.name} is not what was written, or of another format: {error!r}"

    def __del__(self) -> None:
        os.close(self._descriptor)


def open_manifest(folder: Path) -> OpenManifest | None:
    """Read the manifest of a folder; None if there is none.

    Raises
    ------
    StorageError
        The disk refused (code ``index_refused``).
    """
    path = folder / MANIFEST
    with translated("open", path):
        try:
            return OpenManifest(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return None


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells a manifest's file from those before and after it."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def put_manifest(folder: Path, manifest: Manifest) -> None:
    """Publish a manifest in place of the one before.

    Raises
    ------
    StorageError
        The disk refused (codes ``disk_full``, ``index_refused``); the one before is still there.
    """
    path = folder / MANIFEST
    line = json.dumps({"format": FORMAT, **asdict(manifest)}, sort_keys=True).encode()
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    try:
        with translated("write", path):
            partial.write_bytes(line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n")
            partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def _parse(raw: bytes) -> Manifest:
    line, _, rest = raw.partition(b"\n")
    if rest != hashlib.sha256(line).hexdigest().encode() + b"\n":
        raise ValueError("another SHA-256")
    content: dict[str, Any] = json.loads(line)
    if content.pop("format") != FORMAT:
        raise ValueError("another format")
    content["runs"] = tuple(RunEntry(**entry) for entry in content["runs"])
    content["retired"] = tuple(RetiredRun(**entry) for entry in content["retired"])
    return Manifest(**content)
