"""Faults on demand: a storage and a journal that count their operations and fail or die at a chosen one.

One `FaultPlan` counts for both, so a test can walk through every operation of a scenario in turn. Errors
are those that the real things raise: `StorageError` from a storage, `OSError` from the journal's files.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, TypeVar

from eventstore.errors import StorageError
from eventstore.filesystem import TEMPORARY, Abilities, Entry, Storage
from eventstore.local_files import LocalFiles

__all__ = ["KILLED", "Act", "FaultPlan", "FaultyFiles", "FaultyStorage", "When"]

KILLED = 86
"""Exit status of a process that a plan has killed."""

Result = TypeVar("Result")


class When(StrEnum):
    """At which moment of the operation the fault comes."""

    BEFORE = "before"
    """Nothing was done."""
    AFTER = "after"
    """All was done, and nobody was told: a lost reply."""
    TORN = "torn"
    """Half was done: half of a journal line, a temporary file beside a file that was to be put. An
    operation that has no halves was not done."""


class Act(StrEnum):
    """What the fault is."""

    RAISE = "raise"
    KILL = "kill"


class FaultPlan:
    """Counts operations, and strikes at some of them.

    Parameters
    ----------
    at
        Number of the first operation to strike, from 0; None only counts.
    when, act
        See there.
    number
        The error number: of the OSError of a journal, and of what a StorageError says.
    strikes
        How many operations in a row are struck; None for all from `at` on.
    only
        Count and strike just these operations, such as ``{"put", "write"}``; None for all.
    leave
        How the process is left when it is killed.
    """

    def __init__(
        self,
        at: int | None = None,
        *,
        when: When = When.BEFORE,
        act: Act = Act.RAISE,
        number: int = errno.EIO,
        strikes: int | None = 1,
        only: frozenset[str] | None = None,
        leave: Callable[[int], Any] = os._exit,
    ) -> None:
        self.at = at
        self.when = when
        self.act = act
        self.number = number
        self.strikes = strikes
        self.only = only
        self.trace: list[str] = []
        """The operations so far: name, blank, path."""
        self._leave = leave
        self._lock = threading.Lock()

    def count(self, operation: str, where: str) -> When | None:
        """Count one operation; returns the moment at which to call `strike`, or None."""
        if self.only is not None and operation not in self.only:
            return None
        with self._lock:
            place = len(self.trace)
            self.trace.append(f"{operation} {where}")
        if self.at is None or place < self.at:
            return None
        if self.strikes is not None and place >= self.at + self.strikes:
            return None
        return self.when

    def strike(self) -> None:
        """Kill the process if that is the plan; else return, for the caller to raise its error."""
        if self.act is Act.KILL:
            self._leave(KILLED)

    def disarm(self) -> None:
        """Strike no more; go on counting."""
        self.at = None


class FaultyStorage:
    """A `Storage` around another one, with the faults of a plan."""

    def __init__(self, storage: Storage, plan: FaultPlan) -> None:
        self._storage = storage
        self._plan = plan

    @property
    def url(self) -> str:
        """That of the storage inside."""
        return self._storage.url

    @property
    def abilities(self) -> Abilities:
        """Those of the storage inside."""
        return self._storage.abilities

    def _do(
        self,
        operation: str,
        path: str,
        action: Callable[[], Result],
        tear: Callable[[], None] | None = None,
    ) -> Result:
        when = self._plan.count(operation, path)
        if when is None:
            return action()
        if when is When.AFTER:
            action()
        elif when is When.TORN and tear is not None:
            tear()
        self._plan.strike()
        reason = os.strerror(self._plan.number)
        raise StorageError(
            f"{operation} {path!r} in {self.url} failed: {reason} (a planned fault, {when}); try again",
            code="disk_full" if self._plan.number == errno.ENOSPC else "storage",
            transient=self._plan.number != errno.ENOSPC,
            path=path,
            url=self.url,
        )

    def _leave_half(self, path: str, data: bytes) -> None:
        """What a killed put leaves on a local disk: half the bytes under a temporary name."""
        target = self._storage.local_path(path)
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            (target.parent / f"{TEMPORARY}{os.urandom(8).hex()}").write_bytes(data[: len(data) // 2])

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        return self._do("read", path, lambda: self._storage.read(path))

    def open(self, path: str) -> IO[bytes]:
        """See `Storage`."""
        return self._do("open", path, lambda: self._storage.open(path))

    def put(self, path: str, data: bytes) -> None:
        """See `Storage`."""
        self._do(
            "put", path, lambda: self._storage.put(path, data), tear=lambda: self._leave_half(path, data)
        )

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage`."""
        return self._do(
            "create",
            path,
            lambda: self._storage.create(path, data),
            tear=lambda: self._leave_half(path, data),
        )

    def exists(self, path: str) -> bool:
        """See `Storage`."""
        return self._do("exists", path, lambda: self._storage.exists(path))

    def size(self, path: str) -> int:
        """See `Storage`."""
        return self._do("size", path, lambda: self._storage.size(path))

    def files(self, folder: str = "", *, temporary: bool = False) -> list[Entry]:
        """See `Storage`."""
        return self._do("files", folder, lambda: self._storage.files(folder, temporary=temporary))

    def folders(self, folder: str) -> list[str]:
        """See `Storage`."""
        return self._do("folders", folder, lambda: self._storage.folders(folder))

    def delete(self, path: str) -> None:
        """See `Storage`."""
        self._do("delete", path, lambda: self._storage.delete(path))

    def local_path(self, path: str) -> Path | None:
        """See `Storage`; computing a path is no operation."""
        return self._storage.local_path(path)

    def polars_source(self, path: str) -> Any:
        """See `Storage`."""
        return self._do("polars_source", path, lambda: self._storage.polars_source(path))


class FaultyFiles(LocalFiles):
    """The file operations of a journal, with the faults of a plan."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan

    def _do(
        self,
        operation: str,
        where: str,
        action: Callable[[], Result],
        tear: Callable[[], object] | None = None,
    ) -> Result:
        when = self._plan.count(operation, where)
        if when is None:
            return action()
        if when is When.AFTER:
            action()
        elif when is When.TORN and tear is not None:
            tear()
        self._plan.strike()
        raise OSError(self._plan.number, os.strerror(self._plan.number))

    def create(self, path: Path) -> int:
        """See `LocalFiles`."""
        return self._do("journal_create", path.name, lambda: LocalFiles.create(self, path))

    def write(self, descriptor: int, data: bytes) -> int:
        """See `LocalFiles`; torn, half of the bytes are written."""
        return self._do(
            "journal_write",
            f"{len(data)} bytes",
            lambda: LocalFiles.write(self, descriptor, data),
            tear=lambda: LocalFiles.write(self, descriptor, data[: len(data) // 2]),
        )

    def sync(self, descriptor: int) -> None:
        """See `LocalFiles`."""
        self._do("journal_sync", "", lambda: LocalFiles.sync(self, descriptor))

    def sync_folder(self, folder: Path) -> None:
        """See `LocalFiles`."""
        self._do("journal_sync_folder", folder.name, lambda: LocalFiles.sync_folder(self, folder))

    def truncate(self, descriptor: int, length: int) -> None:
        """See `LocalFiles`."""
        self._do("journal_truncate", str(length), lambda: LocalFiles.truncate(self, descriptor, length))

    def remove(self, path: Path) -> None:
        """See `LocalFiles`."""
        self._do("journal_remove", path.name, lambda: LocalFiles.remove(self, path))
