"""`eventstore rebuild`: fold the log into tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from projections import Snapshot

__all__ = ["rebuild"]


def rebuild(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE] [TABLE]...",
            show_default=False,
            help=f"The store, unless {options.URL_VARIABLE} names it; then tables, or none for all.",
        ),
    ] = None,
    module: options.Modules = None,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Fold the log into tables.

    Reads the sealed log from the first event on, and publishes a snapshot of each table. A first word
    that is the name of a table is never taken for a store; for a folder of such a name write ./jobs.
    `eventstore query --list` shows all tables with their columns.
    """
    from eventstore.store import EventStore
    from projections import default_projections
    from projections import rebuild as build

    options.import_modules(module)
    url, names = _split(words or [], default_projections.names)
    default_projections.select(names or None)  # a wrong name is told before the store is opened
    with EventStore.open(url) as store:
        started = time.perf_counter()
        with render.progress("folding") as advance:
            made = build(store, names or None, progress=advance)
        seconds = time.perf_counter() - started
    _show(made, seconds, json=json)


def _split(words: list[str], tables: list[str]) -> tuple[str, list[str]]:
    if words and words[0] not in tables:
        return words[0], words[1:]
    url = options.store_from_environment()
    if url is None:
        found = f"found the table {words[0]!r}" if words else "found none"
        raise typer.BadParameter(
            f"a store was expected first, {found}; or set {options.URL_VARIABLE}", param_hint="'STORE'"
        )
    return url, words


def _show(made: Mapping[str, Snapshot], seconds: float, *, json: bool) -> None:
    rows = [(name, one.manifest.rows, one.position) for name, one in made.items()]
    if json:
        for name, count, position in rows:
            render.json_line({"table": name, "rows": count, "position": position})
        render.say(f"{render.counted(len(rows), 'table')} in {seconds:.2f} s")
        return
    render.table(
        ("table", "rows", "stands at"),
        [(name, f"{count:,}", f"{position:,}") for name, count, position in rows],
        right=("rows", "stands at"),
    )
    events = rows[0][2] if rows else 0
    rate = f", {events / seconds:,.0f} events/s" if events and seconds else ""
    tables = render.counted(len(rows), "table")
    render.say(f"{tables} from {render.counted(events, 'event')} in {seconds:.2f} s{rate}")
