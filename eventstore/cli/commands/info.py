"""`eventstore info`: a store at a glance."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from eventstore.cli import options, render

if TYPE_CHECKING:
    from eventstore.cli.summary import Summary

__all__ = ["info"]


def info(store: options.Store, json: options.AsJson = False, _debug: options.Debug = False) -> None:
    """Show what a store holds.

    Events by kind, what is not sealed yet, values, tables and how far they are. Nothing is changed. The
    root names the whole sealed history: note it down elsewhere, and a later `eventstore verify` that
    reports another root for the same size proves a change.
    """
    from eventstore.cli.summary import summarize
    from eventstore.store import EventStore

    with EventStore.open(store, read_only=True) as opened:
        found = summarize(opened)
    if json:
        head = {"size": found.head.size, "number": found.head.number, "root": found.head.root.hex()}
        render.json_line({**asdict(found), "head": head})
    else:
        _show(found)


def _show(found: Summary) -> None:
    count = render.counted
    render.heading(found.url)
    render.pairs(
        [
            ("store id", f"{found.store_id}, format {found.format}"),
            ("sealed", f"{count(found.head.size, 'event')} by {count(found.head.number, 'seal')}"),
            ("root", found.head.root.hex() if found.head.size else "(nothing sealed yet)"),
            ("segments", f"{found.segments:,}, {render.bytes_text(found.segment_bytes)}"),
            (
                "not sealed",
                f"{count(found.unsealed_events, 'event')} in {count(found.unsealed_segments, 'segment')}, "
                f"{found.journaled_events:,} journaled on this machine",
            ),
            ("values", f"{found.values:,} large, {render.bytes_text(found.value_bytes)}"),
            ("recorded", _span(found)),
        ]
    )
    if found.kinds:
        render.line("")
        rows = [(kind, f"{events:,}") for kind, events in found.kinds.items()]
        render.table(("kind", "events"), rows, right=("events",))
    if found.tables:
        render.line("")
        render.table(
            ("table", "version", "stands at", "behind"),
            [(one.name, one.version, f"{one.position:,}", f"{one.behind:,}") for one in found.tables],
            right=("version", "stands at", "behind"),
        )


def _span(found: Summary) -> str:
    if found.first_event_at is None or found.last_event_at is None:
        return "nothing yet"
    first, last = (
        moment.strftime("%Y-%m-%d %H:%M:%S") for moment in (found.first_event_at, found.last_event_at)
    )
    return f"{first} to {last} UTC"
