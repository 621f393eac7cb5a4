"""Removal of files that compaction has made needless: planned as data first, done as planned, checked again.

Nothing goes before a grace period is over, nothing that the log consists of, and no original before the
file that holds its events now was read back whole. A crash at any step leaves a store that verifies.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from eventstore import layout
from eventstore.chain import Chain
from eventstore.errors import IntegrityError, NotFoundError
from eventstore.filesystem import TEMPORARY, Entry, Storage
from eventstore.layout import CompactedName
from eventstore.log.archive import archive_damaged, decode_archive
from eventstore.log.checked import CheckedSegments
from eventstore.log.packing import archives_in_use, first_kept
from eventstore.log.seal_files import stays
from eventstore.log.sequence import SealSequence
from eventstore.segment import Segment

__all__ = ["GRACE", "CleanPlan", "CleanReport", "KeepReason", "Reason", "Removal", "act", "plan"]

GRACE = dt.timedelta(hours=24)
"""How long a file stays after it has become needless: longer than any reader holds on to what it knew."""
LEAST_GRACE = dt.timedelta(hours=1)
"""The least of it, whatever was asked for, where someone may be at work: files that no seal names yet, and
seals, whose absence is how a reader knows the end of the chain (`SealSequence.refresh`)."""


class Reason(StrEnum):
    """Why a file may go."""

    REPLACED = "replaced by compaction"
    ORPHAN = "compacted, and named by no seal"
    ARCHIVED = "in an archive of seals"
    SUPERSEDED = "summed up by a later file"
    TEMPORARY = "left by a killed process"


class KeepReason(StrEnum):
    """Why a file that will go some time stays for now."""

    GRACE = "within the grace period"
    UNKNOWN_AGE = "of unknown age"


@dataclass(frozen=True, slots=True)
class Removal:
    """A file that is to go."""

    path: str
    size_bytes: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class CleanPlan:
    """What is to go, and how much stays for now although it will go some time."""

    removals: tuple[Removal, ...]
    kept: Counter[KeepReason] = field(default_factory=Counter)
    proofs: tuple[Segment, ...] = ()
    """The compacted segments which hold what the replaced files held; read back before these go."""

    @property
    def size_bytes(self) -> int:
        """Bytes that go."""
        return sum(removal.size_bytes for removal in self.removals)

    def count(self) -> Counter[Reason]:
        """Return how many files go for which reason."""
        return Counter(removal.reason for removal in self.removals)


@dataclass(slots=True)
class CleanReport:
    """What went."""

    plan: CleanPlan
    removed: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Replaced:
    """When a segment was replaced, and the positions that it holds."""

    since: dt.datetime
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class _History:
    """What the chain says of files that the log does not consist of any more, and of those that it does."""

    chain: Chain
    replaced: dict[str, _Replaced]
    compacted: dict[str, dt.datetime]
    """When each compacted file was published."""
    sealed: list[dt.datetime]
    """When each seal was put, from number 1 on."""


def plan(
    storage: Storage, sequence: SealSequence, *, clock: Callable[[], int], grace: dt.timedelta = GRACE
) -> CleanPlan:
    """Find out what may go; nothing is changed.

    Parameters
    ----------
    clock
        Microseconds of Unix time.
    grace
        How long a file stays after it has become needless: a replaced one after the seal that replaced it,
        others after they were written, and these at least `LEAST_GRACE`.

    Raises
    ------
    IntegrityError
        The chain is broken: then nothing may go.
    """
    now = dt.datetime.fromtimestamp(clock() / 1e6, dt.UTC)
    history = _history(sequence)
    planner = _Planner(history, now, grace)
    entries = storage.files("", temporary=True)
    folders = (f"{layout.SEGMENTS}/", f"{layout.COMPACTED}/")
    planner.segments(entry for entry in entries if entry.path.startswith(folders))
    kept_from = first_kept(storage, sequence.files, history.chain.number)
    seals = [entry for entry in entries if entry.path.startswith(f"{layout.SEALS}/")]
    planner.seals(seals, kept_from)
    planner.temporary(entries)
    return planner.plan()


def _history(sequence: SealSequence) -> _History:
    head = sequence.refresh()
    chain = Chain(head.store_id)
    replaced: dict[str, _Replaced] = {}
    compacted: dict[str, dt.datetime] = {}
    sealed: list[dt.datetime] = []
    for digest, seal in sequence.files.links(0, archived=True):
        before = chain.segments
        chain.follow(digest, seal)
        sealed.append(seal.moment)
        for segment in seal.compacted:
            compacted[segment.path] = seal.moment
            run = before.run(segment.first_position or 0, segment.end_position)
            for old in before[run]:
                replaced[old.path] = _Replaced(seal.moment, old.first_position or 0, old.end_position)
    if chain.number < head.number:
        raise IntegrityError(
            f"{head.number} seals were expected, found the first {chain.number}: nothing is removed while "
            "some are missing; run `eventstore verify`",
            code="seal_damaged",
            path=layout.seal_path(chain.number + 1),
        )
    return _History(chain, replaced, compacted, sealed)


class _Planner:
    def __init__(self, history: _History, now: dt.datetime, grace: dt.timedelta) -> None:
        self._history = history
        self._now = now
        self._grace = max(grace, dt.timedelta(0))
        self._present = {segment.path for segment in history.chain.segments}
        self._removals: list[Removal] = []
        self._proofs: dict[str, Segment] = {}
        self._kept: Counter[KeepReason] = Counter()

    def plan(self) -> CleanPlan:
        return CleanPlan(tuple(self._removals), self._kept, tuple(self._proofs.values()))

    def _is_over(self, since: dt.datetime | None, *, least: dt.timedelta = LEAST_GRACE) -> bool:
        """Whether the grace of a file is over; if not, counts it among those that stay for now."""
        if since is None:
            self._kept[KeepReason.UNKNOWN_AGE] += 1
        elif self._now - since < max(self._grace, least):
            self._kept[KeepReason.GRACE] += 1
        else:
            return True
        return False

    def _remove(self, entry: Entry, reason: Reason) -> None:
        self._removals.append(Removal(entry.path, entry.size_bytes, reason))

    def segments(self, entries: Iterable[Entry]) -> None:
        """Segments that were replaced. What no seal names of a writer waits for one, or for a person."""
        for entry in entries:
            known, name = self._history.replaced.get(entry.path), layout.parse_compacted(entry.path)
            if entry.path in self._present:
                continue
            if known is not None:
                if self._is_over(known.since, least=dt.timedelta(0)):
                    self._remove(entry, Reason.REPLACED)
                    covering = self._history.chain.segments.covering(known.first, known.end)
                    self._proofs |= {segment.path: segment for segment in covering}
            elif name is not None and self._is_over(_written(entry) or self._outrun(name)):
                self._remove(entry, Reason.ORPHAN)

    def _outrun(self, name: CompactedName) -> dt.datetime | None:
        """Return when others had compacted all that a file holds, for places that tell no times."""
        covering = self._history.chain.segments.covering(name.first_position, name.end_position)
        times = [self._history.compacted.get(segment.path) for segment in covering]
        return max((time for time in times if time is not None), default=None) if all(times) else None

    def seals(self, entries: list[Entry], kept_from: int) -> None:
        """Seals that lie in archives, archives that lie in longer ones, snapshots before the last two."""
        names = [name for entry in entries if (name := layout.parse_archive(entry.path)) is not None]
        used = archives_in_use(sorted(names))
        archived = used[-1].last if used else 0
        needed = stays(self._history.chain.number)
        for entry in entries:
            number, archive = layout.parse_seal(entry.path), layout.parse_archive(entry.path)
            snapshot = layout.parse_snapshot(entry.path)
            if number is not None and number < kept_from and number <= archived and number not in needed:
                # Their times never decrease: so those that go are the first ones, without a gap.
                if self._is_over(self._history.sealed[number - 1]):
                    self._remove(entry, Reason.ARCHIVED)
            elif archive is not None and archive not in used and archive.last <= archived:
                if self._is_over(_written(entry)):
                    self._remove(entry, Reason.SUPERSEDED)
            elif snapshot is not None and snapshot < kept_from and self._is_over(_written(entry)):
                self._remove(entry, Reason.SUPERSEDED)

    def temporary(self, entries: Iterable[Entry]) -> None:
        """Half-written files of processes that were killed, those of tables too."""
        for entry in entries:
            if entry.path.rpartition("/")[2].startswith(TEMPORARY) and self._is_over(_written(entry)):
                self._remove(entry, Reason.TEMPORARY)


def _written(entry: Entry) -> dt.datetime | None:
    if entry.modified_at is None:
        return None
    return dt.datetime.fromtimestamp(entry.modified_at, dt.UTC)


# acting ---------------------------------------------------------------------------------------------------


def act(
    storage: Storage,
    sequence: SealSequence,
    to_do: CleanPlan,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> CleanReport:
    """Remove what a plan says, after it was checked again.

    Every compacted segment that holds what a removed file held is compared with its digest, and every
    archive with the seals that are to go.

    Parameters
    ----------
    progress
        Called with (files removed, files to remove).

    Raises
    ------
    IntegrityError
        What is to stay is damaged (code ``segment_damaged`` or ``archive_damaged``): nothing was removed.
    StorageError
        Storage refused; what is left goes with the next plan.
    """
    present = {segment.path for segment in sequence.refresh().segments}
    checked = CheckedSegments(storage)
    for segment in to_do.proofs:
        if segment.path in present:
            checked.ensure(segment.path)
    seals = [one for one in to_do.removals if one.reason is Reason.ARCHIVED]
    _check_archived(storage, sequence, seals)
    report = CleanReport(to_do)
    # Seals in order: whoever meets a gap then knows that all before it went too. Archives after them.
    others = [one for one in to_do.removals if one.reason is not Reason.ARCHIVED]
    for removal in [*sorted(seals, key=lambda one: one.path), *others]:
        if removal.path not in present:
            storage.delete(removal.path)
            report.removed += 1
            report.size_bytes += removal.size_bytes
            if progress is not None:
                progress(report.removed, len(to_do.removals))
    return report


def _check_archived(storage: Storage, sequence: SealSequence, seals: list[Removal]) -> None:
    """Compare the seals that are to go with the archives that stay."""
    numbers = {layout.parse_seal(one.path) or 0: one.path for one in seals}
    if not numbers:
        return
    for name in archives_in_use(sequence.files.archives.names()):
        path = layout.archive_path(name.first, name.last)
        inside = [number for number in numbers if name.first <= number <= name.last]
        if inside:
            _check_archive(storage, path, {number: numbers.pop(number) for number in inside})
    if numbers:
        raise NotFoundError(
            f"archives of the seals {min(numbers)} to {max(numbers)} were expected, found none any more; "
            "plan again. Nothing was removed",
            code="archive_missing",
        )


def _check_archive(storage: Storage, path: str, seals: dict[int, str]) -> None:
    lines = decode_archive(path, storage.read(path))
    for number, seal in seals.items():
        try:
            raw = storage.read(seal)
        except NotFoundError:
            continue  # someone else is cleaning
        if lines[number] != raw:
            raise archive_damaged(path, f"its number {number} is not the seal beside it; nothing was removed")
