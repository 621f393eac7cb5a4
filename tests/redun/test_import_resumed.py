"""An import that ends in the middle: the next one goes on, and nothing is said twice."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from import_kit import RedunPlace, close, differences, everything, misplaced, work

from eventstore import EventStore, StorageError
from eventstore.redun.importing import adding, database, values
from eventstore.testing import FaultPlan, FaultyFiles, When


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RedunPlace:
    """A database with something of everything."""
    return everything(tmp_path_factory.mktemp)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages and batches so small that a little database has many."""
    monkeypatch.setattr(adding, "BATCH_EVENTS", 7)
    monkeypatch.setattr(adding, "BATCH_BYTES", 500)
    monkeypatch.setattr(database, "PAGE", 5)
    monkeypatch.setattr(values, "_READ_BYTES", 300)


def _whole(ran: RedunPlace, store: EventStore) -> None:
    """The store says what the database says, in order, each thing once."""
    assert differences(ran, store) == []
    assert misplaced(store) == []
    said = Counter(
        (event.kind, name, getattr(event.event, name))
        for event in store.events(tail=True)
        for name in ("value_hash", "task_hash", "call_hash", "eval_hash", "job_id", "tag_hash")
        if _own_name(event.kind) == name
    )
    assert {count for key, count in said.items() if key[0] != "tags.recorded"} == {1}
    assert ran.bring_into(store).added == {}


def _own_name(kind: str) -> str | None:
    return {
        "value.recorded": "value_hash",
        "task.recorded": "task_hash",
        "call_node.recorded": "call_hash",
        "evaluation.cached": "eval_hash",
        "job.started": "job_id",
        "job.ended": "job_id",
        "tags.deleted": "tag_hash",
    }.get(kind)


def test_small_pages_give_the_same(ran: RedunPlace, tmp_path: Path) -> None:
    """Whatever is read and appended at once, history is the same."""
    with EventStore.open(tmp_path / "store", create=True) as store:
        ran.bring_into(store)
        _whole(ran, store)


@pytest.mark.parametrize("stop", [1, 90, 200])
def test_after_an_interrupt_the_next_import_goes_on(ran: RedunPlace, tmp_path: Path, stop: int) -> None:
    """Wherever Ctrl-C comes, what was appended stays and is not appended again."""

    def interrupt(done: int, _total: int) -> None:
        if done >= stop:
            raise KeyboardInterrupt

    rows = ran.rows("SELECT (SELECT count(*) FROM value) + (SELECT count(*) FROM job)")[0][0]
    stop = min(stop, rows)
    with EventStore.open(tmp_path / "store", create=True) as store, pytest.raises(KeyboardInterrupt):
        ran.bring_into(store, progress=interrupt)
    with EventStore.open(tmp_path / "store") as store:
        before = store.head().size
        report = ran.bring_into(store)
        assert store.seal().size == before + sum(report.added.values())
        _whole(ran, store)


def test_after_a_kill_the_next_import_goes_on(ran: RedunPlace, tmp_path: Path) -> None:
    """What the killed process had journaled counts."""
    store = EventStore.open(tmp_path / "store", create=True, flush_seconds=None)

    def die(done: int, _total: int) -> None:
        if done > 60:
            store.abandon()
            raise SystemExit

    with pytest.raises(SystemExit):
        ran.bring_into(store, progress=die)
    with EventStore.open(tmp_path / "store") as again:
        assert again.head().size > 20
        ran.bring_into(again)
        _whole(ran, again)


@pytest.mark.parametrize("when", When)
def test_after_a_fault_of_the_disk_the_next_import_goes_on(
    ran: RedunPlace, tmp_path: Path, when: When
) -> None:
    """A line of the journal that is refused ends the import with the disk's error; nothing is half there."""
    plan = FaultPlan(12, when=when, only=frozenset({"journal_write"}))
    with EventStore.open(tmp_path / "store", create=True, local_files=FaultyFiles(plan)) as store:
        with pytest.raises(StorageError):
            ran.bring_into(store)
        plan.disarm()
        store.flush()
        ran.bring_into(store)
        _whole(ran, store)


def test_a_database_that_goes_on_is_imported_again(ran: RedunPlace, tmp_path: Path) -> None:
    """Only what is new is added, and the store keeps what it has of its own."""
    place = RedunPlace(tmp_path / "redun", value_store=True)
    shutil.copy(ran.path, place.path)
    place.values = ran.values
    with EventStore.open(tmp_path / "store", create=True) as store:
        with store.execution(args=["own"]):
            pass
        own = {event.id for event in store.events(tail=True)}
        place.bring_into(store)
        scheduler = place.scheduler()
        scheduler.run(work(str(place.folder), 5))
        close(scheduler.backend)
        second = place.bring_into(store)
        assert second.added["execution.started"] == 1
        assert second.added["evaluation.cached"] > 0
        assert "task.recorded" not in second.added
        assert differences(place, store) == []
        assert own <= {event.id for event in store.events(tail=True)}
