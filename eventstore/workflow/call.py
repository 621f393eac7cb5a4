"""One task call inside a run: ask the cache, or run and record. Two appends a call, one on a cache hit.

The first append states arguments, task and the job's start, so that a crash leaves a job without end; the
second the result, its cache entry, the call node and the job's end.

Only a call that called nothing itself enters the cache: the hash of a task says nothing of the tasks below
it, so a call with calls below runs again, and those are answered from the cache one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

from eventstore.errors import EventStoreError, InvalidEventError, NotFoundError
from eventstore.events import Argument, CallNodeRecorded, EvaluationCached, HandleRolledBack, JobStatus
from eventstore.handle import Handle
from eventstore.hashing import hash_call, hash_eval
from eventstore.value import Value, iter_leaves
from eventstore.workflow.arguments import Arguments, Defaults
from eventstore.workflow.failure import ErrorValue
from eventstore.workflow.handles import state_handle
from eventstore.workflow.identity import Identity
from eventstore.workflow.job import Job
from eventstore.workflow.recording import Batch, Lookup, Recorder

__all__ = ["Cached", "Call", "begin_call", "end_job", "record_failure"]


class Cached(NamedTuple):
    """A result that the cache had."""

    value: Any
    value_hash: str
    size_bytes: int


class Call:
    """A task call that missed the cache and is about to run, or is running."""

    __slots__ = ("args_hash", "arguments", "caches", "eval_hash", "job", "keyword", "positional")

    def __init__(
        self,
        job: Job,
        positional: tuple[Any, ...],
        keyword: Mapping[str, Any],
        arguments: tuple[Argument, ...],
        hashes: tuple[str, str],
        *,
        caches: bool,
    ) -> None:
        self.job = job
        self.positional = positional
        self.keyword = keyword
        self.arguments = arguments
        self.args_hash, self.eval_hash = hashes
        self.caches = caches

    def finish(self, result: Any) -> Any:
        """Record the result and return it, finished: a handle comes in the state that the call led to.

        Raises
        ------
        InvalidEventError
            The result cannot be pickled (``not_picklable``); the job is recorded as failed.
        """
        job = self.job
        result = job.run.recorder.types.postprocess(result, {"pre_call_hash": self.eval_hash})
        cache = (self.eval_hash, self.args_hash) if self.caches and job.is_leaf else None
        end_job(job, result, self.args_hash, self.arguments, cache=cache)
        return result

    def fail(self, error: BaseException) -> None:
        """Record that the call ended with `error`; the caller raises it again."""
        # The first frame is the one of this package that called the function.
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        record_failure(self.job, error, trace, self.args_hash, self.arguments)


def begin_call(
    parent: Job,
    identity: Identity,
    defaults: Defaults,
    positional: tuple[Any, ...],
    keyword: Mapping[str, Any],
    *,
    caches: bool,
) -> Call | Cached:
    """Ask the cache for a call, and record either the hit or the start of its job.

    Raises
    ------
    InvalidEventError
        An argument cannot be pickled (``not_picklable``); nothing was recorded.
    StateError
        The run has ended (``run_ended``).
    """
    run = parent.run
    run.check_active()
    recorder = run.recorder
    batch = recorder.batch()
    caches = caches and run.caches
    forks: list[Handle] = []
    positional = tuple(_prepared(value, parent, batch, recorder, forks) for value in positional)
    keyword = {key: _prepared(value, parent, batch, recorder, forks) for key, value in keyword.items()}
    arguments = Arguments.of_call(recorder, identity.fullname, positional, keyword, defaults)
    eval_hash = hash_eval(identity.hash, arguments.hash)
    hit = _cached(recorder, eval_hash) if caches else None
    if hit is None:
        arguments.state(batch)
    batch.task(identity)
    job = Job(run, identity, parent)
    batch.add(job.started())
    if hit is not None:
        call_hash = hash_call(identity.hash, arguments.hash, hit.value_hash, ())
        batch.add(job.ended(JobStatus.CACHED, call_hash))
        run.append(batch)
        job.tell_parent(call_hash, result=hit)
        return hit
    for fork in forks:
        batch.add(HandleRolledBack(handle_hash=fork.hash, handle_name=fork.fullname))
    records = arguments.records(parent)
    run.append(batch)
    return Call(job, positional, keyword, records, (arguments.hash, eval_hash), caches=caches)


def end_job(
    job: Job,
    result: Any,
    args_hash: str,
    arguments: tuple[Argument, ...],
    *,
    cache: tuple[str, str] | None = None,
) -> None:
    """Record a result and the call node that the job became; `cache` is (eval hash, arguments hash).

    Raises
    ------
    InvalidEventError
        The result cannot be pickled (``not_picklable``); nothing was recorded.
    """
    recorder = job.run.recorder
    batch = recorder.batch()
    described = recorder.describe(result, f"the result of {job.identity.fullname}")
    batch.value(result, described)
    for leaf in iter_leaves(result):
        if isinstance(leaf, Handle):
            state_handle(batch, recorder, leaf)
    if cache is not None:
        batch.add(
            EvaluationCached(
                eval_hash=cache[0],
                task_hash=job.identity.hash,
                args_hash=cache[1],
                value_hash=described.value_hash,
            )
        )
    call_hash = _add_call_node(batch, job, described.value_hash, args_hash, arguments)
    batch.add(job.ended(JobStatus.DONE, call_hash))
    job.run.append(batch)
    job.tell_parent(call_hash, result=(result, described.value_hash, len(described.data)))


def record_failure(
    job: Job,
    error: BaseException,
    trace: TracebackType | None,
    args_hash: str,
    arguments: tuple[Argument, ...],
) -> None:
    """Record that a job ended with `error`. If that fails too, `error` gets a note of it."""
    try:
        _fail_job(job, ErrorValue.of(error, trace), args_hash, arguments)
    except EventStoreError as problem:
        error.add_note(f"This failure of job {job.id} could not be recorded: {problem}")


def _fail_job(job: Job, value: ErrorValue, args_hash: str, arguments: tuple[Argument, ...]) -> None:
    recorder = job.run.recorder
    try:
        batch = recorder.batch()
        described = recorder.describe(value, "an exception")
        batch.value(value, described)
    except InvalidEventError:
        batch = recorder.batch()
        value = value.generic()
        described = recorder.describe(value, "an exception")
        batch.value(value, described)
    call_hash = _add_call_node(batch, job, described.value_hash, args_hash, arguments)
    batch.add(job.ended(JobStatus.FAILED, call_hash))
    job.run.append(batch)
    job.tell_parent(call_hash, result=None)


def _add_call_node(
    batch: Batch, job: Job, value_hash: str, args_hash: str, arguments: tuple[Argument, ...]
) -> str:
    children = job.children
    call_hash = hash_call(job.identity.hash, args_hash, value_hash, children)
    if batch.once(call_hash):
        batch.add(
            CallNodeRecorded(
                call_hash=call_hash,
                task_hash=job.identity.hash,
                task_name=job.identity.fullname,
                args_hash=args_hash,
                value_hash=value_hash,
                children=tuple(children),
                arguments=arguments,
                subtree_tasks=job.subtree_tasks,
            )
        )
    return call_hash


def _prepared(value: Any, parent: Job, batch: Batch, recorder: Recorder, forks: list[Handle]) -> Any:
    """Return an argument as the call is handed it: each handle in it forked, as redun does."""

    def told(leaf: Any) -> Mapping[str, Any]:
        return {"call_order": parent.count_fork(leaf.hash)} if isinstance(leaf, Handle) else {}

    prepared = recorder.types.process("preprocess", value, told)
    if prepared is not value:
        for leaf in iter_leaves(prepared):
            if isinstance(leaf, Handle):
                state_handle(batch, recorder, leaf)
                forks.append(leaf)
    return prepared


def _cached(recorder: Recorder, eval_hash: str) -> Cached | None:
    """Return what the cache holds under `eval_hash`, if it can be read and is still true."""
    lookup = recorder.store.lookup
    value_hash = lookup.evaluation(eval_hash)
    if value_hash is None:
        return None
    try:
        stored = lookup.value(value_hash)
    except NotFoundError:
        return None
    if stored is None or stored.type_name == ErrorValue.type_name:
        return None
    try:
        value = recorder.types.load(stored.type_name, stored.data, stored.format)
        usable = all(_is_usable(leaf, lookup) for leaf in iter_leaves(value))
    except Exception:
        # Code that has moved on cannot read what it wrote; running the task again is always right.
        return None
    return Cached(value, value_hash, len(stored.data)) if usable else None


def _is_usable(leaf: Any, lookup: Lookup) -> bool:
    if isinstance(leaf, Handle):
        return leaf.is_valid(lookup)
    if isinstance(leaf, Value):
        return leaf.is_valid()
    # An expression of redun's is a step towards a result, not one.
    return type(leaf).__module__.partition(".")[0] != "redun"
