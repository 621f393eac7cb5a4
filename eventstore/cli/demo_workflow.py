"""The demo's workflow: what the Python files of a folder hold. Plain functions, recorded by `@task`.

This is example code: read it, copy it, change it. A task that is called inside `store.execution()` is a job
in the history; called with arguments that the history knows, it is answered from there.
"""

from __future__ import annotations

import ast
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eventstore import EventStore, Execution, File, Handle, task

__all__ = ["Database", "survey"]


# Results are named tuples of numbers and short texts: they pickle to the same bytes however they came about,
# and equal bytes are the same value to the history. (Dicts may not: equal keys can be different objects.)


class Measure(NamedTuple):
    """What is in one file, or in many."""

    files: int
    lines: int
    functions: int
    classes: int


class Package(NamedTuple):
    """What is in one package."""

    name: str
    measure: Measure


# A task for each file. A File is hashed by path, size and time of change: a file that was edited is measured
# again, and all others are answered from the history.


@task(namespace="demo", tags={"step": "measure"})
def measure(source: File) -> Measure:
    """Count what is in one Python file; raises SyntaxError where it does not parse."""
    raw = source.read("rb")
    nodes = list(ast.walk(ast.parse(raw)))
    return Measure(
        files=1,
        lines=raw.count(b"\n"),
        functions=sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
    )


# Fan-in: the results of many jobs go into one. Which job made which argument is recorded along.


@task(namespace="demo", tags={"step": "total"})
def add_up(measured: Sequence[Measure]) -> Measure:
    """Return the totals of many."""
    return (
        Measure(*(sum(counts) for counts in zip(*measured, strict=True))) if measured else Measure(0, 0, 0, 0)
    )


@task(namespace="demo", tags={"step": "package"})
def package(name: str, sources: Sequence[File]) -> Package:
    """Measure all files of one package. A file that cannot be read or parsed fails its own job alone."""
    measured = []
    for source in sources:
        try:
            measured.append(measure(source))
        except (OSError, RecursionError, SyntaxError, ValueError):
            continue
    return Package(name, add_up(measured))


# A handle names a state of the outside world. Passing it to a task and returning it leads to its next state.


class Database(Handle):
    """A small SQLite file; `path` says where."""

    type_name = "demo.Database"

    def connect(self) -> sqlite3.Connection:
        """Open the file."""
        return sqlite3.connect(self.kwargs["path"])


@task(namespace="demo", tags={"step": "publish"})
def publish(database: Database, packages: Sequence[Package]) -> Database:
    """Write one row for each package."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS packages (name TEXT PRIMARY KEY, files INT, lines INT)"
        )
        rows = [(one.name, one.measure.files, one.measure.lines) for one in packages]
        connection.executemany("INSERT OR REPLACE INTO packages VALUES (?, ?, ?)", rows)
    connection.close()
    return database


@task(namespace="demo", tags={"step": "trim"})
def trim(database: Database, least_lines: int) -> Database:
    """Delete the packages with fewer lines."""
    with database.connect() as connection:
        connection.execute("DELETE FROM packages WHERE lines < ?", (least_lines,))
    connection.close()
    return database


def count_rows(database: Database) -> int:
    """Return how many packages the database has; no task, so nothing is recorded."""
    connection = database.connect()
    (count,) = connection.execute("SELECT count(*) FROM packages").fetchone()
    connection.close()
    return int(count)


# The workflow itself.


def survey(
    store: EventStore, packages: dict[str, list[Path]], outside: Path, *, folder: str
) -> tuple[Execution, dict[str, int]]:
    """Run the workflow once, and return the run and what the handle's story left in the database.

    Parameters
    ----------
    packages
        Files by package.
    outside
        A folder for the database: the outside world.
    """
    with store.execution(
        name="survey", args=["survey", folder], tags={"project": "demo", "folder": folder}
    ) as run:
        draft = run.tag("state", "draft")
        results = [package(name, [File(path) for path in paths]) for name, paths in packages.items()]
        totals = add_up([one.measure for one in results])
        run.tag_value(totals, "about", f"all Python files of {folder}")

        with run.job("report") as job:
            job.argument("packages", len(results))
            rows = report(run, results, outside)
            job.tag("rows", rows["published"])
            job.result(rows)
        # Tags are edited, never overwritten: the history keeps both, and why.
        run.tag("state", "final", supersede=[draft], reason="the report is published")
        run.result(totals)
    return run, rows


def report(run: Execution, results: list[Package], outside: Path) -> dict[str, int]:
    """Publish the results, try something on a fork of the database, think better of it, and roll back."""
    path = outside / "report.db"
    database = Database("report", namespace="demo", path=str(path))
    published = publish(database, results)
    before = count_rows(published)

    shutil.copy(path, outside / "before.db")
    trial = published.fork("trial")
    trimmed = trim(trial, least_lines=1000)
    tried = count_rows(trimmed)

    shutil.copy(outside / "before.db", path)
    run.rollback(published, reason="small packages matter too")
    return {"published": before, "after_trim": tried, "after_rollback": count_rows(published)}
