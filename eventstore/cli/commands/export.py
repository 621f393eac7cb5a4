"""`eventstore export`: write a store's history into a database of redun."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli import options, render

__all__ = ["export"]


def export(
    store: options.Store,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            show_default=False,
            help="redun's database, made if need be: sqlite:///redun.db or postgresql+psycopg2://host/redun.",
        ),
    ],
    value_store: Annotated[
        str | None,
        typer.Option(
            "--value-store",
            metavar="PATH",
            show_default=False,
            help="Folder or URL of redun's value store: bytes that lie there go into the database too.",
        ),
    ] = None,
    sealed: Annotated[
        bool,
        typer.Option(
            "--sealed", help="Take only what is sealed already; then nothing is written to the store."
        ),
    ] = False,
    single_sealer: options.SingleSealer = False,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Write a store's history into a database of redun.

    redun itself makes the database, or migrates it. What is there already stays; done again, it adds what is
    new, and after an interruption it goes on where it stopped. Large values are written whole, into the
    database.
    """
    from eventstore.filesystem import open_storage
    from eventstore.redun.exporting import export_to_redun
    from eventstore.store import EventStore
    from eventstore.value_store import RedunValueStore

    beside = RedunValueStore(open_storage(value_store)) if value_store else None
    with EventStore.open(store, read_only=sealed, single_sealer=single_sealer) as opened:
        if not sealed:
            opened.seal()
        with render.progress("exporting", "rows") as advance:
            report = export_to_redun(opened, to, value_store=beside, progress=advance)
    if json:
        render.json_line(
            {
                "position": report.position,
                "rows": dict(report.rows),
                "left_out": dict(report.left_out),
                "in_value_store": report.in_value_store,
            }
        )
        return
    render.table(
        ("table", "written", "left out"),
        [
            (name, f"{report.rows[name]:,}", f"{report.left_out[name]:,}")
            for name in sorted({*report.rows, *report.left_out})
        ],
        right=("written", "left out"),
    )
    render.say(
        f"{render.counted(report.rows.total(), 'row')} written; {report.url} holds what "
        f"{render.counted(report.position, 'sealed event')} say"
    )
    if report.in_value_store:
        values = render.counted(report.in_value_store, "value")
        render.note(f"{values} stay in redun's value store: set value_store_path to where it is")
    if report.left_out:
        render.warning("what was left out names something that the log does not have; it stays in the log")
