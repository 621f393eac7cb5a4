"""What a new process loads before it has its first answers: Arrow, pydantic, and little else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore.backend import LogBackend
from tests.store_kit import open_store

EVAL_HASH, TASK_HASH, ARGS_HASH = ("ab" * 20, "cd" * 20, "ef" * 20)
HEAVY = frozenset(
    {
        "asyncio",
        "boto3",
        "fsspec",
        "hypothesis",
        "pandas",
        "polars",
        "projections",
        "redun",
        "rich",
        "sqlalchemy",
        "typer",
    }
)
"""Each takes longer to import than to open a store and ask it something.

fsspec, and asyncio with it, comes with a place that is not on this machine. pandas, where it is installed, is
imported by pyarrow for the first Arrow array that is made of Python values.
"""

PROCESS = """
import json, sys

folder, state, mode, *hashes = sys.argv[1:]
steps = {}

import eventstore
steps["import"] = [*sys.modules]

with eventstore.EventStore.open(folder, state_dir=state, read_only=mode == "read only") as store:
    found = store.lookup.evaluation(hashes[0])
    steps["ask the index"] = [*sys.modules]

    from eventstore.backend import CacheCheck, CacheScope, LogBackend

    eval_hash, task_hash, args_hash = hashes
    answer = LogBackend(store).check_cache(
        task_hash=task_hash,
        args_hash=args_hash,
        eval_hash=eval_hash,
        execution_id="none",
        current_tasks={task_hash},
        scope=CacheScope.STORE,
        check=CacheCheck.FULL,
    )
    steps["ask the backend"] = [*sys.modules]

print(json.dumps([found, answer.value, steps]))
"""


@pytest.mark.parametrize("mode", ["read only", "to write"])
def test_a_new_process_has_its_first_answers_without_heavy_modules(tmp_path: Path, mode: str) -> None:
    """To import the package, open a folder, and ask index and backend loads nothing that takes long."""
    folder = tmp_path / "store"
    with open_store(folder) as store:
        backend = LogBackend(store)
        value_hash = backend.record_value(7)
        backend.set_evaluation(EVAL_HASH, TASK_HASH, ARGS_HASH, 7)
    with open_store(folder) as store:
        assert store.lookup.evaluation(EVAL_HASH) == value_hash  # which makes the index
    told = subprocess.run(
        [sys.executable, "-c", PROCESS, folder, f"{folder}-state", mode, EVAL_HASH, TASK_HASH, ARGS_HASH],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    *answers, steps = json.loads(told.stdout)
    assert answers == [value_hash, 7]
    found = {step: sorted(HEAVY.intersection(loaded)) for step, loaded in steps.items()}
    assert found == {"import": [], "ask the index": [], "ask the backend": []}
