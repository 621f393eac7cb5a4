"""The demo's questions to its history: what is shown is what runs."""

from __future__ import annotations

import polars as pl

from projections import Tables

__all__ = ["FAILED_INPUTS", "by_task", "slowest_files"]


def by_task(tables: Tables) -> pl.LazyFrame:
    """Jobs by task: how many there were, how many the history answered, how long a run took."""
    took = pl.col("ended_at") - pl.col("started_at")
    return (
        tables["jobs"]
        .join(tables["tasks"], on="task_hash")
        .group_by(task="full_name")
        .agg(
            jobs=pl.len(),
            cached=pl.sum("cached"),
            mean_run=took.filter(cached=False).mean(),
        )
        .sort("jobs", "task", descending=[True, False])
    )


def slowest_files(tables: Tables) -> pl.LazyFrame:
    """The files that took longest: from a job to its call, the call's argument, and the file."""
    files = tables["files"].join(tables["arguments"], on="value_hash")
    return (
        tables["jobs"]
        .filter(status="DONE")
        .join(files.select("call_hash", "file_path"), on="call_hash")
        .select("file_path", took=pl.col("ended_at") - pl.col("started_at"))
        .top_k(3, by="took")
    )


FAILED_INPUTS = """\
SELECT tasks.full_name AS task, files.file_path, count(*) AS times
FROM jobs
JOIN tasks ON tasks.task_hash = jobs.task_hash
JOIN arguments ON arguments.call_hash = jobs.call_hash
JOIN files ON files.value_hash = arguments.value_hash
WHERE jobs.status = 'FAILED'
GROUP BY tasks.full_name, files.file_path"""
"""The inputs that made jobs fail."""
