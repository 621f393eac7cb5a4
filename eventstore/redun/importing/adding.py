"""Events on their way into the store: collected to batches, and never a second time what the store knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eventstore.errors import InvalidEventError
from eventstore.events import Event, ValueRecorded

if TYPE_CHECKING:
    from eventstore.store import EventStore

__all__ = ["Adding"]

BATCH_EVENTS, BATCH_BYTES = 1_000, 16 * 1024 * 1024
"""When what was collected is appended: so many events, or so many bytes of values."""
MOST_NAMED = 20
"""Rows that were left out and are named; the others are only counted."""


class Adding:
    """What an import adds to one store. Append order is call order.

    Parameters
    ----------
    store
        Open for writing.
    counted
        Called after each row that was looked at.
    """

    def __init__(self, store: EventStore, counted: Callable[[int], None] = lambda _rows: None) -> None:
        self.known = store.lookup
        """What the store says of itself; what was collected and not appended yet is in `pending`."""
        self.pending: set[str] = set()
        self.found: Counter[str] = Counter()
        """Rows that were read, by what they are."""
        self.added: Counter[str] = Counter()
        """Events that were appended, by kind."""
        self.left_out: Counter[str] = Counter()
        """Rows that no event can hold, by table."""
        self.faults: list[str] = []
        """What is wrong with the first `MOST_NAMED` of these."""
        self._store = store
        self._counted = counted
        self._events: list[Event] = []
        self._bytes = 0

    def looked_at(self, what: str, rows: int = 1) -> None:
        """Count rows of the database."""
        self.found[what] += rows
        self._counted(rows)

    def add(self, table: str, key: str, kind: Callable[..., Event], **fields: Any) -> Event | None:
        """Make an event and collect it; returns None where the row cannot be one, which is noted."""
        try:
            event = kind(**fields)
        except InvalidEventError as error:
            self.left_out[table] += 1
            if len(self.faults) < MOST_NAMED:
                self.faults.append(f"{table} {key[:80]!r}: {_words(error)}")
            return None
        if isinstance(event, ValueRecorded) and event.data is not None:
            if self._bytes + len(event.data) > BATCH_BYTES:
                self.append()
            self._bytes += len(event.data)
        self._events.append(event)
        self.pending.add(key)
        if len(self._events) >= BATCH_EVENTS:
            self.append()
        return event

    def append(self) -> None:
        """Append what was collected; the store knows it from then on."""
        if self._events:
            self._store.append(*self._events)
            self.added.update(event.kind for event in self._events)
        self._events, self._bytes = [], 0
        self.pending.clear()


def _words(error: InvalidEventError) -> str:
    faults = error.facts.get("faults", ())
    return "; ".join(f"{f.field}: expected {f.expected}, found {f.found}" for f in faults) or error.message
