"""A workflow for tests of the redun adapter; a module of its own, so that workers can import it.

redun's command line reads annotations as types, so they are not postponed here.
"""
# ruff: noqa: D103

import asyncio
import os
from pathlib import Path
from typing import Any

from redun import File, Handle, Scheduler, apply_tags, catch, get_context, script, task
from redun.config import Config
from redun.functools import seq
from redun.handle import Handle as BaseHandle
from redun.scheduler import subrun

from eventstore.redun import EventStoreBackend

redun_namespace = "kit"
calls: list[str] = []
"""What ran in this process, since the test emptied it."""


@task()
def leaf(x: int) -> int:
    calls.append("leaf")
    return x + 1


@task()
def tree(x: int) -> list[int]:
    calls.append("tree")
    return [leaf(x), leaf(x + 1)]


@task()
def where() -> int:
    return os.getpid()


@task()
def inner(x: int) -> list[Any]:
    return [where(), leaf(x)]


@task()
def outer(how: str, new_execution: bool = False, config: Any = None, config_dir: Any = None) -> Any:
    return subrun(inner(1), executor=how, new_execution=new_execution, config=config, config_dir=config_dir)


@task(prov=False)
def unrecorded_outer(how: str) -> Any:
    return subrun(inner(1), executor=how)


@task()
def fails(text: str) -> None:
    calls.append("fails")
    raise ValueError(text)


@task()
def recover(error: ValueError) -> str:
    return f"recovered from {error}"


@task()
def careful() -> Any:
    return catch(fails("no"), ValueError, recover)


@task(cache=False)
async def sleeps(x: int) -> int:
    await asyncio.sleep(0)
    return x * 2


@task(prov=False)
def unrecorded(x: int) -> list[int]:
    return [leaf(x)]


@task()
def shell(name: str) -> Any:
    return script(f"echo hello {name}")


@task()
def reads(file: File) -> str:
    calls.append("reads")
    return str(file.read())


@task()
def writes(path: str, text: str) -> File:
    calls.append("writes")
    file = File(path)
    file.write(text)
    return file


@task()
def tagged() -> Any:
    return apply_tags(leaf(5), tags=[("sort", "value")], job_tags=[("sort", "job")])


@task()
def under_context(x: int = get_context("base", 0)) -> int:
    calls.append("under_context")
    return x


class Notebook(BaseHandle):
    """A file of lines as a handle."""

    def __init__(self, name: str, path: str, namespace: str | None = None) -> None:
        self.path = Path(path)


@task()
def opened(path: str) -> Notebook:
    calls.append("opened")
    return Notebook("notes", path)


@task()
def noted(notes: Notebook, line: str) -> Notebook:
    calls.append(f"noted {line}")
    with notes.path.open("a") as out:
        out.write(line + "\n")
    return notes


@task()
def notebook(path: str, lines: list[str]) -> Handle:
    notes = opened(path)
    for line in lines:
        notes = noted(notes, line)
    return notes


@task(executor="served")
def in_a_process() -> int:
    return os.getpid()


@task()
def in_order() -> Any:
    return seq([leaf(1), leaf(2), leaf(1)])


EXECUTORS = {
    "executors.default": {"type": "local", "mode": "thread", "max_workers": "2"},
    "executors.spawned": {"type": "local", "mode": "process", "start_method": "spawn", "max_workers": "1"},
    "executors.served": {
        "type": "local",
        "mode": "process",
        "start_method": "forkserver",
        "max_workers": "1",
    },
}


def make_config(url: str | None, **backend: Any) -> Config:
    """Return a configuration with executors, as redun.ini would give it."""
    # Servers of forks keep the environment of the test that started them.
    backend = {"state_dir": os.environ["EVENTSTORE_STATE"], **backend}
    section = {"backend": {**({"db_uri": url} if url else {}), **backend}}
    return Config({**EXECUTORS, **section, "scheduler": {"ignore_warnings": "namespace"}})


def make_scheduler(url: str, **backend: Any) -> Scheduler:
    """Return a loaded scheduler on the store at `url`, made if need be."""
    scheduler = Scheduler(config=make_config(url, **backend))
    scheduler.load()
    assert isinstance(scheduler.backend, EventStoreBackend)
    calls.clear()
    return scheduler
