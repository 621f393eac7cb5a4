"""A redun database that redun itself has written, imported: the store says all that it says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from import_kit import RedunPlace, close, differences, everything, misplaced
from redun.backends.db import parse_db_version

from eventstore import EventStore, FormatError


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RedunPlace:
    """A database that has seen runs, a failure, the cache, a handle undone, tags edited."""
    return everything(tmp_path_factory.mktemp)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store."""
    with EventStore.open(tmp_path / "store", create=True) as opened:
        yield opened


def test_history_says_the_same_after_an_import(ran: RedunPlace, store: EventStore) -> None:
    """Every record that redun exports, and evaluations, handles, subtree tasks, heartbeats."""
    report = ran.bring_into(store)
    assert differences(ran, store) == []
    tables = ("value", "task", "handle", "call_node", "evaluation", "execution", "job", "tag")
    counts = [len(ran.rows(f"SELECT 1 FROM {table}")) for table in tables]  # noqa: S608 - names of our own
    assert list(report.found.values()) == counts
    assert min(counts) > 0
    assert (report.missing_values, report.kept_valid, report.left_out) == (0, 0, {})
    assert store.seal().size == sum(report.added.values())
    assert store.verify().findings == []


def test_the_database_is_one_that_tries_the_import(ran: RedunPlace) -> None:
    """It has an invalid handle, a valid one, a failed and a cached job, a deleted tag, values beside it."""
    assert {row.is_valid for row in ran.rows("SELECT is_valid FROM handle")} == {0, 1}
    assert {row.cached for row in ran.rows("SELECT cached FROM job")} == {0, 1}
    assert ran.rows("SELECT * FROM tag WHERE entity_type = 'Null'")
    assert ran.rows("SELECT * FROM value WHERE length(value) = 0")
    assert ran.rows("SELECT * FROM value WHERE type = 'redun.ErrorValue'")
    assert ran.rows("SELECT * FROM argument_result")
    assert ran.rows("SELECT * FROM subvalue")


def test_what_is_mentioned_comes_first(ran: RedunPlace, store: EventStore) -> None:
    """Values, tasks, calls and tags are said before any event that mentions them."""
    ran.bring_into(store)
    assert misplaced(store) == []


def test_a_second_import_adds_nothing(ran: RedunPlace, store: EventStore, tmp_path: Path) -> None:
    """In the same process, and in one that opens the store anew."""
    ran.bring_into(store)
    assert ran.bring_into(store).added == {}
    root = store.seal().root
    store.close()
    with EventStore.open(tmp_path / "store") as again:
        assert ran.bring_into(again).added == {}
        assert again.seal().root == root


def test_the_database_is_not_touched(ran: RedunPlace, store: EventStore) -> None:
    """No byte of it changes, and no file beside it."""
    before = ran.path.read_bytes(), sorted(ran.folder.iterdir())
    ran.bring_into(store)
    assert (ran.path.read_bytes(), sorted(ran.folder.iterdir())) == before


def test_progress_ends_where_it_was_said_to_end(ran: RedunPlace, store: EventStore) -> None:
    """Rows that were looked at grow up to the number of all rows."""
    told: list[tuple[int, int]] = []
    report = ran.bring_into(store, progress=lambda done, total: told.append((done, total)))
    assert told[0][0] == 0
    assert told[-1] == (sum(report.found.values()),) * 2
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_without_the_value_store_nothing_is_imported(ran: RedunPlace, store: EventStore) -> None:
    """Values that lie beside the database are asked for by name, before anything is appended."""
    ran_without = RedunPlace(ran.folder)
    with pytest.raises(LookupError, match="--value-store") as caught:
        ran_without.bring_into(store)
    assert caught.value.code == "value_store_needed"  # type: ignore[attr-defined]
    assert store.seal().size == 0


def test_values_that_are_gone_are_left_out_and_counted(
    ran: RedunPlace, store: EventStore, tmp_path: Path
) -> None:
    """With a value store that lost them, all else is imported; and they are imported once they are back."""
    lost = RedunPlace(tmp_path / "lost", value_store=True)
    lost.path = ran.path
    assert lost.values is not None
    lost.values.mkdir()
    report = lost.bring_into(store)
    assert report.missing_values == len(ran.rows("SELECT * FROM value WHERE length(value) = 0")) > 0
    assert report.found["jobs"] * 2 == report.added["job.started"] + report.added["job.ended"]
    late = ran.bring_into(store)
    assert late.added == {"value.recorded": report.missing_values}
    assert differences(ran, store) == []


def test_two_imports_at_once_leave_one_history(ran: RedunPlace, store: EventStore, tmp_path: Path) -> None:
    """A second store that was imported into on its own agrees with the first in everything that was asked."""
    ran.bring_into(store)
    with EventStore.open(tmp_path / "other", create=True) as other:
        ran.bring_into(other)
        store.seal()
        other.seal()
        store.pull(other)
        assert differences(ran, store) == []
        assert ran.bring_into(store).added == {}


def test_a_database_in_wal_mode_is_read_while_it_is_written(ran: RedunPlace, tmp_path: Path) -> None:
    """An import says what the database said at its beginning, whatever is committed meanwhile."""
    place = RedunPlace(tmp_path / "wal", value_store=True)
    place.path.write_bytes(ran.path.read_bytes())
    place.values = ran.values
    writer = sqlite3.connect(place.path, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    jobs = writer.execute("SELECT count(*) FROM job").fetchone()[0]

    def interfere(done: int, _total: int) -> None:
        if done:
            writer.execute("UPDATE execution SET args = '[\"later\"]'")
            writer.execute("DELETE FROM job")

    with EventStore.open(tmp_path / "wal-store", create=True) as store:
        report = place.bring_into(store, progress=interfere)
        assert report.found["jobs"] == jobs
        assert differences(ran, store) == []
    writer.close()


def test_a_writer_of_a_plain_database_waits(ran: RedunPlace, tmp_path: Path) -> None:
    """Without WAL, whoever commits meanwhile is kept waiting, so that the import is of one moment."""
    place = RedunPlace(tmp_path / "plain", value_store=True)
    place.path.write_bytes(ran.path.read_bytes())
    place.values = ran.values
    writer = sqlite3.connect(place.path, isolation_level=None, timeout=0)
    refused: list[str] = []

    def interfere(done: int, _total: int) -> None:
        if done and not refused:
            try:
                writer.execute("DELETE FROM job")
            except sqlite3.OperationalError as error:
                refused.append(str(error))

    with EventStore.open(tmp_path / "plain-store", create=True) as store:
        place.bring_into(store, progress=interfere)
        assert refused == ["database is locked"]
        assert differences(ran, store) == []
    writer.execute("DELETE FROM job")
    writer.close()


def test_a_damaged_database_ends_the_import_and_leaves_a_whole_store(
    ran: RedunPlace, store: EventStore, tmp_path: Path
) -> None:
    """What was read before the damage is there; from a good copy the rest comes."""
    place = RedunPlace(tmp_path / "damaged", value_store=True)
    place.values = ran.values
    raw = bytearray(ran.path.read_bytes())
    connection = sqlite3.connect(ran.path)
    page, size = connection.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master WHERE name = 'job'"
    ).fetchone()
    connection.close()
    raw[(page - 1) * size : page * size] = b"\xff" * size
    place.path.write_bytes(raw)
    with pytest.raises(FormatError, match="is damaged") as caught:
        place.bring_into(store)
    assert caught.value.code == "redun_damaged"
    assert store.verify().findings == []
    ran.bring_into(store)
    assert differences(ran, store) == []


def test_a_database_that_redun_has_not_migrated_is_imported_after_it_has(tmp_path: Path) -> None:
    """Of the version before it is refused with redun's own command; brought up to date, it is read."""
    place = RedunPlace(tmp_path / "old")
    backend = place.backend()
    backend.migrate(parse_db_version("3.4"))
    close(backend)
    with EventStore.open(tmp_path / "store", create=True) as opened:
        with pytest.raises(FormatError, match=r"found version 3.4: make a copy, .* `redun db upgrade`"):
            place.bring_into(opened)
        close(place.backend())  # migrates
        assert place.bring_into(opened).added == {}
