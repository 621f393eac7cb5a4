"""The making of a history: executions, trees of jobs, and what a recorder says of them, in its order.

`History` keeps what lasts from one execution to the next: tasks, known values, calls, tags and the clock.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from eventstore.events import (
    CallContextRecorded,
    CallNodeRecorded,
    EvaluationCached,
    Event,
    ExecutionHeartbeat,
    ExecutionStarted,
    HandleAdvanced,
    HandleForked,
    HandleRecorded,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.hashing import canonical_json, hash_struct, hash_tag
from tools.bench.material import Material, Task, Value, arguments_hash_of, call_hash_of, eval_hash_of

__all__ = ["START_US", "Fact", "History"]

START_US = 1_767_225_600_000_000
"""When every history begins: 2026-01-01, UTC."""

_WINDOW = 8
_LARGE_BYTES = 65_537


class Fact(NamedTuple):
    """One event before it is validated: its model, when it is recorded, and the fields that it states."""

    model: type[Event]
    recorded_us: int
    fields: dict[str, Any]


@dataclass(slots=True)
class _Call:
    """A call that may come again."""

    task: Task
    arguments: list[dict[str, Any]]
    args_hash: str
    value_hash: str
    call_hash: str


@dataclass(slots=True)
class _Job:
    """A job while it runs; `repeated` is the earlier call that answers it."""

    job_id: str
    parent: _Job | None
    task: Task
    budget: int
    repeated: _Call | None = None
    handle: tuple[str, str] | None = None
    calls: list[_Call] = field(default_factory=list)


class History:
    """The state that lasts from one execution to the next: tasks, known values, calls, the clock."""

    def __init__(self, rng: random.Random, put: Callable[[bytes], str] | None) -> None:
        self._rng = rng
        self._random = rng.random
        self._material = Material(rng)
        self._put = put
        self._now = START_US
        self._facts: list[Fact] = []
        self._known_tasks: set[str] = set()
        self._by_layer = [[t for t in self._material.tasks if t.layer == layer] for layer in range(4)]
        self._constants: list[str] = []
        self._recent: dict[str, deque[_Call]] = {}
        self._values: deque[str] = deque(maxlen=2000)
        self._tags: deque[tuple[str, str, str, str]] = deque(maxlen=200)
        self._execution_id = ""

    def execution(self) -> list[Fact]:
        """Run one workflow and return what a recorder would have appended."""
        self._facts = []
        self._now += 1_000_000 + int(self._random() * 600_000_000)
        if not self._constants:
            for number in range(24):
                self._constants.append(self._record(self._material.constant(number)))
        if self._random() < 0.02:
            self._edit_task()
        material = self._material
        self._execution_id = material.uuid()
        # Log-normal: median 60 jobs, a few runs of thousands.
        jobs = min(int(math.exp(4.1 + 1.1 * self._rng.gauss(0, 1))) + 1, 20_000)
        root = _Job(material.uuid(), None, self._any(self._by_layer[0]), jobs)
        self._task(root.task)
        self._add(
            ExecutionStarted,
            execution_id=self._execution_id,
            job_id=root.job_id,
            args=canonical_json(["redun", "run", "workflow.py", root.task.name]),
            occurred_at=self._now,
        )
        self._tag("Execution", self._execution_id, {"project": f"p{len(self._tags) % 7}", "user": "ada"})
        self._start(root)
        self._finish(root)
        return self._facts

    # jobs ------------------------------------------------------------------------------------------------

    def _start(self, job: _Job) -> None:
        self._task(job.task)
        draw = self._random()
        recent = self._recent.get(job.task.task_hash)
        if recent and job.parent is not None and draw < 0.17:
            job.repeated = recent[int(self._random() * len(recent))]
        elif draw > 0.995:
            job.handle = self._use_handle(job)
        self._tick(20_000)
        self._add(
            JobStarted,
            job_id=job.job_id,
            execution_id=self._execution_id,
            parent_id=job.parent.job_id if job.parent else None,
            task_hash=job.task.task_hash,
            occurred_at=self._now,
        )
        if self._random() < 0.005:
            self._add(ExecutionHeartbeat, execution_id=self._execution_id, occurred_at=self._now)

    def _finish(self, job: _Job) -> None:
        """Everything between a job's start and its end, then its end."""
        if job.repeated is not None:
            self._end(job, "CACHED", job.repeated.call_hash)
            if job.parent:
                job.parent.calls.append(job.repeated)
            return
        arguments, new = self._arguments(job)
        args_hash = arguments_hash_of(
            [a["value_hash"] for a in arguments if a["key"] is None],
            [(a["key"], a["value_hash"]) for a in arguments if a["key"] is not None],
        )
        task_hash = job.task.task_hash
        failed = self._random() < 0.01 and job.parent is not None
        if job.budget > 1:
            self._evaluate(task_hash, args_hash, self._record(self._material.expression(job.task)))
            self._children(job)
        self._tick(400_000)
        value_hash = self._result(job, failed)
        if job.budget == 1 and not failed:
            self._evaluate(task_hash, args_hash, value_hash)
        for value in new:
            self._record(value)
        children = [call.call_hash for call in job.calls]
        call_hash = call_hash_of(task_hash, args_hash, value_hash, children)
        self._add(
            CallNodeRecorded,
            call_hash=call_hash,
            task_hash=task_hash,
            task_name=job.task.full_name,
            args_hash=args_hash,
            value_hash=value_hash,
            children=tuple(children),
            arguments=tuple(arguments),
            subtree_tasks=tuple(sorted({task_hash, *(call.task.task_hash for call in job.calls)})),
            occurred_at=self._now,
        )
        self._afterwards(job, call_hash)
        self._end(job, "FAILED" if failed else "DONE", call_hash)
        if not failed:
            call = _Call(job.task, arguments, args_hash, value_hash, call_hash)
            self._recent.setdefault(task_hash, deque(maxlen=500)).append(call)
            if job.parent:
                job.parent.calls.append(call)

    def _children(self, job: _Job) -> None:
        """Call other tasks: a handful or hundreds, some of them calling others in turn."""
        left = job.budget - 1
        layer = min(job.task.layer + 1, 3)
        tasks = [self._any(self._by_layer[layer]) for _ in range(1 + int(self._random() * 3))]
        jobs: list[_Job] = []
        while left > 0:
            task = tasks[len(jobs) % len(tasks)]
            share = 1
            if task.layer < 3 and left > 3 and self._random() < 0.5:
                share = min(left, 2 + int(self._random() * max(left // 3, 4)))
            jobs.append(_Job(self._material.uuid(), job, task, share))
            left -= share
        for first in range(0, len(jobs), _WINDOW):
            window = jobs[first : first + _WINDOW]
            for child in window:
                self._start(child)
            if len(window) > 1 and self._random() < 0.5:
                window.reverse()
            for child in window:
                self._finish(child)

    def _end(self, job: _Job, status: str, call_hash: str) -> None:
        self._tick(2_000)
        self._add(
            JobEnded,
            job_id=job.job_id,
            execution_id=self._execution_id,
            parent_id=job.parent.job_id if job.parent else None,
            task_hash=job.task.task_hash,
            status=status,
            cached=status == "CACHED",
            call_hash=call_hash,
            occurred_at=self._now,
        )

    def _arguments(self, job: _Job) -> tuple[list[dict[str, Any]], list[Value]]:
        """One to four arguments: constants, results of siblings, known values, new values."""
        arguments: list[dict[str, Any]] = []
        new: list[Value] = []
        siblings = job.parent.calls if job.parent else []
        count = 1 + int(self._random() * 4)
        positional = count - int(self._random() * min(count, 3))
        for number in range(count):
            argument: dict[str, Any] = {"position": None, "key": None, "value_hash": "", "upstreams": ()}
            if number < positional:
                argument["position"] = number
            else:
                argument["key"] = job.task.keywords[number - positional]
            draw = self._random()
            if number == 0 or draw < 0.2:
                value = self._material.argument()
                new.append(value)
                argument["value_hash"] = value.value_hash
            elif siblings and draw < 0.5:
                sibling = siblings[int(self._random() * len(siblings))]
                argument["value_hash"] = sibling.value_hash
                argument["upstreams"] = (sibling.call_hash,)
            else:
                argument["value_hash"] = self._constants[int(draw * len(self._constants))]
            arguments.append(argument)
        arguments[positional:] = sorted(arguments[positional:], key=lambda item: str(item["key"]))
        return arguments, new

    # values, tags, handles -------------------------------------------------------------------------------

    def _result(self, job: _Job, failed: bool) -> str:
        if failed:
            return self._record(self._material.error(job.task))
        draw = self._random()
        if draw < 0.15:
            return self._constants[int(draw / 0.15 * 9)]
        if draw < 0.22 and self._values:
            return self._values[int(self._random() * len(self._values))]
        if draw > 0.998 and self._put is not None:
            return self._record_large()
        value = self._material.result(job.task)
        files = [call.value_hash for call in job.calls[:20]] if draw > 0.98 else []
        self._values.append(self._record(value, tuple(dict.fromkeys(files))))
        return value.value_hash

    def _record(self, value: Value, subvalues: tuple[str, ...] = ()) -> str:
        self._add(
            ValueRecorded,
            value_hash=value.value_hash,
            type_name=value.type_name,
            size_bytes=len(value.data),
            data=value.data,
            subvalues=subvalues,
            file_path=value.path,
        )
        return value.value_hash

    def _record_large(self) -> str:
        assert self._put is not None
        data = self._material.large(_LARGE_BYTES + int(self._random() * 300_000))
        value_hash = hash_struct(["bench.large", data])
        self._add(
            ValueRecorded,
            value_hash=value_hash,
            type_name="lab.Image",
            size_bytes=len(data),
            data_digest=self._put(data),
        )
        return value_hash

    def _evaluate(self, task_hash: str, args_hash: str, value_hash: str) -> None:
        self._add(
            EvaluationCached,
            eval_hash=eval_hash_of(task_hash, args_hash),
            task_hash=task_hash,
            args_hash=args_hash,
            value_hash=value_hash,
        )

    def _task(self, task: Task) -> None:
        if task.task_hash in self._known_tasks:
            return
        self._known_tasks.add(task.task_hash)
        self._record(self._material.of_task(task))
        self._add(
            TaskRecorded,
            task_hash=task.task_hash,
            task_name=task.name,
            task_namespace=task.namespace,
            source=task.source,
            task_version=task.version,
        )

    def _edit_task(self) -> None:
        layer = self._by_layer[int(self._random() * 4)]
        place = int(self._random() * len(layer))
        self._recent.pop(layer[place].task_hash, None)
        layer[place] = self._material.edited(layer[place])

    def _use_handle(self, job: _Job) -> tuple[str, str]:
        """Fork a connection for a job, and roll back what followed from the fork in earlier runs."""
        name = "lab.Warehouse"
        base = self._material.handle("")
        fork = self._material.handle(job.job_id[:8])
        self._record(base)
        self._add(HandleRecorded, handle_hash=base.value_hash, handle_name=name, value_hash=base.value_hash)
        self._record(fork)
        self._add(
            HandleForked,
            handle_hash=fork.value_hash,
            handle_name=name,
            handle_key=job.job_id[:8],
            parents=(base.value_hash,),
        )
        self._add(
            HandleRolledBack, handle_hash=fork.value_hash, handle_name=name, reason="the job runs again"
        )
        return name, fork.value_hash

    def _afterwards(self, job: _Job, call_hash: str) -> None:
        """What sometimes follows a call node: a handle's new state, a context, tags and their edits."""
        if job.handle is not None:
            name, parent = job.handle
            state = self._material.handle("")
            self._record(state)
            self._add(HandleAdvanced, handle_hash=state.value_hash, handle_name=name, parents=(parent,))
        draw = self._random()
        if draw < 0.01:
            context_hash = hash_struct(["context", job.task.full_name])
            self._add(CallContextRecorded, call_hash=call_hash, context_hash=context_hash)
        elif draw < 0.05:
            self._tag("Job", job.job_id, {"sample": f"S{int(draw * 1e6)}", "attempt": 1})
        elif draw < 0.055:
            self._tag("CallNode", call_hash, {"checked": True})
        elif draw < 0.06 and self._tags:
            self._edit_tag(delete=draw < 0.057)

    def _tag(self, entity_type: str, entity_id: str, pairs: dict[str, Any]) -> None:
        made = []
        for key, value in pairs.items():
            tag_hash = hash_tag(entity_id, key, value)
            made.append({"tag_hash": tag_hash, "key": key, "value": canonical_json(value)})
            self._tags.append((entity_type, entity_id, key, tag_hash))
        self._add(TagsRecorded, entity_type=entity_type, entity_id=entity_id, tags=tuple(made))

    def _edit_tag(self, *, delete: bool) -> None:
        entity_type, entity_id, key, tag_hash = self._tags.popleft()
        if delete:
            new_hash = hash_struct(["Tag", "", "", "null", [tag_hash]])
            self._add(TagsDeleted, tag_hash=new_hash, superseded=(tag_hash,), reason="no longer needed")
            return
        new_hash = hash_tag(entity_id, key, "edited", [tag_hash])
        self._add(
            TagsRecorded,
            entity_type=entity_type,
            entity_id=entity_id,
            tags=({"tag_hash": new_hash, "key": key, "value": '"edited"'},),
            superseded=(tag_hash,),
        )

    # the clock -------------------------------------------------------------------------------------------

    def _any(self, tasks: list[Task]) -> Task:
        return tasks[int(self._random() * len(tasks))]

    def _tick(self, up_to_us: int) -> None:
        self._now += int(self._random() * up_to_us)

    def _add(self, model: type[Event], **fields: Any) -> None:
        self._now += 37
        self._facts.append(Fact(model, self._now, fields))
