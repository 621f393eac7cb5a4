"""`eventstore query`: SQL over the log and its tables."""

from __future__ import annotations

import datetime as dt
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render

if TYPE_CHECKING:
    from eventstore.store import EventStore

__all__ = ["OutputFormat", "query"]


class OutputFormat(StrEnum):
    """What an answer looks like."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


_BY_ENDING = {
    ".csv": OutputFormat.CSV,
    ".json": OutputFormat.JSON,
    ".jsonl": OutputFormat.JSON,
    ".ndjson": OutputFormat.JSON,
    ".parquet": OutputFormat.PARQUET,
}


def query(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE] [SQL]",
            show_default=False,
            help=f"The store, unless {options.URL_VARIABLE} names it; then the SQL, or - to read it from "
            "standard input.",
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the word of the command line
        OutputFormat | None,
        typer.Option(
            "--format",
            show_default="by the ending of --output, else table",
            help="What the answer looks like.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write the answer to this file.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Most rows that a table shows; 0 shows all.")
    ] = 40,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Fold what is new into the answer; nothing is written.")
    ] = False,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="WHEN",
            show_default=False,
            help="Answer as of this time (ISO 8601), or this position: what the events before it made.",
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List what can be asked: tables and their columns.")
    ] = False,
    module: options.Modules = None,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Ask the history in SQL.

    The log is the table `events`, and every projection is a table. Tables stand where they were last
    refreshed; `events` is the whole sealed log; --fresh and --as-of say another moment. Only what the SQL
    names is read. Example: eventstore query ./history "SELECT status, count(*) FROM jobs GROUP BY status"
    """
    from eventstore.store import EventStore

    options.import_modules(module)
    url, text = _split(words or []) if not list_ else ("", "")
    chosen = OutputFormat.JSON if json else format or _by_ending(output)
    if chosen is OutputFormat.PARQUET and output is None and sys.stdout.isatty():
        raise typer.BadParameter("parquet is no text: name a file", param_hint="'--output'")
    if chosen is OutputFormat.TABLE and output is not None:
        raise typer.BadParameter(
            f"a file ending in {', '.join(_BY_ENDING)} was expected, or --format csv, json or parquet; "
            f"found {output.name!r}",
            param_hint="'--output'",
        )
    if list_:
        _list(json=chosen is OutputFormat.JSON)
        return
    at = options.position_or_moment(as_of, "--as-of")
    if fresh and at is not None:
        raise typer.BadParameter("a moment in the past is never fresh", param_hint="'--fresh'")
    with EventStore.open(url, read_only=True) as store:
        _answer(store, text, chosen, output, limit, fresh=fresh, at=at)


def _split(words: list[str]) -> tuple[str, str]:
    url = options.store_from_environment()
    if len(words) == 1 and url is not None:
        words = [url, *words]
    if len(words) != 2:
        raise typer.BadParameter(
            f"a store and SQL in quotes were expected, found {render.counted(len(words), 'word')}; the store "
            f"may be left out where {options.URL_VARIABLE} names it",
            param_hint="'STORE SQL'",
        )
    return words[0], sys.stdin.read() if words[1] == "-" else words[1]


def _by_ending(output: Path | None) -> OutputFormat:
    return _BY_ENDING.get(output.suffix.lower(), OutputFormat.TABLE) if output else OutputFormat.TABLE


def _list(*, json: bool) -> None:
    from eventstore.cli.sql import columns_of

    for name, columns in columns_of():
        if json:
            made = [{"name": one.name, "type": one.type, "meaning": one.doc} for one in columns]
            render.json_line({"table": name, "columns": made})
        else:
            render.heading(name)
            render.pairs((one.name, f"{one.type:<15}  {one.doc}") for one in columns)
            render.line("")


def _answer(
    store: EventStore,
    text: str,
    chosen: OutputFormat,
    output: Path | None,
    limit: int,
    *,
    fresh: bool,
    at: int | dt.datetime | None,
) -> None:
    from eventstore.cli import answers
    from eventstore.cli.sql import run_sql

    frame = run_sql(store, text, fresh=fresh, at=at)
    if chosen is OutputFormat.TABLE:
        answers.show_table(frame, limit=limit)
        return
    rows = answers.write(frame, chosen.value, output)
    if output is not None:
        render.say(f"{render.counted(rows, 'row')} written to {output}")
