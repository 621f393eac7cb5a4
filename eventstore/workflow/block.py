"""Explicit jobs: a piece of a program under a name, as a ``with`` block."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Token
from types import TracebackType
from typing import Any, Self

from eventstore.errors import StateError
from eventstore.workflow.arguments import Arguments, Given
from eventstore.workflow.call import end_job, record_failure
from eventstore.workflow.context import enter, leave
from eventstore.workflow.job import Job
from eventstore.workflow.recording import Batch

__all__ = ["JobBlock"]


class JobBlock:
    """A job around the body of a ``with``; made by `Execution.job`. It is recorded and never cached.

    An exception that leaves the block makes the job failed, and goes on.
    """

    def __init__(self, job: Job, given: Iterable[Given] = ()) -> None:
        self._job = job
        self._given = list(given)
        self._value: Any = None
        self._token: Token[Job | None] | None = None
        self._state = "new"

    @property
    def id(self) -> str:
        """The job's id, a UUID in text."""
        return self._job.id

    def __enter__(self) -> Self:
        self.begin(self._job.run.recorder.batch())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    def begin(self, batch: Batch) -> None:
        """Append `batch`, the task and the job's start as one, and make this the current job."""
        self._expect("new")
        batch.task(self._job.identity)
        batch.add(self._job.started())
        self._job.run.append(batch)
        self._state = "open"
        self._token = enter(self._job)

    def end(self, error: BaseException | None) -> None:
        """Record how the block ended; if the recording fails, `error` gets a note of it, or it is raised."""
        self._expect("open")
        self._state = "ended"
        if self._token is not None:
            leave(self._token)
        arguments = Arguments(self._given)
        records = arguments.records(self._job.parent)
        if error is not None:
            record_failure(self._job, error, error.__traceback__, arguments.hash, records)
            return
        try:
            end_job(self._job, self._value, arguments.hash, records)
        except Exception as problem:
            record_failure(self._job, problem, None, arguments.hash, records)
            raise

    def argument(self, name: str, value: Any) -> Any:
        """Record what the block works on, under a name, and return it.

        Raises
        ------
        InvalidEventError
            It cannot be pickled (``not_picklable``).
        StateError
            The block has not begun or has ended (``job_not_open``).
        """
        self._expect("open")
        recorder = self._job.run.recorder
        described = recorder.describe(value, f"argument {name!r} of {self._job.identity.fullname}")
        batch = recorder.batch()
        batch.value(value, described)
        self._job.run.append(batch)
        # The bytes are stored; only the names are needed from here on.
        self._given = [item for item in self._given if item.key != name]
        self._given.append(Given(None, name, value, described._replace(data=b"")))
        return value

    def result(self, value: Any) -> Any:
        """Set what the block comes to (None unless set), and return it; recorded at the block's end."""
        self._expect("open")
        self._value = value
        return value

    def tag(self, key: str, value: Any = None) -> str:
        """Put a tag on the job and return the tag's hash."""
        self._expect("open")
        return self._job.run.tag_entity("Job", self.id, [(key, value)])[0]

    def _expect(self, state: str) -> None:
        if self._state != state:
            raise StateError(
                f"a job block that is {state} was expected, found {self._job.identity.fullname} "
                f"{self._state}; use it inside its `with run.job(...) as job:`, once",
                code="job_not_open",
                job_id=self.id,
            )
