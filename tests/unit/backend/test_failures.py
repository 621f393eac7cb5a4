"""When storage fails: transient errors are tried again, others are raised, and the backend stays usable."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from backend_kit import Engine, Failure, hashes, kinds, open_backend, state_of, task
from store_kit import open_store

from eventstore import EventStore, StorageError
from eventstore.backend import Backend, CallArgument, CallNode, LogBackend
from eventstore.handle import Handle
from eventstore.testing import FaultPlan, FaultyFiles, FaultyStorage, When


class Refusing:
    """Appends of a store that fail some times."""

    def __init__(self, store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.transient = True
        append = store.append

        def refuse(*events: Any) -> Any:
            if self.left:
                self.left -= 1
                raise StorageError("not now; try again", transient=self.transient)
            return append(*events)

        monkeypatch.setattr(store, "append", refuse)


@pytest.fixture
def naps() -> list[float]:
    """The pauses that were made."""
    return []


@pytest.fixture
def patient(naps: list[float]) -> Iterator[LogBackend]:
    """A backend that notes its pauses."""
    made = open_backend(sleep=naps.append)
    yield made
    made.close()


@pytest.fixture
def refusing(patient: LogBackend, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """Its store, to be told how often to refuse."""
    return Refusing(patient.store, monkeypatch)


def test_transient_errors_are_tried_again(patient: LogBackend, refusing: Refusing, naps: list[float]) -> None:
    """Pauses grow from one second, doubling, and what was tried again is recorded once."""
    refusing.left = 3
    patient.record_tags("Job", "job", iter([("a", 1)]), update=True)
    assert naps == [1.0, 2.0, 4.0]
    assert [tag.key for tag in patient.get_tags(["job"])["job"]] == ["a"]
    assert kinds(patient) == ["tags.recorded"]


def test_persistent_errors_are_raised(patient: LogBackend, refusing: Refusing, naps: list[float]) -> None:
    """After three retries the error is raised; nothing is recorded, and the next call works."""
    refusing.left = 4
    with pytest.raises(StorageError, match="not now"):
        patient.record_value("v")
    assert naps == [1.0, 2.0, 4.0]
    assert kinds(patient) == []
    assert patient.get_value(patient.record_value("v")) == ("v", True)


def test_other_errors_are_raised_at_once(patient: LogBackend, refusing: Refusing, naps: list[float]) -> None:
    """An error that will not pass is not tried again."""
    refusing.left, refusing.transient = 1, False
    with pytest.raises(StorageError):
        patient.record_value("v")
    assert naps == []


def test_pauses_are_as_configured(monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> None:
    """Retries, first pause and longest pause are settings."""
    backend = open_backend(retries=5, retry_seconds=2.0, retry_most_seconds=5.0, sleep=naps.append)
    Refusing(backend.store, monkeypatch).left = 6
    with pytest.raises(StorageError):
        backend.record_value("v")
    assert naps == [2.0, 4.0, 5.0, 5.0, 5.0]
    backend.close()


def test_reading_is_tried_again(tmp_path: Path, naps: list[float]) -> None:
    """A value whose file cannot be read for a moment is read when it can."""
    writing = open_backend(open_store(tmp_path / "store"))
    value_hash = writing.record_value(b"x" * 100_000)
    writing.close()
    plan = FaultPlan(only=frozenset({"read"}), strikes=2)
    storage = FaultyStorage(writing.store.storage, plan)
    backend = open_backend(open_store(tmp_path / "store", storage=storage), sleep=naps.append)
    assert backend.get_job("nobody") is None  # what opening reads is read
    plan.at = len(plan.trace)
    assert backend.get_value(value_hash) == (b"x" * 100_000, True)
    assert naps == [1.0, 2.0]
    backend.close()


def test_pending_execution_outlives_a_failed_start(patient: LogBackend, refusing: Refusing) -> None:
    """If the start of a root job fails, its execution goes on waiting for it."""
    patient.record_execution("run", [])
    engine = Engine(patient, "run")
    refusing.left, refusing.transient = 1, False
    with pytest.raises(StorageError):
        engine.start()
    assert patient.get_execution("run") is None
    engine.start()
    execution = patient.get_execution("run")
    assert execution is not None
    assert execution.status == "RUNNING"


Step = Callable[[LogBackend], object]


def _steps() -> list[Step]:
    """Each recording call once, in the order in which a scheduler makes them."""
    called, handle = task(), Handle("db", "file.db")
    args_hash, eval_hash = hashes(called, ["a" * 70_000])
    engine = Engine(None, "run")  # type: ignore[arg-type]
    fork = handle.fork("f")

    def node(backend: LogBackend) -> str:
        argument = CallArgument(0, None, "a" * 70_000)
        result = backend.record_value("r")
        return backend.record_call_node(
            CallNode("lab.count", called.task_hash, args_hash, [argument], result, [], [called])
        )

    def start(backend: LogBackend) -> None:
        engine.backend = backend
        engine.start()

    def end(backend: LogBackend) -> None:
        assert engine.root is not None
        backend.record_job_end(engine.root._replace(call_hash=node(backend)))

    return [
        start,
        lambda backend: backend.record_heartbeat("run"),
        lambda backend: backend.advance_handle([state_of(handle)], state_of(fork)),
        lambda backend: backend.rollback_handle(state_of(handle)),
        lambda backend: backend.record_value(Failure("broken")),
        lambda backend: backend.set_evaluation(eval_hash, called.task_hash, args_hash, "r"),
        node,
        lambda backend: backend.record_call_context(node(backend), None, {"c": 1}),
        lambda backend: backend.record_tags("Job", "job", [("env", "prod")]),
        lambda backend: backend.record_tags("Job", "job", [("env", "test")], update=True),
        lambda backend: backend.update_tags("Job", "job", ["env"], [("stage", "test")]),
        lambda backend: backend.delete_tags("job", keys=["stage"]),
        end,
    ]


@pytest.mark.parametrize(
    ("when", "number"),
    [(When.BEFORE, errno.EIO), (When.TORN, errno.ENOSPC), (When.AFTER, errno.EIO)],
)
def test_every_call_may_fail_at_the_journal_and_be_made_again(
    tmp_path: Path, when: When, number: int
) -> None:
    """Whichever write fails, it leaves nothing behind, and the same call then succeeds: no event is lost or
    there twice.
    """
    whole = open_backend(open_store(tmp_path / "whole"))
    for step in _steps():
        step(whole)
    expected = kinds(whole)
    whole.close()

    plan = FaultPlan(only=frozenset({"journal_write", "journal_create"}), number=number, when=when)
    store = open_store(tmp_path / "store", local_files=FaultyFiles(plan))
    backend = open_backend(store)
    failures = 0
    for step in _steps():
        for _ in range(20):
            plan.at = len(plan.trace)
            try:
                step(backend)
            except StorageError:
                failures += 1
                plan.disarm()
                before = kinds(backend)
                step(backend)
                assert kinds(backend)[: len(before)] == before
                break
        else:
            raise AssertionError("no write was struck")
    assert failures == len(_steps())
    assert kinds(backend) == expected
    backend.close()
    assert backend.store.verify().ok


def test_contract_knows_no_engine() -> None:
    """Everything that an engine asks is in the contract, and the contract brings in no engine."""
    asked = sorted(name for name in vars(Backend) if not name.startswith("_"))
    assert sorted(Backend.__abstractmethods__) == asked
    assert len(asked) == 26
    import eventstore.backend as room

    assert not any("redun" in line for line in _imports(room))


def _imports(room: Any) -> list[str]:
    folder = Path(room.__file__).parent
    lines = (line for path in folder.glob("*.py") for line in path.read_text().splitlines())
    return [line for line in lines if line.startswith(("import ", "from "))]
