"""Bytes of values that the index does not keep itself: those of late in memory, the others where they lie."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from eventstore.errors import IntegrityError
from eventstore.index.families import INLINE_BYTES, Place
from eventstore.log.reader import LogReader
from eventstore.value_store import ValueStore

__all__ = ["ValueBytes"]

_MEMORY_BYTES = 32 * 1024 * 1024
_AHEAD = 256
"""Positions that are read at once: who asks for one value often asks for the next."""
_COLUMNS = ("kind", "writer", "sequence", "value_hash", "data", "data_digest")
_KINDS = ("value.recorded",)


class ValueBytes:
    """Finds the bytes of values by where they were recorded; not safe to share by threads."""

    def __init__(self, reader: LogReader, values: ValueStore) -> None:
        self._reader = reader
        self._values = values
        self._recent: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def remember(self, fields: Mapping[str, Any]) -> None:
        """Keep the bytes of a value that was just recorded, if the index does not."""
        data = fields.get("data")
        if data is not None and len(data) > INLINE_BYTES:
            self._keep(fields["value_hash"], data)

    def get(self, value_hash: str, digest: str | None, place: Place) -> bytes:
        """Return the bytes of a recorded value.

        Raises
        ------
        NotFoundError, IntegrityError
            They are missing or damaged.
        """
        known = self._recent.get(value_hash)
        if known is not None:
            self._recent.move_to_end(value_hash)
            return known
        if digest is not None:
            return self._values.get(digest)
        data = self._placed(value_hash, place) if isinstance(place, int) else None
        if data is None:
            data = self._searched(value_hash)
        if data is None:
            raise IntegrityError(
                f"the bytes of the value {value_hash} were expected in the log, which recorded it, and are "
                "not there; run `eventstore verify`",
                code="value_missing",
                value_hash=value_hash,
            )
        return data

    def _placed(self, value_hash: str, position: int) -> bytes | None:
        batches = self._reader.read(
            after=position - 1, until=position + _AHEAD, kinds=_KINDS, columns=_COLUMNS
        )
        return self._among(value_hash, batches)

    def _searched(self, value_hash: str) -> bytes | None:
        """Look for a value of late that no seal had placed when it was met, wherever it is by now."""
        for _, rows, _ in self._reader.journaled():
            for row in rows:
                if row.kind == "value.recorded" and row.fields.get("value_hash") == value_hash:
                    data = row.fields.get("data")
                    if data is not None:
                        return bytes(data)
                    return self._values.get(row.fields["data_digest"])
        data = self._among(value_hash, self._reader.read_unsealed(kinds=_KINDS, columns=_COLUMNS))
        if data is not None:
            return data
        now = self._reader.sealed()
        for segment in reversed(now.segments):
            first = int(segment.first_position or 0)
            batches = self._reader.read(
                after=first - 1, until=segment.end_position, kinds=_KINDS, columns=_COLUMNS
            )
            data = self._among(value_hash, batches)
            if data is not None:
                return data
        return None

    def _among(self, value_hash: str, batches: Any) -> bytes | None:
        found = None
        for batch in batches:
            hashes = batch.column("value_hash").to_pylist()
            data, digests = batch.column("data"), batch.column("data_digest")
            for row, name in enumerate(hashes):
                if name is None or (name in self._recent and name != value_hash):
                    continue
                if (raw := data[row].as_py()) is not None:
                    self._keep(name, raw)
                    found = raw if name == value_hash and found is None else found
                elif name == value_hash and found is None:
                    found = self._values.get(digests[row].as_py())
        return found

    def _keep(self, value_hash: str, data: bytes) -> None:
        if value_hash not in self._recent and len(data) <= _MEMORY_BYTES // 4:
            self._recent[value_hash] = data
            self._size += len(data)
            while self._size > _MEMORY_BYTES:
                self._size -= len(self._recent.popitem(last=False)[1])
