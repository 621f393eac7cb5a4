"""`eventstore pull`: this store gets what another one has."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli import options
from eventstore.cli.sending import EVERY_VALUE, DryRun, Other, send

__all__ = ["pull"]


def pull(
    store: options.Store,
    other: Other,
    create: Annotated[bool, typer.Option("--create", help="Make the store if there is none.")] = False,
    dry_run: DryRun = False,
    single_sealer: options.SingleSealer = False,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Get from another store what this one does not have.

    As `eventstore push OTHER STORE`, but the other store is only read: it gives what is sealed there.
    """
    from eventstore.store import EventStore

    with (
        EventStore.open(other, read_only=True) as source,
        EventStore.open(
            store,
            create=create and not dry_run,
            read_only=dry_run,
            single_sealer=single_sealer,
            max_value_bytes=EVERY_VALUE,
        ) as target,
    ):
        send(source, target, "taken over", dry_run=dry_run, json=json)
