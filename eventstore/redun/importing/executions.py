"""Executions, their heartbeats, and jobs of a redun database become events."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from eventstore.events import ExecutionHeartbeat, ExecutionStarted, JobEnded, JobStarted, JobStatus
from eventstore.hashing import canonical_json
from eventstore.redun.importing import tables
from eventstore.redun.importing.adding import Adding
from eventstore.redun.importing.database import RedunDatabase
from eventstore.redun.importing.times import microseconds, utc

__all__ = ["import_executions", "import_jobs"]

_FAILED_TYPE = "redun.ErrorValue"
"""Type of the results from which redun concludes that a job failed."""


def import_executions(database: RedunDatabase, adding: Adding) -> None:
    """Add the executions that the store does not have, and heartbeats that are newer than its own."""
    execution, job = tables.execution, tables.job.c
    root = sa.select(execution, job.start_time).outerjoin(tables.job, job.id == execution.c.job_id)
    for page in database.stream(root, order=execution):
        adding.looked_at("executions", len(page))
        row: Any
        for row in page:
            known = adding.known.execution(row.id)
            if known is None:
                # redun notes no start of an execution; it is that of its root job.
                adding.add(
                    execution.name,
                    row.id,
                    ExecutionStarted,
                    execution_id=row.id,
                    job_id=row.job_id,
                    args=_list_text(row.args),
                    occurred_at=utc(row.start_time),
                )
            beat = microseconds(row.updated_time)
            if beat is not None and (known is None or (known.updated_us or 0) < beat):
                adding.add(
                    execution.name,
                    row.id,
                    ExecutionHeartbeat,
                    execution_id=row.id,
                    occurred_at=utc(row.updated_time),
                )
    adding.append()


def _list_text(args: str) -> str:
    """Return JSON text of a list; a text that is none becomes its only member."""
    try:
        if isinstance(json.loads(args), list):
            return args
    except ValueError:
        pass
    return canonical_json([args])


def import_jobs(database: RedunDatabase, adding: Adding) -> None:
    """Add the jobs that the store does not have, and ends that it does not have, or has otherwise."""
    job, call, value = tables.job, tables.call_node.c, tables.value.c
    query = (
        sa.select(job, value.type)
        .outerjoin(tables.call_node, call.call_hash == job.c.call_hash)
        .outerjoin(tables.value, value.value_hash == call.value_hash)
    )
    for page in database.stream(query, order=job.c.start_time):
        adding.looked_at("jobs", len(page))
        for row in page:
            _add_job(adding, row)
    adding.append()


def _add_job(adding: Adding, row: Any) -> None:
    known = adding.known.job(row.id)
    facts = {
        "job_id": row.id,
        "execution_id": row.execution_id,
        "parent_id": row.parent_id,
        "task_hash": row.task_hash,
    }
    if known is None:
        adding.add(tables.job.name, row.id, JobStarted, **facts, occurred_at=utc(row.start_time))
    if row.end_time is None:
        return
    end = (microseconds(row.end_time), row.cached, row.call_hash)
    if known is None or end != (known.end_us, known.is_cached, known.call_hash):
        adding.add(
            tables.job.name,
            row.id,
            JobEnded,
            **facts,
            status=_status(row),
            cached=row.cached,
            call_hash=row.call_hash,
            occurred_at=utc(row.end_time),
        )


def _status(row: Any) -> JobStatus:
    """Return how a job ended, as redun derives it: from its result, else from where that came from."""
    if row.type == _FAILED_TYPE:
        return JobStatus.FAILED
    return JobStatus.CACHED if row.cached else JobStatus.DONE
