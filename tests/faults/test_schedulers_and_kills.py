"""Four schedulers share a store while a fifth is killed again and again: no wrong answer, no lost record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import schedulers_kit as kit

from eventstore import Severity
from eventstore.redun import EventStoreBackend

HARMLESS = {"foreign_file", "duplicate_segment"}
"""Findings that a killed process may leave: a half-written file, the same events put twice."""


def _campaign(place: Path, seconds: float) -> int:
    """Run it; returns how often a scheduler was killed."""
    (place / "files").mkdir()
    here = Path(__file__)
    paths = os.pathsep.join(map(str, here.parents[:3]))
    said, wrong = place / "out", place / "err"
    # Into files: a child that stood still would keep a pipe open, and who waits at its end waiting.
    with said.open("w") as out, wrong.open("w") as err:
        done = subprocess.run(
            [sys.executable, kit.__file__, str(place), str(seconds)],
            env=os.environ | {"PYTHONPATH": paths},
            stdout=out,
            stderr=err,
            check=False,
            timeout=seconds + 240,
        )
    assert done.returncode == 0, wrong.read_text()[-4000:]
    assert "WrongAnswerError" not in wrong.read_text()
    return int(said.read_text())


def _reports(place: Path) -> tuple[dict[str, list[Any]], int]:
    """Return what each job was when its end was reported last, and how many schedulers came to their end."""
    jobs, ended = {}, 0
    for report in sorted(place.glob("report-*")):
        for line in report.read_text().splitlines():
            found = json.loads(line)
            if found == "done":
                ended += 1
            else:
                jobs[found[0]] = found
    return jobs, ended


def _check_history(backend: EventStoreBackend, jobs: dict[str, list[Any]]) -> None:
    """Each job that was reported has its execution, its end and its call node, as they were reported."""
    lookup = backend.log.store.lookup
    for job_id, execution_id, parent_id, task_name, call_hash, was_cached in jobs.values():
        facts = lookup.job(job_id)
        assert facts is not None, f"the job {job_id} of {task_name} is lost"
        assert (facts.execution_id, facts.parent_id) == (execution_id, parent_id)
        assert facts.end_us is not None
        assert facts.end_us >= facts.start_us
        assert (facts.call_hash, facts.is_cached) == (call_hash, was_cached)
        call = lookup.call(call_hash)
        assert call is not None, f"the call of {task_name} is lost"
        assert call.task_name == task_name
        assert backend.get_value(call.value_hash)[1]
        execution = lookup.execution(execution_id)
        assert execution is not None
        if parent_id is None:
            assert execution.job_id == job_id


def _check(place: Path, kills: int) -> None:
    """Whatever was killed: the history has what was reported, verifies, and answers all from the cache."""
    jobs, ended = _reports(place)
    assert ended == 4
    assert len(jobs) > 100
    url = str(place / "store")
    # The one who opens the store takes over what those that were killed left in their journals.
    for state in ("state", "state of another machine"):
        scheduler = kit.make_scheduler(url, str(place / state))
        kit.ran.clear()
        _check_history(scheduler.backend, jobs)
        if state == "state":
            for seed in range(kit.SEEDS):
                kit.check_run(scheduler, str(place / "files"), seed)
            kit.ran.clear()
        for seed in range(kit.SEEDS):
            kit.check_run(scheduler, str(place / "files"), seed)
        assert kit.ran == []
        store = scheduler.backend.log.store
        store.seal()
        report = store.verify()
        assert report.ok, [each for each in report.findings if each.severity is Severity.ERROR]
        assert {each.code for each in report.findings} <= HARMLESS, report.findings
        scheduler.backend.close()
    assert kills > 0


def test_four_schedulers_for_a_moment(tmp_path: Path) -> None:
    """A few seconds, with a kill about twice in each."""
    _check(tmp_path, _campaign(tmp_path, 4))


@pytest.mark.soak
def test_four_schedulers_for_long(tmp_path: Path) -> None:
    """Minutes; EVENTSTORE_SOAK_SECONDS says how long."""
    seconds = float(os.environ.get("EVENTSTORE_SOAK_SECONDS", "120"))
    kills = _campaign(tmp_path, seconds)
    assert kills > seconds / 10
    _check(tmp_path, kills)
