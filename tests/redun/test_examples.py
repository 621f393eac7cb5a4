"""Workflows such as redun's users write, cold, cached and after a change: on our backend and on redun's."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import example_workflows as examples
import pytest
from example_workflows import EXAMPLES, Example
from redun import Scheduler
from redun.backends.db import RedunBackendDb
from redun.config import Config
from sqlalchemy import text

from eventstore.redun import EventStoreBackend


class Side:
    """One backend, and an example that runs on it again and again, each time by a new scheduler."""

    def __init__(self, example: Example, db_uri: str, folder: Path) -> None:
        self.example = example
        self.db_uri = db_uri
        self.folder = folder
        self.runs = 0
        folder.mkdir()
        example.prepare(folder)

    def run(self, **arguments: Any) -> dict[str, Any]:
        """Run it; returns the result, what ran, and what was recorded."""
        settings = {"ignore_warnings": "namespace"}
        scheduler = Scheduler(config=Config({"backend": {"db_uri": self.db_uri}, "scheduler": settings}))
        scheduler.load()
        if not isinstance(scheduler.backend, EventStoreBackend):
            for setting in ("synchronous = OFF", "journal_mode = MEMORY"):  # nothing outlives the test
                scheduler.backend.session.execute(text(f"PRAGMA {setting}"))
        examples.ran.clear()
        self.runs += 1
        execution_id = f"run-{self.runs}"
        result = scheduler.run(self.example.main(str(self.folder), **arguments), execution_id=execution_id)
        found = {
            "result": re.sub("hash=[0-9a-f]+", "", repr(result).replace(str(self.folder), "")),
            "value": result,
            "ran": tuple(sorted(examples.ran)),
            "recorded": self._recorded(scheduler.backend, execution_id),
        }
        if isinstance(scheduler.backend, EventStoreBackend):
            scheduler.backend.close()
        return found

    @staticmethod
    def _recorded(backend: Any, execution_id: str) -> Counter[tuple[Any, ...]]:
        """Count the jobs of the run by task and status, with tags, and the kinds of all that it owns."""
        records = list(backend.get_records(backend.iter_record_ids([execution_id])))
        names = {each["value_hash"]: each["subtype"]["name"] for each in records if _is_task(each)}
        counted: Counter[tuple[Any, ...]] = Counter()
        for each in records:
            if each["_type"] == "Job":
                # Without its call node redun takes a failed job for one that is done.
                status = each["status"] if each["call_hash"] else None
                counted["Job", names[each["task_hash"]], status, each["cached"]] += 1
            elif each["_type"] == "Tag":
                counted["Tag", each["entity_type"], each["key"]] += 1
            elif each["_type"] == "CallNode":
                upstreams = sum(len(given["upstream"]) for given in each["args"].values())
                counted["CallNode", each["task_name"], len(each["children"]), upstreams] += 1
            else:
                counted[each["_type"], each.get("type")] += 1
        return counted


def _is_task(record: dict[str, Any]) -> bool:
    return record["_type"] == "Value" and (record["subtype"] or {}).get("_type") == "Task"


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of redun without history; to make its tables takes longer than an example."""
    path = tmp_path_factory.mktemp("redun") / "redun.db"
    backend = RedunBackendDb(db_uri=f"sqlite:///{path}")
    backend.load()
    backend.engine.dispose()
    return path


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_runs_and_what_is_recorded_is_as_with_redun(
    name: str, tmp_path: Path, empty_database: Path
) -> None:
    """Cold, cached, after a change and as at first: result, tasks that ran, jobs, calls, values, tags."""
    example = EXAMPLES[name]
    shutil.copy(empty_database, tmp_path / "redun.db")
    sides = [
        Side(example, str(tmp_path / "store"), tmp_path / "ours"),
        Side(example, f"sqlite:///{tmp_path}/redun.db", tmp_path / "theirs"),
    ]
    cold, peer = (side.run() for side in sides)
    assert example.result is None or cold["value"] == example.result
    assert len(cold["ran"]) > 1
    assert _shown(cold) == _shown(peer)
    cached, peer = (side.run() for side in sides)
    assert cached["ran"] == example.cached
    assert cached["result"] == cold["result"]
    assert _shown(cached) == _shown(peer)
    if example.again:
        for side in sides:
            example.change(side.folder)
        changed, peer = (side.run(**example.arguments) for side in sides)
        assert changed["ran"] == example.again
        assert _shown(changed) == _shown(peer)
    if name == "handles":  # what is outside has changed, and rolled back what was
        back, peer = (side.run() for side in sides)
        assert _shown(back) == _shown(peer)


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in found.items() if key != "value"}
