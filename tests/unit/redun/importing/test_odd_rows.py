"""Rows that redun writes seldom or never: each becomes an event or is named, and none stops the rest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from eventstore import EventStore
from eventstore.filesystem import open_storage
from eventstore.hashing import hash_tagged_bytes
from eventstore.redun.importing import ImportReport, adding, import_database, open_database, tables
from eventstore.value_store import RedunValueStore

A, B, C = "a" * 40, "b" * 40, "c" * 40
EMPTY = hash_tagged_bytes("Value", b"")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty database of redun's newest version."""
    path = tmp_path / "redun.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    tables.schema.create_all(engine)
    engine.dispose()
    _insert(path, "redun_version", (3, "2021-01-01 00:00:00"))
    _insert(path, "alembic_version", ("0bee3d6dba76",))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store."""
    with EventStore.open(tmp_path / "store", create=True, flush_seconds=None) as opened:
        yield opened


def _insert(path: Path, table: str, *rows: tuple[object, ...]) -> None:
    connection = sqlite3.connect(path)
    marks = ", ".join("?" * len(rows[0]))
    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - our own table
    connection.commit()
    connection.close()


def _import(path: Path, store: EventStore, values: Path | None = None) -> ImportReport:
    value_store = RedunValueStore(open_storage(values)) if values is not None else None
    with open_database(str(path)) as database:
        return import_database(database, store, value_store=value_store)


def test_what_no_event_can_hold_is_left_out_by_name(
    path: Path, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash that is none, a tag without a key, an argument without a place: all others are imported."""
    monkeypatch.setattr(adding, "MOST_NAMED", 2)
    _insert(path, "value", ("no hash", "t", "f", b"x"), (A, "t", "f", b"x"), ("A" * 40, "t", "f", b"x"))
    _insert(path, "tag", (B, "Value", A, "", "1"), (C, "Value", A, "k", "1"))
    _insert(path, "call_node", (A, "t", B, C, A, "2026-01-01 00:00:00"))
    _insert(path, "argument", (A, A, A, None, None))
    report = _import(path, store)
    assert report.left_out == {"value": 2, "call_node": 1, "tag": 1}
    assert report.added == {"value.recorded": 1, "tags.recorded": 1}
    assert len(report.faults) == 2
    assert report.faults[0].startswith("value 'no hash': value_hash: expected a hash of 40 lower-case hex")
    assert _import(path, store).added == {}


def test_arguments_that_are_no_list_become_one(path: Path, store: EventStore) -> None:
    """An execution's arguments are JSON of a list; another text is its only member."""
    odd = [("e1", "not json", None, None), ("e2", '{"a": 1}', None, None), ("e3", '["a",  "b"]', None, None)]
    rows = [(key, args, job, beat) for key, args, job, beat in odd]
    _insert(path, "execution", *rows)
    _import(path, store)
    said = [store.lookup.execution(key).args for key, *_ in odd]  # type: ignore[union-attr]
    assert said == ['["not json"]', '["{\\"a\\": 1}"]', '["a",  "b"]']


def test_a_value_that_really_is_empty_is_no_placeholder(path: Path, store: EventStore) -> None:
    """Its hash says so; no value store is asked for."""
    _insert(path, "value", (EMPTY, "t", "text/plain", b""))
    assert _import(path, store).added == {"value.recorded": 1}
    found = store.lookup.value(EMPTY)
    assert found is not None
    assert found.data == b""


def test_large_values_are_read_in_portions_and_kept_beside_the_log(
    path: Path, store: EventStore, tmp_path: Path
) -> None:
    """What redun kept inline and what it kept in files comes out the same."""
    inline, beside = b"i" * 200_000, b"b" * 200_000
    _insert(path, "value", (A, "t", "raw", inline), (B, "t", "raw", b""), (C, "t", "raw", b"small"))
    RedunValueStore(open_storage(tmp_path / "values")).put(B, beside)
    report = _import(path, store, tmp_path / "values")
    assert report.missing_values == 0
    for key, data in ((A, inline), (B, beside), (C, b"small")):
        found = store.lookup.value(key)
        assert found is not None
        assert found.data == data
    assert len(list(store.values)) == 2


def test_edges_to_nowhere_are_kept_where_an_event_names_them(path: Path, store: EventStore) -> None:
    """A child, a subvalue or a parent of which there is no row."""
    _insert(path, "value", (A, "t", "raw", b"x"))
    _insert(path, "subvalue", (B, A))
    _insert(path, "call_node", (A, "t", B, C, A, "2026-01-01 00:00:00.5"))
    _insert(path, "call_edge", (A, B, 0))
    _insert(path, "tag", (A, "Job", "j", "k", '{"b": 1, "a": NaN}'))
    _insert(path, "tag_edit", (B, A))
    report = _import(path, store)
    assert report.left_out == {}
    assert store.lookup.value_facts(A).subvalues == (B,)  # type: ignore[union-attr]
    call = store.lookup.call(A)
    assert call is not None
    assert list(call.children) == [B]
    assert call.at_us == 1_767_225_600_500_000
    tag = store.lookup.tag(A)
    assert tag is not None
    assert (list(tag.parents), tag.value) == ([B], '{"a":NaN,"b":1}')


def test_a_job_without_a_result_type_is_done_or_cached(path: Path, store: EventStore) -> None:
    """The status is derived as redun derives it, from a result where there is one."""
    start, end = "2026-01-01 00:00:00", "2026-01-01 00:00:01"
    _insert(path, "value", (A, "redun.ErrorValue", "raw", b"x"))
    _insert(path, "call_node", (B, "t", C, C, A, start))
    jobs = [
        ("failed", C, B, None, "e", start, end, 0),
        ("failed again", C, B, None, "e", start, end, 1),
        ("done", C, None, None, "e", start, end, 0),
        ("cached", C, None, "failed", "e", start, end, 1),
        ("running", C, None, "gone", "e", start, None, 0),
    ]
    _insert(path, "job", *jobs)
    _import(path, store)
    said = {name: store.lookup.job(name).status for name, *_ in jobs}  # type: ignore[union-attr]
    assert list(said.values()) == ["FAILED", "FAILED", "DONE", "CACHED", None]
    _change_end(path)
    assert _import(path, store).added == {"job.ended": 2}
    assert store.lookup.job("running").status == "DONE"  # type: ignore[union-attr]


def _change_end(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE job SET end_time = '2026-01-01 00:00:02' WHERE id IN ('running', 'cached')")
    connection.commit()
    connection.close()
