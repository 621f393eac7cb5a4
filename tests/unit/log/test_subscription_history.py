"""Subscriptions after the log was restored from an older copy and went on differently."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from store_kit import beats, names, open_store

from eventstore import EventStore, StateError, StorageError, Subscription, SubscriptionState
from eventstore.filesystem import open_storage
from eventstore.log.subscription import is_of_log
from eventstore.testing import FaultPlan, FaultyStorage, When

COMMON, LOST = ["a", "b"], ["c", "d", "e"]


def _sealed(store: EventStore, *given: str) -> None:
    store.append(*beats(*given))
    store.seal()


def _open(store: EventStore, **options: Any) -> Subscription:
    return store.subscription("mail", **({"retries": 0, "sleep": lambda _: None} | options))


def _never(_batch: pa.RecordBatch) -> None:
    pytest.fail("a handler was given events of a log that the checkpoint is not of")


def _refuse(_batch: pa.RecordBatch) -> None:
    raise ValueError("not these")


def _taken(subscription: Subscription) -> list[str]:
    """What the names are of all that a run hands over."""
    taken: list[str] = []
    subscription.run(lambda batch: taken.extend(batch["execution_id"].to_pylist()))
    return taken


def _restored(
    folder: Path, *given: str, run: Callable[[Subscription], object] = _taken, early: bool = False
) -> Path:
    """Return a store whose log is that of an older copy with `given` after it, but for its subscriptions.

    The subscription ran in the lost history, or `early`: before the copy was made.
    """
    place, copy, kept = folder / "store", folder / "copy", folder / "kept"
    with open_store(place) as store:
        _sealed(store, *COMMON)
        if early:
            run(_open(store))
    shutil.copytree(place, copy)
    with open_store(place) as store:
        _sealed(store, *LOST)
        if not early:
            run(_open(store))
    shutil.copytree(place / "subscriptions", kept)
    shutil.rmtree(place)
    shutil.copytree(copy, place)
    shutil.copytree(kept, place / "subscriptions", dirs_exist_ok=True)
    with open_store(place) as store:
        if given:
            _sealed(store, *given)
        assert names(store) == [*COMMON, *given]
    return place


def _park(subscription: Subscription) -> None:
    with pytest.raises(StateError, match="parked"):
        subscription.run(_refuse)


LONGER = tuple("vwxyz")


@pytest.mark.parametrize("given", [LONGER[:3], LONGER])
def test_a_handler_is_given_nothing_of_another_history(tmp_path: Path, given: tuple[str, ...]) -> None:
    """Also where the log is as long as it was, or longer: each way to go on says so, and changes nothing."""
    place = _restored(tmp_path, *given)
    with open_store(place) as store:
        (before,) = store.subscriptions()
        assert (before.position, before.state) == (5, SubscriptionState.ACTIVE)
        for go_on in (
            lambda: _open(store).run(_never),
            lambda: _open(store).run(_never, follow=True),
            lambda: next(_open(store).batches()),
            lambda: _open(store).resume(),
            lambda: _open(store).skip(),
        ):
            with pytest.raises(StateError, match="position 5,") as caught:
                go_on()
            assert (caught.value.code, caught.value.position) == ("foreign_checkpoint", 5)
            for words in (before.seal_digest, store.head().digest, "--seek"):
                assert words in str(caught.value)
        with _open(store) as opened:
            assert opened.position == 5, "leaving it stores nothing"
        assert store.subscriptions() == [before]


def test_a_log_without_that_seal_is_another_one(tmp_path: Path) -> None:
    """A log that lost seals and no event says that the seal is not there."""

    def run(subscription: Subscription) -> None:
        next(subscription.batches())
        subscription.commit(1)

    place = _restored(tmp_path, run=run)
    with open_store(place) as store, pytest.raises(StateError, match="found no seal") as caught:
        _open(store).run(_never)
    assert caught.value.code == "foreign_checkpoint"


def test_what_was_parked_in_another_history_is_neither_resumed_nor_skipped(tmp_path: Path) -> None:
    """Its events are not those that the handler refused."""
    place = _restored(tmp_path, *LONGER, run=_park)
    with open_store(place) as store:
        for act in (_open(store).resume, _open(store).skip, lambda: _open(store).run(_never)):
            with pytest.raises(StateError) as caught:
                act()
            assert caught.value.code == "foreign_checkpoint"
        assert _open(store).state is SubscriptionState.PARKED


@pytest.mark.parametrize("run", [_taken, _park])
def test_a_seek_makes_it_one_of_this_log(tmp_path: Path, run: Callable[[Subscription], object]) -> None:
    """From where it is told on, parked before or not; then another process goes on as ever."""
    place = _restored(tmp_path, *LONGER, run=run)
    with open_store(place) as store:
        subscription = _open(store)
        subscription.seek(2)
        assert _taken(subscription) == list(LONGER)
    with open_store(place) as store:
        _sealed(store, "new")
        assert _taken(_open(store)) == ["new"]


def test_it_can_be_deleted_and_begun_anew(tmp_path: Path) -> None:
    """The file that says so claims nothing of this log."""
    place = _restored(tmp_path, *LONGER)
    with open_store(place) as store:
        (before,) = store.subscriptions()
        foreign = _open(store)
        foreign.delete()
        assert foreign.state is SubscriptionState.DELETED
        assert foreign.checkpoint.seal_digest == before.seal_digest
        assert store.subscriptions() == []
        assert _taken(_open(store)) == [*COMMON, *LONGER]


def test_what_was_taken_before_the_copy_was_made_stays_taken(tmp_path: Path) -> None:
    """A checkpoint of the common past goes on in either history."""
    place = _restored(tmp_path, *LONGER, early=True)
    with open_store(place) as store:
        assert store.subscriptions()[0].position == len(COMMON)
        assert _taken(_open(store)) == list(LONGER)


def test_a_seek_whose_reply_is_lost_is_not_forgotten(tmp_path: Path) -> None:
    """The same object goes on where it was told to, and not where it stood in the other history."""
    place = _restored(tmp_path, *LONGER)
    plan = FaultPlan(0, when=When.AFTER, only=frozenset({"create"}))
    with open_store(place, storage=FaultyStorage(open_storage(place), plan)) as store:
        subscription = _open(store)
        with pytest.raises(StorageError):
            subscription.seek(2)
        assert _taken(subscription) == list(LONGER)


def test_a_seek_that_storage_refuses_changes_nothing(tmp_path: Path) -> None:
    """It is of the other history as before."""
    place = _restored(tmp_path, *LONGER)
    plan = FaultPlan(0, only=frozenset({"create"}))
    with open_store(place, storage=FaultyStorage(open_storage(place), plan)) as store:
        subscription = _open(store)
        with pytest.raises(StorageError):
            subscription.seek(2)
        assert subscription.position == 5
        with pytest.raises(StateError) as caught:
            subscription.run(_never)
        assert caught.value.code == "foreign_checkpoint"


def test_every_checkpoint_names_a_seal_that_has_its_position(tmp_path: Path) -> None:
    """Made, amid a run, at its end, parked, skipped, moved: by the log it can be told."""
    with open_store(tmp_path / "store") as store:

        def check(_batch: object = None) -> None:
            (known,) = store.subscriptions()
            assert is_of_log(known, store.head_at(known.seal))

        fresh = _open(store, batch_rows=1, checkpoint_seconds=0)
        check()
        assert fresh.checkpoint.seal == 0
        _sealed(store, "a", "b")
        _sealed(store, "c")
        fresh.run(check)
        check()
        assert (fresh.position, fresh.checkpoint.seal) == (3, store.head().number)
        _sealed(store, "d", "e")
        _park(fresh)
        check()
        fresh.skip()
        check()
        fresh.seek(1)
        check()
        store.subscription("head", start="head").delete()
        check()


def test_one_older_seal_is_read_by_a_process_at_most(tmp_path: Path) -> None:
    """The one that the checkpoint names when a process takes it over; its own progress it knows."""
    place = tmp_path / "store"
    with open_store(place) as store:
        _sealed(store, "a")
        assert _taken(_open(store)) == ["a"]
        _sealed(store, "b")
    plan = FaultPlan()
    with open_store(place, storage=FaultyStorage(open_storage(place), plan)) as store:
        store.head()
        subscription = _open(store)
        plan.trace.clear()
        assert _taken(subscription) == ["b"]
        assert [one for one in plan.trace if "seals/00000000000000000001" in one] == [
            "read seals/00000000000000000001.json"
        ]
        for name in "cd":
            _sealed(store, name)
            known = store.head().number
            plan.trace.clear()
            assert _taken(subscription) == [name]
            assert not [one for one in plan.trace if "seals/" in one and int(one[-25:-5]) <= known]
