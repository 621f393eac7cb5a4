"""The demo, step by step: run the workflow twice, fold the tables, ask, verify, and say what to try next."""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstore.cli import render
from eventstore.cli.demo_queries import FAILED_INPUTS, by_task, slowest_files
from eventstore.cli.demo_workflow import survey
from eventstore.cli.render import Text
from eventstore.cli.sql import run_sql
from eventstore.errors import NotFoundError
from eventstore.store import EventStore
from projections import open_tables, rebuild

if TYPE_CHECKING:
    import polars as pl

__all__ = ["choose_files", "show_demo"]

_SKIPPED = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}
_TAGS = "SELECT key, value, is_current FROM tags"
_UNFINISHED = "def unfinished(:\n    this file does not parse\n"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did."""

    execution_id: str
    statuses: dict[str, int]
    seconds: float
    rows: dict[str, int]


def choose_files(folder: Path, most: int) -> dict[str, list[Path]]:
    """Return up to `most` Python files below `folder` by package (its direct subfolder), sorted.

    Raises
    ------
    NotFoundError
        There are none (code ``no_files``).
    """
    chosen: dict[str, list[Path]] = {}
    for path in islice(_python_files(folder), most):
        inside = path.relative_to(folder).parts
        chosen.setdefault(inside[0] if len(inside) > 1 else "(top level)", []).append(path)
    if not chosen:
        raise NotFoundError(
            f"Python files were expected below {folder}, found none; choose another --folder", code="no_files"
        )
    return chosen


def _python_files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if name.endswith(".py"))


def standard_library() -> Path:
    """Return where the running Python's own sources are."""
    return Path(sysconfig.get_path("stdlib"))


def show_demo(url: str, *, folder: Path, most_files: int, json: bool) -> None:
    """Run the demo on the store at `url`, which is made if there is none."""
    packages = choose_files(folder, most_files)
    files = sum(map(len, packages.values()))
    show = _Show(json=json)
    with EventStore.open(url, create=True, actor="demo") as store:
        size = store.head().size
        _say_hello(show, store, folder, files, len(packages), size)
        with tempfile.TemporaryDirectory(prefix="eventstore-demo-") as name:
            outside = Path(name)
            # Deliberately bad input: its job fails, its parent catches the error.
            unfinished = outside / "unfinished.py"
            unfinished.write_text(_UNFINISHED)
            packages["(unfinished)"] = [unfinished]
            _workflow(show, store, packages, outside, folder, fresh=not size)
        _tables(show, store)
        _questions(show, store)
        _verification(show, store)
    show.next_steps(url)


def _say_hello(show: _Show, store: EventStore, folder: Path, files: int, packages: int, size: int) -> None:
    show.text(
        Text.assemble(("eventstore demo", "bold"), "  a workflow, its history, and what can be asked of it")
    )
    show.pairs(
        [
            (
                "store",
                store.url + (f", which holds {render.counted(size, 'event')} already" if size else ", new"),
            ),
            (
                "input",
                f"{render.counted(files, 'Python file')}, {render.counted(packages, 'package')}, of {folder}",
            ),
        ]
    )
    show.fact("start", store=store.url, files=files, packages=packages, size=size)


def _workflow(
    show: _Show,
    store: EventStore,
    packages: dict[str, list[Path]],
    outside: Path,
    folder: Path,
    *,
    fresh: bool,
) -> None:
    show.title("Run a workflow of plain Python functions with @task, twice")
    first = _run(store, packages, outside, folder, "1st run")
    show.run("1st run", first)
    second = _run(store, packages, outside, folder, "2nd run")
    show.run("2nd run", second)
    cached = second.statuses.get("CACHED", 0)
    words = "In the 2nd run" if fresh else "The store knew these files already:"
    show.say(
        f"{words} the history answered {render.counted(cached, 'job')}. Packages ran again, for their task "
        "calls others; what they call was cached. One file does not parse: its job failed in each run, "
        "and its package went on."
    )
    show.title("The outside world: a handle on a SQLite file, forked, and rolled back")
    rows = second.rows
    show.pairs(
        [
            ("published", render.counted(rows["published"], "row")),
            ("fork, trimmed", render.counted(rows["after_trim"], "row")),
            (
                "rolled back",
                f"{render.counted(rows['after_rollback'], 'row')}; what followed the fork is not valid",
            ),
        ]
    )
    show.fact("handle", **rows)


def _run(store: EventStore, packages: dict[str, list[Path]], outside: Path, folder: Path, words: str) -> Run:
    before = store.head().size
    started = time.perf_counter()
    with render.waiting(f"{words}: measuring"):
        execution, rows = survey(store, packages, outside, folder=str(folder))
        seconds = time.perf_counter() - started
        store.seal()
    statuses: Counter[str] = Counter()
    columns = ["execution_id", "status"]
    for batch in store.read(after=before - 1, kinds=["job.ended"], columns=columns):
        statuses.update(row["status"] for row in batch.to_pylist() if row["execution_id"] == execution.id)
    return Run(execution.id, dict(statuses), seconds, rows)


def _tables(show: _Show, store: EventStore) -> None:
    show.title("Fold the history into tables")
    show.code("projections.rebuild(store)")
    started = time.perf_counter()
    with render.waiting("folding"):
        made = rebuild(store)
    seconds = time.perf_counter() - started
    counts = {name: one.rows for name, one in made.items()}
    size = store.head().size
    show.say(
        f"{render.counted(len(counts), 'table')} from {render.counted(size, 'event')} in {seconds:.2f} s: "
        + ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    )
    show.fact("rebuild", seconds=round(seconds, 3), tables=counts, position=size)


def _questions(show: _Show, store: EventStore) -> None:
    tables = open_tables(store)
    show.title("Ask with polars")
    show.code("tables = projections.open_tables(store)")
    for question in (by_task, slowest_files):
        show.question(question.__doc__ or "")
        show.code(_body(question))
        show.answer(question.__name__, question(tables))
    show.title("Ask in SQL")
    show.question("The inputs that made jobs fail.")
    show.code(FAILED_INPUTS)
    show.answer("failed_inputs", run_sql(store, FAILED_INPUTS))


def _verification(show: _Show, store: EventStore) -> None:
    show.title("Prove that nothing was altered")
    show.code("store.verify()")
    with render.waiting("verifying"):
        report = store.verify()
    state = ("intact", "bold green") if report.ok else ("DAMAGED: run eventstore verify", "bold red")
    show.text(
        Text.assemble(
            "   ",
            state,
            f", {render.counted(report.events, 'event')} in {render.counted(report.segments, 'segment')}, "
            f"{render.bytes_text(report.bytes_read)} read in {report.seconds:.2f} s",
        )
    )
    show.text(Text(f"   root {report.root.hex()}", style="dim"))
    show.fact("verify", ok=report.ok, events=report.events, size=report.size, root=report.root.hex())


def _body(function: Callable[..., Any]) -> str:
    """The code of a question without its head and docstring."""
    lines = inspect.getsource(function).splitlines()
    after = next(place for place, line in enumerate(lines) if line.rstrip().endswith('"""'))
    return textwrap.dedent("\n".join(lines[after + 1 :])).removeprefix("return ")


class _Show:
    """Prints for a person, or facts as JSON lines; never both."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._step = 0

    def fact(self, step: str, **facts: Any) -> None:
        if self._json:
            render.json_line({"step": step, **facts})

    def text(self, words: Text | str) -> None:
        if not self._json:
            render.text(words)

    def pairs(self, rows: list[tuple[str, str]]) -> None:
        if not self._json:
            render.pairs(rows, indent=3)

    def title(self, words: str) -> None:
        self._step += 1
        self.text("")
        self.text(Text(f"{self._step}  {words}", style="bold cyan"))

    def say(self, words: str) -> None:
        self._wrapped(words, "")

    def question(self, words: str) -> None:
        self.text("")
        self._wrapped(words, "italic")

    def _wrapped(self, words: str, style: str) -> None:
        if not self._json:
            render.paragraph(words, indent=3, style=style)

    def code(self, words: str) -> None:
        for line in words.splitlines():
            self.text(Text(f"   │ {line}", style="dim"))

    def run(self, words: str, run: Run) -> None:
        counts = {name: run.statuses.get(name, 0) for name in ("DONE", "CACHED", "FAILED")}
        self.text(
            Text.assemble(
                (f"   {words}  ", "bold"),
                f"{render.counted(sum(counts.values()), 'job')}: {counts['DONE']:,} run, ",
                (f"{counts['CACHED']:,} from the history", "cyan"),
                ", ",
                (f"{counts['FAILED']:,} failed", "red"),
                f"   {run.seconds:.2f} s",
            )
        )
        self.fact("run", execution_id=run.execution_id, statuses=counts, seconds=round(run.seconds, 3))

    def answer(self, name: str, frame: pl.LazyFrame) -> None:
        found = frame.collect()
        self.fact("question", name=name, rows=found.to_dicts())
        if not self._json:
            right = [
                column for column, dtype in found.schema.items() if dtype.is_numeric() or dtype.is_temporal()
            ]
            render.table(found.columns, found.iter_rows(), right=right, indent=3)

    def next_steps(self, url: str) -> None:
        program, store = _program(), shlex.quote(url)
        steps = [
            ("What does the store hold?", f"{program} info {store}"),
            ("What failed, event by event?", f"{program} events {store} --kind job.ended | grep FAILED"),
            ("How were tags edited?", f"{program} query {store} '{_TAGS}'"),
            ("What else can be asked?", f"{program} query --list"),
        ]
        if "://" not in url:
            steps.append(
                (
                    "Is a change of one file noticed?",
                    f'cp -r {store} tampered && printf x >> "$(find tampered/segments -type f | head -n 1)"\n'
                    f"   {program} verify tampered",
                )
            )
        self.title("What to try next")
        for words, command in steps:
            self.text(Text(f"   # {words}", style="dim"))
            self.text(f"   {command}")
        self.text(Text("   # The workflow, to read and to copy", style="dim"))
        self.text(f"   {shlex.quote(inspect.getsourcefile(survey) or '')}")


def _program() -> str:
    """How this program is called here, for commands to copy."""
    if shutil.which("eventstore"):
        return "eventstore"
    beside = Path(sys.executable).with_name("eventstore")
    if not beside.exists():
        return f"{shlex.quote(sys.executable)} -m eventstore"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
