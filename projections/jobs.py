"""The read model of jobs: `jobs`, one row for each job, from its start and its newest end."""

from __future__ import annotations

import polars as pl

from projections.keyed import KeyedProjection
from projections.projection import Column, moment, text, whole

__all__ = ["JOBS"]

_STATE = {
    "job_id": text("the job"),
    "position": whole("first event"),
    "execution_id": text("as the first event says"),
    "parent_id": text("as the first event says"),
    "task_hash": text("as the first event says"),
    "started_at": moment("first start", "first_non_null"),
    "first_ended_at": moment("first end: the start of a job that was never started", "first_non_null"),
    "ended_at": moment("newest end", "last_non_null"),
    "status": text("of the newest end", "last_non_null"),
    "cached": Column(pl.Boolean, "of the newest end", "last_non_null"),
    "call_hash": text("of the newest end; empty where it has none", "last_non_null"),
}


def _rows(events: pl.LazyFrame) -> pl.LazyFrame:
    # Every column of an end is filled, the call hash with "" for none: so the newest end wins as a whole.
    ended = pl.col("kind") == "job.ended"
    end_at = pl.when(ended).then(pl.col("occurred_at"))
    return events.select(
        "job_id",
        "position",
        "execution_id",
        "parent_id",
        "task_hash",
        "status",
        "cached",
        started_at=pl.when(~ended).then(pl.col("occurred_at")),
        first_ended_at=end_at,
        ended_at=end_at,
        call_hash=pl.when(ended).then(pl.col("call_hash").fill_null("")),
    )


def _finish(state: pl.LazyFrame) -> pl.LazyFrame:
    return state.with_columns(
        started_at=pl.coalesce("started_at", "first_ended_at"),
        status=pl.col("status").fill_null("RUNNING"),
        cached=pl.col("cached").fill_null(value=False),
        call_hash=pl.when(pl.col("call_hash") != "").then(pl.col("call_hash")),
    ).drop("first_ended_at")


JOBS = KeyedProjection(
    name="jobs",
    version=1,
    doc="One evaluation of a task within an execution.",
    kinds=("job.started", "job.ended"),
    inputs=(
        "cached",
        "call_hash",
        "execution_id",
        "job_id",
        "occurred_at",
        "parent_id",
        "status",
        "task_hash",
    ),
    key=("job_id",),
    columns={
        "job_id": text("the job's id"),
        "position": whole("first event of the job"),
        "execution_id": text("the execution it runs in"),
        "parent_id": text("the job that called it; null for a root job"),
        "task_hash": text("the task it evaluates"),
        "status": text("RUNNING without an end; else DONE, CACHED or FAILED, as its newest end says"),
        "cached": Column(pl.Boolean, "whether the result came from a cache; false without an end"),
        "call_hash": text("call node of the result; null if none is known"),
        "started_at": moment("its start; of a job that was never started, its first end"),
        "ended_at": moment("its newest end; null while it runs"),
    },
    state=_STATE,
    finish=_finish,
    rows=_rows,
)
