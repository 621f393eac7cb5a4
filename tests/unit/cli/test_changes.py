"""`eventstore changes`: what became of a table between two moments."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from eventstore import EventStore, ExecutionStarted, JobEnded, JobStatus
from eventstore.cli.exits import ExitCode
from tests.unit.cli.conftest import Run, objects


def grown(store: Path) -> None:
    """Let the root job end again, which its execution shows, and another execution begin."""
    with EventStore.open(store) as opened:
        jobs = opened.scan(kinds=["job.started"]).collect()
        first = jobs.row(0, named=True)
        opened.append(
            ExecutionStarted(execution_id="exec-9"),
            JobEnded(
                job_id=first["job_id"],
                execution_id=first["execution_id"],
                parent_id=first["parent_id"],
                task_hash=first["task_hash"],
                status=JobStatus.CACHED,
                cached=True,
            ),
        )


def test_rows_that_came_and_changed_are_told(run: Run, store: Path) -> None:
    """Between two positions, with the cells that differ; the end is the head unless it is said."""
    grown(store)
    told = objects(run("changes", store, "executions", "--from", "6", "--json"))
    assert told[0] == {"type": "summary", "added": 1, "removed": 0, "changed": 1, "unchanged": 0}
    assert (told[1]["type"], told[1]["execution_id"]) == ("added", "exec-9")
    told = objects(run("changes", store, "jobs", "--from", "6", "--to", "8", "--json"))
    cells = {one["column"]: (one["before"], one["after"]) for one in told if one["type"] == "changed"}
    assert cells["status"][1] == "CACHED"
    shown = run("changes", store, "jobs", "--from", "6")
    assert shown.exit_code == 0
    assert "CACHED" in shown.stdout
    nothing = objects(run("changes", store, "jobs", "--from", "8", "--json"))
    assert nothing == [{"type": "summary", "added": 0, "removed": 0, "changed": 0, "unchanged": 2}]


def test_moments_may_be_times(run: Run, store: Path) -> None:
    """What was sealed by then; a moment before all events, or beyond them, is told."""
    now = dt.datetime.now(dt.UTC).isoformat()
    assert run("changes", store, "jobs", "--from", now).exit_code == 0
    before = run("changes", store, "jobs", "--from", "2001-01-01T00:00:00Z")
    assert (before.exit_code, "error[before_first_event]" in before.stderr) == (ExitCode.FAILED, True)
    beyond = run("changes", store, "jobs", "--from", "0", "--to", "99")
    assert (beyond.exit_code, "error[beyond_head]" in beyond.stderr) == (ExitCode.FAILED, True)
    unknown = run("changes", store, "jobz", "--from", "0")
    assert "error[unknown_projection]" in unknown.stderr
