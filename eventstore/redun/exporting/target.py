"""A database of redun to write to: made and migrated by redun itself, on SQLite or PostgreSQL.

Statements go to the driver as they are; what the two databases spell differently is here and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redun.backends.db import RedunBackendDb, RedunDatabaseError, RedunVersionError
from sqlalchemy import Boolean, Connection, DateTime, Engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from eventstore.errors import EventStoreError, FormatError, InvalidEventError, StorageError
from eventstore.filesystem import mask_url
from eventstore.redun.mirror.schema import TABLES

__all__ = ["Marks", "Target"]

logger = logging.getLogger(__name__)
_STATEMENT_ROWS = 500
"""Rows in one statement for a server, where each statement is a journey."""

_NEWER = {
    "evaluation": "value_hash = excluded.value_hash WHERE evaluation.value_hash <> excluded.value_hash",
    "execution": (
        "updated_time = excluded.updated_time WHERE excluded.updated_time IS NOT NULL AND "
        "(execution.updated_time IS NULL OR execution.updated_time < excluded.updated_time)"
    ),
    "handle": "is_valid = excluded.is_valid WHERE handle.is_valid <> excluded.is_valid",
    "job": (
        "end_time = excluded.end_time, cached = excluded.cached, call_hash = excluded.call_hash "
        "WHERE excluded.end_time IS NOT NULL AND (job.end_time IS NULL OR job.end_time < excluded.end_time)"
    ),
    "tag": "is_current = excluded.is_current WHERE tag.is_current AND NOT excluded.is_current",
}
"""What becomes of a row that is there already; a row of another table stays as it is."""

_MARKS = """
CREATE TABLE IF NOT EXISTS eventstore_export (
    store_id VARCHAR(64) PRIMARY KEY, generation VARCHAR(64) NOT NULL, position BIGINT NOT NULL,
    marks TEXT NOT NULL
)
"""


@dataclass
class Marks:
    """How far the history of a store has come into a database.

    `rows` says by table up to which row number of a mirror of this `generation` all are there, and they are
    right but for what events from `position` on have changed.
    """

    generation: str
    position: int
    rows: dict[str, int] = field(default_factory=dict)


class Target:
    """One open database of redun.

    Parameters
    ----------
    url
        As in redun's setting ``db_uri``.

    Raises
    ------
    InvalidEventError
        The URL is none of SQLite or PostgreSQL, has a password in it, or needs a driver that is not installed
        (code ``bad_database_url``).
    FormatError
        The database is of a newer redun (``redun_schema``).
    StorageError
        It cannot be reached or written (``database_refused``).
    """

    def __init__(self, url: str) -> None:
        self.url = mask_url(url)
        if not url.startswith(("sqlite:///", "postgresql")):
            raise _bad_url(self.url, "it is another one")
        with self._translated():
            self._engine = self._made(url)
        self._is_server = self._engine.dialect.name == "postgresql"
        self._converters = {name: self._converter(name) for name in TABLES}
        with self.writing() as connection:
            connection.exec_driver_sql(_MARKS)

    def _made(self, url: str) -> Engine:
        try:
            backend = RedunBackendDb(db_uri=url, logger=logger)
            backend.load(migrate=True)
        except RedunVersionError as error:
            raise FormatError(
                f"a redun database of a version that the installed redun knows was expected in {self.url}: "
                f"{error}; install the redun that made it",
                code="redun_schema",
                path=self.url,
            ) from error
        except (RedunDatabaseError, ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
            raise _bad_url(self.url, str(error)) from error
        engine: Engine | None = backend.engine
        if backend.session is None or engine is None:
            raise _bad_url(self.url, "redun did not open it")
        backend.session.close()
        return engine

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in one transaction: all that is written is there at its end, or nothing."""
        with self._translated(), self._engine.connect() as connection:
            if not self._is_server:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            yield connection
            connection.commit()

    def marks(self, store_id: str) -> Marks | None:
        """Return how far a store's history has come; None if nothing of it was begun."""
        with self._translated(), self._engine.connect() as connection:
            row = connection.exec_driver_sql(
                f"SELECT generation, position, marks FROM eventstore_export WHERE store_id = {self._place}",  # noqa: S608
                (store_id,),
            ).first()
        return None if row is None else Marks(row[0], row[1], json.loads(row[2]))

    def keep_marks(self, connection: Connection, store_id: str, marks: Marks) -> None:
        """Write down how far it has come, within the transaction of the rows."""
        connection.exec_driver_sql(
            f"INSERT INTO eventstore_export VALUES ({', '.join([self._place] * 4)}) "  # noqa: S608
            "ON CONFLICT (store_id) DO UPDATE SET generation = excluded.generation, "
            "position = excluded.position, marks = excluded.marks",
            (store_id, marks.generation, marks.position, json.dumps(marks.rows)),
        )

    def known(self, connection: Connection, table: str, column: str, keys: Iterable[str]) -> set[str]:
        """Return those of the keys that are in the table."""
        wanted = list(keys)
        if not wanted:
            return set()
        inside = "= ANY (%s)" if self._is_server else "IN (SELECT value FROM json_each(?))"
        given: Any = wanted if self._is_server else json.dumps(wanted)
        statement = f"SELECT {column} FROM {table} WHERE {column} {inside}"  # noqa: S608
        return {key for (key,) in connection.exec_driver_sql(statement, (given,))}

    def put(self, connection: Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Add rows, or bring those that are there up to date; returns how many were added or changed."""
        if not rows:
            return 0
        names = [column.name for column in TABLES[table].columns]
        (key, *_) = (column.name for column in TABLES[table].primary_key)
        begin = f"INSERT INTO {table} ({', '.join(names)}) VALUES "  # noqa: S608
        end = (
            f" ON CONFLICT ({key}) DO UPDATE SET {_NEWER[table]}"
            if table in _NEWER
            else " ON CONFLICT DO NOTHING"
        )
        one = f"({', '.join([self._place] * len(names))})"
        ready = self._converters[table](rows)
        if not self._is_server:
            return max(0, connection.exec_driver_sql(begin + one + end, ready).rowcount)
        changed = 0
        for start in range(0, len(ready), _STATEMENT_ROWS):
            some = ready[start : start + _STATEMENT_ROWS]
            statement = begin + ", ".join([one] * len(some)) + end
            changed += connection.exec_driver_sql(
                statement, tuple(cell for row in some for cell in row)
            ).rowcount
        return changed

    def settle_tags(self) -> None:
        """Make every tag that another one supersedes no longer current, whoever recorded them."""
        with self.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE tag SET is_current = (1 = 0) WHERE is_current AND EXISTS "
                "(SELECT 1 FROM tag_edit WHERE tag_edit.parent_id = tag.tag_hash)"
            )

    @property
    def _place(self) -> str:
        return "%s" if self._is_server else "?"

    def _converter(self, table: str) -> Callable[[Sequence[tuple[Any, ...]]], list[tuple[Any, ...]]]:
        """Return what turns rows as SQLite has them into what this database takes."""
        changes: dict[int, Callable[[Any], Any]] = {}
        for place, column in enumerate(TABLES[table].columns):
            if not self._is_server:
                continue
            if isinstance(column.type, Boolean):
                changes[place] = bool
            elif isinstance(getattr(column.type, "impl", None), DateTime):
                changes[place] = _as_utc
        if not changes:
            return list
        return lambda rows: [_changed(row, changes) for row in rows]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except EventStoreError:
            raise
        except (SQLAlchemyError, ValueError) as error:
            original = getattr(error, "orig", None) or error
            raise StorageError(
                f"could not write to {self.url}: {original}; what was committed stays, and the next export "
                "goes on from there",
                code="database_refused",
                path=self.url,
            ) from error


def _changed(row: tuple[Any, ...], changes: Mapping[int, Callable[[Any], Any]]) -> tuple[Any, ...]:
    cells = list(row)
    for place, change in changes.items():
        if cells[place] is not None:
            cells[place] = change(cells[place])
    return tuple(cells)


def _as_utc(text: str) -> str:
    return f"{text}+00"


def _bad_url(url: str, found: str) -> InvalidEventError:
    return InvalidEventError(
        "a database of redun was expected, such as sqlite:///redun.db or postgresql+psycopg2://host/redun, "
        f"found {url}: {found}. Name and password come from REDUN_DB_USERNAME and REDUN_DB_PASSWORD; `pip "
        "install psycopg2-binary` installs the driver for PostgreSQL. Nothing was written",
        code="bad_database_url",
    )
