"""What tests of the mirror share: a database that events are folded into, and what its tables hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
from store_kit import WRITERS, rows_of

from eventstore.codec.rows import table_of
from eventstore.events import Event
from eventstore.redun.mirror.fold import Fold
from eventstore.redun.mirror.rows import COLUMNS
from eventstore.redun.mirror.schema import OWN_TABLES, TABLES, create_indexes, create_tables


def empty() -> sqlite3.Connection:
    """Return a mirror in memory without events."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(_template())
    return db


@cache
def _template() -> bytes:
    db = sqlite3.connect(":memory:", isolation_level=None)
    create_tables(db, "store")
    create_indexes(db)
    return db.serialize()


def batches(events: Iterable[Event], cuts: Iterable[int] = ()) -> list[pa.RecordBatch]:
    """Return events as the log gives them, cut before each of `cuts`."""
    given = list(events)
    if not given:
        return []
    table = table_of(rows_of(given), writer=WRITERS[0], actor=None, software=None).select(COLUMNS)
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(given)}), len(given)]
    return [
        batch for start, end in pairwise(bounds) for batch in table.slice(start, end - start).to_batches()
    ]


def folded(events: Iterable[Event], cuts: Iterable[int] = ()) -> sqlite3.Connection:
    """Return a mirror in memory of these events."""
    db = empty()
    fold = Fold(db)
    for batch in batches(events, cuts):
        fold.add(batch)
    return db


def tables(db: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of all tables that hold history, sorted; of the edges those that wait."""
    found = {
        name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr)  # noqa: S608
        for name in (*TABLES, *OWN_TABLES)
    }
    calls = {row[0] for row in found["call_node"]}
    found["mirror_edge"] = [row for row in found["mirror_edge"] if row[0] not in calls]
    return found


def tables_at(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the tables of a mirror's file."""
    db = sqlite3.connect(path)
    try:
        return tables(db)
    finally:
        db.close()


def rows(db: sqlite3.Connection, statement: str) -> list[tuple[Any, ...]]:
    """Return what a statement gives."""
    return db.execute(statement).fetchall()
