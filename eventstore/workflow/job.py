"""A job while it runs: what was called below it so far, and what its calls returned."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

from eventstore.events import JobEnded, JobStarted, JobStatus
from eventstore.workflow.identity import Identity
from eventstore.workflow.origins import Origins

if TYPE_CHECKING:
    from eventstore.workflow.run import Execution

__all__ = ["Job"]


class Job:
    """One job of a run, in memory. Several threads may call tasks below it at once.

    Parameters
    ----------
    run
        The execution that it belongs to.
    identity
        The task that it evaluates.
    parent
        The job that called it; None for the root job.
    """

    __slots__ = (
        "_children",
        "_forks",
        "_lock",
        "_origins",
        "_place",
        "_subtree",
        "id",
        "identity",
        "parent",
        "run",
    )

    def __init__(self, run: Execution, identity: Identity, parent: Job | None) -> None:
        self.id = str(uuid.uuid4())
        self.run = run
        self.identity = identity
        self.parent = parent
        self._subtree = {identity.hash}
        self._children: list[str | None] = []
        self._forks: dict[str, int] = {}
        self._origins = Origins()
        self._lock = threading.Lock()
        self._place = 0 if parent is None else parent._take_place()

    def _take_place(self) -> int:
        with self._lock:
            self._children.append(None)
            return len(self._children) - 1

    @property
    def is_leaf(self) -> bool:
        """Whether nothing was called below it."""
        return not self._children

    @property
    def children(self) -> list[str]:
        """Call hashes of the calls below it that have ended, in the order in which they began."""
        with self._lock:
            return [call_hash for call_hash in self._children if call_hash is not None]

    @property
    def subtree_tasks(self) -> tuple[str, ...]:
        """Hashes of the tasks of this job and of the jobs below it that have ended, sorted."""
        with self._lock:
            return tuple(sorted(self._subtree))

    def started(self) -> JobStarted:
        """Return the event that the job began."""
        return JobStarted(
            job_id=self.id,
            execution_id=self.run.id,
            parent_id=self.parent.id if self.parent else None,
            task_hash=self.identity.hash,
        )

    def ended(self, status: JobStatus, call_hash: str | None) -> JobEnded:
        """Return the event that the job ended."""
        return JobEnded(
            job_id=self.id,
            execution_id=self.run.id,
            parent_id=self.parent.id if self.parent else None,
            task_hash=self.identity.hash,
            status=status,
            cached=status is JobStatus.CACHED,
            call_hash=call_hash,
        )

    def origins_of(self, value: Any, value_hash: str) -> tuple[str, ...]:
        """Return which calls of this job the value came from; see `Origins`."""
        with self._lock:
            return self._origins.of(value, value_hash)

    def count_fork(self, handle_hash: str) -> int:
        """Return how often a handle was handed to calls of this job, this time included."""
        with self._lock:
            self._forks[handle_hash] = self._forks.get(handle_hash, 0) + 1
            return self._forks[handle_hash]

    def tell_parent(self, call_hash: str, *, result: tuple[Any, str, int] | None) -> None:
        """Let the parent know the call that this job became, and its result as (value, hash, bytes)."""
        parent = self.parent
        if parent is None:
            return
        with parent._lock:
            parent._children[self._place] = call_hash
            parent._subtree.update(self._subtree)
            if result is not None:
                parent._origins.note(*result, call_hash)
