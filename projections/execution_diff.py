"""What differs between two executions: jobs, sources of tasks, arguments, results, and how jobs ended.

Jobs of two executions have different ids, so they are matched by their place in the call tree. Below a pair
of jobs, calls of one task are matched first where their arguments are equal, then in the order in which they
began: so a call that was put in front, or calls that ran at once, do not shift all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from eventstore import InvalidEventError, NotFoundError
from projections.job_places import place_jobs

__all__ = ["ASPECTS", "EXECUTION_DIFF_TABLES", "ExecutionDiff", "diff_executions"]

EXECUTION_DIFF_TABLES = ("executions", "jobs", "tasks", "call_nodes", "arguments", "values")
"""The tables that `diff_executions` reads."""

ASPECTS: Mapping[str, str] = {
    "source": "task_hash",
    "arguments": "args_hash",
    "result": "value_hash",
    "status": "status",
    "cached": "cached",
}
"""What two jobs may differ in, with the column that tells. Arguments and results are compared where both are
known."""

_MOST_CANDIDATES = 5
_SIDES = ("_first", "_second")
_ALWAYS_KNOWN = frozenset({"source", "status", "cached"})

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExecutionDiff:
    """The difference between two executions. Columns end in ``_first`` and ``_second`` for the two."""

    first: Row
    """The row of the one execution, as in the table `executions`."""
    second: Row
    """That of the other."""
    only_first: pl.DataFrame
    """Jobs without a counterpart: `path`, `task_name`, `job_id`, `task_hash`, `args_hash`, `value_hash`,
    `status`, `cached`, and `under_cached`: whether a job above it has a counterpart that was answered from a
    cache, so that nothing ran below that one."""
    only_second: pl.DataFrame
    """The same of the other execution."""
    pairs: pl.DataFrame
    """Jobs that match: `path`, `task_name`, `differs` (names out of `ASPECTS`), and for both sides `job_id`,
    `call_hash` and the columns of `ASPECTS`."""
    arguments: pl.DataFrame
    """Arguments that differ, of pairs whose arguments do: `path`, `argument` (its keyword or place), and for
    both sides `value_hash` (null: not given) and `type_name` (null: not recorded)."""
    sources: pl.DataFrame
    """Tasks of pairs that have another hash on each side: `task_name`, and for both sides `task_hash`,
    `source` and `task_version`."""

    @property
    def changed(self) -> pl.DataFrame:
        """The pairs that differ in at least one aspect."""
        return self.pairs.filter(pl.col("differs").list.len() > 0)

    @property
    def same(self) -> bool:
        """Whether every job has a counterpart that differs from it in nothing."""
        return not (self.only_first.height or self.only_second.height or self.changed.height)

    def counts(self) -> dict[str, int]:
        """Count jobs only in the first and second, pairs, unchanged pairs, and pairs by aspect."""
        differs = self.pairs["differs"]
        return {
            "only_first": self.only_first.height,
            "only_second": self.only_second.height,
            "pairs": self.pairs.height,
            "unchanged": int((differs.list.len() == 0).sum()),
            **{aspect: int(differs.list.contains(aspect).sum()) for aspect in ASPECTS},
        }


def diff_executions(tables: Mapping[str, pl.LazyFrame], first: str, second: str) -> ExecutionDiff:
    """Compare two executions.

    Only the rows of these two are read into memory: their jobs, and the calls, arguments, tasks and values
    that those name.

    Parameters
    ----------
    tables
        Those of `EXECUTION_DIFF_TABLES`, such as `open_tables` gives.
    first, second
        Execution ids, or beginnings of which there is only one.

    Raises
    ------
    NotFoundError
        There is no such execution (code ``no_such_execution``).
    InvalidEventError
        Several executions begin so (code ``ambiguous_id``).
    """
    runs = [_execution(tables["executions"], asked) for asked in (first, second)]
    ids = [run["execution_id"] for run in runs]
    sides = [_jobs(tables, execution_id) for execution_id in ids]
    pairs, only_first, only_second = place_jobs(*sides)
    pairs = pairs.with_columns(differs=_differs()).select(
        "path",
        "task_name",
        "differs",
        *(name + side for name in ("job_id", "call_hash", *ASPECTS.values()) for side in _SIDES),
    )
    return ExecutionDiff(
        first=runs[0],
        second=runs[1],
        only_first=only_first,
        only_second=only_second,
        pairs=pairs,
        arguments=_arguments(tables, pairs),
        sources=_sources(tables["tasks"], pairs),
    )


def _execution(executions: pl.LazyFrame, asked: str) -> Row:
    begins = pl.col("execution_id").str.starts_with(asked)
    found = executions.filter(begins).sort("execution_id").head(_MOST_CANDIDATES + 1).collect()
    exact = found.filter(pl.col("execution_id") == asked)
    if exact.height or (asked and found.height == 1):
        return (exact if exact.height else found).row(0, named=True)
    if not found.height:
        raise NotFoundError(
            f"an execution {asked!r} was expected in the tables, found none whose id begins so; rebuild them "
            "if it is recent, or look it up in the table `executions`",
            code="no_such_execution",
            execution_id=asked,
        )
    candidates = found["execution_id"].to_list()
    more = ", ..." if len(candidates) > _MOST_CANDIDATES else ""
    raise InvalidEventError(
        f"the beginning of one execution's id was expected, found {asked!r}, with which begin "
        f"{', '.join(candidates[:_MOST_CANDIDATES])}{more}; give more of it",
        code="ambiguous_id",
        execution_id=asked,
        candidates=candidates,
    )


def _jobs(tables: Mapping[str, pl.LazyFrame], execution_id: str) -> pl.DataFrame:
    """The jobs of one execution, each with its task's name and what its call was and gave."""
    jobs = tables["jobs"].filter(pl.col("execution_id") == execution_id)
    jobs = jobs.select("job_id", "position", "parent_id", "task_hash", "status", "cached", "call_hash")
    names = tables["tasks"].join(jobs, on="task_hash", how="semi").select("task_hash", task_name="full_name")
    calls = tables["call_nodes"].join(jobs, on="call_hash", how="semi")
    calls = calls.select("call_hash", "args_hash", "value_hash", call_task="task_name")
    return (
        jobs.join(names, on="task_hash", how="left")
        .join(calls, on="call_hash", how="left")
        # A task that was never recorded by itself is known by its call, or else by its hash.
        .with_columns(task_name=pl.coalesce("task_name", "call_task", "task_hash"))
        .drop("call_task")
        .collect(engine="streaming")
    )


def _differs() -> pl.Expr:
    names = []
    for aspect, column in ASPECTS.items():
        first, second = pl.col(f"{column}_first"), pl.col(f"{column}_second")
        different = first.ne_missing(second) if aspect in _ALWAYS_KNOWN else (first != second)
        names.append(pl.when(different).then(pl.lit(aspect)))
    return pl.concat_list(names).list.drop_nulls()


def _arguments(tables: Mapping[str, pl.LazyFrame], pairs: pl.DataFrame) -> pl.DataFrame:
    different = pairs.filter(pl.col("differs").list.contains("arguments")).with_row_index("pair")
    sides = []
    for side in _SIDES:
        calls = different.lazy().select("pair", call_hash=f"call_hash{side}")
        given = tables["arguments"].join(calls, on="call_hash", how="semi")
        sides.append(
            calls.join(given, on="call_hash").select(
                "pair", "argument_position", "argument_key", pl.col("value_hash").alias(f"value_hash{side}")
            )
        )
    place = ["pair", "argument_position", "argument_key"]
    cells = sides[0].join(sides[1], on=place, how="full", nulls_equal=True, coalesce=True)
    cells = cells.filter(pl.col("value_hash_first").ne_missing(pl.col("value_hash_second")))
    types = tables["values"].select("value_hash", "type_name")
    for side in _SIDES:
        named = types.join(cells, left_on="value_hash", right_on=f"value_hash{side}", how="semi")
        named = named.rename({"value_hash": f"value_hash{side}", "type_name": f"type_name{side}"})
        cells = cells.join(named, on=f"value_hash{side}", how="left")
    return (
        cells.join(different.lazy().select("pair", "path"), on="pair")
        .sort("pair", "argument_position", "argument_key", nulls_last=True)
        .select(
            "path",
            "value_hash_first",
            "value_hash_second",
            "type_name_first",
            "type_name_second",
            argument=pl.coalesce("argument_key", pl.col("argument_position").cast(pl.String)),
        )
        .select("path", "argument", pl.exclude("path", "argument"))
        .collect(engine="streaming")
    )


def _sources(tasks: pl.LazyFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    hashes = [f"task_hash{side}" for side in _SIDES]
    different = pairs.lazy().filter(pl.col("differs").list.contains("source"))
    different = different.select("task_name", *hashes).unique(maintain_order=True)
    for side in _SIDES:
        known = tasks.join(different, left_on="task_hash", right_on=f"task_hash{side}", how="semi")
        known = known.select(pl.col("task_hash", "source", "task_version").name.suffix(side))
        different = different.join(known, on=f"task_hash{side}", how="left", maintain_order="left")
    both = [name + side for name in ("task_hash", "source", "task_version") for side in _SIDES]
    return different.select("task_name", *both).collect(engine="streaming")
