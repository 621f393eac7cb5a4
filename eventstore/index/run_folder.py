"""The folder of the runs of a history index: locks that give turns, opening what is published, sweeping.

Files leave when no manifest names them, after a grace: a reader may just have read the manifest before.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from eventstore.checked_file import PARTIAL, IndexDamagedError, translated
from eventstore.index.manifest import MANIFEST, Manifest, OpenManifest, RetiredRun, RunEntry, stamp_of
from eventstore.index.run_file import Run
from eventstore.journal_folder import Lock

__all__ = ["GRACE_SECONDS", "RunFolder", "Turn", "recent", "retire"]

GRACE_SECONDS = 10.0
"""Files of runs that no longer count are removed so much later."""

_RUN = ".run"
_POLL_SECONDS = 0.005


class RunFolder:
    """The files of one index.

    Parameters
    ----------
    path
        Of this index alone; made with the first turn.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest_path = str(path / MANIFEST)

    def take(self, name: str, *, wait_seconds: float = 0.0) -> Lock | None:
        """Take a lock; None if another process or thread has it for so long.

        Raises
        ------
        StorageError
            The disk refused (codes ``disk_full``, ``index_refused``).
        """
        path = self.path / f"{name}.turn"
        until = time.monotonic() + wait_seconds
        with translated("lock", path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # there are values in it
            while (lock := Lock.take(path)) is None and time.monotonic() < until:
                time.sleep(_POLL_SECONDS)
        return lock

    def new_run(self, start: int, until: int) -> Path:
        """Return a path for a run of these positions that no other has."""
        return self.path / f"{start:020d}-{until:020d}-{secrets.token_hex(4)}{_RUN}"

    def entry(self, path: Path, start: int, until: int, records: int) -> RunEntry:
        """Describe a run that was written."""
        with translated("open", path):
            return RunEntry(path.stem, start, until, records, path.stat().st_size)

    def open_runs(self, opened: OpenManifest, known: Mapping[str, Run]) -> tuple[Run, ...] | None:
        """Open the runs of a manifest that are not known yet; None if it was replaced meanwhile.

        Raises
        ------
        IndexDamagedError
            A run is missing, or not what was written.
        StorageError
            The disk refused (code ``index_refused``).
        """
        runs = []
        for entry in opened.manifest.runs if opened.manifest else ():
            path = self.path / f"{entry.name}{_RUN}"
            run = known.get(entry.name) or Run.open(path)
            if run is None:
                if self.stamp() != opened.stamp:
                    return None
                raise IndexDamagedError(
                    f"index {path}: expected a run that the manifest names, found none. Next: build it anew",
                    path=str(path),
                )
            runs.append(run)
        return tuple(runs)

    def stamp(self) -> tuple[int, ...] | None:
        """Return what tells which manifest is published; None if there is none."""
        try:
            return stamp_of(Path(self.manifest_path).stat())
        except OSError:
            return None

    def sweep(self, manifest: Manifest) -> None:
        """Remove what is unfinished or no longer counts. Nobody else may be writing here.

        Raises
        ------
        StorageError
            The disk refused (code ``index_refused``).
        """
        kept = {run.name for run in manifest.runs} | {run.name for run in recent(manifest.retired)}
        with translated("sweep", self.path):
            for path in self.path.iterdir():
                if path.suffix == PARTIAL or (path.suffix == _RUN and path.stem not in kept):
                    path.unlink(missing_ok=True)

    def discard(self, path: Path) -> None:
        """Remove a run that was not published; if that fails, a later sweep does it."""
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return


class Turn:
    """The turn to publish: of one process of the machine at a time, and of one of its threads."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._thread: int | None = None

    @property
    def is_mine(self) -> bool:
        """Whether this thread has it."""
        return self._thread == threading.get_ident()

    @contextlib.contextmanager
    def tried(self, *, wait_seconds: float = 0.0) -> Iterator[bool]:
        """Have the turn, if nobody else has it for so long; says whether this is so.

        A thread that has it already has it once more.
        """
        lock = None if self.is_mine else self._folder.take("adding", wait_seconds=wait_seconds)
        if lock is None:
            yield self.is_mine
            return
        self._thread = threading.get_ident()
        try:
            yield True
        finally:
            self._thread = None
            lock.release(remove=False)


def retire(manifest: Manifest, runs: tuple[RunEntry, ...]) -> tuple[RetiredRun, ...]:
    """Return the retired runs of a manifest once these are among them."""
    now = time.time()
    return (*recent(manifest.retired), *(RetiredRun(run.name, now) for run in runs))


def recent(retired: tuple[RetiredRun, ...]) -> tuple[RetiredRun, ...]:
    """Leave those that may still be in somebody's hands."""
    oldest = time.time() - GRACE_SECONDS
    return tuple(run for run in retired if run.since > oldest)
