"""The runs of the history index: what is on local disk of the sealed log, by key.

A log-structured merge tree: each `add` writes one immutable sorted run, a merge makes several into one, and a
manifest says which count. Everything here is derived from the log, and may be deleted at any time. Processes
of one machine share the folder: they add in turns, read without any, and see what others have published.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from eventstore.checked_file import IndexDamagedError
from eventstore.errors import ConflictError, StateError, StorageError
from eventstore.index.manifest import (
    Manifest,
    OpenManifest,
    RunEntry,
    open_manifest,
    put_manifest,
    stamp_of,
)
from eventstore.index.merge import due, merge_runs
from eventstore.index.records import Keep, Records
from eventstore.index.run_file import Run
from eventstore.index.run_folder import RunFolder, Turn, recent, retire
from eventstore.index.run_writer import write_run

__all__ = ["IndexDamagedError", "IndexRuns", "Keep"]

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 60.0
"""How long a merge waits for others that add, before it is given up."""

_TRIES = 20


class _View:
    """One published state, open."""

    __slots__ = ("all", "manifest", "newest", "newest_first", "oldest_first", "opened", "runs", "stamp")

    def __init__(self, manifest: Manifest, runs: tuple[Run, ...] = (), opened: OpenManifest | None = None):
        self.manifest = manifest
        self.runs = runs
        self.opened = opened
        self.stamp = opened and opened.stamp
        self.oldest_first: tuple[Callable[[bytes], bytes | None], ...] = tuple(run.one for run in runs)
        self.newest_first = self.oldest_first[::-1]
        self.all: tuple[Callable[[bytes], list[bytes]], ...] = tuple(run.all for run in runs)
        self.newest: tuple[Callable[[bytes], bytes | None], ...] = tuple(run.newest for run in runs[::-1])


class IndexRuns:
    """Records by key for the sealed positions from 0 up to `position`. Threads may share one.

    What it answers changes only by its own methods: whoever joins the answers with those of something newer
    calls `refresh`, and sees `position` move.

    Parameters
    ----------
    folder
        Of this index alone; made when something is added. If it holds what cannot be read, or was written
        with another `keep` or `version`, that is set aside with a warning, and `position` is 0.
    keep
        Which of several records with one key count, by the key's last byte, the family: all where it says
        nothing. A look-up and a merge leave the same, so no answer tells whether runs were merged.
    version
        Of what payloads say.

    Raises
    ------
    StorageError
        The disk refused (code ``index_refused``).
    """

    def __init__(self, folder: Path, *, keep: Mapping[int, Keep], version: int = 1) -> None:
        self.folder = folder
        self._folder = RunFolder(folder)
        self._by_family: dict[int, Keep] = {int(family): what for family, what in keep.items()}
        said = {str(family): str(what) for family, what in sorted(self._by_family.items())}
        self._rules = {"keep": said, "records": version}
        self._keep: tuple[Keep, ...] = tuple(self._by_family.get(family, "all") for family in range(256))
        self._lock = threading.RLock()
        self._condemned: set[str] = set()
        self._turn = Turn(self._folder)
        self._turn_epoch = ""
        self._closed = False
        self._view = self._nothing(None)
        self._load()

    # what is there ---------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """All sealed positions below it are in the runs."""
        return self._view.manifest.position

    @property
    def writers(self) -> Mapping[str, int]:
        """For each writer, one past its last sequence below `position`."""
        return self._view.manifest.writers

    @property
    def mark(self) -> str:
        """What `add` was given with `position`."""
        return self._view.manifest.mark

    @property
    def runs(self) -> tuple[RunEntry, ...]:
        """The runs, oldest first."""
        return self._view.manifest.runs

    def get(self, key: bytes) -> list[bytes]:
        """Return the payloads that count of a key's records, oldest first.

        Raises
        ------
        IndexDamagedError
            What the answer would rest on is damaged: `reset`, and add everything again.
        StateError
            It is closed (code ``closed``).
        """
        view = self._view
        keep = self._keep[key[20]]
        if keep == "all":
            found: list[bytes] = []
            for every in view.all:
                more = every(key)
                if more:
                    found = [*found, *more] if found else more
            return list(dict.fromkeys(found)) if len(found) > 1 else found
        for one in view.oldest_first if keep == "first" else view.newest_first:
            payload = one(key)
            if payload is not None:
                return [payload]
        return []

    def newest(self, key: bytes) -> bytes | None:
        """Return the last payload of a key's records, however many there are; None if there is none.

        For families of which all count; raises like `get`.
        """
        for newest in self._view.newest:
            payload = newest(key)
            if payload is not None:
                return payload
        return None

    def refresh(self) -> bool:
        """Take in what another process has published; returns whether anything changed.

        Costs one look at a file when nothing did. `position` may go back, to 0, where runs were set aside.
        """
        try:
            stamp = stamp_of(os.stat(self._folder.manifest_path))  # noqa: PTH116 - a tenth of the time of Path.stat
        except OSError:
            stamp = None
        if stamp == self._view.stamp:
            return False
        return self._load()

    # changing it -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Try to be the one process and thread that may add; says whether this is so.

        With the turn comes a `refresh`: look at `position` afterwards.

        Raises
        ------
        StorageError
            The disk refused (codes ``disk_full``, ``index_refused``).
        """
        self._must_be_open()
        with self._turn.tried() as mine:
            if mine:
                self.refresh()
                self._bury()
                self._turn_epoch = self._view.manifest.epoch
            yield mine

    def add(
        self,
        keys: Sequence[bytes] | pa.FixedSizeBinaryArray,
        payloads: Sequence[bytes] | pa.LargeBinaryArray,
        *,
        until: int,
        writers: Mapping[str, int],
        mark: str,
    ) -> None:
        """Take in the records of the positions from `position` up to `until`, within a turn.

        Parameters
        ----------
        keys, payloads
            Keys of 21 bytes, unsorted, in the order of the log, and as many payloads; or columns of them, see
            `eventstore.index.records.Records`.
        until, writers, mark
            What `position`, `writers` and `mark` are afterwards.

        Raises
        ------
        ConflictError
            `until` is below `position`, or everything was set aside since the turn began (code
            ``index_moved``).
        InvalidEventError
            The records are not such (codes ``bad_key``, ``too_large``).
        StateError
            This is not within a turn (code ``no_turn``), or it is closed (code ``closed``).
        StorageError
            The disk refused (codes ``disk_full``, ``index_refused``); the index is as it was.
        """
        self._must_be_open()
        self._must_have_turn()
        before = self._view.manifest
        if self.refresh() or before.epoch != self._turn_epoch or until < before.position:
            raise ConflictError(
                f"an index of the positions up to {before.position} was expected in {self.folder}, to be "
                f"extended to {until}; found {self.position}. Next: take another turn, and look where it is",
                code="index_moved",
                position=self.position,
            )
        entries, path = before.runs, None
        if len(keys):
            path = self._folder.new_run(before.position, until)
            ordered = Records.of_columns(keys, payloads).settled(self._by_family)
            count = write_run(
                path,
                ordered.between,
                count=len(ordered),
                size_bytes=ordered.size_bytes,
                facts={"name": path.stem},
            )
            entries = (*entries, self._folder.entry(path, before.position, until, count))
        after = dataclasses.replace(
            before,
            position=until,
            mark=mark,
            writers=dict(writers),
            runs=entries,
            retired=recent(before.retired),
        )
        self._publish(after, path)

    def merge_if_due(self) -> bool:
        """Merge runs where newer ones have grown near to older ones; returns whether that was so.

        Can be called within a turn or without, also from another thread: adding goes on meanwhile, and waits
        only for what is published at the end. Does nothing while another process or thread merges.

        Raises
        ------
        IndexDamagedError
            What would be merged is damaged: `reset`.
        StateError
            It is closed, or was meanwhile (code ``closed``).
        StorageError
            The disk refused (codes ``disk_full``, ``index_refused``); the runs are as they were.
        """
        self._must_be_open()
        lock = self._folder.take("merging")
        if lock is None:
            return False
        try:
            self._sweep()
            view = self._view
            first = due([run.size_bytes for run in view.runs])
            old, entries = view.runs[first:], view.manifest.runs[first:]
            if not old:
                return False
            start, until = entries[0].start, entries[-1].until
            path = self._folder.new_run(start, until)
            count = merge_runs(
                path, old, keep=self._by_family, facts={"name": path.stem}, stopped=lambda: self._closed
            )
            return self._replace(entries, self._folder.entry(path, start, until, count), path)
        finally:
            lock.release(remove=False)

    def reset(self, why: str) -> None:
        """Set everything aside: `position` is 0, here at once, and for others as soon as there is a turn.

        Parameters
        ----------
        why
            For the log.

        Raises
        ------
        StorageError
            The disk refused (codes ``disk_full``, ``index_refused``); here `position` is 0 nevertheless.
        """
        with self._lock:
            self._must_be_open()
            self._condemn(self._view.manifest, why)
            self._view = self._nothing(self._view.opened)
        with self.turn():
            pass

    def close(self) -> None:
        """Let go of the runs; a merge that is under way in another thread gives up. Twice does nothing."""
        with self._lock:
            self._closed = True
            self._view = _View(self._view.manifest)
            view = self._view
            view.oldest_first = view.newest_first = view.newest = view.all = (self._refuse,)

    # inside ----------------------------------------------------------------------------------------------

    def _load(self) -> bool:
        """Open what is published; returns whether that is something else than before."""
        with self._lock:
            self._must_be_open()
            before = self._view.manifest
            self._view = self._opened()
            return self._view.manifest != before

    def _opened(self) -> _View:
        """Open what is published, or nothing where that is damaged, condemned, or not there."""
        known = {run.name: run for run in self._view.runs}
        for _ in range(_TRIES):
            opened = open_manifest(self.folder)
            if opened is None:
                return self._nothing(None)
            manifest = opened.manifest
            if manifest is None:
                logger.warning("the history index in %s is to be built anew: %s", self.folder, opened.problem)
                return self._nothing(opened)
            if manifest.rules != self._rules:
                self._condemn(manifest, "its records are of another version")
            if manifest.epoch in self._condemned:
                return self._nothing(opened)
            try:
                runs = self._folder.open_runs(opened, known)
            except IndexDamagedError as error:
                self._condemn(manifest, error.message)
                return self._nothing(opened)
            if runs is not None:
                return _View(manifest, runs, opened)
        raise ConflictError(
            f"a manifest that stays until its runs are open was expected in {self.folder}, found a new one "
            f"{_TRIES} times. Next: try again",
            code="index_moved",
        )

    def _nothing(self, opened: OpenManifest | None) -> _View:
        """Return the state of an index that is to be built, in place of what is published."""
        return _View(Manifest.empty(self._rules), (), opened)

    def _condemn(self, manifest: Manifest, why: str) -> None:
        """Believe nothing of an epoch any more."""
        if manifest.epoch not in self._condemned:
            logger.warning("the history index in %s is set aside, to be built anew: %s", self.folder, why)
            self._condemned.add(manifest.epoch)

    def _bury(self) -> None:
        """Within a turn: publish nothing in place of what was condemned."""
        opened = self._view.opened
        published = opened and opened.manifest
        if published and published.epoch in self._condemned:
            retired = retire(published, published.runs)
            self._publish(Manifest.empty(self._rules, retired), None)

    def _publish(self, manifest: Manifest, new_run: Path | None) -> None:
        """Within a turn: make a state the published one, and open it; without success forget its new run."""
        try:
            put_manifest(self.folder, manifest)
        except StorageError:  # after anything else, such as an interrupt, the run may be published
            if new_run is not None:
                self._folder.discard(new_run)
            raise
        self._load()

    def _replace(self, old: tuple[RunEntry, ...], new: RunEntry, path: Path) -> bool:
        """Publish a run in place of those that it was merged of, if they still count."""
        with self._turn.tried(wait_seconds=PUBLISH_SECONDS) as mine:
            self.refresh()
            before = self._view.manifest
            at = before.runs.index(old[0]) if old[0] in before.runs else 0
            if not mine or before.runs[at : at + len(old)] != old:
                self._folder.discard(path)
                return False
            runs = (*before.runs[:at], new, *before.runs[at + len(old) :])
            self._publish(dataclasses.replace(before, runs=runs, retired=retire(before, old)), path)
            return True

    def _sweep(self) -> None:
        """While this thread merges: remove what no longer counts, if it can also have the turn."""
        with self._turn.tried() as mine:
            self.refresh()
            opened = self._view.opened
            if mine and opened is not None and opened.manifest is not None:
                self._folder.sweep(opened.manifest)

    def _must_have_turn(self) -> None:
        if not self._turn.is_mine:
            raise StateError(
                f"a turn was expected before the index {self.folder} is extended, found none. Next: add "
                "within `turn()`, where that gives True",
                code="no_turn",
            )

    def _must_be_open(self) -> None:
        if self._closed:
            self._refuse(b"")

    def _refuse(self, _key: bytes) -> NoReturn:
        raise StateError(
            f"an open index was expected, {self.folder} is closed. Next: open it again",
            code="closed",
            path=str(self.folder),
        )
