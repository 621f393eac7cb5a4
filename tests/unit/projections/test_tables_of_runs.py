"""The tables of runs: executions and jobs, from their events by hand."""

from __future__ import annotations

from typing import Any

import pytest
from tables_kit import at, erased, frame_of, h, rows_of, table_from

from eventstore import ExecutionHeartbeat, ExecutionStarted, JobEnded, JobStarted
from projections.executions import EXECUTIONS
from projections.jobs import JOBS

TASK = h("task")


def started(job: str = "root", second: int = 1, **more: Any) -> JobStarted:
    """Return the start of a job."""
    return JobStarted(job_id=job, execution_id="run", task_hash=TASK, occurred_at=at(second), **more)


def ended(job: str = "root", second: int = 9, status: str = "DONE", **more: Any) -> JobEnded:
    """Return an end of a job."""
    more.setdefault("cached", status == "CACHED")
    return JobEnded(
        job_id=job, execution_id="run", task_hash=TASK, status=status, occurred_at=at(second), **more
    )


def stated(**more: Any) -> ExecutionStarted:
    """Return the start of the execution."""
    return ExecutionStarted(execution_id="run", args='["a"]', occurred_at=at(0), **more)


def test_a_job_with_start_and_end_has_one_row() -> None:
    """Start, end, status and call node of a job come together in one row."""
    events = [started("j", 1, parent_id="root"), ended("j", 5, parent_id="root", call_hash=h("call"))]
    assert rows_of(JOBS, *events) == [
        {
            "job_id": "j",
            "position": 0,
            "execution_id": "run",
            "parent_id": "root",
            "task_hash": TASK,
            "status": "DONE",
            "cached": False,
            "call_hash": h("call"),
            "started_at": at(1),
            "ended_at": at(5),
        }
    ]


def test_a_job_without_end_is_running() -> None:
    """A job without an end is RUNNING, not cached, and has neither end nor call node."""
    [row] = rows_of(JOBS, started())
    assert (row["status"], row["cached"], row["ended_at"], row["call_hash"]) == ("RUNNING", False, None, None)


def test_an_end_without_start_stands_alone() -> None:
    """A job that was never started has its first end as start, and keeps it when it ends again."""
    [row] = rows_of(JOBS, ended(second=4, status="CACHED"), ended(second=7))
    assert (row["started_at"], row["ended_at"]) == (at(4), at(7))
    assert (row["execution_id"], row["task_hash"], row["position"]) == ("run", TASK, 0)


def test_a_start_after_the_end_still_gives_the_start() -> None:
    """Two writers may be sealed in either order: the stated start counts, whichever came first."""
    [row] = rows_of(JOBS, ended(second=4), started(second=1))
    assert (row["started_at"], row["ended_at"], row["status"]) == (at(1), at(4), "DONE")


def test_a_later_end_replaces_all_of_the_earlier_one() -> None:
    """The newest end wins as a whole: a call node of an earlier end does not shine through."""
    [row] = rows_of(JOBS, started(), ended(second=5, call_hash=h("call")), ended(second=6, status="FAILED"))
    assert (row["status"], row["call_hash"], row["ended_at"]) == ("FAILED", None, at(6))


def test_an_erased_event_leaves_no_row() -> None:
    """An event whose body was erased speaks of no job; the others stay."""
    frame = erased(frame_of([started("a"), started("b")]), 0)
    assert table_from(JOBS, frame)["job_id"].to_list() == ["b"]


def test_an_execution_gathers_its_root_job_and_heartbeats() -> None:
    """One row tells the run, its root job, its newest heartbeat, and who asked for what."""
    events = [
        stated(actor="eve"),
        started("root", 1),
        ExecutionHeartbeat(execution_id="run", occurred_at=at(20)),
        started("child", 2, parent_id="root"),
        ended("child", 3, "FAILED", parent_id="root"),
        ExecutionHeartbeat(execution_id="run", occurred_at=at(40)),
        ended("root", 50, "CACHED"),
    ]
    assert rows_of(EXECUTIONS, *events) == [
        {
            "execution_id": "run",
            "position": 0,
            "status": "DONE",
            "job_id": "root",
            "started_at": at(0),
            "updated_at": at(40),
            "ended_at": at(50),
            "args": '["a"]',
            "actor": "eve",
            "software": "test 1",
        }
    ]


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([], "FAILED"),
        ([started("child", parent_id="root")], "FAILED"),
        ([started()], "RUNNING"),
        ([started(), ended()], "DONE"),
        ([started(), ended(status="CACHED")], "DONE"),
        ([started(), ended(status="FAILED")], "FAILED"),
        ([ended()], "DONE"),
        ([started(), ended("child", status="FAILED", parent_id="root")], "RUNNING"),
        ([started(), ended(status="FAILED"), ended(second=11)], "DONE"),
    ],
)
def test_the_status_is_that_of_the_root_job(events: list[Any], status: str) -> None:
    """None recorded: FAILED; DONE and CACHED: DONE; else the root job's own, by its newest end."""
    [row] = rows_of(EXECUTIONS, stated(), *events)
    assert row["status"] == status


def test_what_only_jobs_and_heartbeats_mention_is_no_execution() -> None:
    """An execution that nobody stated has no row."""
    events = [started(), ended(), ExecutionHeartbeat(execution_id="other", occurred_at=at(3))]
    assert rows_of(EXECUTIONS, *events) == []


def test_an_execution_that_is_stated_late_keeps_what_came_before() -> None:
    """Job and heartbeat may be sealed before the execution; the row then stands at its own event."""
    beat = ExecutionHeartbeat(execution_id="run", occurred_at=at(3))
    [row] = rows_of(EXECUTIONS, beat, started(), stated())
    assert (row["position"], row["status"], row["updated_at"]) == (2, "RUNNING", at(3))


def test_the_root_job_may_be_named_by_the_execution_alone() -> None:
    """Until its event comes, the root job's id is what the execution states."""
    [row] = rows_of(EXECUTIONS, stated(job_id="root"))
    assert (row["job_id"], row["status"]) == ("root", "FAILED")
