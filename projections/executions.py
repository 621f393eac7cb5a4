"""The read model of runs: `executions`, one row for each run, with the state of its root job.

An execution's status is that of its root job; events of jobs carry the execution and, for all but the root,
the calling job, so one key suffices. Runs that only jobs or heartbeats speak of have no row.
"""

from __future__ import annotations

import polars as pl

from projections.keyed import KeyedProjection
from projections.projection import moment, text, whole

__all__ = ["EXECUTIONS"]

_STATE = {
    "execution_id": text("the execution"),
    "position": whole("first event that speaks of it"),
    "started_position": whole("first event that states it", "first_non_null"),
    "started_at": moment("its start", "first_non_null"),
    "updated_at": moment("its newest heartbeat", "max"),
    "args": text("how it was asked for", "first_non_null"),
    "actor": text("who", "first_non_null"),
    "software": text("by what", "first_non_null"),
    "stated_job_id": text("root job as the execution states it", "first_non_null"),
    "job_id": text("root job as job events show it", "first_non_null"),
    "job_status": text("how the root job ended", "last_non_null"),
    "ended_at": moment("when the root job ended", "last_non_null"),
}


def _rows(events: pl.LazyFrame) -> pl.LazyFrame:
    kind = pl.col("kind")
    started = kind == "execution.started"
    root = kind.is_in(["job.started", "job.ended"]) & pl.col("parent_id").is_null()
    beat = kind == "execution.heartbeat"
    ended = kind == "job.ended"

    def where(condition: pl.Expr, column: str) -> pl.Expr:
        return pl.when(condition).then(pl.col(column))

    return events.filter(started | root | beat).select(
        "execution_id",
        "position",
        started_position=where(started, "position"),
        started_at=where(started, "occurred_at"),
        updated_at=where(beat, "occurred_at"),
        args=where(started, "args"),
        actor=where(started, "actor"),
        software=where(started, "software"),
        stated_job_id=where(started, "job_id"),
        job_id=where(root, "job_id"),
        job_status=where(ended, "status"),
        ended_at=where(ended, "occurred_at"),
    )


def _finish(state: pl.LazyFrame) -> pl.LazyFrame:
    status = (
        pl.when(pl.col("job_id").is_null() | (pl.col("job_status") == "FAILED"))
        .then(pl.lit("FAILED"))
        .when(pl.col("job_status").is_null())
        .then(pl.lit("RUNNING"))
        .otherwise(pl.lit("DONE"))
    )
    return state.filter(pl.col("started_position").is_not_null()).select(
        "execution_id",
        "started_at",
        "updated_at",
        "ended_at",
        "args",
        "actor",
        "software",
        position="started_position",
        status=status,
        job_id=pl.coalesce("job_id", "stated_job_id"),
    )


EXECUTIONS = KeyedProjection(
    name="executions",
    version=1,
    doc="One run of a workflow that was stated.",
    kinds=("execution.started", "execution.heartbeat", "job.started", "job.ended"),
    inputs=(
        "actor",
        "args",
        "execution_id",
        "job_id",
        "occurred_at",
        "parent_id",
        "software",
        "status",
    ),
    key=("execution_id",),
    columns={
        "execution_id": text("the execution's id"),
        "position": whole("event that stated it first"),
        "status": text("FAILED without a recorded root job; else RUNNING, DONE or FAILED, as that job"),
        "job_id": text("the root job; null while nobody named it"),
        "started_at": moment("its start"),
        "updated_at": moment("its newest heartbeat; null before the first"),
        "ended_at": moment("end of the root job; null while it runs"),
        "args": text("how it was asked for: JSON list as text"),
        "actor": text("who started it"),
        "software": text("software and version that recorded its start"),
    },
    state=_STATE,
    finish=_finish,
    rows=_rows,
)
