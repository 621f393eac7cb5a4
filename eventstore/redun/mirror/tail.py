"""Events that no seal has placed yet: folded on top, and taken off again before what follows.

Their order is not settled, and a journal may be lost, so their rows must leave no trace. What they add has
row numbers above those of the sealed part; what they change of it is copied away first.
"""

from __future__ import annotations

import sqlite3

from eventstore.redun.mirror.schema import OWN_TABLES, TABLES

__all__ = ["CHANGING", "begin_tail", "end_tail", "undo_tail"]

CHANGING = {
    "evaluation": ("value_hash",),
    "execution": ("updated_time", "job_id"),
    "handle": ("value_hash", "key", "is_valid"),
    "job": ("end_time", "cached", "call_hash"),
    "mirror_execution": ("args", "stated_job_id", "job_id", "updated_time"),
    "tag": ("is_current",),
}
"""The columns that a later event may change; all others stay as they were first written."""


def begin_tail(db: sqlite3.Connection) -> None:
    """From here on remember what is added and changed; within the caller's transaction."""
    for name in (*TABLES, *OWN_TABLES):
        db.execute(f"INSERT INTO mirror_mark SELECT ?, coalesce(max(rowid), 0) FROM {name}", (name,))  # noqa: S608
    for name, changing in CHANGING.items():
        old = ", ".join(f"OLD.{column}" for column in changing)
        db.execute(
            f"CREATE TABLE IF NOT EXISTS mirror_before_{name} (id INTEGER PRIMARY KEY, {', '.join(changing)})"
        )
        db.execute(
            f"CREATE TEMP TRIGGER before_{name} BEFORE UPDATE ON main.{name} "  # noqa: S608
            f"WHEN OLD.rowid <= (SELECT last FROM mirror_mark WHERE name = '{name}') BEGIN "
            f"INSERT INTO mirror_before_{name} SELECT OLD.rowid, {old} "
            f"WHERE NOT EXISTS (SELECT 1 FROM mirror_before_{name} WHERE id = OLD.rowid); END"
        )


def end_tail(db: sqlite3.Connection) -> None:
    """Stop remembering; what was remembered stays for `undo_tail`."""
    for name in CHANGING:
        db.execute(f"DROP TRIGGER IF EXISTS temp.before_{name}")


def undo_tail(db: sqlite3.Connection) -> None:
    """Make the tables what they were at `begin_tail`; within the caller's transaction."""
    for name, last in db.execute("SELECT name, last FROM mirror_mark").fetchall():
        db.execute(f"DELETE FROM {name} WHERE rowid > ?", (last,))  # noqa: S608
    for name, changing in CHANGING.items():
        table = f"mirror_before_{name}"
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            columns = ", ".join(changing)
            db.execute(
                f"UPDATE {name} SET ({columns}) = (SELECT {columns} FROM {table} WHERE id = {name}.rowid) "  # noqa: S608
                f"WHERE rowid IN (SELECT id FROM {table})"
            )
            db.execute(f"DELETE FROM {table}")  # noqa: S608
    db.execute("DELETE FROM mirror_mark")
