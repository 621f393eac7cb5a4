"""`eventstore changes`: what became of a table between two moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render

if TYPE_CHECKING:
    from projections import TableDiff

__all__ = ["changes"]

_MOMENT = "a time (ISO 8601) or a position"


def changes(
    store: options.Store,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table.", show_default=False)],
    from_: Annotated[
        str,
        typer.Option("--from", metavar="WHEN", show_default=False, help=f"The earlier moment: {_MOMENT}."),
    ],
    to: Annotated[
        str | None,
        typer.Option(metavar="WHEN", show_default="the sealed head", help=f"The later moment: {_MOMENT}."),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=0, help="Most rows that a list shows; 0 shows all.")
    ] = 40,
    module: options.Modules = None,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Show which rows of a table came, went or changed between two moments.

    A moment is a position N, what the events 0 to N - 1 made of the table, or a time, what was sealed by
    then. Example: eventstore changes ./history jobs --from 2026-03-01 --to 2026-03-02. Changes nothing.
    """
    from eventstore.store import EventStore
    from projections import default_projections, diff_moments, open_tables

    options.import_modules(module)
    default_projections.get(table)
    earlier, later = options.position_or_moment(from_, "--from"), options.position_or_moment(to, "--to")
    with EventStore.open(store, read_only=True) as opened, render.waiting("comparing"):
        end = opened.head().size if later is None else later
        with open_tables(opened, [table], at=earlier) as then, open_tables(opened, [table], at=end) as now:
            _show(diff_moments(then, now, table), limit, json=json)


def _show(found: TableDiff, limit: int, *, json: bool) -> None:
    counts = found.counts()
    if json:
        render.json_line(
            {
                "type": "summary",
                "added": counts.added,
                "removed": counts.removed,
                "changed": counts.changed,
                "unchanged": counts.unchanged,
            }
        )
    else:
        render.pairs(
            (name, f"{getattr(counts, name):,}") for name in ("added", "removed", "changed", "unchanged")
        )
    frames = {"added": found.added, "removed": found.removed, "changed": found.cells()}
    for name, lazy in frames.items():
        frame = lazy.sort(found.key).collect()
        if json:
            for row in frame.iter_rows(named=True):
                render.json_line({"type": name, **row})
            continue
        if not frame.height:
            continue
        shown = frame.head(limit or frame.height)
        columns = shown.columns[:6] if name != "changed" else shown.columns
        render.line("")
        render.heading(name)
        render.table(
            columns,
            [
                tuple("" if cell is None else str(cell) for cell in row)
                for row in shown.select(columns).rows()
            ],
            indent=2,
        )
        if shown.height < frame.height:
            render.note(f"these are the first {shown.height} of {frame.height:,}; --limit 0 shows all")
