"""Copies the rows of a mirror into a database of redun: table by table, what is referred to first.

What is written is noted in the same transaction, so an export that was interrupted goes on where it stopped,
and one that is done again adds what is new. A row whose references are nowhere is left out, and tried again
next time.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from eventstore.redun.exporting.jobs import gather
from eventstore.redun.exporting.target import Marks, Target
from eventstore.redun.mirror.mirror import SqlMirror
from eventstore.redun.mirror.rows import columns
from eventstore.redun.mirror.schema import TABLES, State
from eventstore.redun.types import IN_VALUE_STORE

if TYPE_CHECKING:
    from eventstore.store import EventStore
    from eventstore.value_store import RedunValueStore

__all__ = ["ExportReport", "export_to_redun"]

CHUNK_ROWS = 5_000
"""Most rows in one transaction."""
CHUNK_BYTES = 16 * 1024 * 1024
"""About how many bytes of values are in one transaction."""

_ORDER = (
    *("task", "value", "file", "subvalue", "handle", "handle_edge", "evaluation", "call_node"),
    *("argument", "argument_result", "call_edge", "call_subtree_task", "job", "tag", "tag_edit"),
)
_FORMAT = [column.name for column in TABLES["value"].columns].index("format")
_TOGETHER = "execution"
"""Is written with the jobs."""

_TOUCHES = {
    "evaluation.cached": ("evaluation", "eval_hash"),
    "execution.heartbeat": ("execution", "execution_id"),
    "job.ended": ("job", "job_id"),
    "handle.advanced": ("handle", "handle_name"),
    "handle.forked": ("handle", "handle_name"),
    "handle.recorded": ("handle", "handle_name"),
    "handle.rolled_back": ("handle", "handle_name"),
    "tags.deleted": ("tag", "superseded"),
    "tags.recorded": ("tag", "superseded"),
}
"""Which rows an event may change: a table, and the column of the event that says which."""
_TOUCHED_BY = {
    "evaluation": "eval_hash",
    "execution": "id",
    "handle": "fullname",
    "job": "id",
    "tag": "tag_hash",
}

Progress = Callable[[int, int], None]
Row = tuple[Any, ...]


@dataclass
class ExportReport:
    """What an export did."""

    url: str
    position: int = 0
    """The database holds what the sealed log said up to here."""
    rows: Counter[str] = field(default_factory=Counter)
    """Rows that were added or changed, by table."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that name something that is nowhere, so that the database would refuse them; by table."""
    in_value_store: int = 0
    """Values of this export whose bytes stay in redun's value store."""


def export_to_redun(
    store: EventStore,
    url: str,
    *,
    value_store: RedunValueStore | None = None,
    mirror: SqlMirror | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write what a store's sealed log holds into a database of redun, which is made or migrated by redun.

    Rows that are there stay, but for what redun itself changes: the newer end of a job and heartbeat, what is
    cached for an evaluation, validity of handles, and tags that are no longer current.

    Parameters
    ----------
    store
        An open store; what it has appended is sealed first, unless it is read-only.
    url
        As in redun's setting ``db_uri``.
    value_store
        redun's value store, to write the bytes of values that lie there into the database; None leaves them
        there, where redun finds them by its setting ``value_store_path``.
    mirror
        The store's mirror, if there is one at hand.
    progress
        Called with (rows looked at, rows to look at).

    Raises
    ------
    InvalidEventError, FormatError, StorageError
        As of `Target`.
    NotFoundError, IntegrityError
        The bytes of a large value are gone, or damaged.
    """
    own = mirror or SqlMirror(store)
    target = Target(url)
    try:
        with own.settled() as (source, state):
            return _Export(store, value_store, source, target, state, progress).run()
    finally:
        target.close()
        if mirror is None:
            own.close()


class _Export:
    def __init__(
        self,
        store: EventStore,
        value_store: RedunValueStore | None,
        source: sqlite3.Connection,
        target: Target,
        state: State,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._value_store = value_store
        self._source = source
        self._target = target
        self._position = position = state.position
        self._progress = progress
        self._report = ExportReport(target.url, position)
        marks = target.marks(store.store_id)
        self._changed_since = position if marks is None else marks.position
        if marks is None or marks.generation != state.generation:
            # Rows of another file have other numbers: all are looked at again, and most are there.
            marks = Marks(state.generation, self._changed_since)
        self._marks = marks
        self._done, self._total = 0, sum(self._left(name) for name in _ORDER)

    def run(self) -> ExportReport:
        with self._target.writing() as connection:
            self._keep(connection)
        for name in _ORDER:
            self._copy(name)
        if self._changed_since < self._position:
            self._copy_changes()
        self._target.settle_tags()
        self._report.left_out[_TOGETHER] += self._source.execute(
            "SELECT count(*) FROM execution WHERE job_id NOT IN (SELECT id FROM job)"
        ).fetchone()[0]
        self._marks.position = self._position
        with self._target.writing() as connection:
            self._keep(connection)
        self._report.left_out = +self._report.left_out
        self._report.rows = +self._report.rows
        return self._report

    def _left(self, name: str) -> int:
        last = self._source.execute(f"SELECT coalesce(max(rowid), 0) FROM {name}").fetchone()[0]  # noqa: S608
        return max(0, int(last) - self._marks.rows.get(name, 0))

    def _keep(self, connection: Connection) -> None:
        self._target.keep_marks(connection, self._store.store_id, self._marks)

    # all rows of a table ---------------------------------------------------------------------------------

    def _copy(self, name: str) -> None:
        """Write the rows of a table that are new; the mark stays before the first one that was left out."""
        held = False
        for numbers, rows in self._chunks(name):
            with self._target.writing() as connection:
                left = self._put(connection, name, rows)
                if left and not held:
                    held = True
                    self._marks.rows[name] = min(numbers[place] for place in left) - 1
                elif not held:
                    self._marks.rows[name] = numbers[-1]
                self._keep(connection)
            self._report.left_out[name] += len(left)
            self._done += len(rows)
            if self._progress is not None:
                self._progress(self._done, self._total)

    def _chunks(self, name: str) -> Iterator[tuple[list[int], list[Row]]]:
        names = ", ".join(column.name for column in TABLES[name].columns)
        statement = f"SELECT rowid, {names} FROM {name} WHERE rowid > ? ORDER BY rowid"  # noqa: S608
        numbers: list[int] = []
        rows: list[Row] = []
        size = 0
        for number, *cells in self._source.execute(statement, (self._marks.rows.get(name, 0),)):
            if name == "value":
                cells[_FORMAT], cells[-1] = self._bytes(cells[0], cells[_FORMAT], cells[-1])
                size += len(cells[-1])
            numbers.append(number)
            rows.append(tuple(cells))
            if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield numbers, rows
                numbers, rows, size = [], [], 0
        if rows:
            yield numbers, rows

    def _bytes(self, value_hash: str, format_: str, data: bytes) -> tuple[str, bytes]:
        """Return media type and bytes of a value as redun has them: inline, unless its value store does."""
        if format_.endswith(IN_VALUE_STORE):
            format_ = format_.removesuffix(IN_VALUE_STORE)
            if self._value_store is not None:
                return format_, self._value_store.get(value_hash)
            self._report.in_value_store += 1
            return format_, b""
        if data:
            return format_, data
        row = self._source.execute(
            "SELECT data_digest FROM mirror_value WHERE value_hash = ?", (value_hash,)
        ).fetchone()
        return format_, b"" if row is None else self._store.values.get(row[0])

    def _put(self, connection: Connection, name: str, rows: list[Row]) -> list[int]:
        """Write rows, and return the places of those that were left out."""
        if name == "job":
            family = gather(self._source, self._target, connection, rows)
            self._report.rows["job"] += self._target.put(connection, "job", family.jobs)
            self._report.rows[_TOGETHER] += self._target.put(connection, _TOGETHER, family.executions)
            return [place for place, row in enumerate(rows) if row[0] in family.left_out]
        left: set[int] = set()
        names = [column.name for column in TABLES[name].columns]
        for key in TABLES[name].foreign_keys:
            at = names.index(key.parent.name)
            wanted = {row[at] for row in rows if row[at] is not None}
            known = self._target.known(connection, key.column.table.name, key.column.name, wanted)
            left.update(
                place for place, row in enumerate(rows) if row[at] is not None and row[at] not in known
            )
        kept = [row for place, row in enumerate(rows) if place not in left]
        self._report.rows[name] += self._target.put(connection, name, kept)
        return sorted(left)

    # rows that changed -----------------------------------------------------------------------------------

    def _copy_changes(self) -> None:
        """Write rows again that events since the last export may have changed."""
        self._source.execute(
            "CREATE TEMP TABLE touched (name TEXT, id TEXT, PRIMARY KEY (name, id)) WITHOUT ROWID"
        )
        for touched in self._touched():
            self._source.executemany("INSERT OR IGNORE INTO touched VALUES (?, ?)", touched)
        for name, key in _TOUCHED_BY.items():
            cells = ", ".join(column.name for column in TABLES[name].columns)
            found = self._source.execute(
                f"SELECT {cells} FROM {name} WHERE {key} IN (SELECT id FROM touched WHERE name = ?)",  # noqa: S608
                (name,),
            )
            while rows := found.fetchmany(CHUNK_ROWS):
                with self._target.writing() as connection:
                    self._put(connection, name, rows)

    def _touched(self) -> Iterator[Iterable[tuple[str, str]]]:
        wanted = {"kind", *(column for _, column in _TOUCHES.values())}
        for batch in self._store.read(
            after=self._changed_since - 1, until=self._position, kinds=_TOUCHES.keys(), columns=wanted
        ):
            cells: Mapping[str, list[Any]] = dict(zip(wanted, columns(batch, *wanted), strict=True))
            for place, kind in enumerate(cells["kind"]):
                table, column = _TOUCHES[kind]
                said = cells[column][place]
                yield (
                    (table, one) for one in (said if isinstance(said, list) else [said]) if one is not None
                )
