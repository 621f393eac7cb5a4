"""Executions and jobs: an execution waits in memory until its root job is recorded, and goes with it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from eventstore.backend.descriptions import ExecutionState, JobDescription
from eventstore.backend.recorder import Batch, Recorder
from eventstore.backend.stated import job_ended, job_started
from eventstore.errors import InvalidEventError, NotFoundError
from eventstore.events import ExecutionHeartbeat, ExecutionStarted, JobStatus

__all__ = ["Jobs"]

_MOST_PENDING = 10_000
"""Executions whose root job is never recorded stay pending: of more than these the oldest is dropped."""


class _Pending:
    """An execution without a recorded root job."""

    __slots__ = ("args", "heartbeat", "started_at")

    def __init__(self, args: str, started_at: dt.datetime) -> None:
        self.args = args
        self.started_at = started_at
        self.heartbeat: dt.datetime | None = None


class Jobs:
    """Records executions and jobs, and says how they stand.

    Parameters
    ----------
    recorder
        Where events go.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pending: dict[str, _Pending] = {}

    def begin_execution(self, execution_id: str, args: Sequence[Any], now: dt.datetime) -> None:
        """Remember an execution until its root job is recorded."""
        try:
            text = json.dumps(list(args))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidEventError(
                f"arguments that JSON can say were expected for the execution {execution_id}, found "
                f"{type(args).__name__}: {error}; give them as text",
                code="bad_args",
                execution_id=execution_id,
            ) from None
        self._pending[execution_id] = _Pending(text, now)
        if len(self._pending) > _MOST_PENDING:
            del self._pending[next(iter(self._pending))]

    def heartbeat(self, execution_id: str, now: dt.datetime) -> None:
        """Record that an execution is alive, or remember it with one that is pending."""
        pending = self._pending.get(execution_id)
        if pending is not None:
            pending.heartbeat = now
        elif self._recorder.lookup.execution(execution_id) is not None:
            batch = self._recorder.batch()
            batch.add(ExecutionHeartbeat(execution_id=execution_id, occurred_at=now))
            batch.append()

    def start(self, job: JobDescription, now: dt.datetime) -> None:
        """Record the start of a job."""
        batch = self._recorder.batch()
        root = job.parent_id is None
        pending = self._root_of(job) if root else None
        batch.task(job.task)
        if pending is not None:
            self._state_execution(batch, job, pending)
        batch.add(job_started(job.job_id, job.execution_id, job.parent_id, job.task.task_hash, now))
        batch.note(self._recorder.known.jobs, job.job_id)
        batch.append()
        if root:
            del self._pending[job.execution_id]

    def end(self, job: JobDescription, now: dt.datetime, status: JobStatus | str | None) -> None:
        """Record the end of a job, and all that its start would have said if there was none."""
        recorder = self._recorder
        batch = recorder.batch()
        pending = None
        has_started = recorder.known.jobs.get(job.job_id) or recorder.lookup.job(job.job_id) is not None
        if not has_started:
            pending = self._root_of(job) if job.parent_id is None else None
            batch.task(job.task)
            if pending is not None:
                self._state_execution(batch, job, pending)
        batch.add(
            job_ended(
                job.job_id,
                job.execution_id,
                job.parent_id,
                job.task.task_hash,
                now,
                self._status(job, status),
                cached=job.is_cached,
                call_hash=job.call_hash,
            )
        )
        batch.note(recorder.known.jobs, job.job_id)
        batch.append()
        if pending is not None:
            del self._pending[job.execution_id]

    def execution(self, execution_id: str) -> ExecutionState | None:
        """Return a recorded execution; its status follows from its root job."""
        facts = self._recorder.lookup.execution(execution_id)
        if facts is None:
            return None
        root = self._recorder.job(facts.job_id) if facts.job_id is not None else None
        if root is None:
            status = "FAILED"
        elif root.status is None:
            status = "RUNNING"
        else:
            status = "DONE" if root.status == "CACHED" else root.status
        return ExecutionState(
            execution_id, facts.job_id, facts.args, facts.start_us, facts.updated_us, status
        )

    def _status(self, job: JobDescription, status: JobStatus | str | None) -> JobStatus:
        has_failed = status == JobStatus.FAILED
        if not has_failed and job.call_hash is not None:
            has_failed = bool(self._recorder.has_failed(job.call_hash))
        if has_failed:
            return JobStatus.FAILED
        return JobStatus.CACHED if job.is_cached else JobStatus.DONE

    def _root_of(self, job: JobDescription) -> _Pending:
        pending = self._pending.get(job.execution_id)
        if pending is not None:
            return pending
        known = self._recorder.lookup.execution(job.execution_id) is not None
        found = "one that has its root job already" if known else "none that was begun here"
        raise NotFoundError(
            f"the execution {job.execution_id} of the root job {job.job_id} was expected to be waiting for "
            f"it, found {found}; call record_execution first, once for each root job. Nothing was stored",
            code="unknown_execution",
            execution_id=job.execution_id,
            job_id=job.job_id,
        )

    @staticmethod
    def _state_execution(batch: Batch, job: JobDescription, pending: _Pending) -> None:
        batch.add(
            ExecutionStarted(
                execution_id=job.execution_id,
                job_id=job.job_id,
                args=pending.args,
                occurred_at=pending.started_at,
            )
        )
        if pending.heartbeat is not None:
            batch.add(ExecutionHeartbeat(execution_id=job.execution_id, occurred_at=pending.heartbeat))
