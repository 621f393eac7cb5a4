"""A subscription over storage that fails or kills at every operation in turn: nothing is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from faults_kit import CHANGING, worth_striking
from fork_kit import forked, status_of
from store_kit import beats, open_store

from eventstore import EventStore, StateError, StorageError
from eventstore.filesystem import open_storage
from eventstore.testing import KILLED, Act, FaultPlan, FaultyStorage, When

EVENTS = 5
BAD = 3


class Handler:
    """Writes the positions that it takes to a file, line by line; one of them it refuses at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.corrected = False

    def __call__(self, batch: pa.RecordBatch) -> None:
        """Take a batch, or refuse it."""
        positions = batch["position"].to_pylist()
        if BAD in positions and not self.corrected:
            raise ValueError("this one is bad")
        with self._path.open("a") as stream:
            stream.write("".join(f"{position}\n" for position in positions))

    def taken(self) -> list[int]:
        """What any process has taken."""
        return [int(line) for line in self._path.read_text().split()] if self._path.exists() else []


def _scenario(store: EventStore, handler: Handler, *, again: bool = False) -> None:
    """Run until the subscription is parked, correct the handler, resume, run to the end.

    With `again`, storage that refuses is asked once more.
    """
    calls = [lambda: _run(store, handler), lambda: _resume(store, handler), lambda: _run(store, handler)]
    for call in calls:
        try:
            call()
        except StorageError:
            if not again:
                raise
            call()


def _run(store: EventStore, handler: Handler) -> None:
    subscription = store.subscription(
        "mail", batch_rows=2, retries=0, checkpoint_seconds=0, sleep=lambda _: None
    )
    try:
        subscription.run(handler)
    except StateError as error:
        if error.code != "subscription_parked":
            raise


def _resume(store: EventStore, handler: Handler) -> None:
    handler.corrected = True
    store.subscription("mail").resume()


def _in_order(taken: list[int]) -> bool:
    """Whether each position comes behind all smaller ones, leaving repeats aside."""
    firsts = list(dict.fromkeys(taken))
    return firsts == sorted(firsts)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with sealed events, to be copied."""
    place = tmp_path_factory.mktemp("log") / "store"
    with open_store(place) as store:
        store.append(*beats("a", "b", "c"))
        store.flush()
        store.append(*beats("d", "e"))
    return place


def _struck(trace: list[str], when: When) -> list[tuple[int, str]]:
    """The operations to strike: all that change something, and the first look at each sort of file.

    Those of opening a store have their own campaign.
    """
    met: set[str] = set()
    struck = []
    for at, name in worth_striking(trace, when):
        sort = trace[at].partition("/")[0]
        if " subscriptions" in sort and (name in CHANGING or sort not in met):
            struck.append((at, name))
        met.add(sort)
    return struck


def _with_faults(place: Path, plan: FaultPlan) -> EventStore:
    return open_store(place, read_only=False, storage=FaultyStorage(open_storage(place), plan))


def _traced(log: Path, folder: Path) -> list[str]:
    plan = FaultPlan()
    place = shutil.copytree(log, folder / "counted" / "store")
    with _with_faults(place, plan) as store:
        handler = Handler(folder / "counted" / "taken")
        _scenario(store, handler)
    assert handler.taken() == list(range(EVENTS)), "without a fault nothing comes twice"
    return plan.trace


def _check_afterwards(place: Path, handler: Handler, where: str) -> None:
    """What is stored promises nothing that was not taken, and whoever goes on completes it."""
    with open_store(place) as store:
        stored = max((known.position for known in store.subscriptions()), default=0)
        assert set(range(stored)) <= set(handler.taken()), where
        _resume(store, handler)
        _run(store, handler)
        taken = handler.taken()
        assert set(taken) == set(range(EVENTS)), where
        assert _in_order(taken), where
        assert store.subscriptions()[0].position == EVENTS, where
        report = store.verify()
        assert report.ok, where
        assert {finding.code for finding in report.findings} <= {"foreign_file"}, where


@pytest.mark.parametrize("when", When)
def test_an_error_at_any_operation_leaves_nothing_out(log: Path, tmp_path: Path, when: When) -> None:
    """Asked once more, everything goes on; a lost reply is no other runner."""
    trace = _traced(log, tmp_path)
    assert {line.partition(" ")[0] for line in trace} >= {"create", "delete", "exists", "files", "read"}
    for at, name in _struck(trace, when):
        folder = tmp_path / f"{when}-{at}"
        place = shutil.copytree(log, folder / "store")
        handler = Handler(folder / "taken")
        where = f"error {when} operation {at}, {name}"
        with _with_faults(place, FaultPlan(at, when=when)) as store:
            _scenario(store, handler, again=True)
        assert handler.corrected, where
        _check_afterwards(place, handler, where)
        shutil.rmtree(folder)


@pytest.mark.parametrize("when", [When.AFTER, When.TORN])
def test_a_kill_at_any_operation_leaves_nothing_out(log: Path, tmp_path: Path, when: When) -> None:
    """What was stored was taken before, and the next process goes on there."""
    for at, name in _struck(_traced(log, tmp_path), when):
        folder = tmp_path / f"{when}-{at}"
        place = shutil.copytree(log, folder / "store")
        handler = Handler(folder / "taken")
        where = f"killed {when} operation {at}, {name}"

        def run(place: Path = place, at: int = at, handler: Handler = handler) -> None:
            with _with_faults(place, FaultPlan(at, when=when, act=Act.KILL)) as store:
                _scenario(store, handler)

        assert status_of(forked(run)) == KILLED, where
        _check_afterwards(place, handler, where)
        shutil.rmtree(folder)
