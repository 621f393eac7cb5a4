"""From Arrow batches of events to the tuples that go into redun's tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["COLUMNS", "KINDS", "columns", "items", "of_kinds", "parts_of", "struct_items", "times"]

COLUMNS = (
    *("args", "args_hash", "arguments", "cached", "call_hash", "children", "data", "data_digest"),
    *("entity_id", "entity_type", "eval_hash", "execution_id", "file_path", "format", "handle_hash"),
    *("handle_key", "handle_name", "job_id", "kind", "occurred_at", "parent_id", "parents", "size_bytes"),
    *("sequence", "source", "subtree_tasks", "subvalues", "superseded", "tag_hash", "tags", "task_hash"),
    *("task_name", "task_namespace", "type_name", "value_hash", "writer"),
)
"""The columns of the log that become rows, and those that name an event."""

_KEYS = {
    "call_node.recorded": "call_hash",
    "evaluation.cached": "eval_hash",
    "execution.heartbeat": "execution_id",
    "execution.started": "execution_id",
    "handle.advanced": "handle_hash",
    "handle.forked": "handle_hash",
    "handle.recorded": "handle_hash",
    "handle.rolled_back": "handle_hash",
    "job.ended": "job_id",
    "job.started": "job_id",
    "tags.deleted": "tag_hash",
    "tags.recorded": "entity_id",
    "task.recorded": "task_hash",
    "value.recorded": "value_hash",
}
KINDS = tuple(_KEYS)
"""The kinds that become rows. A call's context is its tag, which an event of its own records."""


def parts_of(batch: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
    """Return the events of each kind, in order; erased ones, which say nothing, are left out."""
    found = {}
    kinds = batch.column("kind")
    for kind in pc.unique(kinds).to_pylist():
        if kind in _KEYS:
            chosen = pc.and_(pc.equal(kinds, kind), pc.is_valid(batch.column(_KEYS[kind])))
            part = batch.filter(chosen)
            if part.num_rows:
                found[kind] = part
    return found


def of_kinds(batch: pa.RecordBatch, *kinds: str, key: str | None) -> pa.RecordBatch:
    """Return the events of some kinds together, in order; only those that fill the column `key`."""
    chosen = pc.is_in(batch.column("kind"), pa.array(kinds, pa.string()))
    if key is not None:
        chosen = pc.and_(chosen, pc.is_valid(batch.column(key)))
    return batch.filter(chosen)


def columns(part: pa.RecordBatch, *names: str) -> list[list[Any]]:
    """Return columns as lists; times as the text that redun's SQLite has."""
    return [
        times(part.column(name)) if name == "occurred_at" else part.column(name).to_pylist() for name in names
    ]


def times(moments: pa.Array) -> list[str | None]:
    """Return moments as ``2026-01-31 12:00:00.000000``, in UTC."""
    found: list[str | None] = moments.cast(pa.timestamp("us")).cast(pa.string()).to_pylist()
    return found


def items(owners: Sequence[Any], lists: pa.Array) -> Iterator[tuple[Any, Any]]:
    """Yield each member of a column of lists with the owner that stands in its row."""
    places = pc.list_parent_indices(lists).to_pylist()
    return (
        (owners[place], member) for place, member in zip(places, lists.flatten().to_pylist(), strict=True)
    )


def struct_items(lists: pa.Array, *names: str) -> tuple[list[int], list[pa.Array]]:
    """Return, of a column of lists of structs, the row of each member, and its fields as columns."""
    flat = lists.flatten()
    places: list[int] = pc.list_parent_indices(lists).to_pylist()
    return places, [pc.struct_field(flat, name) for name in names]
