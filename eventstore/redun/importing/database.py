"""A redun database, opened for reading only: one consistent view of it, whatever others write meanwhile.

What its driver raises becomes our errors here, with credentials masked.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.pool import NullPool

from eventstore.errors import EventStoreError, FormatError, InvalidEventError, NotFoundError, StorageError
from eventstore.filesystem import mask_url
from eventstore.redun.importing import tables

__all__ = ["RedunDatabase", "open_database"]

BUSY_SECONDS = 60.0
"""How long a SQLite file may be locked by a writer before an import gives up."""
PAGE = 500
"""Keys that one query asks for: fewer than any database takes parameters."""


@contextlib.contextmanager
def open_database(url: str) -> Iterator[RedunDatabase]:
    """Open a redun database, look at its version, and hold one view of it until the end of the block.

    Parameters
    ----------
    url
        As redun takes it: ``sqlite:///file.db`` or ``postgresql://user@host/name``; or a path of a SQLite
        file. A SQLite file is opened without the right to write, and whoever writes to it (unless it is in
        WAL mode) waits until the end.

    Raises
    ------
    NotFoundError
        There is no such file (code ``database_not_found``).
    FormatError
        Not redun's (``not_redun``), of a version that is not read here (``redun_version``), or damaged
        (``redun_damaged``).
    StorageError
        It cannot be reached (``database_unreachable``) or is locked (``database_busy``); or its driver is not
        installed (``missing_package``).
    InvalidEventError
        A URL of another kind (``bad_database_url``).
    """
    engine, shown = _engine(url)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.dispose)
        with _translated(shown):
            connection = stack.enter_context(engine.connect())
            stack.enter_context(connection.begin())
            database = RedunDatabase(connection, shown)
            database.check_version()
        yield database


class RedunDatabase:
    """One view of a redun database.

    Parameters
    ----------
    connection
        Inside of its transaction.
    url
        Where it is, for a person: credentials masked.
    """

    def __init__(self, connection: sa.Connection, url: str) -> None:
        self._connection = connection
        self.url = url
        self._is_sqlite = connection.dialect.name == "sqlite"

    def check_version(self) -> None:
        """Raise FormatError unless the database is one that redun 0.44 opens without migrating it."""
        inspector = sa.inspect(self._connection)
        there = set(inspector.get_table_names())
        if tables.version.name not in there or tables.migration.name not in there:
            raise FormatError(
                f"a database of redun was expected at {self.url}, found one without its table "
                f"{tables.version.name!r} ({len(there)} tables); correct the URL",
                code="not_redun",
                url=self.url,
            )
        newest = sa.select(tables.version.c.version).order_by(tables.version.c.timestamp.desc()).limit(1)
        major = self._connection.execute(newest).scalar()
        applied = set(self._connection.execute(sa.select(tables.migration.c.version_num)).scalars())
        known = [tables.MIGRATIONS[each] for each in applied & tables.MIGRATIONS.keys()]
        found = max((each for each in known if each[0] == major), default=(major, None))
        words = f"{found[0]}.{'?' if found[1] is None else found[1]}"
        readable = (tables.READABLE_MAJOR, tables.READABLE_MINOR)
        if major is None or (major, 99 if found[1] is None else found[1]) < readable:
            raise self._other_version(
                words, "make a copy, and bring it up to date with `redun db upgrade` of redun 0.44 or newer"
            )
        if major > tables.READABLE_MAJOR:
            raise self._other_version(words, "upgrade eventstore")
        for table in tables.schema.sorted_tables:
            columns = (
                {each["name"] for each in inspector.get_columns(table.name)} if table.name in there else ()
            )
            missing = [name for name in table.columns.keys() if name not in columns]  # noqa: SIM118
            if missing:
                raise self._other_version(words, f"{table.name!r} has no {missing}; upgrade eventstore")

    def _other_version(self, found: str, advice: str) -> FormatError:
        return FormatError(
            f"a redun database of version {tables.READABLE_MAJOR}.{tables.READABLE_MINOR} was expected at "
            f"{self.url}, found version {found}: {advice}. Nothing was imported",
            code="redun_version",
            found=found,
            url=self.url,
        )

    # reading ---------------------------------------------------------------------------------------------

    def count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        """Return how many rows a table has."""
        chosen = sa.select(sa.func.count()).select_from(table).where(*where)
        with _translated(self.url):
            return int(self._connection.execute(chosen).scalar_one())

    def stream(
        self, query: sa.Select[Any], *, order: sa.Table | sa.ColumnElement[Any] | None = None
    ) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query, at most `PAGE` at a time.

        Parameters
        ----------
        order
            A column; or a table, for the order in which its rows were inserted, as far as that is known.
        """
        if isinstance(order, sa.Table):
            order = sa.literal_column(f"{order.name}.rowid") if self._is_sqlite else None
        if order is not None:
            query = query.order_by(order)
        options = {"stream_results": True, "max_row_buffer": PAGE}
        with _translated(self.url):
            yield from self._connection.execute(query, execution_options=options).partitions(PAGE)

    def rows_of(self, query: sa.Select[Any], key: sa.Column[Any], keys: Sequence[str]) -> list[Any]:
        """Return all rows of a query whose `key` is among `keys`."""
        found: list[Any] = []
        with _translated(self.url):
            for start in range(0, len(keys), PAGE):
                chosen = query.where(key.in_(keys[start : start + PAGE]))
                found += self._connection.execute(chosen).all()
        return found

    def grouped(
        self, key: sa.Column[Any], column: sa.Column[Any], keys: Sequence[str], *order: sa.Column[Any]
    ) -> dict[str, list[Any]]:
        """Return for each of `keys` what `column` holds in the rows that have it as `key`."""
        found: dict[str, list[Any]] = {each: [] for each in keys}
        for name, item in self.rows_of(sa.select(key, column).order_by(*(order or (column,))), key, keys):
            found[name].append(item)
        return found


# opening --------------------------------------------------------------------------------------------------


def _engine(text: str) -> tuple[sa.Engine, str]:
    """Return an engine, and the URL as people may see it."""
    try:
        url = sa.make_url(text) if "://" in text else sa.URL.create("sqlite", database=text)
    except exc.ArgumentError:
        raise _bad_url(mask_url(text)) from None
    shown = mask_url(url.render_as_string(hide_password=True))
    backend = "postgresql" if url.get_backend_name() == "postgres" else url.get_backend_name()
    if backend == "sqlite":
        return _sqlite(url.database, shown), shown
    if backend == "postgresql":
        return _postgresql(url, shown), shown
    raise _bad_url(shown)


def _bad_url(shown: str) -> InvalidEventError:
    return InvalidEventError(
        "the URL of a redun database was expected, such as sqlite:///.redun/redun.db or "
        f"postgresql://user@host/name, found {shown!r}; it is redun's setting db_uri",
        code="bad_database_url",
    )


def _sqlite(path: str | None, shown: str) -> sa.Engine:
    if not path or path == ":memory:":
        raise _bad_url(shown)
    if not Path(path).is_file():
        raise NotFoundError(
            f"a redun database was expected at {path!r}, found no file; correct the URL: it is redun's "
            "setting db_uri, and `sqlite:///` begins a path that is relative to this folder",
            code="database_not_found",
            url=shown,
        )
    place = f"file:{quote(str(Path(path).absolute()))}?mode=ro"

    def connect() -> sqlite3.Connection:
        # Without a level the driver begins no transactions of its own: ours spans all that is read.
        return sqlite3.connect(place, uri=True, timeout=BUSY_SECONDS, isolation_level=None)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _postgresql(url: sa.URL, shown: str) -> sa.Engine:
    if url.drivername in ("postgres", "postgresql"):
        # The one that redun uses; SQLAlchemy would take another.
        driver = "psycopg2" if importlib.util.find_spec("psycopg2") else "psycopg"
        url = url.set(drivername=f"postgresql+{driver}")
    try:
        return sa.create_engine(
            url,
            poolclass=NullPool,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
        )
    except ImportError as error:
        raise StorageError(
            f"a driver for {shown} was expected, found none ({error}): pip install psycopg2-binary",
            code="missing_package",
            url=shown,
        ) from None


# errors ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _translated(shown: str) -> Iterator[None]:
    """Turn what the database and its driver raise into our errors."""
    try:
        yield
    except EventStoreError:
        raise
    except exc.DBAPIError as error:
        raise _database_error(error, shown) from error
    except (exc.SQLAlchemyError, ValueError) as error:  # what a row holds is not of its column's type
        raise _damaged(shown, mask_url(str(error))) from error


def _database_error(error: exc.DBAPIError, shown: str) -> EventStoreError:
    words = mask_url(str(error.orig))
    if isinstance(error.orig, sqlite3.Error):
        number = (getattr(error.orig, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF
        if number in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StorageError(
                f"the database {shown} was expected to be free, found it locked by a writer ({words}): wait "
                "until no workflow records into it, then import again, which goes on where this one stopped",
                code="database_busy",
                transient=True,
                url=shown,
            )
        if number == sqlite3.SQLITE_NOTADB:
            return FormatError(
                f"a database of redun was expected at {shown}, found another file ({words}); correct the URL",
                code="not_redun",
                url=shown,
            )
        if number not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY):
            return _damaged(shown, words)
        words += "; if a writer died in the middle of a change, let redun open it once (`redun log`)"
    return StorageError(
        f"the database {shown} was expected to answer, found: {words.strip()}. Import again when it does: "
        "that goes on where this one stopped",
        code="database_unreachable",
        transient=isinstance(error, exc.OperationalError),
        url=shown,
    )


def _damaged(shown: str, found: str) -> FormatError:
    return FormatError(
        f"the database {shown} is damaged: {found}. What was imported before is whole; repair it (for "
        "SQLite, `sqlite3 FILE .recover`) or restore a copy, then import again",
        code="redun_damaged",
        url=shown,
    )
