"""Executions and jobs: what is pending, what a start and an end say, and the states that follow."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from backend_kit import START, Engine, Failure, kinds, one_record, open_backend, some_hash, task
from store_kit import memory_url, open_store

from eventstore.backend import JobDescription, LogBackend, jobs
from eventstore.errors import InvalidEventError, NotFoundError
from eventstore.workflow import ErrorValue


def test_execution_is_recorded_with_its_root_job(backend: LogBackend, engine: Engine) -> None:
    """Until the root job starts, an execution is pending in memory and nobody else can see it."""
    backend.record_execution("run", ["redun", "run", "flow.py"])
    assert backend.get_execution("run") is None
    assert kinds(backend) == []
    backend.record_job_start(JobDescription("root", "run", None, task()))
    execution = backend.get_execution("run")
    assert execution is not None
    assert (execution.job_id, json.loads(execution.args)) == ("root", ["redun", "run", "flow.py"])
    assert kinds(backend)[-2:] == ["execution.started", "job.started"]


def test_execution_without_recorded_root_job_leaves_nothing_but_its_tags(backend: LogBackend) -> None:
    """Tags of an execution are recorded at once; the execution itself never is without a root job."""
    backend.record_execution("run", [])
    backend.record_heartbeat("run")
    backend.record_tags("Execution", "run", [("project", "apples")])
    assert kinds(backend) == ["tags.recorded"]
    assert [tag.key for tag in backend.get_tags(["run"])["run"]] == ["project"]


def test_execution_takes_its_pending_heartbeat_along(backend: LogBackend) -> None:
    """A heartbeat of a pending execution is recorded with it, and a later one replaces it."""
    backend.record_execution("run", [])
    backend.record_heartbeat("run", now=START)
    backend.record_job_start(JobDescription("root", "run", None, task()))
    first = backend.get_execution("run")
    backend.record_heartbeat("run", now=START + dt.timedelta(minutes=1))
    second = backend.get_execution("run")
    assert first is not None
    assert second is not None
    assert first.updated_us == int(START.timestamp() * 1e6)
    assert second.updated_us == first.updated_us + 60_000_000


def test_pending_executions_are_bounded(backend: LogBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executions that never get a root job do not fill the memory: the oldest are dropped."""
    monkeypatch.setattr(jobs, "_MOST_PENDING", 2)
    for number in range(4):
        backend.record_execution(str(number), [])
    backend.record_job_start(JobDescription("root", "2", None, task()))
    with pytest.raises(NotFoundError):
        backend.record_job_start(JobDescription("other", "1", None, task()))


def test_threads_record_side_by_side(backend: LogBackend, engine: Engine) -> None:
    """Threads may record and ask at once: all that was recorded is there, once."""
    engine.start()

    def work(number: int) -> int:
        done = engine.call(number, args=[number % 3])
        backend.record_tags("Job", done.job.job_id, [("number", number)])
        return len(backend.get_tags([done.job.job_id]))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(40))) == 40
    assert kinds(backend).count("job.ended") == 40
    assert kinds(backend).count("value.recorded") == 41  # 40 numbers, of which 3 are arguments, and the task


def test_heartbeat_of_unknown_execution_is_nothing(backend: LogBackend) -> None:
    """A heartbeat of an execution that nobody knows records nothing."""
    backend.record_heartbeat("nobody")
    assert kinds(backend) == []


@pytest.mark.parametrize("call", ["record_job_start", "record_job_end"])
def test_root_job_needs_its_execution(backend: LogBackend, call: str) -> None:
    """A root job of an execution that was not begun here is refused, and nothing of it is recorded."""
    with pytest.raises(NotFoundError, match="none that was begun here") as caught:
        getattr(backend, call)(JobDescription("root", "run", None, task()))
    assert caught.value.code == "unknown_execution"
    assert kinds(backend) == []


def test_root_job_starts_once(backend: LogBackend, engine: Engine) -> None:
    """A second root job of one execution is refused."""
    root = engine.start()
    with pytest.raises(NotFoundError, match="has its root job already") as caught:
        backend.record_job_start(root)
    assert caught.value.code == "unknown_execution"


def test_job_may_belong_to_an_execution_recorded_nowhere(backend: LogBackend) -> None:
    """A job with a parent needs no execution, as in a run that another process extends."""
    job = JobDescription("job", "elsewhere", "parent", task())
    backend.record_job_start(job)
    found = backend.get_job("job")
    assert found is not None
    assert (found.execution_id, found.parent_id, found.status) == ("elsewhere", "parent", None)
    assert backend.get_execution("elsewhere") is None


def test_unknown_job_is_none(backend: LogBackend) -> None:
    """A job that nobody recorded is an empty answer."""
    assert backend.get_job("nobody") is None


def test_start_records_the_task_once(backend: LogBackend, engine: Engine) -> None:
    """The first job of a task records it, as a task and as a value; the next jobs do not."""
    engine.start(task("main"))
    for _ in range(3):
        backend.record_job_start(engine.job(task("count")))
    assert kinds(backend).count("task.recorded") == 2
    assert kinds(backend).count("value.recorded") == 2
    assert one_record(backend, task("count").task_hash)["subtype"] == {
        "_type": "Task",
        "name": "count",
        "namespace": "lab",
        "source": "def count(): ...",
    }


def test_end_without_start_is_both(backend: LogBackend) -> None:
    """A job that never started is recorded by its end, which is then also its start, with its execution."""
    backend.record_execution("run", [])
    root = JobDescription("root", "run", None, task())
    backend.record_job_end(root, now=START)
    record = one_record(backend, "root")
    assert record["start_time"] == record["end_time"] == "2026-01-31 12:00:00+00:00"
    execution = backend.get_execution("run")
    assert execution is not None
    assert execution.status == "DONE"
    assert one_record(backend, task().task_hash)["subtype"]["_type"] == "Task"


def test_later_end_replaces(backend: LogBackend, engine: Engine) -> None:
    """Ending a job again replaces time, call and state; the start stays."""
    engine.start()
    done = engine.call(1, args=[1])
    before = backend.get_job(done.job.job_id)
    again = done.job._replace(is_cached=True)
    backend.record_job_end(again, now=START + dt.timedelta(days=1))
    after = backend.get_job(done.job.job_id)
    assert before is not None
    assert after is not None
    assert (before.status, after.status) == ("DONE", "CACHED")
    assert after.start_us == before.start_us
    assert after.end_us == int((START + dt.timedelta(days=1)).timestamp() * 1e6)


def test_state_of_a_job_follows_from_its_end(backend: LogBackend, engine: Engine) -> None:
    """No end is running; else an error as the call's result is failed, then cached, then done."""
    engine.start()
    running = engine.job(task())
    backend.record_job_start(running)
    done = engine.call(1, args=[1])
    failed = engine.call(Failure("broken"), args=[2])
    replayed = engine.job(task())._replace(is_cached=True, call_hash=failed.call_hash)
    backend.record_job_end(replayed)
    cached = engine.job(task())._replace(is_cached=True, call_hash=done.call_hash)
    backend.record_job_end(cached)
    unnamed = engine.job(task())
    backend.record_job_end(unnamed, status="FAILED")
    asked = [running, done.job, failed.job, replayed, cached, unnamed]
    states = [one_record(backend, job.job_id)["status"] for job in asked]
    assert states == ["RUNNING", "DONE", "FAILED", "FAILED", "CACHED", "FAILED"]


def test_failures_of_this_package_are_known_by_default() -> None:
    """What a task of plain Python leaves when it fails makes a job failed without any setting."""
    backend = LogBackend(open_store(memory_url()))
    error = ErrorValue.of(ValueError("broken"), None)
    failed = Engine(backend).call(error, of=task()._replace(value=None), evaluates=False)
    found = backend.get_job(failed.job.job_id)
    assert found is not None
    assert found.status == "FAILED"
    backend.close()


def test_failure_is_seen_without_being_told() -> None:
    """A call that another process recorded as failed makes a job failed, though nothing here knows of it."""
    first = open_backend()
    failed = Engine(first).call(Failure("broken"))
    second = open_backend(first.store)
    job = JobDescription("late", "run", "parent", task(), call_hash=failed.call_hash)
    second.record_job_end(job)
    found = second.get_job("late")
    assert found is not None
    assert found.status == "FAILED"
    first.close()


@pytest.mark.parametrize(
    ("is_cached", "result", "expected"),
    [(None, None, "RUNNING"), (False, 1, "DONE"), (True, 1, "DONE"), (False, Failure("x"), "FAILED")],
)
def test_state_of_an_execution_is_that_of_its_root_job(
    backend: LogBackend, engine: Engine, is_cached: bool | None, result: object, expected: str
) -> None:
    """A cached root job makes its execution done; else both are in the same state."""
    root = engine.start()
    if is_cached is not None:
        call = engine.call(result).call_hash
        backend.record_job_end(root._replace(is_cached=is_cached, call_hash=call))
    execution = backend.get_execution(engine.execution_id)
    assert execution is not None
    assert execution.status == expected


def test_execution_without_its_root_job_has_failed(backend: LogBackend) -> None:
    """An imported execution whose root job is not recorded counts as failed."""
    record = {"_version": 1, "_type": "Execution", "id": "run", "args": "[]", "job_id": "gone"}
    assert backend.put_records([record]) == 1
    execution = backend.get_execution("run")
    assert execution is not None
    assert execution.status == "FAILED"


def test_child_jobs_are_in_order_of_start(backend: LogBackend, engine: Engine) -> None:
    """The children of a job are listed by the time that they started, whatever was recorded first."""
    root = engine.start()
    late, early = engine.job(task()), engine.job(task())
    backend.record_job_start(late, now=START + dt.timedelta(hours=2))
    backend.record_job_start(early, now=START + dt.timedelta(hours=1))
    assert one_record(backend, root.job_id)["children"] == [early.job_id, late.job_id]


@pytest.mark.parametrize("call", ["record_job_start", "record_job_end", "record_heartbeat"])
def test_naive_times_are_refused(backend: LogBackend, engine: Engine, call: str) -> None:
    """A time without a timezone is an error that says so."""
    root = engine.start()
    what = root.execution_id if call == "record_heartbeat" else engine.job(task())
    with pytest.raises(InvalidEventError) as caught:
        getattr(backend, call)(what, now=dt.datetime(2026, 1, 31))
    assert caught.value.code == "naive_time"


def test_times_of_other_zones_are_the_same_moments(backend: LogBackend, engine: Engine) -> None:
    """A time is kept as UTC, whatever zone it was given in."""
    engine.start()
    job = engine.job(task())
    backend.record_job_start(job, now=START.astimezone(dt.timezone(dt.timedelta(hours=5))))
    assert one_record(backend, job.job_id)["start_time"] == "2026-01-31 12:00:00+00:00"


@pytest.mark.parametrize(
    ("bad", "code"), [("no hash", "hash_length"), ("Z" * 40, "bad_hash"), ("/" * 40, "path_as_hash")]
)
def test_hashes_that_are_none_are_refused(backend: LogBackend, engine: Engine, bad: str, code: str) -> None:
    """What is no hash is refused before anything is stored, and the job can be ended rightly after."""
    engine.start()
    job = engine.job(task())
    backend.record_job_start(job)
    before = kinds(backend)
    with pytest.raises(InvalidEventError) as caught:
        backend.record_job_end(job._replace(call_hash=bad))
    assert caught.value.code == code
    assert kinds(backend) == before
    backend.record_job_end(job)
    assert kinds(backend) == [*before, "job.ended"]


def test_arguments_of_an_execution_are_json(backend: LogBackend) -> None:
    """Arguments that JSON cannot say are refused when the execution begins."""
    with pytest.raises(InvalidEventError) as caught:
        backend.record_execution("run", [object()])
    assert caught.value.code == "bad_args"


def test_load_is_harmless_when_repeated(backend: LogBackend, engine: Engine) -> None:
    """A second load keeps what is pending and what is recorded."""
    backend.load()
    backend.record_execution("run", [])
    backend.load()
    backend.record_job_start(JobDescription("root", "run", None, task()))
    assert backend.get_job("root") is not None
    backend.close()
    backend.close()


def test_stores_in_memory_are_separate(backend: LogBackend) -> None:
    """Two backends in memory share nothing."""
    other = open_backend()
    value_hash = backend.record_value("here")
    assert other.get_value(value_hash) == (None, False)
    other.close()


_READER = """
import sys
from eventstore import EventStore
from eventstore.backend import LogBackend
folder, state, job_id = sys.argv[1:]
backend = LogBackend(EventStore.open(folder, state_dir=state))
job = backend.get_job(job_id)
print(job.execution_id, job.parent_id, job.task_hash)
backend.close()
"""


def test_another_process_sees_a_job_that_has_started(tmp_path: Path) -> None:
    """A job can be asked for by a process of its own as soon as the recording call has returned."""
    backend = open_backend(open_store(tmp_path / "store"))
    root = Engine(backend).start()
    command = [sys.executable, "-c", _READER, tmp_path / "store", tmp_path / "store-state", root.job_id]
    asked = subprocess.run(command, capture_output=True, text=True, check=True)
    assert asked.stdout.split() == [root.execution_id, "None", root.task.task_hash]
    backend.close()


def test_two_backends_see_each_other_at_once(tmp_path: Path) -> None:
    """Two open stores on one folder answer with what either was told, before anything is sealed."""
    place = tmp_path / "store"
    first, second = open_backend(open_store(place)), open_backend(open_store(place))
    root = Engine(first).start()
    assert second.get_job(root.job_id) is not None
    value_hash = second.record_value([1, 2])
    assert first.get_value(value_hash) == ([1, 2], True)
    first.close()
    second.close()


def test_asking_for_a_job_waits_for_other_machines() -> None:
    """`get_job` asks again until the job is seen, at most as long as it was told."""
    naps: list[float] = []
    waiting = open_backend(job_wait_seconds=1.0, sleep=naps.append)
    assert waiting.get_job(some_hash("never")) is None
    assert 1.0 <= sum(naps) <= 1.3

    def appear(seconds: float) -> None:
        naps.append(seconds)
        other.record_job_start(JobDescription("late", "run", "parent", task()))

    naps.clear()
    other = open_backend(waiting.store)
    patient = open_backend(waiting.store, job_wait_seconds=60.0, sleep=appear)
    found = patient.get_job("late")
    assert found is not None
    assert len(naps) == 1
    waiting.close()
