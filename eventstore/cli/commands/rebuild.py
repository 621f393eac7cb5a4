"""`eventstore rebuild` and `eventstore refresh`: fold the log into tables, all of it or what is new."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from projections import Snapshot

__all__ = ["rebuild", "refresh"]

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STORE] [TABLE]...",
        show_default=False,
        help=f"The store, unless {options.URL_VARIABLE} names it; then tables, or none for all.",
    ),
]
Memory = Annotated[
    int,
    typer.Option(
        metavar="MB", min=64, help="About how much memory to use; the rest goes to temporary files."
    ),
]


def rebuild(
    words: Words = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Publish nothing: make the tables again and compare them with what is stored."
        ),
    ] = False,
    memory: Memory = 1500,
    module: options.Modules = None,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Fold the log into tables, from the first event on.

    Publishes a snapshot of each table at the sealed head. A first word that is the name of a table is never
    taken for a store; for a folder of such a name write ./jobs. `eventstore query --list` shows all tables
    with their columns.
    """
    from eventstore.store import EventStore
    from projections import rebuild as build
    from projections import reproduce

    url, names = _split(words or [], module)
    with EventStore.open(url, read_only=verify) as store:
        started = time.perf_counter()
        with render.progress("folding") as advance:
            if verify:
                made_again = reproduce(store, names, progress=advance, memory_bytes=memory * 1_000_000)
            else:
                made = build(store, names, progress=advance, memory_bytes=memory * 1_000_000)
        seconds = time.perf_counter() - started
    if not verify:
        _show(made, seconds, json=json)
        return
    for one in made_again:
        if json:
            render.json_line({"table": one.name, "position": one.position, "rows": one.rows, "ok": one.ok})
        else:
            render.line(f"{one.name:<20} {one.rows:>12,} rows  {'same' if one.ok else 'DIFFERENT'}")
    for one in made_again:
        if not one.ok:
            raise one.error()
    render.say(f"{render.counted(len(made_again), 'table')} came out the same, in {seconds:.2f} s")


def refresh(
    words: Words = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole", help="Write each table as one, so that its files can be read by path; costs its size."
        ),
    ] = False,
    memory: Memory = 1500,
    module: options.Modules = None,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Bring tables up to date, folding only what is new.

    Goes on from the newest snapshot of each table; one without a snapshot is rebuilt. What is new costs what
    it is, however long the history.
    """
    from eventstore.store import EventStore
    from projections import refresh as bring_up

    url, names = _split(words or [], module)
    with EventStore.open(url) as store:
        started = time.perf_counter()
        with render.progress("folding") as advance:
            made = bring_up(
                store,
                names,
                merge="all" if whole else "tiers",
                progress=advance,
                memory_bytes=memory * 1_000_000,
            )
        seconds = time.perf_counter() - started
    _show(made, seconds, json=json)


def _split(words: list[str], modules: list[str] | None) -> tuple[str, list[str] | None]:
    """Return the store and the tables; a wrong name is told before the store is opened."""
    from projections import default_projections

    options.import_modules(modules)
    if words and words[0] not in default_projections.names:
        url, names = words[0], words[1:]
    else:
        found_url, names = options.store_from_environment(), words
        if found_url is None:
            found = f"found the table {words[0]!r}" if words else "found none"
            raise typer.BadParameter(
                f"a store was expected first, {found}; or set {options.URL_VARIABLE}", param_hint="'STORE'"
            )
        url = found_url
    default_projections.select(names or None)
    return url, names or None


def _show(made: Mapping[str, Snapshot], seconds: float, *, json: bool) -> None:
    rows = [(name, one.rows, one.position) for name, one in made.items()]
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
    tables = render.counted(len(rows), "table")
    stand = "stands" if len(rows) == 1 else "stand"
    render.say(f"{tables} {stand} at {render.counted(events, 'event')}, in {seconds:.2f} s")
