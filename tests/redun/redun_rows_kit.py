"""What tests of the mirror share: a run on redun's own backend, and its rows as the events they come from."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from redun import File, Handle, Scheduler, task
from redun.backends.base import TagEntity
from redun.backends.db import Handle as HandleRow
from redun.backends.db import Job
from redun.config import Config
from redun.scheduler import apply_tags, catch
from redun.scheduler import merge_handles as merge
from sqlalchemy import text

from eventstore import (
    Argument,
    CallNodeRecorded,
    EvaluationCached,
    Event,
    ExecutionHeartbeat,
    ExecutionStarted,
    HandleAdvanced,
    HandleRecorded,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.redun.mirror.schema import TABLES

redun_namespace = "mirror_kit"


class Ran(NamedTuple):
    """A redun database with a history, and the folder that its workflow wrote files to."""

    path: Path
    folder: Path


UNRECORDED = "0" * 40
"""A call that left no record."""
RUNS: list[str] = []
"""Names of tasks that ran, rather than come from a cache."""


class Conn(Handle):
    """A handle on nothing."""

    def __init__(self, name: str, place: str = "here") -> None:
        self.instance = [name, place]


@task(tags=[("kind", "leaf"), ("level", 1)])
def add(x: int, y: int = 10) -> int:
    """Return a sum; the default counts as an argument."""
    RUNS.append("add")
    return x + y


@task(version="2")
def double(x: int) -> int:
    """Call a task."""
    RUNS.append("double")
    return add(x, y=x)


@task()
def write(path: str, words: str) -> File:
    """Return a file."""
    RUNS.append("write")
    file = File(path)
    file.write(words)
    return file


@task()
def several(files: list[File]) -> dict[str, list[File]]:
    """Return values inside a value."""
    RUNS.append("several")
    return {"files": files}


@task()
def fail(why: str) -> int:
    """Raise."""
    RUNS.append("fail")
    raise ValueError(why)


@task()
def recover(error: Exception) -> str:
    """Tell an error."""
    RUNS.append("recover")
    return str(error)


@task()
def step(conn: Conn, what: str) -> Conn:
    """Advance a handle."""
    RUNS.append("step")
    return conn


@task(prov=False)
def unseen(x: int) -> int:
    """Leave no record of itself, but of what it calls."""
    RUNS.append("unseen")
    return add(x, y=5)


@task()
def quiet(folder: str, n: int = 3) -> list[object]:
    """Call those that a cache can answer for."""
    RUNS.append("quiet")
    files = [write(f"{folder}/quiet-{i}.txt", f"text {i}") for i in range(2)]
    return [double(add(1, y=add(n))), several(files), catch(fail("oh"), ValueError, recover), "x" * 3000]


@task()
def main(folder: str, n: int = 3) -> list[object]:
    """Call all of them."""
    RUNS.append("main")
    conn = Conn("db")
    first = step(conn, "a")
    files = [write(f"{folder}/{i}.txt", f"text {i}") for i in range(2)]
    return [
        double(add(1, y=add(n))),
        [add(i) for i in range(n)],
        add(1),
        several(files),
        catch(fail("oh"), ValueError, recover),
        merge([step(first, "b"), step(first, "c")]),
        unseen(n),
        apply_tags(add(100), [("result", "big")], job_tags=[("urgent", True)], execution_tags=[("run", 1.5)]),
        "x" * 3000,
    ]


def open_scheduler(path: Path | str, **backend: str) -> Scheduler:
    """Open redun's own backend on a database."""
    uri = str(path) if "://" in str(path) else f"sqlite:///{path}"
    scheduler = Scheduler(config=Config({"backend": {"db_uri": uri, **backend}}))
    scheduler.load(migrate=True)
    if uri.startswith("sqlite"):
        scheduler.backend.session.execute(text("PRAGMA synchronous = OFF"))  # nothing here outlives the test
    return scheduler


def play(scheduler: Scheduler, folder: Path) -> None:
    """Record a history with a bit of everything: runs, cached ones, tags edited, a handle rolled back."""
    scheduler.run(main(str(folder)), tags=[("project", "kit"), ("env", "test")])
    scheduler.run(main(str(folder)))
    for _ in range(2):
        scheduler.run(quiet(str(folder)))
    conn = Conn("db")
    scheduler.run(step(conn, "other"))
    with contextlib.suppress(ValueError):
        scheduler.run(fail("at the root"))
    db: Any = scheduler.backend
    jobs = db.session.query(Job).filter(Job.parent_id.is_(None)).order_by(Job.start_time)
    execution = jobs.first().execution_id
    db.record_tags(TagEntity.Execution, execution, [("note", {"b": [1, None], "a": "é"})])
    db.record_tags(TagEntity.Execution, execution, [("env", "prod")], update=True)
    db.update_tags(TagEntity.Execution, execution, ["note"], [("remark", None)])
    db.delete_tags(execution, [("project", "kit")])
    db.record_tags(TagEntity.Execution, execution, [("env", "test")], new=True)
    first = db.session.query(HandleRow).filter(HandleRow.children.any(), ~HandleRow.parents.any()).first()
    db.rollback_handle(first.value.value_parsed)
    db.session.commit()


def run_history(path: Path, folder: Path, **backend: str) -> None:
    """Record the history on redun's own backend."""
    scheduler = open_scheduler(path, **backend)
    play(scheduler, folder)
    db: Any = scheduler.backend
    db.session.close()
    db.engine.dispose()


_kept: list[Any] = []


@cache
def history() -> Ran:
    """Return a history that is recorded once in this process, by `run_history`."""
    kept = tempfile.TemporaryDirectory(prefix="redun-history-")
    _kept.append(kept)  # until the process ends
    folder = Path(kept.name)
    (folder / "files").mkdir()
    run_history(folder / "redun.db", folder / "files")
    return Ran(folder / "redun.db", folder / "files")


def rows(path: Path, statement: str, *given: object) -> list[Any]:
    """Return what a statement gives."""
    db = sqlite3.connect(path)
    try:
        return db.execute(statement, given).fetchall()
    finally:
        db.close()


def tables_of(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return each of redun's tables, sorted; the order of its columns is that of redun's models."""
    found = {}
    for name, table in TABLES.items():
        names = ", ".join(column.name for column in table.columns)
        found[name] = sorted(rows(path, f"SELECT {names} FROM {name}"), key=repr)  # noqa: S608
    return found


# rows as events ------------------------------------------------------------------------------------------


def _at(moment: str) -> dt.datetime:
    return dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC)


def _grouped(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for key, one in pairs:
        found[key].append(one)
    return found


def events_of(path: Path) -> Iterator[Event]:
    """Yield events that state what a redun database holds."""
    for hash_, name, namespace, source in rows(path, "SELECT hash, name, namespace, source FROM task"):
        yield TaskRecorded(task_hash=hash_, task_name=name, task_namespace=namespace, source=source)
    inside = _grouped(rows(path, "SELECT parent_value_hash, value_hash FROM subvalue"))
    paths = dict(rows(path, "SELECT value_hash, path FROM file"))
    for hash_, type_, format_, data in rows(path, "SELECT value_hash, type, format, value FROM value"):
        yield ValueRecorded(
            value_hash=hash_,
            type_name=type_,
            format=format_,
            size_bytes=len(data),
            data=data,
            subvalues=inside[hash_],
            file_path=paths.get(hash_),
        )
    yield from _calls(path)
    for eval_hash, task_hash, args_hash, value_hash in rows(path, "SELECT * FROM evaluation"):
        yield EvaluationCached(
            eval_hash=eval_hash, task_hash=task_hash, args_hash=args_hash, value_hash=value_hash
        )
    yield from _jobs(path)
    yield from _tags(path)
    yield from _handles(path)


def _calls(path: Path) -> Iterator[Event]:
    children: dict[str, list[str]] = defaultdict(list)
    statement = "SELECT parent_id, child_id, call_order FROM call_edge ORDER BY call_order"
    for parent, child, order in rows(path, statement):
        # Where the numbers leave a gap a child was called that is not recorded.
        children[parent] += [UNRECORDED] * (order - len(children[parent]))
        children[parent].append(child)
    subtree = _grouped(rows(path, "SELECT call_hash, task_hash FROM call_subtree_task"))
    upstreams = _grouped(rows(path, "SELECT arg_hash, result_call_hash FROM argument_result"))
    arguments = defaultdict(list)
    for arg_hash, call_hash, value_hash, position, key in rows(
        path, "SELECT arg_hash, call_hash, value_hash, arg_position, arg_key FROM argument ORDER BY rowid"
    ):
        place = {"position": position} if position is not None else {"key": key}
        arguments[call_hash].append(Argument(**place, value_hash=value_hash, upstreams=upstreams[arg_hash]))
    statement = "SELECT call_hash, task_name, task_hash, args_hash, value_hash, timestamp FROM call_node"
    for call_hash, name, task_hash, args_hash, value_hash, moment in rows(
        path, f"{statement} ORDER BY rowid"
    ):
        yield CallNodeRecorded(
            call_hash=call_hash,
            task_name=name,
            task_hash=task_hash,
            args_hash=args_hash,
            value_hash=value_hash,
            children=children[call_hash],
            arguments=arguments[call_hash],
            subtree_tasks=sorted(subtree[call_hash]),
            occurred_at=_at(moment),
        )


def _jobs(path: Path) -> Iterator[Event]:
    ends = []
    for run, args, job, beat in rows(path, "SELECT id, args, job_id, updated_time FROM execution"):
        yield ExecutionStarted(execution_id=run, job_id=job, args=args)
        if beat:
            yield ExecutionHeartbeat(execution_id=run, occurred_at=_at(beat))
    statement = (
        "SELECT id, execution_id, parent_id, task_hash, start_time, end_time, cached, call_hash FROM job "
        "ORDER BY start_time"
    )
    for job_id, run, parent, task_hash, start, end, cached, call_hash in rows(path, statement):
        job = {"job_id": job_id, "execution_id": run, "parent_id": parent, "task_hash": task_hash}
        yield JobStarted(**job, occurred_at=_at(start))
        if end:
            status = "CACHED" if cached else "DONE"
            ends.append(
                JobEnded(**job, status=status, cached=bool(cached), call_hash=call_hash, occurred_at=_at(end))
            )
    yield from ends


def _tags(path: Path) -> Iterator[Event]:
    parents = _grouped(rows(path, "SELECT child_id, parent_id FROM tag_edit"))
    statement = "SELECT tag_hash, entity_type, entity_id, key, value FROM tag ORDER BY rowid DESC"
    for tag_hash, type_, entity, key, json_text in rows(path, statement):
        superseded = sorted(parents[tag_hash])
        if type_ == "Null":
            yield TagsDeleted(tag_hash=tag_hash, superseded=superseded)
            continue
        tag = Tag(tag_hash=tag_hash, key=key, value=json_text)
        yield TagsRecorded(entity_type=type_, entity_id=entity, tags=[tag], superseded=superseded)


def _handles(path: Path) -> Iterator[Event]:
    """Record all, roll back what precedes the invalid ones, and record the valid ones again."""
    known = {
        hash_: HandleRecorded(handle_hash=hash_, handle_name=name, handle_key=key, value_hash=value)
        for hash_, name, key, value in rows(path, "SELECT hash, fullname, key, value_hash FROM handle")
    }
    yield from known.values()
    before = _grouped(rows(path, "SELECT child_id, parent_id FROM handle_edge"))
    for child, parents in before.items():
        yield HandleAdvanced(handle_hash=child, handle_name=known[child].handle_name, parents=sorted(parents))
    valid = dict(rows(path, "SELECT hash, is_valid FROM handle"))
    for child, parents in before.items():
        if not valid[child]:
            for parent in parents:
                yield HandleRolledBack(handle_hash=parent, handle_name=known[parent].handle_name)
    yield from (known[hash_] for hash_, is_valid in valid.items() if is_valid)
