"""Jobs: one evaluation of a task within an execution."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from eventstore.events.envelope import EntityId, Event, Hash

__all__ = ["JobEnded", "JobStarted", "JobStatus"]


class JobStatus(StrEnum):
    """How a job ended. A job without an end is RUNNING, which no event states."""

    DONE = "DONE"
    CACHED = "CACHED"
    FAILED = "FAILED"


class JobStarted(Event):
    """A job began; `occurred_at` is its start."""

    kind: ClassVar[str] = "job.started"

    job_id: EntityId
    """The job's id, a UUID in text."""
    execution_id: EntityId
    """The execution it runs in."""
    parent_id: EntityId | None = None
    """The job that called it; None for the root job."""
    task_hash: Hash
    """The task it evaluates."""


class JobEnded(Event):
    """A job ended; `occurred_at` is its end.

    It repeats the facts of the start, so an end without a start stands alone (start = end). A later end
    of the same job replaces the earlier one.
    """

    kind: ClassVar[str] = "job.ended"

    job_id: EntityId
    """The job's id."""
    execution_id: EntityId
    """The execution it ran in."""
    parent_id: EntityId | None = None
    """The job that called it; None for the root job."""
    task_hash: Hash
    """The task it evaluated."""
    status: Annotated[JobStatus, Field(strict=False)]
    """DONE, CACHED or FAILED."""
    cached: bool = False
    """True if the result came from a cache."""
    call_hash: Hash | None = None
    """The call node of its result, if one was recorded."""

    @model_validator(mode="after")
    def _status_agrees(self) -> Self:
        if self.status is not JobStatus.FAILED and self.cached != (self.status is JobStatus.CACHED):
            raise ValueError("`cached` to agree with `status` (DONE is not cached, CACHED is)")
        return self
