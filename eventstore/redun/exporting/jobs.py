"""Jobs with what they need: the jobs above them, their executions, and the root jobs of those.

Executions and jobs name each other, and a job is often recorded in the log before the one that called it, by
another process. A database that checks references takes them together, or not at all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from eventstore.redun.exporting.target import Target
from eventstore.redun.mirror.schema import TABLES

__all__ = ["Family", "gather"]

Row = tuple[Any, ...]
_JOB = [column.name for column in TABLES["job"].columns]
_RUN = [column.name for column in TABLES["execution"].columns]
_ID, _PARENT, _RUN_OF = _JOB.index("id"), _JOB.index("parent_id"), _JOB.index("execution_id")
_TASK, _CALL = _JOB.index("task_hash"), _JOB.index("call_hash")
_ROOT = _RUN.index("job_id")


class Family:
    """Rows of jobs, parents first, and of executions, which can be written together."""

    def __init__(self, jobs: list[Row], executions: list[Row], left_out: set[str]) -> None:
        self.jobs = jobs
        self.executions = executions
        self.left_out = left_out
        """Ids of jobs that cannot be written, as something that they name is nowhere."""


def gather(source: sqlite3.Connection, target: Target, connection: Connection, rows: Iterable[Row]) -> Family:
    """Return the family of some jobs.

    Parameters
    ----------
    source
        The mirror.
    target, connection
        Where they go; what is there already is not fetched.
    rows
        The jobs, in the order of redun's columns.
    """
    jobs: dict[str, Row] = {row[_ID]: row for row in rows}
    runs: dict[str, Row] = {}
    there: dict[str, set[str]] = {"job": set(), "execution": set()}
    asked: dict[str, set[str]] = {"job": set(jobs), "execution": set()}
    new = list(jobs.values())
    while new:
        ids = {row[_RUN_OF] for row in new} - asked["execution"]
        found = _fetch(source, target, connection, "execution", ids, there, asked)
        runs.update((row[0], row) for row in found)
        ids = {row[_PARENT] for row in new if row[_PARENT] is not None} | {row[_ROOT] for row in found}
        new = _fetch(source, target, connection, "job", ids - asked["job"], there, asked)
        jobs.update((row[_ID], row) for row in new)
    left = _left_out(target, connection, jobs, runs, there)
    return Family(
        [row for row in _parents_first(jobs) if row[_ID] not in left],
        [
            row
            for row in runs.values()
            if row[_ROOT] not in left and (row[_ROOT] in jobs or row[_ROOT] in there["job"])
        ],
        left,
    )


def _fetch(
    source: sqlite3.Connection,
    target: Target,
    connection: Connection,
    table: str,
    ids: set[str],
    there: dict[str, set[str]],
    asked: dict[str, set[str]],
) -> list[Row]:
    asked[table] |= ids
    known = target.known(connection, table, "id", ids)
    there[table] |= known
    names = ", ".join(column.name for column in TABLES[table].columns)
    statement = f"SELECT {names} FROM {table} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
    return source.execute(statement, (json.dumps(list(ids - known)),)).fetchall()


def _left_out(
    target: Target,
    connection: Connection,
    jobs: dict[str, Row],
    runs: dict[str, Row],
    there: dict[str, set[str]],
) -> set[str]:
    tasks = target.known(connection, "task", "hash", {row[_TASK] for row in jobs.values()})
    calls = {row[_CALL] for row in jobs.values()} - {None}
    calls = target.known(connection, "call_node", "call_hash", calls)
    left = {
        id_
        for id_, row in jobs.items()
        if row[_TASK] not in tasks or (row[_CALL] is not None and row[_CALL] not in calls)
    }
    while True:
        good_jobs = (jobs.keys() - left) | there["job"]
        good_runs = {id_ for id_, row in runs.items() if row[_ROOT] in good_jobs} | there["execution"]
        more = {
            id_
            for id_, row in jobs.items()
            if id_ not in left
            and (
                row[_RUN_OF] not in good_runs or (row[_PARENT] is not None and row[_PARENT] not in good_jobs)
            )
        }
        if not more:
            return left
        left |= more


def _parents_first(jobs: dict[str, Row]) -> list[Row]:
    ordered: dict[str, Row] = {}
    for id_ in jobs:
        chain = []
        at: str | None = id_
        while at in jobs and at not in ordered and at not in chain:
            chain.append(at)
            at = jobs[at][_PARENT]
        ordered.update((one, jobs[one]) for one in reversed(chain))
    return list(ordered.values())
