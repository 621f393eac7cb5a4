"""Proof that nothing was altered: hashes, chain, tree, positions, values, journals, read from the files.

Verification trusts nothing that it can recompute and changes nothing. It goes on after a finding, so one
damaged file does not hide another.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eventstore import layout
from eventstore.codec.canonical import event_hashes
from eventstore.errors import EventStoreError, FormatError, IntegrityError, NotFoundError
from eventstore.filesystem import Storage
from eventstore.ids import WriterId
from eventstore.journal import read_journal
from eventstore.journal_folder import JournalFolder
from eventstore.merkle import Peaks
from eventstore.seal import Chain, Seal, decode_seal, decode_snapshot, seal_damaged
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
        self._chain = Chain(store_id)
        self._whole = True
        """Whether every seal that is there follows."""
        self._sealed: dict[str, bool] = {}
        """For each segment that was listed, whether a seal names it."""
        self._newest_table = (0, "")
        self._digests: dict[str, tuple[int, int | None]] = {}

    def run(self, *, check_values: bool) -> VerifyReport:
        started = time.perf_counter()
        report = self._report
        self._check_names()
        self._check_log()
        self._check_snapshots()
        self._check_tables()
        self._check_unsealed()
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
            if layout.parse_segment(path) is not None:
                self._sealed[path] = False
            elif (position := layout.parse_manifest(path)) is not None:
                self._newest_table = max(self._newest_table, (position, path))
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

    def _check_log(self) -> None:
        """Check the chain and the tree link by link; nothing of a link is kept but its segments' names."""
        numbers = [
            number
            for entry in self._storage.files(layout.SEALS)
            if (number := layout.parse_seal(entry.path)) is not None
        ]
        size = self._stated_size(numbers)
        peaks = Peaks()
        for number in numbers:
            path = layout.seal_path(number)
            try:
                if number != self._chain.number + 1:
                    absent = layout.seal_path(self._chain.number + 1)
                    raise seal_damaged(absent, f"it is not there, and {path!r} is")
                digest, seal = decode_seal(path, self._read(path))
                self._chain.follow(digest, seal)
            except EventStoreError as error:
                self._whole = False
                self._found(error, position=self._chain.peaks.size)
                return
            self._report.seals += 1
            self._report.size, self._report.root = seal.size, seal.root
            peaks = self._check_segments(seal, peaks, max(size, seal.size))

    def _stated_size(self, numbers: Sequence[int]) -> int:
        """Return how many events the newest seal says there are; only to tell progress by."""
        if not numbers:
            return 0
        path = layout.seal_path(numbers[-1])
        try:
            return decode_seal(path, self._storage.read(path))[1].size
        except EventStoreError:
            return 0

    def _check_snapshots(self) -> None:
        """Compare snapshots with their seals; where the chain is whole, none goes beyond its end."""
        for entry in self._storage.files(layout.SEALS):
            number = layout.parse_snapshot(entry.path)
            if number is None:
                continue
            path = layout.seal_path(number)
            try:
                raw = self._read(entry.path)
                if number <= self._chain.number:
                    decode_snapshot(entry.path, raw, *decode_seal(path, self._storage.read(path)))
                elif self._whole and not self._storage.exists(path):
                    raise seal_damaged(path, f"it is not there, and {entry.path!r} sums it up")
            except NotFoundError:
                continue  # only the last two are kept, and someone has just written the next
            except EventStoreError as error:
                self._found(error)
            self._report.snapshots += 1

    def _check_tables(self) -> None:
        """Where the chain is whole, no table has folded events beyond its end."""
        position, path = self._newest_table
        if self._whole and position > self._report.size:
            self._found(
                seal_damaged(
                    layout.seal_path(self._chain.number + 1),
                    f"it is not there, and {path!r} stands at position {position}, beyond the "
                    f"{self._report.size} events that are sealed",
                ),
                position=self._report.size,
            )

    # segments --------------------------------------------------------------------------------------------

    def _check_segments(self, seal: Seal, before: Peaks, size: int) -> Peaks:
        """Recompute the event hashes and the root of one seal; returns the tree to go on from."""
        peaks: Peaks | None = before
        for segment in seal.segments:
            if segment.path in self._sealed:
                self._sealed[segment.path] = True
            hashes = self._check_segment(segment)
            if peaks is not None and hashes is not None and len(hashes) == segment.count:
                peaks.extend(hashes)
            else:
                peaks = None
            self._progress(self._report.events, size)
        if peaks is not None and peaks.root() == seal.root:
            return peaks
        if peaks is not None:
            self._found(
                seal_damaged(
                    layout.seal_path(seal.number),
                    f"the events up to position {seal.size} have the root {peaks.root().hex()}, not "
                    f"{seal.root.hex()}",
                ),
                position=seal.size - sum(segment.count for segment in seal.segments),
            )
        # What is wrong is named; the next seals are checked against what this one says.
        return Peaks(seal.size, seal.peaks)

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
        elif (store_id := _store_id_in(raw)) != self._store_id:
            fault = damaged(path, f"its footer names the store {store_id}, not {self._store_id}")
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

    def _check_unsealed(self) -> None:
        waiting: list[Segment] = []
        for path in [path for path, sealed in self._sealed.items() if not sealed]:
            self._report.unsealed_segments += 1
            try:
                segment, _ = describe(self._storage, path, store_id=self._store_id)
                self._report.bytes_read += segment.size_bytes
                for start, table in read_segment(self._storage, path):
                    bad = self._bad_row(segment, start, table, event_hashes(table))
                    if bad is not None:
                        raise damaged(path, f"the event in row {start + bad[0]} {bad[1]}")
                    self._note_values(table, None)
            except EventStoreError as error:
                self._found(error)
                continue
            waiting.append(segment)
            severity = Severity.WARNING
            if segment.first_sequence >= self._chain.writers.get(segment.writer, 0):
                code, words = "unsealed_segment", "run `eventstore seal --everywhere` to place its events"
            elif self._is_repeat(segment):
                code, words = "duplicate_segment", "its events are sealed from another file; delete it"
            else:
                severity, code = Severity.ERROR, "overlapping_segment"
                words = (
                    f"it says of the events {segment.first_sequence} to {segment.end_sequence - 1} of the "
                    f"writer {segment.writer} what the sealed files do not say. Keep it, compare it with "
                    "them, and append anew what is missing"
                )
            self._found(
                IntegrityError(
                    f"the segment {path!r} is whole and not sealed: {words}", code=code, path=path
                ),
                severity=severity,
            )
        self._check_gaps(dict(self._chain.writers), waiting)

    def _is_repeat(self, segment: Segment) -> bool:
        """Whether its events are sealed from other files; salts, and so hashes, are each file's own."""
        first, end = segment.first_sequence, segment.end_sequence
        if end > self._chain.writers.get(segment.writer, 0):
            return False
        sealed = [
            (name.first_sequence, path)
            for path, is_sealed in self._sealed.items()
            if is_sealed and (name := layout.parse_segment(path)) and name.writer == segment.writer
        ]
        # These follow each other without a gap; the first of them begins at or before ours.
        start = max((sequence for sequence, _ in sealed if sequence <= first), default=0)
        try:
            others = pa.concat_tables(
                table
                for sequence, path in sorted(sealed)
                if start <= sequence < end
                for _, table in read_segment(self._storage, path)
            )
            own = pa.concat_tables(table for _, table in read_segment(self._storage, segment.path))
        except (EventStoreError, pa.ArrowException):
            return False  # what is sealed cannot be read, or is gone: then this file is of use
        facts = [name for name in own.column_names if name not in ("event_hash", "salt")]
        return bool(own.select(facts).equals(others.select(facts).slice(first - start, end - first)))

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
        self._check_folder(self._folder)
        for folder in self._folder.siblings():
            if folder.journals():
                self._found(
                    IntegrityError(
                        f"the state folder has journals of the host {folder.host!r}, and this one is "
                        f"{self._folder.host!r}: if that is an earlier name of this machine, open the store "
                        "for writing here, which takes them over; else open it there",
                        code="journal_elsewhere",
                        path=f"{folder.host}/journals",
                    ),
                    severity=Severity.WARNING,
                )
            self._check_folder(folder)

    def _check_folder(self, folder: JournalFolder) -> None:
        for path in folder.set_aside():
            self._found(
                IntegrityError(
                    f"the journal {path.name} was set aside because it is damaged: what stands before the "
                    "damage was taken over. Take the good lines behind it over by hand with `eventstore "
                    "append`, then move the file away",
                    code="journal_damaged",
                    path=path.name,
                )
            )
        for path in folder.journals():
            try:
                content = read_journal(path, good_prefix=True)
            except EventStoreError as error:
                self._found(error)
                continue
            if content is None:
                continue
            self._report.journaled_events += len(content.rows)
            if content.damage is not None:
                self._found(content.damage)
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


def _store_id_in(raw: bytes) -> object:
    """Return the store that a segment's footer names."""
    return json.loads(pq.read_schema(pa.BufferReader(raw)).metadata[b"eventstore"]).get("store_id")
