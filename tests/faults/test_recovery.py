"""What recovery finds in a dead writer's journals and segments, whatever state an outage left them in."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import zlib
from pathlib import Path

import pytest
from store_kit import beat, beats, cut, flip, names, one, open_store

from eventstore import StorageError
from eventstore.filesystem import open_storage
from eventstore.local_files import LocalFiles
from eventstore.log import recovery
from eventstore.testing import FaultPlan, FaultyStorage, When


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store in which nothing is yet."""
    open_store(tmp_path / "store").close()
    return tmp_path / "store"


def _state(place: Path) -> Path:
    return place.parent / f"{place.name}-state"


def _journals(place: Path) -> list[Path]:
    return sorted(_state(place).rglob("*.jsonl"))


def _segments(place: Path) -> list[Path]:
    return sorted(place.rglob("*.parquet"))


def _die(place: Path, *batches: str) -> Path:
    """Append each batch, one event a letter, and die; returns the journal."""
    store = open_store(place)
    for batch in batches:
        store.append(*beats(*batch))
    store.abandon()
    return one(_journals(place))


def _line(body: str) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(body.encode()), body.encode())


def test_half_a_segment_under_its_name_is_not_taken_for_the_whole(place: Path) -> None:
    """A storage that writes in place can leave half a file: the events are put again from the journal."""
    store = open_store(place, auto_seal=False)
    store.append(*beats(*"abc"))
    journal = one(_journals(place))
    raw = journal.read_bytes()
    store.flush()
    segment = one(_segments(place))
    # As it was when the put began: the name is noted, the rows are in the journal.
    store.abandon()
    journal.write_bytes(raw + _line(f'{{"segment":"{segment.relative_to(place)}"}}'))
    cut(segment, segment.stat().st_size // 2)
    with open_store(place) as other:
        assert names(other) == ["a", "b", "c"]
    assert _journals(place) == []


class _Stubborn(LocalFiles):
    """A disk that for a while takes lines, and neither syncs, cuts nor removes."""

    away = False

    def _do(self) -> None:
        if self.away:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def sync(self, descriptor: int) -> None:
        self._do()

    def truncate(self, descriptor: int, length: int) -> None:
        self._do()
        LocalFiles.truncate(self, descriptor, length)

    def remove(self, path: Path) -> None:
        self._do()
        LocalFiles.remove(self, path)


@pytest.mark.parametrize("flushed", [True, False])
def test_a_refused_line_that_stayed_in_the_journal_hides_nothing(place: Path, flushed: bool) -> None:
    """Its numbers were given again: the segment or journal that goes on there is never shut out."""
    files, plan = _Stubborn(), FaultPlan(strikes=None, only=frozenset({"put"}))
    storage = FaultyStorage(open_storage(place), plan)
    store = open_store(place, local_files=files, storage=storage, durability="fsync", auto_seal=False)
    store.append(*beats(*"abc"))
    files.away = True
    with pytest.raises(StorageError, match="Nothing of this append was stored"):
        store.append(beat("refused"))
    plan.at = None if flushed else 0
    with contextlib.nullcontext() if flushed else pytest.raises(StorageError):
        store.flush()
    files.away = False
    store.append(*beats(*"def"))
    if flushed:
        store.flush()
    store.abandon()
    with open_store(place) as other:
        other.seal(everywhere=True)
        assert names(other, tail=True) == list("abcdef")
        assert other.head().size == 6
        assert other.verify().findings == []
    assert len(_segments(place)) == 2


def test_a_segment_of_a_recovery_whose_reply_was_lost_is_not_put_again(place: Path) -> None:
    """The next opener finds the events under the writer and first sequence, in whichever file."""
    _die(place, "ab")
    plan = FaultPlan(at=0, when=When.AFTER, only=frozenset({"put"}))
    with pytest.raises(StorageError):
        open_store(place, storage=FaultyStorage(open_storage(place), plan))
    with open_store(place) as store:
        assert names(store) == ["a", "b"]
        assert store.verify().findings == []
    assert len(_segments(place)) == 1


def test_of_a_damaged_journal_the_good_beginning_is_taken_over(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file is kept under another name, so that it is in nobody's way and nothing of it is lost."""
    journal = _die(place, "ab", "c", "d")
    raw = journal.read_bytes()
    flip(journal, raw.index(b'"c"'))
    damaged = journal.read_bytes()
    with caplog.at_level(logging.ERROR), open_store(place) as store:
        assert names(store) == ["a", "b"]
        assert names(store, tail=True) == ["a", "b"]
    assert "is damaged near byte" in caplog.text
    assert _journals(place) == []
    assert journal.with_name(f"{journal.name}.damaged").read_bytes() == damaged


def test_a_last_line_with_a_hole_was_torn(place: Path) -> None:
    """A power cut can leave the newline and not the middle: what came before is taken over, the rest kept."""
    journal = _die(place, "ab", "x" * 200)
    raw = bytearray(journal.read_bytes())
    raw[-4096:-1] = bytes(4095)
    journal.write_bytes(raw)
    with open_store(place, read_only=True) as reader:
        assert names(reader, tail=True) == ["a", "b"]
    with open_store(place) as store:
        assert names(store) == ["a", "b"]
        assert store.verify().findings == []
    assert journal.with_name(f"{journal.name}.torn").read_bytes() == raw


def test_files_that_are_no_journals_are_left_alone(place: Path) -> None:
    """Whatever else lies in the folder is neither read nor removed."""
    journal = _die(place, "a")
    stray = journal.with_name("notes-old.jsonl")
    stray.write_text("hello\n")
    with open_store(place) as store:
        assert names(store, tail=True) == ["a"]
        assert store.verify().findings == []
    assert _journals(place) == [stray]


def test_a_journal_of_another_store_is_not_taken_over(tmp_path: Path, place: Path) -> None:
    """One that was copied here by hand stays where it is."""
    journal = _die(place, "foreign")
    _die(tmp_path / "own", "own")
    folder = one(_state(tmp_path / "own").rglob("journals"))
    shutil.copy(journal, folder)
    with open_store(tmp_path / "own") as store:
        assert names(store) == ["o", "w", "n"]
    assert (folder / journal.name).exists()


def test_a_journal_that_cannot_be_encoded_stops_nobody(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unforeseen error keeps that writer's journal, and the others are taken over."""
    bad = _die(place, "bad")
    good = open_store(place, state_dir=place.parent / "other-state")
    good.append(beat("good"))
    good.abandon()
    shutil.copy(one((place.parent / "other-state").rglob("*.jsonl")), bad.parent)
    real = recovery.encode_rows

    def encode(rows, *rest):  # type: ignore[no-untyped-def]
        if rows[0].fields["execution_id"] == "b":
            raise TypeError("can't subtract offset-naive and offset-aware datetimes")
        return real(rows, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(recovery, "encode_rows", encode)
        with open_store(place) as store:
            assert names(store) == ["good"]
    assert "were not taken over and are kept" in caplog.text
    assert _journals(place) == [bad]
    with open_store(place) as store:
        assert names(store) == ["good", *"bad"]


def _renamed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("eventstore.journal_folder.socket.gethostname", lambda: name)


def test_a_machine_that_changed_its_name_finds_its_journals(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Processes of one boot share their locks, so a free one means a dead writer at once."""
    monkeypatch.setattr("eventstore.log.writer.boot_id", lambda: "this boot")
    monkeypatch.setattr(recovery, "boot_id", lambda: "this boot")
    _renamed(monkeypatch, "laptop.home")
    alive = open_store(place)
    _die(place, "ab")
    alive.append(beat("alive"))
    _renamed(monkeypatch, "laptop.office")
    with open_store(place) as store:
        assert names(store, tail=True) == ["a", "b"]
    assert "under the host name laptop.home" in caplog.text
    alive.close()
    with open_store(place) as store:
        assert names(store) == ["a", "b", "alive"]
    assert _journals(place) == []


@pytest.mark.parametrize(("quiet", "found"), [(0.0, 0), (recovery.QUIET_SECONDS + 60, 2)])
def test_another_machines_writer_is_believed_dead_when_it_was_silent(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quiet: float,
    found: int,
) -> None:
    """A shared folder need not share its locks: a free lock alone does not tell dead from living."""
    monkeypatch.setattr("eventstore.log.writer.boot_id", lambda: "another boot")
    _renamed(monkeypatch, "elsewhere")
    journal = _die(place, "ab")
    _renamed(monkeypatch, "here")
    for path in journal.parent.iterdir():
        at = path.stat().st_mtime - quiet
        os.utime(path, (at, at))
    with open_store(place) as store:
        assert len(names(store)) == found
    assert journal.exists() is (found == 0)
    assert "under the host name elsewhere" in caplog.text


def test_a_lock_that_cannot_be_removed_does_not_fail_the_close(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is stored; the next opener takes the stale lock away."""
    store = open_store(place)
    store.append(beat("a"))
    real = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".lock":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        store.close()
    assert len(list(_state(place).rglob("*.lock"))) == 1
    with open_store(place) as other:
        assert names(other) == ["a"]
    assert list(_state(place).rglob("*.lock")) == []
