"""`eventstore rebuild` and `eventstore query`: tables, SQL, and what comes out."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import polars as pl
import pytest

from eventstore import EventStore, ExecutionHeartbeat, ExecutionStarted
from eventstore.cli.exits import ExitCode
from eventstore.cli.sql import mentioned
from projections import default_projections
from tests.unit.cli.conftest import Run, damage, lines, objects

JOBS = "SELECT job_id, status FROM jobs ORDER BY job_id"
ANSWER = [{"job_id": "job-1", "status": "DONE"}, {"job_id": "job-2", "status": "FAILED"}]


def test_rebuild_builds_named_tables(run: Run, store: Path) -> None:
    """Named tables get a snapshot at the head, and no others do."""
    assert objects(run("rebuild", store, "jobs", "tasks", "--json")) == [
        {"table": "jobs", "rows": 2, "position": 6},
        {"table": "tasks", "rows": 1, "position": 6},
    ]
    result = run("query", store, "SELECT * FROM executions")
    assert result.exit_code == ExitCode.FAILED
    assert "error[no_snapshot]" in result.stderr
    assert "eventstore rebuild" in result.stderr


def test_rebuild_builds_all(run: Run, store: Path) -> None:
    """Without names every table is built, and the talk says how long it took."""
    result = run("rebuild", store)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == default_projections.names
    assert "16 tables stand at 6 events" in result.stderr


def test_rebuild_of_an_unknown_table(run: Run, store: Path) -> None:
    """A name that is no table is told, with the tables that there are, and nothing is built."""
    result = run("rebuild", store, "jobz")
    assert result.exit_code == ExitCode.FAILED
    assert "error[unknown_projection]" in result.stderr
    assert "jobs" in result.stderr
    assert not (store / "projections").exists()


def test_rebuild_of_a_damaged_store(run: Run, store: Path) -> None:
    """A table is not made of altered events."""
    damage(store)
    result = run("rebuild", store, "jobs")
    assert result.exit_code == ExitCode.INTEGRITY
    assert "eventstore verify" in result.stderr
    assert "Traceback" not in result.stderr


def test_store_may_come_from_the_environment(run: Run, store: Path) -> None:
    """With EVENTSTORE_URL every verb works without STORE, and a table's name is never a store."""
    env = {"EVENTSTORE_URL": str(store)}
    assert objects(run("rebuild", "jobs", "--json", env=env))[0]["table"] == "jobs"
    assert objects(run("query", JOBS, "--json", env=env)) == ANSWER
    for verb in ("info", "events", "verify", "seal"):
        assert run(verb, env=env).exit_code == 0
    assert (
        run("append", env=env, input=lines({"kind": "execution.heartbeat", "execution_id": "x"})).exit_code
        == 0
    )
    result = run("rebuild", "jobs")
    assert result.exit_code == ExitCode.USAGE
    assert "STORE" in result.stderr


def test_formats(run: Run, store: Path, tmp_path: Path) -> None:
    """The same answer comes as a table, as CSV, as JSON lines and as Parquet, to stdout and to files."""
    run("rebuild", store, "jobs")
    table = run("query", store, JOBS).stdout.splitlines()
    assert table[0].split() == ["job_id", "status"]
    assert [line.split() for line in table[2:]] == [["job-1", "DONE"], ["job-2", "FAILED"]]
    assert list(csv.DictReader(io.StringIO(run("query", store, JOBS, "--format", "csv").stdout))) == ANSWER
    assert objects(run("query", store, JOBS, "--json")) == ANSWER
    parquet = run("query", store, JOBS, "--format", "parquet").stdout_bytes
    assert pl.read_parquet(io.BytesIO(parquet)).to_dicts() == ANSWER
    for ending, read in ((".csv", pl.read_csv), (".jsonl", pl.read_ndjson), (".parquet", pl.read_parquet)):
        file = tmp_path / f"answer{ending}"
        result = run("query", store, JOBS, "--output", file)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "2 rows written" in result.stderr
        assert read(file).to_dicts() == ANSWER


def test_everything_of_the_log_can_be_written(run: Run, store: Path) -> None:
    """All columns of events, nested ones and bytes too, come out as CSV and as JSON."""
    with EventStore.open(store) as opened, opened.execution(args=["x"], tags={"color": "red"}):
        pass
    everything = "SELECT * FROM events ORDER BY position"
    found = objects(run("query", store, everything, "--json"))
    rows = list(csv.DictReader(io.StringIO(run("query", store, everything, "--format", "csv").stdout)))
    assert len(found) == len(rows) > 6
    assert [row["kind"] for row in rows] == [one["kind"] for one in found]
    tagged = next(one for one in found if one["tags"])
    assert tagged["tags"][0]["key"] == "color"
    row = rows[found.index(tagged)]
    assert '"color"' in row["tags"]
    assert row["occurred_at"] == tagged["occurred_at"]
    assert row["event_hash"] == tagged["event_hash"]


def test_answer_without_rows(run: Run, store: Path) -> None:
    """No rows are an answer: a note for people, and a head in CSV."""
    result = run("query", store, "SELECT kind FROM events WHERE kind = 'x'")
    assert result.exit_code == 0
    assert "no rows" in result.stderr
    assert (
        run("query", store, "SELECT kind FROM events WHERE kind = 'x'", "--format", "csv").stdout == "kind\n"
    )


def test_table_is_limited_and_says_so(run: Run, store: Path) -> None:
    """--limit cuts a table for people with a note; 0 shows all."""
    query = "SELECT position FROM events ORDER BY position"
    result = run("query", store, query, "--limit", "2")
    assert [line.strip() for line in result.stdout.splitlines()[2:]] == ["0", "1"]
    assert "first 2 rows" in result.stderr
    assert len(run("query", store, query, "--limit", "0").stdout.splitlines()) == 8


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT nope FROM events", "nope"),
        ("SELECT kind FRM events", "Expected"),
        ("SELECT kind FROM event", "a table was expected"),
        ("SELECT no_function(kind) FROM events", "no_function"),
        ("SELECT kind FROM events; SELECT 1", "one (and only one)"),
        ("DELETE FROM events", "a query reads"),
        ("/* harmless */ DROP TABLE events", "a query reads"),
        ("", "a query reads"),
    ],
)
def test_bad_sql_is_a_usage_error(run: Run, store: Path, query: str, told: str) -> None:
    """SQL that is wrong, or no question, ends with 2 and polars' words without its plan."""
    result = run("query", store, query)
    assert result.exit_code == ExitCode.USAGE
    assert told in result.stderr
    assert "plan" not in result.stderr
    assert "Traceback" not in result.stderr


def test_failed_query_leaves_no_file(run: Run, store: Path, tmp_path: Path) -> None:
    """An answer that fails on the way leaves the file as it was, and nothing beside it."""
    file = tmp_path / "answer.csv"
    file.write_text("old")
    assert run("query", store, "SELECT nope FROM events", "-o", file).exit_code == ExitCode.USAGE
    assert file.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if path != store) == ["answer.csv"]


def test_file_of_unknown_ending_needs_a_format(run: Run, store: Path, tmp_path: Path) -> None:
    """A table for people is not written to files."""
    file = tmp_path / "answer.txt"
    assert run("query", store, "SELECT kind FROM events", "-o", file).exit_code == ExitCode.USAGE
    assert run("query", store, "SELECT kind FROM events", "-o", file, "--format", "csv").exit_code == 0
    assert file.read_text().startswith("kind\n")


def test_refresh_goes_on_from_where_tables_stand(run: Run, store: Path) -> None:
    """Without a snapshot it rebuilds, and later adds what is new; --whole leaves files to be read by path."""
    assert objects(run("refresh", store, "jobs", "executions", "--json"))[0]["position"] == 6
    with EventStore.open(store) as opened:
        opened.append(ExecutionStarted(execution_id="exec-2"))
    assert objects(run("refresh", store, "executions", "--json"))[0]["position"] == 7
    count = "SELECT count(*) AS n FROM executions"
    assert objects(run("query", store, count, "--json")) == [{"n": 2}]
    assert run("refresh", store, "executions", "--whole").exit_code == 0
    runs = (store / "projections" / "executions" / "v1" / "runs").glob("*-00000000000000000007-*")
    assert [pl.read_parquet(one / "table" / "*.parquet").height for one in runs] == [2]


def test_rebuild_verify_compares_and_publishes_nothing(run: Run, store: Path) -> None:
    """Tables that come out the same are said to; one that does not is named, and the command fails."""
    run("rebuild", store, "jobs", "tasks")
    result = run("rebuild", store, "--verify", "--json")
    assert [one["table"] for one in objects(result)] == ["jobs", "tasks"]
    assert all(one["ok"] for one in objects(result))
    manifests = store / "projections" / "jobs" / "v1" / "manifests"
    assert len(list(manifests.iterdir())) == 1


def test_as_of_answers_from_the_past(run: Run, store: Path) -> None:
    """Tables and events are as of a position or a time; one beyond the head, or before all, is told."""
    with EventStore.open(store) as opened:
        opened.append(ExecutionStarted(execution_id="exec-2"))
    executions = "SELECT count(*) AS n FROM executions"
    assert objects(run("query", store, executions, "--as-of", "6", "--json")) == [{"n": 1}]
    assert objects(run("query", store, executions, "--as-of", "7", "--json")) == [{"n": 2}]
    events = "SELECT count(*) AS n FROM events"
    assert objects(run("query", store, events, "--as-of", "3", "--json")) == [{"n": 3}]
    beyond = run("query", store, executions, "--as-of", "8")
    assert (beyond.exit_code, "error[beyond_head]" in beyond.stderr) == (ExitCode.FAILED, True)
    before = run("query", store, executions, "--as-of", "2001-01-01T00:00:00Z")
    assert (before.exit_code, "error[before_first_event]" in before.stderr) == (ExitCode.FAILED, True)
    assert run("query", store, executions, "--as-of", "6", "--fresh").exit_code == ExitCode.USAGE


def test_fresh_folds_what_is_asked(run: Run, store: Path) -> None:
    """--fresh answers up to the head, from tables that were built or not, and writes nothing."""
    assert objects(run("query", store, JOBS, "--fresh", "--json")) == ANSWER
    with EventStore.open(store) as opened:
        opened.append(ExecutionStarted(execution_id="exec-2"), ExecutionHeartbeat(execution_id="exec-2"))
    count = "SELECT count(*) AS executions FROM executions"
    assert objects(run("query", store, count, "--fresh", "--json")) == [{"executions": 2}]
    assert not (store / "projections").exists()


def test_stale_and_damaged_tables_are_told(run: Run, store: Path) -> None:
    """A table behind the log is noted; where its newest snapshot is damaged, an older one answers."""
    run("rebuild", store, "jobs")
    with EventStore.open(store) as opened:
        opened.append(ExecutionHeartbeat(execution_id="exec-1"))
    result = run("query", store, JOBS, "--json")
    assert objects(result) == ANSWER
    assert "note: jobs stands at 6 of 7 events" in result.stderr
    run("rebuild", store, "jobs")
    assert run("query", store, JOBS).stderr == ""
    newest = max((store / "projections" / "jobs" / "v1" / "runs").iterdir())
    next(newest.glob("table/*.parquet")).write_bytes(b"")
    result = run("query", store, JOBS, "--json")
    assert objects(result) == ANSWER
    assert "warning: an older snapshot answers" in result.stderr
    assert newest.name in result.stderr


def test_query_of_damaged_events_ends_with_integrity(run: Run, store: Path) -> None:
    """Altered events give no answer."""
    path = damage(store)
    result = run("query", store, "SELECT count(kind) FROM events")
    assert result.exit_code == ExitCode.INTEGRITY
    assert path in result.stderr


def test_sql_from_standard_input(run: Run, store: Path) -> None:
    """A dash reads the SQL from standard input, comments and all."""
    sql = "-- how many\nSELECT count(*) AS events\nFROM events;\n"
    assert objects(run("query", store, "-", "--json", input=sql)) == [{"events": 6}]


def test_list_names_tables_and_columns(run: Run) -> None:
    """--list needs no store, and has the log and every table with types and meanings."""
    found = objects(run("query", "--list", "--json"))
    assert [one["table"] for one in found] == ["events", *default_projections.names]
    assert all(column["type"] and column["meaning"] for one in found for column in one["columns"])
    assert found[0]["columns"][0]["name"] == "position"


def test_table_named_like_a_keyword_can_be_quoted(run: Run, store: Path) -> None:
    """The table `values` answers in double quotes."""
    run("rebuild", store, "values")
    assert objects(run("query", store, 'SELECT count(*) AS n FROM "values"', "--json")) == [{"n": 0}]


def test_own_projection_of_a_module(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module's projection can be built and asked like a built-in one."""
    monkeypatch.setattr(default_projections, "_projections", dict(default_projections._projections))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables_of_the_test.py").write_text(
        "from projections import projection, text\n"
        '@projection("clitest_actors", kinds=["job.ended"], inputs=["actor"], key=["actor"],\n'
        '            columns={"actor": text("who")})\n'
        "def actors(events):\n"
        '    """One actor."""\n'
        '    return events.select("actor", "position")\n'
    )
    result = run("rebuild", store, "clitest_actors", "--module", "tables_of_the_test")
    assert result.exit_code == 0, result.stderr
    query = "SELECT actor FROM clitest_actors"
    assert objects(run("query", store, query, "--module", "tables_of_the_test", "--json")) == [
        {"actor": "ann"}
    ]


def test_mentioned_is_by_word() -> None:
    """A table counts as named when its name stands as a word, in any case, not as a part of one."""
    names = ["jobs", "tags", "tag_edits"]
    assert mentioned("SELECT jobs.x FROM JOBS JOIN my_tags", names) == ["jobs"]
    assert mentioned('SELECT * FROM "tags"', names) == ["tags"]
