"""Benchmarks of redun's backend: both sides are told and asked the same, and answers are checked."""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from redun.backends.db import ArgumentResult, CallNode, Evaluation, Execution, File, Job, Tag, Value
from redun.task import CacheResult

from tools.bench.backend.calls import backend_calls, calls, recorded
from tools.bench.backend.questions import BARS, asked, compared_size, kinds_of_questions, sizes
from tools.bench.backend.scheduler import ran, scheduler
from tools.bench.backend.sides import Nothing, Remembering, ours, theirs
from tools.bench.backend.stores import database_of, history_of
from tools.bench.campaign import Settings


def test_both_sides_record_the_same(tmp_path: Path) -> None:
    """The calls of the jobs leave equal tables in redun's database and in that of the store's mirror."""
    jobs = list(islice(calls(1, tmp_path / "files"), 52))
    with ours(tmp_path / "store", tmp_path / "state") as own, theirs(tmp_path / "redun.db") as peer:
        recorded(own, jobs)
        recorded(peer, jobs)
        for table in (ArgumentResult, CallNode, Evaluation, Execution, File, Job, Tag, Value):
            counts = [side.session.query(table).count() for side in (own, peer)]  # type: ignore[union-attr]
            assert counts[0] == counts[1] > 0, table.__name__


def test_a_scheduler_runs_without_a_backend() -> None:
    """What costs nothing works: each call runs again, or is answered from a dictionary."""
    assert ran(Nothing(), 3) > 0
    remembering = Remembering()
    ran(remembering, 3)
    found = []
    check = remembering.check_cache

    def noting(*args: Any, **kwargs: Any) -> Any:
        found.append(check(*args, **kwargs)[2])
        return check(*args, **kwargs)

    remembering.check_cache = noting  # type: ignore[method-assign]
    ran(remembering, 3)
    assert set(found) == {CacheResult.SINGLE}


@pytest.mark.parametrize("run", [scheduler, backend_calls])
def test_a_small_run_says_how_both_sides_do(run: Any, tmp_path: Path) -> None:
    """A run of few jobs fills every row, and that with redun's speed says its bar."""
    rows = run(Settings(6, 1, tmp_path))
    assert rows[0].bar.endswith("times redun's")
    assert rows[0].limit > 0
    assert all(math.isfinite(row.ours) for row in rows)


def test_questions_have_the_right_answers(tmp_path: Path) -> None:
    """Each kind of question is asked, and answered as it should be, by a store and by redun's database."""
    settings = Settings(150, 1, tmp_path)
    history = history_of(settings, *sizes(settings))
    questions = json.loads(history.questions.read_text())
    kinds = kinds_of_questions(questions)
    assert kinds.keys() | {"get_value, 10 KB and more"} == BARS.keys()
    database = database_of(settings, history)
    for side, folder in (("ours", history.folder), ("redun", database)):
        found = asked(side, str(folder), str(history.state), str(history.questions))
        assert all(0 < middle <= slow for middle, slow in found.values())


def test_sizes_go_up_to_the_one_that_is_given(tmp_path: Path) -> None:
    """A small size stands alone; redun is asked at the largest that is not above 100,000 jobs."""
    assert sizes(Settings(40, 1, tmp_path)) == [40]
    assert sizes(Settings(200_000, 1, tmp_path)) == [1_000, 100_000]
    assert compared_size([1_000, 100_000, 1_000_000]) == 100_000
