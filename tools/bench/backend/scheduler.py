"""Benchmark of redun's own Scheduler: trivial jobs on our backend, on redun's, and on none."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redun import Scheduler, task
from redun.backends.base import RedunBackend

from tools.bench.backend.sides import PEER, Nothing, Remembering, ours, theirs
from tools.bench.campaign import Settings, benchmark
from tools.bench.measure import Row, Times, interleave, rate

__all__: list[str] = []

JOBS = 3_000
PEER_JOBS = 250
"""redun needs 10 ms and more for one."""
NO_BACKEND = "no backend"
DICTIONARY = "results in a dictionary"

Opening = Callable[[], contextlib.AbstractContextManager[RedunBackend]]


@task(namespace="bench", version="1")
def trivial(number: int) -> int:
    """A job with nothing to do."""
    return number + 1


@task(namespace="bench", version="1")
def several(count: int) -> list[Any]:
    """The job that calls the others."""
    return [trivial(number) for number in range(count)]


def ran(backend: RedunBackend, count: int) -> float:
    """Run a workflow of `count` jobs and one that calls them; returns seconds."""
    scheduler = Scheduler(backend=backend)
    gc.collect()
    started = time.perf_counter()
    result = scheduler.run(several(count))
    seconds = time.perf_counter() - started
    assert result == list(range(1, count + 1)), "the workflow is right"
    return seconds


class _Side:
    """Where one side's cold and cached runs go, in turn: a new place, and the same place opened again."""

    def __init__(self, name: str, count: int, place: Callable[[], Opening]) -> None:
        self.name = name
        self.count = count
        self._place = place
        self.closing = Times()

    def cold(self) -> float:
        """Run on a new place."""
        self._open = self._place()
        return self._run()

    def cached(self) -> float:
        """Run again, as a second command does."""
        return self._run()

    def _run(self) -> float:
        with contextlib.ExitStack() as stack:
            seconds = ran(stack.enter_context(self._open()), self.count)
            started = time.perf_counter()
        self.closing.append(time.perf_counter() - started)
        return seconds


@benchmark("scheduler", "redun's Scheduler running trivial jobs, cold and cached, on our backend and its own")
def scheduler(settings: Settings) -> list[Row]:
    """Cold runs on new stores, then the same again on the same stores; what a job costs over no backend."""
    count, fewer = min(settings.size, JOBS), min(settings.size, PEER_JOBS)
    sides = [
        _Side("none", count, lambda: lambda: contextlib.nullcontext(Nothing())),
        _Side("dictionary", count, lambda: _same(Remembering())),
        _Side("redun", fewer, lambda: _database(settings.fresh("redun.db"))),
        _Side("ours", count, lambda: _store(settings, settings.fresh("scheduler"))),
        _Side("fsync", count, lambda: _store(settings, settings.fresh("scheduler"), durability="fsync")),
    ]
    ran(Nothing(), min(count, 20))  # what is imported and compiled once
    subjects: dict[str, Callable[[], float | None]] = {}
    for side in sides:
        subjects[f"{side.name}, cold"] = side.cold
        subjects[f"{side.name}, cached"] = side.cached
    times = interleave(subjects, settings.repeats)
    speed = {
        f"{side.name}, {run}": rate(side.count, times[f"{side.name}, {run}"])
        for side in sides
        for run in ("cold", "cached")
    }
    (closing,) = (side.closing for side in sides if side.name == "ours")
    return _rows(speed, count, closing)


def _rows(speed: dict[str, float], count: int, closing: Times) -> list[Row]:
    rows = []
    none = 1e3 / speed["none, cold"]
    for run, times_redun, most_ms in (("cold", 20, 0.35), ("cached", 10, 0.24)):
        own, peer = speed[f"ours, {run}"], speed[f"redun, {run}"]
        over = 1e3 / own - none
        rows += [
            Row(
                f"{count:,} jobs, {run}",
                own,
                "jobs/s",
                peer,
                PEER,
                f"{times_redun} times redun's",
                own >= times_redun * peer,
                {"times redun's": own / peer},
            ),
            Row(
                f"{run}: over no backend",
                over,
                "ms/job",
                none,
                f"{NO_BACKEND}, every call a miss",
                f"{most_ms} ms",
                over <= most_ms,
            ),
        ]
    hits = 1e3 / speed["dictionary, cached"]
    cold, synced = speed["ours, cold"], speed["fsync, cold"]
    return [
        *rows,
        Row("cached: over a dictionary", 1e3 / speed["ours, cached"] - hits, "ms/job", hits, DICTIONARY),
        Row("cold, durability fsync", synced, "jobs/s", cold, "without", "half", synced >= cold / 2),
        Row("cached, durability fsync", speed["fsync, cached"], "jobs/s", speed["ours, cached"], "without"),
        Row("closing afterwards: put and sealed", 1e3 * closing.median / count, "ms/job"),
    ]


def _same(backend: RedunBackend) -> Opening:
    return lambda: contextlib.nullcontext(backend)


def _database(path: Path) -> Opening:
    return lambda: theirs(path)


def _store(settings: Settings, folder: Path, **options: str) -> Opening:
    return lambda: ours(folder, settings.state(), **options)
