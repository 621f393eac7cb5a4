"""How things are measured: repeated and interleaved, in a child where memory counts, reported with the bar.

Subject and limit run in turn within one repeat, so that a busy machine slows both. Nothing here knows what
is measured.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Child", "Row", "Times", "interleave", "machine", "own_bytes", "rate", "report", "run_child"]

_PEAK = "VmHWM:"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a report.

    Parameters
    ----------
    what
        The subject, with the workload that makes the number mean something.
    ours, unit
        The median, in ``events/s``, ``us/event``, ``bytes/job`` and the like.
    limit, limit_what
        The same measure of what cannot be beaten, or of a peer, in the same run; None where there is none.
    bar, holds
        What DESIGN.md asks, and whether this run meets it; empty and None where nothing is asked.
    """

    what: str
    ours: float
    unit: str
    limit: float | None = None
    limit_what: str = ""
    bar: str = ""
    holds: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Our cost as a multiple of the limit's: 2 is twice as slow or twice as large."""
        if not self.limit or not self.ours:
            return None
        return self.limit / self.ours if self.unit.endswith("/s") else self.ours / self.limit


class Times(list[float]):
    """Seconds of the repeats of one subject."""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self)


def interleave(subjects: Mapping[str, Callable[[], float | None]], repeats: int) -> dict[str, Times]:
    """Run all subjects in turn, `repeats` times, and return the seconds of each.

    A subject that returns a number says itself how long the part took that counts; otherwise the whole call
    counts.
    """
    times: dict[str, Times] = {name: Times() for name in subjects}
    for _ in range(repeats):
        for name, subject in subjects.items():
            started = time.perf_counter()
            own = subject()
            times[name].append(time.perf_counter() - started if own is None else own)
    return times


def rate(count: int, times: Times) -> float:
    """Things a second, from the median."""
    return count / times.median


@dataclass(frozen=True, slots=True)
class Child:
    """What a child process answered, how long its work took, and its peak memory in bytes."""

    result: Any
    seconds: float
    peak_bytes: int


def run_child(function: str, **arguments: Any) -> Child:
    """Call ``module:function`` in a new process, so that its peak memory is its own.

    Seconds cover the call, not the imports. Arguments and result travel as JSON.
    """
    run = subprocess.run(
        [sys.executable, "-m", "tools.bench.measure", function, json.dumps(arguments)],
        check=True,
        stdout=subprocess.PIPE,
    )
    return Child(**json.loads(run.stdout.splitlines()[-1]))


def _serve(function: str, arguments: str) -> None:
    """The child's side of `run_child`."""
    module_name, _, name = function.partition(":")
    module = __import__(module_name, fromlist=[name])
    started = time.perf_counter()
    result = getattr(module, name)(**json.loads(arguments))
    seconds = time.perf_counter() - started
    print(json.dumps({"result": result, "seconds": seconds, "peak_bytes": _peak_bytes()}))


def own_bytes() -> int:
    """Return the memory that is this process' own, without the files that it maps; 0 where nobody says."""
    return _status("RssAnon:")


def _peak_bytes() -> int:
    # Not ru_maxrss: after a fork it starts from the parent's memory.
    return _status(_PEAK)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0


def machine() -> dict[str, Any]:
    """Facts that a reader of the figures needs: processor, cores, memory, load, versions."""
    names = ("pyarrow", "polars", "pydantic", "orjson", "zstandard", "redun")
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int((_line("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "load": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: version for name in names if (version := _version(name))},
    }


def _line(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def report(
    results: Mapping[str, Sequence[Row]], *, settings: Mapping[str, Any], json_file: str | None
) -> None:
    """Print the rows of each benchmark as a table, and write them to `json_file` if one is named."""
    facts = machine()
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(", ".join(f"{name} {value}" for name, value in {**facts, **settings}.items()))
    for name, rows in results.items():
        table = Table(title=name, title_justify="left", show_lines=False)
        for heading in ("what", "ours", "unit", "limit", "of", "ratio", "bar", ""):
            table.add_column(heading, justify="right" if heading in ("ours", "limit", "ratio") else "left")
        for row in rows:
            table.add_row(
                row.what,
                _short(row.ours),
                row.unit,
                _short(row.limit),
                row.limit_what,
                _short(row.ratio),
                row.bar,
                {True: "[green]holds", False: "[red]missed", None: ""}[row.holds],
            )
        console.print(table)
    if json_file is not None:
        rows_of = {
            name: [asdict(row) | {"ratio": row.ratio} for row in rows] for name, rows in results.items()
        }
        content = {"machine": facts, "settings": dict(settings), "results": rows_of}
        Path(json_file).write_text(json.dumps(content, indent=1) + "\n")


def _short(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    _serve(*sys.argv[1:3])
