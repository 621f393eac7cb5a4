"""Look-ups by key: they give what a scan gives, for every table, however many runs it has."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_kit import memory_url, open_store
from tables_kit import ALL, histories, jobs

from eventstore import EventStore, JobEnded, NotFoundError, ProjectionError
from projections import Tables, open_tables, rebuild, refresh
from projections.tables import INDEXES


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    """An empty store, in memory or in a folder."""
    url = memory_url() if request.param == "memory" else str(tmp_path / "store")
    with open_store(url, state_dir=tmp_path / "state") as opened:
        yield opened


def ended(number: int, status: str = "DONE") -> JobEnded:
    """Return the end of one of `jobs`."""
    start = next(jobs(number, number + 1))
    return JobEnded(
        job_id=start.job_id, execution_id="run", task_hash=start.task_hash, status=status, parent_id="root"
    )


def assert_lookups(tables: Tables) -> None:
    """Every row of every table is found by its key, and a key that no row has is not."""
    for name in tables:
        recipe = tables.views[name].recipe
        table = tables[name].collect()
        keys = [tuple(row) for row in table.select(recipe.key).iter_rows()]
        rows: list[Any] = list(table.iter_rows(named=True))
        assert tables.lookup_many(name, keys) == rows, name
        if keys:
            strange = tuple("~" if isinstance(cell, str) else cell for cell in keys[0])
            if any(isinstance(cell, str) for cell in keys[0]):
                assert tables.lookup(name, strange) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(parts=st.lists(histories, min_size=2, max_size=4), tail=histories)
def test_lookups_give_what_scans_give(tmp_path: Path, parts: list[Any], tail: list[Any]) -> None:
    """For every recipe, over a first run, runs behind it, events folded for the reader, and the tail."""
    with open_store(memory_url(), state_dir=tmp_path / "state") as store:
        for number, part in enumerate(parts):
            store.append(*part)
            store.seal()
            if number < len(parts) - 1:
                refresh(store, registry=ALL)
        store.append(*tail)
        for fresh in ("snapshot", "sealed", "tail"):
            with open_tables(store, registry=ALL, fresh=fresh) as tables:
                assert_lookups(tables)
        with open_tables(store, registry=ALL, at=len(parts[0])) as tables:
            assert_lookups(tables)


def test_a_row_is_joined_from_the_runs_that_speak_of_it(store: EventStore) -> None:
    """Start and end of a job are in two runs, and its row says both."""
    store.append(*jobs(0, 50))
    store.seal()
    rebuild(store, ["jobs"])
    store.append(ended(7, "FAILED"))
    store.seal()
    refresh(store, ["jobs"])
    tables = open_tables(store, ["jobs"])
    assert len(tables.views["jobs"].parts) == 2
    row = tables.lookup("jobs", "job000007")
    assert row is not None
    assert (row["status"], row["position"], row["started_at"] is not None) == ("FAILED", 7, True)
    untouched = tables.lookup("jobs", ("job000008",))
    assert untouched is not None
    assert untouched["status"] == "RUNNING"


def test_a_wrong_key_is_told(store: EventStore) -> None:
    """A key of another number or type of cells, and a table that was not opened, are no absent rows."""
    store.append(*jobs(0, 3))
    store.seal()
    tables = open_tables(store, ["jobs"], fresh="sealed")
    rebuild(store, ["jobs"])
    built = open_tables(store, ["jobs"])
    for one in (tables, built):
        with pytest.raises(ProjectionError, match="a key of job_id was expected") as caught:
            one.lookup("jobs", ("job000001", 1))
        assert caught.value.code == "bad_key"
        with pytest.raises(NotFoundError):
            one.lookup("values", "x")
    with pytest.raises(ProjectionError) as caught:
        built.lookup("jobs", (1,))
    assert caught.value.code == "bad_key"


def _indexes(store: EventStore) -> list[Path]:
    return sorted((store.local_folder / INDEXES).rglob("*.index"))


def _built(store: EventStore) -> None:
    store.append(*jobs(0, 300))
    store.seal()
    rebuild(store, ["jobs"])


def test_an_index_is_made_once_and_used_again(store: EventStore) -> None:
    """The next reader finds it; after a rebuild there is another, and the old one goes when it is old."""
    _built(store)
    with open_tables(store, ["jobs"]) as tables:
        assert tables.lookup("jobs", "job000001") is not None
    (index,) = _indexes(store)
    made = index.stat().st_mtime_ns
    with open_tables(store, ["jobs"]) as tables:
        assert tables.lookup("jobs", "job000299") is not None
    assert [index.stat().st_mtime_ns, *_indexes(store)] == [made, index]
    rebuild(store, ["jobs"])
    os.utime(index, (1, 1))
    with open_tables(store, ["jobs"]) as tables:
        assert tables.lookup("jobs", "job000299") is not None
    (other,) = _indexes(store)
    assert other != index


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "gone"])
def test_a_damaged_index_is_made_anew(store: EventStore, damage: str) -> None:
    """It is derived: whatever became of it, the answers are right."""
    _built(store)
    with open_tables(store, ["jobs"]) as tables:
        tables.lookup("jobs", "job000001")
    (index,) = _indexes(store)
    raw = index.read_bytes()
    index.unlink()
    if damage == "cut":
        index.write_bytes(raw[: len(raw) // 2])
    elif damage == "flipped":
        index.write_bytes(bytes(byte ^ 1 for byte in raw))
    elif damage == "foreign":
        index.write_bytes(b"something else")
    with open_tables(store, ["jobs"]) as tables:
        assert_lookups(tables)


def test_damage_that_shows_later_is_healed_too(store: EventStore) -> None:
    """A page that turns out to be altered at a look-up makes the index anew, and the look-up succeeds."""
    _built(store)
    with open_tables(store, ["jobs"]) as tables:
        tables.lookup("jobs", "job000001")
    (index,) = _indexes(store)
    raw = bytearray(index.read_bytes())
    place = raw.index(b"job000150")
    raw[place] ^= 1
    index.unlink()
    index.write_bytes(raw)
    with open_tables(store, ["jobs"]) as tables:
        assert_lookups(tables)


def test_threads_share_one_reader(store: EventStore) -> None:
    """Look-ups from several threads, the first of which makes the index, all find their rows."""
    _built(store)
    tables = open_tables(store, ["jobs"])
    wrong: list[object] = []

    def ask(first: int) -> None:
        for number in range(first, 300, 4):
            row = tables.lookup("jobs", f"job{number:06}")
            if row is None or row["position"] != number:
                wrong.append((number, row))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_read_only_store_can_be_asked(tmp_path: Path) -> None:
    """The index is this machine's and not the store's."""
    with open_store(tmp_path / "store") as store:
        _built(store)
    with EventStore.open(tmp_path / "store", read_only=True, state_dir=tmp_path / "other") as store:
        before = sorted((tmp_path / "store").rglob("*"))
        with open_tables(store, ["jobs"]) as tables:
            assert_lookups(tables)
        assert sorted((tmp_path / "store").rglob("*")) == before
