"""Which states of handles are valid now: folded in memory from the log's handle events, as they come.

The rules are those of the table `handles`, which says the same of the sealed log. What no seal has placed yet
is folded on top, in the order in which it is read, and anew each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from eventstore.events import Event, HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack
from eventstore.log.sequence import Head

__all__ = ["HandleStates", "LiveHandles", "Readable"]

_KINDS = ("handle.advanced", "handle.forked", "handle.recorded", "handle.rolled_back")
_COLUMNS = ("kind", "handle_hash", "handle_name", "parents")
_EVENTS = (HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack)


class Readable(Protocol):
    """A store, as far as live answers are concerned."""

    def head(self) -> Head:
        """Return where the sealed log ends now."""

    def read(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        tail: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield events in position order, those of the tail last and without position."""


class _State:
    __slots__ = ("children", "is_valid", "name")

    def __init__(self, name: str, children: Iterable[str] = (), *, is_valid: bool = True) -> None:
        self.name = name
        self.is_valid = is_valid
        self.children = dict.fromkeys(children)


class HandleStates:
    """States by hash, and what follows from each: about 500 bytes a state.

    Parameters
    ----------
    below
        Earlier states, which are read and never changed here.
    """

    def __init__(self, below: HandleStates | None = None) -> None:
        self._states: dict[str, _State] = {}
        self._below = below

    def apply(self, kind: str, handle_hash: str | None, name: str, parents: Sequence[str] | None) -> None:
        """Take in one event; an erased one, without hash, says nothing."""
        if handle_hash is None:
            return
        if kind == HandleRolledBack.kind:
            self._roll_back(handle_hash, name)
            return
        for parent in parents or ():
            self._validate(parent, name).children[handle_hash] = None
        self._validate(handle_hash, name)

    def knows(self, handle_hash: str) -> bool:
        """Whether an event has made the state known."""
        return self._get(handle_hash) is not None

    def is_valid(self, handle_hash: str) -> bool:
        """Whether the state is known and valid."""
        state = self._get(handle_hash)
        return state is not None and state.is_valid

    def _get(self, handle_hash: str) -> _State | None:
        state = self._states.get(handle_hash)
        if state is None and self._below is not None:
            return self._below._get(handle_hash)
        return state

    def _own(self, handle_hash: str, name: str) -> _State:
        """Return the state as one that may be changed here."""
        state = self._states.get(handle_hash)
        if state is None:
            below = self._get(handle_hash)
            if below is None:
                state = _State(name)
            else:
                state = _State(below.name, below.children, is_valid=below.is_valid)
            self._states[handle_hash] = state
        return state

    def _validate(self, handle_hash: str, name: str) -> _State:
        state = self._own(handle_hash, name)
        state.is_valid = True
        return state

    def _roll_back(self, start: str, name: str) -> None:
        """Invalidate what follows from `start` over valid states of this name; `start` keeps its flag."""
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            state = self._get(waiting.pop())
            if state is not None and state.is_valid and state.name == name:
                waiting.extend(child for child in state.children if child not in reached)
                reached.update(state.children)
        for handle_hash in reached - {start}:
            self._own(handle_hash, name).is_valid = False


class LiveHandles:
    """Answers of one store about its handles, as fresh as asked. Safe to share by threads.

    The first question reads all handle events, the next ones what is new, and what is not sealed.

    Parameters
    ----------
    store
        An open `EventStore`.
    fresh_seconds
        How old an answer may be with respect to the events that `observe` was not told of.
    """

    def __init__(self, store: Readable, *, fresh_seconds: float = 0.0) -> None:
        self._store = store
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._reached = -1
        self._sealed = HandleStates()
        self._now = HandleStates(self._sealed)
        self._looked_at = float("-inf")

    def is_valid_handle(self, handle_hash: str) -> bool:
        """Whether the state is recorded, and not rolled back since it was last mentioned."""
        with self._lock:
            return self._refreshed().is_valid(handle_hash)

    def knows_handle(self, handle_hash: str) -> bool:
        """Whether an event has made the state known."""
        with self._lock:
            return self._refreshed().knows(handle_hash)

    def observe(self, *events: Event) -> None:
        """Take in events that were just appended, ahead of reading them."""
        with self._lock:
            for event in events:
                if isinstance(event, _EVENTS):
                    parents: Any = getattr(event, "parents", None)
                    self._now.apply(event.kind, event.handle_hash, event.handle_name, parents)

    def _refreshed(self) -> HandleStates:
        if self._fresh_seconds and time.monotonic() - self._looked_at < self._fresh_seconds:
            return self._now
        size = self._store.head().size
        now = HandleStates(self._sealed)
        for batch in self._store.read(after=self._reached, kinds=_KINDS, columns=_COLUMNS, tail=True):
            positions = batch.column("position").to_pylist()
            is_sealed = positions[-1] is not None
            states = self._sealed if is_sealed else now
            for event in zip(*(batch.column(name).to_pylist() for name in _COLUMNS), strict=True):
                states.apply(*event)
            if is_sealed:
                self._reached = positions[-1]
        self._reached = max(self._reached, size - 1)
        self._now, self._looked_at = now, time.monotonic()
        return now
