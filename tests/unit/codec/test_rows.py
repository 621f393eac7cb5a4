"""The step between typed events and Arrow columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from eventstore.codec.rows import Row, fields_of, recorded_events, table_of
from eventstore.codec.schema import BODY_COLUMNS, SCHEMA, microseconds
from eventstore.events import Argument, CallNodeRecorded, Event, JobStarted, Registry, ValueRecorded
from eventstore.hashing import SALT_BYTES

Rows = Callable[..., list[Row]]
WRITER = "01kdxe7c000000000000000000"
HASH = "0123456789" * 4


class SampleMeasured(Event):
    """A user's own kind: one shared column, the rest goes into the payload."""

    job_id: str
    grams: float
    note: str | None = None


@pytest.fixture
def registry() -> Registry:
    """A registry that knows the built-in kinds and the user's own."""
    registry = Registry()
    registry.register(SampleMeasured, "lab.sample_measured")
    return registry


def naive_table(rows: list[Row], actor: str | None, software: str | None) -> pa.Table:
    """The table row by row through Arrow's own conversion, without salts and hashes."""
    dicts = []
    for row in rows:
        cells: dict[str, Any] = {name: row.fields.get(name) for name in BODY_COLUMNS if name in row.fields}
        if cells.get("actor") is None:
            cells["actor"] = actor
        if cells.get("occurred_at") is None:
            cells["occurred_at"] = row.recorded_us
        if not isinstance(cells["occurred_at"], int):
            cells["occurred_at"] = microseconds(cells["occurred_at"])
        cells |= {"software": software, "kind": row.kind, "version": row.version, "writer": WRITER}
        cells |= {"sequence": row.sequence, "recorded_at": row.recorded_us}
        dicts.append(cells)
    return pa.Table.from_pylist(dicts, schema=SCHEMA)


@pytest.mark.parametrize(("actor", "software"), [(None, None), ("ada", "lab/2")])
@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
def test_the_table_equals_the_naive_one(
    random_rows: Rows, missing: float, actor: str | None, software: str | None
) -> None:
    """Every kind's fields come out in their columns and rows, and nothing else does."""
    rows = random_rows(250, seed=int(missing * 10), missing=missing)
    table = table_of(rows, writer=WRITER, actor=actor, software=software)
    assert table.schema == SCHEMA
    table.validate(full=True)
    for name in set(SCHEMA.names) - {"salt", "event_hash", "body_digest"}:
        assert table[name].to_pylist() == naive_table(rows, actor, software)[name].to_pylist(), name


def test_one_kind_alone_keeps_its_order(random_rows: Rows) -> None:
    """A table of one kind, which needs no reordering, equals the naive one too."""
    rows = random_rows(60, seed=3, kinds=1)
    table = table_of(rows, writer=WRITER, actor=None, software=None)
    assert table["sequence"].to_pylist() == list(range(60))
    assert table["call_hash"].to_pylist() == naive_table(rows, None, None)["call_hash"].to_pylist()


def test_salts_are_there_and_differ(random_rows: Rows) -> None:
    """Each row has its own salt, and no digest of a body that is still there."""
    table = table_of(random_rows(100, seed=1), writer=WRITER, actor=None, software=None)
    salts = table["salt"].to_pylist()
    assert len(set(salts)) == 100
    assert {len(salt) for salt in salts} == {SALT_BYTES}
    assert table["body_digest"].null_count == 100


def test_an_empty_list_is_not_a_null(random_rows: Rows) -> None:
    """What an event states as empty stays apart from what it does not say."""
    event_type = Registry().get("call_node.recorded")
    assert event_type is not None
    fields = {"call_hash": HASH, "children": (), "arguments": ()}
    row = Row(event_type.kind, 1, event_type.columns, fields, 0, 0)
    table = table_of([row], writer=WRITER, actor=None, software=None)
    assert table["children"].to_pylist() == table["arguments"].to_pylist() == [[]]
    assert table["subtree_tasks"].to_pylist() == [None]


def test_events_come_back_as_they_were(registry: Registry) -> None:
    """Typed events of built-in and users' kinds survive the way into columns and back."""
    moment = dt.datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=dt.UTC)
    events: list[Event] = [
        JobStarted(job_id="j", execution_id="e", task_hash=HASH, occurred_at=moment, actor="bob", reason="é"),
        ValueRecorded(value_hash=HASH, type_name="builtins.int", size_bytes=3, data=b"\x80\x03K"),
        CallNodeRecorded(
            call_hash=HASH,
            task_hash=HASH,
            task_name="lab.weigh",
            args_hash=HASH,
            value_hash=HASH,
            children=(HASH, HASH),
            arguments=(
                Argument(position=0, value_hash=HASH, upstreams=(HASH,)),
                Argument(key="größe", value_hash=HASH),
            ),
            occurred_at=moment,
        ),
        SampleMeasured(job_id="j", grams=1.25, note="日本", occurred_at=moment),
    ]
    rows = []
    for sequence, event in enumerate(events):
        event_type = registry.of(event)
        fields = fields_of(event_type, event)
        rows.append(Row(event_type.kind, event_type.version, event_type.columns, fields, sequence, 77))
    table = table_of(rows, writer=WRITER, actor="ada", software="lab/2")
    recorded = [item for batch in table.to_batches() for item in recorded_events(batch, registry)]
    told = [event.model_copy(update={"actor": event.actor or "ada"}) for event in events]
    told[1] = told[1].model_copy(update={"occurred_at": recorded[1].recorded_at})
    assert [item.event for item in recorded] == told
    assert microseconds(recorded[1].recorded_at) == 77
    assert {item.software for item in recorded} == {"lab/2"}
