"""A small engine for tests of the backend: tasks, calls and jobs with the hashes that they have in redun."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from store_kit import memory_url, open_store

from eventstore import EventStore
from eventstore.backend import (
    CacheAnswer,
    CacheCheck,
    CacheScope,
    CallArgument,
    CallNode,
    HandleState,
    JobDescription,
    LogBackend,
    StoreTypes,
    TaskDescription,
)
from eventstore.backend.log_backend import ERROR_TYPES
from eventstore.file import Dir, File
from eventstore.handle import Handle
from eventstore.hashing import hash_arguments, hash_eval, hash_struct
from eventstore.index.facts import TagFacts
from eventstore.value import Value, default_types

START = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


class Failure(Value):
    """What a failed call returned."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failure) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]


class TaskValue(Value):
    """A task as a value: its hash is the task's."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source

    @property
    def own_hash(self) -> str:
        """The hash of name and source."""
        return hash_struct(["Task", f"lab.{self.name}", "source", self.source])


class EngineTypes(StoreTypes):
    """The store's types, and tasks."""

    def task_of(self, value: Any) -> TaskDescription | None:
        """Describe a task."""
        return describe(value) if isinstance(value, TaskValue) else None


def describe(value: TaskValue) -> TaskDescription:
    """Return the task that a value is."""
    return TaskDescription(value.own_hash, value.name, "lab", value.source, None, value)


def task(name: str = "count", source: str = "def count(): ...") -> TaskDescription:
    """A task of this name and source."""
    return describe(TaskValue(name, source))


def state_of(handle: Handle) -> HandleState:
    """A handle as a backend is told of it."""
    known = handle.__handle__
    origin = known.fork_parent
    return HandleState(
        handle.hash,
        handle.fullname,
        handle.key,
        handle,
        known.is_recorded,
        state_of(origin) if origin is not None else None,
    )


class Clock:
    """A clock that goes on by a second each time it is asked."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> dt.datetime:
        """Return the next time."""
        self.now += dt.timedelta(seconds=1)
        return self.now


class Done(NamedTuple):
    """A call that was recorded."""

    job: JobDescription
    call_hash: str
    args_hash: str
    eval_hash: str
    value_hash: str


class Engine:
    """Runs calls on a backend, as an engine does in the order of its calls."""

    def __init__(self, backend: LogBackend, execution_id: str | None = None) -> None:
        self.backend = backend
        self.execution_id = execution_id or str(uuid.uuid4())
        self.root: JobDescription | None = None

    def start(self, root_task: TaskDescription | None = None) -> JobDescription:
        """Begin the execution with its root job."""
        self.backend.record_execution(self.execution_id, ["run", "flow.py"])
        self.root = JobDescription("root-" + self.execution_id, self.execution_id, None, root_task or task())
        self.backend.record_job_start(self.root)
        return self.root

    def job(self, of: TaskDescription, *, parent: JobDescription | None = None) -> JobDescription:
        """A new job below the root job, or another."""
        above = parent or self.root
        assert above is not None
        return JobDescription(str(uuid.uuid4()), self.execution_id, above.job_id, of)

    def call(
        self,
        result: Any,
        *,
        of: TaskDescription | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        upstreams: Mapping[int | str, Sequence[str]] | None = None,
        children: Sequence[str] = (),
        below: Sequence[TaskDescription] = (),
        context_hash: str | None = None,
        evaluates: bool = True,
        now: dt.datetime | None = None,
    ) -> Done:
        """Run one call: start, result, evaluation, call node, context, end."""
        backend, called = self.backend, of or task()
        if self.root is None:
            self.start()
        args_hash, eval_hash = hashes(called, args, kwargs)
        job = self.job(called)
        backend.record_job_start(job, now=now)
        value_hash = backend.record_value(result)
        if evaluates and not isinstance(result, Failure):
            backend.set_evaluation(eval_hash, called.task_hash, args_hash, result)
        came = upstreams or {}
        given = [(place, None, each) for place, each in enumerate(args)]
        given += [(None, key, each) for key, each in (kwargs or {}).items()]
        arguments = [CallArgument(place, key, each, came.get(key or place, ())) for place, key, each in given]
        call_hash = backend.record_call_node(
            CallNode(
                called.full_name,
                called.task_hash,
                args_hash,
                arguments,
                value_hash,
                children,
                [called, *below],
            )
        )
        if context_hash is not None:
            backend.record_call_context(call_hash, context_hash, {"context": context_hash})
        ended = job._replace(call_hash=call_hash)
        backend.record_job_end(ended, status="FAILED" if isinstance(result, Failure) else None)
        return Done(ended, call_hash, args_hash, eval_hash, value_hash)

    def ask(
        self,
        *,
        of: TaskDescription | None = None,
        args: Sequence[Any] = (),
        current: Sequence[TaskDescription] | None = None,
        scope: CacheScope = CacheScope.STORE,
        check: CacheCheck = CacheCheck.FULL,
        **options: Any,
    ) -> CacheAnswer:
        """Ask the cache for a call of this execution."""
        called = of or task()
        args_hash, eval_hash = hashes(called, args)
        tasks = [called] if current is None else current
        return self.backend.check_cache(
            task_hash=called.task_hash,
            args_hash=args_hash,
            eval_hash=eval_hash,
            execution_id=self.execution_id,
            current_tasks={each.task_hash for each in tasks},
            scope=scope,
            check=check,
            **options,
        )


@dataclass(frozen=True)
class Known:
    """A small history with a parent call, a child of it, a failure, a folder of files, and edited tags."""

    execution_id: str
    root: JobDescription
    parent: Done
    child: Done
    failed: Done
    folder: Dir
    files: list[File]
    tag: TagFacts
    deletion: TagFacts

    @classmethod
    def make(cls, backend: LogBackend, folder: Path) -> Known:
        """Record it; the files lie in `folder`."""
        for name in ("a", "b"):
            (folder / name).write_text(name)
        engine = Engine(backend)
        root = engine.start(task("main"))
        child = engine.call(1, of=task("child"), args=["x"], now=START + dt.timedelta(seconds=2))
        failed = engine.call(
            Failure("broken"), of=task("child"), args=["y"], now=START + dt.timedelta(seconds=3)
        )
        parent = engine.call(
            [Dir(str(folder))],
            of=task("parent"),
            args=[1],
            kwargs={"key": None},
            upstreams={0: [child.call_hash]},
            children=[child.call_hash, failed.call_hash, child.call_hash],
            now=START + dt.timedelta(milliseconds=250),
        )
        (tag,) = backend.record_tags("Job", parent.job.job_id, [("env", {"b": 1})])
        backend.record_tags("Execution", engine.execution_id, [("project", "apples")])
        (deletion,) = backend.delete_tags(parent.job.job_id, keys=["env"])
        found = Dir(str(folder))
        return cls(engine.execution_id, root, parent, child, failed, found, list(found), tag, deletion)


def hashes(
    called: TaskDescription, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> tuple[str, str]:
    """The arguments hash and the evaluation hash of a call."""
    named = {key: default_types.hash(each) for key, each in (kwargs or {}).items()}
    args_hash = hash_arguments([default_types.hash(each) for each in args], named)
    return args_hash, hash_eval(called.task_hash, args_hash)


def open_backend(store: EventStore | None = None, **options: Any) -> LogBackend:
    """A backend on a store, or on a new one in memory, that never waits."""
    store = store or open_store(memory_url())
    settings: dict[str, Any] = {
        "types": EngineTypes(store.types),
        "error_types": [*ERROR_TYPES, Failure.type_name],
        "clock": Clock(),
        "sleep": lambda _seconds: None,
    }
    return LogBackend(store, **(settings | options))


def kinds(backend: LogBackend) -> list[str]:
    """The kinds of all events that were recorded, in order."""
    return [event.kind for event in events(backend)]


def events(backend: LogBackend) -> Iterator[Any]:
    """All events that were recorded, in order."""
    return iter([recorded.event for recorded in backend.store.events(tail=True)])


def one_record(backend: LogBackend, entity_id: str) -> dict[str, Any]:
    """The record of one id."""
    (record,) = backend.get_records([entity_id])
    return record


def some_hash(text: str) -> str:
    """A hash that nothing has."""
    return hash_struct(["nothing", text])
