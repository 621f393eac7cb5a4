"""The sequence of the log: where its chain of seals stands, and the next link.

Opening reads the newest snapshot and the seals after it, not history. Anyone may seal: whoever puts the
next number first wins, and the others usually find their work done.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from eventstore import layout
from eventstore.errors import EventStoreError, FormatError, IntegrityError, NotFoundError, StorageError
from eventstore.filesystem import Storage
from eventstore.ids import Digest, EventId, Position, WriterId
from eventstore.seal import (
    Seal,
    Snapshot,
    decode_seal,
    decode_snapshot,
    encode_snapshot,
    entries_digest,
    seal_damaged,
)
from eventstore.segment import Segment, describe

__all__ = ["Head", "SealSequence"]

logger = logging.getLogger(__name__)
_MOST_RACES = 1000
_PROBES = (2, 4, 10)
"""How far behind the last seal to look for others, which would show that one between is gone."""
_MOST_HASHES = 262_144
"""Event hashes to keep of segments that are not sealed; those of others are read again when needed."""
_SETTLED_SECONDS = 2.0
"""A folder that was changed so lately may change again without a new time of change."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the sealed log ends: `size` events, the newest seal's `number` (0: none) and tree `root`."""

    size: int
    number: int
    root: bytes


class SealSequence:
    """The chain of seals of one store, read and extended.

    Parameters
    ----------
    storage
        The store's root.
    store_id, software
        What new seals say.
    clock
        Microseconds of Unix time; only for the day folders to look into and for ``sealed_at``.
    turn
        Entered while sealing, so that processes of one machine take turns instead of racing.
    single_sealer
        `turn` is exclusive and nobody else seals: then storage needs no atomic put-if-absent.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        store_id: str,
        software: str,
        clock: Callable[[], int],
        turn: Callable[[], AbstractContextManager[object]] | None = None,
        single_sealer: bool = False,
    ) -> None:
        self._storage = storage
        self._store_id = store_id
        self._software = software
        self._clock = clock
        self._turn = turn or nullcontext
        self._single_sealer = single_sealer
        self._lock = threading.RLock()
        self._now: Snapshot | None = None
        self._sealed_paths: set[str] = set()
        self._left: dict[str, tuple[int, list[str]]] = {}
        """For a day's folder: when it was changed, and what was not sealed of it."""
        self._met: dict[str, Segment] = {}
        self._hashes: OrderedDict[str, list[bytes]] = OrderedDict()
        self._hash_count = 0
        self._searched = False
        self._refused: dict[str, EventStoreError] = {}

    # reading ---------------------------------------------------------------------------------------------

    def refresh(self) -> Snapshot:
        """Read what was sealed since the last call, and return the sequence.

        Raises
        ------
        IntegrityError
            A seal is damaged, missing or does not follow.
        """
        with self._lock:
            now, newest = self._now, 0
            if now is None:
                newest = self._newest_number()
                now = self._open(newest)
            after = now.then(self._links(now.number))
            if after.number < newest:
                raise _missing_seal(after.number + 1, self._storage.url)
            return self._take_over(after)

    def _links(self, number: int) -> Iterator[tuple[Digest, Seal]]:
        while (found := self._read(number + 1)) is not None:
            yield found
            number += 1

    def _take_over(self, after: Snapshot) -> Snapshot:
        for segment in after.segments[len(self._now.segments) if self._now else 0 :]:
            self._sealed_paths.add(segment.path)
            self._met.pop(segment.path, None)
            self._forget_hashes(segment.path)
        self._now = after
        return after

    def head(self) -> Head:
        """Return where the sealed log ends now."""
        now = self.refresh()
        return Head(now.peaks.size, now.number, now.peaks.root())

    def sealed_end(self, writer: str) -> int:
        """One past the last sealed sequence of `writer`, as of the last refresh."""
        with self._lock:
            now = self._now or self.refresh()
            return now.writers.get(WriterId(writer), 0)

    def _read(self, number: int) -> tuple[Digest, Seal] | None:
        path = layout.seal_path(number)
        try:
            raw = self._storage.read(path)
        except NotFoundError:
            return None
        return decode_seal(path, raw)

    def _open(self, newest: int) -> Snapshot:
        """Return the newest snapshot that agrees with the chain; without one, the empty sequence."""
        number = newest - newest % layout.SNAPSHOT_EVERY
        while number > 0:
            snapshot = self._snapshot(number)
            if snapshot is not None:
                return snapshot
            number -= layout.SNAPSHOT_EVERY
        return Snapshot(self._store_id)

    def _snapshot(self, number: int) -> Snapshot | None:
        path = layout.snapshot_path(number)
        try:
            raw = self._storage.read(path)
        except NotFoundError:
            return None
        found = self._read(number)
        if found is None:
            raise _missing_seal(number, self._storage.url)
        try:
            snapshot = decode_snapshot(path, raw, *found)
        except (IntegrityError, FormatError) as error:
            logger.warning("%s", error)
            return None
        return snapshot if snapshot.store_id == self._store_id else None

    def _newest_number(self) -> int:
        """Find the last seal by asking for names: numbers are dense, so doubling and halving find it."""
        low, step = 0, 1
        while self._exists(low + step):
            low += step
            step *= 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._exists(middle):
                low = middle
            else:
                high = middle
        # A seal that is gone must not pass for the end: the next one would contradict those behind it.
        for step in _PROBES:
            if self._exists(low + step) and not self._exists(low + 1):
                raise _missing_seal(low + 1, self._storage.url)
        return low

    def _exists(self, number: int) -> bool:
        return self._storage.exists(layout.seal_path(number))

    # what no seal has placed -----------------------------------------------------------------------------

    def unsealed(self, *, everywhere: bool = False) -> list[str]:
        """Return the paths of segments that are not sealed, as of the last refresh.

        Parameters
        ----------
        everywhere
            Look into every day's folder; otherwise only into those from two days before the last seal (or
            before now, by this machine's clock) on.
        """
        # Without the lock: a long listing is not to hold up those who append, read or seal.
        return sorted(path for folder in self._day_folders(everywhere) for path in self._left_in(folder))

    def _left_in(self, folder: str) -> list[str]:
        """Return what is not sealed of a folder; one that did not change since is not listed again."""
        changed = self._changed(folder)
        known = self._left.get(folder)
        if known is not None and known[0] == changed:
            paths = known[1]
        else:
            paths = [entry.path for entry in self._storage.files(folder)]
        left = [path for path in paths if path not in self._sealed_paths and layout.parse_segment(path)]
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

    def _day_folders(self, everywhere: bool) -> Iterator[str]:
        now = self._now
        if everywhere or now is None or now.sealed_at is None:
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

    def segment(self, path: str) -> Segment | None:
        """Return what is known of an unsealed segment; None if it is unreadable. Cheaper than `describe`."""
        with self._lock:
            met = self._met.get(path)
        if met is not None:
            return met
        known = self.describe(path)
        return known[0] if known is not None else None

    def describe(self, path: str) -> tuple[Segment, list[bytes]] | None:
        """Return what is known of an unsealed segment and its event hashes; None if it is unreadable."""
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

    # sealing ---------------------------------------------------------------------------------------------

    def offer(self, segment: Segment, hashes: list[bytes]) -> None:
        """Make a segment of our own known, so that sealing need not read it."""
        with self._lock:
            if segment.path in self._sealed_paths:
                return
            self._forget_hashes(segment.path)
            self._met[segment.path] = segment
            self._hashes[segment.path] = hashes
            self._hash_count += len(hashes)
            while self._hash_count > _MOST_HASHES and len(self._hashes) > 1:
                self._forget_hashes(next(iter(self._hashes)))

    def seal(self, *, look: bool = True, everywhere: bool = False) -> Head:
        """Place every durable segment that can be placed, and return where the log ends.

        A writer's segments are placed in its order; one whose predecessor is not there yet waits. A second
        segment with the same events (put again after a lost reply) is passed over.

        Parameters
        ----------
        look
            Look for segments of others; otherwise place those that were offered or met before.
        everywhere
            Look into every day's folder; see `unsealed`.

        Raises
        ------
        StorageError
            Storage refused, or has no atomic put-if-absent and this is not the single sealer.
        IntegrityError
            The chain is broken.
        """
        with self._lock, self._turn():
            for _ in range(_MOST_RACES):
                now = self.refresh()
                seal = self._next_seal(now, self._candidates(look, everywhere))
                if seal is None:
                    return Head(now.peaks.size, now.number, now.peaks.root())
                if self._put(now, seal):
                    return self.head()
        raise StorageError(
            f"no free seal number was found in {_MOST_RACES} tries at {self._storage.url}; seal again",
            code="seal_races",
            transient=True,
        )

    def _candidates(self, look: bool, everywhere: bool) -> Iterable[str]:
        found = self.unsealed(everywhere=everywhere) if look or everywhere else []
        return sorted({*found, *self._met})

    @staticmethod
    def _is_repeat(now: Snapshot, path: str) -> bool:
        """Whether the name alone says that the segment's events are sealed from another file."""
        name = layout.parse_segment(path)
        return name is not None and name.first_sequence < now.writers.get(name.writer, 0)

    def _in_order(self, now: Snapshot, paths: Iterable[str]) -> Iterator[tuple[Segment, list[bytes]]]:
        """Yield the segments that can be placed after `now`, in order, one at a time."""
        known = [
            segment
            for path in paths
            if not self._is_repeat(now, path) and (segment := self.segment(path)) is not None
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

    def _next_seal(self, now: Snapshot, paths: Iterable[str]) -> Seal | None:
        peaks, placed = now.peaks.copy(), []
        for segment, hashes in self._in_order(now, paths):
            placed.append(replace(segment, first_position=Position(peaks.size)))
            peaks.extend(hashes)
        if not placed:
            return None
        return Seal(
            number=now.number + 1,
            previous=now.digest,
            store_id=self._store_id,
            sealed_at=dt.datetime.fromtimestamp(self._clock() / 1e6, dt.UTC).isoformat(),
            software=self._software,
            segments=tuple(placed),
            size=peaks.size,
            peaks=peaks.peaks,
            root=peaks.root(),
            entries=entries_digest(now.entries, placed),
        )

    def _put(self, now: Snapshot, seal: Seal) -> bool:
        """Put the seal and go on after it; False if its number is taken."""
        if not self._searched and not self._search(now):
            return False
        digest, raw = seal.encode()
        path = layout.seal_path(seal.number)
        if self._single_sealer and not self._storage.abilities.atomic_create:
            if self._storage.exists(path):
                return False
            self._storage.put(path, raw)
        elif not self._storage.create(path, raw):
            return False
        after = self._take_over(now.then([(digest, seal)]))
        if after.number % layout.SNAPSHOT_EVERY == 0:
            self._write_snapshot(after)
        return True

    def _search(self, now: Snapshot) -> bool:
        """Look once for seals beyond the head, which a hole in the chain would hide; False if it moved on.

        A hole that is wider than the probes reach passes for the end of the log. Reading what is before
        it does no harm, but a seal that is put into it gives positions a second time.
        """
        entries = self._storage.files(layout.SEALS)
        newest = max((layout.parse_seal(entry.path) or 0 for entry in entries), default=0)
        if newest > now.number:
            if not self._exists(now.number + 1):
                raise _missing_seal(now.number + 1, self._storage.url)
            return False
        self._searched = True
        return True

    def _write_snapshot(self, now: Snapshot) -> None:
        try:
            self._storage.put(layout.snapshot_path(now.number), encode_snapshot(now))
        except StorageError as error:
            logger.warning("the seal stands, its snapshot was not written: %s", error)
            return
        # The one before serves whoever is opening now; what is older has no use.
        old = now.number - 2 * layout.SNAPSHOT_EVERY
        try:
            while old > 0 and self._storage.exists(layout.snapshot_path(old)):
                self._storage.delete(layout.snapshot_path(old))
                old -= layout.SNAPSHOT_EVERY
        except StorageError as error:
            logger.warning("an old snapshot was not deleted, which does no harm: %s", error)

    def level_is_sealed(self, event: EventId) -> bool:
        """Whether the event has a position, as of the last refresh."""
        return event.sequence < self.sealed_end(event.writer)


def _missing_seal(number: int, url: str) -> IntegrityError:
    return seal_damaged(layout.seal_path(number), f"it is not there, in {url}")
