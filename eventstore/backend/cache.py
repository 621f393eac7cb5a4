"""Answers from what was computed before: values, the three caches, and why a call is in none of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Sequence
from operator import attrgetter
from typing import Any

from eventstore.backend.descriptions import CacheAnswer, CacheCheck, CacheKind, CacheMiss, CacheScope
from eventstore.backend.recorder import Recorder
from eventstore.errors import NotFoundError, StateError
from eventstore.index.facts import CallOutcome, JobFacts
from eventstore.pickling import PICKLE_FORMAT
from eventstore.tags import CONTEXT_KEY

__all__ = ["Cache"]

_AT = attrgetter("at_us")
_MISS = CacheAnswer(None, None, CacheKind.MISS)


class Cache:
    """What a store answers a call with.

    Parameters
    ----------
    recorder
        Whose store and types answer.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def value(self, value_hash: str) -> tuple[Any, bool]:
        """Return a value and whether it could be read; see `Backend.get_value`."""
        try:
            stored = self._recorder.lookup.value(value_hash)
            # No pickle is empty: these bytes were left where the value came from.
            if stored is None or (not stored.data and stored.format == PICKLE_FORMAT):
                return None, False
            # Whoever gets it will record it as a result: it need not be looked up again then.
            recorder = self._recorder
            recorder.known.values.put(value_hash, stored.type_name in recorder.error_types)
            return recorder.types.load(stored.type_name, stored.data, stored.format), True
        except NotFoundError:
            return None, False

    def answer(
        self,
        task_hash: str,
        args_hash: str,
        eval_hash: str,
        execution_id: str,
        current_tasks: Container[str],
        scope: CacheScope,
        check: CacheCheck,
        context_hash: str | None,
        allowed: Collection[CacheKind] | None,
    ) -> CacheAnswer:
        """Return what answers a call; see `Backend.check_cache`."""
        if scope is CacheScope.NONE:
            return _MISS
        lookup = self._recorder.lookup
        from_store = scope is CacheScope.STORE
        with_calls = from_store and check is CacheCheck.SHALLOW and _allows(allowed, CacheKind.CALL)
        in_execution = _allows(allowed, CacheKind.EXECUTION)
        if with_calls or in_execution:
            calls = lookup.calls_of(task_hash, args_hash)
            if not calls:
                self._recorder.known.unseen.put(task_hash + args_hash, True)
            if calls and context_hash is not None:
                calls = [each for each in calls if self._was_under(each.call_hash, context_hash)]
            if calls:
                if in_execution:
                    found = self._of_execution(calls, task_hash, execution_id)
                    if found is not None and (answer := self._read(found, CacheKind.EXECUTION)) is not None:
                        return answer
                if with_calls:
                    found = self._current(calls, current_tasks)
                    if found is not None and (answer := self._read(found, CacheKind.CALL)) is not None:
                        return answer
        if from_store and _allows(allowed, CacheKind.EVALUATION):
            value_hash = lookup.evaluation(eval_hash, look=not (with_calls or in_execution))
            if value_hash is not None:
                value, is_read = self._value_for_cache(value_hash)
                if is_read:
                    return CacheAnswer(value, None, CacheKind.EVALUATION)
        return _MISS

    def explain(self, task_name: str, task_hash: str, args_hash: str) -> CacheMiss:
        """Return the newest call that has the name and the arguments, or the task, in common."""
        lookup = self._recorder.lookup
        found = lookup.newest_call_with_args(task_name, args_hash)
        if found is not None:
            return CacheMiss("new_task", found.call_hash, found.task_hash, found.args_hash)
        found = lookup.newest_call_of_task(task_hash)
        if found is not None:
            return CacheMiss("new_args", found.call_hash, found.task_hash, found.args_hash)
        return CacheMiss("new_call")

    def _was_under(self, call_hash: str, context_hash: str) -> bool:
        """Whether a call was made under this context, even if its tag was taken off since."""
        wanted = json.dumps(context_hash)
        tags = self._recorder.lookup.tags_of(call_hash)
        return any(tag.key == CONTEXT_KEY and tag.value == wanted for tag in tags)

    def _of_execution(
        self, calls: Sequence[CallOutcome], task_hash: str, execution_id: str
    ) -> CallOutcome | None:
        """Return the call that the job ended with which, of those in the execution, started last."""
        lookup = self._recorder.lookup

        def ended(job_id: str, call: CallOutcome) -> JobFacts | None:
            job = lookup.job(job_id, look=False)
            # A job may have ended again, with another call.
            known = job is not None and (job.call_hash, job.task_hash, job.execution_id)
            return job if known == (call.call_hash, task_hash, execution_id) else None

        if len(calls) == 1:
            # Then any of the jobs will do, and there may be thousands.
            job_id = lookup.job_that_ended_with(execution_id, calls[0].call_hash)
            if job_id is None:
                return None
            if ended(job_id, calls[0]) is not None:
                return calls[0]
        found: CallOutcome | None = None
        started = -1
        for call in calls:
            for job_id in lookup.jobs_that_ended_with(execution_id, call.call_hash, look=False):
                job = ended(job_id, call)
                if job is not None and job.start_us >= started:
                    found, started = call, job.start_us
        return found

    @staticmethod
    def _current(calls: list[CallOutcome], current_tasks: Container[str]) -> CallOutcome | None:
        """Return the call, of those with current tasks only, that was first recorded last."""
        # Sorting keeps the order of the log among equal times, so of those the last comes first.
        ordered = sorted(calls, key=_AT) if len(calls) > 1 else calls
        for call in reversed(ordered):
            if all([task_hash in current_tasks for task_hash in call.subtree_tasks]):  # noqa: C419 - faster
                return call
        return None

    def _read(self, call: CallOutcome, kind: CacheKind) -> CacheAnswer | None:
        value, is_read = self._value_for_cache(call.value_hash)
        return CacheAnswer(value, call.call_hash, kind) if is_read else None

    def _value_for_cache(self, value_hash: str) -> tuple[Any, bool]:
        """Return a value; one that may not be unpickled here is none, so its task runs again."""
        try:
            return self.value(value_hash)
        except StateError as error:
            if error.code != "pickle_not_trusted":
                raise
            return None, False


def _allows(allowed: Collection[CacheKind] | None, kind: CacheKind) -> bool:
    return allowed is None or kind in allowed
