"""`eventstore diff`: what differs between two executions."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventstore.cli import options, render
from eventstore.cli.render import Text

if TYPE_CHECKING:
    import polars as pl

    from projections import ExecutionDiff

__all__ = ["diff"]

_CACHE_ONLY = {"status", "cached"}


def diff(
    store: options.Store,
    first: Annotated[
        str, typer.Argument(metavar="FIRST", help="Id of an execution, or its beginning.", show_default=False)
    ],
    second: Annotated[
        str, typer.Argument(metavar="SECOND", help="Id of another, or its beginning.", show_default=False)
    ],
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Most rows that a table shows; 0 shows all.")
    ] = 40,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Show what differs between two executions.

    Jobs are matched by their place in the call tree, and calls of one task below the same job by equal
    arguments first. Shown are jobs that only one execution has, and for the others what differs: the
    source of the task, arguments, the result, how the job ended. Reads the sealed log; changes nothing.
    """
    from eventstore.store import EventStore
    from projections import EXECUTION_DIFF_TABLES, diff_executions, open_tables

    with (
        EventStore.open(store, read_only=True) as opened,
        render.waiting("comparing"),
        open_tables(opened, EXECUTION_DIFF_TABLES, fresh="sealed") as tables,
    ):
        found = diff_executions(tables, first, second)
    if json:
        _print_json(found)
    else:
        _show(found, limit)


def _print_json(found: ExecutionDiff) -> None:
    render.json_line(
        {
            "type": "summary",
            "same": found.same,
            **found.counts(),
            "first": found.first,
            "second": found.second,
        }
    )
    frames = {
        "only_first": found.only_first,
        "only_second": found.only_second,
        "changed": found.changed,
        "argument": found.arguments,
        "source": found.sources,
    }
    for name, frame in frames.items():
        for row in frame.iter_rows(named=True):
            render.json_line({"type": name, **row})


def _show(found: ExecutionDiff, limit: int) -> None:
    runs, counts = (found.first, found.second), found.counts()
    told = found.changed.filter(~_only_by_cache(found.changed))
    render.table(
        ("", "first", "second"),
        [
            (name, *(run[name] for run in runs))
            for name in ("execution_id", "started_at", "status", "args", "actor", "software")
        ],
    )
    render.line("")
    render.pairs(
        [
            ("jobs in both", f"{counts['pairs']:,}"),
            ("  the same", f"{counts['unchanged']:,}"),
            ("  the same but for a cache", f"{found.changed.height - told.height:,}"),
            ("  different", f"{told.height:,}"),
            ("only in first", f"{counts['only_first']:,}"),
            ("only in second", f"{counts['only_second']:,}"),
        ]
    )
    for title, frame in (("only in first", found.only_first), ("only in second", found.only_second)):
        rows = ((row["path"], row["status"], _reason(row)) for row in frame.iter_rows(named=True))
        _table(title, ("job", "status", ""), rows, frame.height, limit)
    _table("jobs that differ", ("job", "differs in", "first", "second"), _changes(told), told.height, limit)
    _table(
        "arguments",
        ("job", "argument", "first", "second"),
        (
            (row["path"], row["argument"], *(_value(row, side) for side in ("_first", "_second")))
            for row in found.arguments.iter_rows(named=True)
        ),
        found.arguments.height,
        limit,
    )
    for row in found.sources.iter_rows(named=True):
        _source(row)


def _only_by_cache(changed: pl.DataFrame) -> pl.Series:
    """Which pairs ended well on both sides, once by running and once by a cache."""
    well = [
        changed[f"status_{side}"].is_in(["DONE", "CACHED"])
        & changed["differs"].list.set_difference(sorted(_CACHE_ONLY)).list.len().eq(0)
        for side in ("first", "second")
    ]
    return well[0] & well[1]


def _changes(told: pl.DataFrame) -> Iterator[tuple[str, str, str, str]]:
    for row in told.iter_rows(named=True):
        sides = [
            f"{row[f'job_id_{side}'][: render.SHORT_ID]} {row[f'status_{side}']}"
            for side in ("first", "second")
        ]
        yield row["path"], ", ".join(row["differs"]), sides[0], sides[1]


def _reason(row: dict[str, Any]) -> str:
    return "not run: a job above it was cached there" if row["under_cached"] else ""


def _value(row: dict[str, Any], side: str) -> str:
    value_hash, type_name = row[f"value_hash{side}"], row[f"type_name{side}"]
    if value_hash is None:
        return "not given"
    return f"{value_hash[: render.SHORT_ID]} {type_name or ''}".rstrip()


def _table(
    title: str, columns: tuple[str, ...], rows: Iterator[tuple[str, ...]], count: int, limit: int
) -> None:
    if not count:
        return
    render.line("")
    render.heading(title)
    shown = [row for _, row in zip(range(limit or count), rows, strict=False)]
    render.table(columns, shown, indent=2)
    if len(shown) < count:
        render.note(f"these are the first {limit} of {count:,}; --limit 0 shows all")


def _source(row: dict[str, Any]) -> None:
    render.line("")
    render.heading(f"source of {render.visible(row['task_name'])}")
    texts = [row["source_first"], row["source_second"]]
    if None in texts:
        versions = " and ".join(str(row[f"task_version_{side}"] or "unknown") for side in ("first", "second"))
        render.line(f"  versions {render.visible(versions)}")
        return
    old, new = (text.splitlines() for text in texts)
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in difflib.unified_diff(old, new, "first", "second", lineterm="", n=2):
        render.text(Text(f"  {render.visible(line)}", style=styles.get(line[:1], "")))
