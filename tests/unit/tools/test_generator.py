"""The generator of histories: what a benchmark measures must be what it says."""

from __future__ import annotations

import pickle
import uuid
from collections import Counter
from itertools import pairwise

import pytest

from eventstore.codec.canonical import event_hashes
from eventstore.codec.schema import SCHEMA, microseconds
from eventstore.events import (
    CallNodeRecorded,
    EvaluationCached,
    Event,
    ExecutionStarted,
    HandleForked,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.hashing import hash_arguments, hash_call, hash_eval, hash_tagged_bytes
from tools.bench.generator import facts, generate, generate_rows, generate_tables

SIZE = 30_000


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """One history of `SIZE` events."""
    return [event for batch in generate(SIZE, seed=3) for event in batch]


def test_the_same_seed_gives_the_same_history() -> None:
    """Equal arguments give equal events; another seed gives others."""
    assert list(generate(2_000, seed=1)) == list(generate(2_000, seed=1))
    assert list(generate(2_000, seed=1)) != list(generate(2_000, seed=2))


def test_a_short_history_begins_the_long_one(events: list[Event]) -> None:
    """Size and batch size cut the history and change nothing else in it."""
    batches = list(generate(2_500, seed=3, batch=700))
    assert [len(batch) for batch in batches] == [700, 700, 700, 400]
    assert [event for batch in batches for event in batch] == events[:2_500]


def test_tables_hold_the_same_history(events: list[Event]) -> None:
    """The way round the door leads to the same rows, with the columns and hashes of segments."""
    tables = list(generate_tables(3_000, seed=3, rows_per_table=2_000))
    assert [table.num_rows for table in tables] == [2_000, 1_000]
    kinds = [kind for table in tables for kind in table["kind"].to_pylist()]
    assert kinds == [event.kind for event in events[:3_000]]
    for table in tables:
        assert table.schema == SCHEMA
        assert event_hashes(table) == table["event_hash"].to_pylist()
    rows = [row for batch in generate_rows(3_000, seed=3) for row in batch]
    for row, event in zip(rows, events, strict=False):
        told = event.model_dump()
        if told["occurred_at"] is not None:
            told["occurred_at"] = microseconds(told["occurred_at"])
        assert {name: told[name] for name in row.fields} == dict(row.fields)
        assert set(row.columns) <= set(row.fields)


def test_times_increase_and_never_lie_ahead() -> None:
    """Each event is recorded after the one before it, and not before it happened."""
    stated = list(facts(SIZE, seed=3))
    times = [fact.recorded_us for fact in stated]
    assert all(earlier < later for earlier, later in pairwise(times))
    assert all(fact.fields.get("occurred_at", 0) <= fact.recorded_us for fact in stated)


def test_ids_are_the_true_ones(events: list[Event]) -> None:
    """Hashes are those of the content they name, and ids of jobs and executions are UUIDs."""
    made = {(e.task_hash, e.args_hash): e.eval_hash for e in events if isinstance(e, EvaluationCached)}
    for event in events:
        match event:
            case ValueRecorded(type_name="redun.File" | "redun.Task"):
                pass
            case ValueRecorded():
                assert event.data is not None
                pickle.loads(event.data)
                assert event.value_hash == hash_tagged_bytes("Value", event.data)
            case CallNodeRecorded():
                given = event.arguments
                args_hash = hash_arguments(
                    [a.value_hash for a in given if a.key is None],
                    {a.key: a.value_hash for a in given if a.key is not None},
                )
                assert event.args_hash == args_hash
                assert event.call_hash == hash_call(
                    event.task_hash, args_hash, event.value_hash, event.children
                )
                eval_hash = made.get((event.task_hash, args_hash))
                assert eval_hash is None or eval_hash == hash_eval(event.task_hash, args_hash)
            case JobStarted():
                assert str(uuid.UUID(event.job_id)) == event.job_id
                assert uuid.UUID(event.job_id).version == 4


def test_the_order_is_a_recorders(events: list[Event]) -> None:
    """Nothing points at what is not recorded yet: tasks, values, calls, parents and handles come first."""
    known: set[str | None] = {None}
    ended: set[str] = set()
    for event in events:
        match event:
            case ExecutionStarted():
                known.add(event.execution_id)
            case TaskRecorded():
                assert event.task_hash in known
            case ValueRecorded():
                assert known.issuperset(event.subvalues)
                known.add(event.value_hash)
            case JobStarted():
                assert {event.execution_id, event.parent_id, event.task_hash} <= known
                assert event.parent_id not in ended
                known.add(event.job_id)
            case EvaluationCached():
                assert {event.value_hash, event.task_hash} <= known
            case CallNodeRecorded():
                assert known.issuperset(event.children)
                for argument in event.arguments:
                    assert argument.value_hash in known
                    assert known.issuperset(argument.upstreams)
                assert event.value_hash in known
                known.add(event.call_hash)
            case HandleForked():
                assert {*event.parents, event.handle_hash} <= known
            case HandleRolledBack():
                assert event.handle_hash in known
            case JobEnded():
                assert {event.job_id, event.call_hash} <= known
                assert event.job_id not in ended
                ended.add(event.job_id)


def test_the_mix_is_the_documented_one(events: list[Event]) -> None:
    """Events a job, the share of cached and failed jobs, sizes of values: all within README's bounds."""
    kinds = Counter(event.kind for event in events)
    assert len(kinds) == 15
    ends = [event for event in events if isinstance(event, JobEnded)]
    assert 5.2 < SIZE / kinds["job.started"] < 6.2
    statuses = Counter(event.status for event in ends)
    assert 0.12 < statuses["CACHED"] / len(ends) < 0.22
    assert 0.004 < statuses["FAILED"] / len(ends) < 0.02
    sizes = sorted(event.size_bytes for event in events if isinstance(event, ValueRecorded))
    assert 70 < sizes[len(sizes) // 2] < 130
    assert 300 < sum(sizes) / len(sizes) < 600
    assert 4_000 < sizes[int(len(sizes) * 0.995)] < 65_536
    assert sizes[-1] <= 65_536
    assert 30 <= kinds["task.recorded"] <= 60


def test_large_values_are_put_aside() -> None:
    """With somewhere to put them, a few values above 64 KiB come by digest, their bytes handed over."""
    put: dict[str, int] = {}

    def remember(data: bytes) -> str:
        digest = f"{len(put):064x}"
        put[digest] = len(data)
        return digest

    large = {
        fact.fields["data_digest"]: fact.fields["size_bytes"]
        for fact in facts(20_000, seed=1, put=remember)
        if fact.fields.get("data_digest")
    }
    assert large
    assert large.items() <= put.items()
    assert min(put.values()) > 65_536
