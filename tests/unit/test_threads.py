"""Threads of our own start when pyarrow has imported what it will."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pandas")

IMPORTS_AT_ONCE = """
import importlib.abc, sys, threading
from eventstore import EventStore, Event, event_kind
import pyarrow as pa

class Slow(importlib.abc.MetaPathFinder):
    "Whoever imports pandas in another thread waits for a while, as on a busy machine."
    def find_spec(self, name, path=None, target=None):
        if name == "pandas" and threading.current_thread() is not threading.main_thread():
            amid.set()
            goes_on.wait(5)
        return None

amid, goes_on = threading.Event(), threading.Event()
sys.meta_path.insert(0, Slow())

@event_kind("test.beat")
class Beat(Event):
    number: int

with EventStore.open(sys.argv[1], create=True, state_dir=sys.argv[2], flush_seconds=0.01) as store:
    store.append(Beat(number=1))
    amid.wait(1)
    print("in another thread" if amid.is_set() else "before", flush=True)
"""


def test_no_thread_of_ours_is_the_first_to_import_pandas(tmp_path: Path) -> None:
    """What pyarrow imports late is there when the first thread starts: two threads cannot meet in it."""
    arguments = [str(tmp_path / "store"), str(tmp_path / "state")]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_AT_ONCE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ,
    )
    assert done.stdout == "before\n"
