"""Scratch space on this machine: sorted rows that do not fit into memory while a table is folded.

A folder lives as long as its process needs it. What a killed process left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import polars as pl

from eventstore import Storage, open_storage

__all__ = ["SPILL_ROWS", "Scratch", "SpilledRows"]

SPILL_ROWS = 4_096
"""Rows of a row group of a scratch file; to read in multiples of this reads each once."""

_LOCK = "lock"
_MAKING = ".making-"


class Scratch:
    """A folder for temporary files, made when the first is written; a context manager that removes it.

    Parameters
    ----------
    parent
        The folder of all scratch folders of one store on this machine.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._end: weakref.finalize[..., Scratch] | None = None
        self._files = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder and all that is in it; done, too, when nobody has this object any more."""
        with self._lock:
            if self._end is not None:
                self._end()
            self._folder = self._end = None

    def storage(self) -> Storage:
        """Return the folder as storage, for files of whole tables."""
        with self._lock:
            self._folder = self._folder or self._make()
            return open_storage(self._folder)

    def write(self, batches: Iterator[pl.DataFrame]) -> SpilledRows:
        """Keep sorted rows in a file each batch."""
        files = []
        for batch in batches:
            with self._lock:
                self._folder = self._folder or self._make()
                self._files += 1
                path = self._folder / f"{self._files:08d}.parquet"
            batch.write_parquet(path, compression="uncompressed", statistics=False, row_group_size=SPILL_ROWS)
            files.append((path, batch.height))
        return SpilledRows(files)

    def _make(self) -> Path:
        self._parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        making = self._parent / f"{_MAKING}{name}"
        making.mkdir()
        # The lock, not the process id, says whether someone still needs the folder: ids come again. It is
        # held before the folder gets the name under which others look at it.
        held = os.open(making / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = making.rename(self._parent / name)
        self._end = weakref.finalize(self, _remove, folder, held, os.getpid())
        return folder

    def _sweep(self) -> None:
        """Remove what killed processes left."""
        for folder in self._parent.iterdir():
            if folder.name.startswith(_MAKING):
                continue
            try:
                descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue  # someone is just making it, or it is none of ours
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                pass
            finally:
                os.close(descriptor)


def _remove(folder: Path, held: int, process: int) -> None:
    if os.getpid() == process:  # a fork's copy ends when the fork does
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


class SpilledRows:
    """Sorted rows in scratch files."""

    def __init__(self, files: list[tuple[Path, int]]) -> None:
        self._files = files

    def chunks(self, rows: int) -> Iterator[pl.DataFrame]:
        """Yield the rows in batches; each file is removed after its last row."""
        for path, height in self._files:
            source = pl.scan_parquet(path, glob=False, hive_partitioning=False, cache=False)
            for start in range(0, height, rows):
                yield source.slice(start, rows).collect(engine="in-memory")
            with contextlib.suppress(OSError):
                path.unlink()
