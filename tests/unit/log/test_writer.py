"""One appender: numbers, times, limits, values, and what it refuses."""

from __future__ import annotations

import datetime as dt
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_kit import beat, beats, memory_url, names, one, open_store, value

from eventstore import (
    Event,
    EventStore,
    InvalidEventError,
    Level,
    Registry,
    StateError,
    StorageError,
    ValueRecorded,
    event_kind,
)
from eventstore.events.envelope import Time
from eventstore.filesystem import open_storage
from eventstore.log.writer import CLOCK_TOLERANCE_US
from eventstore.testing import FaultPlan, FaultyFiles, FaultyStorage, When
from eventstore.value_store import data_digest


def _in_child(work: Callable[[], object]) -> str:
    """Run `work` in a forked child; returns the code of the error it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(writing, b"no error")
        except BaseException as error:
            os.write(writing, str(getattr(error, "code", repr(error))).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of the test is made."""
    return tmp_path / "store"


def test_events_are_numbered_in_the_order_of_appending(place: Path) -> None:
    """Batches follow each other without a gap; an id parses back."""
    with open_store(place) as store:
        receipts = [store.append(*beats(*batch)) for batch in ("a", "bc", "d")]
        assert [(receipt.first.sequence, receipt.last.sequence) for receipt in receipts] == [
            (0, 0),
            (1, 2),
            (3, 3),
        ]
        assert len({receipt.first.writer for receipt in receipts}) == 1
        assert type(receipts[0].first).parse(str(receipts[1].last)) == receipts[1].last
        store.flush()
        assert store.append(beat("e")).first.sequence == 4


def test_nothing_to_append_is_refused(place: Path) -> None:
    """An empty append is a mistake of the caller."""
    with open_store(place) as store, pytest.raises(InvalidEventError) as caught:
        store.append()
    assert caught.value.code == "no_event"


def test_an_unknown_kind_refuses_the_whole_batch(place: Path) -> None:
    """Nothing of it is stored, and what was there is untouched."""
    registry = Registry()

    @event_kind("lab.seen", registry=registry)
    class Seen(Event):
        stream: str

    with open_store(place) as store:
        store.append(beat("before"))
        with pytest.raises(InvalidEventError, match="register its model") as caught:
            store.append(beat("lost"), Seen(stream="x"))
        assert caught.value.code == "unknown_kind"
        assert names(store, tail=True) == ["before"]


@pytest.mark.parametrize(("limits", "segments"), [({"flush_rows": 3}, 2), ({"flush_bytes": 500}, 2)])
def test_a_segment_is_put_when_enough_is_open(place: Path, limits: dict[str, int], segments: int) -> None:
    """By rows or by bytes, whichever comes first."""
    with open_store(place, **limits) as store:
        receipts = [store.append(*beats(name, name)) for name in "abcd"]
        assert len(store.storage.files("segments")) == segments
        assert [receipt.level() for receipt in receipts] == [Level.SEALED] * 4


def test_a_large_value_goes_to_the_value_store(place: Path) -> None:
    """Bytes up to the limit ride inside; beyond it the event names their digest."""
    with open_store(place, inline_limit=4) as store:
        store.append(value(b"1234"), value(b"12345"), value(b""))
        store.flush()
        inside, outside, empty = (event.event for event in store.events())
        assert isinstance(inside, ValueRecorded)
        assert isinstance(outside, ValueRecorded)
        assert isinstance(empty, ValueRecorded)
        assert (inside.data, inside.data_digest) == (b"1234", None)
        assert outside.data is None
        assert outside.data_digest is not None
        assert store.values.get(outside.data_digest) == b"12345"
        assert empty.data == b""
        assert store.verify().values == 1


@pytest.mark.parametrize("inline_limit", [4, 1000])
def test_a_value_beyond_the_largest_size_is_refused(place: Path, inline_limit: int) -> None:
    """Whatever may ride inline; nothing of the batch is stored."""
    with open_store(place, inline_limit=inline_limit, max_value_bytes=8) as store:
        store.append(value(b"12345678"))
        with pytest.raises(InvalidEventError, match="at most 8 bytes") as caught:
            store.append(beat("lost"), value(b"123456789"))
        assert caught.value.code == "value_too_large"
        assert len(list(store.events(tail=True))) == 1


def test_a_value_that_cannot_be_stored_refuses_its_event(place: Path) -> None:
    """The value comes before the event: no event ever points at nothing."""
    plan = FaultPlan(at=0, only=frozenset({"put"}))
    open_store(place).close()
    with open_store(place, storage=FaultyStorage(open_storage(place), plan), inline_limit=4) as store:
        with pytest.raises(StorageError):
            store.append(value(b"12345"))
        assert list(store.events(tail=True)) == []
        store.append(value(b"12345"))
        store.seal()
        assert store.verify().findings == []


# time -----------------------------------------------------------------------------------------------------


class Clock:
    """A clock that the test sets."""

    now = 1_700_000_000_000_000

    def read(self) -> int:
        """What it shows."""
        return self.now


def test_a_clock_that_goes_back_a_little_is_held(place: Path) -> None:
    """Times never decrease within a writer."""
    clock = Clock()
    with open_store(place, clock=clock.read) as store:
        store.append(beat("a"))
        clock.now -= CLOCK_TOLERANCE_US
        store.append(beat("b"))
        clock.now += CLOCK_TOLERANCE_US + 5
        store.append(beat("c"))
        store.seal()
        times = [event.recorded_at for event in store.events()]
        assert times[0] == times[1]
        assert (times[2] - times[1]).microseconds == 5


def test_a_clock_that_jumps_back_is_an_error(place: Path) -> None:
    """Expected, found and next step are said; nothing is stored; a new store goes on."""
    clock = Clock()
    with open_store(place, clock=clock.read) as store:
        store.append(beat("a"))
        clock.now -= CLOCK_TOLERANCE_US + 1
        with pytest.raises(StateError, match=r"expected at or after .*found .*Set the clock right") as caught:
            store.append(beat("lost"))
        assert caught.value.code == "clock_went_back"
        assert names(store, tail=True) == ["a"]
    with open_store(place, clock=clock.read) as store:
        store.append(beat("b"))
        store.seal()
        assert names(store) == ["a", "b"]


# state ----------------------------------------------------------------------------------------------------


def test_a_closed_store_takes_nothing(place: Path) -> None:
    """Append, flush and close again: the first two are clear errors, the third does nothing."""
    store = open_store(place, inline_limit=4)
    store.append(beat("a"))
    store.close()
    store.close()
    for call in (lambda: store.append(value(b"12345")), store.flush, store.seal):
        with pytest.raises(StateError, match="closed: open it again") as caught:
            call()
        assert caught.value.code == "closed"
    assert list(store.values) == []
    assert names(store) == ["a"]


@pytest.mark.parametrize("operation", ["append", "flush", "close"])
def test_a_forked_child_is_refused(place: Path, operation: str) -> None:
    """The store belongs to the process that opened it; the child's attempt does no harm."""
    store = open_store(place)
    store.append(beat("parent"))
    calls: dict[str, Callable[[], object]] = {
        "append": lambda: store.append(beat("child")),
        "flush": store.flush,
        "close": store.close,
    }
    assert _in_child(calls[operation]) == "other_process"
    store.append(beat("parent again"))
    store.close()
    assert names(store) == ["parent", "parent again"]


def test_a_child_that_was_forked_amid_an_append_is_refused_too(place: Path) -> None:
    """A lock that another thread held at the fork cannot stop the answer."""
    with open_store(place) as store:
        store.append(beat("parent"))
        writer = store._writer
        assert writer is not None
        with writer._append_lock, writer._flush_lock:
            assert _in_child(lambda: store.append(beat("child"))) == "other_process"
            assert _in_child(store.flush) == "other_process"


def test_a_child_does_not_keep_its_parents_locks(place: Path) -> None:
    """A writer that died is recovered, though a process that it forked lives on."""
    store = open_store(place)
    store.append(beat("kept"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    store.abandon()
    with open_store(place) as other:
        assert names(other) == ["kept"]
    os.close(writing)
    os.waitpid(child, 0)


def test_a_store_that_was_not_written_to_may_be_forked(place: Path) -> None:
    """Its writer begins with the first append, in whichever process that is."""
    store = open_store(place)

    def work() -> None:
        store.append(beat("child"))
        store.close()

    assert _in_child(work) == "no error"
    store.append(beat("parent"))
    store.close()
    with open_store(place) as other:
        assert sorted(names(other)) == ["child", "parent"]


# threads --------------------------------------------------------------------------------------------------


def test_threads_share_a_writer(place: Path) -> None:
    """Batches of many threads are numbered without a gap and stay whole, while others flush."""
    batches = 30

    def work(name: str) -> None:
        for number in range(batches):
            store.append(*beats(f"{name}/{number}/0", f"{name}/{number}/1"))
            if number % 10 == 0:
                store.flush()

    with open_store(place, flush_rows=17) as store:
        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.seal()
        found = names(store)
        assert [event.id.sequence for event in store.events()] == list(range(len(found)))
        assert len(set(found)) == len(found) == 3 * 2 * batches
        for first, second in zip(found[::2], found[1::2], strict=True):
            assert (first[:-1], first[-1], second[-1]) == (second[:-1], "0", "1")
        for name in "abc":
            own = [text for text in found if text.startswith(name)]
            assert own == [f"{name}/{number}/{place}" for number in range(batches) for place in (0, 1)]


def test_an_append_that_races_a_close_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was acknowledged goes away with the journal of a store that is closing."""
    store = open_store(place)
    store.append(beat("before"))
    writer = store._writer
    assert writer is not None
    answers: list[str] = []
    real = writer._put_all

    def put_all_and_more() -> None:
        real()
        with pytest.raises(StateError, match="closed"):
            store.append(beat("late"))
        answers.append("refused")

    monkeypatch.setattr(writer, "_put_all", put_all_and_more)
    store.close()
    with open_store(place) as other:
        assert names(other, tail=True) == ["before"]
    assert answers == ["refused"]


def test_a_flush_by_time_needs_nobody(place: Path) -> None:
    """The oldest open event waits no longer than it is told."""
    done = threading.Event()
    plan = FaultPlan()
    open_store(place).close()

    class Telling(FaultyStorage):
        def put(self, path: str, data: bytes) -> None:
            super().put(path, data)
            done.set()

    storage = Telling(open_storage(place), plan)
    with open_store(place, storage=storage, flush_seconds=0.01) as store:
        store.append(beat("a"))
        assert done.wait(10)
    assert one(place.rglob("*.parquet")).exists()


def test_a_flush_by_time_that_fails_is_tried_again(place: Path) -> None:
    """The thread lives on, and the events become durable when storage is back."""
    done = threading.Event()
    open_store(place).close()
    plan = FaultPlan(at=0, strikes=2, only=frozenset({"put"}))

    class Telling(FaultyStorage):
        def put(self, path: str, data: bytes) -> None:
            super().put(path, data)
            done.set()

    storage = Telling(open_storage(place), plan)
    with open_store(place, storage=storage, flush_seconds=0.01) as store:
        store.append(beat("a"))
        assert done.wait(10)
        assert len(plan.trace) >= 3


def test_what_a_column_would_not_take_is_refused_before_it_is_acknowledged(place: Path) -> None:
    """A model's own defaults and validators cannot put a row into the journal that no segment can hold."""
    registry = Registry()

    @event_kind("lab.late", registry=registry)
    class Late(Event):
        occurred_at: Time | None = dt.datetime(2024, 1, 1)

    @event_kind("lab.odd", registry=registry)
    class Odd(Event):
        job_id: str = 7  # type: ignore[assignment]

    with open_store(place, registry=registry) as store:
        for event in (Late(), Odd()):
            with pytest.raises(InvalidEventError, match="Nothing was stored") as caught:
                store.append(beat("lost"), event)
            assert caught.value.code == "wrong_type"
        store.append(beat("kept"))
        store.flush()
        assert names(store) == ["kept"]


def test_too_many_events_in_one_append_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is never split, so it must fit; nothing of it is stored."""
    monkeypatch.setattr("eventstore.log.writer.MAX_BATCH_EVENTS", 2)
    with open_store(place) as store:
        with pytest.raises(InvalidEventError, match="smaller batches") as caught:
            store.append(*beats("a", "b", "c"))
        assert caught.value.code == "batch_too_large"
        store.append(*beats("a", "b"))
        assert names(store, tail=True) == ["a", "b"]


def test_an_unforeseen_error_of_a_flush_that_nobody_asked_for_is_logged(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The append is acknowledged, the next flush puts the events."""

    def fail(*_: object) -> None:
        raise TypeError("not foreseen")

    with open_store(place, flush_rows=2) as store:
        with monkeypatch.context() as patched:
            patched.setattr("eventstore.log.writer.encode_rows", fail)
            receipt = store.append(*beats("a", "b"))
        assert receipt.level() is Level.JOURNALED
        assert "not foreseen" in caplog.text
        store.flush()
        assert names(store) == ["a", "b"]


def test_a_timer_that_cannot_start_does_not_fail_the_append(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The event is acknowledged, and nobody appends it again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with open_store(place, flush_seconds=1000.0) as store:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            store.append(beat("a"))
            store.append(beat("b"))
        assert caplog.text.count("can't start new thread") == 1
        store.flush()
        assert names(store) == ["a", "b"]


def test_an_outage_costs_one_batch_and_no_descriptors(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a flush fails: what comes meanwhile waits together, and the journals are closed."""

    def away(*_: object) -> None:
        raise StorageError("away", transient=True)

    with open_store(place, flush_rows=100) as store:
        store.append(beat("0"))
        listing = Path("/proc/self/fd")
        before = len(list(listing.iterdir())) if listing.is_dir() else 0
        with monkeypatch.context() as patched:
            patched.setattr("eventstore.log.writer.put_segment", away)
            for number in range(1, 250):
                with pytest.raises(StorageError):
                    store.flush()
                store.append(beat(str(number)))
            after = len(list(listing.iterdir())) if listing.is_dir() else 0
            assert after <= before
        assert len(list(place.parent.rglob("*.jsonl"))) == 4
        store.flush()
        assert names(store) == [str(number) for number in range(250)]
        assert len(store.storage.files("segments")) == 4
    assert list(place.parent.rglob("*.jsonl")) == []


def test_the_day_of_a_segment_is_that_of_the_attempt_that_succeeds(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a long outage it lies where sealers look, with the same bytes, and the journal says so."""
    clock = Clock()
    with open_store(place, clock=clock.read, auto_seal=False) as store:
        store.append(beat("a"))
        journal = one(place.parent.rglob("*.jsonl"))

        def away(*_: object) -> None:
            raise StorageError("away", transient=True)

        with monkeypatch.context() as patched:
            patched.setattr("eventstore.log.writer.put_segment", away)
            for _ in range(2):
                with pytest.raises(StorageError):
                    store.flush()
                clock.now += 5 * 86_400_000_000
                noted = journal.read_text().count('"segment"')
        assert noted == 2
        store.flush()
        assert one(place.rglob("*.parquet")).parent.relative_to(place).as_posix() == "segments/2023/11/24"
        assert store.seal().size == 1


def test_an_append_after_a_failed_first_one_begins_anew(place: Path) -> None:
    """A journal without events that can be neither written nor cut back is dropped, not kept in the way."""
    plan = FaultPlan(at=1, when=When.TORN, strikes=2, only=frozenset({"journal_write", "journal_truncate"}))
    with open_store(place, local_files=FaultyFiles(plan)) as store:
        with pytest.raises(StorageError):
            store.append(beat("lost"))
        assert store.append(beat("a")).first.sequence == 0
        store.flush()
        assert names(store) == ["a"]


def test_a_close_that_was_interrupted_can_be_ended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second close of the writer flushes and lets go of the lock."""
    store = open_store(place)
    store.append(beat("a"))
    writer = store._writer
    assert writer is not None

    def interrupt() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writer, "_stop_timer", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.close()
    writer.close()
    writer.close()
    assert list(place.parent.rglob("*.lock")) == []
    with open_store(place) as other:
        assert names(other) == ["a"]


# journals -------------------------------------------------------------------------------------------------


def test_a_read_only_state_folder_refuses_the_append(place: Path, tmp_path: Path) -> None:
    """No journal, no acknowledgement; the store can still be read."""
    with open_store(place) as store:
        store.append(beat("before"))
    plan = FaultPlan(at=0, strikes=None, number=30, only=frozenset({"journal_create"}))
    with open_store(place, local_files=FaultyFiles(plan)) as store:
        with pytest.raises(StorageError, match="EVENTSTORE_STATE") as caught:
            store.append(beat("lost"))
        assert caught.value.code == "journal_refused"
        assert names(store, tail=True) == ["before"]


def test_memory_needs_no_journal(tmp_path: Path, journals_of_the_test: Path) -> None:
    """What lives with the process leaves nothing on disk; an abandoned writer's rows are gone."""
    url = memory_url()
    store = open_store(url)
    store.append(beat("sealed"))
    store.seal()
    store.append(beat("gone"))
    assert names(store, tail=True) == ["sealed", "gone"]
    store.abandon()
    with open_store(url) as other:
        assert names(other, tail=True) == ["sealed"]
    assert list(journals_of_the_test.rglob("*.*")) == []


def _levels(store: EventStore, *events: Any) -> list[Level]:
    return [store.level(event) for event in events]


def test_a_receipt_says_how_safe_its_events_are(place: Path) -> None:
    """Journaled, durable, sealed, as it goes on."""
    with open_store(place, auto_seal=False) as store:
        receipt = store.append(beat("a"))
        assert receipt.level() is Level.JOURNALED
        store.flush()
        assert receipt.level() is Level.DURABLE
        with open_store(place) as other:
            assert _levels(other, receipt.last) == [Level.DURABLE]
            other.seal()
        assert receipt.level() is Level.SEALED


def test_a_digest_without_its_bytes_is_refused(place: Path) -> None:
    """An event never points at bytes that are not there; once they are put, it is taken."""
    data = b"bytes that were forgotten"
    event = ValueRecorded(
        value_hash="0" * 40,
        type_name="builtins.bytes",
        size_bytes=len(data),
        data_digest=data_digest(data),
    )
    with open_store(place) as store:
        with pytest.raises(InvalidEventError, match="put them first") as caught:
            store.append(event)
        assert caught.value.code == "value_not_stored"
        store.values.put(data)
        store.append(event)
        assert store.lookup.value("0" * 40).data == data
