"""What the two backends are given to record: tasks, values of all kinds, contexts, jobs."""

from __future__ import annotations

import atexit
import datetime as dt
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redun import File, Task
from redun.file import Dir, FileSet
from redun.handle import Handle
from redun.scheduler import ErrorValue
from redun.value import Value, get_type_registry

from eventstore.hashing import hash_struct

registry = get_type_registry()


def some_hash(text: str) -> str:
    """A hash that is nothing's."""
    return hash_struct(["nothing", text])


def make_task(name: str, version: str, namespace: str = "") -> Task[..., Any]:
    """A task of redun that is in no registry; another version is another task of the same name."""
    return Task(
        lambda x: x, name=name, namespace=namespace, version=version, source=f"def {name}(x): {version}"
    )


TASKS = (
    make_task("count", "1"),
    make_task("count", "2"),
    make_task("count", "1", "lab"),
    make_task("sum", "1"),
)
ARGS = tuple(some_hash(f"args {number}") for number in range(2))
GONE = b"\x80\x03cno_such_module\nThing\nq\x00)\x81q\x01."
"""The pickle of an object whose module is gone."""


class Parcel(Value):
    """A value of a user's own, with another inside it."""

    type_name = "pair_kit.Parcel"

    def __init__(self, content: Any) -> None:
        self.content = content

    def __getstate__(self) -> dict[str, Any]:
        return {"content": self.content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.content = state["content"]

    def iter_subvalues(self) -> Iterator[Value]:
        """What is inside."""
        yield from registry.iter_subvalues(self.content)


@dataclass(frozen=True)
class Labelled:
    """A plain class with a value inside."""

    label: str
    file: File


@cache
def folder() -> Path:
    """A folder with two files, the same for all."""
    made = tempfile.mkdtemp(prefix="pair-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    for name in "ab":
        Path(made, name).write_text(name)
    return Path(made)


def _file(name: str) -> File:
    return File(str(folder() / name))


VALUES: tuple[Callable[[], Any], ...] = (
    lambda: 1,
    lambda: "text",
    lambda: None,
    lambda: True,
    lambda: [1, [2, {"k": (b"", 1.0)}]],
    lambda: {1, 2},
    lambda: _file("a"),
    lambda: [_file("a"), {"k": _file("b")}],
    lambda: Dir(str(folder())),
    lambda: [Dir(str(folder())), 7],
    lambda: FileSet(str(folder() / "*")),
    lambda: {(1, "x"): _file("b")},
    lambda: Labelled("l", _file("a")),
    lambda: Parcel([_file("b"), Parcel(_file("a"))]),
    lambda: ErrorValue(ValueError("no")),
    lambda: TASKS[0],
    lambda: "large" * 20_000,
    lambda: dt.datetime(2026, 1, 31, tzinfo=dt.UTC),
    lambda: [Handle("inside"), "x"],
    lambda: _file("missing"),
)
"""Each call makes a value anew."""
CONTEXTS: tuple[dict[str, Any], ...] = ({"env": "a"}, {"env": {"b": [1]}})


class Execution:
    """As a job of redun names it."""

    def __init__(self, execution_id: str) -> None:
        self.id = execution_id


class Job:
    """What a backend reads of a job of redun's scheduler."""

    def __init__(self, job_id: str, execution_id: str, parent: Job | None, task: Task[..., Any]) -> None:
        self.id = job_id
        self.execution = Execution(execution_id)
        self.parent_job = parent
        self.task = task
        self.was_cached = False
        self.call_hash: str | None = None
