"""A command line to call, and small stores to call it on."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from eventstore import EventStore, ExecutionStarted, JobEnded, JobStarted, JobStatus, TaskRecorded
from eventstore.cli.app import app

TASK = "0123456789" * 4

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the program as a shell would, without a terminal and without a store in the environment."""
    monkeypatch.delenv("EVENTSTORE_URL", raising=False)
    monkeypatch.delenv("EVENTSTORE_DEBUG", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    runner = CliRunner()

    def call(*args: str | Path, **options: Any) -> Result:
        return runner.invoke(app, [str(arg) for arg in args], **options)

    return call


def objects(result: Result) -> list[dict[str, Any]]:
    """The JSON lines on stdout."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def lines(*events: dict[str, Any]) -> str:
    """JSON lines for stdin."""
    return "".join(f"{json.dumps(event)}\n" for event in events)


def at(second: int) -> dt.datetime:
    """A moment on 2026-03-01, so many seconds after noon."""
    return dt.datetime(2026, 3, 1, 12, 0, second, tzinfo=dt.UTC)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with six sealed events at the seconds 0 to 3: a task, an execution, two jobs, one failed."""
    url = tmp_path / "store"
    with EventStore.open(url, create=True, actor="ann", flush_seconds=None) as opened:
        opened.append(
            TaskRecorded(task_hash=TASK, task_name="measure", task_namespace="lab", occurred_at=at(0)),
            ExecutionStarted(execution_id="exec-1", job_id="job-1", occurred_at=at(0)),
        )
        for second, name, status in ((1, "job-1", JobStatus.DONE), (2, "job-2", JobStatus.FAILED)):
            job = {"job_id": name, "execution_id": "exec-1", "task_hash": TASK}
            opened.append(
                JobStarted(**job, occurred_at=at(second)),
                JobEnded(**job, status=status, occurred_at=at(second + 1)),
            )
    return url


def damage(store: Path) -> str:
    """Change one byte in the middle of the first segment, and return its path in the store."""
    path = min((store / "segments").rglob("*.parquet"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 0x40
    path.write_bytes(bytes(raw))
    return path.relative_to(store).as_posix()
