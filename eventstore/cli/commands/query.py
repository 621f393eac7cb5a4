"""`eventstore query`: SQL over the log and its tables."""

from __future__ import annotations

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
            "--format", show_default="by the ending of --output, else table", help="What the answer looks like."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write the answer to this file.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Most rows that a table shows; 0 shows all.")
    ] = 40,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Rebuild the tables that the SQL names first.")
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", help="List what can be asked: tables and their columns.")
    ] = False,
    module: options.Modules = None,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Ask the history in SQL: the log is the table `events`, and every projection is a table.

    Tables stand where they were last rebuilt; `events` is the whole sealed log. Only what the SQL
    names is read. Example: eventstore query ./history "SELECT status, count(*) FROM jobs GROUP BY status"
    """
    from eventstore.store import EventStore

    options.import_modules(module)
    url, text = _split(words or [], needs_sql=not list_)
    chosen = OutputFormat.JSON if json else format or _by_ending(output)
    if chosen is OutputFormat.PARQUET and output is None and sys.stdout.isatty():
        raise typer.BadParameter("parquet is no text: name a file", param_hint="'--output'")
    with EventStore.open(url, read_only=not fresh) as store:
        if list_:
            _list(store, json=json or chosen is OutputFormat.JSON)
        else:
            if fresh:
                _refresh(store, text)
            _answer(store, text, chosen, output, limit)


def _split(words: list[str], *, needs_sql: bool) -> tuple[str, str]:
    url = options.store_from_environment()
    wanted = 2 if needs_sql else 1
    if len(words) < wanted and url is not None:
        words = [url, *words]
    if len(words) != wanted:
        what = "STORE and SQL" if needs_sql else "STORE"
        raise typer.BadParameter(
            f"{what} expected, found {len(words)} words; put the SQL in quotes, and name the store or set "
            f"{options.URL_VARIABLE}",
            param_hint=f"'{what}'",
        )
    text = words[1] if needs_sql else ""
    return words[0], sys.stdin.read() if text == "-" else text


def _by_ending(output: Path | None) -> OutputFormat:
    return _BY_ENDING.get(output.suffix.lower(), OutputFormat.TABLE) if output else OutputFormat.TABLE


def _list(store: EventStore, *, json: bool) -> None:
    from eventstore.cli.sql import schemas

    for name, columns in schemas(store).items():
        if json:
            render.json_line({"table": name, "columns": dict(columns)})
        else:
            render.heading(name)
            render.pairs(columns.items())
            render.line("")


def _refresh(store: EventStore, text: str) -> None:
    from eventstore.cli.sql import mentioned
    from projections import default_projections, rebuild

    names = mentioned(text, default_projections.names)
    if names:
        with render.progress("folding") as advance:
            rebuild(store, names, progress=advance)


def _answer(
    store: EventStore, text: str, chosen: OutputFormat, output: Path | None, limit: int
) -> None:
    from eventstore.cli import answers
    from eventstore.cli.sql import run_sql

    frame = run_sql(store, text)
    if chosen is OutputFormat.TABLE and output is None:
        answers.show_table(frame, limit=limit)
        return
    rows = answers.write(frame, chosen.value, output)
    if output is not None:
        render.say(f"{options.number(rows)} rows were written to {output}")
