"""Call nodes and evaluations of a redun database become events: children before the calls that made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from eventstore.errors import InvalidEventError
from eventstore.events import CallNodeRecorded, EvaluationCached
from eventstore.events.call import Argument
from eventstore.redun.importing import tables
from eventstore.redun.importing.adding import Adding
from eventstore.redun.importing.database import PAGE, RedunDatabase
from eventstore.redun.importing.order import mentioned_first
from eventstore.redun.importing.times import utc

__all__ = ["import_calls", "import_evaluations"]


def import_calls(database: RedunDatabase, adding: Adding) -> None:
    """Add the call nodes that the store does not have, with arguments, children and subtree tasks."""
    call, edge = tables.call_node.c, tables.call_edge.c

    def is_known(call_hash: str) -> bool:
        return call_hash in adding.pending or adding.known.call(call_hash) is not None

    def children(hashes: Sequence[str]) -> dict[str, list[str]]:
        return database.grouped(edge.parent_id, edge.child_id, hashes, edge.call_order)

    for page in database.stream(sa.select(call.call_hash), order=tables.call_node):
        adding.looked_at("call nodes", len(page))
        new = [call_hash for (call_hash,) in page if not is_known(call_hash)]
        hashes = mentioned_first(new, mentions=children, is_known=is_known)
        for start in range(0, len(hashes), PAGE):
            some = hashes[start : start + PAGE]
            _add_calls(database, adding, some, children(some))
    adding.append()


def _add_calls(
    database: RedunDatabase, adding: Adding, hashes: Sequence[str], children: dict[str, list[str]]
) -> None:
    call, subtree = tables.call_node, tables.call_subtree_task.c
    rows = {row.call_hash: row for row in database.rows_of(sa.select(call), call.c.call_hash, hashes)}
    arguments = _arguments(database, hashes)
    tasks = database.grouped(subtree.call_hash, subtree.task_hash, hashes)
    for call_hash in hashes:
        row = rows.get(call_hash)
        if row is None:
            continue  # an edge leads to it, and nothing else
        adding.add(
            call.name,
            call_hash,
            _call_node,
            call_hash=call_hash,
            task_hash=row.task_hash,
            task_name=row.task_name,
            args_hash=row.args_hash,
            value_hash=row.value_hash,
            occurred_at=utc(row.timestamp),
            children=children[call_hash],
            arguments=arguments[call_hash],
            subtree_tasks=sorted(tasks[call_hash]),
        )


def _call_node(*, arguments: Sequence[dict[str, Any]], **fields: Any) -> CallNodeRecorded:
    try:
        made = tuple(Argument(**each) for each in arguments)
    except InvalidEventError as error:
        raise InvalidEventError(f"arguments: {error}", code=error.code, faults=error.faults) from None
    return CallNodeRecorded(arguments=made, **fields)


def _arguments(database: RedunDatabase, hashes: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the arguments of each call: positional ones first, then by key."""
    argument, result = tables.argument, tables.argument_result.c
    rows = database.rows_of(sa.select(argument), argument.c.call_hash, hashes)
    upstreams = database.grouped(result.arg_hash, result.result_call_hash, [row.arg_hash for row in rows])
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rows.sort(key=lambda row: (row.arg_position is None, row.arg_position or 0, row.arg_key or ""))
    for row in rows:
        found[row.call_hash].append(
            {
                "position": row.arg_position,
                "key": row.arg_key,
                "value_hash": row.value_hash,
                "upstreams": upstreams[row.arg_hash],
            }
        )
    return found


def import_evaluations(database: RedunDatabase, adding: Adding) -> None:
    """Add the evaluations that the store does not have, or has with another result."""
    evaluation = tables.evaluation
    for page in database.stream(sa.select(evaluation), order=evaluation):
        adding.looked_at("evaluations", len(page))
        row: Any
        for row in page:
            if adding.known.evaluation(row.eval_hash) != row.value_hash:
                adding.add(
                    evaluation.name,
                    row.eval_hash,
                    EvaluationCached,
                    eval_hash=row.eval_hash,
                    task_hash=row.task_hash,
                    args_hash=row.args_hash,
                    value_hash=row.value_hash,
                )
    adding.append()
