"""A whole redun database into a store: what the store does not have, in an order that readers can rely on.

There is no checkpoint: each row's hash or id is looked up in the store, so an import that was interrupted
goes on with what is missing, and one that was run before adds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventstore.errors import FormatError, NotFoundError
from eventstore.redun.importing import tables
from eventstore.redun.importing.adding import Adding
from eventstore.redun.importing.calls import import_calls, import_evaluations
from eventstore.redun.importing.database import RedunDatabase
from eventstore.redun.importing.executions import import_executions, import_jobs
from eventstore.redun.importing.handles import KEPT_VALID, import_handles
from eventstore.redun.importing.tags import import_tags
from eventstore.redun.importing.values import MISSING, count_in_value_store, import_tasks, import_values
from eventstore.value_store import RedunValueStore

if TYPE_CHECKING:
    from eventstore.store import EventStore

__all__ = ["ImportReport", "import_database"]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import found, and what it added."""

    found: Mapping[str, int] = field(default_factory=dict)
    """Rows that were read, by what they are: values, tasks, handles, ..."""
    added: Mapping[str, int] = field(default_factory=dict)
    """Events that were appended, by kind."""
    missing_values: int = 0
    """Values whose bytes are neither in the database nor in redun's value store; they were left out."""
    kept_valid: int = 0
    """Handles that are invalid in the database and valid in the store: no roll-back leads to that state."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Rows that no event can hold, by table; they were left out."""
    faults: tuple[str, ...] = ()
    """What is wrong with the first of these."""
    seconds: float = 0.0


def import_database(
    database: RedunDatabase,
    store: EventStore,
    *,
    value_store: RedunValueStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Append to `store` what a redun database holds and the store does not.

    Executions, jobs, call nodes with arguments and upstreams, values, tasks, files, evaluations, subtree
    tasks, handles with edges and validity, tags with edits, heartbeats; all hashes are redun's. Where the
    database says otherwise than the store of something that changes (the result of an evaluation, the end
    of a job, the validity of a handle), the database counts, as the later word.

    Parameters
    ----------
    database
        From `open_database`. It is read in one transaction: as of its beginning.
    store
        Open for writing. Nothing else need be recorded in it meanwhile, but may be.
    value_store
        Where redun's setting ``value_store_path`` leads to.
    progress
        Called with (rows looked at, rows in all).

    Raises
    ------
    NotFoundError
        The database has values in a value store, and none was given (code ``value_store_needed``).
    FormatError
        It is damaged (``redun_damaged``); what was appended before stays.
    StorageError
        It cannot be read any further, or the store refused.
    """
    began = time.monotonic()
    if value_store is None:
        _need_no_value_store(database)
    total, done = _rows(database), 0
    advance = progress or (lambda _done, _all: None)
    advance(0, total)

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        advance(done, total)

    adding = Adding(store, count)
    try:
        import_values(database, adding, value_store)
        import_tasks(database, adding)
        import_handles(database, adding, store)
        import_calls(database, adding)
        import_evaluations(database, adding)
        import_executions(database, adding)
        import_jobs(database, adding)
        import_tags(database, adding)
    except FormatError:
        adding.append()  # what was read before the damage
        raise
    found = dict(adding.found)
    return ImportReport(
        found={name: rows for name, rows in found.items() if name not in (MISSING, KEPT_VALID)},
        added=dict(adding.added),
        missing_values=found.get(MISSING, 0),
        kept_valid=found.get(KEPT_VALID, 0),
        left_out=dict(adding.left_out),
        faults=tuple(adding.faults),
        seconds=time.monotonic() - began,
    )


def _rows(database: RedunDatabase) -> int:
    """Return how many rows an import looks at."""
    looked_at = (tables.value, tables.task, tables.handle, tables.call_node, tables.evaluation)
    return sum(map(database.count, (*looked_at, tables.execution, tables.job, tables.tag)))


def _need_no_value_store(database: RedunDatabase) -> None:
    count = count_in_value_store(database)
    if count:
        raise NotFoundError(
            f"the bytes of all values were expected in {database.url}, found {count:,} values that lie in "
            "redun's value store: name its folder (--value-store, redun's setting value_store_path). Where "
            "it is lost, name an empty folder, and these values are left out. Nothing was imported",
            code="value_store_needed",
            count=count,
        )
