"""`EventStoreBackend`: redun's backend on an event store. It translates; `LogBackend` does the work."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

from redun.backends.base import RedunBackend, TagEntity
from redun.handle import Handle
from redun.logging import logger as redun_logger
from redun.task import CacheCheckValid, CacheResult, CacheScope, Task
from redun.utils import MultiMap
from redun.value import TypeRegistry

from eventstore.backend import (
    CacheCheck,
    CacheKind,
    CallNode,
    HandleState,
    JobDescription,
    LogBackend,
)
from eventstore.backend import CacheScope as Scope
from eventstore.errors import StateError
from eventstore.index.facts import TagFacts
from eventstore.redun.arguments import call_arguments
from eventstore.redun.config import Settings
from eventstore.redun.opening import OpenStore, open_for_redun
from eventstore.redun.tables import TableReader
from eventstore.redun.types import describe_task

__all__ = ["EventStoreBackend"]

_SCOPES = {
    CacheScope.NONE: Scope.NONE,
    CacheScope.CSE: Scope.EXECUTION,
    CacheScope.BACKEND: Scope.STORE,
}
_CHECKS = {CacheCheckValid.FULL: CacheCheck.FULL, CacheCheckValid.SHALLOW: CacheCheck.SHALLOW}
_KINDS = {
    CacheResult.CSE: CacheKind.EXECUTION,
    CacheResult.ULTIMATE: CacheKind.CALL,
    CacheResult.SINGLE: CacheKind.EVALUATION,
    CacheResult.MISS: CacheKind.MISS,
}
_RESULTS = {kind: result for result, kind in _KINDS.items()}
_content_of = json.JSONDecoder().raw_decode
"""Reads a canonical text, which has nothing around it: half the cost of `json.loads`, for every tag."""


class _NotLoaded:
    """Stands for the backend's store until `load`."""

    def __getattr__(self, name: str) -> NoReturn:
        raise StateError(
            f"a loaded backend was expected for {name}, found one that is not loaded, or closed; call "
            "load(), as Scheduler.load() does",
            code="not_loaded",
        )


class EventStoreBackend(TableReader, RedunBackend):
    """Provenance and cache of redun's Scheduler, kept in an event store: a folder, a bucket, or memory.

    A record is visible to all processes of this machine when the recording call returns, and to other
    machines within the settings `flush_seconds` and `fresh_seconds` together.

    Parameters
    ----------
    config
        The section ``[backend]`` of redun.ini; `Settings` has its keys.
    db_uri
        Where the store is, before that of `config`: a path, a URL, or redun's ``sqlite:///:memory:`` for a
        fresh store in memory.
    logger
        Where to say what is worth knowing; None means redun's.
    type_registry
        redun's registry of types; None means its global one.

    Raises
    ------
    InvalidEventError
        A setting is wrong (code ``bad_setting``).
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        db_uri: str | None = None,
        logger: Any = None,
        type_registry: TypeRegistry | None = None,
    ) -> None:
        super().__init__(type_registry)
        self.logger = logger or redun_logger
        self.settings = Settings.read(config, db_uri)
        self.db_uri = self.settings.db_uri
        self.automigrate = self.settings.automigrate
        self._opening = threading.RLock()
        self._opened: OpenStore | None = None
        self._log: LogBackend = _NotLoaded()  # type: ignore[assignment]
        self._mirror: Any = None

    def __repr__(self) -> str:
        return f"EventStoreBackend({self.db_uri!r})"

    # opening ---------------------------------------------------------------------------------------------

    def load(self, migrate: bool | None = None) -> None:
        """Open the store; a second time does nothing.

        Parameters
        ----------
        migrate
            True makes the store if there is none, also against the setting ``automigrate``; a sub-scheduler
            that extends a run never does. Commands of redun give False for what is no SQLite file.

        Raises
        ------
        NotFoundError
            There is no store, and none is to be made (code ``store_not_found``).
        FormatError
            Not a store (``not_a_store``), or one of a newer format (``newer_format``).
        StorageError
            The place cannot be reached or written.
        """
        with self._opening:
            if self._opened is None:
                create = self.settings.automigrate or bool(migrate)
                self._opened = open_for_redun(self, self.settings, self.type_registry, create=create)
                self._log = self._opened.log

    def close(self) -> None:
        """Put what is open into the store and let go; also done when the interpreter or a worker ends."""
        with self._opening:
            opened, self._opened = self._opened, None
            mirror, self._mirror = self._mirror, None
            self._log = _NotLoaded()  # type: ignore[assignment]
            if mirror is not None:
                mirror.close()
            if opened is not None:
                opened.close()

    @property
    def log(self) -> LogBackend:
        """The same history without redun's words; raises StateError before `load`."""
        return self._loaded().log

    def _loaded(self) -> OpenStore:
        return self._opened or _NotLoaded().this

    # executions and jobs ---------------------------------------------------------------------------------

    def record_execution(self, exec_id: str, args: list[str]) -> None:
        """Remember an execution until its root job is recorded."""
        self._log.record_execution(exec_id, args)

    def record_updated_time(self, execution_id: str) -> None:
        """Record that an execution is alive."""
        self._log.record_heartbeat(execution_id)

    def record_job_start(self, job: Any, now: datetime | None = None) -> None:
        """Record the start of a job, and with a root job its execution."""
        self._log.record_job_start(_describe_job(job), now=now)

    def record_job_end(self, job: Any, now: datetime | None = None, status: str | None = None) -> None:
        """Record the end of a job, and its start if it has none."""
        self._log.record_job_end(_describe_job(job), now=now, status=status)

    def get_job(self, job_id: str) -> dict[str, Any] | None:
        """Return the ids of a job, its parent and its execution.

        One that is not there may come from another machine, and is waited for as long as that may take.
        """
        job = self._log.get_job(job_id)
        if job is None:
            return None
        return {"job_id": job.job_id, "parent_id": job.parent_id, "execution_id": job.execution_id}

    # values and calls ------------------------------------------------------------------------------------

    def record_value(self, value: Any, data: bytes | None = None) -> str:
        """Record a value, and return its hash.

        Raises
        ------
        redun.backends.db.RedunDatabaseError
            It has more bytes than the setting ``max_value_size``.
        """
        return self._log.record_value(value, data=data)

    def get_value(self, value_hash: str) -> tuple[Any, bool]:
        """Return a value and True; or None and False."""
        return self._log.get_value(value_hash)

    def record_call_node(
        self,
        task_name: str,
        task_hash: str,
        args_hash: str,
        expr_args: tuple[tuple[Any, ...], dict[str, Any]],
        eval_args: tuple[tuple[Any, ...], dict[str, Any]],
        result_hash: str,
        child_call_hashes: list[str],
        subtree_tasks: Iterable[Task[..., Any]],
    ) -> str:
        """Record a call, and return its hash."""
        return self._log.record_call_node(
            CallNode(
                task_name,
                task_hash,
                args_hash,
                call_arguments(expr_args, eval_args),
                result_hash,
                child_call_hashes,
                [describe_task(task) for task in subtree_tasks],
            )
        )

    def get_subtree_tasks(self, call_hash: str) -> set[str]:
        """Return the hashes of all tasks at and below a call."""
        return set(self._log.subtree_tasks(call_hash))

    def record_call_node_context(
        self, call_hash: str, context_hash: str | None, context: dict[str, Any]
    ) -> str:
        """Record that a call was made under a context, and return the context's hash."""
        return self._log.record_call_context(call_hash, context_hash, context)

    # the caches ------------------------------------------------------------------------------------------

    def check_cache(
        self,
        task_hash: str,
        args_hash: str,
        eval_hash: str,
        execution_id: str,
        scheduler_task_hashes: set[str],
        cache_scope: CacheScope,
        check_valid: CacheCheckValid,
        context_hash: str | None = None,
        allowed_cache_results: set[CacheResult] | None = None,
    ) -> tuple[Any, str | None, CacheResult]:
        """Return the result of an earlier call, its call hash if it has one, and which cache answered."""
        allowed = allowed_cache_results
        value, call_hash, kind = self._log.check_cache(
            task_hash=task_hash,
            args_hash=args_hash,
            eval_hash=eval_hash,
            execution_id=execution_id,
            current_tasks=scheduler_task_hashes,
            scope=_SCOPES[cache_scope],
            check=_CHECKS[check_valid],
            context_hash=context_hash,
            allowed=None if allowed is None else {_KINDS[each] for each in allowed},
        )
        return value, call_hash, _RESULTS[kind]

    def set_eval_cache(
        self, eval_hash: str, task_hash: str, args_hash: str, value: Any, value_hash: str | None = None
    ) -> None:
        """Put the result of a single reduction into the cache."""
        self._log.set_evaluation(eval_hash, task_hash, args_hash, value, value_hash=value_hash)

    def explain_cache_miss(self, task: Task[..., Any], args_hash: str) -> dict[str, Any] | None:
        """Say which recorded call comes closest to one that was not in the cache."""
        miss = self._log.explain_cache_miss(task.fullname, task.hash, args_hash)
        if miss is None or miss.call_hash is None:
            return {"reason": miss.reason} if miss is not None else None
        return {
            "reason": miss.reason,
            "call_hash": miss.call_hash,
            "call_task_hash": miss.task_hash,
            "call_args_hash": miss.args_hash,
        }

    # handles ---------------------------------------------------------------------------------------------

    def advance_handle(self, handles: list[Handle], child_handle: Handle) -> None:
        """Record that `handles` led to `child_handle`; all are valid from now on."""
        states = [_handle_state(handle) for handle in handles]
        recorded = self._log.advance_handle(states, _handle_state(child_handle))
        # Two handles may be one state.
        for handle in (*(state.value for state in recorded), *handles, child_handle):
            handle.__handle__.is_recorded = True

    def rollback_handle(self, handle: Handle) -> None:
        """Make invalid what followed from a handle."""
        self._log.rollback_handle(_handle_state(handle))

    def is_valid_handle(self, handle: Handle) -> bool:
        """Whether a handle is recorded and valid."""
        return self._log.is_valid_handle(handle.__handle__.hash)

    # tags ------------------------------------------------------------------------------------------------

    def record_tags(
        self,
        entity_type: TagEntity,
        entity_id: str,
        tags: Iterable[tuple[str, Any]],
        parents: Iterable[str] = (),
        update: bool = False,
        new: bool = False,
    ) -> list[tuple[str, str, str, Any]]:
        """Put tags on an entity, and return hash, entity, key and value of each."""
        return _tuples(
            self._log.record_tags(entity_type.value, entity_id, tags, parents=parents, update=update, new=new)
        )

    def update_tags(
        self,
        entity_type: TagEntity,
        entity_id: str,
        old_keys: Iterable[str],
        new_tags: Iterable[tuple[str, Any]],
    ) -> list[tuple[str, str, str, Any]]:
        """Put tags in place of all current ones with the old keys."""
        return _tuples(self._log.update_tags(entity_type.value, entity_id, old_keys, new_tags))

    def delete_tags(
        self, entity_id: str, tags: Iterable[tuple[str, Any]], keys: Iterable[str] = ()
    ) -> list[tuple[str, str, str, Any]]:
        """Take off the current tags that are given, or have a given key; returns the delete tag."""
        return _tuples(self._log.delete_tags(entity_id, tags, keys=keys))

    def get_tags(self, entity_ids: list[str]) -> dict[str, MultiMap[str, Any]]:
        """Return the current tags of each entity that has some."""
        return {
            entity_id: MultiMap([(tag.key, _content_of(tag.value)[0]) for tag in tags])
            for entity_id, tags in self._log.get_tags(entity_ids).items()
        }

    # records ---------------------------------------------------------------------------------------------

    def get_records(self, ids: Iterable[str], sorted: bool = True) -> Iterator[dict[str, Any]]:  # noqa: A002
        """Yield the records of known ids; `sorted` keeps the order of `ids`."""
        return map(self._loaded().types.whole_record, self._log.get_records(ids, in_order=sorted))

    def put_records(self, records: Iterable[dict[str, Any]]) -> int:
        """Take in records in any order, and return how many were new."""
        return self._log.put_records(records)

    def iter_record_ids(self, root_ids: Iterable[str]) -> Iterator[str]:
        """Yield the ids of all that known roots own, roots first."""
        return self._log.iter_record_ids(root_ids)


def _describe_job(job: Any) -> JobDescription:
    parent = job.parent_job
    return JobDescription(
        job.id,
        job.execution.id,
        None if parent is None else parent.id,
        describe_task(job.task),
        job.was_cached,
        job.call_hash,
    )


def _handle_state(handle: Handle) -> HandleState:
    # From the far end of the chain of forks, which may be long.
    chain = [handle]
    while (parent := chain[-1].__handle__.fork_parent) is not None and not chain[-1].__handle__.is_recorded:
        chain.append(parent)
    state: HandleState | None = None
    for each in reversed(chain):
        facts = each.__handle__
        state = HandleState(facts.hash, facts.fullname, facts.key, each, facts.is_recorded, state)
    assert state is not None  # noqa: S101 - the chain has the handle itself
    return state


def _tuples(tags: Iterable[TagFacts]) -> list[tuple[str, str, str, Any]]:
    return [(tag.tag_hash, tag.entity_id, tag.key, _content_of(tag.value)[0]) for tag in tags]
