"""A store's history in a database of redun: the same rows, once, and a cache that redun itself uses."""

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redun_rows_kit as kit
from postgres_kit import PostgresMissing, postgres_server
from redun_rows_kit import Ran, events_of, history, open_scheduler, rows, tables_of
from sqlalchemy import create_engine
from store_kit import open_store
from tables_kit import at, ended, h, jobs
from typer.testing import CliRunner

from eventstore import (
    EvaluationCached,
    EventStore,
    ExecutionHeartbeat,
    ExecutionStarted,
    FormatError,
    HandleAdvanced,
    HandleRecorded,
    HandleRolledBack,
    InvalidEventError,
    JobStarted,
    NotFoundError,
    StorageError,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.cli.app import app
from eventstore.filesystem import open_storage
from eventstore.hashing import canonical_json, hash_tagged_bytes
from eventstore.redun.exporting import export as export_room
from eventstore.redun.exporting import export_to_redun
from eventstore.redun.mirror.schema import TABLES
from eventstore.redun.types import IN_VALUE_STORE, value_store_path
from eventstore.value_store import RedunValueStore


@pytest.fixture(scope="module")
def ran() -> Ran:
    """A database of redun with a bit of everything."""
    return history()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store that keeps values of more than a kilobyte beside the log."""
    with open_store(tmp_path / "store", inline_limit=1000) as opened:
        yield opened


def fill(store: EventStore, ran: Ran, share: float = 1.0) -> None:
    """Give a store the first part of the history."""
    events = list(events_of(ran.path))
    store.append(*events[store.appended : int(len(events) * share)])
    store.seal()


def test_rows_are_those_of_redun(store: EventStore, ran: Ran, tmp_path: Path) -> None:
    """Every table, row by row, bytes of large values inline; done again, nothing is written."""
    fill(store, ran)
    url = f"sqlite:///{tmp_path}/out.db"
    seen = []
    report = export_to_redun(store, url, progress=lambda done, total: seen.append((done, total)))
    right = tables_of(ran.path)
    assert tables_of(tmp_path / "out.db") == right
    assert dict(report.rows) == {name: len(found) for name, found in right.items()}
    assert (report.position, report.left_out) == (store.head().size, {})
    assert seen[-1][0] == seen[-1][1] > 0
    again = export_to_redun(store, url)
    assert (again.rows, again.left_out) == ({}, {})
    assert rows(tmp_path / "out.db", "PRAGMA foreign_key_check") == []
    db = sqlite3.connect(tmp_path / "out.db")
    assert db.execute("PRAGMA foreign_key_list(job)").fetchall()
    db.close()


def test_a_cached_workflow_runs_from_it(store: EventStore, ran: Ran, tmp_path: Path) -> None:
    """Redun's own backend answers all of a workflow, and runs of another what it would have run anyway."""
    fill(store, ran)
    export_to_redun(store, f"sqlite:///{tmp_path}/out.db")
    assert _runs_on(f"sqlite:///{tmp_path}/out.db", ran) == _runs_on(_copied(ran, tmp_path), ran)


def _copied(ran: Ran, tmp_path: Path) -> str:
    (tmp_path / "copy.db").write_bytes(ran.path.read_bytes())
    return f"sqlite:///{tmp_path}/copy.db"


def _runs_on(url: str, ran: Ran) -> tuple[list[str], list[str]]:
    scheduler = open_scheduler(url)
    kit.RUNS.clear()
    assert scheduler.run(kit.quiet(str(ran.folder)))[0] == 28
    cached = list(kit.RUNS)
    assert cached == []
    scheduler.run(kit.main(str(ran.folder)))
    scheduler.backend.session.close()
    return cached, sorted(kit.RUNS)


def test_growing_in_steps_is_all_at_once(store: EventStore, ran: Ran, tmp_path: Path) -> None:
    """Exports after each part of a history leave what one export of all of it does."""
    url = f"sqlite:///{tmp_path}/out.db"
    for share in (0.3, 0.5, 0.7, 0.85, 0.95, 1.0):
        fill(store, ran, share)
        export_to_redun(store, url)
    assert tables_of(tmp_path / "out.db") == tables_of(ran.path)
    assert export_to_redun(store, url).rows == {}


def test_an_interrupted_export_goes_on(
    store: EventStore, ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again it goes on from the last transaction: it does not begin anew."""
    monkeypatch.setattr(export_room, "CHUNK_ROWS", 20)
    fill(store, ran)
    url = f"sqlite:///{tmp_path}/out.db"
    looked_at = 0
    put = export_room.Target.put

    def dies(target: Any, connection: Any, table: str, given: Any) -> int:
        nonlocal calls, looked_at
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        looked_at += len(given)
        return put(target, connection, table, given)

    monkeypatch.setattr(export_room.Target, "put", dies)
    tries = 0
    while True:
        calls, tries = 0, tries + 1
        try:
            export_to_redun(store, url)
            break
        except KeyboardInterrupt:
            continue
    assert tries > 5
    right = tables_of(ran.path)
    assert tables_of(tmp_path / "out.db") == right
    count = sum(map(len, right.values()))
    assert count <= looked_at < count + tries * 40


def test_what_changed_after_an_interruption_is_right(
    store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was written as running before the interruption, and ended since, has ended."""
    store.append(
        TaskRecorded(task_hash=h("task"), task_name="t"), ExecutionStarted(execution_id="run", job_id="root")
    )
    store.append(JobStarted(job_id="root", execution_id="run", task_hash=h("task"), occurred_at=at(0)))
    store.append(*jobs(0, 3))
    store.seal()
    url = f"sqlite:///{tmp_path}/out.db"
    settle = export_room.Target.settle_tags

    def dies(_target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export_room.Target, "settle_tags", dies)
    with pytest.raises(KeyboardInterrupt):
        export_to_redun(store, url)
    monkeypatch.setattr(export_room.Target, "settle_tags", settle)
    store.append(ended(1), *jobs(3, 4))
    store.seal()
    export_to_redun(store, url)
    found = rows(tmp_path / "out.db", "SELECT id, end_time IS NOT NULL FROM job ORDER BY id")
    assert found == [("job000000", 0), ("job000001", 1), ("job000002", 0), ("job000003", 0), ("root", 0)]


def test_rows_that_change_are_brought_up_to_date(store: EventStore, tmp_path: Path) -> None:
    """Heartbeats, evaluations, validity of handles, current tags; what is newer over there stays."""
    values = [ValueRecorded(value_hash=h(name), type_name="t", size_bytes=1, data=b"x") for name in "vwab"]
    states = [HandleRecorded(handle_hash=h(one), handle_name="db", value_hash=h(one)) for one in "ab"]
    evaluation = {"eval_hash": h("e"), "task_hash": h("task"), "args_hash": h("args")}
    tag = TagsRecorded(
        entity_type="Job", entity_id="root", tags=(Tag(tag_hash=h("tag"), key="k", value="1"),)
    )
    store.append(
        TaskRecorded(task_hash=h("task"), task_name="t"),
        *values,
        ExecutionStarted(execution_id="run", job_id="root"),
        JobStarted(job_id="root", execution_id="run", task_hash=h("task"), occurred_at=at(0)),
        ExecutionHeartbeat(execution_id="run", occurred_at=at(1)),
        EvaluationCached(**evaluation, value_hash=h("v")),
        *states,
        HandleAdvanced(handle_hash=h("b"), handle_name="db", parents=[h("a")]),
        tag,
    )
    store.seal()
    url, path = f"sqlite:///{tmp_path}/out.db", tmp_path / "out.db"
    export_to_redun(store, url)
    store.append(
        ExecutionHeartbeat(execution_id="run", occurred_at=at(2)),
        EvaluationCached(**evaluation, value_hash=h("w")),
        HandleRolledBack(handle_hash=h("a"), handle_name="db"),
        TagsDeleted(tag_hash=h("gone"), superseded=[h("tag")]),
    )
    store.seal()
    report = export_to_redun(store, url)
    assert report.rows == {"tag": 2, "tag_edit": 1, "execution": 1, "evaluation": 1, "handle": 1}
    assert rows(path, "SELECT updated_time FROM execution") == [("2026-01-31 12:00:02.000000",)]
    assert rows(path, "SELECT value_hash FROM evaluation") == [(h("w"),)]
    assert rows(path, "SELECT is_valid FROM handle WHERE hash = ?", h("b")) == [(0,)]
    assert rows(path, "SELECT is_current FROM tag WHERE tag_hash = ?", h("tag")) == [(0,)]
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE job SET end_time = '2030-01-01 00:00:00.000000'")
        db.execute("DELETE FROM eventstore_export")
    db.close()
    assert export_to_redun(store, url).rows == {}
    assert rows(path, "SELECT end_time FROM job") == [("2030-01-01 00:00:00.000000",)]


def test_a_row_whose_references_are_nowhere_is_left_out_until_they_come(
    store: EventStore, tmp_path: Path
) -> None:
    """The database would refuse it; the next export has it, if what it names is there by then."""
    path, url = tmp_path / "out.db", f"sqlite:///{tmp_path}/out.db"
    store.append(
        *jobs(0, 2),
        EvaluationCached(eval_hash=h("e"), task_hash=h("task"), args_hash=h("a"), value_hash=h("v")),
    )
    store.seal()
    assert export_to_redun(store, url).left_out == {"job": 2, "evaluation": 1}
    store.append(
        TaskRecorded(task_hash=h("task"), task_name="t"),
        ExecutionStarted(execution_id="run"),
        JobStarted(job_id="root", execution_id="run", task_hash=h("task"), occurred_at=at(0)),
    )
    store.seal()
    report = export_to_redun(store, url)
    assert (report.rows, report.left_out) == ({"task": 1, "job": 3, "execution": 1}, {"evaluation": 1})
    assert rows(path, "SELECT id FROM job ORDER BY rowid")[0] == ("root",)
    store.append(ValueRecorded(value_hash=h("v"), type_name="t", size_bytes=1, data=b"x"))
    store.seal()
    assert export_to_redun(store, url).left_out == {}


def test_a_history_goes_into_a_database_that_has_one(store: EventStore, ran: Ran, tmp_path: Path) -> None:
    """What is there stays, also under another store's export, and what is the same is not written."""
    url = _copied(ran, tmp_path)
    fill(store, ran)
    assert export_to_redun(store, url).rows == {}
    store.append(
        JobStarted(job_id="new", execution_id="new", task_hash=_a_task(ran)),
        ExecutionStarted(execution_id="new"),
    )
    store.seal()
    assert export_to_redun(store, url).rows == {"job": 1, "execution": 1}


def test_handles_of_a_plain_python_run_come_along(store: EventStore, tmp_path: Path) -> None:
    """A state that no event describes, only a fork or an advance, has its row, its edges and its validity."""
    with store.execution() as run:
        database = run.handle("db", namespace="ns")
        fork = database.fork("a")
        state = fork.apply_call("1" * 40)
        other = database.fork("b")
        run.advance(state)
        run.advance(other)
        run.rollback(fork)
    report = export_to_redun(store, f"sqlite:///{tmp_path}/out.db")
    assert (report.rows["handle"], report.rows["handle_edge"], report.left_out) == (4, 3, {})
    found = rows(tmp_path / "out.db", "SELECT hash, fullname, key, value_hash, is_valid FROM handle")
    assert set(found) == {
        (database.hash, "ns.db", "", database.hash, 1),
        (fork.hash, "ns.db", "a", fork.hash, 1),
        (state.hash, "ns.db", "", state.hash, 0),
        (other.hash, "ns.db", "b", other.hash, 1),
    }
    edges = {(database.hash, fork.hash), (fork.hash, state.hash), (database.hash, other.hash)}
    assert set(rows(tmp_path / "out.db", "SELECT parent_id, child_id FROM handle_edge")) == edges


def _a_task(ran: Ran) -> str:
    found: str = rows(ran.path, "SELECT hash FROM task")[0][0]
    return found


def test_missing_bytes_end_the_export(store: EventStore, ran: Ran, tmp_path: Path) -> None:
    """A value without its bytes is never written as if it had none."""
    fill(store, ran)
    for path in (tmp_path / "store" / "values").rglob("*.zst"):
        path.unlink()
    with pytest.raises(NotFoundError) as caught:
        export_to_redun(store, f"sqlite:///{tmp_path}/out.db")
    assert caught.value.code == "value_missing"


def test_values_in_redun_s_value_store_stay_there_or_come_along(store: EventStore, tmp_path: Path) -> None:
    """The database gets redun's own placeholder; with the value store at hand it gets their bytes."""
    data = pickle.dumps("large", protocol=3)
    value_hash = hash_tagged_bytes("Value", data)
    beside = RedunValueStore(open_storage(tmp_path / "values"))
    beside.put(value_hash, data)
    kept = value_store_path(value_hash).encode()
    store.append(
        ValueRecorded(
            value_hash=value_hash,
            type_name="builtins.str",
            format=f"application/python-pickle{IN_VALUE_STORE}",
            size_bytes=len(kept),
            data=kept,
        )
    )
    store.seal()
    value = "SELECT format, value FROM value"
    report = export_to_redun(store, f"sqlite:///{tmp_path}/beside.db")
    assert report.in_value_store == 1
    assert rows(tmp_path / "beside.db", value) == [("application/python-pickle", b"")]
    reader = open_scheduler(tmp_path / "beside.db", value_store_path=str(tmp_path / "values"))
    assert reader.backend.get_value(value_hash) == ("large", True)
    report = export_to_redun(store, f"sqlite:///{tmp_path}/inline.db", value_store=beside)
    assert report.in_value_store == 0
    assert rows(tmp_path / "inline.db", value) == [("application/python-pickle", data)]


@pytest.mark.parametrize(
    ("url", "error", "code"),
    [
        ("mysql://host/db", InvalidEventError, "bad_database_url"),
        ("postgresql+nodriver://host/db", InvalidEventError, "bad_database_url"),
        ("postgresql+psycopg2://me:secret@host/db", InvalidEventError, "bad_database_url"),
        ("sqlite:////nowhere/at/all/redun.db", StorageError, "database_refused"),
        ("postgresql+psycopg2://127.0.0.1:1/db", StorageError, "database_refused"),
    ],
)
def test_a_database_that_cannot_be_used(
    store: EventStore, url: str, error: type[Exception], code: str
) -> None:
    """The error says what was expected; a password is never in it."""
    with pytest.raises(error) as caught:
        export_to_redun(store, url)
    assert caught.value.code == code  # type: ignore[attr-defined]
    assert "secret" not in str(caught.value)


def test_a_database_of_a_newer_redun(store: EventStore, tmp_path: Path) -> None:
    """It is left alone."""
    url = f"sqlite:///{tmp_path}/out.db"
    export_to_redun(store, url)
    db = sqlite3.connect(tmp_path / "out.db")
    with db:
        db.execute("UPDATE redun_version SET version = 9")
        db.execute("UPDATE alembic_version SET version_num = 'abc'")
    db.close()
    with pytest.raises(FormatError) as caught:
        export_to_redun(store, url)
    assert caught.value.code == "redun_schema"


def test_the_verb(store: EventStore, ran: Ran, tmp_path: Path) -> None:
    """`eventstore export STORE --to URL` says what it wrote, and what has no seal yet is sealed first."""
    fill(store, ran)
    store.append(*jobs(0, 2))
    store.close()
    call = ["export", str(tmp_path / "store"), "--to", f"sqlite:///{tmp_path}/out.db"]
    os.environ["EVENTSTORE_STATE"] = str(tmp_path / "store-state")  # put back by the fixture of all tests
    result = CliRunner().invoke(app, [*call, "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["rows"]["job"] == len(tables_of(ran.path)["job"])
    assert said["left_out"] == {"job": 2}
    again = CliRunner().invoke(app, [*call, "--sealed"])
    assert again.exit_code == 0
    assert "0 rows written" in again.stderr
    assert "left out" in again.stderr
    wrong = CliRunner().invoke(app, [*call[:-1], "mysql://host/db"])
    assert (wrong.exit_code, "bad_database_url" in wrong.stderr) == (2, True)


# PostgreSQL ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a server with empty databases, ``{}`` for their names."""
    try:
        with postgres_server() as url:
            yield url
    except PostgresMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.postgres
def test_postgres_holds_the_same(store: EventStore, ran: Ran, postgres: str) -> None:
    """Row by row what SQLite holds, in steps and again; and redun runs a cached workflow from it."""
    url = postgres.format("one")
    for share in (0.4, 0.8, 1.0):
        fill(store, ran, share)
        report = export_to_redun(store, url)
    assert report.left_out == {}
    assert export_to_redun(store, url).rows == {}
    engine = create_engine(url)
    right = tables_of(ran.path)
    with engine.connect() as connection:
        for name, table in TABLES.items():
            names = ", ".join(column.name for column in table.columns)
            found = connection.exec_driver_sql(f"SELECT {names} FROM {name}").fetchall()  # noqa: S608
            cells = [tuple(map(_plain, row)) for row in found]
            if name == "tag":
                cells = [(*row[:4], canonical_json(row[4]), int(row[5])) for row in found]
            assert sorted(cells, key=repr) == right[name], name
    engine.dispose()
    scheduler = open_scheduler(url)
    kit.RUNS.clear()
    assert scheduler.run(kit.quiet(str(ran.folder)))[0] == 28
    assert kit.RUNS == []
    scheduler.backend.session.close()
    scheduler.backend.engine.dispose()


@pytest.mark.postgres
def test_postgres_takes_jobs_in_any_order(store: EventStore, postgres: str) -> None:
    """Jobs that are recorded before those that called them come after them, with their execution."""
    job = {"execution_id": "run", "task_hash": h("task"), "occurred_at": at(0)}
    store.append(
        *(JobStarted(job_id=f"leaf{n}", parent_id=f"mid{n % 3}", **job) for n in range(10)),
        *(JobStarted(job_id=f"mid{n}", parent_id="root", **job) for n in range(3)),
        JobStarted(job_id="lost", parent_id="nobody", **job),
        JobStarted(job_id="root", **job),
        ExecutionStarted(execution_id="run"),
        TaskRecorded(task_hash=h("task"), task_name="t"),
    )
    store.seal()
    report = export_to_redun(store, postgres.format("two"))
    assert (report.rows, report.left_out) == ({"task": 1, "job": 14, "execution": 1}, {"job": 1})


def _plain(cell: Any) -> Any:
    """Return a cell of PostgreSQL as SQLite has it."""
    if isinstance(cell, dt.datetime):
        return cell.astimezone(dt.UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    if isinstance(cell, memoryview):
        return bytes(cell)
    if isinstance(cell, bool):
        return int(cell)
    return cell
