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
    Digests,
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
from eventstore.index.records import Records

__all__ = ["MOST_BYTES", "records_of"]

MOST_BYTES = 128 << 20
"""How large a batch may be that is made records at once: a column of texts has no more than 2 GiB."""


def records_of(batch: pa.RecordBatch) -> list[Records]:
    """Return the records of sealed events, in parts; those of each key are in the order of the log.

    Parameters
    ----------
    batch
        With the columns `eventstore.index.families.COLUMNS` and ``position``, in the order of the log.
    """
    if batch.nbytes > MOST_BYTES and batch.num_rows > 1:
        half = batch.num_rows // 2
        return [*records_of(batch[:half]), *records_of(batch[half:])]
    parts: dict[Family, list[_Part]] = {}
    digests = Digests()
    kinds = batch.column("kind")
    for kind in pc.unique(kinds).to_pylist():
        if kind in _MAKERS:
            events = _Events.of_batch(batch, kind, pc.equal(kinds, kind), digests)
            for part in _MAKERS[kind](events) if len(events) else ():
                parts.setdefault(part.family, []).append(part)
    return [_in_order(family, of_family) for family, of_family in parts.items()]


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
    """Events of one kind: columns of their fields, and of what is made of these, each made once."""

    def __init__(self, columns: Mapping[str, Any], digests: Digests) -> None:
        self._columns = columns
        self._all_digests = digests
        self._digests: dict[str, Any] = {}
        self._cells: dict[str, Cell] = {}

    @classmethod
    def of_batch(cls, batch: pa.RecordBatch, kind: str, wanted: Any, digests: Digests) -> _Events:
        """Take the rows that are `wanted`, but for those whose body was erased."""
        names = BUILDERS[kind].columns
        rows = pc.indices_nonzero(pc.and_(wanted, pc.is_valid(batch.column(names[0]))))
        columns = {name: batch.column(name).take(rows) for name in ("position", *names)}
        times = (batch.column(name).take(rows) for name in ("occurred_at", "recorded_at"))
        return cls({**columns, "at": pc.coalesce(*times).cast(pa.int64())}, digests)

    def __len__(self) -> int:
        return len(self["position"])

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    def take(self, rows: Any) -> _Events:
        """Return the events of these rows, some perhaps several times."""
        columns = {name: column.take(rows) for name, column in self._columns.items()}
        return _Events(columns, self._all_digests)

    def with_columns(self, **columns: Any) -> _Events:
        """Return the same events with more columns, or others."""
        return _Events({**self._columns, **columns}, self._all_digests)

    def having(self, name: str) -> _Events:
        """Return those that have something in a column."""
        return self.take(pc.indices_nonzero(self[name].is_valid())) if self[name].null_count else self

    def cells(self, *names: str) -> Iterator[Cell]:
        """Yield columns of texts, numbers, or lists of texts as JSON."""
        for name in names:
            if name not in self._cells:
                column = self[name]
                make = texts if pa.types.is_list(column.type) else number
                self._cells[name] = (text if pa.types.is_string(column.type) else make)(column)
            yield self._cells[name]

    def digest(self, name: str) -> Any:
        """Return the digests of a column of texts."""
        if name not in self._digests:
            self._digests[name] = self._all_digests.of(self[name])
        return self._digests[name]

    def part(self, family: Family, payloads: Any, *names: str) -> Iterator[_Part]:
        """Yield a payload for each event, under the digest of a column, or of a pair of columns."""
        if len(self):
            made = keys(family, *(self.digest(name) for name in names))
            yield _Part(family, self["position"], made, payloads)

    def rows(self, family: Family, key: str | tuple[str, str], *names: str) -> Iterator[_Part]:
        """Yield the cells of some columns for each event, as `part`."""
        if len(self):
            names_of_key = (key,) if isinstance(key, str) else key
            yield from self.part(family, _bytes(row(*self.cells(*names))), *names_of_key)


def _bytes(payloads: Any) -> Any:
    return payloads.cast(pa.binary()).cast(pa.large_binary())


# kinds ---------------------------------------------------------------------------------------------------


def _evaluations(events: _Events) -> Iterator[_Part]:
    yield from events.rows(Family.EVALUATION, "eval_hash", "value_hash")


def _values(events: _Events) -> Iterator[_Part]:
    facts = events.cells(
        "type_name", "format", "size_bytes", "data_digest", "subvalues", "file_path", "position"
    )
    data = events["data"]
    is_short = pc.less_equal(pc.binary_length(data), INLINE_BYTES).fill_null(False)
    line, nothing = pa.scalar(b"\n", pa.binary()), pa.scalar(b"", pa.binary())
    if not pc.all(is_short).as_py():
        line, data = pc.if_else(is_short, line, nothing), pc.if_else(is_short, data, nothing)
    payloads = pc.binary_join_element_wise(row(*facts).cast(pa.binary()), line, data, nothing)
    yield from events.part(Family.VALUE, payloads.cast(pa.large_binary()), "value_hash")


def _tasks(events: _Events) -> Iterator[_Part]:
    names = ("task_name", "task_namespace", "source", "task_version")
    stated = events.with_columns(task_namespace=events["task_namespace"].fill_null(""))
    yield from stated.rows(Family.TASK, "task_hash", *names)


def _calls(events: _Events) -> Iterator[_Part]:
    mention = ("call_hash", "at", "task_hash", "args_hash")
    ends = ("task_hash", "task_name", "args_hash", "value_hash", "at", "children")
    facts = row(*events.cells(*ends), listed(events["arguments"], _argument), *events.cells("subtree_tasks"))
    yield from events.part(Family.CALL, _bytes(facts), "call_hash")
    outcome = (*mention, "value_hash", "subtree_tasks")
    yield from events.rows(Family.CALLS_OF, ("args_hash", "task_hash"), *outcome)
    yield from events.rows(Family.CALL_WITH_ARGUMENTS, ("args_hash", "task_name"), *mention, "task_name")
    newest = events.take(last_rows(events["task_hash"]))
    yield from newest.rows(Family.CALL_OF_TASK, "task_hash", *mention)


def _argument(given: Any) -> Cell:
    def field(name: str) -> Any:
        return pc.struct_field(given, name)

    cells = (
        number(field("position")),
        text(field("key")),
        text(field("value_hash")),
        texts(field("upstreams")),
    )
    return Cell("", row(*cells), "")


def _job_starts(events: _Events) -> Iterator[_Part]:
    yield from events.rows(Family.JOB, "job_id", "at", "execution_id", "parent_id", "task_hash")
    yield from events.having("parent_id").rows(Family.CHILD_JOB, "parent_id", "job_id")


def _job_ends(events: _Events) -> Iterator[_Part]:
    job = ("at", "execution_id", "parent_id", "task_hash", "status", "cached", "call_hash")
    events = events.with_columns(cached=events["cached"].fill_null(False))
    yield from events.rows(Family.JOB, "job_id", *job)
    called = events.having("call_hash")
    names = ("job_id", "execution_id", "call_hash")
    yield from called.rows(Family.ENDED, ("call_hash", "execution_id"), *names)
    yield from events.having("parent_id").rows(Family.CHILD_JOB, "parent_id", "job_id")


def _executions(events: _Events) -> Iterator[_Part]:
    args = events["args"].fill_null("")
    stated = events.with_columns(args=pc.if_else(pc.equal(args, ""), "[]", args))
    yield from stated.rows(Family.EXECUTION, "execution_id", "args", "job_id", "at")


def _heartbeats(events: _Events) -> Iterator[_Part]:
    newest = events.take(last_rows(events["execution_id"]))
    yield from newest.rows(Family.HEARTBEAT, "execution_id", "at")


def _tags(events: _Events) -> Iterator[_Part]:
    tags = events["tags"]
    each = tags.flatten()
    names = ("tag_hash", "key", "value")
    fields = {name: pc.struct_field(each, name) for name in names}
    yield from _tag_parts(events.take(pc.list_parent_indices(tags)).with_columns(**fields))


def _tag_parts(tags: _Events) -> Iterator[_Part]:
    facts = ("entity_type", "entity_id", "key", "value", "superseded")
    yield from tags.rows(Family.TAG, "tag_hash", *facts)
    yield from tags.rows(Family.TAG_OF, "entity_id", "tag_hash", *facts)
    parents = tags["superseded"]
    edges = tags.take(pc.list_parent_indices(parents)).with_columns(parent=parents.flatten())
    yield from edges.rows(Family.SUPERSEDED, "parent", "tag_hash")


def _deletions(events: _Events) -> Iterator[_Part]:
    names = {"entity_type": "Null", "entity_id": "", "key": "", "value": "null"}
    fields = {name: pa.repeat(what, len(events)) for name, what in names.items()}
    yield from _tag_parts(events.with_columns(**fields))


_MAKERS: Mapping[str, Callable[[_Events], Iterable[_Part]]] = {
    "call_node.recorded": _calls,
    "evaluation.cached": _evaluations,
    "execution.heartbeat": _heartbeats,
    "execution.started": _executions,
    "job.ended": _job_ends,
    "job.started": _job_starts,
    "tags.deleted": _deletions,
    "tags.recorded": _tags,
    "task.recorded": _tasks,
    "value.recorded": _values,
}
