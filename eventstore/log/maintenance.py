"""The upkeep of one store: compacting, packing, cleaning, in turn with others, when asked or in passing.

One compactor at a time on a machine; between machines the seal decides. Upkeep in passing runs beside the
writer, takes bounded steps, and never fails an append.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from eventstore.errors import ConflictError, EventStoreError, StorageError
from eventstore.filesystem import Storage
from eventstore.journal_folder import JournalFolder
from eventstore.log import cleaning, compaction
from eventstore.log.cleaning import CleanPlan, CleanReport
from eventstore.log.compaction import CompactionGoals, CompactionPlan, CompactionReport
from eventstore.log.packing import pack
from eventstore.log.sequence import SealSequence
from eventstore.threads import start_thread

__all__ = ["Maintenance"]

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
PASSING_FILES = 16
"""Fewest files that are merged in passing."""
PASSING_EVENTS = 65_536
"""Events that may be written anew in passing after any flush, however small."""
PASSING_FACTOR = 8
"""Or so many times those that were flushed, if that is more."""
PASSING_WINDOW = 512
"""How many files at the end of the log are looked at in passing."""


class Maintenance:
    """Keeps the files of one store few.

    Parameters
    ----------
    folder
        Where processes of this machine take turns; None where there is only this one.
    clock
        Microseconds of Unix time.
    """

    def __init__(
        self,
        storage: Storage,
        sequence: SealSequence,
        *,
        store_id: str,
        folder: JournalFolder | None,
        clock: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._sequence = sequence
        self._store_id = store_id
        self._folder = folder
        self._clock = clock
        self._working = threading.Lock()
        self._thread: threading.Thread | None = None

    def plan_compaction(self, goals: CompactionGoals | None = None) -> CompactionPlan:
        """Return what there is to compact now."""
        return compaction.plan(self._sequence.refresh().segments, goals)

    def compact(
        self, *, goals: CompactionGoals | None = None, progress: Progress | None = None
    ) -> CompactionReport:
        """Compact what there is to compact, and pack old seals.

        Raises
        ------
        ConflictError
            Another process of this machine is compacting (code ``compacting``).
        """
        with self._turn():
            return self._compact(self.plan_compaction(goals), goals, progress)

    def _compact(
        self, plan: CompactionPlan, goals: CompactionGoals | None, progress: Progress | None = None
    ) -> CompactionReport:
        report = compaction.compact(
            self._storage, self._sequence, plan, store_id=self._store_id, goals=goals, progress=progress
        )
        head = self._sequence.refresh().number
        report.archived_seals = pack(self._storage, self._sequence.files, head)
        return report

    def plan_cleaning(self, grace: dt.timedelta) -> CleanPlan:
        """Return what may be removed now."""
        return cleaning.plan(self._storage, self._sequence, clock=self._clock, grace=grace)

    def clean(self, plan: CleanPlan, *, progress: Progress | None = None) -> CleanReport:
        """Remove what a plan says."""
        return cleaning.act(self._storage, self._sequence, plan, progress=progress)

    # in passing ------------------------------------------------------------------------------------------

    def in_passing(self, flushed: int) -> None:
        """Begin a bounded step of compaction beside the writer, if the log has many small files at its end.

        Parameters
        ----------
        flushed
            Events that were just made durable; the step writes at most `PASSING_FACTOR` times as many anew,
            or `PASSING_EVENTS`.
        """
        if self._thread is not None and self._thread.is_alive():
            return
        most = max(PASSING_EVENTS, PASSING_FACTOR * flushed)
        goals = CompactionGoals()
        goals = replace(goals, events=min(most, goals.events), least_files=PASSING_FILES)
        try:
            plan = _step(compaction.plan(self._sequence.known().segments[-PASSING_WINDOW:], goals), most)
            if plan.groups:
                self._thread = start_thread(self._pass, plan, goals, name="eventstore-compact")
        except Exception as error:
            # Out of threads, or storage is away: the files wait.
            logger.warning("nothing was compacted in passing: %s", error)

    def _pass(self, plan: CompactionPlan, goals: CompactionGoals) -> None:
        try:
            with self._turn():
                self._compact(plan, goals)
        except ConflictError:
            pass  # someone else is at it
        except EventStoreError as error:
            logger.warning("nothing was compacted in passing: %s", error)
        except Exception:
            logger.exception("nothing was compacted in passing, for a reason that was not foreseen")

    def close(self) -> None:
        """Wait for the step that is under way."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold this process' and this machine's turn to compact."""
        if not self._working.acquire(blocking=False):
            raise _taken("another thread of this process")
        try:
            lock = None
            if self._folder is not None:
                try:
                    lock = self._folder.compacting_turn()
                    if lock is None:
                        raise _taken("another process of this machine")
                except StorageError as error:
                    # Good manners need no lock, and not every filesystem has them.
                    logger.debug("compacting out of turn: %s", error)
            try:
                yield
            finally:
                if lock is not None:
                    lock.release(remove=False)
        finally:
            self._working.release()


def _step(plan: CompactionPlan, most: int) -> CompactionPlan:
    """Return the merges of a plan which together write at most so many events."""
    groups, left = [], most
    for group in plan.groups:
        events = sum(segment.count for segment in group)
        if len(group) > 1 and events <= left:
            groups.append(group)
            left -= events
    return CompactionPlan(tuple(groups), plan.files)


def _taken(who: str) -> ConflictError:
    return ConflictError(
        f"the turn to compact was expected to be free, found it held by {who}: one at a time is enough; try "
        "again when it is done. Nothing was changed",
        code="compacting",
    )
