"""`LogBackend`: the contract on a log. Each recording call is one append, so it is all or nothing."""
# ruff: noqa: D102 - methods are documented in `Backend`

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from eventstore.backend.base import Backend, Types
from eventstore.backend.cache import Cache
from eventstore.backend.calls import Calls
from eventstore.backend.descriptions import (
    CacheAnswer,
    CacheCheck,
    CacheKind,
    CacheMiss,
    CacheScope,
    CallNode,
    ExecutionState,
    HandleState,
    JobDescription,
)
from eventstore.backend.handle_steps import HandleSteps
from eventstore.backend.intake import Intake
from eventstore.backend.jobs import Jobs
from eventstore.backend.patience import Patience, patiently
from eventstore.backend.recorder import Recorder
from eventstore.backend.records import Records
from eventstore.backend.tagging import Tagging
from eventstore.backend.types import StoreTypes
from eventstore.events import EntityType, JobStatus
from eventstore.index.facts import JobFacts, TagFacts
from eventstore.tags import Pairs
from eventstore.tags.recording import iter_pairs

if TYPE_CHECKING:
    from eventstore.store import EventStore

__all__ = ["ERROR_TYPES", "LogBackend"]

ERROR_TYPES = ("eventstore.ErrorValue", "redun.ErrorValue")
"""Type names of values that stand for a failure, unless others are given."""
_LOOK_AGAIN_SECONDS = 0.2


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class LogBackend(Backend):
    """A backend on an open store. Safe to share by threads; another process opens its own.

    What it keeps in memory of what was recorded is bounded (`Known`), as is what the store's index keeps.

    Parameters
    ----------
    store
        An `EventStore`, open for writing; `close` closes it.
    types
        How objects become values; None takes the store's own.
    max_value_size
        Most bytes of a value. Long values go to the store's value store by themselves.
    error_types
        Type names of values that stand for a failure.
    retries
        How often a call is tried again after a transient error of storage.
    retry_seconds, retry_most_seconds
        The first pause, which doubles each time, and the longest.
    job_wait_seconds
        How long `get_job` waits for a job that is not there: as long as the events of another machine may
        take to be seen.
    clock
        The time now, with timezone.
    sleep
        How to pause.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        types: Types | None = None,
        max_value_size: int = 1_000_000_000,
        error_types: Collection[str] = ERROR_TYPES,
        retries: int = 3,
        retry_seconds: float = 1.0,
        retry_most_seconds: float = 60.0,
        job_wait_seconds: float = 0.0,
        clock: Callable[[], dt.datetime] = _utc_now,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.store = store
        self.types: Types = types if types is not None else StoreTypes(store.types)
        self.patience = Patience(retries, retry_seconds, retry_most_seconds, sleep)
        self._job_wait_seconds = job_wait_seconds
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.RLock()
        recorder = Recorder(store, types=self.types, max_value_size=max_value_size, error_types=error_types)
        self._recorder = recorder
        self._cache = Cache(recorder)
        self._jobs = Jobs(recorder)
        self._tagging = Tagging(recorder)
        self._calls = Calls(recorder, self._tagging)
        self._handles = HandleSteps(recorder)
        self._records = Records(recorder)
        self._intake = Intake(recorder)

    def __repr__(self) -> str:
        return f"LogBackend({self.store!r})"

    # opening ---------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Do nothing: the store is open."""

    def close(self) -> None:
        """Close the store, which flushes and seals it."""
        self.store.close()

    # executions and jobs ---------------------------------------------------------------------------------

    @patiently
    def record_execution(self, execution_id: str, args: Sequence[Any]) -> None:
        with self._lock:
            self._jobs.begin_execution(execution_id, args, self._clock())

    @patiently
    def record_heartbeat(self, execution_id: str, *, now: dt.datetime | None = None) -> None:
        with self._lock:
            self._jobs.heartbeat(execution_id, now or self._clock())

    @patiently
    def get_execution(self, execution_id: str) -> ExecutionState | None:
        return self._jobs.execution(execution_id)

    @patiently
    def record_job_start(self, job: JobDescription, *, now: dt.datetime | None = None) -> None:
        with self._lock:
            self._jobs.start(job, now or self._clock())

    @patiently
    def record_job_end(
        self, job: JobDescription, *, now: dt.datetime | None = None, status: JobStatus | str | None = None
    ) -> None:
        with self._lock:
            self._jobs.end(job, now or self._clock(), status)

    @patiently
    def get_job(self, job_id: str) -> JobFacts | None:
        """Return a recorded job, or None, after `job_wait_seconds` at the earliest."""
        waited = 0.0
        while (job := self._recorder.job(job_id)) is None and waited < self._job_wait_seconds:
            self._sleep(_LOOK_AGAIN_SECONDS)
            waited += _LOOK_AGAIN_SECONDS
        return job

    # values ----------------------------------------------------------------------------------------------

    @patiently
    def record_value(self, value: Any, *, data: bytes | None = None) -> str:
        with self._lock:
            batch = self._recorder.batch()
            value_hash = batch.value(value, data)
            batch.append()
            return value_hash

    @patiently
    def get_value(self, value_hash: str) -> tuple[Any, bool]:
        return self._cache.value(value_hash)

    # the caches ------------------------------------------------------------------------------------------

    @patiently
    def check_cache(
        self,
        *,
        task_hash: str,
        args_hash: str,
        eval_hash: str,
        execution_id: str,
        current_tasks: Container[str],
        scope: CacheScope,
        check: CacheCheck,
        context_hash: str | None = None,
        allowed: Collection[CacheKind] | None = None,
    ) -> CacheAnswer:
        return self._cache.answer(
            task_hash,
            args_hash,
            eval_hash,
            execution_id,
            current_tasks,
            scope,
            check,
            context_hash,
            allowed,
        )

    @patiently
    def set_evaluation(
        self, eval_hash: str, task_hash: str, args_hash: str, value: Any, *, value_hash: str | None = None
    ) -> None:
        with self._lock:
            self._calls.evaluation(eval_hash, task_hash, args_hash, value, value_hash)

    @patiently
    def explain_cache_miss(self, task_name: str, task_hash: str, args_hash: str) -> CacheMiss:
        return self._cache.explain(task_name, task_hash, args_hash)

    # calls -----------------------------------------------------------------------------------------------

    @patiently
    def record_call_node(self, call: CallNode) -> str:
        with self._lock:
            return self._calls.node(call, self._clock())

    @patiently
    def subtree_tasks(self, call_hash: str) -> frozenset[str]:
        return self._calls.subtree_tasks(call_hash)

    @patiently
    def record_call_context(self, call_hash: str, context_hash: str | None, context: Any) -> str:
        with self._lock:
            return self._calls.context(call_hash, context_hash, context)

    # handles ---------------------------------------------------------------------------------------------

    @patiently
    def advance_handle(self, parents: Sequence[HandleState], child: HandleState) -> list[HandleState]:
        with self._lock:
            return self._handles.advance(parents, child)

    @patiently
    def rollback_handle(self, handle: HandleState) -> None:
        with self._lock:
            self._handles.roll_back(handle)

    @patiently
    def is_valid_handle(self, handle: HandleState | str) -> bool:
        handle_hash = handle if isinstance(handle, str) else handle.handle_hash
        return self.store.lookup.is_valid_handle(handle_hash)

    # tags ------------------------------------------------------------------------------------------------

    def record_tags(
        self,
        entity_type: EntityType | str,
        entity_id: str,
        pairs: Pairs,
        *,
        parents: Iterable[str] = (),
        update: bool = False,
        new: bool = False,
    ) -> list[TagFacts]:
        # Iterators are read here, once, however often the rest is tried.
        return self._record_tags(entity_type, entity_id, list(iter_pairs(pairs)), list(parents), update, new)

    @patiently
    def _record_tags(
        self,
        entity_type: EntityType | str,
        entity_id: str,
        pairs: Sequence[tuple[str, Any]],
        parents: Sequence[str],
        update: bool,
        new: bool,
    ) -> list[TagFacts]:
        with self._lock:
            return self._tagging.record(entity_type, entity_id, pairs, parents, update=update, new=new)

    def update_tags(
        self, entity_type: EntityType | str, entity_id: str, old_keys: Iterable[str], pairs: Pairs
    ) -> list[TagFacts]:
        keys = old_keys if isinstance(old_keys, str) else list(old_keys)
        return self._update_tags(entity_type, entity_id, keys, list(iter_pairs(pairs)))

    @patiently
    def _update_tags(
        self, entity_type: EntityType | str, entity_id: str, old_keys: Iterable[str], pairs: Pairs
    ) -> list[TagFacts]:
        with self._lock:
            return self._tagging.update(entity_type, entity_id, old_keys, pairs)

    def delete_tags(self, entity_id: str, pairs: Pairs = (), *, keys: Iterable[str] = ()) -> list[TagFacts]:
        wanted = keys if isinstance(keys, str) else list(keys)
        return self._delete_tags(entity_id, list(iter_pairs(pairs)), wanted)

    @patiently
    def _delete_tags(self, entity_id: str, pairs: Pairs, keys: Iterable[str]) -> list[TagFacts]:
        with self._lock:
            return self._tagging.delete(entity_id, pairs, keys)

    @patiently
    def _current_tags(self, entity_id: str) -> list[TagFacts]:
        return self._tagging.current(entity_id)

    def get_tags(self, entity_ids: Iterable[str]) -> dict[str, list[TagFacts]]:
        found = {entity_id: self._current_tags(entity_id) for entity_id in dict.fromkeys(entity_ids)}
        return {entity_id: tags for entity_id, tags in found.items() if tags}

    # records ---------------------------------------------------------------------------------------------

    def get_records(self, ids: Iterable[str], *, in_order: bool = True) -> Iterator[dict[str, Any]]:
        if in_order:
            return (self._record(each) for each in map(self._find, ids) if each is not None)
        found = [
            (Records.rank(each), entity_id)
            for entity_id in dict.fromkeys(ids)
            if (each := self._find(entity_id))
        ]
        ordered = [entity_id for _, entity_id in sorted(found, key=itemgetter(0))]
        return (self._record(self._find(each)) for each in ordered)

    @patiently
    def _find(self, entity_id: str) -> Any:
        return self._records.find(entity_id)

    @patiently
    def _record(self, found: Any) -> dict[str, Any]:
        return self._records.record(found)

    def put_records(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Take in records in any order, some hundred in one append; see `Backend.put_records`."""
        return sum(self._put_records(part) for part in Intake.parts(records))

    @patiently
    def _put_records(self, records: Sequence[Mapping[str, Any]]) -> int:
        with self._lock:
            return self._intake.put(records)

    @patiently
    def _owned(self, entity_id: str) -> list[str] | None:
        return self._records.owned(entity_id)

    def iter_record_ids(self, root_ids: Iterable[str]) -> Iterator[str]:
        return self._records.walk(root_ids, self._owned)
