"""`eventstore compact`: merge many small segments into few large ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render

if TYPE_CHECKING:
    from eventstore.log.compaction import CompactionPlan, CompactionReport

__all__ = ["compact"]


def compact(
    store: options.Store,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do what is planned; else it is only shown.")
    ] = False,
    single_sealer: options.SingleSealer = False,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Merge many small segments into few large ones.

    Shows what it would merge, and does it with --apply. Events, positions and the root stay as they are:
    each new file is read back and compared before the log names it. Writers and readers may go on
    meanwhile. The old files stay until `eventstore clean` removes them. Old seals are packed too.
    """
    from eventstore.store import EventStore

    with EventStore.open(store, read_only=not apply, single_sealer=single_sealer) as opened:
        if apply:
            opened.seal()  # else what is placed now would not be in the plan that is shown
        plan = opened.compact(apply=False).plan
        _show_plan(plan, applied=apply, json=json)
        if not apply:
            return
        with render.progress("compacting") as advance:
            report = opened.compact(progress=advance)
    _show_report(report, json=json)


def _show_plan(plan: CompactionPlan, *, applied: bool, json: bool) -> None:
    if json:
        render.json_line(
            {
                "type": "plan",
                "files": plan.files,
                "files_after": plan.files_after,
                "merges": len(plan.groups),
                "events": plan.events,
                "bytes": plan.size_bytes,
                "apply": applied,
            }
        )
        return
    if not plan.groups:
        render.say(f"nothing to merge: {render.counted(plan.files, 'segment')}")
        return
    merged = sum(map(len, plan.groups))
    events = render.counted(plan.events, "event")
    render.say(
        f"{render.counted(merged, 'segment')} of {plan.files:,} with {events} in "
        f"{render.bytes_text(plan.size_bytes)} become {render.counted(len(plan.groups), 'file')}, so that "
        f"{plan.files_after:,} are left"
    )
    if not applied:
        render.say("nothing was changed; --apply does it")


def _show_report(report: CompactionReport, *, json: bool) -> None:
    if json:
        render.json_line(
            {
                "type": "done",
                "files": len(report.made),
                "events": report.events,
                "bytes": report.size_bytes,
                "given_up": report.given_up,
                "archived_seals": report.archived_seals,
                "seconds": report.seconds,
            }
        )
        return
    rate = f", {report.events / report.seconds:,.0f} events/s" if report.events and report.seconds else ""
    if report.made:
        render.say(
            f"{render.counted(len(report.made), 'file')} of {render.bytes_text(report.size_bytes)} made in "
            f"{report.seconds:.2f} s{rate}; `eventstore clean` removes the old ones in time"
        )
    if report.given_up:
        render.say(f"{render.counted(report.given_up, 'merge')} given up: someone else was faster")
    if report.archived_seals:
        render.say(f"{render.counted(report.archived_seals, 'seal')} packed")
