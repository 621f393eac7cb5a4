"""`Backend`: what a workflow engine asks of its history, with no word of any engine.

Recording methods are called on one thread, questions come from any. What a recording method was told is
visible to every process of this machine when it returns, and to other machines within a bound that the
implementation states; several calls are never atomic together, so a crash may leave any prefix of them.

What is unknown is an empty answer, never an error. A recording method that raises has recorded nothing, and
leaves the backend as usable as before.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

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
    TaskDescription,
)
from eventstore.errors import InvalidEventError
from eventstore.events import EntityType, JobStatus
from eventstore.index.facts import JobFacts, TagFacts
from eventstore.tags import Pairs
from eventstore.value import Described

__all__ = ["Backend", "Types", "ValueTooLargeError"]


class ValueTooLargeError(InvalidEventError):
    """A value has more bytes than the backend takes; nothing was recorded."""

    default_code = "value_too_large"


class Types(Protocol):
    """How the objects of an engine become values; `StoreTypes` makes one of `eventstore.value.ValueTypes`."""

    def describe(self, value: Any, *, data: bytes | None = None) -> Described:
        """Return hash, type name, media type, bytes and path of `value`; the exceptions of pickling pass.

        Parameters
        ----------
        data
            The serialized bytes, where they are at hand: they are hashed as they are.
        """

    def load(self, type_name: str, data: bytes, media_type: str) -> Any:
        """Return the value of these bytes; NotFoundError says that what they need is gone."""

    def iter_subvalues(self, value: Any) -> Iterable[Any]:
        """Yield the values inside `value`, with those inside them."""

    def task_of(self, value: Any) -> TaskDescription | None:
        """Return what is known of `value` if it is a task; else None."""


class Backend(ABC):
    """Where an engine records what it does, and asks what was done before."""

    # opening ---------------------------------------------------------------------------------------------

    @abstractmethod
    def load(self) -> None:
        """Make ready. Does nothing the second time."""

    @abstractmethod
    def close(self) -> None:
        """Let go; a second time does nothing."""

    # executions and jobs ---------------------------------------------------------------------------------

    @abstractmethod
    def record_execution(self, execution_id: str, args: Sequence[Any]) -> None:
        """Say that an execution begins: it is remembered here, and recorded together with its root job.

        Parameters
        ----------
        args
            How it was asked for, as JSON can say it.
        """

    @abstractmethod
    def record_heartbeat(self, execution_id: str, *, now: dt.datetime | None = None) -> None:
        """Say that an execution is alive. Of one that nobody knows nothing is recorded."""

    @abstractmethod
    def get_execution(self, execution_id: str) -> ExecutionState | None:
        """Return a recorded execution."""

    @abstractmethod
    def record_job_start(self, job: JobDescription, *, now: dt.datetime | None = None) -> None:
        """Record task and start of a job, and for a root job its execution.

        A job with a parent may belong to an execution that is recorded elsewhere, or nowhere.

        Raises
        ------
        NotFoundError
            A root job of an execution that was not begun here, or that has its root job already (code
            ``unknown_execution``).
        InvalidEventError
            `now` has no timezone (``naive_time``), a hash is none (``bad_hash``, ``hash_length``).
        """

    @abstractmethod
    def record_job_end(
        self, job: JobDescription, *, now: dt.datetime | None = None, status: JobStatus | str | None = None
    ) -> None:
        """Record the end of a job. One that never started is recorded with start = end; a later end replaces.

        Parameters
        ----------
        status
            ``FAILED`` says so; otherwise the job failed if its call's result is an error, and is cached or
            done as `job` says.

        Raises
        ------
        NotFoundError, InvalidEventError
            As in `record_job_start`.
        """

    @abstractmethod
    def get_job(self, job_id: str) -> JobFacts | None:
        """Return a recorded job; its status is None while it runs."""

    # values ----------------------------------------------------------------------------------------------

    @abstractmethod
    def record_value(self, value: Any, *, data: bytes | None = None) -> str:
        """Record a value, the values inside it, and the task that it is; returns its hash.

        A value that is known stays as the first writer stated it. The exceptions of serialization pass
        through as they are.

        Parameters
        ----------
        data
            Its serialized bytes, where they are at hand.

        Raises
        ------
        ValueTooLargeError
            It has more bytes than the backend takes.
        """

    @abstractmethod
    def get_value(self, value_hash: str) -> tuple[Any, bool]:
        """Return a value and True; or None and False if it is unknown, or its bytes or its module are gone.

        Other exceptions of deserialization pass through.
        """

    # the caches ------------------------------------------------------------------------------------------

    @abstractmethod
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
        """Return the result of an earlier call with the same task and arguments, or a miss.

        Asked in this order, and the first that has a readable value answers: jobs of the execution, the one
        that started last; with ``SHALLOW``, calls of which all tasks are current, the newest first
        recorded; evaluations. Errors are results; whether a value is still valid is for the engine to judge.

        Parameters
        ----------
        current_tasks
            Hashes of the tasks that the engine has now.
        scope, check
            How far to look.
        context_hash
            Only jobs and calls that were made under this context; an evaluation knows no context. None does
            not restrict them.
        allowed
            Which caches may answer; None allows all.
        """

    @abstractmethod
    def set_evaluation(
        self, eval_hash: str, task_hash: str, args_hash: str, value: Any, *, value_hash: str | None = None
    ) -> None:
        """Put the result of a single reduction into the cache; a later one replaces it.

        Parameters
        ----------
        value_hash
            Of a value that is recorded; `value` is then not looked at. None records `value`.

        Raises
        ------
        NotFoundError
            Nothing is recorded under `value_hash` (code ``unknown_value``).
        """

    @abstractmethod
    def explain_cache_miss(self, task_name: str, task_hash: str, args_hash: str) -> CacheMiss | None:
        """Say which recorded call comes closest; `task_name` is the full one. None: cannot be told."""

    # calls -----------------------------------------------------------------------------------------------

    @abstractmethod
    def record_call_node(self, call: CallNode) -> str:
        """Record a call, its arguments and what led to them; returns its hash. A known one stays as it is.

        Only children that are recorded become children; if one is not, the tasks of the subtree are recorded
        here, since nobody else has.

        Raises
        ------
        NotFoundError
            Nothing is recorded under `call.result_hash` (code ``unknown_value``).
        """

    @abstractmethod
    def subtree_tasks(self, call_hash: str) -> frozenset[str]:
        """Return the hashes of all tasks at and below a call; empty for one that was imported."""

    @abstractmethod
    def record_call_context(self, call_hash: str, context_hash: str | None, context: Any) -> str:
        """Record that a call was made under a context, and the context as a value; returns its hash.

        Parameters
        ----------
        context_hash
            The context's hash, where the engine knows it; None takes that of the value.
        """

    # handles ---------------------------------------------------------------------------------------------

    @abstractmethod
    def advance_handle(self, parents: Sequence[HandleState], child: HandleState) -> list[HandleState]:
        """Record that `parents` led to `child`: all of them are valid from now on, also rolled back ones.

        Of a parent that is not recorded yet, the states that it was forked from are recorded too, up to the
        first, without edges between them. Without parents only `child` is recorded.

        Returns
        -------
        All states that were recorded, each once, for the engine to note that they are.
        """

    @abstractmethod
    def rollback_handle(self, handle: HandleState) -> None:
        """Make invalid what followed from a state over valid ones of the same name; not the state itself."""

    @abstractmethod
    def is_valid_handle(self, handle: HandleState | str) -> bool:
        """Whether a state, given by itself or by its hash, is recorded and valid."""

    # tags ------------------------------------------------------------------------------------------------

    @abstractmethod
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
        """Put tags on an entity, which need not exist, beside those that it has; returns all of them.

        Recording again what was recorded changes nothing, also where it was superseded or deleted since.

        Parameters
        ----------
        parents
            Hashes of tags that the new ones replace.
        update
            Replace also the current tags of these keys; means `new`.
        new
            Make the tags current even if they were superseded: each then replaces its last self.

        Raises
        ------
        InvalidEventError
            A key or value is none (``bad_tag_key``, ``bad_tag_value``), or nothing of this type is tagged
            (``unknown_entity_type``).
        """

    @abstractmethod
    def update_tags(
        self, entity_type: EntityType | str, entity_id: str, old_keys: Iterable[str], pairs: Pairs
    ) -> list[TagFacts]:
        """Put tags in place of all current ones with the old keys; returns them."""

    @abstractmethod
    def delete_tags(self, entity_id: str, pairs: Pairs = (), *, keys: Iterable[str] = ()) -> list[TagFacts]:
        """Take off the current tags that are one of `pairs` or have one of `keys`; returns the delete tag.

        Where there is nothing to take off, nothing is recorded, and nothing returned.

        Raises
        ------
        InvalidEventError
            Neither pairs nor keys are given (code ``no_tags_named``).
        """

    @abstractmethod
    def get_tags(self, entity_ids: Iterable[str]) -> dict[str, list[TagFacts]]:
        """Return the current tags of each entity that has some."""

    # records ---------------------------------------------------------------------------------------------

    @abstractmethod
    def get_records(self, ids: Iterable[str], *, in_order: bool = True) -> Iterator[dict[str, Any]]:
        """Yield one record for each id that is known; docs/redun.md has the fields.

        Parameters
        ----------
        in_order
            Keep the order of `ids`, repeats included; else by type, each once.
        """

    @abstractmethod
    def put_records(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Take in records in any order, and return how many were new; what is known stays as it is.

        Raises
        ------
        FormatError
            A record is of another version (code ``record_version``) or type (``record_type``).
        InvalidEventError
            A field of one is wrong.
        """

    @abstractmethod
    def iter_record_ids(self, root_ids: Iterable[str]) -> Iterator[str]:
        """Yield the ids of all that known roots own, roots first, breadth first, each once."""
