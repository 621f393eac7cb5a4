"""`eventstore events`: the history, event by event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventstore.cli import options, render

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from eventstore.cli.filters import EventFilter
    from eventstore.log.subscription import Subscription
    from eventstore.store import EventStore

__all__ = ["events"]

_FOLLOW_FROM = 10


def _known_kinds(incomplete: str) -> list[str]:
    from eventstore.events import default_registry

    return [one.kind for one in default_registry if one.kind.startswith(incomplete)]


def events(
    store: options.Store,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            show_default=False,
            autocompletion=_known_kinds,
            help="Only events of this kind, such as job.ended. May be repeated.",
        ),
    ] = None,
    entity: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only events that mention this id, or an id that begins so."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what occurred at this time (ISO 8601) or later.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only what occurred before.")] = None,
    after: Annotated[
        int | None,
        typer.Option(metavar="POSITION", min=-1, help="Begin behind this position; -1 is the beginning."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Stop after so many.")] = None,
    tail: Annotated[
        bool | None,
        typer.Option("--tail/--no-tail", show_default="tail", help="Also what no seal has placed yet."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as events are sealed, until Ctrl-C.")
    ] = False,
    subscription: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Show what this subscription has not had, and remember what was shown."
        ),
    ] = None,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Show the history, one event a line.

    Times are UTC, ids are cut to their first 8 characters (--entity takes those), and --json gives
    everything. Unsealed events come last, with `durable` or `journal` for a position. --follow begins
    with the last ten positions unless --after says where. A --subscription goes on where it stopped, on
    any machine; these words then say where a new one begins.
    """
    from eventstore.cli.filters import EventFilter
    from eventstore.store import EventStore

    wanted = EventFilter(options.moment(since, "--since"), options.moment(until, "--until"), entity)
    if (follow or subscription) and tail:
        raise typer.BadParameter("unsealed events have no place to go on from", param_hint="'--tail'")
    with EventStore.open(store, read_only=subscription is None) as opened:
        if follow and after is None:
            after = opened.head().size - _FOLLOW_FROM - 1
        try:
            if subscription is not None:
                with _subscribed(opened, subscription, kinds=kind or None, after=after, whole=json) as named:
                    _show_new(named, wanted, limit=limit, json=json, follow=follow)
                return
            rows = _rows(
                opened,
                wanted,
                kinds=kind or None,
                after=after,
                tail=tail is not False,
                follow=follow,
                whole=json,
            )
            _show(rows, limit=limit, json=json, live=follow)
        except KeyboardInterrupt:
            if not follow:
                raise


def _subscribed(
    store: EventStore, name: str, *, kinds: list[str] | None, after: int | None, whole: bool
) -> Subscription:
    from eventstore.cli.event_lines import LINE_COLUMNS

    start = None if after is None else max(0, after + 1)
    return store.subscription(name, kinds=kinds, columns=None if whole else LINE_COLUMNS, start=start)


def _show_new(
    subscription: Subscription, wanted: EventFilter, *, limit: int | None, json: bool, follow: bool
) -> None:
    """Show what comes after where the subscription stands; what was shown is done."""
    batches = subscription.batches(follow=follow)

    def rows() -> Iterator[dict[str, Any]]:
        for batch in batches:
            yield from _chosen(batch, wanted)
            subscription.commit()

    def shown(row: dict[str, Any]) -> None:
        subscription.commit(row["position"] + 1)

    with closing(batches):
        _show(rows(), limit=limit, json=json, live=True, shown=shown)


def _rows(
    store: EventStore,
    wanted: EventFilter,
    *,
    kinds: list[str] | None,
    after: int | None,
    tail: bool,
    follow: bool,
    whole: bool,
) -> Iterator[dict[str, Any]]:
    from eventstore.cli.event_lines import LINE_COLUMNS

    columns = None if whole else LINE_COLUMNS
    if after is not None and after < 0:
        after = None
    if follow:
        batches = store.subscribe(after=after, kinds=kinds, columns=columns)
    else:
        batches = store.read(after=after, kinds=kinds, columns=columns, tail=tail)
    for batch in batches:
        yield from _chosen(batch, wanted)


def _chosen(batch: pa.RecordBatch, wanted: EventFilter) -> Iterator[dict[str, Any]]:
    chosen = wanted.apply(batch)
    names = [name for name in chosen.schema.names if chosen[name].null_count < len(chosen)]
    for row in chosen.select(names).to_pylist():
        yield {"position": None, **row}


def _show(
    rows: Iterator[dict[str, Any]],
    *,
    limit: int | None,
    json: bool,
    live: bool,
    shown: Callable[[dict[str, Any]], object] = lambda _: None,
) -> None:
    from eventstore.cli.event_lines import EventLines, event_object

    console = render.out()
    lines = EventLines(terminal=console.is_terminal)
    for number, row in enumerate(rows, 1):
        if json:
            render.json_line(event_object(row))
        else:
            day = lines.day(row)
            if day is not None:
                render.line(day, console)
            render.line(lines.line(row), console)
        if live:
            render.flush()
        shown(row)
        if number == limit:
            return
