"""`Recorder` and `Batch`: the events of one call, appended as one, and what is known after it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from eventstore.backend.base import Types, ValueTooLargeError
from eventstore.backend.descriptions import TaskDescription
from eventstore.backend.known import Known, Recent
from eventstore.backend.stated import value_recorded
from eventstore.errors import InvalidEventError, NotFoundError
from eventstore.events import Event, JobStatus, TaskRecorded
from eventstore.index.facts import JobFacts
from eventstore.value import Described
from eventstore.workflow.recording import INLINE_BYTES

if TYPE_CHECKING:
    from eventstore.index.history import HistoryIndex
    from eventstore.store import EventStore

__all__ = ["Batch", "Recorder"]

_LEAVES = frozenset([type(None), bool, int, float, complex, str, bytes])
"""Nothing is inside of these."""
_SHORT = 256
"""Longest plain value in bytes that is not looked up before a new call states it."""


class Recorder:
    """What the parts of a backend share: the store, its types, and what was recorded.

    Parameters
    ----------
    store
        An open store.
    types
        How objects become values.
    max_value_size
        Most bytes of a value.
    error_types
        Type names of values that stand for a failure.
    """

    def __init__(
        self, store: EventStore, *, types: Types, max_value_size: int, error_types: Collection[str]
    ) -> None:
        self.store = store
        self.types = types
        self.max_value_size = max_value_size
        self.error_types = frozenset(error_types)
        self.known = Known()

    @property
    def lookup(self) -> HistoryIndex:
        """What answers for the history."""
        return self.store.lookup

    def batch(self) -> Batch:
        """Return an empty batch."""
        return Batch(self)

    def is_error(self, value_hash: str) -> bool | None:
        """Whether a recorded value stands for a failure; None if there is no such value."""
        known = self.known.values.get(value_hash)
        if known is None:
            facts = self.lookup.value_facts(value_hash)
            if facts is not None:
                known = facts.type_name in self.error_types
                self.known.values.put(value_hash, known)
        return known

    def has_failed(self, call_hash: str) -> bool | None:
        """Whether the result of a recorded call stands for a failure; None if there is no such call."""
        known = self.known.calls.get(call_hash)
        if known is None:
            call = self.lookup.call(call_hash, look=False)
            if call is not None:
                known = bool(self.is_error(call.value_hash))
                self.known.calls.put(call_hash, known)
        return known

    def job(self, job_id: str) -> JobFacts | None:
        """Return a recorded job; it failed also if its call's result turned out to be an error later."""
        job = self.lookup.job(job_id)
        if job is None or job.status is None or job.status == JobStatus.FAILED or job.call_hash is None:
            return job
        return job._replace(status=JobStatus.FAILED.value) if self.has_failed(job.call_hash) else job

    def check_value(self, value_hash: str) -> None:
        """Raise NotFoundError (code ``unknown_value``) unless the value is recorded."""
        if self.is_error(value_hash) is None:
            raise NotFoundError(
                f"a recorded value was expected under {value_hash}, found none; record the value first. "
                "Nothing was stored",
                code="unknown_value",
                value_hash=value_hash,
            )


class Batch:
    """Events of one call, values before what mentions them."""

    __slots__ = ("_notes", "_recorder", "_stated", "events")

    def __init__(self, recorder: Recorder) -> None:
        self.events: list[Event] = []
        self._recorder = recorder
        self._stated: set[str] = set()
        self._notes: list[tuple[Recent[Any], str, Any]] = []

    def add(self, event: Event) -> None:
        """Add an event behind those that are in."""
        self.events.append(event)

    def note(self, kind: Recent[Any], key: str, fact: Any = True) -> None:
        """Remember `fact` of `key` once the batch is appended."""
        self._notes.append((kind, key, fact))

    def value(self, value: Any, data: bytes | None = None, *, asks: bool = True) -> str:
        """State a value and the values inside it, unless they are recorded; returns its hash.

        Parameters
        ----------
        data
            Its bytes, where they are at hand.
        asks
            Whether the store is asked for it. A short number or text of a call that is new is sooner stated
            again than looked up: the first one counts, and what was stated here of late is known.

        Raises
        ------
        ValueTooLargeError
            It, or a value inside it, has more bytes than the backend takes.
        """
        recorder = self._recorder
        found = recorder.types.describe(value) if data is None else recorder.types.describe(value, data=data)
        value_hash = found.value_hash
        known = recorder.known.values
        if known.get(value_hash) is not None or value_hash in self._stated:
            return value_hash
        is_error = found.type_name in recorder.error_types
        asks = asks or value.__class__ not in _LEAVES or len(found.data) > _SHORT
        if asks and recorder.lookup.has_value(value_hash, look=False):
            known.put(value_hash, is_error)
            return value_hash
        self._stated.add(value_hash)
        self._state(value, found)
        self._notes.append((known, value_hash, is_error))
        return value_hash

    def _state(self, value: Any, found: Described) -> None:
        recorder = self._recorder
        value_hash, type_name, media_type, data, file_path = found
        size = len(data)
        if size > recorder.max_value_size:
            raise _too_large(found, recorder.max_value_size)
        inside: tuple[str, ...] = ()
        is_leaf = value.__class__ in _LEAVES
        if not is_leaf:
            # The parts inside a part are stated with it, and are parts of the whole as well.
            inside = tuple({self.value(part): None for part in recorder.types.iter_subvalues(value)})
        digest = None
        if size > INLINE_BYTES:
            try:
                digest = recorder.store.values.put(data)
            except InvalidEventError as error:
                raise ValueTooLargeError(error.message, **error.facts) from error
        self.events.append(
            value_recorded(
                value_hash,
                type_name,
                media_type,
                size,
                data=data if digest is None else None,
                data_digest=digest,
                subvalues=inside,
                file_path=file_path,
            )
        )
        task = None if is_leaf else recorder.types.task_of(value)
        if task is not None:
            self._state_task(task)

    def task(self, task: TaskDescription) -> None:
        """State a task and the value that it is, unless they are recorded."""
        known = self._recorder.known.tasks
        if known.get(task.task_hash) is not None:
            return
        if task.value is not None:
            self.value(task.value)
        self._state_task(task)
        self._notes.append((known, task.task_hash, True))

    def _state_task(self, task: TaskDescription) -> None:
        key = f"task {task.task_hash}"
        if key in self._stated:
            return
        self._stated.add(key)
        if self._recorder.lookup.task(task.task_hash) is None:
            self.events.append(
                TaskRecorded(
                    task_hash=task.task_hash,
                    task_name=task.name,
                    task_namespace=task.namespace,
                    source=task.source,
                    task_version=task.version,
                )
            )

    def append(self) -> None:
        """Append all events as one; then what they say is known."""
        if self.events:
            self._recorder.store.append(*self.events)
        for kind, key, fact in self._notes:
            kind.put(key, fact)


def _too_large(found: Described, limit: int) -> ValueTooLargeError:
    return ValueTooLargeError(
        f"a value of at most {limit:,} bytes was expected, found a {found.type_name} of {len(found.data):,}; "
        "keep it in a file and give the file, or raise max_value_size. Nothing was stored",
        size_bytes=len(found.data),
        max_value_size=limit,
        type_name=found.type_name,
    )
