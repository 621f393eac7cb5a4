"""`eventstore verify`: proof that nothing was altered, read-only."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli import options, render
from eventstore.cli.exits import ExitCode, safe_text
from eventstore.cli.render import Text

if TYPE_CHECKING:
    from eventstore.log.verify import VerifyReport

__all__ = ["verify"]


def verify(
    store: options.Store,
    values: Annotated[bool, typer.Option("--values/--no-values", help="Read every large value too.")] = True,
    json: options.AsJson = False,
    _debug: options.Debug = False,
) -> None:
    """Prove that nothing was altered.

    Checks every file against every other: hashes, chain of seals, tree root, order, values, journals.
    Reads everything and changes nothing, goes on after a finding, and says how much it read. Ends with
    4 if something that was acknowledged is altered or gone; warnings alone end with 0.
    """
    from eventstore.store import EventStore

    with EventStore.open(store, read_only=True) as opened:
        with render.progress("verifying") as advance:
            report = opened.verify(values=values, progress=advance)
        url = opened.url
    if json:
        _print_json(report)
    else:
        _show(report, url, values=values)
    if not report.ok:
        raise typer.Exit(ExitCode.INTEGRITY)


def _print_json(report: VerifyReport) -> None:
    for finding in report.findings:
        render.json_line({"type": "finding", **asdict(finding), "message": safe_text(finding.message)})
    summary = asdict(report)
    del summary["findings"]
    counts = {"errors": _count(report, "error"), "warnings": _count(report, "warning")}
    render.json_line({"type": "summary", "ok": report.ok, **counts, **summary, "root": report.root.hex()})


def _show(report: VerifyReport, url: str, *, values: bool) -> None:
    rate = report.events / report.seconds if report.seconds else 0
    render.heading(url)
    render.pairs(
        [
            (
                "seals",
                f"{report.seals:,}, {render.counted(report.archives, 'archive')} of them, and "
                f"{render.counted(report.snapshots, 'snapshot')} of their sequence",
            ),
            (
                "segments",
                f"{report.segments:,} sealed, {report.unsealed_segments:,} not sealed, "
                f"{report.replaced_segments:,} replaced by compaction",
            ),
            ("events", f"{report.events:,}, and {report.journaled_events:,} journaled"),
            ("values", f"{report.values:,}" if values else "not read (--no-values)"),
            (
                "read",
                f"{render.bytes_text(report.bytes_read)} in {report.seconds:.2f} s"
                + (f", {rate:,.0f} events/s" if report.events else ""),
            ),
            ("size", f"{report.size:,}"),
            ("root", report.root.hex() if report.size else "(nothing sealed yet)"),
        ]
    )
    for severity, style in (("error", "bold red"), ("warning", "yellow")):
        for finding in report.findings:
            if finding.severity == severity:
                message = safe_text(finding.message)
                where = [finding.path] if finding.path and finding.path not in message else []
                if finding.position is not None:
                    where.append(f"from position {finding.position:,}")
                render.line("")
                render.text(Text.assemble((f"{severity}[{finding.code}] ", style), ", ".join(where)))
                render.text(Text(f"  {render.visible(message)}"))
    errors, warnings = _count(report, "error"), _count(report, "warning")
    render.line("")
    render.text(
        Text.assemble(
            ("intact", "bold green") if report.ok else ("DAMAGED", "bold red"),
            f": {render.counted(errors, 'error')}, {render.counted(warnings, 'warning')}",
        )
    )


def _count(report: VerifyReport, severity: str) -> int:
    return sum(finding.severity == severity for finding in report.findings)
