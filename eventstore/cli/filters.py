"""Which events `eventstore events` shows: by time and by what they mention, over Arrow batches."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.codec.schema import BODY, TIME
from eventstore.errors import InvalidEventError
from eventstore.ids import EventId

__all__ = ["ID_COLUMNS", "EventFilter"]

ID_COLUMNS: tuple[str, ...] = tuple(
    column.name
    for column in BODY
    if column.type == pa.string()
    and (column.name.endswith(("_hash", "_id", "_digest")) or column.name == "stream")
)
"""Columns of text that hold one id."""

LIST_COLUMNS: tuple[tuple[str, str | None], ...] = (
    ("arguments", "value_hash"),
    ("children", None),
    ("parents", None),
    ("subvalues", None),
    ("superseded", None),
    ("tags", "tag_hash"),
)
"""Columns that hold many ids, with the member that is one. `subtree_tasks` and `upstreams` repeat others."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What an event must satisfy, all at once; None asks nothing.

    Parameters
    ----------
    since, until
        Half-open range of `occurred_at`.
    entity
        An event's own id, or the beginning of any id that it mentions.
    """

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    entity: str | None = None

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that satisfy all."""
        for moment, compare in ((self.since, pc.greater_equal), (self.until, pc.less)):
            if moment is not None:
                batch = batch.filter(compare(batch["occurred_at"], pa.scalar(moment, TIME)))
        return batch.filter(_mentions(batch, self.entity)) if self.entity else batch


def _mentions(batch: pa.RecordBatch, entity: str) -> pa.BooleanArray:
    try:
        event = EventId.parse(entity)
    except InvalidEventError:
        pass
    else:
        return pc.and_(pc.equal(batch["writer"], event.writer), pc.equal(batch["sequence"], event.sequence))
    found = pa.array([False] * batch.num_rows, pa.bool_())
    for name in ID_COLUMNS:
        column = batch[name]
        if column.null_count < len(column):
            found = pc.or_(found, pc.fill_null(pc.starts_with(column, entity), False))
    for name, member in LIST_COLUMNS:
        column = batch[name]
        if column.null_count == len(column):
            continue
        items = pc.list_flatten(column)
        if member is not None:
            items = pc.struct_field(items, member)
        rows = pc.list_parent_indices(column).filter(pc.fill_null(pc.starts_with(items, entity), False))
        found = pc.or_(found, pc.is_in(pa.arange(0, batch.num_rows), rows.cast(pa.int64())))
    return found
