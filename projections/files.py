"""Files of tables on storage, compared with their SHA-256 before their first use in a process.

A local file that was found whole is remembered while it stays as it is; a remote one is read whole and
checked each time. What differs is an error that says where, and never part of an answer.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

from eventstore import NotFoundError, Storage
from projections.projection import Projection

__all__ = ["check_file", "file_is_there", "read_source"]

_lock = threading.Lock()
_good: dict[tuple[str, str], tuple[int, int, int]] = {}


def check_file(
    storage: Storage, recipe: Projection, path: str, *, sha256: str, size_bytes: int
) -> bytes | None:
    """Check a file; returns its bytes where it had to be read whole (on remote storage), else None.

    Raises
    ------
    ProjectionError
        It is not there (code ``missing_file``), or not what its name says (``wrong_size``,
        ``wrong_digest``).
    """
    local = storage.local_path(path)
    if local is None:
        try:
            raw = storage.read(path)
        except NotFoundError as error:
            raise recipe.damaged("missing_file", path, "a file", "none") from error
        _compare(recipe, path, len(raw), size_bytes, hashlib.sha256(raw).hexdigest(), sha256)
        return raw
    name = (str(local), sha256)
    try:
        mark = _mark(local)
        with _lock:
            if _good.get(name) == mark:
                return None
        with local.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise recipe.damaged("missing_file", path, "a file", "none") from error
    _compare(recipe, path, mark[1], size_bytes, found, sha256)
    with _lock:
        _good[name] = mark
    return None


def file_is_there(storage: Storage, recipe: Projection, path: str, *, size_bytes: int) -> None:
    """Look at presence and size of a file, where that costs nothing: on local storage.

    Raises
    ------
    ProjectionError
        It is not there (code ``missing_file``), or has another size (``wrong_size``).
    """
    local = storage.local_path(path)
    if local is None:
        return
    try:
        size = local.stat().st_size
    except FileNotFoundError as error:
        raise recipe.damaged("missing_file", path, "a file", "none") from error
    if size != size_bytes:
        raise recipe.damaged("wrong_size", path, f"{size_bytes} bytes", f"{size} bytes")


def read_source(storage: Storage, path: str, raw: bytes | None) -> Any:
    """Return what polars can scan: the bytes where they are at hand, else the local path."""
    return storage.polars_source(path) if raw is None else raw


def _mark(local: Path) -> tuple[int, int, int]:
    about = local.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _compare(
    recipe: Projection, path: str, size: int, expected_size: int, digest: str, expected: str
) -> None:
    if size != expected_size:
        raise recipe.damaged("wrong_size", path, f"{expected_size} bytes", f"{size} bytes")
    if digest != expected:
        raise recipe.damaged("wrong_digest", path, f"SHA-256 {expected}", digest)
