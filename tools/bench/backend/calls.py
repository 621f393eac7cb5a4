"""Benchmark of the calls of a job, as redun's Scheduler makes them, without the Scheduler."""

from __future__ import annotations

import gc
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from redun import File, task
from redun.backends.base import RedunBackend, TagEntity
from redun.expression import TaskExpression
from redun.hashing import hash_eval
from redun.task import CacheCheckValid, CacheResult, CacheScope
from redun.value import get_type_registry

from eventstore.codec.payload import dump_fields
from eventstore.store import EventStore
from tools.bench.backend.sides import PEER, ours, theirs
from tools.bench.campaign import Settings, benchmark
from tools.bench.limits import bare_writes
from tools.bench.measure import Row, interleave, rate

__all__ = ["Call", "calls", "recorded"]

JOBS = 3_000
PEER_JOBS = 150
"""redun needs some 20 ms for one."""
JOBS_OF_EXECUTION = 100
LONG_BYTES = 20_000


@task(namespace="bench", version="1")
def work(sample: Any, options: Any) -> Any:
    """The task of all jobs."""
    return sample, options


@dataclass(slots=True)
class Call:
    """One job before it is recorded: what it is given and gives, and what redun's Scheduler hashes of it."""

    arguments: tuple[Any, Any]
    result: Any
    eval_hash: str = ""
    args_hash: str = ""
    job_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        self.eval_hash, self.args_hash = hash_eval(get_type_registry(), work.hash, self.arguments, {})


def calls(seed: int, folder: Path) -> Iterator[Call]:
    """Yield jobs without end: each takes the result of the one before, and a new record of options.

    Values have some hundred bytes; a tenth of the results has 20 KB, and a hundredth is a file in `folder`.
    """
    rng = random.Random(seed)
    noise = rng.randbytes(1 << 20)
    folder.mkdir(parents=True, exist_ok=True)
    before: Any = "the first"
    number = 0
    while True:
        number += 1
        sample = f"S{number:07d}"
        options = {"sample": sample, "genome": "hg38", "threads": number % 16, "cut": rng.random()}
        result: Any = {"sample": sample, **{f"metric_{place}": rng.random() for place in range(15)}}
        if number % 100 == 50:
            path = folder / f"{sample}.txt"
            path.write_text(sample)
            result = File(str(path))
        elif number % 10 == 0:
            first = rng.randrange(len(noise) - LONG_BYTES)
            result["table"] = noise[first : first + LONG_BYTES]
        yield Call((before, options), result)
        before = result


def recorded(backend: RedunBackend, jobs: Sequence[Call]) -> float:
    """Make all calls of all jobs, in executions of `JOBS_OF_EXECUTION`; returns seconds."""
    gc.collect()
    upstream: str | None = None
    started = time.perf_counter()
    for first in range(0, len(jobs), JOBS_OF_EXECUTION):
        execution = SimpleNamespace(id=str(uuid.uuid4()))
        root = _job(str(uuid.uuid4()), execution, None)
        backend.record_execution(execution.id, ["redun", "run", "workflow.py", "main"])
        backend.record_job_start(root)
        for each in jobs[first : first + JOBS_OF_EXECUTION]:
            upstream = _record(backend, each, _job(each.job_id, execution, root), upstream)
        backend.record_job_end(root)
    return time.perf_counter() - started


def _job(job_id: str, execution: Any, parent: Any) -> Any:
    return SimpleNamespace(
        id=job_id, task=work, execution=execution, parent_job=parent, was_cached=False, call_hash=None
    )


def _record(backend: RedunBackend, each: Call, job: Any, upstream: str | None) -> str:
    eval_hash, args_hash = each.eval_hash, each.args_hash
    _, _, found = backend.check_cache(
        work.hash,
        args_hash,
        eval_hash,
        job.execution.id,
        {work.hash},
        CacheScope.BACKEND,
        CacheCheckValid.FULL,
    )
    assert found is CacheResult.MISS, "a new job is not cached"
    backend.record_job_start(job)
    for argument in each.arguments:
        backend.record_value(argument)
    backend.set_eval_cache(eval_hash, work.hash, args_hash, each.result)
    result_hash = backend.record_value(each.result)
    sample: Any = each.arguments[0]
    if upstream is not None:
        sample = TaskExpression(work.fullname, (), {})
        sample.call_hash = upstream
    call_hash: str = backend.record_call_node(
        work.fullname,
        work.hash,
        args_hash,
        ((sample, each.arguments[1]), {}),
        (each.arguments, {}),
        result_hash,
        [],
        [work],
    )
    backend.record_tags(TagEntity.Job, job.id, [("sample", each.arguments[1]["sample"]), ("attempt", 1)])
    job.call_hash = call_hash
    backend.record_job_end(job)
    return call_hash


@benchmark(
    "backend", "all calls of a job through redun's contract: look-up, values, call, tags, start and end"
)
def backend_calls(settings: Settings) -> list[Row]:
    """The same jobs into a new store and a new database, without a Scheduler."""
    jobs = list(islice(calls(settings.seed, settings.fresh("files")), min(settings.size, JOBS)))
    fewer = jobs[:PEER_JOBS]
    lines = _lines(settings, jobs)
    times = interleave(
        {
            "ours": lambda: _ours(settings, jobs),
            "fsync": lambda: _ours(settings, jobs, durability="fsync"),
            "redun": lambda: _theirs(settings, fewer),
            "bare": lambda: _bare(settings, jobs, lines),
        },
        settings.repeats,
    )
    count = len(jobs)
    own, peer, synced = (
        rate(count, times["ours"]),
        rate(len(fewer), times["redun"]),
        rate(count, times["fsync"]),
    )
    what = "values hashed as often as they are given, a bare write an event"
    return [
        Row(
            f"{count:,} jobs, {len(lines) / count:.1f} events each",
            own,
            "jobs/s",
            peer,
            PEER,
            "50 times redun's",
            own >= 50 * peer,
            {"times redun's": own / peer},
        ),
        Row("the same", 1e6 / own, "us/job", 1e6 * times["bare"].median / count, what),
        Row("durability fsync", synced, "jobs/s", own, "without"),
    ]


def _ours(settings: Settings, jobs: Sequence[Call], **options: str) -> float:
    with ours(settings.fresh("backend"), settings.state(), **options) as backend:
        return recorded(backend, jobs)


def _theirs(settings: Settings, jobs: Sequence[Call]) -> float:
    with theirs(settings.fresh("backend.db")) as backend:
        return recorded(backend, jobs)


def _lines(settings: Settings, jobs: Sequence[Call]) -> list[bytes]:
    """One line for each event of these jobs, as a journal has them."""
    folder = settings.fresh("backend")
    with ours(folder, settings.state()) as backend:
        recorded(backend, jobs)
    with EventStore.open(folder, read_only=True, state_dir=settings.state()) as store:
        return [dump_fields(recorded.event.__dict__) + b"\n" for recorded in store.events()]


def _bare(settings: Settings, jobs: Sequence[Call], lines: Sequence[bytes]) -> float:
    """What no backend of redun is spared: its own hashing of what it is given, and the bytes on disk."""
    registry = get_type_registry()
    gc.collect()
    started = time.perf_counter()
    for each in jobs:
        # Arguments come as values and with the call; the result with the evaluation and as a value.
        for value in (*each.arguments, *each.arguments, each.result, each.result):
            registry.get_hash(value)
    return time.perf_counter() - started + bare_writes(settings.fresh("lines"), lines)
