"""`eventstore import`: a redun database becomes history."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render
from eventstore.cli.exits import safe_text
from eventstore.cli.sending import EVERY_VALUE
from eventstore.errors import StateError

if TYPE_CHECKING:
    from eventstore.redun.importing import ImportReport

__all__ = ["import_"]


def import_(
    database_url: Annotated[
        str,
        typer.Argument(
            metavar="DATABASE_URL",
            show_default=False,
            help="redun's database, such as sqlite:///.redun/redun.db or postgresql://user@host/name.",
        ),
    ],
    store: options.Store,
    value_store: Annotated[
        str | None,
        typer.Option(
            "--value-store",
            metavar="PATH",
            show_default=False,
            help="Folder or URL of redun's value store, where it has one (its setting value_store_path).",
        ),
    ] = None,
    single_sealer: options.SingleSealer = False,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Import a redun database: all that it says, with redun's hashes.

    Executions, jobs, calls, values, tasks, files, evaluations, handles, tags with their edits. The store is
    made if there is none. The database is only read, as of the beginning. What the store has already is
    passed over: an import that was interrupted goes on, and one that is repeated adds what is new.
    """
    try:
        from eventstore.redun.importing import import_database, open_database
    except ModuleNotFoundError as error:
        raise StateError(
            f"redun's packages were expected, found no {error.name!r}: pip install 'eventstore[redun]'",
            code="missing_package",
        ) from error
    from eventstore.filesystem import open_storage
    from eventstore.store import EventStore
    from eventstore.value_store import RedunValueStore

    values = RedunValueStore(open_storage(value_store)) if value_store is not None else None
    with ExitStack() as stack:
        with open_database(database_url) as database:  # no store is made for a URL that is wrong
            opened = stack.enter_context(
                EventStore.open(store, create=True, single_sealer=single_sealer, max_value_bytes=EVERY_VALUE)
            )
            with render.progress("importing", "rows") as advance:
                report = import_database(database, opened, value_store=values, progress=advance)
        size = opened.seal().size
    if json:
        _print_json(report, size)
    else:
        _show(report, size)


def _print_json(report: ImportReport, size: int) -> None:
    render.json_line(
        {
            "found": report.found,
            "added": report.added,
            "missing_values": report.missing_values,
            "kept_valid": report.kept_valid,
            "left_out": report.left_out,
            "faults": [safe_text(fault) for fault in report.faults],
            "size": size,
            "seconds": report.seconds,
        }
    )


def _show(report: ImportReport, size: int) -> None:
    added = sum(report.added.values())
    rows = sum(report.found.values())
    rate = f", {rows / report.seconds:,.0f} rows/s" if rows and report.seconds else ""
    render.heading(f"{render.counted(rows, 'row')} read, {render.counted(added, 'event')} added")
    render.pairs((name, f"{count:,}") for name, count in report.found.items() if count)
    if added:
        render.table(["event", "added"], sorted(report.added.items()), right=["added"], indent=2)
    render.say(f"done in {report.seconds:.2f} s{rate}; the log has {render.counted(size, 'event')}")
    if report.missing_values:
        render.warning(
            f"{render.counted(report.missing_values, 'value')} left out: redun's value store has no file for "
            "them. What mentions them is imported, and asks for them find nothing"
        )
    if report.kept_valid:
        render.warning(
            f"{render.counted(report.kept_valid, 'handle')} invalid in the database, and valid in the store: "
            "no roll-back leads to that state"
        )
    for table, count in report.left_out.items():
        render.warning(
            f"{render.counted(count, 'row')} of the table {table!r} left out: no event can hold them"
        )
    for fault in report.faults:
        render.say(f"  {render.visible(safe_text(fault))}")
