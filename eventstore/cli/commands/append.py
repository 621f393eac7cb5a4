"""`eventstore append`: events from lines of JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render

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
    """Append events: one JSON object per line, {"kind": ..., its fields}, bytes as base64, times as ISO 8601.

    Every line is checked before the first is stored; bad lines are named by number, and then nothing is
    stored. Good lines are stored a thousand at a time, each thousand all or none: if storage fails in between,
    the error names the line to go on from.
    """
    from eventstore.cli.intake import Intake
    from eventstore.events import default_registry
    from eventstore.store import EventStore

    options.import_modules(module)
    source = file.open("rb") if file else sys.stdin.buffer
    if file is None and source.isatty():
        render.note("reading events from the keyboard, one JSON object per line; Ctrl-D ends")
    with source, Intake(source, registry=default_registry) as intake:
        if not intake.count:
            render.say("nothing to append: there was no line")
            return
        with EventStore.open(
            store, create=create, actor=actor, auto_seal=False, single_sealer=single_sealer
        ) as opened:
            first, last = _store(opened, intake)
            if seal:
                opened.seal()
            else:
                opened.flush()
            level = last.level().name.lower()
    made = {"count": intake.count, "first": str(first.first), "last": str(last.last), "level": level}
    if json:
        render.json_line(made)
        return
    render.say(f"{options.number(intake.count)} events were appended")
    render.pairs([("first", made["first"]), ("last", made["last"]), ("level", level)])


def _store(store: EventStore, intake: Intake) -> tuple[Receipt, Receipt]:
    first = last = None
    done = 0
    with render.progress("appending") as advance:
        for batch in intake.batches(BATCH):
            try:
                last = store.append(*(event for _, event in batch))
            except BaseException:
                if done:
                    render.warning(
                        f"{options.number(done)} events are stored, none from line {batch[0][0]} on; "
                        "append the lines from there"
                    )
                raise
            first = first or last
            done += len(batch)
            advance(done, intake.count)
    if first is None or last is None:
        raise AssertionError("an intake without events is not appended")
    return first, last
