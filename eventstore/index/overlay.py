"""What is newer than the index on disk: records in memory, dropped when the runs hold them too.

Generations are filled one after another and dropped whole, so nothing is searched to be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eventstore.index.families import KEEP, Entry, Family, Key, Record

__all__ = ["Overlay"]

_GENERATION_EVENTS = 10_000
_GENERATION_BYTES = 32 * 1024 * 1024
_FIRST = frozenset(family for family, keep in KEEP.items() if keep == "first")
_ALL = frozenset(family for family, keep in KEEP.items() if keep == "all")


class _Generation:
    __slots__ = ("ends", "events", "size_bytes", "tables")

    def __init__(self) -> None:
        self.tables: dict[Family, dict[Key, Any]] = {family: {} for family in Family}
        self.ends: dict[str, int] = {}
        self.events = 0
        self.size_bytes = 0


class Overlay:
    """Records of events that are not in runs, by family and key."""

    def __init__(self) -> None:
        self._generations = [_Generation()]
        self.events = 0
        """How many events are held."""
        self.size_bytes = 0
        """About how many bytes of values are held."""

    def add(self, writer: str, sequence: int, entries: Iterable[Entry]) -> None:
        """Take in the records of one event."""
        now = self._generations[-1]
        if now.events >= _GENERATION_EVENTS or now.size_bytes >= _GENERATION_BYTES:
            now = _Generation()
            self._generations.append(now)
        tables = now.tables
        for family, key, record in entries:
            if family in _ALL:
                tables[family].setdefault(key, []).append(record)
            elif family in _FIRST:
                tables[family].setdefault(key, record)
                if family is Family.VALUE and record[-1] is not None:
                    now.size_bytes += len(record[-1])
                    self.size_bytes += len(record[-1])
            else:
                tables[family][key] = record
        now.events += 1
        self.events += 1
        if now.ends.get(writer, -1) <= sequence:
            now.ends[writer] = sequence + 1

    def get(self, family: Family, key: Key) -> list[Record]:
        """Return the records that count, in the order in which they came."""
        generations = self._generations
        if len(generations) == 1:
            found = generations[0].tables[family].get(key)
            if found is None:
                return []
            return list(found) if family in _ALL else [found]
        several = [found for each in generations if (found := each.tables[family].get(key)) is not None]
        if family in _ALL:
            return [record for records in several for record in records]
        return several

    def newest(self, family: Family, key: Key) -> Record | None:
        """Return the record of a key that came last; of a family of which all count."""
        for each in reversed(self._generations):
            found = each.tables[family].get(key)
            if found is not None:
                return found[-1]  # type: ignore[no-any-return]
        return None

    def knows(self, family: Family, key: Key) -> bool:
        """Whether there is a record of a key."""
        return any(key in each.tables[family] for each in self._generations)

    def drop(self, ends: Mapping[str, int]) -> None:
        """Forget generations of which everything is below `ends`, by writer."""
        kept = [
            each
            for each in self._generations
            if any(end > ends.get(writer, 0) for writer, end in each.ends.items())
        ]
        self._generations = kept or [_Generation()]
        self.events = sum(each.events for each in self._generations)
        self.size_bytes = sum(each.size_bytes for each in self._generations)

    def shed_bytes(self) -> None:
        """Let go of the bytes of values, which are found where they were recorded."""
        for each in self._generations:
            values = each.tables[Family.VALUE]
            for key, record in values.items():
                values[key] = (*record[:-1], None)
            each.size_bytes = 0
        self.size_bytes = 0

    def clear(self) -> None:
        """Forget everything."""
        self._generations = [_Generation()]
        self.events = self.size_bytes = 0
