"""The read models of values: `values`, `subvalues`, `files`, `evaluations`; bytes stay in the log.

A value is stated once for each hash and its first record stays. Links to subvalues are added up: a value
that was first recorded inside another gets its own links when it is recorded for itself.
"""

from __future__ import annotations

import polars as pl

from projections.keyed import KeyedProjection
from projections.projection import Column, moment, text, whole

__all__ = ["EVALUATIONS", "FILES", "SUBVALUES", "VALUES"]

_RECORDED = ("value.recorded",)


def _value_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.drop("kind").with_columns(stored=pl.col("data_digest").is_not_null())


def _subvalue_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    length = pl.col("subvalues").list.len()
    return (
        events.filter(length > 0)
        .select("value_hash", "subvalues", "position", index=pl.int_ranges(0, length, dtype=pl.Int64))
        .explode("subvalues", "index")
        .rename({"subvalues": "subvalue_hash"})
    )


def _file_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.filter(pl.col("file_path").is_not_null()).drop("kind")


def _evaluation_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.select(
        "eval_hash",
        "position",
        "task_hash",
        "args_hash",
        "value_hash",
        value_position="position",
        updated_at="occurred_at",
    )


VALUES = KeyedProjection(
    name="values",
    version=1,
    doc="One value; its bytes are in the event at `position`, or in the value store.",
    kinds=_RECORDED,
    inputs=("data_digest", "file_path", "format", "occurred_at", "size_bytes", "type_name", "value_hash"),
    key=("value_hash",),
    columns={
        "value_hash": text("the value's hash"),
        "position": whole("event that recorded it first; its `data` holds the bytes unless `stored`"),
        "type_name": text("registered name of its type"),
        "format": text("media type of its bytes"),
        "size_bytes": whole("length of its serialized bytes"),
        "stored": Column(pl.Boolean, "whether its bytes lie in the value store"),
        "data_digest": text("BLAKE3 of the bytes in the value store; null unless `stored`"),
        "file_path": text("path or URL, where the value is a file; else null"),
        "occurred_at": moment("when it was first recorded"),
    },
    rows=_value_rows,
)

SUBVALUES = KeyedProjection(
    name="subvalues",
    version=1,
    doc="One value inside another, at any depth, linked once.",
    kinds=_RECORDED,
    inputs=("subvalues", "value_hash"),
    key=("value_hash", "subvalue_hash"),
    columns={
        "value_hash": text("the outer value"),
        "subvalue_hash": text("the value inside"),
        "position": whole("first event that linked the two"),
        "index": whole("place in order of first appearance in that event, from 0"),
    },
    rows=_subvalue_rows,
)

FILES = KeyedProjection(
    name="files",
    version=1,
    doc="One file value: a state of the file at a path.",
    kinds=_RECORDED,
    inputs=("file_path", "occurred_at", "type_name", "value_hash"),
    key=("value_hash",),
    columns={
        "value_hash": text("the file value"),
        "position": whole("event that recorded it first"),
        "file_path": text("path or URL"),
        "type_name": text("registered name of its type"),
        "occurred_at": moment("when it was first recorded"),
    },
    rows=_file_rows,
)

EVALUATIONS = KeyedProjection(
    name="evaluations",
    version=1,
    doc="One entry of the evaluation cache, with its newest result.",
    kinds=("evaluation.cached",),
    inputs=("args_hash", "eval_hash", "occurred_at", "task_hash", "value_hash"),
    key=("eval_hash",),
    columns={
        "eval_hash": text("the cache's key"),
        "position": whole("event that made the entry"),
        "task_hash": text("the task that was evaluated, as first recorded"),
        "args_hash": text("hash of its arguments, as first recorded"),
        "value_hash": text("what came out last", "last"),
        "value_position": whole("event that gave the present value", "last"),
        "updated_at": moment("when it gave it", "last"),
    },
    rows=_evaluation_rows,
)
