"""An operation fails, at every place in turn: the call says so, the store goes on, nothing is lost."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from faults_kit import Acknowledged, Place, check_afterwards, run_with_retries, worth_striking

from eventstore import EventStore, EventStoreError, ExecutionHeartbeat, Level, StateError, StorageError
from eventstore.local_files import LocalFiles
from eventstore.testing import FaultPlan, When


@pytest.mark.parametrize("when", When)
def test_after_any_error_the_same_call_succeeds(tmp_path: Path, when: When) -> None:
    """Any one error comes out as one StorageError or not at all, and calling again mends everything."""
    counted = FaultPlan()
    run_with_retries(Place(str(tmp_path / "counted"), tmp_path / "state"), counted, Acknowledged())
    struck = worth_striking(counted.trace, when)
    errors: list[EventStoreError] = []
    for at, name in struck:
        folder = tmp_path / f"{when}-{at}"
        place, told = Place(str(folder / "store"), folder / "state"), Acknowledged()
        try:
            raised = run_with_retries(place, FaultPlan(at, when=when), told)
            assert len(raised) <= 1
            assert all(isinstance(error, StorageError) for error in raised), raised
            assert all("again" in str(error) for error in raised), raised
            check_afterwards(place, told)
        except BaseException as error:
            error.add_note(f"an error {when} operation {at} of {len(counted.trace)}, {name}")
            raise
        errors += raised
        shutil.rmtree(folder)
    assert len(errors) > len(struck) // 3, "few of the planned errors came out"


# one fault at a time --------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty store."""
    place = Place(str(tmp_path / "store"), tmp_path / "state")
    place.open().close()
    return place


def _beat(name: str) -> ExecutionHeartbeat:
    return ExecutionHeartbeat(execution_id=name)


def _names(store: EventStore) -> list[str]:
    return [event.event.execution_id for event in store.events(tail=True)]  # type: ignore[union-attr]


def _journals(place: Place) -> list[Path]:
    return sorted(place.state.rglob("*.jsonl"))


def test_a_disk_that_fills_up_in_the_middle_of_a_line_leaves_no_trace_of_it(place: Place) -> None:
    """The journal is cut back to what was acknowledged, and the next append follows on."""
    plan = FaultPlan(when=When.TORN, number=errno.ENOSPC, only=frozenset({"journal_write"}))
    with place.open(plan) as store:
        store.append(_beat("before"))
        (journal,) = _journals(place)
        whole = journal.read_bytes()
        plan.at = len(plan.trace)
        with pytest.raises(StorageError, match="the disk is full: make room, then append again") as caught:
            store.append(_beat("lost"), _beat("lost too"))
        assert caught.value.code == "disk_full"
        assert journal.read_bytes() == whole
        plan.disarm()
        assert store.append(_beat("after")).first.sequence == 1
        assert _names(store) == ["before", "after"]
        store.abandon()
    with place.open() as store:
        assert _names(store) == ["before", "after"]


def test_a_journal_that_cannot_even_be_cut_back_is_given_up_by_a_flush(place: Place) -> None:
    """Appending refuses until a flush has saved what was acknowledged; then it goes on in a new journal."""
    plan = FaultPlan(when=When.TORN, strikes=2, only=frozenset({"journal_write", "journal_truncate"}))
    with place.open(plan) as store:
        store.append(_beat("before"))
        plan.at = len(plan.trace)
        with pytest.raises(StorageError):
            store.append(_beat("lost"))
        with pytest.raises(StateError, match="flush, then append again") as caught:
            store.append(_beat("refused"))
        assert caught.value.code == "journal_closed"
        store.flush()
        store.append(_beat("after"))
        assert _names(store) == ["before", "after"]
    assert _journals(place) == []
    with place.open() as store:
        assert _names(store) == ["before", "after"]
        assert store.verify().findings == []


def test_a_killed_writer_of_a_half_repaired_journal_loses_only_the_torn_line(place: Place) -> None:
    """The line that could be neither written nor cut back was never acknowledged, and is dropped."""
    plan = FaultPlan(when=When.TORN, strikes=2, only=frozenset({"journal_write", "journal_truncate"}))
    store = place.open(plan)
    store.append(_beat("before"))
    plan.at = len(plan.trace)
    with pytest.raises(StorageError):
        store.append(_beat("lost"))
    store.abandon()
    with place.open() as store:
        assert _names(store) == ["before"]


class _Interrupted(LocalFiles):
    """Raises KeyboardInterrupt out of chosen operations, after they were done."""

    def __init__(self) -> None:
        self.armed: set[str] = set()

    def write(self, descriptor: int, data: bytes) -> int:
        if "write" in self.armed:
            LocalFiles.write(self, descriptor, data[:9])
            raise KeyboardInterrupt
        return LocalFiles.write(self, descriptor, data)

    def sync(self, descriptor: int) -> None:
        LocalFiles.sync(self, descriptor)
        if "sync" in self.armed:
            raise KeyboardInterrupt

    def truncate(self, descriptor: int, length: int) -> None:
        if "truncate" not in self.armed:
            LocalFiles.truncate(self, descriptor, length)


@pytest.mark.parametrize("armed", [{"write"}, {"sync"}, {"sync", "truncate"}])
def test_an_append_that_someone_interrupts_does_not_spoil_the_journal(place: Place, armed: set[str]) -> None:
    """After Ctrl-C amid an append the journal still reads, even where the line stayed in it."""
    files = _Interrupted()
    store = place.open(local_files=files)
    store.append(_beat("before"))
    files.armed = armed
    with pytest.raises(KeyboardInterrupt):
        store.append(_beat("interrupted"), _beat("interrupted"))
    files.armed = set()
    store.append(_beat("after"))
    store.abandon()
    with place.open() as store:
        assert _names(store) == ["before", "after"]
        assert store.verify().findings == []


def test_a_segment_whose_reply_is_lost_is_not_stored_twice(place: Place) -> None:
    """The flush fails, though the segment is there; the next flush puts the same file again."""
    plan = FaultPlan(when=When.AFTER, only=frozenset({"put"}))
    with place.open(plan, auto_seal=False) as store:
        receipt = store.append(_beat("once"))
        plan.at = len(plan.trace)
        with pytest.raises(StorageError, match="try again"):
            store.flush()
        assert receipt.level() is Level.JOURNALED
        assert _names(store) == ["once"]
        store.flush()
        assert receipt.level() is Level.DURABLE
        assert store.seal().size == 1
        assert store.verify().findings == []
        assert len(store.storage.files("segments")) == 1


def test_a_killed_flush_whose_segment_arrived_is_not_recovered_twice(place: Place) -> None:
    """The journal names the segment that was on its way, so recovery sees that it is there."""
    plan = FaultPlan(when=When.AFTER, only=frozenset({"put"}))
    store = place.open(plan)
    store.append(_beat("once"))
    plan.at = len(plan.trace)
    with pytest.raises(StorageError):
        store.flush()
    store.abandon()
    with place.open() as store:
        assert _journals(place) == []
        assert store.seal().size == 1
        assert store.verify().findings == []


def test_a_seal_whose_reply_is_lost_stands(place: Place) -> None:
    """The seal is found at the next look and counts once."""
    plan = FaultPlan(when=When.AFTER, only=frozenset({"create"}))
    with place.open(plan, auto_seal=False) as store:
        store.append(_beat("once"))
        plan.at = len(plan.trace)
        with pytest.raises(StorageError):
            store.seal()
        assert store.seal().size == 1
        store.append(_beat("again"))
        assert store.seal().size == 2
        assert _names(store) == ["once", "again"]
        assert store.verify().findings == []


def test_appending_outlasts_a_storage_that_is_away(place: Place) -> None:
    """What is appended meanwhile is acknowledged, though segments are due, and becomes durable later."""
    plan = FaultPlan(strikes=None, only=frozenset({"put"}))
    with place.open(plan, flush_rows=2) as store:
        plan.at = 0
        receipts = [store.append(_beat(str(number))) for number in range(7)]
        assert {receipt.level() for receipt in receipts} == {Level.JOURNALED}
        assert _names(store) == [str(number) for number in range(7)]
        with pytest.raises(StorageError):
            store.flush()
        plan.disarm()
        store.flush()
        assert {receipt.level() for receipt in receipts} == {Level.SEALED}
        assert _names(store) == [str(number) for number in range(7)]
        assert store.verify().findings == []


def test_a_close_that_fails_leaves_everything_for_the_next_opener(place: Place) -> None:
    """A failed close keeps the journal and gives up the lock."""
    plan = FaultPlan(strikes=None, only=frozenset({"put"}))
    store = place.open(plan)
    store.append(_beat("kept"))
    plan.at = 0
    with pytest.raises(StorageError):
        store.close()
    store.close()
    with place.open() as store:
        assert [event.position for event in store.events()] == [0]


def test_a_full_disk_under_the_journal_does_not_stop_the_flush_that_empties_it(place: Place) -> None:
    """The note of the segment's name is left out; flushing goes on and frees the journal's room."""
    plan = FaultPlan(strikes=None, number=errno.ENOSPC, only=frozenset({"journal_write"}))
    with place.open(plan) as store:
        receipt = store.append(_beat("kept"))
        plan.at = 0
        with pytest.raises(StorageError, match="disk is full"):
            store.append(_beat("refused"))
        store.flush()
        assert receipt.level() is Level.SEALED
        assert _journals(place) == []


def test_a_segment_that_the_journal_does_not_name_is_found(place: Place) -> None:
    """Recovery looks for the writer and first sequence, and does not put the events a second time."""
    plan = FaultPlan(when=When.AFTER, only=frozenset({"put"}))
    store = place.open(plan, auto_seal=False)
    store.append(_beat("once"))
    (journal,) = _journals(place)
    before = journal.read_bytes()
    plan.at = len(plan.trace)
    with pytest.raises(StorageError):
        store.flush()
    store.abandon()
    journal.write_bytes(before)
    with place.open() as store:
        assert store.seal().size == 1
        assert _names(store) == ["once"]
        assert store.verify().findings == []


def test_a_journal_that_cannot_be_removed_is_removed_at_the_next_opening(place: Place) -> None:
    """Flush and close succeed, as its rows are durable; the next opener takes it away."""
    plan = FaultPlan(at=0, strikes=None, only=frozenset({"journal_remove"}))
    with place.open(plan) as store:
        store.append(_beat("once"))
        store.flush()
        assert _names(store) == ["once"]
    assert len(_journals(place)) == 1
    with place.open() as store:
        assert _journals(place) == []
        assert _names(store) == ["once"]
        assert store.verify().findings == []


def test_a_state_folder_that_cannot_be_read_is_a_clear_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that cannot be taken is a StorageError that names EVENTSTORE_STATE."""
    store = place.open()
    store.append(_beat("kept"))
    store.abandon()

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("eventstore.journal_folder.os.open", refuse)
        with pytest.raises(StorageError, match="EVENTSTORE_STATE") as caught:
            place.open()
    assert caught.value.code == "journal_refused"
    with place.open() as store:
        assert _names(store) == ["kept"]


def test_a_durable_journal_line_reaches_the_device_with_its_name(place: Place) -> None:
    """With fsync, file and folder are flushed before the first append returns, and the file before each."""
    plan = FaultPlan()
    with place.open(plan) as store:
        store.append(_beat("a"))
        store.append(_beat("b"))
        done = [line.partition(" ")[0] for line in plan.trace]
    assert done[done.index("journal_create") :] == [
        "journal_create",
        "journal_write",
        "journal_sync",
        "journal_sync_folder",
        "journal_write",
        "journal_sync",
        "journal_write",
        "journal_sync",
    ]
