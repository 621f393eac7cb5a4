"""Verification of what no seal has placed: unsealed segments, and journals of this machine."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from eventstore import layout
from eventstore.chain import Chain
from eventstore.codec.canonical import event_hashes
from eventstore.errors import EventStoreError, IntegrityError, NotFoundError
from eventstore.ids import WriterId
from eventstore.journal import read_journal
from eventstore.journal_folder import JournalFolder
from eventstore.log.verify.report import Inspection, Severity
from eventstore.log.verify.segments import bad_row
from eventstore.segment import Segment, damaged, describe, read_placed, read_segment

__all__ = ["check_journals", "check_unsealed"]

_MADE_WITH_THE_FILE = ("event_hash", "salt")
"""Columns in which two files with the same events differ."""


def check_unsealed(inspection: Inspection, chain: Chain, paths: list[str]) -> None:
    """Check segments that no seal names; `chain` says how far each writer is sealed."""
    waiting: list[Segment] = []
    for path in paths:
        inspection.report.unsealed_segments += 1
        try:
            segment = _check_file(inspection, path)
        except EventStoreError as error:
            inspection.found(error)
            continue
        waiting.append(segment)
        severity = Severity.WARNING
        if segment.first_sequence >= chain.writers.get(segment.writer, 0):
            code, words = "unsealed_segment", "run `eventstore seal --everywhere` to place its events"
        elif _is_repeat(inspection, chain, segment):
            code, words = "duplicate_segment", "its events are sealed from another file; delete it"
        else:
            severity, code = Severity.ERROR, "overlapping_segment"
            words = (
                f"it says of the events {segment.first_sequence} to {segment.end_sequence - 1} of the "
                f"writer {segment.writer} what the sealed files do not say. Keep it, compare it with "
                "them, and append anew what is missing"
            )
        inspection.found(
            IntegrityError(f"the segment {path!r} is whole and not sealed: {words}", code=code, path=path),
            severity=severity,
        )
    _check_gaps(inspection, dict(chain.writers), waiting)


def _check_file(inspection: Inspection, path: str) -> Segment:
    segment, _ = describe(inspection.storage, path, store_id=inspection.store_id)
    inspection.report.bytes_read += segment.size_bytes
    ends = {str(segment.writer): segment.first_sequence}
    for start, table in read_segment(inspection.storage, path):
        bad = bad_row(table, event_hashes(table), ends)
        if bad is not None:
            raise damaged(path, f"the event in row {start + bad[0]} {bad[1]}")
        inspection.note_values(table, None)
    return segment


def _is_repeat(inspection: Inspection, chain: Chain, segment: Segment) -> bool:
    """Whether its events are sealed from other files; salts, and so hashes, are each file's own."""
    first, end = segment.first_sequence, segment.end_sequence
    if end > chain.writers.get(segment.writer, 0):
        return False
    try:
        own = pa.concat_tables(table for _, table in read_segment(inspection.storage, segment.path))
        others = pa.concat_tables(_events_of(inspection, chain, segment.writer, first, end))
    except (EventStoreError, pa.ArrowException):
        return False  # what is sealed cannot be read, or is gone: then this file is of use
    facts = [name for name in own.column_names if name not in _MADE_WITH_THE_FILE]
    return bool(own.select(facts).equals(others.select(facts)))


def _events_of(inspection: Inspection, chain: Chain, writer: str, first: int, end: int) -> list[pa.Table]:
    """Read the sealed events of a writer with the sequences from `first` to before `end`."""
    tables = []
    for segment in chain.segments:
        runs = [run for run in segment.writers if run.writer == writer]
        if any(run.first_sequence < end and run.end_sequence > first for run in runs):
            for table in read_placed(inspection.storage, segment):
                sequences = table["sequence"]
                inside = pc.and_(pc.greater_equal(sequences, first), pc.less(sequences, end))
                tables.append(table.filter(pc.and_(pc.equal(table["writer"], writer), inside)))
    return tables


def _check_gaps(inspection: Inspection, ends: dict[WriterId, int], waiting: list[Segment]) -> None:
    """Report unsealed segments that wait for one before them, which is not there."""
    for segment in sorted(waiting, key=lambda segment: (segment.writer, segment.first_sequence)):
        end = ends.get(segment.writer, 0)
        if segment.first_sequence > end and not _is_there(inspection, segment.writer, end):
            inspection.found(
                NotFoundError(
                    f"a segment with the events {end} to {segment.first_sequence - 1} of the writer "
                    f"{segment.writer} was expected before {segment.path!r}, found none; restore it from "
                    "a copy, or open the store on the machine that wrote it, then seal",
                    code="sequence_gap",
                    path=segment.path,
                )
            )
        ends[segment.writer] = max(end, segment.end_sequence)


def _is_there(inspection: Inspection, writer: str, sequence: int) -> bool:
    """Whether a segment has come since the listing, or is there and damaged, which is said already."""
    names = (layout.parse_segment(entry.path) for entry in inspection.storage.files(layout.SEGMENTS))
    return any(name and (name.writer, name.first_sequence) == (writer, sequence) for name in names)


# journals -------------------------------------------------------------------------------------------------


def check_journals(inspection: Inspection, own: JournalFolder) -> None:
    """Check the journals of this machine, by its name and by others that it may have had."""
    _check_folder(inspection, own)
    for folder in own.siblings():
        if folder.journals():
            inspection.found(
                IntegrityError(
                    f"the state folder has journals of the host {folder.host!r}, and this one is "
                    f"{own.host!r}: if that is an earlier name of this machine, open the store "
                    "for writing here, which takes them over; else open it there",
                    code="journal_elsewhere",
                    path=f"{folder.host}/journals",
                ),
                severity=Severity.WARNING,
            )
        _check_folder(inspection, folder)


def _check_folder(inspection: Inspection, folder: JournalFolder) -> None:
    for path in folder.set_aside():
        inspection.found(
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
            inspection.found(error)
            continue
        if content is None:
            continue
        inspection.report.journaled_events += len(content.rows)
        if content.damage is not None:
            inspection.found(content.damage)
        if content.torn_bytes:
            inspection.found(
                IntegrityError(
                    f"the journal {path.name} ends in {content.torn_bytes} bytes of a line that was "
                    "torn before it was acknowledged; opening the store for writing recovers the rest",
                    code="journal_torn",
                    path=path.name,
                ),
                severity=Severity.WARNING,
            )
