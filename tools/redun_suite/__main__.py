"""Run redun's tests, one process for each file, and count."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as Xml

from tools.redun_suite.exclusions import EXCLUDED, REASONS
from tools.redun_suite.tree import Tree, prepare

_FILE_SECONDS = 900


class Counts:
    """What became of the tests.

    Parameters
    ----------
    own
        redun's own backend was used.
    """

    def __init__(self, *, own: bool) -> None:
        self._own = own
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self.failures: list[str] = []
        self.broken: list[str] = []

    def add(self, name: str, report: Path) -> None:
        """Count the tests of one file by its JUnit report."""
        if not report.exists():
            self.broken.append(name)
            return
        for case in Xml.parse(report).getroot().iter("testcase"):  # noqa: S314 - pytest wrote it
            test = case.get("name", "")
            outcome = next(
                (each.tag for each in case if each.tag in {"failure", "error", "skipped"}), "passed"
            )
            uses_session = any(each.get("name") == "session" for each in case.iter("property"))
            way = "session" if uses_session else "contract"
            self._outcomes[way, outcome] += 1
            if outcome in {"failure", "error"}:
                self.failures.append(f"{name}::{test} ({way})")

    def print(self) -> None:
        """Print the table of counts, and what failed."""
        ways = ["contract"] if self._own else ["contract", "session"]
        words = {"contract": "use the contract only", "session": "read through the SQL session"}
        for way in ways:
            passed = self._outcomes[way, "passed"]
            failed = self._outcomes[way, "failure"] + self._outcomes[way, "error"]
            skipped = self._outcomes[way, "skipped"]
            label = "with redun's own backend" if self._own else words[way]
            print(f"{label:<34} {passed:>4} passed {failed:>4} failed {skipped:>4} skipped by redun")
        if not self._own:
            for reason, meaning in REASONS.items():
                listed = sum(each == reason for each in EXCLUDED.values())
                print(f"{'excluded: ' + reason:<34} {listed:>4} listed: {meaning}")
        for each in sorted(self.failures):
            print("FAILED", each)
        for each in sorted(self.broken):
            print("NO REPORT", each, "(see its .log)")


def _run_file(tree: Tree, name: str, *, own: bool, select: str | None) -> None:
    results = tree.results("own" if own else "ours")
    report, output = results / f"{name}.xml", results / f"{name}.log"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-o", "faulthandler_timeout=120", f"--junitxml={report}", "--rootdir", str(tree.root)]
    command += ["-o", "junit_family=xunit1", f"redun/tests/{name}"]
    if select:
        command += ["-k", select]
    if not own:
        command += ["-p", "tools.redun_suite.plugin"]
        for test in EXCLUDED:
            if test.startswith(f"{name}::"):
                command += ["--deselect", f"redun/tests/{test}"]
    with output.open("w") as log:
        try:
            subprocess.run(
                command,
                cwd=tree.root,
                env=tree.environment(own=own),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=_FILE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            log.write(f"\nstopped after {_FILE_SECONDS} s\n")


def main() -> int:
    """Prepare, run, count; 1 if something failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.redun_suite", description=__doc__)
    parser.add_argument("files", nargs="*", help="names of test files; default: all")
    parser.add_argument("--own", action="store_true", help="with redun's own backend, to compare")
    parser.add_argument("--workers", type=int, default=2, help="files at a time")
    parser.add_argument("-k", dest="select", help="as of pytest")
    options = parser.parse_args()
    tree = prepare(Path(os.environ.get("REDUN_SUITE_FOLDER", "build/redun-suite")))
    names = options.files or [
        name
        for path in sorted((tree.root / "redun/tests").glob("test_*.py"))
        if (name := path.name) not in EXCLUDED
    ]
    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(lambda name: _run_file(tree, name, own=options.own, select=options.select), names))
    counts = Counts(own=options.own)
    for name in names:
        counts.add(name, tree.results("own" if options.own else "ours") / f"{name}.xml")
    counts.print()
    shutil.rmtree(tree.state, ignore_errors=True)
    return 1 if counts.failures or counts.broken else 0


if __name__ == "__main__":
    sys.exit(main())
