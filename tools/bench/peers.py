"""Benchmark beside redun's own SQLite backend: the same jobs, through each side's recording calls."""

from __future__ import annotations

import logging
import pickle
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eventstore import hashing
from eventstore.events import (
    Argument,
    CallNodeRecorded,
    EvaluationCached,
    ExecutionStarted,
    JobEnded,
    JobStarted,
    JobStatus,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.store import EventStore
from tools.bench.appending import opened
from tools.bench.campaign import Settings, benchmark, segment_paths
from tools.bench.material import Material
from tools.bench.measure import Row, interleave, rate
from tools.bench.writing import file_sizes

__all__: list[str] = []


@dataclass(frozen=True, slots=True)
class Job:
    """A leaf job: what it is given and what it gives, as Python values."""

    job_id: str
    arguments: tuple[Any, Any]
    result: Any


def jobs(count: int, seed: int) -> list[Job]:
    """Jobs with one new argument, one that they share, and a new result of realistic size."""
    material = Material(random.Random(seed))
    task = material.tasks[-1]
    made = []
    for _ in range(count):
        arguments = (pickle.loads(material.argument().data), "hg38")  # noqa: S301 - our own bytes
        result = pickle.loads(material.result(task).data)  # noqa: S301 - our own bytes
        made.append(Job(material.uuid(), arguments, result))
    return made


@benchmark("redun", "leaf jobs through redun's backend calls on SQLite, and the same facts as our events")
def redun_backend(settings: Settings) -> list[Row]:
    """Look-up, start, result, evaluation, call node, end: the calls of one job, one after another."""
    work = jobs(min(settings.size, 150), settings.seed)
    count = len(work)
    bytes_of: dict[str, float] = {}
    times = interleave(
        {
            "ours": lambda: _ours(settings, work, bytes_of),
            "redun": lambda: _redun(settings.fresh("redun.db"), work, bytes_of),
        },
        settings.repeats,
    )
    ours, peer = rate(count, times["ours"]), rate(count, times["redun"])
    return [
        Row(
            f"{count} jobs, realistic values",
            ours,
            "jobs/s",
            peer,
            "RedunBackendDb on SQLite",
            "50 times redun's",
            ours >= 50 * peer,
        ),
        Row(
            "bytes beyond the values' own",
            bytes_of["ours"],
            "bytes/job",
            bytes_of["redun"],
            "RedunBackendDb on SQLite",
            "a quarter",
            bytes_of["ours"] <= bytes_of["redun"] / 4,
        ),
    ]


def _value(value: Any) -> ValueRecorded:
    data = pickle.dumps(value, protocol=3)
    return ValueRecorded(
        value_hash=hashing.hash_tagged_bytes("Value", data),
        type_name=f"builtins.{type(value).__name__}",
        size_bytes=len(data),
        data=data,
    )


def _ours(settings: Settings, work: list[Job], bytes_of: dict[str, float]) -> float:
    source = "def work(sample, genome):\n    return sample\n"
    task_hash = hashing.hash_struct(["Task", "bench.work", "source", source])
    execution_id = str(uuid.uuid4())
    with opened(settings) as store:
        store.append(
            ExecutionStarted(execution_id=execution_id),
            TaskRecorded(task_hash=task_hash, task_name="work", task_namespace="bench", source=source),
        )
        known: set[str] = set()
        started = time.perf_counter()
        for job in work:
            _record(store, job, execution_id, task_hash, known)
        seconds = time.perf_counter() - started
        store.seal()
        total, data = file_sizes(segment_paths(Path(store.url)))
    bytes_of["ours"] = (total - data) / len(work)
    return seconds


def _record(store: EventStore, job: Job, execution_id: str, task_hash: str, known: set[str]) -> None:
    """The facts of one job, an append for each call that an engine makes."""
    given = [_value(argument) for argument in job.arguments]
    args_hash = hashing.hash_arguments([value.value_hash for value in given], {})
    eval_hash = hashing.hash_eval(task_hash, args_hash)
    assert store.lookup.evaluation(eval_hash) is None, "a new job is not cached"
    common: dict[str, Any] = {"job_id": job.job_id, "execution_id": execution_id, "task_hash": task_hash}
    store.append(JobStarted(**common))
    result = _value(job.result)
    store.append(
        *_new([result], known),
        EvaluationCached(
            eval_hash=eval_hash, task_hash=task_hash, args_hash=args_hash, value_hash=result.value_hash
        ),
    )
    call_hash = hashing.hash_call(task_hash, args_hash, result.value_hash, [])
    store.append(
        *_new(given, known),
        CallNodeRecorded(
            call_hash=call_hash,
            task_hash=task_hash,
            task_name="bench.work",
            args_hash=args_hash,
            value_hash=result.value_hash,
            arguments=tuple(
                Argument(position=place, value_hash=value.value_hash) for place, value in enumerate(given)
            ),
            subtree_tasks=(task_hash,),
        ),
    )
    store.append(JobEnded(**common, status=JobStatus.DONE, call_hash=call_hash))


def _new(values: list[ValueRecorded], known: set[str]) -> Iterator[ValueRecorded]:
    for value in values:
        if value.value_hash not in known:
            known.add(value.value_hash)
            yield value


def _redun(path: Path, work: list[Job], bytes_of: dict[str, float]) -> float:
    from redun import task
    from redun.backends.db import RedunBackendDb
    from redun.hashing import hash_eval
    from redun.task import CacheCheckValid, CacheScope

    logging.getLogger("redun").setLevel(logging.WARNING)

    @task(namespace="bench", name="work")
    def bench_work(sample: Any, genome: Any) -> Any:
        return sample, genome

    backend = RedunBackendDb(db_uri=f"sqlite:///{path}")
    backend.load()
    execution = SimpleNamespace(id=str(uuid.uuid4()))
    root = SimpleNamespace(
        id=str(uuid.uuid4()),
        task=bench_work,
        execution=execution,
        parent_job=None,
        was_cached=False,
        call_hash=None,
    )
    backend.record_execution(execution.id, [])
    backend.record_job_start(root)
    assert backend.session is not None
    assert backend.engine is not None
    backend.session.commit()
    empty = _database_bytes(path)
    values = 0
    started = time.perf_counter()
    for job in work:
        eval_hash, args_hash = hash_eval(backend.type_registry, bench_work.hash, job.arguments, {})
        backend.check_cache(
            bench_work.hash,
            args_hash,
            eval_hash,
            execution.id,
            {bench_work.hash},
            CacheScope.BACKEND,
            CacheCheckValid.FULL,
        )
        told = SimpleNamespace(
            id=job.job_id,
            task=bench_work,
            execution=execution,
            parent_job=root,
            was_cached=False,
            call_hash=None,
        )
        backend.record_job_start(told)
        backend.set_eval_cache(eval_hash, bench_work.hash, args_hash, job.result)
        value_hash = backend.record_value(job.result)
        told.call_hash = backend.record_call_node(
            "bench.work",
            bench_work.hash,
            args_hash,
            (job.arguments, {}),
            (job.arguments, {}),
            value_hash,
            [],
            [bench_work],
        )
        backend.record_job_end(told)
        values += sum(len(pickle.dumps(value, protocol=3)) for value in (job.arguments[0], job.result))
    seconds = time.perf_counter() - started
    backend.engine.dispose()
    bytes_of["redun"] = (_database_bytes(path) - empty - values) / len(work)
    return seconds


def _database_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
