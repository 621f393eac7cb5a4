"""Runs of the index, made of the sealed log: a range at a time, by one process of a machine at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from eventstore.index.facts import HandleFacts
from eventstore.index.families import COLUMNS, KINDS, Family, decoded, key_bytes
from eventstore.index.handle_states import HandleStates
from eventstore.index.log_events import RunRecords

if TYPE_CHECKING:
    from eventstore.index.runs import IndexRuns
from eventstore.log.reader import LogReader
from eventstore.log.sequence import SealSequence

__all__ = ["build_runs", "is_of_chain"]

_RANGE_EVENTS = 200_000
_WAIT_SECONDS = 0.05


def build_runs(reader: LogReader, sequence: SealSequence, runs: IndexRuns, *, wait: bool = False) -> None:
    """Bring `runs` up to the sealed head.

    Parameters
    ----------
    wait
        For another process that is at it; otherwise it is left to that one.

    Raises
    ------
    IntegrityError, NotFoundError, StorageError
        A segment is damaged or missing, or the local disk refused; what was made before stays.
    """
    while True:
        with runs.turn() as mine:
            runs.refresh()
            if mine:
                _build(reader, sequence, runs)
                runs.merge_if_due()
        if mine or not wait or runs.position >= sequence.known().peaks.size:
            return
        time.sleep(_WAIT_SECONDS)


def _build(reader: LogReader, sequence: SealSequence, runs: IndexRuns) -> None:
    now = sequence.refresh()
    mark = f"{now.number} {now.digest}"
    writers = dict(runs.writers)
    while runs.position < now.peaks.size:
        until = min(runs.position + _RANGE_EVENTS, now.peaks.size)
        records = RunRecords(HandleStates(*_handles_in(runs)))
        for batch in reader.read(after=runs.position - 1, until=until, kinds=KINDS, columns=COLUMNS):
            records.take(batch)
        writers |= records.writers
        keys, payloads = records.finished()
        runs.add(keys, payloads, until=until, writers=writers, mark=mark)


def _handles_in(runs: IndexRuns):  # type: ignore[no-untyped-def]
    def state(handle_hash: str) -> HandleFacts | None:
        found = runs.get(key_bytes(Family.HANDLE, handle_hash))
        return HandleFacts(handle_hash, *decoded(Family.HANDLE, bytes(found[-1]))) if found else None

    def children(handle_hash: str) -> list[str]:
        found = runs.get(key_bytes(Family.HANDLE_CHILD, handle_hash))
        return [decoded(Family.HANDLE_CHILD, bytes(payload))[0] for payload in found]

    return state, children


def is_of_chain(sequence: SealSequence, mark: str) -> bool:
    """Whether a mark, the number and digest of a seal, is of this chain."""
    number, _, digest = mark.partition(" ")
    now = sequence.known()
    if not number.isdecimal() or int(number) > now.number:
        return False
    if int(number) == now.number:
        return digest == now.digest
    found = sequence.files.read(int(number))
    return found is not None and found[0] == digest
