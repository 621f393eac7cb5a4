"""What `push` and `pull` share: the plan, the transfer with its bar, and what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import render

if TYPE_CHECKING:
    from eventstore.log.transfer import TransferPlan, TransferReport
    from eventstore.store import EventStore

__all__ = ["EVERY_VALUE", "DryRun", "Other", "send"]

Other = Annotated[
    str,
    typer.Argument(metavar="OTHER", show_default=False, help="Folder or URL of the other store."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be sent, and change nothing in either store.")
]
EVERY_VALUE = 1 << 62
"""Bound for values that another place has taken already, whatever its bound was."""


def send(source: EventStore, target: EventStore, done: str, *, dry_run: bool, json: bool) -> None:
    """Send what the target does not have, or only say what that is; `done` is the word for it."""
    if dry_run:
        with render.waiting("comparing"):
            plan = target.pull(source, apply=False).plan
        _show_plan(plan, json=json)
        return
    with render.progress("sending") as advance:
        report = target.pull(source, progress=advance)
    _show_report(report, target.head().size, done, json=json)


def _plain(plan: TransferPlan) -> dict[str, object]:
    return {
        "segments": len(plan.segments),
        "events": plan.events,
        "bytes": plan.size_bytes,
        "writers": plan.writers,
    }


def _show_plan(plan: TransferPlan, *, json: bool) -> None:
    if json:
        render.json_line({"type": "plan", **_plain(plan), "values": plan.values})
        return
    if not plan.events:
        render.say("nothing to send: the target has all events")
        return
    render.say(
        f"{render.counted(plan.events, 'event')} of {render.counted(plan.writers, 'writer')} in "
        f"{render.counted(len(plan.segments), 'segment')} of {render.bytes_text(plan.size_bytes)}, and "
        f"{render.counted(plan.values or 0, 'large value')}, would be sent"
    )
    render.say("nothing was changed")


def _show_report(report: TransferReport, size: int, done: str, *, json: bool) -> None:
    if json:
        render.json_line(
            {
                "type": "done",
                "events": report.events,
                "files": report.files,
                "values": report.values,
                "value_bytes": report.value_bytes,
                "size": size,
                "seconds": report.seconds,
            }
        )
        return
    if not report.events:
        render.say("nothing to send: the target has all events")
        return
    rate = f", {report.events / report.seconds:,.0f} events/s" if report.seconds else ""
    render.say(
        f"{render.counted(report.events, 'event')} {done} as {render.counted(report.files, 'segment')}, and "
        f"{render.counted(report.values, 'large value')} of {render.bytes_text(report.value_bytes)}, in "
        f"{report.seconds:.2f} s{rate}; the log there has {render.counted(size, 'event')}"
    )
