"""The sequence of the log: where its chain of seals stands, and the next link.

Opening reads the newest snapshot and the seals after it, not history. Anyone may seal: whoever puts the
next number first wins, and the others usually find their work done.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from eventstore import layout
from eventstore.errors import EventStoreError, IntegrityError, NotFoundError, StorageError
from eventstore.filesystem import Storage
from eventstore.ids import Digest, EventId, Position, WriterId
from eventstore.merkle import Peaks
from eventstore.seal import (
    GENESIS,
    Seal,
    Snapshot,
    decode_seal,
    decode_snapshot,
    encode_snapshot,
    seal_damaged,
)
from eventstore.segment import Segment, describe

__all__ = ["Head", "SealSequence"]

logger = logging.getLogger(__name__)
_MOST_RACES = 1000
_PROBES = (2, 4, 10)
"""How far behind the last seal to look for others, which would show that one between is gone."""


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
        self._sealed_at: dt.datetime | None = None
        self._described: dict[str, tuple[Segment, list[bytes]]] = {}
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
                self._sealed_paths = {segment.path for segment in now.segments}
            while (found := self._read(now.number + 1)) is not None:
                now = self._follow(now, *found)
            if now.number < newest:
                raise _missing_seal(now.number + 1, self._storage.url)
            self._now = now
            return now

    def head(self) -> Head:
        """Return where the sealed log ends now."""
        now = self.refresh()
        return Head(now.peaks.size, now.number, now.peaks.root())

    def sealed_end(self, writer: str) -> int:
        """One past the last sealed sequence of `writer`, as of the last refresh."""
        with self._lock:
            now = self._now or self.refresh()
            return now.writers.get(WriterId(writer), 0)

    def _follow(self, now: Snapshot, digest: Digest, seal: Seal) -> Snapshot:
        after = now.then(digest, seal, layout.seal_path(seal.number))
        self._sealed_paths.update(segment.path for segment in seal.segments)
        for segment in seal.segments:
            self._described.pop(segment.path, None)
        self._sealed_at = dt.datetime.fromisoformat(seal.sealed_at)
        return after

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
        return Snapshot(number=0, digest=GENESIS, store_id=self._store_id, peaks=Peaks())

    def _snapshot(self, number: int) -> Snapshot | None:
        path = layout.snapshot_path(number)
        try:
            snapshot = decode_snapshot(path, self._storage.read(path))
        except NotFoundError:
            return None
        except IntegrityError as error:
            logger.warning("%s", error)
            return None
        found = self._read(number)
        if found is None:
            raise _missing_seal(number, self._storage.url)
        digest, seal = found
        known = (snapshot.digest, snapshot.number, snapshot.store_id, snapshot.peaks.peaks)
        if known != (digest, number, self._store_id, seal.peaks) or snapshot.peaks.size != seal.size:
            logger.warning("the snapshot %r disagrees with its seal; it is not used", path)
            return None
        self._sealed_at = dt.datetime.fromisoformat(seal.sealed_at)
        return snapshot

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
        with self._lock:
            found = [
                path
                for folder in self._day_folders(everywhere)
                for entry in self._storage.files(folder)
                if (path := entry.path) not in self._sealed_paths and layout.parse_segment(path)
            ]
        return sorted(found)

    def _day_folders(self, everywhere: bool) -> Iterator[str]:
        if everywhere or self._sealed_at is None:
            yield layout.SEGMENTS
            return
        today = dt.datetime.fromtimestamp(self._clock() / 1e6, dt.UTC)
        first = min(today, self._sealed_at) - dt.timedelta(days=2)
        start = f"{layout.SEGMENTS}/{layout.segment_day(first)}"
        for year in self._storage.folders(layout.SEGMENTS):
            if year < start[: len(year)]:
                continue
            for month in self._storage.folders(year):
                if month < start[: len(month)]:
                    continue
                yield from (day for day in self._storage.folders(month) if day >= start)

    def describe(self, path: str) -> tuple[Segment, list[bytes]] | None:
        """Return what is known of an unsealed segment and its event hashes; None if it is unreadable."""
        with self._lock:
            if path in self._described:
                return self._described[path]
            if path in self._refused:
                return None
        try:
            known = describe(self._storage, path)
        except NotFoundError:
            return None
        except StorageError:
            raise
        except EventStoreError as error:
            logger.warning("an unsealed segment is left out: %s", error)
            with self._lock:
                self._refused[path] = error
            return None
        with self._lock:
            return self._described.setdefault(path, known)

    # sealing ---------------------------------------------------------------------------------------------

    def offer(self, segment: Segment, hashes: list[bytes]) -> None:
        """Make a segment of our own known, so that sealing need not read it."""
        with self._lock:
            if segment.path not in self._sealed_paths:
                self._described[segment.path] = (segment, hashes)

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
            Storage refused, or has no atomic put-if-absent and no guard was given.
        IntegrityError
            The chain is broken.
        """
        with self._lock, self._turn():
            for _ in range(_MOST_RACES):
                now = self.refresh()
                chosen = self._in_order(now, self._candidates(look, everywhere))
                if not chosen:
                    return Head(now.peaks.size, now.number, now.peaks.root())
                if self._put(now, chosen):
                    return self.head()
        raise StorageError(
            f"no free seal number was found in {_MOST_RACES} tries at {self._storage.url}; seal again",
            code="seal_races",
            transient=True,
        )

    def _candidates(self, look: bool, everywhere: bool) -> Iterable[str]:
        found = self.unsealed(everywhere=everywhere) if look or everywhere else []
        return sorted({*found, *self._described})

    @staticmethod
    def _is_repeat(now: Snapshot, path: str) -> bool:
        """Whether the name alone says that the segment's events are sealed from another file."""
        name = layout.parse_segment(path)
        return name is not None and name.first_sequence < now.writers.get(name.writer, 0)

    def _in_order(self, now: Snapshot, paths: Iterable[str]) -> list[tuple[Segment, list[bytes]]]:
        known = [
            item
            for path in paths
            if not self._is_repeat(now, path) and (item := self.describe(path)) is not None
        ]
        known.sort(key=lambda item: (item[0].recorded_from_us, item[0].writer, item[0].first_sequence))
        ends = dict(now.writers)
        chosen = []
        for segment, hashes in known:
            if segment.first_sequence == ends.get(segment.writer, 0):
                ends[segment.writer] = segment.end_sequence
                chosen.append((segment, hashes))
        return chosen

    def _put(self, now: Snapshot, chosen: Sequence[tuple[Segment, list[bytes]]]) -> bool:
        peaks, placed = now.peaks.copy(), []
        for segment, hashes in chosen:
            placed.append(replace(segment, first_position=Position(peaks.size)))
            peaks.extend(hashes)
        seal = Seal(
            number=now.number + 1,
            previous=now.digest,
            store_id=self._store_id,
            sealed_at=dt.datetime.fromtimestamp(self._clock() / 1e6, dt.UTC).isoformat(),
            software=self._software,
            segments=tuple(placed),
            size=peaks.size,
            peaks=peaks.peaks,
            root=peaks.root(),
        )
        digest, raw = seal.encode()
        path = layout.seal_path(seal.number)
        if self._single_sealer and not self._storage.abilities.atomic_create:
            if self._storage.exists(path):
                return False
            self._storage.put(path, raw)
        elif not self._storage.create(path, raw):
            return False
        self._now = after = self._follow(now, digest, seal)
        if after.number % layout.SNAPSHOT_EVERY == 0:
            self._write_snapshot(after)
        return True

    def _write_snapshot(self, now: Snapshot) -> None:
        try:
            self._storage.put(layout.snapshot_path(now.number), encode_snapshot(now))
        except StorageError as error:
            logger.warning("the seal stands, its snapshot was not written: %s", error)

    def level_is_sealed(self, event: EventId) -> bool:
        """Whether the event has a position, as of the last refresh."""
        return event.sequence < self.sealed_end(event.writer)


def _missing_seal(number: int, url: str) -> IntegrityError:
    return seal_damaged(layout.seal_path(number), f"it is not there, in {url}")
