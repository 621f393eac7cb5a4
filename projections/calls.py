"""The read models of calls: `call_nodes`, `call_edges`, `arguments`, `argument_upstreams`, `contexts`.

A call node is stated once for each hash. If it is stated again, everything that the later event says of its
children and arguments is dropped with it.
"""

from __future__ import annotations

import polars as pl

from projections.keyed import KeyedProjection
from projections.projection import Column, moment, text, whole

__all__ = ["ARGUMENTS", "ARGUMENT_UPSTREAMS", "CALL_EDGES", "CALL_NODES", "CONTEXTS"]

_RECORDED = ("call_node.recorded",)


def _numbered(events: pl.LazyFrame, lists: str, index: str) -> pl.LazyFrame:
    """One row for each item of the column `lists`, with the item's number from 0 in `index`."""
    length = pl.col(lists).list.len()
    return (
        events.filter(length > 0)
        .with_columns(pl.int_ranges(0, length, dtype=pl.Int64).alias(index))
        .explode(lists, index)
    )


def _node_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.drop("kind")


def _edge_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    return _numbered(events, "children", "index").select(
        "call_hash", "index", "position", child_hash="children"
    )


def _argument_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    argument = pl.col("arguments").struct
    return _numbered(events, "arguments", "index").select(
        "call_hash",
        "index",
        "position",
        argument_position=argument.field("position"),
        argument_key=argument.field("key"),
        value_hash=argument.field("value_hash"),
    )


def _upstream_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    upstreams = pl.col("arguments").struct.field("upstreams")
    items = _numbered(events, "arguments", "index").select(
        "call_hash", "index", "position", upstream_hash=upstreams
    )
    return _numbered(items, "upstream_hash", "upstream_index")


def _context_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.drop("kind")


CALL_NODES = KeyedProjection(
    name="call_nodes",
    version=1,
    doc="One call: a task applied to arguments gave a result.",
    kinds=_RECORDED,
    inputs=("args_hash", "call_hash", "occurred_at", "subtree_tasks", "task_hash", "task_name", "value_hash"),
    key=("call_hash",),
    columns={
        "call_hash": text("the call node's hash"),
        "task_hash": text("the task that was called"),
        "task_name": text("full name of the task"),
        "args_hash": text("hash of its arguments"),
        "value_hash": text("its result"),
        "occurred_at": moment("when it was first recorded: its timestamp"),
        "subtree_tasks": Column(pl.List(pl.String), "tasks at and below it, sorted; null or empty: not said"),
    },
    rows=_node_rows,
)

CALL_EDGES = KeyedProjection(
    name="call_edges",
    version=1,
    doc="One child call of a call node, in call order; a child that was called twice has two rows.",
    kinds=_RECORDED,
    inputs=("call_hash", "children"),
    key=("call_hash", "index"),
    columns={
        "call_hash": text("the parent call node"),
        "index": whole("place in call order, from 0"),
        "position": whole("event that recorded the parent"),
        "child_hash": text("the child call node"),
    },
    first_event_of=("call_hash",),
    rows=_edge_rows,
)

ARGUMENTS = KeyedProjection(
    name="arguments",
    version=1,
    doc="One argument of a call node.",
    kinds=_RECORDED,
    inputs=("arguments", "call_hash"),
    key=("call_hash", "index"),
    columns={
        "call_hash": text("the call node"),
        "index": whole("place in the recorded order, from 0: positional ones first, then by key"),
        "position": whole("event that recorded the call node"),
        "argument_position": Column(pl.Int32, "place among the positional arguments, from 0; else null"),
        "argument_key": text("keyword of a keyword argument or default; else null"),
        "value_hash": text("the evaluated argument"),
    },
    first_event_of=("call_hash",),
    rows=_argument_rows,
)

ARGUMENT_UPSTREAMS = KeyedProjection(
    name="argument_upstreams",
    version=1,
    doc="One call node whose result went into an argument.",
    kinds=_RECORDED,
    inputs=("arguments", "call_hash"),
    key=("call_hash", "index", "upstream_index"),
    columns={
        "call_hash": text("the call node that has the argument"),
        "index": whole("the argument's place, as in `arguments`"),
        "upstream_index": whole("place in order of appearance, from 0"),
        "position": whole("event that recorded the call node"),
        "upstream_hash": text("the call node whose result went in"),
    },
    first_event_of=("call_hash",),
    rows=_upstream_rows,
)

CONTEXTS = KeyedProjection(
    name="contexts",
    version=1,
    doc="One context that a call node was reached under.",
    kinds=("call_context.recorded",),
    inputs=("call_hash", "context_hash", "occurred_at", "value_hash"),
    key=("call_hash", "context_hash"),
    columns={
        "call_hash": text("the call node"),
        "context_hash": text("the context's hash"),
        "value_hash": text("value that holds the context; null while none was recorded", "first_non_null"),
        "occurred_at": moment("when it was first recorded"),
    },
    rows=_context_rows,
)
