"""The tables of a mirror: redun's own, made from redun's models, and beside them what the mirror remembers.

Whatever is not redun's has a name that begins with ``mirror_``. All tables have SQLite's row numbers, which
only grow: what was added after a moment is what has a higher number than the highest at that moment.
"""

from __future__ import annotations

import sqlite3
import uuid
import warnings
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

from redun.backends.db import REDUN_DB_VERSIONS, Base
from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SAWarning
from sqlalchemy.schema import CreateIndex, CreateTable

from eventstore.ids import Digest
from eventstore.seal import GENESIS

__all__ = [
    "MIRROR_VERSION",
    "OWN_TABLES",
    "REDUN_SCHEMA",
    "TABLES",
    "State",
    "create_indexes",
    "create_tables",
    "file_name",
    "read_state",
    "write_state",
]

MIRROR_VERSION = 3
"""Counts the rules by which events become rows; a mirror of another number is not used."""

REDUN_SCHEMA = REDUN_DB_VERSIONS[-1]
"""The version of redun's schema that the installed redun makes."""

_NOT_OURS = {"alembic_version", "redun_version"}

with warnings.catch_warnings():
    warnings.simplefilter("ignore", SAWarning)  # executions and jobs name each other
    TABLES: dict[str, Table] = {
        table.name: table for table in Base.metadata.sorted_tables if table.name not in _NOT_OURS
    }
"""redun's tables that hold history, what is referred to before what refers to it."""

_OWN = """
CREATE TABLE mirror_state (
    version INTEGER NOT NULL, store_id TEXT NOT NULL, generation TEXT NOT NULL, position INTEGER NOT NULL,
    seal INTEGER NOT NULL, seal_digest TEXT NOT NULL, complete INTEGER NOT NULL, tail TEXT NOT NULL
);
CREATE TABLE mirror_value (
    value_hash TEXT PRIMARY KEY, data_digest TEXT NOT NULL, size_bytes INTEGER NOT NULL
);
CREATE TABLE mirror_edge (
    child_id TEXT NOT NULL, parent_id TEXT NOT NULL, call_order INTEGER NOT NULL,
    PRIMARY KEY (child_id, parent_id, call_order)
);
CREATE TABLE mirror_execution (
    id TEXT PRIMARY KEY, args TEXT, stated_job_id TEXT, job_id TEXT, updated_time TEXT
);
CREATE TABLE mirror_mark (name TEXT PRIMARY KEY, last INTEGER NOT NULL);
"""
OWN_TABLES = ("mirror_value", "mirror_edge", "mirror_execution")
"""The mirror's own tables that hold history: bytes that lie in the value store; child calls that are not
recorded yet; what is known of executions, which are rows only once their root job is known."""


class State(NamedTuple):
    """What a mirror says of itself."""

    store_id: str
    generation: str
    """Random, new with each file: row numbers are those of one generation."""
    position: int
    """All sealed events before it are folded."""
    seal: int
    """Number of a seal with which the log had at least so many events, so that it tells which they are."""
    seal_digest: Digest
    """The digest of that seal: a log that went on differently has another one, or none."""
    complete: bool
    """Whether it has once been at the head; before that it has no indexes beyond the keys."""
    tail: str
    """Which events are folded that no seal has placed yet; empty for none."""


def file_name() -> str:
    """Return the name of a mirror's file: it says both versions, so that another one is made for others."""
    return f"redun-{REDUN_SCHEMA.major}.{REDUN_SCHEMA.minor}-mirror-{MIRROR_VERSION}.db"


@cache
def _redun_tables() -> list[str]:
    dialect = sqlite.dialect()
    return [str(CreateTable(table).compile(dialect=dialect)) for table in Base.metadata.tables.values()]


@cache
def _redun_indexes() -> list[str]:
    dialect = sqlite.dialect()
    indexes = [
        index for table in TABLES.values() for index in sorted(table.indexes, key=lambda one: str(one.name))
    ]
    return [str(CreateIndex(index, if_not_exists=True).compile(dialect=dialect)) for index in indexes]


def create_tables(db: sqlite3.Connection, store_id: str) -> None:
    """Make the tables of an empty mirror, without indexes beyond the keys, inside one transaction."""
    db.execute("BEGIN IMMEDIATE")
    for statement in (*_redun_tables(), *filter(str.strip, _OWN.split(";"))):
        db.execute(statement)
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    db.execute("INSERT INTO redun_version VALUES (?, ?, ?)", (str(uuid.uuid4()), REDUN_SCHEMA.major, now))
    db.execute("INSERT INTO alembic_version VALUES (?)", (REDUN_SCHEMA.migration_id,))
    first = (MIRROR_VERSION, store_id, uuid.uuid4().hex, 0, 0, GENESIS, 0, "")
    db.execute("INSERT INTO mirror_state VALUES (?, ?, ?, ?, ?, ?, ?, ?)", first)
    db.execute("COMMIT")


def create_indexes(db: sqlite3.Connection) -> None:
    """Make redun's indexes; within the caller's transaction."""
    for statement in _redun_indexes():
        db.execute(statement)


def read_state(db: sqlite3.Connection) -> State | None:
    """Return what the mirror says of itself; None if it is of another version, or none."""
    try:
        row = db.execute(
            "SELECT version, store_id, generation, position, seal, seal_digest, complete, tail "
            "FROM mirror_state"
        ).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    if row is None or row[0] != MIRROR_VERSION:
        return None
    _, store_id, generation, position, seal, seal_digest, complete, tail = row
    return State(store_id, generation, position, seal, Digest(seal_digest), bool(complete), tail)


def write_state(db: sqlite3.Connection, state: State) -> None:
    """Keep how far the mirror is; within the caller's transaction, with the rows that it speaks of."""
    db.execute(
        "UPDATE mirror_state SET position = ?, seal = ?, seal_digest = ?, complete = ?, tail = ?",
        (state.position, state.seal, state.seal_digest, int(state.complete), state.tail),
    )
