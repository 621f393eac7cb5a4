"""Make the golden log of a released format: run once for each format version, never again.

    python -m tools.make_golden tests/golden/format-1

It writes a small store with every kind of event, by several writers, in segments of theirs and in a compacted
one whose originals are gone, and what a reader is expected to find in it. The result is committed and not
edited: later versions must still read it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import sys
import tempfile
from pathlib import Path

from eventstore import (
    Argument,
    CallContextRecorded,
    CallNodeRecorded,
    CompactionGoals,
    EvaluationCached,
    Event,
    EventStore,
    ExecutionHeartbeat,
    ExecutionStarted,
    HandleAdvanced,
    HandleForked,
    HandleRecorded,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    Registry,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)

__all__ = ["GoldenMeasured", "golden_registry", "main"]

COMPACTED = 2
"""The batch after which all so far are compacted."""
START = dt.datetime(2026, 1, 31, 12, 0, tzinfo=dt.UTC)


class GoldenMeasured(Event):
    """A user's own kind, with one shared column and a payload."""

    stream: str
    mass_mg: float
    notes: list[str] = []


def golden_registry() -> Registry:
    """Return the built-in kinds and the user's own one."""
    registry = Registry()
    registry.register(GoldenMeasured, "golden.measured")
    return registry


def _hash(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _events() -> list[list[Event]]:
    run, job, task = "run-ü", "job-1", _hash("task")
    big = b"large value " * 10_000
    return [
        [
            ExecutionStarted(execution_id=run, job_id=job, args='["main.py"]', occurred_at=START),
            TaskRecorded(task_hash=task, task_name="count", task_namespace="demo", source="def count(): ..."),
            JobStarted(job_id=job, execution_id=run, task_hash=task, occurred_at=START),
        ],
        [
            ValueRecorded(
                value_hash=_hash("a"), type_name="builtins.bytes", size_bytes=3, data=b"\x00\xff\n"
            ),
            ValueRecorded(
                value_hash=_hash("f"),
                type_name="redun.File",
                size_bytes=1,
                data=b"x",
                subvalues=[_hash("a"), _hash("a")],
                file_path="größe.txt",
            ),
            ValueRecorded(value_hash=_hash("b"), type_name="builtins.bytes", size_bytes=len(big), data=big),
            EvaluationCached(
                eval_hash=_hash("e"), task_hash=task, args_hash=_hash("args"), value_hash=_hash("a")
            ),
            CallNodeRecorded(
                call_hash=_hash("c"),
                task_hash=task,
                task_name="demo.count",
                args_hash=_hash("args"),
                value_hash=_hash("a"),
                children=[_hash("x"), _hash("y"), _hash("x")],
                arguments=[
                    Argument(position=0, value_hash=_hash("f"), upstreams=[_hash("x")]),
                    Argument(key="größe", value_hash=_hash("a")),
                ],
                subtree_tasks=[task],
            ),
            CallContextRecorded(call_hash=_hash("c"), context_hash=_hash("context")),
        ],
        [
            HandleRecorded(handle_hash=_hash("h0"), handle_name="db", value_hash=_hash("h0")),
            HandleForked(handle_hash=_hash("h1"), handle_name="db", handle_key="1", parents=[_hash("h0")]),
            HandleAdvanced(handle_hash=_hash("h2"), handle_name="db", parents=[_hash("h1")]),
            HandleRolledBack(handle_hash=_hash("h1"), handle_name="db", reason="wrong file"),
        ],
        [
            TagsRecorded(
                entity_type="Job",
                entity_id=job,
                tags=[
                    Tag(tag_hash=_hash("t1"), key="team", value='"x"'),
                    Tag(tag_hash=_hash("t2"), key="n", value="3"),
                ],
            ),
            TagsDeleted(tag_hash=_hash("t3"), superseded=[_hash("t1")]),
            ExecutionHeartbeat(execution_id=run),
            GoldenMeasured(stream="sample/42", mass_mg=1.25, notes=["ü", ""], actor="grace"),
            JobEnded(
                job_id=job,
                execution_id=run,
                task_hash=task,
                status="FAILED",
                call_hash=_hash("c"),
                occurred_at=START + dt.timedelta(seconds=1, microseconds=1),
            ),
        ],
    ]


def main(folder: str) -> None:
    """Write ``store/`` and ``expected.json`` into a folder that does not exist yet."""
    place = Path(folder)
    place.mkdir(parents=True)
    registry = golden_registry()
    with tempfile.TemporaryDirectory() as state:
        for number, batch in enumerate(_events()):
            with EventStore.open(
                place / "store",
                create=True,
                actor="ada",
                software="golden/1",
                registry=registry,
                state_dir=state,
                flush_seconds=None,
            ) as store:
                store.append(*batch)
                if number == COMPACTED:
                    store.compact(goals=CompactionGoals(least_files=2, block_rows=8))
                    store.clean(grace=dt.timedelta(0))
        with EventStore.open(place / "store", read_only=True, registry=registry, state_dir=state) as store:
            head = store.head()
            expected = {
                "size": head.size,
                "root": head.root.hex(),
                "events": [
                    {
                        "id": str(one.id),
                        "kind": one.kind,
                        "hash": one.event_hash.hex(),
                        "recorded_at": one.recorded_at.isoformat(),
                        "fields": json.loads(one.event.model_dump_json()),  # type: ignore[union-attr]
                    }
                    for one in store.events()
                ],
            }
    (place / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
