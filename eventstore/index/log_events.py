"""From columns of the log to the records of its events, kind by kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.index.families import (
    BUILDERS,
    HANDLE_KINDS,
    KEEP,
    Entry,
    Family,
    Key,
    Place,
    encoded,
    key_bytes,
)
from eventstore.index.handle_states import HandleStates

__all__ = ["LogEvents", "RunRecords", "log_events"]


_ONE = frozenset(family for family, keep in KEEP.items() if keep == "last")


class LogEvents(NamedTuple):
    """The events of one kind in a batch: where each is, its time in microseconds, and its cells."""

    kind: str
    places: Sequence[tuple[str, int, int | None]]
    """Writer, sequence, and position where there is one."""
    times: Sequence[int]
    columns: Sequence[Sequence[Any]]

    def entries(self) -> Iterator[tuple[str, int, Sequence[Entry]]]:
        """Yield writer, sequence and records of each event; not of handles."""
        build = BUILDERS[self.kind].build
        for (writer, sequence, position), at, *cells in zip(
            self.places, self.times, *self.columns, strict=True
        ):
            place: Place = (writer, sequence) if position is None else position
            yield writer, sequence, build(place, at, *cells)

    def fields(self) -> Iterator[tuple[tuple[str, int, int | None], dict[str, Any]]]:
        """Yield the place and the fields of each event of handles."""
        names = HANDLE_KINDS[self.kind]
        for place, *cells in zip(self.places, *self.columns, strict=True):
            yield place, dict(zip(names, cells, strict=True))


def log_events(batch: pa.RecordBatch) -> Iterator[LogEvents]:
    """Yield the events of a batch that the index knows, kind by kind, each in the order of the log."""
    kinds = batch.column("kind")
    times = pc.coalesce(batch.column("occurred_at"), batch.column("recorded_at")).cast(pa.int64())
    for kind in pc.unique(kinds).to_pylist():
        names = BUILDERS[kind].columns if kind in BUILDERS else HANDLE_KINDS.get(kind)
        if names is None:
            continue
        mask = pc.equal(kinds, kind)
        place = [batch.column(name).filter(mask).to_pylist() for name in ("writer", "sequence", "position")]
        cells = [batch.column(name).filter(mask).to_pylist() for name in names]
        yield LogEvents(kind, list(zip(*place, strict=True)), times.filter(mask).to_pylist(), cells)


class RunRecords:
    """The records of a range of the log, on their way into one run.

    Parameters
    ----------
    handles
        The states of handles as of the beginning of the range.
    """

    def __init__(self, handles: HandleStates) -> None:
        self._handles = handles
        self._keys: list[bytes] = []
        self._payloads: list[bytes] = []
        self._last: dict[tuple[Family, Key], tuple[Any, ...]] = {}
        self._children: set[tuple[Key, str]] = set()
        self.writers: dict[str, int] = {}
        self.events = 0

    def take(self, batch: pa.RecordBatch) -> None:
        """Take in the events of a batch, which follows the one before."""
        handle_events: list[tuple[int, str, Mapping[str, Any]]] = []
        for events in log_events(batch):
            self.events += len(events.times)
            if events.kind in HANDLE_KINDS:
                handle_events += [(place[2] or 0, events.kind, fields) for place, fields in events.fields()]
                self._note(events.places)
                continue
            keys, payloads, last = self._keys, self._payloads, self._last
            for _, _, entries in events.entries():
                for family, key, record in entries:
                    if family in _ONE:
                        # One counts, and a key may come often: of each only the last is written.
                        last[family, key] = record
                    elif family is not Family.CHILD_JOB or not self._has_child(key, record[0]):
                        keys.append(key_bytes(family, key))
                        payloads.append(encoded(family, record))
            self._note(events.places)
        for _, kind, fields in sorted(handle_events, key=lambda event: event[0]):
            self._handles.apply(kind, fields)

    def _has_child(self, parent: Key, job_id: str) -> bool:
        """Whether the edge was there before: start and end of a job both say it."""
        before = len(self._children)
        self._children.add((parent, job_id))
        return len(self._children) == before

    def _note(self, places: Sequence[tuple[str, int, int | None]]) -> None:
        for writer, sequence, _ in places:
            if self.writers.get(writer, 0) <= sequence:
                self.writers[writer] = sequence + 1

    def finished(self) -> tuple[list[bytes], list[bytes]]:
        """Return keys and payloads, in the order of the log for each key."""
        for (family, key), record in self._last.items():
            self._keys.append(key_bytes(family, key))
            self._payloads.append(encoded(family, record))
        for family, key, record in self._handles.entries():
            self._keys.append(key_bytes(family, key))
            self._payloads.append(encoded(family, record))
        return self._keys, self._payloads
