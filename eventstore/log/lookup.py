"""Answers to what an engine asks while it runs: is an evaluation cached, what are the bytes of a value.

An index in memory of two kinds of events, brought up to the head as it is asked, and beside it what no seal
has placed yet: own appends, seen at once, and those of others. It is derived data: dropping it costs one
pass over the columns it reads. Bytes of values are kept only up to a bound, and read again when asked for.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eventstore.events.envelope import Event
from eventstore.events.value import EvaluationCached, ValueRecorded
from eventstore.log.reader import LogReader
from eventstore.value_store import ValueStore

__all__ = ["Lookup", "StoredValue"]

_KINDS = ("evaluation.cached", "value.recorded")
_VALUE_COLUMNS = ("value_hash", "type_name", "format", "data", "data_digest")
_GROUP_POSITIONS = 16_384
_CACHED_GROUPS = 32
_GROUP_BYTES = 16 * 1024 * 1024
"""Most bytes of values that are kept of one group of positions, and a quarter of those of all groups."""
_UNPLACED_BYTES = 64 * 1024 * 1024
"""Bytes of what no seal has placed, beyond which what was sealed meanwhile is let go, then the values."""
_ENTRY_BYTES = 400
"""About what an entry takes besides its value."""


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

    @property
    def size(self) -> int:
        return _ENTRY_BYTES + len(self.data or b"")


@dataclass(slots=True)
class _Unplaced:
    """An event that no seal had placed when it was met: what was evaluated to, or recorded."""

    writer: str
    sequence: int
    value_hash: str
    value: _Bytes | None = None

    @property
    def size(self) -> int:
        return self.value.size if self.value else _ENTRY_BYTES


@dataclass(slots=True)
class _Group:
    """Values of a range of positions; not all of them where they are large."""

    values: OrderedDict[str, _Bytes] = field(default_factory=OrderedDict)
    size: int = 0
    whole: bool = True

    def add(self, value_hash: str, value: _Bytes) -> None:
        if value_hash not in self.values:
            self.values[value_hash] = value
            self.size += value.size

    def drop_oldest(self) -> None:
        self.size -= self.values.popitem(last=False)[1].size
        self.whole = False


class Lookup:
    """Answers about the cache, from the log.

    Parameters
    ----------
    reader, values
        Where events and large values come from.
    fresh_seconds
        How old the answer "not known" may be with respect to the sealed log and the journals of others.
    look_seconds
        How old it may be with respect to segments of others that are not sealed; to find them takes a
        listing.
    inline_bytes
        Longest value that rides inside its event.
    """

    def __init__(
        self,
        reader: LogReader,
        values: ValueStore,
        *,
        fresh_seconds: float = 1.0,
        look_seconds: float = 10.0,
        inline_bytes: int = 64 * 1024,
    ) -> None:
        self._reader = reader
        self._values = values
        self._fresh_seconds = fresh_seconds
        self._look_seconds = look_seconds
        self._inline_bytes = inline_bytes
        self._lock = threading.RLock()
        self._reached = -1
        self._looked_at = float("-inf")
        self._listed_at = float("-inf")
        self._evaluations: dict[str, str] = {}
        self._positions: dict[str, int] = {}
        self._unplaced_evaluations: dict[str, _Unplaced] = {}
        self._unplaced: dict[str, _Unplaced] = {}
        self._unplaced_bytes = 0
        self._bound = _UNPLACED_BYTES
        self._taken: dict[str, int] = {}
        self._read_ends: Mapping[str, int] = {}
        self._groups: OrderedDict[int, _Group] = OrderedDict()

    def observe(self, events: Iterable[Event], writer: str, first: int) -> None:
        """Take in events that this process has just appended, as `first` and following of `writer`."""
        for sequence, event in enumerate(events, first):
            kind = type(event)
            if kind is EvaluationCached or kind is ValueRecorded:
                with self._lock:
                    self._put(event.kind, writer, sequence, event.__dict__)
                    self._taken[writer] = max(sequence + 1, self._taken.get(writer, 0))

    def evaluation(self, eval_hash: str) -> str | None:
        """Return the value hash that the evaluation cache holds under `eval_hash`, or None."""
        with self._lock:
            for refresh in (False, True):
                if refresh and not self._refresh():
                    break
                unplaced = self._unplaced_evaluations.get(eval_hash)
                found = unplaced.value_hash if unplaced else self._evaluations.get(eval_hash)
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

    # values ----------------------------------------------------------------------------------------------

    def _find(self, value_hash: str) -> _Bytes | None:
        position = self._positions.get(value_hash)
        if position is None:
            unplaced = self._unplaced.get(value_hash)
            if unplaced is None:
                return None
            return unplaced.value or self._find_unplaced(value_hash)
        number = position // _GROUP_POSITIONS
        group = self._groups.get(number)
        if group is None or value_hash not in group.values:
            group = self._load(number, value_hash, position)
        self._groups.move_to_end(number)
        return group.values.get(value_hash)

    def _load(self, number: int, value_hash: str, position: int) -> _Group:
        """Read a group; of one that is known to be too large, from the value that is asked for on."""
        start, known = number * _GROUP_POSITIONS, self._groups.get(number)
        after = start - 1 if known is None or known.whole else position - 1
        group = _Group(whole=after == start - 1)
        for row in self._recorded(after, start + _GROUP_POSITIONS):
            if group.size > _GROUP_BYTES:
                if value_hash in group.values:
                    group.whole = False
                    break
                group.drop_oldest()
            group.add(row["value_hash"], _bytes_of(row))
        self._groups[number] = group
        while len(self._groups) > _CACHED_GROUPS or (
            len(self._groups) > 1 and sum(each.size for each in self._groups.values()) > 4 * _GROUP_BYTES
        ):
            self._groups.popitem(last=False)
        return group

    def _recorded(self, after: int, until: int) -> Iterator[Mapping[str, Any]]:
        columns = list(_VALUE_COLUMNS)
        for batch in self._reader.read(after=after, until=until, kinds=["value.recorded"], columns=columns):
            rows = batch.select(columns).to_pylist()
            yield from (row for row in rows if row["value_hash"] is not None)

    def _find_unplaced(self, value_hash: str) -> _Bytes | None:
        """Read a value again of which only the name was kept."""
        for _, rows, _ in self._reader.journaled():
            for row in rows:
                if row.kind == "value.recorded" and row.fields["value_hash"] == value_hash:
                    return self._bytes_of_event(row.fields)
        for batch in self._reader.read_unsealed(kinds=["value.recorded"], columns=_VALUE_COLUMNS):
            for row in batch.to_pylist():
                if row["value_hash"] == value_hash:
                    return _bytes_of(row)
        # Sealed in the meantime: the next refresh finds it.
        self._unplaced.pop(value_hash, None)
        self._looked_at = float("-inf")
        return None

    def _bytes_of_event(self, fields: Mapping[str, Any]) -> _Bytes:
        """What an event says of its value; of one that the writer moves to the value store, its name."""
        found = _bytes_of(fields)
        if found.data is not None and len(found.data) > self._inline_bytes:
            return _Bytes(found.type_name, found.format, None, hashlib.sha256(found.data).hexdigest())
        return found

    # bringing up to date ---------------------------------------------------------------------------------

    def _refresh(self) -> bool:
        """Read what is new in the log; False if it was read a moment ago."""
        if time.monotonic() - self._looked_at < self._fresh_seconds:
            return False
        now = self._reader.sealed()
        if now.peaks.size > self._reached + 1:
            self._take_sealed(now.peaks.size)
            # Not before all of it was read, else something would be in neither place.
            self._read_ends = {str(writer): end for writer, end in now.writers.items()}
            self._forget(self._read_ends)
        self._take_tail()
        self._looked_at = time.monotonic()
        return True

    def _take_sealed(self, until: int) -> None:
        columns = ["kind", "eval_hash", "value_hash"]
        for batch in self._reader.read(after=self._reached, until=until, kinds=_KINDS, columns=columns):
            positions = batch.column("position").to_pylist()
            for position, kind, eval_hash, value_hash in zip(
                positions, *(batch.column(name).to_pylist() for name in columns), strict=True
            ):
                if kind == "evaluation.cached":
                    if eval_hash is not None:
                        self._evaluations[eval_hash] = value_hash
                elif value_hash is not None:
                    self._positions.setdefault(value_hash, position)
            self._reached = positions[-1]
        self._reached = until - 1

    def _take_tail(self) -> None:
        """Take in what other writers have journaled or durable, but not sealed."""
        # Journals are read first, as their rows go from there to segments, and taken last, as the later ones.
        # A journal that begins behind what is known means that there is a segment in between.
        journaled = [(writer, rows) for writer, rows, _ in self._reader.journaled() if rows]
        look = any(rows[0].sequence > self._known_end(writer) for writer, rows in journaled)
        if look or time.monotonic() - self._listed_at >= self._look_seconds:
            columns = ["kind", "writer", "sequence", "eval_hash", *_VALUE_COLUMNS]
            for batch in self._reader.read_unsealed(kinds=_KINDS, columns=columns, known=self._taken):
                for row in batch.to_pylist():
                    self._take(row["kind"], row["writer"], row["sequence"], row)
            self._listed_at = time.monotonic()
        for writer, rows in journaled:
            begin = self._known_end(writer) - rows[0].sequence
            for row in rows[max(0, begin) :]:
                if row.kind in _KINDS:
                    self._take(row.kind, writer, row.sequence, row.fields)
            self._taken[writer] = max(rows[-1].sequence + 1, self._taken.get(writer, 0))

    def _known_end(self, writer: str) -> int:
        """One past the last event of `writer` that was read, sealed or not.

        A journal that could not be removed stays behind, with events that were sealed long ago.
        """
        return max(self._taken.get(writer, 0), self._read_ends.get(writer, 0))

    def _take(self, kind: str, writer: str, sequence: int, fields: Mapping[str, Any]) -> None:
        """Take in an event that is not sealed, once."""
        if sequence >= self._known_end(writer):
            self._taken[writer] = sequence + 1
            self._put(kind, writer, sequence, fields)

    def _put(self, kind: str, writer: str, sequence: int, fields: Mapping[str, Any]) -> None:
        if sequence < self._read_ends.get(writer, 0):
            return  # sealed, and read from there, before its appender came to say so
        value_hash = fields["value_hash"]
        if kind == "evaluation.cached":
            known = self._unplaced_evaluations.get(fields["eval_hash"])
            if known is None or known.writer != writer or known.sequence < sequence:
                self._unplaced_evaluations[fields["eval_hash"]] = _Unplaced(writer, sequence, value_hash)
                self._unplaced_bytes += _ENTRY_BYTES
        elif value_hash not in self._positions and value_hash not in self._unplaced:
            unplaced = _Unplaced(writer, sequence, value_hash, self._bytes_of_event(fields))
            self._unplaced[value_hash] = unplaced
            self._unplaced_bytes += unplaced.size
        if self._unplaced_bytes > self._bound:
            self._make_room()

    def _make_room(self) -> None:
        """Let go of what is sealed, and if that is not enough, of all bytes but not of the names."""
        for eval_hash in self._forget({writer: self._reader.sealed_end(writer) for writer in self._taken}):
            self._evaluations.pop(eval_hash, None)  # there is a newer one in what was not read yet
        self._looked_at = float("-inf")
        if self._unplaced_bytes > _UNPLACED_BYTES // 2:
            for unplaced in self._unplaced.values():
                if unplaced.value is not None and unplaced.value.data is not None:
                    unplaced.value = None
            self._count()
        self._bound = max(_UNPLACED_BYTES, 2 * self._unplaced_bytes)

    def _forget(self, ends: Mapping[str, int]) -> list[str]:
        """Drop what is sealed up to `ends`, by writer; returns the keys of the evaluations among it."""
        sealed = [key for key, each in self._unplaced_evaluations.items() if _is_sealed(each, ends)]
        for key in sealed:
            del self._unplaced_evaluations[key]
        for key in [key for key, each in self._unplaced.items() if _is_sealed(each, ends)]:
            del self._unplaced[key]
        self._count()
        return sealed

    def _count(self) -> None:
        values = sum(each.size for each in self._unplaced.values())
        self._unplaced_bytes = values + _ENTRY_BYTES * len(self._unplaced_evaluations)


def _is_sealed(unplaced: _Unplaced, ends: Mapping[str, int]) -> bool:
    return unplaced.sequence < ends.get(unplaced.writer, 0)


def _bytes_of(fields: Mapping[str, Any]) -> _Bytes:
    return _Bytes(fields["type_name"], fields["format"], fields.get("data"), fields.get("data_digest"))
