"""Which databases are opened, what is said of the others, and that none is ever written."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from eventstore import EventStoreError, FormatError, InvalidEventError, NotFoundError, StorageError
from eventstore.redun.importing import database as room
from eventstore.redun.importing import open_database, tables


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty database of redun's newest version, made of the tables that are read."""
    path = tmp_path / "redun.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    tables.schema.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO redun_version VALUES (2, '2020-01-01 00:00:00'), (3, '2021-01-01 00:00:00')")
        )
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('0bee3d6dba76')"))
    engine.dispose()
    return path


def _change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def _read(url: str | Path) -> None:
    with open_database(str(url)) as found:
        for table in (tables.job, tables.value):
            found.count(table)
            list(found.stream(sa.select(table)))


def _refused(url: str | Path) -> EventStoreError:
    with pytest.raises(EventStoreError) as caught:
        _read(url)
    return caught.value


@pytest.mark.parametrize("form", ["sqlite:///{}", "sqlite+pysqlite:///{}", "{}"])
def test_a_database_is_named_by_url_or_path(path: Path, form: str) -> None:
    """As redun names it, or by the file alone."""
    with open_database(form.format(path)) as found:
        assert found.count(tables.job) == 0
        assert path.name in found.url


def test_a_path_may_have_any_characters(path: Path) -> None:
    """Also those that mean something in a URL."""
    strange = path.rename(path.with_name("a ?mode=rw#b%20.db"))
    with open_database(str(strange)) as found:
        assert found.count(tables.job) == 0


# refused --------------------------------------------------------------------------------------------------


def test_no_file_is_made_where_there_is_none(tmp_path: Path) -> None:
    """The error says what the URL should be."""
    error = _refused(f"sqlite:///{tmp_path}/missing.db")
    assert isinstance(error, NotFoundError)
    assert error.code == "database_not_found"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://me:secret@host/db", "://x", "x://"]
)
def test_other_urls_are_refused(url: str) -> None:
    """Databases in memory hold nothing, and redun has no other kinds; passwords are not repeated."""
    error = _refused(url)
    assert isinstance(error, InvalidEventError)
    assert error.code == "bad_database_url"
    assert "secret" not in str(error)


def test_another_database_is_not_taken_for_one_of_redun(tmp_path: Path) -> None:
    """Nor is a file that is no database."""
    _change(tmp_path / "other.db", "CREATE TABLE job (id TEXT)")
    (tmp_path / "text.db").write_text("no database at all, but long enough to look at" * 50)
    for name in ("other.db", "text.db"):
        error = _refused(tmp_path / name)
        assert isinstance(error, FormatError)
        assert error.code == "not_redun"


@pytest.mark.parametrize(
    ("major", "migration", "words"),
    [
        (3, "3b0a6e67cc58", "found version 3.4: make a copy, and .* `redun db upgrade`"),
        (2, "d4af139b6f53", r"found version 2.3: make a copy"),
        (4, "ffff0000ffff", r"found version 4.\?: upgrade eventstore"),
    ],
)
def test_other_versions_are_refused_with_what_to_do(
    path: Path, major: int, migration: str, words: str
) -> None:
    """Older ones are to be migrated by redun, in a copy; newer ones need a newer package."""
    _change(
        path,
        f"UPDATE redun_version SET version = {major}",  # noqa: S608 - our own number
        f"UPDATE alembic_version SET version_num = '{migration}'",  # noqa: S608
    )
    error = _refused(path)
    assert isinstance(error, FormatError)
    assert error.code == "redun_version"
    with pytest.raises(FormatError, match=words), open_database(str(path)):
        pass


def test_a_newer_minor_version_is_read_if_what_is_read_is_there(path: Path) -> None:
    """As redun 0.44 does; a column that is gone is named."""
    _change(
        path,
        "UPDATE alembic_version SET version_num = 'ffff0000ffff'",
        "ALTER TABLE job ADD COLUMN more TEXT",
    )
    with open_database(str(path)) as found:
        assert found.count(tables.job) == 0
    _change(path, "ALTER TABLE job RENAME COLUMN cached TO was_cached")
    error = _refused(path)
    assert error.code == "redun_version"
    assert "'job' has no ['cached']" in str(error)


def test_a_version_that_was_never_written_is_refused(path: Path) -> None:
    """A database whose making was interrupted."""
    _change(path, "DELETE FROM redun_version")
    assert _refused(path).code == "redun_version"


# damaged, locked ------------------------------------------------------------------------------------------


def _fill(path: Path) -> None:
    connection = sqlite3.connect(path)
    rows = [(f"{number:040x}", "bytes", "raw", b"x" * 400) for number in range(500)]
    connection.executemany("INSERT INTO value VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()


def test_a_damaged_file_is_told(path: Path) -> None:
    """Pages that make no sense end it with an error that says what to do."""
    _fill(path)
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2 // 4096 * 4096
    raw[middle : middle + 3 * 4096] = b"\xff" * (3 * 4096)
    path.write_bytes(raw)
    error = _refused(path)
    assert isinstance(error, FormatError)
    assert error.code == "redun_damaged"
    assert ".recover" in str(error)


def test_a_truncated_file_is_told(path: Path) -> None:
    """Half a copy."""
    _fill(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert _refused(path).code == "redun_damaged"


@pytest.mark.parametrize(
    "row", ["'j', 't', NULL, NULL, 'e', 'yesterday', NULL, 0", "'j', x'ff', NULL, NULL, x'ff', 'no', NULL, 0"]
)
def test_a_row_that_cannot_be_read_is_told(path: Path, row: str) -> None:
    """SQLite holds anything in any column."""
    _change(path, f"INSERT INTO job VALUES ({row})")  # noqa: S608 - our own rows
    assert _refused(path).code == "redun_damaged"


def test_a_locked_file_is_told_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that does not let go; the error is one that passes."""
    monkeypatch.setattr(room, "BUSY_SECONDS", 0.05)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    error = _refused(path)
    assert isinstance(error, StorageError)
    assert (error.code, error.transient) == ("database_busy", True)
    writer.execute("ROLLBACK")
    with open_database(str(path)) as found:
        assert found.count(tables.job) == 0
    writer.close()


def test_nothing_can_be_written(path: Path) -> None:
    """Not even by mistake."""
    before = path.read_bytes()
    with open_database(str(path)) as found, pytest.raises(sa.exc.OperationalError, match="readonly"):
        found._connection.execute(sa.insert(tables.task).values(hash="a", name="b", namespace="", source=""))
    assert path.read_bytes() == before


def test_one_view_is_held(path: Path) -> None:
    """Rows that are committed after the opening are not seen, where a writer may commit at all."""
    _change(path, "PRAGMA journal_mode = WAL")
    with open_database(str(path)) as found:
        _fill(path)
        assert found.count(tables.value) == 0
    with open_database(str(path)) as found:
        assert found.count(tables.value) == 500


# PostgreSQL -----------------------------------------------------------------------------------------------


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install, and without the password."""
    for driver in ("psycopg2", "psycopg"):
        monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    error = _refused("postgresql://me:secret@localhost/redun")
    assert isinstance(error, StorageError)
    assert error.code == "missing_package"
    assert "psycopg2-binary" in str(error)
    assert "secret" not in str(error)


def test_a_server_that_does_not_answer_is_told() -> None:
    """Without the password, and as an error that may pass."""
    pytest.importorskip("psycopg2")
    error = _refused("postgresql://me:secret@127.0.0.1:9/redun?connect_timeout=2")
    assert isinstance(error, StorageError)
    assert (error.code, error.transient) == ("database_unreachable", True)
    assert "secret" not in str(error)
