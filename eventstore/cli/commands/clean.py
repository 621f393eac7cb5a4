"""`eventstore clean`: remove files that are no longer needed, after a grace period."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from eventstore.cli import options, render

if TYPE_CHECKING:
    from eventstore.store import EventStore

__all__ = ["clean"]

Progress = Callable[[int, int], None]


class _Removal(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Part:
    """Files of one sort: what may go of them, what stays for now and why, and who removes it."""

    words: str
    removals: Sequence[_Removal]
    kept: Mapping[str, int]
    act: Callable[[Progress], tuple[int, int]]
    """Returns files and bytes that went."""


def _parts(store: EventStore, grace: dt.timedelta) -> list[_Part]:
    from projections import plan_prune, prune

    log = store.clean(apply=False, grace=grace).plan
    tables = plan_prune(store, grace=grace)

    def clean_log(progress: Progress) -> tuple[int, int]:
        report = store.clean(plan=log, progress=progress)
        return report.removed, report.size_bytes

    return [
        _Part("log", log.removals, {str(why): count for why, count in log.kept.items()}, clean_log),
        _Part("tables", tables, {}, lambda _progress: (len(tables), prune(store, tables))),
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
    compactors that died, seals that lie in archives, leftovers of killed processes; tables that older
    recipes made and snapshots that newer ones replaced. What holds the events now is read back first.
    Events and positions stay as they are.
    """
    from eventstore.store import EventStore

    with EventStore.open(store, read_only=not apply) as opened:
        for part in _parts(opened, dt.timedelta(hours=grace)):
            _show_plan(part, applied=apply, json=json)
            if apply and part.removals:
                with render.progress("removing", unit="files") as advance:
                    files, size = part.act(advance)
                _show_report(part, files, size, json=json)


def _show_plan(part: _Part, *, applied: bool, json: bool) -> None:
    if json:
        for one in part.removals:
            said = {"type": "removal", "part": part.words, "path": one.path, "bytes": one.size_bytes}
            render.json_line({**said, "reason": str(one.reason), "apply": applied})
        for reason, count in part.kept.items():
            render.json_line({"type": "kept", "part": part.words, "files": count, "reason": str(reason)})
        return
    sizes: dict[str, list[int]] = {}
    for one in part.removals:
        sizes.setdefault(str(one.reason), []).append(one.size_bytes)
    if sizes:
        render.table(
            ("files", "bytes", f"of the {part.words}: why they go"),
            [(f"{len(some):,}", render.bytes_text(sum(some)), why) for why, some in sizes.items()],
            right=("files", "bytes"),
        )
    else:
        render.say(f"nothing to remove of the {part.words}")
    for reason, count in part.kept.items():
        render.say(f"{render.counted(count, 'file')} {'stays' if count == 1 else 'stay'} for now: {reason}")
    if sizes and not applied:
        render.say("nothing was changed; --apply does it")


def _show_report(part: _Part, files: int, size: int, *, json: bool) -> None:
    if json:
        render.json_line({"type": "done", "part": part.words, "files": files, "bytes": size})
    else:
        render.say(f"{render.counted(files, 'file')} of {render.bytes_text(size)} removed")
