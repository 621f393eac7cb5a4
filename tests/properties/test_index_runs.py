"""Histories of index runs: several processes add, merge, die and meet damage; no answer is ever wrong.

All sizes are small, so that a few records take every path. What is asked is compared with the records
themselves, up to the position that the one who answers says.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from index_kit import KEEP, RULES, Pair, counting, shrink

from eventstore.checked_file import PARTIAL, IndexDamagedError
from eventstore.index import runs as room
from eventstore.index.runs import IndexRuns

DIGESTS = [
    bytes([first]) + bytes([second]) * 19
    for first, second in ((0, 0), (0, 1), (1, 1), (127, 3), (128, 3), (255, 3), (255, 4), (255, 255))
]
KEYS = [digest + bytes([family]) for digest in DIGESTS for family in RULES]
records = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from([b"", b"a", b"b", b"ccc", b"d" * 90])), max_size=25
)
numbers = st.integers(0, 2)


class Killed(BaseException):
    """The process ends here."""


def killed(*_: Any, **__: Any) -> Any:
    """Stand in for what the process did not come to."""
    raise Killed


class RunsMachine(RuleBasedStateMachine):
    """A log of records, one folder, and three processes that have it open."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.index = self.folder / "index"
        self.patch = pytest.MonkeyPatch()
        shrink(self.patch)
        self.patch.setattr("eventstore.index.run_folder.GRACE_SECONDS", 0.0)
        self.log: list[Pair] = []
        self.processes: list[IndexRuns] = []

    @initialize()
    def open_all(self) -> None:
        """Three processes open the index."""
        self.processes = [IndexRuns(self.index, keep=KEEP) for _ in range(3)]

    def guarded(self, number: int, use: Callable[[IndexRuns], object]) -> None:
        """Let a process do something; where it meets damage it sets everything aside."""
        runs = self.processes[number]
        damaged = None
        try:
            use(runs)
        except IndexDamagedError as error:
            damaged = Path(error.path).stem
            runs.reset(error.message)
        # What counts then is nothing, or what another process has built anew meanwhile.
        assert damaged not in {run.name for run in runs.runs}

    def assert_answers(self, runs: IndexRuns) -> None:
        """All answers are those of the log up to the position."""
        expected = counting(self.log[: runs.position])
        assert runs.writers == ({"w": runs.position} if runs.position else {})
        assert runs.mark == (str(runs.position) if runs.position else "")
        for key in KEYS:
            assert runs.get(key) == expected.get(key, [])

    def catch_up(self, runs: IndexRuns, most: int = 10**9) -> None:
        """Add what the log has behind the position."""
        with runs.turn() as mine:
            assert mine, "nobody else is at it"
            start = runs.position
            until = min(len(self.log), start + most)
            part = self.log[start:until]
            runs.add(
                [key for key, _ in part], [payload for _, payload in part], until=until,
                writers={"w": until} if until else {}, mark=str(until) if until else "",
            )  # fmt: skip

    @rule(number=numbers, more=records)
    def add(self, number: int, more: list[Pair]) -> None:
        """The log grows, and a process adds all that it lacks."""
        self.log += more
        self.guarded(number, self.catch_up)

    @rule(number=numbers, most=st.integers(1, 20))
    def add_some(self, number: int, most: int) -> None:
        """A process adds a part of what is behind it."""
        self.guarded(number, lambda runs: self.catch_up(runs, most))

    @rule(number=numbers)
    def merge(self, number: int) -> None:
        """A process merges what is due."""
        self.guarded(number, lambda runs: runs.merge_if_due())

    @rule(number=numbers)
    def refresh(self, number: int) -> None:
        """A process looks what others have done; then it stands where the newest one does."""
        runs = self.processes[number]
        runs.refresh()
        assert not runs.refresh()

    @rule(number=numbers)
    def ask(self, number: int) -> None:
        """A process answers everything."""
        self.guarded(number, self.assert_answers)

    @rule(number=numbers)
    def reopen(self, number: int) -> None:
        """A process ends, and another begins, which sees what was published last."""
        self.processes[number].close()
        self.processes[number] = IndexRuns(self.index, keep=KEEP)

    @rule(number=numbers, step=st.sampled_from(["before", "after"]), merging=st.booleans(), more=records)
    def die(self, number: int, step: str, merging: bool, more: list[Pair]) -> None:
        """A process is killed while it adds or merges, before or after what it wrote is published."""
        self.log += more
        real = room.put_manifest
        with pytest.MonkeyPatch.context() as patch:
            if step == "before":
                patch.setattr(room, "put_manifest", killed)
            else:
                patch.setattr(room, "put_manifest", lambda *given: (real(*given), killed()))
            with contextlib.suppress(Killed):
                self.guarded(number, (lambda runs: runs.merge_if_due()) if merging else self.catch_up)
        self.reopen(number)
        self.ask(number)

    @rule(name=st.sampled_from(["x.run.1", "manifest.json.2"]), content=st.binary(max_size=40))
    def leave_half_a_file(self, name: str, content: bytes) -> None:
        """A process that was killed has left an unfinished file."""
        self.index.mkdir(exist_ok=True)
        (self.index / f"{name}{PARTIAL}").write_bytes(content)

    @rule(place=st.floats(0, 1, exclude_max=True), number=st.integers(0, 99), bit=st.integers(0, 7))
    def damage(self, place: float, number: int, bit: int) -> None:
        """A bit of some file is another one; all processes begin anew, as pages are checked once."""
        found = sorted(path for path in self.index.glob("*") if path.stat().st_size)
        if not found:
            return
        path = found[number % len(found)]
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 1 << bit
        path.unlink()
        path.write_bytes(content)
        for each in range(3):
            self.reopen(each)

    @rule(number=st.integers(0, 99))
    def lose_a_file(self, number: int) -> None:
        """Somebody deletes a file."""
        found = sorted(self.index.glob("*"))
        if found:
            found[number % len(found)].unlink()

    @rule()
    def lose_all(self) -> None:
        """Somebody deletes the folder."""
        shutil.rmtree(self.index, ignore_errors=True)

    def teardown(self) -> None:
        """However it went: what is there is right, can be brought up to date, and nothing else is left."""
        try:
            if self.processes:
                self.finish()
        finally:
            for runs in self.processes:
                runs.close()
            self.patch.undo()
            shutil.rmtree(self.folder)

    def finish(self) -> None:
        """Bring the index up to date, merge, and compare."""
        runs = IndexRuns(self.index, keep=KEEP)
        self.processes.append(runs)
        for _ in range(3):  # damage is found one piece after another
            self.guarded(3, self.catch_up)
            self.guarded(3, self.assert_answers)
            self.guarded(3, lambda each: each.merge_if_due())
        runs.merge_if_due()
        assert runs.position == len(self.log)
        self.assert_answers(runs)
        if runs.runs:
            left = {path.stem for path in self.index.iterdir() if path.suffix in (".run", PARTIAL)}
            assert left == {run.name for run in runs.runs}


TestRuns = RunsMachine.TestCase
TestRuns.settings = settings(max_examples=60, stateful_step_count=25)


CHILD = """
import random, sys
from pathlib import Path
from index_kit import KEEP, add
from eventstore.index.runs import IndexRuns

runs = IndexRuns(Path(sys.argv[1]), keep=KEEP)
while True:
    print(runs.position, flush=True)
    at = runs.position
    rng = random.Random(at)
    add(runs, [(b"%020d" % rng.randrange(50) + bytes([rng.choice([1, 2, 3])]), b"%d" % at) for _ in range(1)])
    runs.merge_if_due()
"""


def test_killed_processes_leave_an_index_that_is_right(tmp_path: Path) -> None:
    """Processes that add and merge are killed at any moment; the next one goes on where they were."""
    rng = random.Random(12)
    index = tmp_path / "index"
    reached = 0
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(index)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        with child:
            try:
                assert child.stdout is not None
                while int(child.stdout.readline()) < reached + 25:
                    pass
                time.sleep(rng.uniform(0, 0.05))
            finally:
                child.send_signal(signal.SIGKILL)
        runs = IndexRuns(index, keep=KEEP)
        assert runs.position >= reached + 25, "what was published stays"
        reached = runs.position
        log = []
        for at in range(reached):
            said = random.Random(at)
            log.append((b"%020d" % said.randrange(50) + bytes([said.choice([1, 2, 3])]), b"%d" % at))
        for key, payloads in counting(log).items():
            assert runs.get(key) == payloads
        runs.close()
