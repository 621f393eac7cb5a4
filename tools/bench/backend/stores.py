"""Stores of so many jobs, the same history as a database of redun, and what an engine might ask of both."""

from __future__ import annotations

import dataclasses
import json
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from eventstore.events import (
    CallNodeRecorded,
    EvaluationCached,
    JobEnded,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.store import EventStore
from tools.bench.campaign import Settings, campaign_store
from tools.bench.measure import run_child

__all__ = ["History", "database_of", "history_of"]

EVENTS_A_JOB = 5.8
MOST_QUESTIONS = 1_000
SMALL_BYTES = 256
LONG_BYTES = 10_000
_WINDOWS = 24
_WINDOW_EVENTS = 4_000


@dataclass(frozen=True, slots=True)
class History:
    """A store of about so many jobs, with the questions that can be asked of it.

    Parameters
    ----------
    jobs
        How many are wanted; `facts` says how many there are.
    folder, state
        The store, and this machine's folder for its index.
    questions
        A file of JSON.
    """

    jobs: int
    folder: Path
    state: Path
    questions: Path
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """As reports show it."""
        return f"{self.jobs:,} jobs"


def history_of(settings: Settings, jobs: int) -> History:
    """Return a sealed store of about `jobs` jobs, made once for all benchmarks; its index is built."""
    wanted = dataclasses.replace(settings, size=int(jobs * EVENTS_A_JOB))
    folder, facts = campaign_store(wanted)
    questions = settings.folder / f"{folder.name}.questions.json"
    if not questions.exists():
        made = run_child(
            "tools.bench.backend.stores:find_questions",
            folder=str(folder),
            state=str(settings.state()),
            seed=settings.seed,
        )
        questions.write_text(json.dumps(made.result))
    return History(jobs, folder, settings.state(), questions, facts)


def database_of(settings: Settings, history: History) -> Path:
    """Return the same history as a SQLite file of redun's own, made once."""
    path = settings.folder / f"{history.folder.name}.redun.db"
    note = settings.folder / f"{path.name}.json"
    if not note.exists():
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink()
        made = run_child(
            "tools.bench.backend.stores:export",
            folder=str(history.folder),
            state=str(history.state),
            path=str(path),
        )
        note.write_text(json.dumps({**made.result, "seconds": made.seconds}))
    return path


def export(folder: str, state: str, path: str) -> dict[str, Any]:
    """Write a store's history into a database of redun."""
    from eventstore.redun.exporting import export_to_redun

    with EventStore.open(folder, read_only=True, state_dir=state) as store:
        report = export_to_redun(store, f"sqlite:///{path}")
    assert report.rows["job"], "the database has the jobs"
    return {"rows": dict(report.rows), "left_out": dict(report.left_out)}


def find_questions(folder: str, state: str, seed: int) -> dict[str, list[Any]]:
    """Choose what to ask of a store, evenly over its history; its index is built.

    Only values of plain types are asked for, which any process can read; a short history may have no long
    ones.
    """
    found: dict[str, list[Any]] = {name: [] for name in ("evaluation", "call", "small", "long", "tags")}
    with EventStore.open(folder, state_dir=state) as store:
        size = store.head().size
        starts = [size * part // _WINDOWS for part in range(_WINDOWS + 1)]
        for first, end in pairwise(starts):
            _look(store, first, min(first + _WINDOW_EVENTS, end), found)
        tasks = [
            [event.event.task_hash, event.event.task_name, event.event.task_namespace]
            for event in store.events(kinds=["task.recorded"])
            if isinstance(event.event, TaskRecorded)
        ]
        # Some were taken off again; asking builds the index.
        found["tags"] = [each for each in found["tags"] if store.lookup.current_tags(each)]
    rng = random.Random(seed)
    chosen = {name: rng.sample(some, min(len(some), MOST_QUESTIONS)) for name, some in found.items()}
    assert all(some for name, some in chosen.items() if name != "long"), "there is something to ask of each"
    return {**chosen, "tasks": tasks}


def _look(store: EventStore, first: int, end: int, found: dict[str, list[Any]]) -> None:
    """Gather what a part of the history can be asked."""
    values: dict[str, int] = {}
    nodes: dict[str, CallNodeRecorded] = {}
    kinds = ["value.recorded", "call_node.recorded", "evaluation.cached", "job.ended", "tags.recorded"]
    for recorded in store.events(after=first - 1, until=end, kinds=kinds):
        match recorded.event:
            case ValueRecorded(data=bytes()) as value if value.type_name.startswith("builtins."):
                values[value.value_hash] = value.size_bytes
                if value.size_bytes <= SMALL_BYTES:
                    found["small"].append(value.value_hash)
                elif value.size_bytes >= LONG_BYTES:
                    found["long"].append(value.value_hash)
            case CallNodeRecorded() as call if call.value_hash in values:
                nodes[call.call_hash] = call
            case EvaluationCached() as entry if entry.value_hash in values:
                found["evaluation"].append([entry.task_hash, entry.args_hash, entry.eval_hash])
            case JobEnded(call_hash=str(), cached=False) as job if job.call_hash in nodes:
                call = nodes[job.call_hash]
                found["call"].append([call.task_hash, call.args_hash, job.execution_id])
            case TagsRecorded(superseded=()) as tags:
                found["tags"].append(tags.entity_id)
