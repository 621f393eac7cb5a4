"""The built-in tables, the registry that knows them, and their description for people."""

from __future__ import annotations

import polars as pl

from projections.calls import ARGUMENT_UPSTREAMS, ARGUMENTS, CALL_EDGES, CALL_NODES, CONTEXTS
from projections.executions import EXECUTIONS
from projections.handles import HANDLE_EDGES, HANDLES
from projections.jobs import JOBS
from projections.projection import DataType, Projection
from projections.registry import ProjectionRegistry
from projections.tags import TAG_EDITS, TAGS
from projections.tasks import TASKS
from projections.values import EVALUATIONS, FILES, SUBVALUES, VALUES

__all__ = ["BUILT_IN_TABLES", "default_projections", "describe", "projection"]

BUILT_IN_TABLES: tuple[Projection, ...] = (
    EXECUTIONS,
    JOBS,
    TASKS,
    CALL_NODES,
    CALL_EDGES,
    ARGUMENTS,
    ARGUMENT_UPSTREAMS,
    CONTEXTS,
    VALUES,
    SUBVALUES,
    FILES,
    EVALUATIONS,
    HANDLES,
    HANDLE_EDGES,
    TAGS,
    TAG_EDITS,
)
"""In the order in which a person would read about them."""

default_projections = ProjectionRegistry(BUILT_IN_TABLES)
"""The registry that `rebuild` and `open_tables` use unless they are given one."""

projection = default_projections.projection
"""Decorator: make a user's own projection of a function from events to rows, known to every rebuild."""

_INTRODUCTION = """\
# Tables

Each table is a projection of the log: the same events always give the same table, and it can be thrown away
and rebuilt. A snapshot stands at a position N when it has folded the events 0 to N - 1. `position` is an
event's place in the log; times are UTC; hashes are redun's ids, lower-case hex. Rows are sorted by the key.

This page is made by `projections.describe()`; a test keeps it equal to the code.
"""


def describe(registry: ProjectionRegistry | None = None) -> str:
    """Return a Markdown page of all tables: key, events, and every column with type and meaning.

    The built-in tables come first, in reading order; `registry` may add a user's own.
    """
    own = [one for one in (registry or default_projections) if one not in BUILT_IN_TABLES]
    parts = [_INTRODUCTION]
    for one in (*BUILT_IN_TABLES, *own):
        parts.append(
            f"\n## {one.name}\n\n{one.doc} Version {one.version}.\n\n"
            f"Key: {_code(one.key)}. From: {_code(one.kinds)}.\n\n"
            "| column | type | meaning |\n|---|---|---|\n"
        )
        parts.extend(
            f"| `{name}` | {_type(column.dtype)} | {column.doc} |\n" for name, column in one.columns.items()
        )
    return "".join(parts)


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _type(dtype: DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return f"Datetime({dtype.time_unit}, {dtype.time_zone or 'no zone'})"
    return str(dtype() if isinstance(dtype, type) else dtype)
