"""`eventstore clean`: remove files that are no longer needed, after a grace period."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render

if TYPE_CHECKING:
    from eventstore.log.cleaning import CleanPlan, CleanReport
    from eventstore.store import EventStore

__all__ = ["clean"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Part:
    """Files of one sort: what may go of them, and who removes it."""

    words: str
    plan: CleanPlan
    act: Callable[[CleanPlan, Progress], CleanReport]


def _parts(store: EventStore, grace: dt.timedelta) -> list[_Part]:
    return [
        _Part(
            "log",
            store.clean(apply=False, grace=grace).plan,
            lambda plan, progress: store.clean(plan=plan, progress=progress),
        )
    ]


def clean(
    store: options.Store,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do what is planned; else it is only shown.")
    ] = False,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            metavar="HOURS",
            min=0.0,
            help="How long a file stays after it has become needless. No reader may hold on to it longer.",
        ),
    ] = 24.0,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Remove files that are no longer needed.

    Shows what would go, and removes it with --apply: segments that compaction has replaced, files of
    compactors that died, seals that lie in archives, leftovers of killed processes. What holds their
    events now is read back first. Events and positions stay as they are.
    """
    from eventstore.store import EventStore

    with EventStore.open(store, read_only=not apply) as opened:
        for part in _parts(opened, dt.timedelta(hours=grace)):
            _show_plan(part, applied=apply, json=json)
            if apply and part.plan.removals:
                with render.progress("removing", unit="files") as advance:
                    report = part.act(part.plan, advance)
                _show_report(part, report, json=json)


def _show_plan(part: _Part, *, applied: bool, json: bool) -> None:
    if json:
        for one in part.plan.removals:
            said = {"type": "removal", "part": part.words, "path": one.path, "bytes": one.size_bytes}
            render.json_line({**said, "reason": str(one.reason), "apply": applied})
        for reason, count in part.plan.kept.items():
            render.json_line({"type": "kept", "part": part.words, "files": count, "reason": str(reason)})
        return
    sizes = dict.fromkeys(part.plan.count(), 0)
    for one in part.plan.removals:
        sizes[one.reason] += one.size_bytes
    if sizes:
        render.table(
            ("files", "bytes", "why they go"),
            [
                (f"{count:,}", render.bytes_text(sizes[reason]), str(reason))
                for reason, count in part.plan.count().items()
            ],
            right=("files", "bytes"),
        )
    else:
        render.say(f"nothing to remove of the {part.words}")
    for reason, count in part.plan.kept.items():
        render.say(f"{render.counted(count, 'file')} {'stays' if count == 1 else 'stay'} for now: {reason}")
    if sizes and not applied:
        render.say("nothing was changed; --apply does it")


def _show_report(part: _Part, report: CleanReport, *, json: bool) -> None:
    if json:
        render.json_line(
            {"type": "done", "part": part.words, "files": report.removed, "bytes": report.size_bytes}
        )
    else:
        files = render.counted(report.removed, "file")
        render.say(f"{files} of {render.bytes_text(report.size_bytes)} removed")
