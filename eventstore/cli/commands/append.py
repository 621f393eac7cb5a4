"""`eventstore append`: events from lines of JSON."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render
from eventstore.errors import StorageError

if TYPE_CHECKING:
    from eventstore.cli.intake import Intake
    from eventstore.store import EventStore, Receipt

__all__ = ["append"]

BATCH = 1000
"""Events of one append: those are stored all or none."""


def append(
    store: options.Store,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            exists=True,
            dir_okay=False,
            show_default="standard input",
            help="Read the lines from here.",
        ),
    ] = None,
    create: Annotated[bool, typer.Option("--create", help="Make the store if there is none.")] = False,
    seal: Annotated[
        bool, typer.Option("--seal/--no-seal", help="Give the events their positions at once.")
    ] = True,
    actor: Annotated[
        str | None,
        typer.Option(envvar="EVENTSTORE_ACTOR", help="Who appends, for events that do not say so."),
    ] = None,
    module: options.Modules = None,
    single_sealer: options.SingleSealer = False,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Append events from lines of JSON.

    A line is one object: {"kind": ..., its fields}, with bytes as base64 and times as ISO 8601. Every
    line is checked before the first is stored; bad lines are named by number, and then nothing is
    stored. Good lines are stored a thousand at a time, each thousand all or none: if storage fails in
    between, the error names the line to go on from.
    """
    from eventstore.cli.intake import Intake
    from eventstore.events import default_registry
    from eventstore.store import EventStore

    options.import_modules(module)
    if file is None and sys.stdin.isatty():
        render.note("reading events from the keyboard, one JSON object per line; Ctrl-D ends")
    with (
        file.open("rb") if file else nullcontext(sys.stdin.buffer) as source,
        Intake(source, registry=default_registry) as intake,
        EventStore.open(
            store, create=create, actor=actor, auto_seal=False, single_sealer=single_sealer
        ) as opened,
    ):
        receipts = _store(opened, intake)
        if receipts:
            _settle(opened, seal=seal)
            level = receipts[1].level().name.lower()
    if not receipts:
        render.say("nothing to append: there was no line")
        if json:
            render.json_line({"count": 0})
        return
    first, last = receipts
    ids = {"first": str(first.first), "last": str(last.last), "level": level}
    if json:
        render.json_line({"count": intake.count, **ids})
        return
    render.say(f"{render.counted(intake.count, 'event')} appended")
    render.pairs(ids.items())


def _store(store: EventStore, intake: Intake) -> tuple[Receipt, Receipt] | None:
    first = last = None
    done = 0
    with render.progress("appending") as advance:
        for batch in intake.batches(BATCH):
            try:
                last = store.append(*(event for _, event in batch))
            except BaseException:
                if done:
                    render.warning(
                        f"{render.counted(done, 'event')} stored, none from line {batch[0][0]} on; "
                        "append the lines from there"
                    )
                raise
            first = first or last
            done += len(batch)
            advance(done, intake.count)
    return (first, last) if first and last else None


def _settle(store: EventStore, *, seal: bool) -> None:
    """Take the events as far as was asked for; if that fails, say that they need not be appended again."""
    try:
        store.seal() if seal else store.flush()
    except StorageError:
        render.warning(
            "the events are stored, at least in the journal of this machine, and the next command that "
            "writes to this store goes on from there: do not append them again"
        )
        raise
