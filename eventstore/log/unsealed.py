"""Segments that no seal has placed: found by listing day folders, described once, remembered while they wait.

Names tell most: whose first sequence is below what is sealed of its writer is sealed, or a repeat of it.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from eventstore import layout
from eventstore.chain import Snapshot
from eventstore.errors import EventStoreError, NotFoundError, StorageError
from eventstore.filesystem import Storage
from eventstore.ids import WriterId
from eventstore.segment import Segment, describe

__all__ = ["UnsealedSegments", "is_sealed"]

logger = logging.getLogger(__name__)
_MOST_HASHES = 262_144
"""Event hashes to keep of segments that are not sealed; those of others are read again when needed."""
_SETTLED_SECONDS = 2.0
"""A folder that was changed so lately may change again without a new time of change."""


class UnsealedSegments:
    """What waits for a seal in one store.

    Parameters
    ----------
    store_id
        Segments of other stores are left out.
    clock
        Microseconds of Unix time; only for the day folders to look into.
    """

    def __init__(self, storage: Storage, *, store_id: str, clock: Callable[[], int]) -> None:
        self._storage = storage
        self._store_id = store_id
        self._clock = clock
        self._lock = threading.RLock()
        self._left: dict[str, tuple[int, list[str]]] = {}
        """For a day's folder: when it was changed, and what was not sealed of it."""
        self._met: dict[str, Segment] = {}
        self._hashes: OrderedDict[str, list[bytes]] = OrderedDict()
        self._hash_count = 0
        self._refused: dict[str, EventStoreError] = {}

    # finding ---------------------------------------------------------------------------------------------

    def paths(self, now: Snapshot, *, everywhere: bool = False) -> list[str]:
        """Return the paths of segments that are not sealed as of `now`; see `SealSequence.unsealed`."""
        # Without a lock: a long listing is not to hold up those who append, read or seal.
        folders = self._folders(now, everywhere)
        return sorted(path for folder in folders for path in self._left_in(folder, now))

    def candidates(self, now: Snapshot, *, look: bool, everywhere: bool) -> list[str]:
        """Return what the next seal might place: what is found by looking, and what was met before."""
        found = self.paths(now, everywhere=everywhere) if look or everywhere else []
        with self._lock:
            return sorted({*found, *self._met})

    def _left_in(self, folder: str, now: Snapshot) -> list[str]:
        """Return what is not sealed of a folder; one that did not change since is not listed again."""
        changed = self._changed(folder)
        known = self._left.get(folder)
        if known is not None and known[0] == changed:
            paths = known[1]
        else:
            paths = [entry.path for entry in self._storage.files(folder)]
        left = [path for path in paths if layout.parse_segment(path) and not is_sealed(now, path)]
        if changed is not None:
            self._left[folder] = changed, left
        return left

    def _changed(self, folder: str) -> int | None:
        """Return when a local day's folder was changed, in nanoseconds; None where that does not tell."""
        place = self._storage.local_path(folder)
        if place is None or folder == layout.SEGMENTS:
            return None
        try:
            changed = place.stat().st_mtime_ns
        except OSError:
            return None
        return changed if time.time_ns() - changed > _SETTLED_SECONDS * 1e9 else None

    def _folders(self, now: Snapshot, everywhere: bool) -> Iterator[str]:
        if everywhere or now.sealed_at is None:
            yield layout.SEGMENTS
            return
        today = dt.datetime.fromtimestamp(self._clock() / 1e6, dt.UTC)
        sealed_at = dt.datetime.fromisoformat(now.sealed_at).astimezone(dt.UTC)
        first = min(today, sealed_at) - dt.timedelta(days=2)
        start = f"{layout.SEGMENTS}/{layout.segment_day(first)}"
        for year in self._storage.folders(layout.SEGMENTS):
            if year < start[: len(year)]:
                continue
            for month in self._storage.folders(year):
                if month < start[: len(month)]:
                    continue
                yield from (day for day in self._storage.folders(month) if day >= start)

    # knowing ---------------------------------------------------------------------------------------------

    def offer(self, segment: Segment, hashes: list[bytes]) -> None:
        """Remember a segment that is not sealed, so that sealing need not read it."""
        with self._lock:
            self._forget_hashes(segment.path)
            self._met[segment.path] = segment
            self._hashes[segment.path] = hashes
            self._hash_count += len(hashes)
            while self._hash_count > _MOST_HASHES and len(self._hashes) > 1:
                self._forget_hashes(next(iter(self._hashes)))

    def forget_sealed(self, now: Snapshot) -> None:
        """Forget what is sealed as of `now`."""
        with self._lock:
            for path in [path for path in self._met if is_sealed(now, path)]:
                del self._met[path]
                self._forget_hashes(path)

    def segment(self, path: str) -> Segment | None:
        """Return what is known of a segment; None if it is unreadable. Cheaper than `describe`."""
        with self._lock:
            met = self._met.get(path)
        if met is not None:
            return met
        known = self.describe(path)
        return known[0] if known is not None else None

    def describe(self, path: str) -> tuple[Segment, list[bytes]] | None:
        """Return what is known of a segment and its event hashes; None if it is unreadable."""
        with self._lock:
            if path in self._refused:
                return None
            if path in self._hashes:
                return self._met[path], self._hashes[path]
        try:
            known = describe(self._storage, path, store_id=self._store_id)
        except NotFoundError:
            return None
        except StorageError:
            raise
        except EventStoreError as error:
            logger.warning("an unsealed segment is left out: %s", error)
            with self._lock:
                self._refused[path] = error
            return None
        self.offer(*known)
        return known

    def _forget_hashes(self, path: str) -> None:
        self._hash_count -= len(self._hashes.pop(path, ()))

    # ordering --------------------------------------------------------------------------------------------

    def in_order(self, now: Snapshot, paths: Iterable[str]) -> Iterator[tuple[Segment, list[bytes]]]:
        """Yield the segments that can be placed after `now`, in order, one at a time.

        A writer's segments come in its order; one whose predecessor is not there yet waits.
        """
        known = [
            segment
            for path in paths
            if not is_sealed(now, path) and (segment := self.segment(path)) is not None
        ]
        begins = {(segment.writer, segment.first_sequence) for segment in known}

        def place(segment: Segment) -> tuple[object, ...]:
            # Of two that begin alike, the one that the next goes on from; else the one that holds more.
            goes_on = (segment.writer, segment.end_sequence) in begins
            first = (segment.recorded_from_us, segment.writer, segment.first_sequence)
            return *first, not goes_on, -segment.count

        ends: dict[WriterId, int] = {}
        for segment in sorted(known, key=place):
            end = ends.get(segment.writer, now.writers.get(segment.writer, 0))
            if segment.first_sequence == end and (described := self.describe(segment.path)) is not None:
                ends[segment.writer] = segment.end_sequence
                yield described


def is_sealed(now: Snapshot, path: str) -> bool:
    """Whether the name alone says that the segment's events are sealed, from this file or from another."""
    name = layout.parse_segment(path)
    return name is not None and name.first_sequence < now.writers.get(name.writer, 0)
