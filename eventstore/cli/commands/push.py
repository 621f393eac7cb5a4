"""`eventstore push`: another store gets what this one has."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli import options
from eventstore.cli.sending import EVERY_VALUE, DryRun, Other, send

__all__ = ["push"]


def push(
    store: options.Store,
    other: Other,
    create: Annotated[bool, typer.Option("--create", help="Make the other store if there is none.")] = False,
    dry_run: DryRun = False,
    single_sealer: options.SingleSealer = False,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Send to another store what it does not have.

    Only missing events and large values are sent, and are placed behind the events of the other store, in
    the order that they have here; hashes stay. What is not sealed here yet is sealed first. Both stores may
    have events of their own, and both may be sent to: repeated, in both directions or in a circle, nothing
    comes twice. After an interrupt, run it again. Tables are each store's own: `eventstore refresh`.
    """
    from eventstore.store import EventStore

    with EventStore.open(store, read_only=dry_run, single_sealer=single_sealer) as source:
        if not dry_run:
            source.seal()
        with EventStore.open(
            other,
            create=create and not dry_run,
            read_only=dry_run,
            single_sealer=single_sealer,
            max_value_bytes=EVERY_VALUE,
        ) as target:
            send(source, target, "sent", dry_run=dry_run, json=json)
