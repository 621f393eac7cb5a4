"""The law of compaction: whatever the history, readers and proofs say the same before, amid and after it."""

from __future__ import annotations

import datetime as dt
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import CompactionGoals, EvaluationCached, Event, EventStore, ValueRecorded
from eventstore.testing.strategies import REGISTRY, batches

KINDS = ("job.started", "value.recorded", "kit.batch_measured", "tags.recorded", "evaluation.cached")
STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),
        batches(*KINDS, most=4),
        st.sampled_from(["", "flush", "flush", "seal", "compact", "clean"]),
    ),
    min_size=2,
    max_size=14,
)
GOALS = st.builds(
    CompactionGoals,
    events=st.sampled_from([4, 11, 1000]),
    least_files=st.sampled_from([2, 3]),
    block_rows=st.sampled_from([1, 3, 1000]),
)


def _facts(store: EventStore, size: int) -> tuple[Any, ...]:
    """All that readers say of the first events, apart from when their seals were put."""
    rows = [row for batch in store.read(until=size) for row in batch.to_pylist()]
    middle = {"after": size // 3, "until": size - size // 4}
    some = [row for batch in store.read(kinds=KINDS[:2], **middle) for row in batch.to_pylist()]  # type: ignore[arg-type]
    assert store.scan(until=size).collect().to_dicts() == rows
    assert store.scan(kinds=KINDS[:2], **middle).collect().to_dicts() == some  # type: ignore[arg-type]
    answers = []
    for event in store.events(until=size):
        match event.event:
            case ValueRecorded(value_hash=value_hash):
                found = store.lookup.value(value_hash)
                answers.append(found)
            case EvaluationCached(eval_hash=eval_hash):
                answers.append(store.lookup.evaluation(eval_hash))
    return rows, some, answers


@settings(max_examples=6)
@given(steps=STEPS, goals=GOALS)
def test_the_log_is_the_same_before_amid_and_after(
    steps: list[tuple[int, list[Event], str]], goals: CompactionGoals
) -> None:
    """Rows, lazy tables, look-ups, size and root; verification finds nothing; and nothing is left to do."""
    ticks = itertools.count(1_700_000_000_000_000, 3600 * 1_000_000)
    with tempfile.TemporaryDirectory() as folder:

        def opened(**options: object) -> EventStore:
            return EventStore.open(
                Path(folder) / "store",
                create=True,
                registry=REGISTRY,
                flush_seconds=None,
                state_dir=Path(folder) / "state",
                clock=lambda: next(ticks),
                **options,  # type: ignore[arg-type]
            )

        stores = [opened(), opened()]
        for number, batch, then in steps:
            store = stores[number]
            store.append(*batch)
            match then:
                case "flush" | "seal":
                    getattr(store, then)()
                case "compact":
                    store.compact(goals=goals)
                case "clean":
                    store.clean(grace=dt.timedelta(hours=30))
        for store in stores:
            store.close()
        with opened() as writer:
            writer.seal()
            head = writer.head()
            with opened(read_only=True) as fresh:
                before = _facts(fresh, head.size)
            held = writer.scan(until=head.size)
            writer.compact(goals=replace(goals, least_files=2))
            with opened(read_only=True) as fresh:
                assert _facts(fresh, head.size) == before
            assert writer.clean(grace=dt.timedelta(0)).plan.kept.total() == 0
            for store in (writer, opened(read_only=True)):
                assert _facts(store, head.size) == before
            assert held.collect().to_dicts() == before[0]
            assert (writer.head().size, writer.head().root) == (head.size, head.root)
            report = writer.verify()
            assert report.findings == []
            assert (report.replaced_segments, report.events) == (0, head.size)
            assert not writer.compact(apply=False, goals=goals).plan.groups
