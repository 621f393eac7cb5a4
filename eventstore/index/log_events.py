"""From columns of the log to the records of its events, kind by kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.index.columns import MOST_BYTES, records_of
from eventstore.index.families import BUILDERS, HANDLE_KINDS, KINDS, Entry, Place, encoded, key_bytes
from eventstore.index.handle_states import HandleStates
from eventstore.index.records import Records

__all__ = ["LogEvents", "RunRecords", "log_events"]


_ROWS = 50_000
"""How many events are made records at once."""


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
    """Yield the events of a batch that the index knows, kind by kind, each in the order of the log.

    Of kinds that have records of one key, such as start and end of a job, parts take turns as in the log.
    """
    kinds = batch.column("kind")
    times = pc.coalesce(batch.column("occurred_at"), batch.column("recorded_at")).cast(pa.int64())
    present = {kind.as_py(): kind for kind in pc.unique(kinds)}
    for group in _GROUPS:
        found = [_of_kind(batch, present[kind], times) for kind in group if kind in present]
        yield from (events for _, events in found) if len(found) < 2 else _in_turns(found)


_TOGETHER = (("job.started", "job.ended"), ("tags.recorded", "tags.deleted"))
"""Kinds of which records may have one key."""
_GROUPS = (*_TOGETHER, *((kind,) for kind in KINDS if not any(kind in group for group in _TOGETHER)))


def _of_kind(batch: pa.RecordBatch, stated: pa.StringScalar, times: Any) -> tuple[list[int], LogEvents]:
    """Return the rows of the events of a kind, and these."""
    kind = stated.as_py()
    names = BUILDERS[kind].columns if kind in BUILDERS else HANDLE_KINDS[kind]
    rows = pc.indices_nonzero(pc.equal(batch.column("kind"), stated))
    place = [batch.column(name).take(rows).to_pylist() for name in ("writer", "sequence", "position")]
    cells = [batch.column(name).take(rows).to_pylist() for name in names]
    events = LogEvents(kind, list(zip(*place, strict=True)), times.take(rows).to_pylist(), cells)
    return rows.to_pylist(), events


def _in_turns(found: list[tuple[list[int], LogEvents]]) -> Iterator[LogEvents]:
    """Yield the events of several kinds in the order of their rows, as many at a time as one kind has."""
    turns = sorted((row, number) for number, (rows, _) in enumerate(found) for row in rows)
    taken = [0] * len(found)
    for number, turn in groupby(number for _, number in turns):
        events = found[number][1]
        part = slice(taken[number], taken[number] + sum(1 for _ in turn))
        taken[number] = part.stop
        yield LogEvents(
            events.kind, events.places[part], events.times[part], [cells[part] for cells in events.columns]
        )


class RunRecords:
    """The records of a range of the log, on their way into one run.

    Parameters
    ----------
    handles
        The states of handles as of the beginning of the range.
    """

    def __init__(self, handles: HandleStates) -> None:
        self._handles = handles
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._made: list[Records] = []
        self.writers: dict[str, int] = {}
        """For each writer, one past its last sequence here; to be read once it is finished."""
        self.events = 0
        self.size_bytes = 0
        """Bytes of the records so far, but for those of handles and of what came last."""

    def take(self, batch: pa.RecordBatch) -> None:
        """Take in the events of a batch, which follows the one before."""
        self.events += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= _ROWS or self._waiting_bytes >= MOST_BYTES:
            self._make()

    def _make(self) -> None:
        # Small batches are joined first: what is done to a column costs some microseconds, however short.
        waiting, self._waiting = self._waiting, []
        self._waiting_rows = self._waiting_bytes = 0
        if waiting:
            batch = waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)
            self._note_writers(batch)
            self._take_handles(batch)
            made = records_of(batch)
            self._made += made
            self.size_bytes += sum(part.size_bytes for part in made)

    def _note_writers(self, batch: pa.RecordBatch) -> None:
        writers, sequences = batch.column("writer"), batch.column("sequence")
        for writer in pc.unique(writers).to_pylist():
            end = pc.max(sequences.filter(pc.equal(writers, writer))).as_py() + 1
            self.writers[writer] = max(end, self.writers.get(writer, 0))

    def _take_handles(self, batch: pa.RecordBatch) -> None:
        of_handles = pc.is_in(batch.column("kind"), pa.array(sorted(HANDLE_KINDS)))
        found = [
            (place[2] or 0, events.kind, fields)
            for events in log_events(batch.filter(of_handles))
            for place, fields in events.fields()
        ]
        for _, kind, fields in sorted(found, key=lambda event: event[0]):
            self._handles.apply(kind, fields)

    def finished(self) -> Records:
        """Return the records, those of each key in the order of the log."""
        self._make()
        entries = list(self._handles.entries())
        keys = [key_bytes(family, key) for family, key, _ in entries]
        payloads = [encoded(family, record) for family, _, record in entries]
        return Records.join([*self._made, Records.of_columns(keys, payloads)])
