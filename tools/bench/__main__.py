"""The command: ``python -m tools.bench all --size 200_000``, or the names of some benchmarks."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import tools.bench.appending
import tools.bench.backend.calls
import tools.bench.backend.opening
import tools.bench.backend.questions
import tools.bench.backend.scheduler
import tools.bench.compacting
import tools.bench.files
import tools.bench.history_runs
import tools.bench.lookups
import tools.bench.peers
import tools.bench.reading
import tools.bench.tables
import tools.bench.values
import tools.bench.writing  # noqa: F401 - each registers its benchmarks
from tools.bench.campaign import BENCHMARKS, Settings
from tools.bench.measure import Row, report


def main() -> int:
    """Run the named benchmarks and print what was found; the exit code does not judge."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="benchmarks:\n" + "\n".join(f"  {b.name:14}{b.workload}" for b in BENCHMARKS.values()),
    )
    parser.add_argument("names", nargs="+", choices=["all", *BENCHMARKS], metavar="name", help="or: all")
    parser.add_argument(
        "--size",
        type=int,
        default=200_000,
        help="events, or jobs where it says so; parts that are slow take fewer",
    )
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement; medians are reported")
    parser.add_argument("--seed", type=int, default=0, help="of the generated history")
    parser.add_argument("--folder", type=Path, help="where stores are made and kept; else a temporary one")
    parser.add_argument("--json", dest="json_file", help="write machine, settings and rows to this file")
    given = parser.parse_args()
    names = list(BENCHMARKS) if "all" in given.names else list(dict.fromkeys(given.names))
    with tempfile.TemporaryDirectory(prefix="eventstore-bench-") as temporary:
        folder = (given.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(given.size, given.repeats, folder, given.seed)
        results: dict[str, list[Row]] = {}
        for name in names:
            started = time.perf_counter()
            print(f"{name}: {BENCHMARKS[name].workload} ...", end="", file=sys.stderr, flush=True)
            results[name] = BENCHMARKS[name].run(settings)
            print(f" {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    shown = {"size": given.size, "repeats": given.repeats, "seed": given.seed}
    report(results, settings=shown, json_file=given.json_file)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
