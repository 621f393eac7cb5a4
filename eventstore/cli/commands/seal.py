"""`eventstore seal`: give every durable event its position."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli import options, render

__all__ = ["seal"]


def seal(
    store: options.Store,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Look into every day's folder, not only into recent ones.")
    ] = False,
    single_sealer: options.SingleSealer = False,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Give every durable event its place in the log.

    Prints where the log ends. Events that dead writers of this machine left in journals are made
    durable first. Stores usually seal by themselves; this is for what was appended with --no-seal, or
    from places that cannot seal.
    """
    from eventstore.store import EventStore

    # Without auto_seal, opening only recovers; what is placed is then counted below.
    with EventStore.open(store, auto_seal=False, single_sealer=single_sealer) as opened:
        before = opened.head()
        head = opened.seal(everywhere=everywhere)
        url = opened.url
    placed = head.size - before.size
    if json:
        render.json_line(
            {"url": url, "placed": placed, "size": head.size, "number": head.number, "root": head.root.hex()}
        )
        return
    render.say(f"{render.counted(placed, 'event')} placed" if placed else "everything was sealed already")
    render.pairs(
        [
            ("sealed", f"{render.counted(head.size, 'event')} by {render.counted(head.number, 'seal')}"),
            ("root", head.root.hex() if head.size else "(nothing sealed yet)"),
        ]
    )
