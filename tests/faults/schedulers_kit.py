"""A workflow whose results follow from its arguments, and a program that lets many schedulers run it at once.

The program forks them all from one process, which has imported everything and opened nothing: so a scheduler
lives from its first moment on, and can be killed at any.
"""
# ruff: noqa: D103

import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fork_kit import forked, status_of
from redun import File, Scheduler, catch, task
from redun.config import Config
from redun.logging import logger as redun_logger

from eventstore.redun import EventStoreBackend

redun_namespace = "kills"
SEEDS = 6
"""So many runs are different; all schedulers make them again and again."""
ran: list[str] = []
"""What ran in this process rather than came from the cache."""


def _note(name: str, pause_ms: int) -> None:
    ran.append(name)
    time.sleep(pause_ms / 1000)


@task()
def leaf(seed: int, place: int) -> int:
    _note("leaf", (seed + place) % 4)
    return seed * 1000 + place


@task()
def branch(seed: int, depth: int) -> Any:
    _note("branch", seed % 3)
    below = [branch(seed, depth - 1)] if depth else []
    return combine(seed, depth, [leaf(seed, depth), leaf(seed % 3, depth), *below])


@task()
def combine(seed: int, depth: int, parts: list[Any]) -> list[Any]:
    _note("combine", 1)
    found = [*parts[:2], *([parts[2]] if depth else [])]
    if found != expected_parts(seed, depth):
        raise WrongAnswerError(f"{seed} at {depth}: {parts}")
    return parts


@task()
def fails(seed: int) -> None:
    raise ValueError(f"no {seed}")


@task()
def recover(error: ValueError) -> str:
    _note("recover", 0)
    return str(error)


@task()
def writes(folder: str, seed: int) -> File:
    _note("writes", 1)
    file = File(f"{folder}/{seed % 3}.txt")
    if not file.exists():  # schedulers write the same files
        partial = Path(f"{folder}/{os.getpid()}-{random.random()}")
        partial.write_text(str(seed % 3))
        partial.replace(file.path)
        file = File(file.path)
    return file


@task()
def reads(file: File) -> str:
    _note("reads", 1)
    return str(file.read())


@task()
def main(folder: str, seed: int) -> list[Any]:
    _note("main", 1)
    return [branch(seed, 3), catch(fails(seed), ValueError, recover), reads(writes(folder, seed))]


class WrongAnswerError(Exception):
    """A task was given, or a run gave, what does not follow from the arguments."""


def expected_parts(seed: int, depth: int) -> list[Any]:
    leaves = [seed * 1000 + depth, seed % 3 * 1000 + depth]
    return [*leaves, expected_parts(seed, depth - 1)] if depth else leaves


def expected(seed: int) -> list[Any]:
    return [expected_parts(seed, 3), f"no {seed}", str(seed % 3)]


def make_scheduler(url: str, state: str) -> Scheduler:
    """A scheduler on the store; it puts what it records into the store twice a second."""
    redun_logger.setLevel(logging.CRITICAL)
    backend = {"db_uri": url, "state_dir": state, "flush_seconds": "0.5", "fresh_seconds": "0.1"}
    executor = {"type": "local", "mode": "thread", "max_workers": "3"}
    settings = {"ignore_warnings": "namespace"}
    config = {"backend": backend, "executors.default": executor, "scheduler": settings}
    made = Scheduler(config=Config(config))
    made.load()
    assert isinstance(made.backend, EventStoreBackend)
    return made


def check_run(scheduler: Scheduler, folder: str, seed: int) -> None:
    """Make one run, and raise `WrongAnswerError` unless its result follows from its arguments."""
    found = scheduler.run(main(folder, seed))
    if found != expected(seed):
        raise WrongAnswerError(f"{seed}: {found}")


def live(place: Path, number: int, deadline: float) -> None:
    """Be one scheduler: run until the deadline, and write down each job that is reported as ended."""
    dice = random.Random(number)
    report = os.open(place / f"report-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    rounds = 0
    while not rounds or time.monotonic() < deadline:
        scheduler = make_scheduler(str(place / "store"), str(place / "state"))
        record_job_end = scheduler.backend.record_job_end

        def ended(job: Any, *args: Any, record: Callable[..., None] = record_job_end, **kwargs: Any) -> None:
            record(job, *args, **kwargs)
            parent = job.parent_job.id if job.parent_job else None
            line = [job.id, job.execution.id, parent, job.task.fullname, job.call_hash, job.was_cached]
            os.write(report, (json.dumps(line) + "\n").encode())

        scheduler.backend.record_job_end = ended
        for _ in range(dice.randrange(1, 4)):
            check_run(scheduler, str(place / "files"), dice.randrange(SEEDS))
            rounds += 1
        if dice.random() < 0.7:
            scheduler.backend.close()
    os.write(report, b'"done"\n')


def _wait_for(report: Path, dice: random.Random) -> None:
    """Wait for the moment to kill: seldom while it opens the store, mostly amid what it runs and records."""
    jobs = 0 if dice.random() < 0.2 else dice.randrange(1, 30)
    end = time.monotonic() + 5
    while jobs and time.monotonic() < end:
        if report.exists() and report.read_bytes().count(b"\n") >= jobs:
            break
        time.sleep(0.005)
    time.sleep(dice.uniform(0, 0.03 if jobs else 0.2))


def campaign(place: Path, seconds: float, survivors: int = 4) -> int:
    """Let some schedulers live, and start and kill another again and again; returns how often."""
    deadline = time.monotonic() + seconds
    dice = random.Random(seconds)
    living = [
        forked(lambda number=number: live(place, number, deadline))  # type: ignore[misc]
        for number in range(survivors)
    ]
    kills = 0
    while time.monotonic() < deadline:
        number = 100 + kills
        child = forked(lambda: live(place, number, deadline + 60))  # noqa: B023 - it is called at once
        _wait_for(place / f"report-{number}", dice)
        os.kill(child, signal.SIGKILL)
        if status_of(child) != -signal.SIGKILL:
            raise SystemExit("the scheduler that was to be killed had ended by itself")
        kills += 1
    for child in living:
        status = status_of(child)
        if status:
            raise SystemExit(f"a scheduler that was left alone ended with {status}")
    return kills


if __name__ == "__main__":
    import schedulers_kit  # tasks are at home in the module, not in the program

    print(schedulers_kit.campaign(Path(sys.argv[1]), float(sys.argv[2])))  # noqa: T201
