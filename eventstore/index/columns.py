"""Records of many events at a time: the same that the builders of `families` make of them one by one.

What a record says is stated there, and here once more for whole columns; a property test holds the two
together. Handles are not here: what their events say depends on those before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.index.cells import (
    Cell,
    digests,
    first_rows,
    keys,
    last_rows,
    listed,
    number,
    row,
    text,
    texts,
)
from eventstore.index.families import BUILDERS, INLINE_BYTES, Family
from eventstore.index.records import KEY_BYTES, Records

__all__ = ["MOST_BYTES", "records_of"]

MOST_BYTES = 128 << 20
"""How large a batch may be that is made records at once: a column of texts has no more than 2 GiB."""


def records_of(batch: pa.RecordBatch) -> Records:
    """Return the records of sealed events; those of each key in the order of the log.

    Parameters
    ----------
    batch
        With the columns `eventstore.index.families.COLUMNS` and ``position``, in the order of the log.
    """
    if batch.nbytes > MOST_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        return Records.join([records_of(batch[:half]), records_of(batch[half:])])
    parts: dict[Family, list[_Part]] = {}
    kinds = batch.column("kind")
    for kind in pc.unique(kinds).to_pylist():
        if kind not in _MAKERS:
            continue
        events = _Events(batch, kind, pc.equal(kinds, kind))
        if len(events.positions):
            for part in _MAKERS[kind](events):
                parts.setdefault(part.family, []).append(part)
    made = [_in_order(family, of_family) for family, of_family in parts.items()]
    return Records.join(made) if made else Records.of_columns([], [])


class _Part(NamedTuple):
    """Records of one family that one kind of event gives, in the order of the log."""

    family: Family
    positions: Any
    keys: Any
    payloads: Any


def _in_order(family: Family, parts: list[_Part]) -> Records:
    """Bring what several kinds of events give into the order of the log."""
    if len(parts) == 1:
        _, _, all_keys, payloads = parts[0]
        return Records(all_keys, payloads)
    order = pc.sort_indices(pa.concat_arrays([part.positions for part in parts]))
    joined = Records.join([Records(part.keys, part.payloads) for part in parts]).take(order)
    if family is not Family.CHILD_JOB:
        return joined
    # Start and end of a job both say whose it is.
    nothing = pa.scalar(b"", pa.large_binary())
    edges = pc.binary_join_element_wise(joined.keys.cast(pa.large_binary()), joined.payloads, nothing)
    return joined.take(first_rows(edges))


class _Events:
    """The events of one kind in a batch, without those whose body was erased.

    Parameters
    ----------
    wanted
        Which rows are of this kind.
    """

    def __init__(self, batch: pa.RecordBatch, kind: str, wanted: Any) -> None:
        names = BUILDERS[kind].columns
        rows = pc.indices_nonzero(pc.and_(wanted, pc.is_valid(batch.column(names[0]))))
        self.positions = batch.column("position").take(rows)
        self._columns = {name: batch.column(name).take(rows) for name in names}
        self._times = [batch.column(name).take(rows) for name in ("occurred_at", "recorded_at")]
        self._digests: dict[str, Any] = {}
        self._cells: dict[str, Cell] = {}

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    @property
    def at(self) -> Cell:
        """When each occurred, in microseconds."""
        return number(pc.coalesce(*self._times).cast(pa.int64()))

    def text(self, name: str) -> Cell:
        """Return a column of texts as JSON, made once."""
        if name not in self._cells:
            self._cells[name] = text(self[name])
        return self._cells[name]

    def digest(self, name: str) -> Any:
        """Return the digests of a column of texts, made once."""
        if name not in self._digests:
            self._digests[name] = digests(self[name])
        return self._digests[name]

    def part(
        self, family: Family, names: str | tuple[str, str], payloads: Any, rows: Any = None, *, last: bool = False
    ) -> _Part:
        """Return records under the digest of a column, or of a pair of columns.

        Parameters
        ----------
        payloads
            Of all events, those in no record being null.
        rows
            Those of which there are records; None for all.
        last
            Whether keys are few, and only the last record of each counts.
        """
        names = (names,) if isinstance(names, str) else names
        if last:
            rows = last_rows(self[names[0]])
        found = [self.digest(name) for name in names]
        positions = self.positions
        if rows is not None:
            found = [digest.take(rows) for digest in found]
            positions, payloads = positions.take(rows), payloads.take(rows)
        return _Part(family, positions, keys(family, *found), _bytes(payloads))


def _bytes(payloads: Any) -> Any:
    return payloads.cast(pa.large_string()).cast(pa.large_binary())
