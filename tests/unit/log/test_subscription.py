"""Named subscriptions: what is handed over, when it counts as done, and who may go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from store_kit import beat, beats, memory_url, open_store, value

from eventstore import (
    ConflictError,
    EventStore,
    EventStoreError,
    IntegrityError,
    InvalidEventError,
    NotFoundError,
    StateError,
    StorageError,
    SubscriptionState,
)
from eventstore.filesystem import open_storage
from eventstore.log.subscription import Subscription
from eventstore.testing import FaultPlan, FaultyStorage, When


@pytest.fixture
def store() -> Iterator[EventStore]:
    """A store with the heartbeats 0 to 9, sealed in two segments."""
    with open_store(memory_url()) as opened:
        for first in (0, 5):
            opened.append(*beats(*map(str, range(first, first + 5))))
            opened.flush()
        yield opened


class Taker:
    """A handler that notes the names of what it takes, and fails on one while that is bad."""

    def __init__(self, bad: str | None = None, error: BaseException | None = None) -> None:
        self.names: list[str] = []
        self.calls = 0
        self.bad = bad
        self.error = error or ValueError("not this one")

    def __call__(self, batch: pa.RecordBatch) -> None:
        """Take a batch, or refuse it."""
        self.calls += 1
        names = batch["execution_id"].to_pylist()
        if self.bad in names:
            raise self.error
        self.names += names


class Time:
    """A timer that only pauses move on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def timer(self) -> float:
        """Seconds so far."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Pause at once."""
        self.pauses.append(seconds)
        self.now += seconds


def _open(store: EventStore, name: str = "mail", **options: Any) -> Subscription:
    return store.subscription(name, **({"sleep": lambda _: None} | options))


def _revisions(store: EventStore, name: str = "mail") -> list[int]:
    return [int(entry.path[-25:-5]) for entry in store.storage.files(f"subscriptions/{name}")]


# handing over ---------------------------------------------------------------------------------------------


def test_a_run_hands_over_what_is_sealed_once_and_goes_on_where_it_stopped(store: EventStore) -> None:
    """In position order, up to the head; the next run, of any object, takes only what is new."""
    taker = Taker()
    subscription = _open(store)
    assert (subscription.position, subscription.run(taker), subscription.position) == (0, 10, 10)
    assert taker.names == [str(number) for number in range(10)]
    assert subscription.run(taker) == 0
    store.append(beat("10"))
    assert _open(store).run(taker) == 0, "it is not sealed yet"
    store.seal()
    assert _open(store).run(taker) == 1
    assert taker.names == [str(number) for number in range(11)]


def test_batches_have_the_asked_size_and_columns(store: EventStore) -> None:
    """Small segments are put together, long ones cut, and the position is always there."""
    given: list[pa.RecordBatch] = []
    _open(store, batch_rows=4, columns=["kind"]).run(given.append)
    assert [batch["position"].to_pylist() for batch in given] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert {tuple(batch.schema.names) for batch in given} == {("position", "kind")}


def test_only_events_of_the_asked_kinds_are_handed_over_and_the_rest_is_passed(store: EventStore) -> None:
    """The position moves behind events of other kinds, so they are not read again."""
    store.append(value(b"x"), beat("x"), value(b"y"))
    store.seal()
    given: list[pa.RecordBatch] = []
    subscription = _open(store, kinds=["value.recorded"])
    assert subscription.run(given.append) == 2
    assert [batch["position"].to_pylist() for batch in given] == [[10, 12]]
    store.append(beat("y"))
    store.seal()
    assert (subscription.run(given.append), subscription.position) == (0, 14)
    assert _open(store).kinds == ("value.recorded",), "None takes those of the subscription"
    assert _open(store).position == 14


@pytest.mark.parametrize(("start", "first"), [(None, "0"), (0, "0"), (7, "7"), (10, "new"), ("head", "new")])
def test_a_new_subscription_begins_where_it_is_told(store: EventStore, start: Any, first: str) -> None:
    """And that is stored at once: what comes before the first run is not left out."""
    _open(store, start=start)
    store.append(beat("new"))
    store.seal()
    taker = Taker()
    _open(store, start="head").run(taker)
    assert taker.names[0] == first


def test_two_names_do_not_know_each_other(store: EventStore) -> None:
    """Each has its own place, and the store lists both."""
    one, two = Taker(), Taker()
    _open(store, "one").run(one)
    _open(store, "two", start=9).run(two)
    assert (len(one.names), len(two.names)) == (10, 1)
    _open(store, "three", start=3)
    assert [(known.name, known.position) for known in store.subscriptions()] == [
        ("one", 10),
        ("three", 3),
        ("two", 10),
    ]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"name": ""}, "bad_subscription"),
        ({"name": "a" * 101}, "bad_subscription"),
        ({"name": "Mail"}, "bad_subscription"),
        ({"name": "a/b"}, "bad_subscription"),
        ({"name": ".."}, "bad_subscription"),
        ({"name": "a\n"}, "bad_subscription"),
        ({"name": "é"}, "bad_subscription"),
        ({"start": -1}, "bad_range"),
        ({"start": 11}, "bad_range"),
        ({"start": "tail"}, "bad_range"),
        ({"batch_rows": 0}, "bad_range"),
        ({"retries": -1}, "bad_range"),
        ({"columns": ["no_such"]}, "unknown_column"),
        ({"kinds": "job.ended"}, "bad_kinds"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_made(
    store: EventStore, asked: dict[str, Any], code: str
) -> None:
    """By the call that makes the subscription."""
    with pytest.raises(InvalidEventError) as caught:
        _open(store, **asked)
    assert caught.value.code == code
    assert store.subscriptions() == []


def test_the_longest_name_is_a_name(store: EventStore) -> None:
    """A hundred characters of each allowed sort."""
    name = "a1-_" * 25
    assert _open(store, name).run(Taker()) == 10
    assert [known.name for known in store.subscriptions()] == [name]


def test_other_kinds_under_the_same_name_are_refused(store: EventStore) -> None:
    """What the name has passed over would be missing; the order of kinds does not matter."""
    _open(store, kinds=["value.recorded", "job.ended"])
    assert _open(store, kinds=["job.ended", "value.recorded"]).position == 0
    for kinds in (["job.ended"], []):
        with pytest.raises(InvalidEventError, match=r"job\.ended, value\.recorded") as caught:
            _open(store, kinds=kinds)
        assert caught.value.code == "bad_subscription"


# following ------------------------------------------------------------------------------------------------


def test_following_takes_what_comes_until_it_is_quiet_for_so_long(store: EventStore) -> None:
    """The pauses are those of the poll; what was done is stored while nothing comes."""
    time, taker = Time(), Taker()
    comes = iter(["10", "11", None, None])
    seen: list[int] = []

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        seen.append(store.subscriptions()[0].position)
        name = next(comes, None)
        if name:
            store.append(beat(name))
            store.seal()

    subscription = _open(store, checkpoint_seconds=1.0, timer=time.timer, sleep=sleep)
    assert subscription.run(taker, follow=True, poll_seconds=0.5, idle_seconds=2.0) == 12
    assert taker.names[-2:] == ["10", "11"]
    assert set(time.pauses) == {0.5}
    assert seen == [0, 0, 12, 12, 12, 12]


def test_following_costs_one_look_at_the_head_for_each_poll(tmp_path: Path) -> None:
    """Nothing is listed, read or written while nothing comes, but the name of the next seal."""
    plan = FaultPlan()
    place = tmp_path / "store"
    with open_store(place) as made:
        made.append(*beats("a", "b"))
    with open_store(place, storage=FaultyStorage(open_storage(place), plan)) as store:
        pauses: list[int] = []
        subscription = _open(store, sleep=lambda _: pauses.append(len(plan.trace)), timer=lambda: len(pauses))
        subscription.run(lambda _: None, follow=True, idle_seconds=6)
    costs = {tuple(plan.trace[start:end]) for start, end in pairwise(pauses[1:])}
    assert costs == {("read seals/00000000000000000002.json",)}


def test_stop_ends_a_run_after_the_present_batch(store: EventStore) -> None:
    """What was taken until then is stored."""
    stop, taker = threading.Event(), Taker()

    def handler(batch: pa.RecordBatch) -> None:
        taker(batch)
        stop.set()

    assert _open(store, batch_rows=3).run(handler, follow=True, stop=stop) == 3
    assert store.subscriptions()[0].position == 3


def test_stop_ends_the_pause_before_a_retry(store: EventStore) -> None:
    """Then the subscription is not parked: the batch comes again."""
    stop = threading.Event()
    taker = Taker(bad="5")

    def handler(batch: pa.RecordBatch) -> None:
        threading.Timer(0.01, stop.set).start()
        taker(batch)

    subscription = store.subscription("mail", batch_rows=5, backoff_seconds=60)
    assert subscription.run(handler, stop=stop) == 5
    assert (subscription.state, subscription.position) == (SubscriptionState.ACTIVE, 5)


# handlers that fail ---------------------------------------------------------------------------------------


def test_a_handler_that_recovers_is_handed_the_same_batch_again(store: EventStore) -> None:
    """And the run goes on as if nothing had happened."""
    time, taker = Time(), Taker(bad="4")

    def handler(batch: pa.RecordBatch) -> None:
        if taker.calls == 2:
            taker.bad = None
        taker(batch)

    subscription = _open(store, retries=2, backoff_seconds=1.5, timer=time.timer, sleep=time.sleep)
    assert subscription.run(handler) == 10
    assert (time.pauses, subscription.state) == ([1.5, 3.0], SubscriptionState.ACTIVE)


def test_a_handler_that_keeps_failing_parks_the_subscription_before_the_event(store: EventStore) -> None:
    """All before it is delivered and stored, with the error, and the run ends with the handler's error."""
    taker = Taker(bad="6")
    subscription = _open(store, retries=1)
    with pytest.raises(StateError, match="not this one") as caught:
        subscription.run(taker)
    assert (caught.value.code, caught.value.position) == ("subscription_parked", 6)
    assert caught.value.__cause__ is taker.error
    assert taker.names == ["0", "1", "2", "3", "4", "5"]
    (known,) = store.subscriptions()
    assert known == subscription.checkpoint == _open(store).checkpoint
    assert (known.state, known.position) == (SubscriptionState.PARKED, 6)
    assert known.failure is not None
    assert (known.failure.error_type, known.failure.message) == ("ValueError", "not this one")
    assert (known.failure.first, known.failure.last) == (6, 6)
    assert known.failure.attempts > 2


def test_without_splitting_the_whole_batch_is_parked(store: EventStore) -> None:
    """Nothing of it counts as delivered, and its range is stored."""
    taker = Taker(bad="6")
    subscription = _open(store, retries=0, split=False, batch_rows=4)
    with pytest.raises(StateError):
        subscription.run(taker)
    assert subscription.failure is not None
    assert (subscription.failure.first, subscription.failure.last, subscription.position) == (4, 7, 4)
    subscription.skip()
    assert subscription.position == 8


def test_a_parked_subscription_refuses_to_run_until_it_is_resumed(store: EventStore) -> None:
    """In this process and in others; resumed, it begins with the event that it was parked for."""
    taker = Taker(bad="6")
    subscription = _open(store, retries=0)
    with pytest.raises(StateError):
        subscription.run(taker)
    taker.bad = None
    for one in (subscription, _open(store)):
        with pytest.raises(StateError, match="resume") as caught:
            one.run(taker)
        assert caught.value.code == "subscription_parked"
        with pytest.raises(StateError):
            next(one.batches())
    _open(store).resume()
    assert subscription.run(taker) == 4
    assert taker.names == [str(number) for number in range(10)]
    assert subscription.failure is None


def test_resuming_what_is_not_parked_does_nothing(store: EventStore) -> None:
    """Not even write."""
    subscription = _open(store)
    subscription.resume()
    assert _revisions(store) == [1]


def test_skipping_goes_on_behind_the_bad_event(store: EventStore) -> None:
    """All others are delivered; only what is parked can be skipped."""
    taker = Taker(bad="6")
    subscription = _open(store, retries=0)
    with pytest.raises(StateError, match="seek") as caught:
        subscription.skip()
    assert caught.value.code == "not_parked"
    with pytest.raises(StateError):
        subscription.run(taker)
    subscription.skip()
    assert subscription.run(taker) == 3
    assert taker.names == [str(number) for number in range(10) if number != 6]


def test_what_is_stored_of_an_error_is_masked_cut_and_sayable(store: EventStore) -> None:
    """No credentials, at most 2,000 characters, and no text that JSON cannot hold."""
    error = ValueError("s3://key:secret@bucket token=abc \udc80 " + "word " * 3000)
    subscription = _open(store, retries=0)
    with pytest.raises(StateError):
        subscription.run(Taker(bad="0", error=error))
    failure = _open(store).failure
    assert failure is not None
    assert failure.message.startswith(r"s3://***@bucket token=*** \udc80 word")
    assert len(failure.message) == 2000


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_the_program_is_no_failure(store: EventStore, error: BaseException) -> None:
    """What was done is stored, nothing is parked, and the batch at hand comes again."""
    subscription = _open(store, batch_rows=2)
    with pytest.raises(type(error)):
        subscription.run(Taker(bad="5", error=error))
    (known,) = store.subscriptions()
    assert (known.position, known.state) == (4, SubscriptionState.ACTIVE)


# pulling --------------------------------------------------------------------------------------------------


def test_pulled_batches_are_done_when_they_are_committed(store: EventStore) -> None:
    """Up to a position, or all that was handed out; the rest comes again."""
    subscription = _open(store, batch_rows=4)
    pulled = subscription.batches()
    assert next(pulled).num_rows == 4
    subscription.commit(3)
    assert next(pulled).num_rows == 4
    pulled.close()
    assert (subscription.position, store.subscriptions()[0].position) == (3, 3)
    positions = [next(iter(subscription.batches()))["position"].to_pylist()]
    assert positions == [[3, 4, 5, 6]]
    for _ in subscription.batches():
        subscription.commit()
    assert store.subscriptions()[0].position == 10


def test_a_commit_after_the_iteration_is_stored_at_once(store: EventStore) -> None:
    """Nobody would come by later to store it."""
    subscription = _open(store, kinds=["execution.heartbeat"])
    store.append(value(b"x"))
    store.seal()
    assert sum(batch.num_rows for batch in subscription.batches()) == 10
    assert store.subscriptions()[0].position == 0
    subscription.commit(8)
    assert store.subscriptions()[0].position == 8
    subscription.commit()
    assert store.subscriptions()[0].position == 11, "events of other kinds need no commit"


def test_a_commit_outside_of_what_was_handed_out_is_refused(store: EventStore) -> None:
    """Neither back nor beyond."""
    subscription = _open(store, start=2, batch_rows=4)
    pulled = subscription.batches()
    next(pulled)
    for position in (1, 7):
        with pytest.raises(InvalidEventError, match="from 2, where") as caught:
            subscription.commit(position)
        assert caught.value.code == "bad_range"
    subscription.commit(6)
    pulled.close()
    assert subscription.position == 6


def test_a_subscription_does_one_thing_at_a_time(store: EventStore) -> None:
    """While batches are pulled, neither another run nor an operator may move it."""
    subscription = _open(store)
    pulled = subscription.batches()
    next(pulled)
    actions: list[Callable[[], object]] = [
        lambda: subscription.run(Taker()),
        lambda: subscription.seek(0),
        subscription.delete,
    ]
    for action in actions:
        with pytest.raises(StateError) as caught:
            action()
        assert caught.value.code == "subscription_running"
    pulled.close()
    subscription.seek(0)


# checkpoints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "writes"), [(0.0, 10), (3.0, 4), (100.0, 1)])
def test_checkpoints_are_written_at_most_so_often(store: EventStore, every: float, writes: int) -> None:
    """One batch takes a second here; however often, the last one is stored."""
    time = Time()
    subscription = _open(store, batch_rows=1, checkpoint_seconds=every, timer=time.timer)
    subscription.run(lambda _: time.sleep(1.0))
    (known,) = store.subscriptions()
    assert (known.position, known.revision) == (10, 1 + writes)
    assert len(_revisions(store)) == 2, "only the last two are kept"


def test_what_was_done_since_the_last_checkpoint_comes_again_after_a_crash(store: EventStore) -> None:
    """And nothing is left out: a process that dies stores nothing."""
    before, after = Taker(), Taker()
    time = Time()
    crashed = _open(store, batch_rows=1, checkpoint_seconds=3.0, timer=time.timer)

    def handler(batch: pa.RecordBatch) -> None:
        time.sleep(1.0)
        before(batch)

    pulled = crashed.batches()
    for _ in range(8):
        handler(next(pulled))
        crashed.commit()
    assert _open(store).run(after) == 10 - 6
    assert after.names == ["6", "7", "8", "9"]
    assert before.names[-2:] == ["6", "7"]
    with pytest.raises(ConflictError):
        list(pulled)


def test_a_closed_subscription_has_stored_how_far_it_came(store: EventStore) -> None:
    """At the end of its `with`."""
    with _open(store) as subscription:
        pulled = subscription.batches()
        next(pulled)
        subscription.commit(4)
        assert store.subscriptions()[0].position == 0
    assert store.subscriptions()[0].position == 4
    pulled.close()


# two runners ----------------------------------------------------------------------------------------------


def test_two_runners_notice_each_other_and_nothing_is_left_out(store: EventStore) -> None:
    """Who stores first goes on; the other stops with a conflict, at its next checkpoint."""
    first, second = Taker(), Taker()
    one = _open(store, batch_rows=2, checkpoint_seconds=0)
    two = _open(store, batch_rows=2, checkpoint_seconds=0)

    def handler(batch: pa.RecordBatch) -> None:
        first(batch)
        if first.calls == 2:
            assert two.run(second) == 8

    with pytest.raises(ConflictError, match="nothing is skipped") as caught:
        one.run(handler)
    assert caught.value.code == "subscription_taken"
    assert first.names == ["0", "1", "2", "3"]
    assert second.names == [str(number) for number in range(2, 10)]
    assert store.subscriptions()[0].position == 10
    one.close()
    assert one.run(handler) == 0, "it has taken over what the other stored"


def test_a_runner_that_is_far_behind_does_not_take_a_number_that_was_removed(store: EventStore) -> None:
    """Old files go, so their names are free again: the file before tells."""
    slow = _open(store, batch_rows=1, checkpoint_seconds=0)
    pulled = slow.batches()
    next(pulled)
    _open(store, batch_rows=1, checkpoint_seconds=0).run(Taker())
    assert _revisions(store) == [10, 11]
    with pytest.raises(ConflictError):
        slow.commit()
    assert _revisions(store) == [10, 11]
    pulled.close()
    assert (slow.position, _open(store).position) == (0, 10)


def test_both_may_make_it(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes the subscription second takes the first one's."""
    create = store.storage.create

    def raced(path: str, data: bytes) -> bool:
        monkeypatch.undo()
        _open(store, start=7)
        return create(path, data)

    monkeypatch.setattr(store.storage, "create", raced)
    assert _open(store, start=0).position == 7


def test_a_seek_elsewhere_stops_a_runner(store: EventStore) -> None:
    """The operator's word counts: the next run begins there."""
    running = _open(store, batch_rows=2, checkpoint_seconds=0)

    def handler(_: pa.RecordBatch) -> None:
        _open(store).seek(1)

    with pytest.raises(ConflictError):
        running.run(handler)
    taker = Taker()
    assert running.run(taker) == 9
    assert taker.names[0] == "1"


# operators ------------------------------------------------------------------------------------------------


def test_seek_moves_anywhere_in_the_log(store: EventStore) -> None:
    """Back and forward, parked or not; beyond the head is refused and moves nothing."""
    subscription = _open(store, retries=0)
    with pytest.raises(StateError):
        subscription.run(Taker(bad="6"))
    subscription.seek(9)
    assert (subscription.state, subscription.run(Taker())) == (SubscriptionState.ACTIVE, 1)
    subscription.seek(0)
    assert subscription.run(Taker()) == 10
    for position in (-1, 11):
        with pytest.raises(InvalidEventError) as caught:
            subscription.seek(position)
        assert caught.value.code == "bad_range"
    assert subscription.position == 10


def test_a_deleted_subscription_is_gone_and_a_new_one_begins_anew(store: EventStore) -> None:
    """It is not listed; who had it stops; a new one may ask for other kinds and begin elsewhere."""
    old = _open(store, kinds=["value.recorded"])
    other = _open(store)
    other.delete()
    assert store.subscriptions() == []
    with pytest.raises(NotFoundError, match="deleted") as caught:
        old.run(Taker())
    assert caught.value.code == "no_such_subscription"
    again = _open(store, start=8)
    assert (again.kinds, again.run(Taker())) == (None, 2)
    assert store.verify().findings == []


def test_deleting_stops_a_runner(store: EventStore) -> None:
    """At its next checkpoint, which does not bring the subscription back."""
    running = _open(store, batch_rows=2, checkpoint_seconds=0)
    with pytest.raises(ConflictError):
        running.run(lambda _: _open(store).delete())
    assert store.subscriptions() == []


def test_a_read_only_store_shows_subscriptions_and_moves_none(tmp_path: Path) -> None:
    """It neither makes one nor runs one."""
    place = tmp_path / "store"
    with open_store(place) as store:
        store.append(beat())
        store.seal()
        _open(store, "there")
    with open_store(place, read_only=True) as store:
        with pytest.raises(NotFoundError) as absent:
            _open(store, "absent")
        assert absent.value.code == "no_such_subscription"
        subscription = _open(store, "there")
        assert subscription.position == 0
        actions: list[Callable[[], object]] = [
            lambda: subscription.run(Taker()),
            lambda: next(subscription.batches()),
            lambda: subscription.seek(1),
            subscription.resume,
            subscription.delete,
        ]
        for action in actions:
            with pytest.raises(StateError, match="read_only=True") as caught:
                action()
            assert caught.value.code == "read_only"
    assert len(list((place / "subscriptions").rglob("*.json"))) == 1


# damage ---------------------------------------------------------------------------------------------------


def test_a_log_that_ends_before_the_checkpoint_is_an_error(tmp_path: Path) -> None:
    """Events that would be sealed there would be left out."""
    place = tmp_path / "store"
    with open_store(place) as store:
        store.append(*beats("a", "b"))
        store.seal()
        assert _open(store).run(Taker()) == 2
    for seal in (place / "seals").iterdir():
        seal.unlink()
    with open_store(place, read_only=False, auto_seal=False) as store:
        subscription = _open(store)
        with pytest.raises(IntegrityError, match="ends at 0") as caught:
            subscription.run(Taker())
        assert caught.value.code == "checkpoint_beyond_head"
        subscription.seek(0)
        assert subscription.run(Taker()) == 0


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_a_checkpoint_that_storage_refuses_ends_the_run_and_the_next_goes_on(
    tmp_path: Path, when: When, caplog: pytest.LogCaptureFixture
) -> None:
    """Done or not done and told as refused: the same object goes on, and leaves nothing out."""
    place = tmp_path / "store"
    with open_store(place) as made:
        made.append(*beats(*map(str, range(6))))
    plan = FaultPlan(1, when=when, only=frozenset({"create"}))
    with open_store(place, storage=FaultyStorage(open_storage(place), plan)) as store:
        taker = Taker()
        subscription = _open(store, batch_rows=2, checkpoint_seconds=0)
        with caplog.at_level(logging.ERROR), pytest.raises(StorageError):
            subscription.run(taker)
        assert subscription.run(taker) == 4
        assert taker.names == [str(number) for number in range(6)]
        assert _open(store).position == 6


def test_an_error_of_the_log_is_not_the_handlers(tmp_path: Path) -> None:
    """A damaged segment ends the run and parks nothing."""
    place = tmp_path / "store"
    with open_store(place) as store:
        store.append(beat("a"))
        store.flush()
        store.append(beat("b"))
        store.flush()
    newest = max((place / "segments").rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    with open_store(place) as store:
        subscription = _open(store, batch_rows=1)
        with pytest.raises(EventStoreError) as caught:
            subscription.run(Taker())
        assert caught.value.code != "subscription_parked"
        assert subscription.state is SubscriptionState.ACTIVE
