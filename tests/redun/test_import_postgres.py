"""A redun database in PostgreSQL, imported: the same history as from SQLite."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from import_kit import RedunPlace, differences, misplaced, run_everything
from postgres_kit import PostgresMissing, postgres_server

from eventstore import EventStore, StorageError
from eventstore.redun.importing import open_database, tables


class _Server(RedunPlace):
    """A database of redun on a server."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, value_store=True)
        self._url = url

    @property
    def url(self) -> str:
        """As redun takes it."""
        return self._url

    def rows(self, query: str) -> list[Any]:
        """What the database says; times as SQLite gives them."""
        if "tag.rowid" in query or "ORDER BY rowid" in query:
            query = query.replace(" ORDER BY rowid", "")
        found = super().rows(query)
        return [_Row(row) for row in found]


class _Row:
    """A row whose times are text and whose truth values are numbers."""

    def __init__(self, row: Any) -> None:
        self._fields = {
            name: str(value.replace(tzinfo=None)) if hasattr(value, "tzinfo") else value
            for name, value in row._mapping.items()
        }

    def __getattr__(self, name: str) -> Any:
        return self._fields[name]

    def __getitem__(self, place: int) -> Any:
        return list(self._fields.values())[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._fields.values())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server with databases."""
    try:
        with postgres_server() as url:
            yield url
    except PostgresMissing as missing:
        pytest.skip(str(missing))


def test_history_says_the_same_after_an_import(server: str, tmp_path: Path) -> None:
    """Every record, evaluations, handles, subtree tasks, heartbeats; a second import adds nothing."""
    place = _Server(tmp_path / "redun", server.format("one"))
    run_everything(place)
    with EventStore.open(tmp_path / "store", create=True) as store:
        report = place.bring_into(store)
        assert differences(place, store) == []
        assert misplaced(store) == []
        assert (report.missing_values, report.left_out) == (0, {})
        assert place.bring_into(store).added == {}


def test_the_import_is_of_its_beginning(server: str, tmp_path: Path) -> None:
    """What is committed meanwhile is not seen, nobody waits, and nothing can be written."""
    place = _Server(tmp_path / "redun", server.format("two"))
    run_everything(place)
    count = place.rows("SELECT count(*) FROM job")[0][0]
    engine = sa.create_engine(place.url)
    with open_database(place.url) as database:
        assert database.count(tables.job) == count
        with engine.begin() as writer:
            writer.execute(sa.text("UPDATE job SET cached = true"))
            writer.execute(sa.text("DELETE FROM tag_edit"))
        with EventStore.open(tmp_path / "store", create=True) as store:
            assert sum(len(page) for page in database.stream(sa.select(tables.job.c.id))) == count
            assert any(not row.cached for page in database.stream(sa.select(tables.job)) for row in page)
            assert store.head().size == 0
        with pytest.raises(sa.exc.DBAPIError, match="read-only transaction"):
            database._connection.execute(sa.delete(tables.tag))
    engine.dispose()


def test_a_database_that_is_not_there_is_told(server: str) -> None:
    """The server's words, and that it may be tried again."""
    with pytest.raises(StorageError) as caught, open_database(server.format("nowhere")):
        pass
    assert caught.value.code == "database_unreachable"


def test_the_server_of_tests_does_not_wait_for_its_clients() -> None:
    """It ends at once, with a client amid a transaction, and takes its folder along."""
    try:
        with postgres_server() as url:
            engine = sa.create_engine(url.format("one"))
            client = engine.connect()
            client.execute(sa.text("SELECT 1"))
            started = time.monotonic()
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    assert time.monotonic() - started < 10
    assert not Path(url.partition("host=")[2]).exists()
    with pytest.raises(sa.exc.OperationalError):
        client.execute(sa.text("SELECT 1"))
    client.invalidate()
    engine.dispose()
