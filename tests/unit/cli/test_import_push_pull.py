"""`eventstore import`, `push` and `pull`: what they say, and how they end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from eventstore import EventStore, ExecutionHeartbeat, ValueRecorded
from eventstore.cli.exits import ExitCode
from eventstore.redun.importing import tables
from tests.unit.cli.conftest import Run, damage, objects
from tests.unit.cli.test_verify_and_seal import files_of

A, B = "a" * 40, "b" * 40


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database of redun with an execution, a job, two values of which one lies elsewhere, and a bad tag."""
    path = tmp_path / "redun.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    tables.schema.create_all(engine)
    rows = {
        "redun_version": "(3, '2021-01-01 00:00:00')",
        "alembic_version": "('0bee3d6dba76')",
        "value": f"('{A}', 'int', 'raw', x'31'), ('{B}', 'int', 'raw', x'')",
        "execution": "('e-1', '[\"run\"]', 'j-1', NULL)",
        "job": f"('j-1', '{A}', NULL, NULL, 'e-1', '2026-01-01 00:00:00', '2026-01-01 00:00:01', 0)",
        "tag": f"('{A}', 'Job', 'j-1', '', '1')",
    }
    with engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(sa.text(f"INSERT INTO {table} VALUES {values}"))  # noqa: S608 - our own
    engine.dispose()
    return path


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A store with a large value and a heartbeat."""
    url = tmp_path / "other"
    with EventStore.open(url, create=True, inline_limit=10, flush_seconds=None) as opened:
        opened.append(
            ValueRecorded(value_hash=A, type_name="bytes", size_bytes=100, data=b"x" * 100),
            ExecutionHeartbeat(execution_id="other"),
        )
    return url


# import ---------------------------------------------------------------------------------------------------


def test_import_makes_the_store_and_counts(run: Run, database: Path, tmp_path: Path) -> None:
    """What was read and added on stdout; what was left out is warned of, with names."""
    (tmp_path / "values").mkdir()
    args = ("import", f"sqlite:///{database}", tmp_path / "new", "--value-store", tmp_path / "values")
    result = run(*args)
    assert result.exit_code == 0, result.stderr
    assert "5 rows read, 4 events added" in result.stdout
    assert "job.ended" in result.stdout
    assert "1 value left out" in result.stderr
    assert "1 row of the table 'tag' left out" in result.stderr
    assert f"tag '{A}': key: expected at least 1 characters" in result.stderr
    assert run("verify", tmp_path / "new").exit_code == 0
    again = run(*args)
    assert "0 events added" in again.stdout


def test_import_as_an_object(run: Run, database: Path, tmp_path: Path) -> None:
    """The same for programs."""
    (tmp_path / "values").mkdir()
    (done,) = objects(
        run("import", database, tmp_path / "new", "--value-store", tmp_path / "values", "--json")
    )
    assert done["found"] == {"values": 2, "executions": 1, "jobs": 1, "tags": 1}
    assert done["added"] == {"value.recorded": 1, "execution.started": 1, "job.started": 1, "job.ended": 1}
    assert (done["missing_values"], done["kept_valid"], done["left_out"]) == (1, 0, {"tag": 1})
    assert done["size"] == 4
    assert len(done["faults"]) == 1


def test_import_asks_for_the_value_store(run: Run, database: Path, tmp_path: Path) -> None:
    """With the option that names it."""
    result = run("import", database, tmp_path / "new")
    assert result.exit_code == ExitCode.FAILED
    assert "error[value_store_needed]" in result.stderr
    assert "--value-store" in result.stderr


@pytest.mark.parametrize(
    ("url", "code", "exit_code"),
    [
        ("sqlite:///nowhere.db", "database_not_found", ExitCode.FAILED),
        ("mysql://me:secret@host/db", "bad_database_url", ExitCode.USAGE),
    ],
)
def test_import_makes_no_store_for_a_wrong_url(
    run: Run, tmp_path: Path, url: str, code: str, exit_code: ExitCode
) -> None:
    """The database is looked at first; credentials are not repeated."""
    result = run("import", url, tmp_path / "new")
    assert result.exit_code == exit_code
    assert f"error[{code}]" in result.stderr
    assert "secret" not in result.stderr
    assert not (tmp_path / "new").exists()


def test_import_without_redun_says_what_to_install(
    run: Run, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra of the package."""
    monkeypatch.setitem(sys.modules, "eventstore.redun.importing", None)
    result = run("import", database, tmp_path / "new")
    assert result.exit_code == ExitCode.FAILED
    assert "error[missing_package]" in result.stderr
    assert "pip install 'eventstore[redun]'" in result.stderr


# push and pull --------------------------------------------------------------------------------------------


def test_push_sends_and_says_how_much(run: Run, store: Path, other: Path) -> None:
    """Then there is nothing more to send, and the other store verifies."""
    result = run("push", other, store)
    assert result.exit_code == 0, result.stderr
    assert "2 events sent as 1 segment, and 1 large value of 100 bytes" in result.stderr
    assert "the log there has 8 events" in result.stderr
    assert "nothing to send" in run("push", other, store).stderr
    assert run("verify", store).exit_code == 0


def test_pull_is_the_same_from_the_other_side(run: Run, store: Path, other: Path) -> None:
    """The other store is not written."""
    before = files_of(other)
    (done,) = objects(run("pull", store, other, "--json"))
    assert (done["type"], done["events"], done["files"], done["size"]) == ("done", 2, 1, 8)
    assert (done["values"], done["value_bytes"]) == (1, 100)
    assert files_of(other) == before
    assert "nothing to send" in run("pull", store, other).stderr


def test_push_seals_first_and_pull_does_not(run: Run, store: Path, other: Path) -> None:
    """What is durable and not sealed belongs to the pusher."""
    with EventStore.open(other, auto_seal=False) as opened:
        opened.append(ExecutionHeartbeat(execution_id="late"))
    (pulled,) = objects(run("pull", store, other, "--json"))
    (pushed,) = objects(run("push", other, store, "--json"))
    assert (pulled["events"], pushed["events"]) == (2, 1)


def test_a_dry_run_shows_the_plan_and_changes_nothing(run: Run, store: Path, other: Path) -> None:
    """In neither store."""
    before = files_of(store), files_of(other)
    result = run("push", other, store, "--dry-run")
    assert result.exit_code == 0
    assert "2 events of 1 writer in 1 segment" in result.stderr
    assert "1 large value, would be sent" in result.stderr
    (plan,) = objects(run("pull", store, other, "--dry-run", "--json"))
    assert plan["type"] == "plan"
    assert (plan["events"], plan["segments"], plan["writers"], plan["values"]) == (2, 1, 1, 1)
    assert (files_of(store), files_of(other)) == before
    run("push", other, store)
    assert "nothing to send" in run("push", other, store, "--dry-run").stderr


def test_a_new_store_is_made_only_when_asked(run: Run, store: Path, tmp_path: Path) -> None:
    """A mistyped URL is no new store."""
    for verb, args in (("push", (store, tmp_path / "new")), ("pull", (tmp_path / "new", store))):
        result = run(verb, *args)
        assert result.exit_code == ExitCode.FAILED
        assert "store_not_found" in result.stderr
    assert run("push", store, tmp_path / "new", "--create").exit_code == 0
    assert run("pull", tmp_path / "newer", store, "--create").exit_code == 0
    assert run("pull", tmp_path / "newest", store, "--create", "--dry-run").exit_code == ExitCode.FAILED


def test_a_store_is_not_pushed_into_itself(run: Run, store: Path) -> None:
    """By whatever name."""
    for verb in ("push", "pull"):
        result = run(verb, store, store.parent / "." / store.name)
        assert result.exit_code == ExitCode.USAGE
        assert "error[same_store]" in result.stderr


def test_a_damaged_segment_ends_it_with_its_name(run: Run, store: Path, other: Path) -> None:
    """As damage ends everything else: with the code for it, and nothing of it arrives."""
    path = damage(other)
    for verb, args in (("push", (other, store)), ("pull", (store, other))):
        result = run(verb, *args)
        assert result.exit_code == ExitCode.INTEGRITY
        assert path in result.stderr
    with EventStore.open(store, read_only=True) as opened:
        assert opened.head().size == 6
