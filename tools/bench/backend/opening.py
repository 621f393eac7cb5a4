"""Benchmark of a long history: opened in a new process, its index made; and of memory while recording."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

from redun.task import CacheCheckValid, CacheResult, CacheScope

from eventstore.index.families import COLUMNS, KINDS
from eventstore.store import EventStore
from tools.bench.backend.calls import calls, recorded
from tools.bench.backend.questions import ELSEWHERE, compared_size, sizes
from tools.bench.backend.sides import PEER, ours, theirs
from tools.bench.backend.stores import database_of, history_of
from tools.bench.campaign import Settings, benchmark
from tools.bench.measure import Child, Row, Times, interleave, own_bytes, run_child

__all__: list[str] = []

MB = 1_000_000
RECORDED = (20_000, 100_000)
"""Jobs up to which a recording process' memory is looked at: first so many that its index came to disk
several times, then five times as many."""
_AT_ONCE = 1_000
MOST_SECONDS = 0.5
MOST_MB = 300
MOST_GROWTH_MB = 256
IMPORTS = "import redun, redun.backends.db"
ALONE = """
import sys
from eventstore import EventStore
folder, state, eval_hash = sys.argv[1:]
with EventStore.open(folder, read_only=True, state_dir=state) as store:
    assert store.lookup.evaluation(eval_hash) is not None
"""
"""A whole program of ours, without redun."""


def answered(side: str, folder: str, state: str, questions: str) -> float:
    """Open a side, ask its cache, and return the seconds of both; runs in a child, after its imports."""
    task_hash, args_hash, eval_hash = json.loads(Path(questions).read_text())["evaluation"][0]
    started = time.perf_counter()
    with theirs(folder) if side == "redun" else ours(folder, state) as backend:
        _, _, found = backend.check_cache(
            task_hash,
            args_hash,
            eval_hash,
            ELSEWHERE,
            {task_hash},
            CacheScope.BACKEND,
            CacheCheckValid.FULL,
        )
        seconds = time.perf_counter() - started
    assert found is CacheResult.SINGLE, "the answer is right"
    return seconds


def passed_over(folder: str, state: str) -> int:
    """Read what an index is made of, and make none; returns events."""
    with EventStore.open(folder, read_only=True, state_dir=state) as store:
        return sum(batch.num_rows for batch in store.read(kinds=KINDS, columns=COLUMNS))


def remembered(folder: str, state: str, files: str, seed: int, count: int) -> int:
    """Record so many jobs, some after others; returns the most memory of its own that this process had.

    Pages of the index that it maps are not counted: the kernel takes them back when it needs them.
    """
    with ours(folder, state) as backend:
        jobs = calls(seed, Path(files))
        most = own_bytes()
        for _ in range(0, count, _AT_ONCE):
            recorded(backend, list(islice(jobs, min(count, _AT_ONCE))))
            most = max(most, own_bytes())
    return most


@benchmark("opening", "a long history opened in a new process, its index made, memory; --size counts jobs")
def opening(settings: Settings) -> list[Row]:
    """Open to the first answer, the index from nothing, and recording 20,000 and 100,000 jobs."""
    return [*_opened(settings), *_recording(settings)]


def _opened(settings: Settings) -> list[Row]:
    history = history_of(settings, sizes(settings)[-1])
    compared = history_of(settings, compared_size(sizes(settings)))
    database = database_of(settings, compared)
    given = {"state": str(history.state), "questions": str(history.questions)}
    eval_hash = json.loads(history.questions.read_text())["evaluation"][0][2]
    children: dict[str, list[Child]] = {"ours": [], "redun": [], "index": [], "bare": []}

    def child(name: str, function: str, **arguments: Any) -> None:
        children[name].append(run_child(f"tools.bench.backend.opening:{function}", **arguments))

    times = interleave(
        {
            "ours": lambda: child("ours", "answered", side="ours", folder=str(history.folder), **given),
            "redun": lambda: child(
                "redun",
                "answered",
                side="redun",
                folder=str(database),
                state="",
                questions=str(compared.questions),
            ),
            "alone": lambda: _started(ALONE, str(history.folder), str(history.state), eval_hash),
            "imports": lambda: _started(IMPORTS),
            "index": lambda: child(
                "index",
                "answered",
                side="ours",
                folder=str(history.folder),
                **{**given, "state": str(settings.fresh("state"))},
            ),
            "bare": lambda: child(
                "bare", "passed_over", folder=str(history.folder), state=str(history.state)
            ),
        },
        settings.repeats,
    )

    def seconds(name: str) -> float:
        return Times(each.result for each in children[name]).median

    def peak(name: str) -> float:
        return Times(each.peak_bytes / MB for each in children[name]).median

    own, memory, jobs = seconds("ours"), peak("ours"), history.facts["jobs"]
    alone = times["alone"].median
    peer = f"{PEER}, {compared.name}"
    built = seconds("index")
    bare = Times(each.seconds for each in children["bare"]).median
    return [
        Row(
            f"{jobs:,} jobs, open to the first answer",
            1e3 * own,
            "ms",
            1e3 * seconds("redun"),
            peer,
            f"{MOST_SECONDS} s",
            own <= MOST_SECONDS,
        ),
        Row(
            "a whole process without redun, from Python's start to its end",
            1e3 * alone,
            "ms",
            bar=f"{MOST_SECONDS} s",
            holds=alone <= MOST_SECONDS,
        ),
        Row(
            "a whole process with redun and what measures",
            1e3 * times["ours"].median,
            "ms",
            1e3 * times["imports"].median,
            "a process that imports redun",
        ),
        Row("its peak memory", memory, "MB", peak("redun"), peer, f"{MOST_MB} MB", memory <= MOST_MB),
        Row("the index from nothing", built, "s", bare, "a pass over the same columns"),
        Row("its peak memory", peak("index"), "MB", peak("bare"), "a pass over the same columns"),
    ]


def _started(program: str, *arguments: str) -> None:
    """Run a program in a new process, its modules compiled before, as those of an installed package are."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, env=environment)


def _recording(settings: Settings) -> list[Row]:
    def child(count: int) -> Child:
        return run_child(
            "tools.bench.backend.opening:remembered",
            folder=str(settings.fresh("recording")),
            state=str(settings.state()),
            files=str(settings.fresh("files")),
            seed=settings.seed,
            count=count,
        )

    idle = child(0).result / MB
    first = 0.0
    rows = []
    for count in dict.fromkeys(min(each, settings.size) for each in RECORDED):
        done = child(count)
        peak = done.result / MB
        bar = ""
        if first:
            bar = f"{MOST_GROWTH_MB} MB over {RECORDED[0]:,} jobs"
        rows.append(
            Row(
                f"peak memory of its own, recording {count:,} jobs",
                peak,
                "MB",
                idle,
                "a process with a backend",
                bar,
                peak <= first + MOST_GROWTH_MB if bar else None,
                {"seconds": done.seconds, "with mapped files": done.peak_bytes / MB},
            )
        )
        first = first or peak
    return rows
