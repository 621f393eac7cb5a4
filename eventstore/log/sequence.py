"""The sequence of the log: where its chain of seals stands, and the next link.

Opening reads the newest snapshot and the seals after it, not history. Anyone may seal: whoever puts the
next number first wins, and the others usually find their work done.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from eventstore import layout
from eventstore.chain import Snapshot, entries_digest
from eventstore.errors import InvalidEventError, StorageError
from eventstore.filesystem import Storage
from eventstore.ids import Digest, EventId, Position, WriterId
from eventstore.log.seal_files import SealFiles, missing_seal, witness
from eventstore.log.unsealed import UnsealedSegments, is_sealed
from eventstore.merkle import Peaks
from eventstore.seal import Seal
from eventstore.segment import Segment, missing

__all__ = ["Head", "SealSequence"]

_MOST_RACES = 1000
_MOST_HEADS = 1_000
"""So many earlier heads are kept in memory, so that each is read once."""
_AWAKE_SECONDS = 60.0
"""How long after a look at the head its successor cannot have come and gone into an archive; see `clean`."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the sealed log ends.

    `size` events; the newest seal's `number` (0 where there is none) and `digest`; the `root` of the tree.
    """

    size: int
    number: int
    digest: Digest
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
        Microseconds of Unix time, for the day folders to look into and for ``sealed_at``.
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
        self._looked_at = float("-inf")
        self._searched = False
        self._heads: dict[int, Head] = {}
        self._unsealed = UnsealedSegments(storage, store_id=store_id, clock=clock)
        self.files = SealFiles(storage, store_id=store_id)
        """The files of the chain."""

    # reading ---------------------------------------------------------------------------------------------

    def refresh(self) -> Snapshot:
        """Read what was sealed since the last call, and return the sequence.

        Raises
        ------
        IntegrityError
            A seal is damaged, missing or does not follow.
        """
        with self._lock:
            now = self._now
            if now is None:
                after = self._open()
            else:
                after = now.then(self.files.links(now.number))
                slept = time.monotonic() - self._looked_at > _AWAKE_SECONDS
                if slept and not self.files.is_end(after.number):
                    # What comes next is in archives only by now.
                    after = self._open(at_least=after)
            self._looked_at = time.monotonic()
            return self._take_over(after)

    def _open(self, at_least: Snapshot | None = None) -> Snapshot:
        newest = self.files.newest()
        now = self.files.open(newest)
        after = now.then(self.files.links(now.number))
        if after.number < newest:
            after = after.then(self.files.links(after.number, archived=True))
        if after.number < newest:
            raise missing_seal(after.number + 1, self._storage.url)
        if at_least is not None and after.number <= at_least.number:
            raise missing_seal(witness(at_least.number), self._storage.url)
        return after

    def _take_over(self, after: Snapshot) -> Snapshot:
        if after is not self._now:
            self._now = after
            self._unsealed.forget_sealed(after)
        return after

    def known(self) -> Snapshot:
        """Return the sequence as of the last refresh."""
        with self._lock:
            return self._now or self.refresh()

    def head(self) -> Head:
        """Return where the sealed log ends now."""
        return _head(self.refresh())

    def head_at(self, number: int) -> Head | None:
        """Return where the log ended with seal `number`; None if the chain has no such seal.

        Raises
        ------
        IntegrityError
            That seal is damaged or missing.
        """
        now = self.known()
        if number > now.number:
            now = self.refresh()
        if number == now.number:
            return _head(now)
        if not 0 <= number < now.number:
            return None
        with self._lock:
            found = self._heads.get(number)
        if found is None:
            found = self._read_head(number)
            with self._lock:
                if len(self._heads) >= _MOST_HEADS:
                    self._heads.clear()
                self._heads[number] = found
        return found

    def _read_head(self, number: int) -> Head:
        if not number:
            return _head(Snapshot(self._store_id))
        read = self.files.read(number)
        if read is None:
            raise missing_seal(number, self._storage.url)
        digest, seal = read
        return Head(seal.size, number, digest, seal.root)

    def sealed_end(self, writer: str) -> int:
        """One past the last sealed sequence of `writer`, as of the last refresh."""
        return self.known().writers.get(WriterId(writer), 0)

    def level_is_sealed(self, event: EventId) -> bool:
        """Whether the event has a position, as of the last refresh."""
        return event.sequence < self.sealed_end(event.writer)

    def size_at(self, moment: dt.datetime) -> int:
        """Return how many events were sealed at a moment: the size after the newest seal not later than it.

        The time of a seal is its sealer's, and never decreases along the chain. Reads as many seals as their
        count has binary digits.

        Raises
        ------
        InvalidEventError
            `moment` names no timezone (code ``naive_time``).
        """
        if moment.tzinfo is None:
            raise InvalidEventError(
                f"a time with a timezone was expected, found {moment.isoformat()}; add one, such as "
                "datetime.UTC",
                code="naive_time",
            )
        now = self.refresh()
        if now.sealed_at is None or moment >= dt.datetime.fromisoformat(now.sealed_at):
            return now.peaks.size
        size, low, high = 0, 0, now.number
        while high - low > 1:
            middle = (low + high) // 2
            found = self.files.read(middle)
            if found is None:
                raise missing_seal(middle, self._storage.url)
            if found[1].moment <= moment:
                size, low = found[1].size, middle
            else:
                high = middle
        return size

    # what no seal has placed -----------------------------------------------------------------------------

    def unsealed(self, *, everywhere: bool = False) -> list[str]:
        """Return the paths of segments that are not sealed, as of the last refresh.

        Those are not among them whose events are sealed from another file: their names tell.

        Parameters
        ----------
        everywhere
            Look into every day's folder; otherwise only into those from two days before the last seal (or
            before now, by this machine's clock) on.
        """
        return self._unsealed.paths(self._now or Snapshot(self._store_id), everywhere=everywhere)

    def segment(self, path: str) -> Segment | None:
        """Return what is known of an unsealed segment; None if it is unreadable. Cheaper than `describe`."""
        return self._unsealed.segment(path)

    def describe(self, path: str) -> tuple[Segment, list[bytes]] | None:
        """Return what is known of an unsealed segment and its event hashes; None if it is unreadable."""
        return self._unsealed.describe(path)

    def offer(self, segment: Segment, hashes: list[bytes]) -> None:
        """Make a segment of our own known, so that sealing need not read it."""
        with self._lock:
            if self._now is None or not is_sealed(self._now, segment.path):
                self._unsealed.offer(segment, hashes)

    # sealing ---------------------------------------------------------------------------------------------

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

        def step(now: Snapshot) -> Seal | None:
            peaks, placed = now.peaks.copy(), []
            paths = self._unsealed.candidates(now, look=look, everywhere=everywhere)
            for segment, hashes in self._unsealed.in_order(now, paths):
                placed.append(replace(segment, first_position=Position(peaks.size)))
                peaks.extend(hashes)
            if not placed:
                return None
            return self._next(now, peaks, entries_digest(now.entries, placed), segments=placed)

        return _head(self._extend(step))

    def place(self, segments: Sequence[tuple[Segment, list[bytes]]]) -> Snapshot:
        """Place just these segments, whose files are there, in this order and with one seal.

        Parameters
        ----------
        segments
            With their event hashes. One that does not go on from what is sealed of its writer is left out:
            someone else has placed its events, or some of them.

        Raises
        ------
        StorageError, IntegrityError
            As `seal`.
        """

        def step(now: Snapshot) -> Seal | None:
            peaks, placed, ends = now.peaks.copy(), [], dict[WriterId, int]()
            for segment, hashes in segments:
                if segment.first_sequence == ends.get(segment.writer, now.writers.get(segment.writer, 0)):
                    placed.append(replace(segment, first_position=Position(peaks.size)))
                    peaks.extend(hashes)
                    ends[segment.writer] = segment.end_sequence
            if not placed:
                return None
            return self._next(now, peaks, entries_digest(now.entries, placed), segments=placed)

        return self._extend(step)

    def replace(self, originals: Sequence[Segment], compacted: Segment) -> Snapshot | None:
        """Put a compacted segment, whose file is there, in the place of the segments that it was made of.

        Returns the sequence after it; None if others have replaced one of these segments meanwhile, and
        the file is of no use.

        Raises
        ------
        NotFoundError
            The compacted file is not there (code ``segment_missing``).
        StorageError, IntegrityError
            As `seal`.
        """

        def step(now: Snapshot) -> Seal | None:
            run = now.segments.run(compacted.first_position or 0, compacted.end_position)
            if now.segments[run] != list(originals):
                return None
            segments = now.segments.replaced(compacted)
            if not self._storage.exists(compacted.path):
                raise missing(compacted.path, self._storage.url)
            return self._next(now, now.peaks, segments.entries, compacted=[compacted])

        after = self._extend(step)
        run = after.segments.run(compacted.first_position or 0, compacted.end_position)
        return after if after.segments[run] == [compacted] else None

    def _extend(self, step: Callable[[Snapshot], Seal | None]) -> Snapshot:
        """Put the seal that `step` makes of the sequence, and make it anew while others are faster."""
        with self._lock, self._turn():
            for _ in range(_MOST_RACES):
                now = self.refresh()
                seal = step(now)
                if seal is None:
                    return now
                if self._put(now, seal):
                    return self.refresh()
        raise StorageError(
            f"no free seal number was found in {_MOST_RACES} tries at {self._storage.url}; seal again",
            code="seal_races",
            transient=True,
        )

    def _next(
        self,
        now: Snapshot,
        peaks: Peaks,
        entries: Digest,
        *,
        segments: Sequence[Segment] = (),
        compacted: Sequence[Segment] = (),
    ) -> Seal:
        moment = dt.datetime.fromtimestamp(self._clock() / 1e6, dt.UTC)
        if now.sealed_at is not None:
            # Clocks differ, and whoever asks where the log stood at a moment relies on the order.
            moment = max(moment, dt.datetime.fromisoformat(now.sealed_at))
        return Seal(
            number=now.number + 1,
            previous=now.digest,
            store_id=self._store_id,
            sealed_at=moment.isoformat(),
            software=self._software,
            segments=tuple(segments),
            size=peaks.size,
            peaks=peaks.peaks,
            root=peaks.root(),
            entries=entries,
            compacted=tuple(compacted),
        )

    def _put(self, now: Snapshot, seal: Seal) -> bool:
        """Put the seal and go on after it; False if its number is taken."""
        if not self._searched and not self._search(now):
            return False
        plainly = self._single_sealer and not self._storage.abilities.atomic_create
        digest = self.files.put(seal, plainly=plainly)
        if digest is None:
            return False
        if seal.number > 1 and not self.files.is_end(seal.number - 1):
            # We slept between the look and the put, while the chain went on and our number became part of
            # an archive. The file contradicts it, and nobody but us has seen it: readers know the head.
            self._storage.delete(layout.seal_path(seal.number))
            return False
        after = self._take_over(now.then([(digest, seal)]))
        if after.number % layout.SNAPSHOT_EVERY == 0:
            self.files.write_snapshot(after)
        return True

    def _search(self, now: Snapshot) -> bool:
        """Look once for seals beyond the head, which a hole in the chain would hide; False if it moved on.

        A hole that is wider than the probes reach passes for the end of the log. Reading what is before
        it does no harm, but a seal that is put into it gives positions a second time.
        """
        if self.files.newest_name() > now.number:
            if not self.files.exists(now.number + 1):
                raise missing_seal(now.number + 1, self._storage.url)
            return False
        self._searched = True
        return True


def _head(now: Snapshot) -> Head:
    return Head(now.peaks.size, now.number, now.digest, now.peaks.root())
