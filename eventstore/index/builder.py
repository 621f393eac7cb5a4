"""Runs of the index, made of the sealed log: a range at a time, by one process of a machine at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from eventstore.chain import Snapshot
from eventstore.checked_file import IndexDamagedError
from eventstore.errors import ConflictError, StorageError
from eventstore.index.facts import HandleFacts
from eventstore.index.families import COLUMNS, KINDS, Family, decoded, key_bytes
from eventstore.index.handle_states import HandleStates
from eventstore.index.log_events import RunRecords

if TYPE_CHECKING:
    from eventstore.index.runs import IndexRuns
from eventstore.log.reader import LogReader
from eventstore.log.sequence import SealSequence

__all__ = ["build_runs", "is_of_chain"]

logger = logging.getLogger(__name__)

_RANGE_EVENTS = 200_000
"""A run is made of about so many events, or of less where the next limit is met."""
_RANGE_BYTES = 96 << 20
"""About how many bytes of records are made a run; peak memory is some multiples of it."""
_FEW = 8
_WAIT_SECONDS = 0.05
_MORE_TRIES = 2


def build_runs(reader: LogReader, sequence: SealSequence, runs: IndexRuns, *, wait: bool = False) -> None:
    """Bring `runs` up to the sealed head, then merge them where that is due.

    Where they are damaged, or were set aside meanwhile, it begins again, at most twice. A merge that the disk
    refuses is left to a later one.

    Parameters
    ----------
    wait
        For another process that is at it; otherwise it is left to that one.

    Raises
    ------
    ConflictError, IndexDamagedError
        The runs were set aside, or damaged, each time.
    IntegrityError, NotFoundError, StorageError
        A segment is damaged or missing, or the local disk refused; what was made before stays.
    StateError
        They were closed (code ``closed``).
    """
    more_tries = _MORE_TRIES
    while True:
        try:
            mine = _built(reader, sequence, runs)
        except (ConflictError, IndexDamagedError) as error:
            if not more_tries or (isinstance(error, ConflictError) and error.code != "index_moved"):
                raise
            more_tries -= 1
            if isinstance(error, IndexDamagedError):
                runs.reset(error.message)
            continue
        if mine or not wait or runs.position >= sequence.known().peaks.size:
            return
        time.sleep(_WAIT_SECONDS)


def _built(reader: LogReader, sequence: SealSequence, runs: IndexRuns) -> bool:
    """Bring runs up to date, if nobody else is at it; says whether this is so."""
    with runs.turn() as mine:
        runs.refresh()
        if mine:
            _build(reader, sequence, runs)
    if mine:
        # Others may add meanwhile.
        try:
            runs.merge_if_due()
        except StorageError as error:
            logger.warning("runs of the history index in %s were not merged: %s", runs.folder, error)
    return mine


def _build(reader: LogReader, sequence: SealSequence, runs: IndexRuns) -> None:
    """Within a turn: add a run for each range of what is sealed and not in runs."""
    now = sequence.refresh()
    size, mark = now.peaks.size, f"{now.number} {now.digest}"
    if runs.position >= size:
        return
    records = RunRecords(HandleStates(*_handles_in(runs)))

    def add(until: int) -> None:
        found = records.finished()
        writers = {**runs.writers, **records.writers}
        runs.add(found.keys, found.payloads, until=until, writers=writers, mark=mark)

    kinds = _kinds_to_read(now, runs.position)
    for batch in reader.read(after=runs.position - 1, until=size, kinds=kinds, columns=COLUMNS):
        records.take(batch)
        if records.events >= _RANGE_EVENTS or records.size_bytes >= _RANGE_BYTES:
            add(batch.column("position")[-1].as_py() + 1)
            records = RunRecords(HandleStates(*_handles_in(runs)))
    if runs.position < size:
        add(size)


def _kinds_to_read(now: Snapshot, position: int) -> Collection[str] | None:
    """Return the kinds to ask for; None where the others are so few that leaving them out costs more."""
    known = others = 0
    for segment in now.segments:
        if segment.end_position > position:
            of_segment = sum(kind.count for kind in segment.kinds if kind.kind in KINDS)
            known, others = known + of_segment, others + segment.count - of_segment
    return KINDS if others * _FEW > known else None


def _handles_in(
    runs: IndexRuns,
) -> tuple[Callable[[str], HandleFacts | None], Callable[[str], list[str]]]:
    """Return how the state of a handle, and what follows from it, are found in runs."""

    def state(handle_hash: str) -> HandleFacts | None:
        found = runs.get(key_bytes(Family.HANDLE, handle_hash))
        return HandleFacts(handle_hash, *decoded(Family.HANDLE, found[-1])) if found else None

    def children(handle_hash: str) -> list[str]:
        found = runs.get(key_bytes(Family.HANDLE_CHILD, handle_hash))
        return [decoded(Family.HANDLE_CHILD, payload)[0] for payload in found]

    return state, children


def is_of_chain(sequence: SealSequence, mark: str) -> bool:
    """Whether a mark, the number and digest of a seal, is of this chain."""
    number, _, digest = mark.partition(" ")
    head = sequence.head_at(int(number)) if number.isdecimal() else None
    return head is not None and head.digest == digest
