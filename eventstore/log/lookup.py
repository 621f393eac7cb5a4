"""Answers to what an engine asks while it runs: is an evaluation cached, what are the bytes of a value.

An index in memory of two kinds of events, brought up to the head as it is asked; own appends are seen at
once. It is derived data: dropping it costs one pass over the columns it reads.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eventstore.events.envelope import Event
from eventstore.events.value import EvaluationCached, ValueRecorded
from eventstore.log.reader import LogReader
from eventstore.value_store import ValueStore

__all__ = ["Lookup", "StoredValue"]

_KINDS = ("evaluation.cached", "value.recorded")
_GROUP_POSITIONS = 16_384
_CACHED_GROUPS = 32


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value as it was recorded: type name, media type of the bytes, and the bytes."""

    type_name: str
    format: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Bytes:
    type_name: str
    format: str
    data: bytes | None
    data_digest: str | None


class Lookup:
    """Answers about the cache, from the log.

    Parameters
    ----------
    reader, values
        Where events and large values come from.
    fresh_seconds
        How old the answer "not known" may be with respect to other writers.
    """

    def __init__(self, reader: LogReader, values: ValueStore, *, fresh_seconds: float = 1.0) -> None:
        self._reader = reader
        self._values = values
        self._fresh_seconds = fresh_seconds
        self._lock = threading.RLock()
        self._reached = -1
        self._looked_at = float("-inf")
        self._evaluations: dict[str, str] = {}
        self._own_evaluations: dict[str, str] = {}
        self._positions: dict[str, int] = {}
        self._unplaced: dict[str, _Bytes] = {}
        self._unsealed_ends: dict[str, int] = {}
        self._groups: OrderedDict[int, dict[str, _Bytes]] = OrderedDict()

    def observe(self, events: Iterable[Event]) -> None:
        """Take in events that this process has just appended."""
        for event in events:
            kind = type(event)
            if kind is EvaluationCached or kind is ValueRecorded:
                self._observe(event)

    def _observe(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, EvaluationCached):
                self._own_evaluations[event.eval_hash] = event.value_hash
            elif isinstance(event, ValueRecorded) and event.value_hash not in self._positions:
                self._unplaced.setdefault(
                    event.value_hash,
                    _Bytes(event.type_name, event.format, event.data, event.data_digest),
                )

    def evaluation(self, eval_hash: str) -> str | None:
        """Return the value hash that the evaluation cache holds under `eval_hash`, or None."""
        with self._lock:
            for refresh in (False, True):
                if refresh and not self._refresh():
                    break
                found = self._own_evaluations.get(eval_hash) or self._evaluations.get(eval_hash)
                if found is not None:
                    return found
            return None

    def value(self, value_hash: str) -> StoredValue | None:
        """Return a recorded value, or None if it is not known. The first one recorded counts.

        Raises
        ------
        NotFoundError, IntegrityError
            The value is recorded and its bytes are missing or damaged.
        """
        with self._lock:
            found = self._find(value_hash)
            if found is None and self._refresh():
                found = self._find(value_hash)
        if found is None:
            return None
        data = found.data
        if data is None:
            data = self._values.get(found.data_digest or "")
        return StoredValue(found.type_name, found.format, data)

    def has_value(self, value_hash: str) -> bool:
        """Whether the value is recorded."""
        with self._lock:
            for refresh in (False, True):
                if refresh and not self._refresh():
                    break
                if value_hash in self._positions or value_hash in self._unplaced:
                    return True
            return False

    def _find(self, value_hash: str) -> _Bytes | None:
        position = self._positions.get(value_hash)
        if position is None:
            return self._unplaced.get(value_hash)
        group = position // _GROUP_POSITIONS
        values = self._groups.get(group)
        if values is None or value_hash not in values:
            values = self._load(group)
        self._groups.move_to_end(group)
        return values.get(value_hash)

    def _load(self, group: int) -> dict[str, _Bytes]:
        start = group * _GROUP_POSITIONS
        values: dict[str, _Bytes] = {}
        columns = ["value_hash", "type_name", "format", "data", "data_digest"]
        for batch in self._reader.read(
            after=start - 1,
            until=start + _GROUP_POSITIONS,
            kinds=["value.recorded"],
            columns=columns,
        ):
            for row in batch.select(columns).to_pylist():
                if row["value_hash"] is not None:
                    values.setdefault(
                        row["value_hash"],
                        _Bytes(row["type_name"], row["format"], row["data"], row["data_digest"]),
                    )
        self._groups[group] = values
        while len(self._groups) > _CACHED_GROUPS:
            self._groups.popitem(last=False)
        return values

    def _refresh(self) -> bool:
        """Read what is new in the log; False if it was read a moment ago."""
        if time.monotonic() - self._looked_at < self._fresh_seconds:
            return False
        columns = ["kind", "eval_hash", "value_hash"]
        fresh_values: list[str] = []
        for batch in self._reader.read(
            after=self._reached if self._reached >= 0 else None,
            kinds=_KINDS,
            columns=columns,
        ):
            positions = batch.column("position").to_pylist()
            for position, kind, eval_hash, value_hash in zip(
                positions, *(batch.column(name).to_pylist() for name in columns), strict=True
            ):
                if kind == "evaluation.cached":
                    if eval_hash is not None:
                        self._evaluations[eval_hash] = value_hash
                        if self._own_evaluations.get(eval_hash) == value_hash:
                            # Another one is not sealed yet, and will stand behind this one.
                            del self._own_evaluations[eval_hash]
                elif value_hash is not None:
                    self._positions.setdefault(value_hash, position)
                    fresh_values.append(value_hash)
            self._reached = max(self._reached, positions[-1])
        for value_hash in fresh_values:
            self._unplaced.pop(value_hash, None)
        self._take_tail()
        self._looked_at = time.monotonic()
        return True

    def _take_tail(self) -> None:
        """Take in what other writers have journaled or durable, but not sealed."""
        # Journals are read first, as their rows go from there to segments, and taken last, as the later ones.
        journaled = self._reader.journaled()
        columns = ["kind", "writer", "sequence", "eval_hash", "value_hash"]
        columns += ["type_name", "format", "data", "data_digest"]
        for batch in self._reader.read_unsealed(kinds=_KINDS, columns=columns):
            for row in batch.to_pylist():
                self._take(row["kind"], row["writer"], row["sequence"], row)
        for writer, rows, _ in journaled:
            for row in rows:
                if row.kind in _KINDS:
                    self._take(row.kind, writer, row.sequence, row.fields)

    def _take(self, kind: str, writer: str, sequence: int, fields: Mapping[str, Any]) -> None:
        """Take in an event that is not sealed, once."""
        if sequence < self._unsealed_ends.get(writer, 0):
            return
        self._unsealed_ends[writer] = sequence + 1
        value_hash = fields["value_hash"]
        if kind == "evaluation.cached":
            self._own_evaluations[fields["eval_hash"]] = value_hash
        elif value_hash not in self._positions and value_hash not in self._unplaced:
            self._unplaced[value_hash] = _Bytes(
                fields["type_name"], fields["format"], fields.get("data"), fields.get("data_digest")
            )
