"""The log as a few Python lists: what a store should answer, without files, hashes or columns.

The model knows the same words as the store (append, flush, seal, crash, recover) and computes positions and
order by the rules of the format page, section 13. Whoever drives both tells the model what only the store
can choose: writer ids and times.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from eventstore.events.envelope import Event, RecordedEvent
from eventstore.ids import EventId
from eventstore.value_store import data_digest

__all__ = ["ModelEvent", "ModelLog", "stored_form"]


def stored_form(
    event: Event, *, recorded_us: int, actor: str | None = None, inline_limit: int = 1 << 62
) -> Event:
    """Return `event` as a store gives it back.

    The store's `actor` and the time of recording stand where it says none, and a value that is longer
    than `inline_limit` bytes has gone to the value store.
    """
    update: dict[str, Any] = {}
    if event.occurred_at is None:
        update["occurred_at"] = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(
            microseconds=recorded_us
        )
    if event.actor is None and actor is not None:
        update["actor"] = actor
    data = getattr(event, "data", None)
    if isinstance(data, bytes) and event.kind == "value.recorded" and len(data) > inline_limit:
        update |= {"data": None, "data_digest": data_digest(data)}
    return event.model_copy(update=update) if update else event


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """One event of the model, as it should be read back; `position` is None in the tail."""

    position: int | None
    id: EventId
    event: Event

    def differs(self, recorded: RecordedEvent) -> str | None:
        """Say in what `recorded` is not this event; None if it is."""
        if recorded.position != self.position:
            return f"{recorded.id} stands at {recorded.position}, not at {self.position}"
        if recorded.id != self.id:
            return f"at {self.position} stands {recorded.id}, not {self.id}"
        found = recorded.event
        if isinstance(found, Mapping) or type(found) is not type(self.event) or found != self.event:
            return f"{self.id} reads as {found!r}, not {self.event!r}"
        return None


@dataclass(slots=True)
class _Segment:
    recorded_from_us: int
    writer: str
    first_sequence: int
    events: list[ModelEvent]

    @property
    def key(self) -> tuple[int, str, int]:
        return self.recorded_from_us, self.writer, self.first_sequence


@dataclass(slots=True)
class ModelLog:
    """A log in memory.

    Parameters
    ----------
    auto_seal
        Seal after each flush and each recovery.
    """

    auto_seal: bool = False
    sealed: list[ModelEvent] = field(default_factory=list)
    seals: int = 0
    _durable: list[_Segment] = field(default_factory=list)
    _open: dict[str, _Segment] = field(default_factory=dict)
    _dead: dict[str, _Segment] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many events have a position."""
        return len(self.sealed)

    def append(self, first: EventId, events: Iterable[Event], *, recorded_us: int) -> None:
        """Take in one batch whose first event got the id `first`; events in their stored form."""
        writer = str(first.writer)
        segment = self._open.setdefault(writer, _Segment(recorded_us, writer, first.sequence, []))
        segment.events += [
            ModelEvent(None, EventId(first.writer, sequence), event)
            for sequence, event in enumerate(events, first.sequence)
        ]

    def flush(self, writer: str) -> None:
        """Make what a writer has open durable."""
        if writer in self._open:
            self._durable.append(self._open.pop(writer))
            if self.auto_seal:
                self.seal()

    def seal(self) -> None:
        """Give every durable event its position."""
        if not self._durable:
            return
        for segment in sorted(self._durable, key=lambda segment: segment.key):
            for event in segment.events:
                self.sealed.append(ModelEvent(len(self.sealed), event.id, event.event))
        self._durable.clear()
        self.seals += 1

    def crash(self, writer: str, *, journaled: bool = True) -> None:
        """Kill a writer; without a journal what it had open is gone."""
        segment = self._open.pop(writer, None)
        if segment is not None and journaled:
            self._dead[writer] = segment

    def recover(self) -> int:
        """Make durable what dead writers left; returns how many events."""
        recovered = sum(len(segment.events) for segment in self._dead.values())
        self._durable += self._dead.values()
        self._dead.clear()
        if recovered and self.auto_seal:
            self.seal()
        return recovered

    def open_events(self, writer: str) -> list[ModelEvent]:
        """What a writer has in no segment."""
        segment = self._open.get(writer)
        return list(segment.events) if segment else []

    def level(self, event: EventId) -> int:
        """1 journaled, 2 durable, 3 sealed; 0 if there is no such event."""
        if any(known.id == event for known in self.sealed):
            return 3
        if any(known.id == event for segment in self._durable for known in segment.events):
            return 2
        waiting = [*self._open.values(), *self._dead.values()]
        return int(any(known.id == event for segment in waiting for known in segment.events))

    def tail(self, *, own: str | None = None, journals: bool = True) -> list[ModelEvent]:
        """Events without a position: durable ones in the order of sealing, then those in no segment.

        Of the latter a store sees those of its `own` writer first, and then, if there are `journals`, the
        others by writer.
        """
        durable = sorted(self._durable, key=lambda segment: segment.key)
        waiting = sorted({**self._open, **self._dead}.items(), key=lambda item: (item[0] != own, item[0]))
        if not journals:
            waiting = [item for item in waiting if item[0] == own]
        return [
            event for segment in [*durable, *(segment for _, segment in waiting)] for event in segment.events
        ]

    def read(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        limit: int | None = None,
        tail: bool = False,
        own: str | None = None,
        journals: bool = True,
    ) -> list[ModelEvent]:
        """Answer as `EventStore.read` does; `own` and `journals` as in `tail`."""
        start = 0 if after is None else max(0, after + 1)
        end = len(self.sealed) if until is None else max(0, until)
        found = self.sealed[start:end]
        if tail:
            found = found + self.tail(own=own, journals=journals)
        chosen = (known for known in found if kinds is None or known.event.kind in kinds)
        return list(islice(chosen, limit))
