"""What recording asks of a store, and how events that belong together become one append.

A `Recorder` remembers what its open store has been told, so values and tasks are stated once. A `Batch`
collects events in the order that readers rely on, values before what mentions them, and appends them whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from eventstore.errors import EventStoreError
from eventstore.events import EntityType, Event, TaskRecorded, ValueRecorded
from eventstore.tags import record_tags
from eventstore.value import Described, ValueTypes, default_types, iter_values, not_picklable
from eventstore.workflow.identity import Identity

__all__ = ["Batch", "Lookup", "Pulse", "Recorder", "Recording", "Stored", "Values"]

INLINE_BYTES = 64 * 1024
"""Longer values go to the value store at once, so that neither batch nor look-ups hold their bytes."""
_MOST_KNOWN = 200_000


class Stored(Protocol):
    """A value as it was recorded."""

    @property
    def type_name(self) -> str:
        """Registered name of its type."""

    @property
    def format(self) -> str:
        """Media type of its bytes."""

    @property
    def data(self) -> bytes:
        """Its serialized bytes."""


class Lookup(Protocol):
    """The questions that a task call asks of the history."""

    def evaluation(self, eval_hash: str) -> str | None:
        """Return the value hash that the evaluation cache holds, or None."""

    def value(self, value_hash: str) -> Stored | None:
        """Return a recorded value, or None."""

    def has_value(self, value_hash: str) -> bool:
        """Whether the value is recorded."""

    def is_valid_handle(self, handle_hash: str) -> bool:
        """Whether the state of a handle is recorded, and not rolled back since it was last mentioned."""


class Values(Protocol):
    """Bytes by digest."""

    def put(self, data: bytes) -> str:
        """Store `data` and return its BLAKE3."""


class Recording(Protocol):
    """A store, as far as recording is concerned."""

    @property
    def values(self) -> Values:
        """Where large values go."""

    @property
    def lookup(self) -> Lookup:
        """What answers for the history."""

    def append(self, *events: Event) -> Any:
        """Record events, all or none, in this order."""


class Known:
    """Hashes of what one open store has been told, the newest `_MOST_KNOWN`. Safe to share by threads."""

    def __init__(self) -> None:
        self._hashes: dict[str, None] = {}
        self._lock = threading.Lock()

    def __contains__(self, entity_hash: str) -> bool:
        return entity_hash in self._hashes

    def update(self, hashes: set[str]) -> None:
        """Take in what was appended. The oldest is forgotten first: stating it again does no harm."""
        if not hashes:
            return
        with self._lock:
            self._hashes.update(dict.fromkeys(hashes))
            for _ in range(len(self._hashes) - _MOST_KNOWN):
                del self._hashes[next(iter(self._hashes))]


_known: WeakKeyDictionary[Recording, Known] = WeakKeyDictionary()
_known_lock = threading.Lock()


class Recorder:
    """One open store, what it has been told already, and how Python objects become values.

    Parameters
    ----------
    store
        Where events go. All recorders of one store share what it knows.
    types
        How Python objects become values.
    """

    def __init__(self, store: Recording, *, types: ValueTypes = default_types) -> None:
        self.store = store
        self.types = types
        with _known_lock:
            self.known = _known.setdefault(store, Known())

    def describe(self, value: Any, what: str) -> Described:
        """Look at the files in `value` again, serialize and hash it; `what` it is, for the message.

        Raises
        ------
        InvalidEventError
            It cannot be pickled (code ``not_picklable``), or is a task without source (``no_source``).
        """
        try:
            for part in iter_values(value):
                part.refresh()
            return self.types.describe(value)
        except EventStoreError:
            raise
        except Exception as error:  # pickling runs the user's own code
            raise not_picklable(what, value, error) from error

    def batch(self) -> Batch:
        """Return an empty batch."""
        return Batch(self)


class Batch:
    """Events that are appended together."""

    __slots__ = ("_recorder", "_seen", "events")

    def __init__(self, recorder: Recorder) -> None:
        self.events: list[Event] = []
        self._recorder = recorder
        self._seen: set[str] = set()

    def add(self, event: Event) -> None:
        """Add an event behind those that are in."""
        self.events.append(event)

    def once(self, entity_hash: str) -> bool:
        """Whether the entity has still to be stated; the second time it has not."""
        if entity_hash in self._seen or entity_hash in self._recorder.known:
            return False
        self._seen.add(entity_hash)
        return True

    def first(self, entity_hash: str) -> bool:
        """Whether this batch has not stated the entity yet, whatever the history knows."""
        if entity_hash in self._seen:
            return False
        self._seen.add(entity_hash)
        return True

    def value(self, value: Any, described: Described) -> None:
        """State a value and the values inside it, unless the history knows it."""
        lookup = self._recorder.store.lookup
        if self.once(described.value_hash) and not lookup.has_value(described.value_hash):
            self._state(value, described)

    def _state(self, value: Any, described: Described) -> None:
        inside: dict[str, None] = {}
        for part in self._recorder.types.iter_subvalues(value):
            found = self._recorder.describe(part, f"a {type(part).__name__} in a value")
            inside[found.value_hash] = None
            self.value(part, found)
        data = described.data
        large = len(data) > INLINE_BYTES
        self.add(
            ValueRecorded(
                value_hash=described.value_hash,
                type_name=described.type_name,
                format=described.format,
                size_bytes=len(data),
                data=None if large else data,
                data_digest=self._recorder.store.values.put(data) if large else None,
                subvalues=tuple(inside),
                file_path=described.file_path,
            )
        )

    def task(self, identity: Identity) -> None:
        """State a task and its tags, once."""
        if not self.once(identity.hash):
            return
        self.add(
            TaskRecorded(
                task_hash=identity.hash,
                task_name=identity.name,
                task_namespace=identity.namespace,
                source=identity.source,
                task_version=identity.version,
            )
        )
        tags = record_tags(EntityType.TASK, identity.hash, identity.tags)
        if tags is not None:
            self.add(tags)

    def append(self) -> None:
        """Append all events as one, and remember what they state. Does nothing when empty."""
        if self.events:
            self._recorder.store.append(*self.events)
            self._recorder.known.update(self._seen)
            self.events = []
            self._seen = set()


class Pulse:
    """When the next heartbeat is due: at most one each `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = clock() + seconds

    def due(self) -> bool:
        """Whether one is due, and begin to wait for the next."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
