"""Opening, recovering, sealing and closing a store; and every way in which that is refused."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_kit import beat, beats, cut, flip, memory_url, names, one, open_store, value

from eventstore import (
    EventStore,
    EventStoreError,
    FormatError,
    IntegrityError,
    NotFoundError,
    StateError,
    StorageError,
    layout,
)
from eventstore.filesystem import Abilities, open_storage
from eventstore.testing import FaultPlan, FaultyStorage, When


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store of the test is made."""
    return tmp_path / "store"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# opening --------------------------------------------------------------------------------------------------


def test_a_new_store_is_made_only_when_asked(place: Path) -> None:
    """Without `create` an empty or absent place is an error that says how to make one."""
    for _ in range(2):
        with pytest.raises(NotFoundError, match="create=True") as caught:
            open_store(place, create=False)
        assert caught.value.code == "store_not_found"
        assert not place.exists() or list(place.iterdir()) == []
        place.mkdir(exist_ok=True)
    with open_store(place) as store:
        assert store.head().size == 0
    about = json.loads((place / "store.json").read_bytes())
    assert about["kind"] == "eventstore"
    assert about["format"] == 1
    assert about["store_id"] == store.store_id


def test_a_store_keeps_its_id(place: Path) -> None:
    """Opening again, with `create` or not, changes nothing."""
    with open_store(place) as store:
        store_id = store.store_id
    before = _files(place)
    for create in (True, False):
        with open_store(place, create=create) as store:
            assert store.store_id == store_id
    assert _files(place) == before


def test_read_only_never_makes_a_store(place: Path) -> None:
    """Even if asked to create."""
    with pytest.raises(NotFoundError) as caught:
        open_store(place, create=True, read_only=True)
    assert caught.value.code == "store_not_found"
    assert not place.exists()


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": b"mine"},
        {"sub/folder/notes.txt": b"mine"},
        {"store.json": b""},
        {"store.json": b"not json"},
        {"store.json": b"[1]"},
        {"store.json": b'{"kind": "else", "format": 1, "store_id": "ab"}'},
        {"store.json": b'{"kind": "eventstore", "format": 1}'},
        {"store.json": b'{"kind": "eventstore", "format": 1, "store_id": "../x"}'},
        {"store.json": b'{"kind": "eventstore", "format": 1, "store_id": 5}'},
    ],
    ids=str,
)
def test_a_folder_that_is_no_store_is_left_alone(place: Path, files: dict[str, bytes], create: bool) -> None:
    """Someone else's files are never taken for a store, nor is one made among them."""
    for name, raw in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(raw)
    with pytest.raises(FormatError, match=r"choose another folder\. Nothing was changed") as caught:
        open_store(place, create=create)
    assert caught.value.code == "not_a_store"
    assert _files(place) == files


def test_a_store_of_a_newer_format_is_left_alone(place: Path) -> None:
    """The message says to upgrade."""
    open_store(place).close()
    about = json.loads((place / "store.json").read_bytes()) | {"format": 2}
    (place / "store.json").write_text(json.dumps(about))
    before = _files(place)
    for read_only in (True, False):
        with pytest.raises(FormatError, match="found format 2; upgrade eventstore") as caught:
            open_store(place, read_only=read_only)
        assert caught.value.code == "newer_format"
    assert _files(place) == before


def test_leftovers_of_a_killed_attempt_are_no_obstacle(place: Path) -> None:
    """A half-written store.json is a temporary file, which nobody looks at."""
    place.mkdir()
    (place / ".tmp-0123").write_bytes(b"{")
    open_store(place).close()
    assert (place / "store.json").exists()


def test_two_that_make_a_store_at_once_make_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second at any moment gets the store of the first."""
    storage = open_storage(place)
    counted = FaultPlan()
    open_store(memory_url(), storage=FaultyStorage(storage, counted)).close()
    for path in place.rglob("*"):
        path.unlink()

    class Overtaken(FaultyStorage):
        """Makes the store behind our back, just before one of our operations."""

        def __init__(self, at: int) -> None:
            super().__init__(storage, FaultPlan())
            self.at = at

        def _do(self, operation: str, path: str, action: Callable[[], Any], tear: Any = None) -> Any:
            if len(self._plan.trace) == self.at:
                with open_store(place) as store:
                    store.append(beat("theirs"))
            return super()._do(operation, path, action, tear)

    for at in range(4):
        with open_store(place, storage=Overtaken(at)) as store:
            assert names(store) == ["theirs"]
            assert store.verify().findings == []
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def test_a_folder_that_cannot_be_written_is_a_clear_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only disk, missing permission: what, where, and what to do; reading goes on."""
    with open_store(place) as store:
        store.append(beat("before"))
    real = os.link

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with open_store(place, read_only=True) as reader:
        assert names(reader) == ["before"]
    store = open_store(place)
    receipt = store.append(beat("journaled"))
    with pytest.raises(StorageError, match="read-only: choose another") as caught:
        store.flush()
    assert caught.value.code == "read_only"
    with pytest.raises(StorageError):
        store.close()
    monkeypatch.undo()
    assert os.link is real
    with open_store(place) as store:
        assert names(store) == ["before", "journaled"]
        assert store.level(receipt.last) == 3


# read only, closed ----------------------------------------------------------------------------------------


def test_a_read_only_store_writes_nothing(place: Path) -> None:
    """Neither events nor seals, nor does it take over journals."""
    with open_store(place, auto_seal=False) as store:
        store.append(beat("durable"))
    dead = open_store(place)
    dead.append(beat("journaled"))
    dead.abandon()
    before = _files(place.parent)
    with open_store(place, read_only=True) as reader:
        for call in (lambda: reader.append(beat()), reader.seal, reader.recover):
            with pytest.raises(StateError, match="read_only=True") as caught:
                call()
            assert caught.value.code == "read_only"
        reader.flush()
        assert names(reader, tail=True) == ["durable", "journaled"]
        assert reader.verify().ok
    assert _files(place.parent) == before


def test_a_store_closes_at_the_end_of_its_block(place: Path) -> None:
    """Flushed and sealed; also when the block fails."""
    store = open_store(place)

    def fail() -> None:
        with store:
            store.append(beat("a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.head().size == 1
    assert list(place.parent.rglob("*.jsonl")) == list(place.parent.rglob("*.lock")) == []
    with pytest.raises(StateError) as caught:
        store.append(beat("b"))
    assert caught.value.code == "closed"


# recovery -------------------------------------------------------------------------------------------------


def test_the_next_opener_takes_over_what_the_dead_left(place: Path) -> None:
    """Under the dead writers' own ids and numbers, sealed, and the journals are gone."""
    dead = [open_store(place) for _ in range(2)]
    firsts = [store.append(*beats(name, name)).first for store, name in zip(dead, "ab", strict=True)]
    alive = open_store(place)
    alive.append(beat("alive"))
    for store in dead:
        store.abandon()
    with open_store(place) as store:
        assert [event.id for event in store.events()][::2] == firsts
        assert names(store, tail=True) == ["a", "a", "b", "b", "alive"]
    assert len(list(place.parent.rglob("*.jsonl"))) == 1
    alive.close()
    assert list(place.parent.rglob("*.jsonl")) == list(place.parent.rglob("*.lock")) == []


def test_a_store_that_is_open_can_recover_too(place: Path) -> None:
    """Its own journal stays its own."""
    with open_store(place) as store:
        store.append(beat("own"))
        other = open_store(place)
        other.append(*beats("a", "b"))
        other.abandon()
        assert store.recover() == 2
        assert store.recover() == 0
        assert names(store) == ["a", "b"]
        store.append(beat("own too"))
    assert names(store) == ["a", "b", "own", "own too"]


def test_a_damaged_journal_does_not_lock_everyone_out(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is kept, the others are taken over, the log and verify say so."""
    dead = [open_store(place) for _ in range(2)]
    for name, store in zip("ab", dead, strict=True):
        store.append(beat(name))
        store.append(beat(name))
    for store in dead:
        store.abandon()
    bad = next(path for path in place.parent.rglob("*.jsonl") if b'"a"' in path.read_bytes())
    flip(bad, 30)
    raw = bad.read_bytes()
    with caplog.at_level(logging.ERROR), open_store(place) as store:
        assert names(store) == ["b", "b"]
        assert "is damaged near byte 0" in caplog.text
        (finding,) = store.verify().findings
        kept = bad.with_name(f"{bad.name}.damaged")
        assert (finding.code, finding.severity, finding.path) == ("journal_damaged", "error", kept.name)
    assert kept.read_bytes() == raw


def test_a_journal_of_a_newer_version_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that wrote it can recover it; ours goes on without."""
    with monkeypatch.context() as newer:
        newer.setattr("eventstore.journal.JOURNAL_VERSION", 2)
        store = open_store(place)
        store.append(beat("newer"))
        store.abandon()
    path = one(place.parent.rglob("*.jsonl"))
    with open_store(place) as store:
        store.append(beat("ours"))
        store.seal()
        assert names(store) == ["ours"]
        assert [finding.code for finding in store.verify().findings] == ["newer_format"]
    assert path.exists()


def test_a_torn_last_line_is_dropped(place: Path) -> None:
    """What was acknowledged before it is taken over."""
    store = open_store(place)
    store.append(beat("a"))
    store.append(*beats("torn", "torn"))
    store.abandon()
    path = one(place.parent.rglob("*.jsonl"))
    cut(path, path.stat().st_size - 1)
    with open_store(place) as store:
        assert names(store) == ["a"]
        assert store.verify().findings == []


@pytest.mark.parametrize("when", When)
def test_an_opening_that_cannot_recover_says_so_and_keeps_the_journal(place: Path, when: When) -> None:
    """A storage that is full stops the opener; the next one takes over."""
    store = open_store(place)
    store.append(beat("kept"))
    store.abandon()
    plan = FaultPlan(at=0, when=when, number=errno.ENOSPC, only=frozenset({"put"}))
    with pytest.raises(StorageError) as caught:
        open_store(place, storage=FaultyStorage(open_storage(place), plan))
    assert caught.value.code == "disk_full"
    assert len(list(place.parent.rglob("*.jsonl"))) == 1
    with open_store(place) as store:
        assert names(store) == ["kept"]
        assert store.verify().ok


def test_journals_of_one_store_are_not_taken_for_anothers(tmp_path: Path) -> None:
    """Each store has its own folder below the same state."""
    first = open_store(tmp_path / "first", state_dir=tmp_path / "state")
    first.append(beat("first"))
    first.abandon()
    with open_store(tmp_path / "second", state_dir=tmp_path / "state") as second:
        assert names(second, tail=True) == []
    with open_store(tmp_path / "first", state_dir=tmp_path / "state") as first:
        assert names(first) == ["first"]


def test_the_variable_says_where_journals_go(place: Path, journals_of_the_test: Path) -> None:
    """Unless an argument does."""
    with EventStore.open(place, create=True, flush_seconds=None) as store:
        store.append(beat())
        assert one(journals_of_the_test.rglob("*.jsonl")).parts[-4] == store.store_id


# sealing --------------------------------------------------------------------------------------------------


def test_a_flush_seals_in_passing_and_only_reports_a_refusal(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is durable is safe without a seal; the next flush or seal makes up for it."""
    plan = FaultPlan(strikes=None, only=frozenset({"create"}))
    open_store(place).close()
    with open_store(place, storage=FaultyStorage(open_storage(place), plan)) as store:
        plan.at = 0
        receipt = store.append(beat("a"))
        store.flush()
        assert receipt.level() == 2
        assert "durable and not sealed yet" in caplog.text
        with pytest.raises(StorageError):
            store.seal()
        plan.disarm()
        store.flush()
        assert receipt.level() == 3


def test_a_seal_places_the_segments_of_all(place: Path) -> None:
    """Also of writers that are open elsewhere; what they have journaled waits."""
    stores = [open_store(place, auto_seal=False) for _ in range(3)]
    for store, name in zip(stores, "abc", strict=True):
        store.append(beat(name))
    stores[0].flush()
    assert stores[1].seal().size == 2
    assert [names(store) for store in stores] == [["a", "b"]] * 3
    assert names(stores[0], tail=True) == ["a", "b", "c"]
    for store in stores:
        store.close()


def test_one_sealer_holds_a_lock(place: Path) -> None:
    """Where put-if-absent is not atomic, this machine's processes seal one after another."""
    plain = open_storage(place)
    plain._abilities = Abilities(atomic_create=False, local=True, shared=True)
    with open_store(place, storage=plain) as store:
        store.append(beat("a"))
        with pytest.raises(StorageError, match="single_sealer=True") as caught:
            store.seal()
        assert caught.value.code == "no_atomic_create"
    stores = [open_store(place, storage=plain, single_sealer=True) for _ in range(3)]

    def work(store: EventStore) -> None:
        for _ in range(5):
            store.append(beat("x"))
            store.seal()

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].head().size == 16
    for store in stores:
        store.close()
    assert store.verify().findings == []


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_nothing_is_sealed_onto_a_broken_chain(place: Path, harm: str) -> None:
    """Appending and flushing go on, so nothing is lost; sealing and reading say what is wrong."""
    for name in "abc":
        with open_store(place) as store:
            store.append(beat(name))
    path = place / layout.seal_path(2)
    raw = path.read_bytes()
    path.unlink() if harm == "missing" else cut(path, 50)
    before = sorted(_files(place / "seals"))
    with open_store(place) as store:
        store.append(beat("d"))
        store.flush()
        for call in (store.seal, store.head, lambda: list(store.read())):
            with pytest.raises(IntegrityError) as caught:
                call()
            assert (caught.value.code, caught.value.path) == ("seal_damaged", layout.seal_path(2))
    assert sorted(_files(place / "seals")) == before
    path.write_bytes(raw)
    with open_store(place) as store:
        store.seal()
        assert names(store) == ["a", "b", "c", "d"]
        assert store.verify().findings == []


def test_short_lived_writers_seal_what_a_dead_one_left(place: Path) -> None:
    """However short they live: whoever closes looks for segments that nobody sealed."""
    dead = open_store(place, auto_seal=False)
    dead.append(beat("orphan"))
    dead.flush()
    dead.abandon()
    with open_store(place) as store:
        store.append(beat("b"))
    assert sorted(names(store)) == ["b", "orphan"]


@pytest.mark.parametrize("moment", ["first flush", "close"])
def test_the_first_seal_and_the_last_look_for_segments_of_others(place: Path, moment: str) -> None:
    """In between, not more often than every `LOOK_SECONDS`."""
    other, store = open_store(place, auto_seal=False), open_store(place)
    if moment == "close":
        store.append(beat("early"))
        store.flush()
    other.append(beat("orphan"))
    other.flush()
    store.append(beat("b"))
    store.flush()
    if moment == "close":
        assert names(store) == ["early", "b"]
        store.close()
    assert "orphan" in names(store)
    other.abandon()
    store.abandon()


def test_a_close_that_was_interrupted_can_be_repeated(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the last flush runs: the second close ends it, and the lock is let go."""
    store = open_store(place)
    store.append(beat("a"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store._writer, "_stop_timer", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.close()
    with pytest.raises(StateError):
        store.append(beat("b"))
    store.close()
    assert names(store) == ["a"]
    assert list(place.parent.rglob("*.jsonl")) == list(place.parent.rglob("*.lock")) == []


def test_one_sealer_does_without_hard_links(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filesystems that have none are told by the first attempt; nobody else can seal there."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(StorageError, match="single_sealer=True") as caught:
        open_store(place)
    assert caught.value.code == "no_atomic_create"
    for name in "ab":
        with open_store(place, single_sealer=True) as store:
            store.append(beat(name))
            assert store.seal().size == ord(name) - ord("a") + 1
    assert names(store) == ["a", "b"]
    assert store.verify().findings == []


def test_a_level_of_what_was_never_appended_is_an_error(place: Path) -> None:
    """The store knows how far its own writer is, and looks for those of others."""
    with open_store(place) as store:
        receipt = store.append(beat())
        beyond = type(receipt.last)(receipt.last.writer, 1)
        with open_store(place, read_only=True) as other:
            for reader in (store, other):
                with pytest.raises(NotFoundError, match="verify") as caught:
                    reader.level(beyond)
                assert caught.value.code == "no_such_event"
                assert reader.level(receipt.last) == 1


def test_a_segment_does_not_vouch_for_the_gap_before_it(place: Path) -> None:
    """An event is durable when a segment holds it, not when a later one is durable."""
    with open_store(place, auto_seal=False) as store:
        lost, kept = store.append(beat("lost")), None
        store.flush()
        kept = store.append(beat("kept"))
        store.flush()
    path = next(path for path in place.rglob("*.parquet") if "-000000000000-" in path.name)
    path.unlink()
    with open_store(place, auto_seal=False) as other:
        assert other.level(kept.last) == 2
        with pytest.raises(NotFoundError):
            other.level(lost.last)


def test_credentials_are_not_shown(place: Path) -> None:
    """Neither in the URL nor in the representation."""
    with EventStore.open("memory://user:secret@bucket/x", create=True, flush_seconds=None) as store:
        assert "secret" not in f"{store!r} {store.url}"


def test_errors_are_ours(place: Path) -> None:
    """All that is raised on purpose is an EventStoreError with a code of its own."""
    assert issubclass(StateError, EventStoreError)
    with open_store(place, max_value_bytes=3, inline_limit=100) as store:
        with pytest.raises(EventStoreError) as caught:
            store.append(value(b"1234"))
        assert caught.value.code == "value_too_large"
        assert caught.value.size_bytes == 4
