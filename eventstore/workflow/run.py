"""`Execution`: one run of a plain Python program, as a ``with`` block in which tasks are recorded."""

from __future__ import annotations

import functools
import inspect
import json
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from eventstore.errors import InvalidEventError, StateError
from eventstore.events import EntityType, ExecutionHeartbeat, ExecutionStarted, HandleRolledBack
from eventstore.handle import Handle
from eventstore.tags import Pairs, delete_tags, record_tags
from eventstore.value import ValueTypes, default_types
from eventstore.workflow.arguments import Given
from eventstore.workflow.block import JobBlock
from eventstore.workflow.context import current_job, current_run, enter, leave
from eventstore.workflow.handles import state_handle
from eventstore.workflow.identity import Identity
from eventstore.workflow.job import Job
from eventstore.workflow.recording import Batch, Pulse, Recorder, Recording

__all__ = ["Execution"]

P = ParamSpec("P")
R = TypeVar("R")
AnyHandle = TypeVar("AnyHandle", bound=Handle)


class Execution:
    """A run: while its ``with`` block lasts, calls of tasks in it are jobs below its root job.

    Parameters
    ----------
    store
        Where everything is recorded.
    args
        How the run was asked for, as JSON can say it; usually the command line. They become the arguments
        of the root job.
    tags
        Put on the execution: a mapping, or pairs.
    name
        Name of the root job's task.
    cache
        Whether results of earlier runs may answer, and results of this one are kept.
    heartbeat_seconds
        Jobs that are recorded say that the run is alive, at most so often.
    clock
        Seconds, for heartbeats.
    types
        How Python objects become values.

    Raises
    ------
    InvalidEventError
        `args` have no JSON form (``bad_args``), or a tag is bad.
    """

    def __init__(
        self,
        store: Recording,
        *,
        args: Sequence[Any] = (),
        tags: Pairs = (),
        name: str = "run",
        cache: bool = True,
        heartbeat_seconds: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
        types: ValueTypes = default_types,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.recorder = Recorder(store, types=types)
        self.caches = cache
        try:
            self._args_text = json.dumps(list(args), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidEventError(
                f"the arguments of a run are what JSON can say, found {error}: give text",
                code="bad_args",
            ) from error
        self._tags = record_tags(EntityType.EXECUTION, self.id, tags)
        self._root = Job(self, Identity.inline(name), None)
        self._given = [
            Given(place, None, value, self.recorder.describe(value, f"argument {place} of the run"))
            for place, value in enumerate(args)
        ]
        self._block = JobBlock(self._root, self._given)
        self._pulse = Pulse(heartbeat_seconds, clock)
        self._state = "new"

    def __repr__(self) -> str:
        return f"<execution {self.id} {self._state}>"

    @property
    def root_job_id(self) -> str:
        """The id of the job that all others of the run are below."""
        return self._root.id

    # life ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if current_run() is not None:
            raise StateError(
                "code outside of any run was expected, found one inside a run: use `with run.job(name)` "
                "for a part of it, or end the first run before the next",
                code="nested_execution",
            )
        if self._state != "new":
            raise StateError(
                "an execution is entered once; store.execution() gives a new one", code="run_entered_twice"
            )
        batch = self.recorder.batch()
        for item in self._given:
            batch.value(item.value, item.described)
        batch.add(ExecutionStarted(execution_id=self.id, job_id=self._root.id, args=self._args_text))
        if self._tags is not None:
            batch.add(self._tags)
        self._state = "active"
        try:
            self._block.begin(batch)
        except BaseException:
            self._state = "ended"
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            error = None  # sys.exit() after work well done is no failure
        try:
            self._block.end(error)
        finally:
            self._state = "ended"

    def check_active(self) -> None:
        """Raise StateError (``run_not_active``) unless the run has begun and not ended."""
        if self._state != "active":
            raise StateError(
                f"a run between the begin and the end of its `with store.execution()` was expected, found it "
                f"{self._state}; wait for threads and asyncio tasks before the block ends",
                code="run_not_active",
                execution_id=self.id,
            )

    # what the program says -------------------------------------------------------------------------------

    def job(self, name: str, *, namespace: str = "") -> JobBlock:
        """Return a job for the body of a ``with``: below the current job of this run, else the root job."""
        self.check_active()
        return JobBlock(Job(self, Identity.inline(name, namespace), self._here()))

    def result(self, value: Any) -> Any:
        """Set what the run comes to (None unless set), and return it; recorded at the run's end."""
        self.check_active()
        return self._block.result(value)

    def heartbeat(self) -> None:
        """Say that the run is alive; jobs that are recorded do so by themselves."""
        self.check_active()
        self.recorder.store.append(ExecutionHeartbeat(execution_id=self.id))

    def wrap(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` so that another thread may call it as part of the job that is current now.

        ``pool.submit(run.wrap(work), item)``: a new thread knows nothing of the run by itself.
        """
        self.check_active()
        job = self._here()
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def join_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                token = enter(job)
                try:
                    return await function(*args, **kwargs)
                finally:
                    leave(token)

            return join_async  # type: ignore[return-value]

        @functools.wraps(function)
        def join(*args: P.args, **kwargs: P.kwargs) -> R:
            token = enter(job)
            try:
                return function(*args, **kwargs)
            finally:
                leave(token)

        return join

    def _here(self) -> Job:
        job = current_job()
        return job if job is not None and job.run is self else self._root

    # tags ------------------------------------------------------------------------------------------------

    def tag(
        self, key: str, value: Any = None, *, supersede: Iterable[str] = (), reason: str | None = None
    ) -> str:
        """Put a tag on the execution, in place of those whose hashes are given, and return its hash."""
        return self.tag_entity(
            EntityType.EXECUTION, self.id, [(key, value)], supersede=supersede, reason=reason
        )[0]

    def tag_value(self, value: Any, key: str, content: Any = None) -> str:
        """Record a value, put a tag on it, and return the tag's hash."""
        self.check_active()
        described = self.recorder.describe(value, "the tagged value")
        batch = self.recorder.batch()
        batch.value(value, described)
        self.append(batch)
        return self.tag_entity(EntityType.VALUE, described.value_hash, [(key, content)])[0]

    def tag_entity(
        self,
        entity_type: EntityType | str,
        entity_id: str,
        pairs: Pairs,
        *,
        supersede: Iterable[str] = (),
        reason: str | None = None,
    ) -> list[str]:
        """Put tags on anything, in place of those whose hashes are given, and return the new hashes."""
        self.check_active()
        event = record_tags(entity_type, entity_id, pairs, superseded=supersede, reason=reason)
        if event is None:
            return []
        self.recorder.store.append(event)
        return [tag.tag_hash for tag in event.tags]

    def untag(self, *tag_hashes: str, reason: str | None = None) -> None:
        """Take tags off, by their hashes."""
        self.check_active()
        if tag_hashes:
            self.recorder.store.append(delete_tags(tag_hashes, reason=reason))

    # handles ---------------------------------------------------------------------------------------------

    def handle(self, name: str, *args: Any, namespace: str = "", **kwargs: Any) -> Handle:
        """Make a handle in its first state, and record it; the parameters are those of `Handle`."""
        return self.advance(Handle(name, *args, namespace=namespace, **kwargs))

    def advance(self, handle: AnyHandle) -> AnyHandle:
        """Record a handle's state and the states that led to it since the last recorded one; return it."""
        self.check_active()
        batch = self.recorder.batch()
        state_handle(batch, self.recorder, handle)
        self.append(batch)
        return handle

    def rollback(self, handle: Handle, *, reason: str | None = None) -> None:
        """Say that `handle` is the true state again: every state that followed from it becomes invalid."""
        self.advance(handle)
        self.recorder.store.append(
            HandleRolledBack(handle_hash=handle.hash, handle_name=handle.fullname, reason=reason)
        )

    # for the jobs of the run -----------------------------------------------------------------------------

    def append(self, batch: Batch) -> None:
        """Append a batch of the run's jobs, with a heartbeat if one is due."""
        if self._pulse.due():
            batch.add(ExecutionHeartbeat(execution_id=self.id))
        batch.append()
