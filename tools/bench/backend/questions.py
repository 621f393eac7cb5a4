"""Benchmark of an engine's questions, in a new process, as the history grows; beside redun's on SQLite."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from redun.backends.base import RedunBackend
from redun.task import CacheCheckValid, CacheResult, CacheScope

from tools.bench.backend.sides import PEER, ours, theirs
from tools.bench.backend.stores import History, database_of, history_of
from tools.bench.campaign import Settings, benchmark
from tools.bench.measure import Row, Times, run_child

__all__ = ["ELSEWHERE", "asked", "compared_size", "sizes"]

SIZES = (1_000, 100_000, 1_000_000)
"""Jobs in the histories that are asked."""
PEER_SIZE = 100_000
ELSEWHERE = "00000000-0000-4000-8000-000000000000"
"""An execution that has recorded nothing."""
SECONDS = 10.0
"""How long one kind of question is asked at most."""

Question = Callable[[RedunBackend], Any]
BARS = {
    "check_cache, evaluation hit": 10,
    "check_cache, call-cache hit": 100,
    "check_cache, hit within the execution": 10,
    "check_cache, miss": 10,
    "explain_cache_miss, other arguments": 100,
    "explain_cache_miss, other task": None,
    "get_value, small": 3,
    "get_value, 10 KB and more": None,
    "get_tags of one id": 10,
}
"""By which part of redun's time each question is asked."""
FRACTIONS = {3: "a third", 10: "a tenth", 100: "a hundredth"}
MOST_GROWTH = 2.0


def sizes(settings: Settings) -> list[int]:
    """The sizes of `SIZES` that are not above the one that was given, or that one alone."""
    return [size for size in SIZES if size <= settings.size] or [settings.size]


def compared_size(of: list[int]) -> int:
    """The largest of these sizes at which redun is asked, too."""
    return max((size for size in of if size <= PEER_SIZE), default=of[0])


def kinds_of_questions(questions: dict[str, list[Any]]) -> dict[str, list[tuple[Question, Any]]]:
    """Return the questions of each kind in `BARS` that there are some of, with their right answers."""
    rng = random.Random(len(questions["call"]))

    def nowhere() -> str:
        return rng.randbytes(20).hex()

    def check(
        task_hash: str,
        args_hash: str,
        eval_hash: str,
        execution_id: str = ELSEWHERE,
        check_valid: CacheCheckValid = CacheCheckValid.FULL,
    ) -> Question:
        return lambda backend: backend.check_cache(
            task_hash, args_hash, eval_hash, execution_id, current, CacheScope.BACKEND, check_valid
        )[2]

    def explain(task_hash: str, name: str, namespace: str, args_hash: str) -> Question:
        full_name = f"{namespace}.{name}" if namespace else name
        task: Any = SimpleNamespace(hash=task_hash, name=name, namespace=namespace, fullname=full_name)
        return lambda backend: (backend.explain_cache_miss(task, args_hash) or {}).get("reason")

    def value(value_hash: str) -> Question:
        return lambda backend: backend.get_value(value_hash)[1]

    def tags(entity_id: str) -> Question:
        return lambda backend: list(backend.get_tags([entity_id]))

    names = {task_hash: (name, namespace) for task_hash, name, namespace in questions["tasks"]}
    current = set(names)
    calls = questions["call"]
    kinds: dict[str, list[tuple[Question, Any]]] = {
        "check_cache, evaluation hit": [
            (check(*each), CacheResult.SINGLE) for each in questions["evaluation"]
        ],
        "check_cache, call-cache hit": [
            (check(task, args, nowhere(), check_valid=CacheCheckValid.SHALLOW), CacheResult.ULTIMATE)
            for task, args, _ in calls
        ],
        "check_cache, hit within the execution": [
            (check(task, args, nowhere(), execution), CacheResult.CSE) for task, args, execution in calls
        ],
        "check_cache, miss": [(check(task, nowhere(), nowhere()), CacheResult.MISS) for task, _, _ in calls],
        "explain_cache_miss, other arguments": [
            (explain(task, *names[task], nowhere()), "new_args") for task, _, _ in calls
        ],
        "explain_cache_miss, other task": [
            (explain(nowhere(), *names[task], args), "new_task") for task, args, _ in calls
        ],
        "get_value, small": [(value(each), True) for each in questions["small"]],
        "get_value, 10 KB and more": [(value(each), True) for each in questions["long"]],
        "get_tags of one id": [(tags(each), [each]) for each in questions["tags"]],
    }
    return {name: some for name, some in kinds.items() if some}


def asked(side: str, folder: str, state: str, questions: str) -> dict[str, list[float]]:
    """Open a side and ask; returns p50 and p99 of each kind of question, in microseconds."""
    content = json.loads(Path(questions).read_text())
    with theirs(folder) if side == "redun" else ours(folder, state) as backend:
        kinds = kinds_of_questions(content)
        for (question, right), *_ in kinds.values():
            assert question(backend) == right, "the first of each kind opens what the others find open"
        return {name: _percentiles(backend, some[1:] or some) for name, some in kinds.items()}


def _percentiles(backend: RedunBackend, questions: Iterable[tuple[Question, Any]]) -> list[float]:
    clock = time.perf_counter
    spent: list[float] = []
    until = clock() + SECONDS
    for question, right in questions:
        started = clock()
        answer = question(backend)
        spent.append(clock() - started)
        assert answer == right, "the answer is right"
        if started > until:
            break
    spent.sort()
    return [1e6 * statistics.median(spent), 1e6 * spent[len(spent) * 99 // 100]]


@benchmark(
    "questions", "an engine's questions in a new process, through redun's contract; --size counts jobs"
)
def questions(settings: Settings) -> list[Row]:
    """Caches, explanations, values and tags at 1,000, 100,000 and 1,000,000 jobs, up to the size."""
    histories = [history_of(settings, size) for size in sizes(settings)]
    (compared,) = (each for each in histories if each.jobs == compared_size(sizes(settings)))
    database = database_of(settings, compared)
    found: dict[tuple[str, int], list[dict[str, list[float]]]] = {}
    for _ in range(settings.repeats):
        for each in histories:
            found.setdefault(("ours", each.jobs), []).append(_in_child("ours", each.folder, each))
        found.setdefault(("redun", compared.jobs), []).append(_in_child("redun", database, compared))
    asked_of_all = [name for name in BARS if all(name in each[0] for each in found.values())]
    return [row for name in asked_of_all for row in _rows(name, histories, compared, found)]


def _in_child(side: str, folder: Path, history: History) -> dict[str, list[float]]:
    result: dict[str, list[float]] = run_child(
        "tools.bench.backend.questions:asked",
        side=side,
        folder=str(folder),
        state=str(history.state),
        questions=str(history.questions),
    ).result
    return result


def _rows(
    name: str,
    histories: list[History],
    compared: History,
    found: dict[tuple[str, int], list[dict[str, list[float]]]],
) -> list[Row]:
    def middle(side: str, jobs: int, place: int) -> float:
        return Times(answers[name][place] for answers in found[side, jobs]).median

    peer = middle("redun", compared.jobs, 0)
    part = BARS[name] if compared.jobs == PEER_SIZE else None
    rows = []
    for each in histories:
        own, is_compared = middle("ours", each.jobs, 0), each is compared
        rows.append(
            Row(
                f"{name}, {each.name}: p50",
                own,
                "us",
                peer if is_compared else None,
                PEER if is_compared else "",
                f"{FRACTIONS[part]} of redun's" if part and is_compared else "",
                own * part <= peer if part and is_compared else None,
            )
        )
    slow = middle("ours", compared.jobs, 1)
    rows.append(Row(f"{compared.name}: p99", slow, "us", middle("redun", compared.jobs, 1), PEER))
    if len(histories) > 1:
        first, last = histories[0], histories[-1]
        if last is not compared:
            rows.append(Row(f"{last.name}: p99", middle("ours", last.jobs, 1), "us"))
        growth = middle("ours", last.jobs, 0) / middle("ours", first.jobs, 0)
        what = f"p50 at {last.name}, of that at {first.jobs:,}"
        rows.append(Row(what, growth, "times", bar=f"{MOST_GROWTH:.0f} times", holds=growth <= MOST_GROWTH))
    return rows
