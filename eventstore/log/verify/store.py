"""Proof that nothing was altered: hashes, chain, tree, positions, values, journals, read from the files.

Verification trusts nothing that it can recompute and changes nothing. It goes on after a finding, so one
damaged file does not hide another.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from eventstore import layout
from eventstore.errors import EventStoreError, FormatError, IntegrityError
from eventstore.filesystem import Storage
from eventstore.journal_folder import JournalFolder
from eventstore.log.subscription import (
    Checkpoint,
    Checkpoints,
    SubscriptionState,
    checkpoint_beyond_head,
    foreign_checkpoint,
    is_of_log,
)
from eventstore.log.verify.chain import ChainCheck
from eventstore.log.verify.report import Inspection, Severity, VerifyReport
from eventstore.log.verify.segments import SegmentsCheck
from eventstore.log.verify.tail import check_journals, check_unsealed
from eventstore.value_store import ValueStore

__all__ = ["verify_store"]

_KNOWN = (
    layout.parse_segment,
    layout.parse_compacted,
    layout.parse_seal,
    layout.parse_archive,
    layout.parse_snapshot,
    layout.parse_subscription,
    layout.parse_value,
    layout.parse_dictionary,
)


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
    started = time.perf_counter()
    inspection = Inspection(storage, store_id, progress)
    segments, (table_position, table_path) = _check_names(inspection)
    # Before the chain: a subscription goes on with it.
    checkpoints, faults = Checkpoints(storage, store_id=store_id).read_all()
    chain = ChainCheck(inspection)
    chain.run()
    SegmentsCheck(inspection, chain).run()
    chain.check_snapshots()
    chain.check_table(table_position, table_path)
    for fault in faults:
        inspection.found(fault, severity=Severity.WARNING)
    _check_checkpoints(inspection, chain, checkpoints)
    check_unsealed(inspection, chain.chain, _left_over(inspection, chain, segments))
    if folder is not None:
        check_journals(inspection, folder)
    if check_values:
        _check_values(inspection)
    inspection.report.seconds = time.perf_counter() - started
    return inspection.report


def _check_names(inspection: Inspection) -> tuple[list[str], tuple[int, str]]:
    """Return the paths of all segments, and the newest table's position and path."""
    segments: list[str] = []
    newest = (0, "")
    for entry in inspection.storage.files("", temporary=True):
        path = entry.path
        if path.startswith((f"{layout.SEGMENTS}/", f"{layout.COMPACTED}/")):
            segments.append(path)
        elif (table := layout.parse_manifest(path)) is not None:
            newest = max(newest, (table[0], path))
        if path == layout.STORE_FILE or path.startswith(f"{layout.PROJECTIONS}/"):
            continue
        if not any(parse(path) for parse in _KNOWN):
            inspection.found(
                FormatError(
                    f"a file of the format was expected, found {path!r}: no reader looks at it; move "
                    "it out of the store, or delete it if it is a leftover of a killed process",
                    code="foreign_file",
                    path=path,
                ),
                severity=Severity.WARNING,
            )
    return segments, newest


def _left_over(inspection: Inspection, chain: ChainCheck, paths: list[str]) -> list[str]:
    """Return the writers' segments that no seal names; counts those that were replaced."""
    present = {segment.path for segment in chain.chain.segments}
    unsealed = []
    for path in paths:
        if path in chain.replaced:
            inspection.report.replaced_segments += 1
        elif path in present:
            continue
        elif layout.parse_segment(path) is not None:
            unsealed.append(path)
        elif layout.parse_compacted(path) is not None and chain.whole:
            inspection.found(
                IntegrityError(
                    f"no seal names the compacted segment {path!r}: whoever was compacting has died, or is "
                    "still at it. The events are in the files that it was made of; `eventstore clean` "
                    "removes it in time",
                    code="unreferenced_compacted",
                    path=path,
                ),
                severity=Severity.WARNING,
            )
    return unsealed


def _check_checkpoints(inspection: Inspection, chain: ChainCheck, checkpoints: list[Checkpoint]) -> None:
    """Where the chain is whole, no subscription has gone beyond its end, or stands in another history."""
    if not chain.whole:
        return
    size = inspection.report.size
    for checkpoint in checkpoints:
        if checkpoint.position > size:
            inspection.found(checkpoint_beyond_head(checkpoint, size), position=size)
    newest = {one.name: one for one in sorted(checkpoints, key=lambda one: one.revision)}
    for checkpoint in newest.values():
        if checkpoint.position > size or checkpoint.state is SubscriptionState.DELETED:
            continue
        try:
            head = chain.head_at(checkpoint.seal)
        except EventStoreError as error:
            inspection.found(error)
            continue
        if not is_of_log(checkpoint, head):
            inspection.found(foreign_checkpoint(checkpoint, head), severity=Severity.WARNING)


def _check_values(inspection: Inspection) -> None:
    store = ValueStore(inspection.storage)
    for digest, (size, position) in inspection.digests.items():
        try:
            data = store.get(digest)
            inspection.report.values += 1
            inspection.report.bytes_read += len(data)
            if len(data) != size:
                raise IntegrityError(
                    f"{size} bytes were recorded for the value {digest}, found {len(data)}",
                    code="value_digest",
                    path=layout.value_path(digest),
                )
        except EventStoreError as error:
            inspection.found(error, position=position)
    for digest in store:
        if digest in inspection.digests:
            continue
        try:
            store.get(digest)
            inspection.report.values += 1
        except EventStoreError as error:
            inspection.found(error, severity=Severity.WARNING)
