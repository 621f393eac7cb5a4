"""Proof that nothing was altered: hashes, chain, tree, positions, values, journals, read from the files.

Verification trusts nothing that it can recompute and changes nothing. It goes on after a finding, so one
damaged file does not hide another.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from eventstore import layout
from eventstore.codec.canonical import event_hashes
from eventstore.errors import EventStoreError, FormatError, IntegrityError, NotFoundError
from eventstore.filesystem import Storage
from eventstore.ids import WriterId
from eventstore.journal import JournalFolder, read_journal
from eventstore.merkle import Peaks
from eventstore.seal import GENESIS, Seal, Snapshot, decode_seal, decode_snapshot, seal_damaged
from eventstore.segment import KindCount, Segment, check_bytes, damaged, describe, missing, read_segment
from eventstore.value_store import ValueStore

__all__ = ["Finding", "Severity", "VerifyReport", "verify_store"]


class Severity(StrEnum):
    """What a finding asks for."""

    ERROR = "error"
    """Something that was acknowledged is altered or gone."""
    WARNING = "warning"
    """Nothing is lost; something should be looked at, or waits to be done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, with the file and, where known, the first position."""

    code: str
    severity: Severity
    path: str
    position: int | None
    message: str


@dataclass(slots=True)
class VerifyReport:
    """What was found, and how much was read."""

    findings: list[Finding] = field(default_factory=list)
    seals: int = 0
    snapshots: int = 0
    segments: int = 0
    events: int = 0
    unsealed_segments: int = 0
    journaled_events: int = 0
    values: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    size: int = 0
    root: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not any(finding.severity is Severity.ERROR for finding in self.findings)


def verify_store(
    storage: Storage,
    *,
    store_id: str,
    folder: JournalFolder | None = None,
    check_values: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check every file of a store, and report all that is wrong.

    Parameters
    ----------
    folder
        Journals of this machine, if they are to be checked too.
    check_values
        Read every large value and compare it with its digest.
    progress
        Called with (events checked, events in all).
    """
    return _Verification(storage, store_id, folder, progress).run(check_values=check_values)


@dataclass(slots=True)
class _Facts:
    """What a seal says of a segment so that readers can skip it, collected from its rows."""

    kinds: Counter[tuple[str, int]] = field(default_factory=Counter)
    times: list[int] = field(default_factory=list)

    def add(self, table: pa.Table) -> None:
        for row in table.group_by(["kind", "version"]).aggregate([([], "count_all")]).to_pylist():
            self.kinds[row["kind"], row["version"]] += row["count_all"]
        self.times.extend(pc.min_max(table["recorded_at"].cast(pa.int64())).as_py().values())

    def are_those_of(self, segment: Segment) -> bool:
        kinds = tuple(sorted(KindCount(*kind, count) for kind, count in self.kinds.items()))
        span = (segment.recorded_from_us, segment.recorded_to_us)
        return kinds == segment.kinds and span == (min(self.times), max(self.times))


class _Verification:
    def __init__(
        self,
        storage: Storage,
        store_id: str,
        folder: JournalFolder | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._storage = storage
        self._store_id = store_id
        self._folder = folder
        self._progress = progress or (lambda _done, _all: None)
        self._report = VerifyReport()
        self._digests: dict[str, tuple[int, int | None]] = {}

    def run(self, *, check_values: bool) -> VerifyReport:
        started = time.perf_counter()
        report = self._report
        self._check_names()
        seals = list(self._chain())
        whole = not any(finding.severity is Severity.ERROR for finding in self._report.findings)
        sealed = self._check_segments(seals)
        self._check_snapshots(seals, whole=whole)
        self._check_unsealed(sealed, seals)
        self._check_journals()
        if check_values:
            self._check_values()
        report.seconds = time.perf_counter() - started
        return report

    def _found(
        self,
        error: EventStoreError,
        *,
        position: int | None = None,
        severity: Severity = Severity.ERROR,
    ) -> None:
        path = str(error.facts.get("path", ""))
        self._report.findings.append(Finding(error.code, severity, path, position, error.message))

    def _read(self, path: str) -> bytes:
        raw = self._storage.read(path)
        self._report.bytes_read += len(raw)
        return raw

    # names -----------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        known = (
            layout.parse_segment,
            layout.parse_seal,
            layout.parse_snapshot,
            layout.parse_value,
        )
        for entry in self._storage.files("", temporary=True):
            path = entry.path
            if path == layout.STORE_FILE or path.startswith(f"{layout.PROJECTIONS}/"):
                continue
            if not any(parse(path) for parse in known):
                self._found(
                    FormatError(
                        f"a file of the format was expected, found {path!r}: no reader looks at it; move "
                        "it out of the store, or delete it if it is a leftover of a killed process",
                        code="foreign_file",
                        path=path,
                    ),
                    severity=Severity.WARNING,
                )

    # the chain -------------------------------------------------------------------------------------------

    def _chain(self) -> Iterator[tuple[Seal, Snapshot]]:
        """Yield each seal that follows, with the sequence after it; stops at the first that does not."""
        numbers = [
            number
            for entry in self._storage.files(layout.SEALS)
            if (number := layout.parse_seal(entry.path)) is not None
        ]
        now = Snapshot(number=0, digest=GENESIS, store_id=self._store_id, peaks=Peaks())
        for number in numbers:
            path = layout.seal_path(number)
            try:
                if number != now.number + 1:
                    absent = layout.seal_path(now.number + 1)
                    raise seal_damaged(absent, f"it is not there, and {path!r} is")
                digest, seal = decode_seal(path, self._read(path))
                now = now.then(digest, seal, path)
            except EventStoreError as error:
                self._found(error, position=now.peaks.size)
                return
            self._report.seals += 1
            self._report.size, self._report.root = now.peaks.size, seal.root
            yield seal, now

    def _check_snapshots(self, seals: list[tuple[Seal, Snapshot]], *, whole: bool) -> None:
        """Compare snapshots with the chain; where that is `whole`, none goes beyond its end."""
        after = {seal.number: now for seal, now in seals}
        for entry in self._storage.files(layout.SEALS):
            number = layout.parse_snapshot(entry.path)
            if number is None:
                continue
            self._report.snapshots += 1
            try:
                snapshot = decode_snapshot(entry.path, self._read(entry.path))
                expected = after.get(number)
                if expected is None and whole:
                    raise seal_damaged(
                        layout.seal_path(number), f"it is not there, and {entry.path!r} sums it up"
                    )
                if expected is not None and (
                    snapshot.digest != expected.digest
                    or snapshot.peaks.peaks != expected.peaks.peaks
                    or snapshot.segments != expected.segments
                    or dict(snapshot.writers) != dict(expected.writers)
                ):
                    raise IntegrityError(
                        f"the snapshot {entry.path!r} was expected to sum up the seals to {number}, found "
                        "something else; delete it, the seals serve without it",
                        code="snapshot_damaged",
                        path=entry.path,
                    )
            except EventStoreError as error:
                self._found(error)

    # segments --------------------------------------------------------------------------------------------

    def _check_segments(self, seals: list[tuple[Seal, Snapshot]]) -> set[str]:
        """Recompute every event hash and every root; returns the paths of all sealed segments."""
        peaks: Peaks | None = Peaks()
        paths = set()
        for seal, _ in seals:
            for segment in seal.segments:
                paths.add(segment.path)
                hashes = self._check_segment(segment)
                if peaks is not None and hashes is not None and len(hashes) == segment.count:
                    peaks.extend(hashes)
                else:
                    peaks = None
                self._progress(self._report.events, self._report.size)
            if peaks is None:
                # A segment is damaged and named; from the next seal on the tree goes on from its peaks.
                peaks = Peaks(seal.size, seal.peaks)
            elif peaks.root() != seal.root:
                self._found(
                    seal_damaged(
                        layout.seal_path(seal.number),
                        f"the events up to position {seal.size} have the root {peaks.root().hex()}, not "
                        f"{seal.root.hex()}",
                    ),
                    position=seal.size - sum(segment.count for segment in seal.segments),
                )
                peaks = Peaks(seal.size, seal.peaks)
        return paths

    def _check_segment(self, segment: Segment) -> list[bytes] | None:
        path, first = segment.path, segment.first_position
        try:
            raw = self._read(path)
        except EventStoreError as error:
            lost = missing(path, self._storage.url) if isinstance(error, NotFoundError) else error
            self._found(lost, position=first)
            return None
        self._report.segments += 1
        whole_file: EventStoreError | None = None
        try:
            check_bytes(path, raw)
        except EventStoreError as error:
            whole_file = error
        hashes, position, fault = self._check_rows(segment, raw)
        worst = whole_file or fault
        if worst is not None:
            self._found(worst, position=position)
        return None if fault is not None else hashes

    def _check_rows(self, segment: Segment, raw: bytes) -> tuple[list[bytes], int, EventStoreError | None]:
        """Return the event hashes of a sealed segment, and its first fault with its position."""
        path, position = segment.path, segment.first_position or 0
        hashes: list[bytes] = []
        facts = _Facts()
        try:
            for start, table in read_segment(self._storage, path, raw=raw):
                recomputed = event_hashes(table)
                bad = self._bad_row(segment, start, table, recomputed)
                if bad is not None:
                    position += bad[0]
                    return hashes, position, damaged(path, f"the event at position {position} {bad[1]}")
                hashes += recomputed
                facts.add(table)
                self._note_values(table, position)
                position += table.num_rows
        except EventStoreError as error:
            return hashes, position, error
        except Exception as error:
            # Bytes that were altered can break a decoder in any way; the other files are to be read too.
            return hashes, position, damaged(path, repr(error))
        finally:
            self._report.events += len(hashes)
        fault = None
        if len(hashes) != segment.count:
            fault = damaged(path, f"it holds {len(hashes)} events where {segment.count} were sealed")
        elif not facts.are_those_of(segment) or len(raw) != segment.size_bytes:
            fault = damaged(path, "its kinds, times or size are not those that its seal states")
        return hashes, segment.first_position or 0, fault

    def _bad_row(
        self, segment: Segment, start: int, table: pa.Table, hashes: Sequence[bytes]
    ) -> tuple[int, str] | None:
        """Return the first row that is wrong, and how; `hashes` are those that the rows should have."""
        sequence = segment.first_sequence + start
        expected = pa.chunked_array([pa.arange(sequence, sequence + table.num_rows)])
        leaves = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(hashes), [None, pa.py_buffer(b"".join(hashes))]
        )
        checks = [
            (pc.equal(table["writer"], segment.writer), f"is not by the writer {segment.writer}"),
            (pc.equal(table["sequence"], expected), "is out of sequence"),
            (pc.equal(table["event_hash"], leaves), "does not have the hash that is stored with it"),
        ]
        worst: tuple[int, str] | None = None
        for good, words in checks:
            row = pc.index(good, False).as_py()
            if row < 0 and good.null_count:
                row = pc.index(good.is_null(), True).as_py()
            if row >= 0 and (worst is None or row < worst[0]):
                worst = (row, words)
        return worst

    def _note_values(self, table: pa.Table, position: int | None) -> None:
        """Note which large values the rows mention; `position` is that of the first, where it has one."""
        column = table["data_digest"]
        if column.null_count == len(column):
            return
        for row, (digest, size) in enumerate(
            zip(column.to_pylist(), table["size_bytes"].to_pylist(), strict=True)
        ):
            if digest is not None:
                self._digests.setdefault(digest, (size, None if position is None else position + row))

    # what is not sealed ----------------------------------------------------------------------------------

    def _check_unsealed(self, sealed: set[str], seals: list[tuple[Seal, Snapshot]]) -> None:
        ends = dict(seals[-1][1].writers) if seals else {}
        waiting: list[Segment] = []
        for entry in self._storage.files(layout.SEGMENTS):
            name = layout.parse_segment(entry.path)
            if name is None or entry.path in sealed:
                continue
            self._report.unsealed_segments += 1
            try:
                segment, _ = describe(self._storage, entry.path)
                self._report.bytes_read += segment.size_bytes
                for start, table in read_segment(self._storage, entry.path):
                    bad = self._bad_row(segment, start, table, event_hashes(table))
                    if bad is not None:
                        raise damaged(entry.path, f"the event in row {start + bad[0]} {bad[1]}")
                    self._note_values(table, None)
            except EventStoreError as error:
                self._found(error)
                continue
            waiting.append(segment)
            if segment.first_sequence < ends.get(segment.writer, 0):
                code, words = "duplicate_segment", "its events are sealed from another file; delete it"
            else:
                code, words = "unsealed_segment", "run `eventstore seal --everywhere` to place its events"
            self._found(
                IntegrityError(
                    f"the segment {entry.path!r} is whole and not sealed: {words}",
                    code=code,
                    path=entry.path,
                ),
                severity=Severity.WARNING,
            )
        self._check_gaps(ends, waiting)

    def _check_gaps(self, ends: dict[WriterId, int], waiting: list[Segment]) -> None:
        """Report unsealed segments that wait for one before them, which is not there."""
        for segment in sorted(waiting, key=lambda segment: (segment.writer, segment.first_sequence)):
            end = ends.get(segment.writer, 0)
            if segment.first_sequence > end and not self._is_there(segment.writer, end):
                self._found(
                    NotFoundError(
                        f"a segment with the events {end} to {segment.first_sequence - 1} of the writer "
                        f"{segment.writer} was expected before {segment.path!r}, found none; restore it from "
                        "a copy, or open the store on the machine that wrote it, then seal",
                        code="sequence_gap",
                        path=segment.path,
                    )
                )
            ends[segment.writer] = max(end, segment.end_sequence)

    def _is_there(self, writer: str, sequence: int) -> bool:
        """Whether a segment has come since the listing, or is there and damaged, which is said already."""
        names = (layout.parse_segment(entry.path) for entry in self._storage.files(layout.SEGMENTS))
        return any(name and (name.writer, name.first_sequence) == (writer, sequence) for name in names)

    def _check_journals(self) -> None:
        if self._folder is None:
            return
        for path in self._folder.journals():
            try:
                content = read_journal(path)
            except EventStoreError as error:
                self._found(error)
                continue
            if content is None:
                continue
            self._report.journaled_events += len(content.rows)
            if content.torn_bytes:
                self._found(
                    IntegrityError(
                        f"the journal {path.name} ends in {content.torn_bytes} bytes of a line that was "
                        "torn before it was acknowledged; opening the store for writing recovers the rest",
                        code="journal_torn",
                        path=path.name,
                    ),
                    severity=Severity.WARNING,
                )

    # values ----------------------------------------------------------------------------------------------

    def _check_values(self) -> None:
        store = ValueStore(self._storage)
        for digest, (size, position) in self._digests.items():
            try:
                data = store.get(digest)
                self._report.values += 1
                self._report.bytes_read += len(data)
                if len(data) != size:
                    raise IntegrityError(
                        f"{size} bytes were recorded for the value {digest}, found {len(data)}",
                        code="value_digest",
                        path=layout.value_path(digest),
                    )
            except EventStoreError as error:
                self._found(error, position=position)
        for digest in store:
            if digest in self._digests:
                continue
            try:
                store.get(digest)
                self._report.values += 1
            except EventStoreError as error:
                self._found(error, severity=Severity.WARNING)
