"""Answers to an engine's questions, in microseconds and flat in history: what `EventStore.lookup` is.

`history` is the front; `families` says what is kept of which event, `overlay` holds what is new, `runs` what
is on local disk, `builder` makes the one from the log, and `facts` are the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from eventstore.index.facts import (
    CallFacts,
    CallMention,
    CallOutcome,
    ExecutionFacts,
    HandleFacts,
    JobFacts,
    StoredValue,
    TagFacts,
    TaskFacts,
    ValueFacts,
)
from eventstore.index.families import KEEP, RECORDS_VERSION
from eventstore.index.handle_states import HandleStates
from eventstore.index.history import HistoryIndex
from eventstore.index.peers import PeerJournals
from eventstore.index.runs import IndexRuns
from eventstore.journal_folder import JournalFolder
from eventstore.log.journaled import Journaled
from eventstore.log.reader import LogReader
from eventstore.log.sequence import SealSequence
from eventstore.value_store import ValueStore

__all__ = [
    "CallFacts",
    "CallMention",
    "CallOutcome",
    "ExecutionFacts",
    "HandleFacts",
    "HandleStates",
    "HistoryIndex",
    "JobFacts",
    "StoredValue",
    "TagFacts",
    "TaskFacts",
    "ValueFacts",
    "open_index",
]

_KEEP = {int(family): keep for family, keep in KEEP.items()}


def open_index(
    reader: LogReader,
    sequence: SealSequence,
    values: ValueStore,
    *,
    store_id: str,
    folder: JournalFolder | None,
    own_rows: Callable[[], Journaled | None],
    fresh_seconds: float,
    look_seconds: float,
) -> HistoryIndex:
    """Return the index of one open store; nothing is read yet.

    Parameters
    ----------
    folder
        Where this host's journals are, and beside them the runs; None for a store that lives in this process
        alone, whose index does, too.
    own_rows, fresh_seconds, look_seconds
        As for `HistoryIndex`.
    """

    def own() -> str | None:
        rows = own_rows()
        return None if rows is None else rows[0]

    return HistoryIndex(
        reader,
        sequence,
        values,
        runs=None
        if folder is None
        else partial(IndexRuns, folder.path.parent / "index", keep=_KEEP, version=RECORDS_VERSION),
        peers=PeerJournals(folder, store_id=store_id, own=own) if folder is not None else None,
        own_rows=own_rows,
        fresh_seconds=fresh_seconds,
        look_seconds=look_seconds,
    )
