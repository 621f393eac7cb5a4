"""The read model of tasks: `tasks`, one row for each task hash; the first record stays."""

from __future__ import annotations

import polars as pl

from projections.keyed import KeyedProjection
from projections.projection import moment, text

__all__ = ["TASKS"]


def _rows(events: pl.LazyFrame) -> pl.LazyFrame:
    name, namespace = pl.col("task_name"), pl.col("task_namespace").fill_null("")
    full = pl.when(namespace == "").then(name).otherwise(namespace + "." + name)
    return events.select(
        "task_hash",
        "position",
        "task_name",
        "source",
        "task_version",
        "occurred_at",
        task_namespace=namespace,
        full_name=full,
    )


TASKS = KeyedProjection(
    name="tasks",
    version=1,
    doc="One task: a function of a workflow, by its name and source or version.",
    kinds=("task.recorded",),
    inputs=("occurred_at", "source", "task_hash", "task_name", "task_namespace", "task_version"),
    key=("task_hash",),
    columns={
        "task_hash": text("the task's hash"),
        "full_name": text("namespace and name joined by a dot; the name alone without a namespace"),
        "task_name": text("name without namespace"),
        "task_namespace": text("namespace, empty for none"),
        "source": text("source text; null where it is not known"),
        "task_version": text("version that stands for the source in the hash; null for none"),
        "occurred_at": moment("when it was first recorded"),
    },
    rows=_rows,
)
