"""The journal keeps what was acknowledged, drops what was torn, and refuses what is damaged."""

from __future__ import annotations

import errno
import fcntl
import gc
import json
import linecache
import os
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from store_kit import WRITERS, beat, beats, cut, flip, one, rows_of, value

from eventstore import FormatError, IntegrityError, InvalidEventError, StateError, StorageError
from eventstore.ids import WriterId
from eventstore.journal import Journal, read_journal
from eventstore.journal_folder import JournalFolder, Lock
from eventstore.local_files import LocalFiles
from eventstore.testing import FaultPlan, FaultyFiles, When

HEADER = {"store_id": "ab", "writer": WRITERS[0], "first_sequence": 7, "actor": None, "software": "test"}


def _journal(path: Path, *, files: LocalFiles | None = None, **header: Any) -> Journal:
    return Journal(path, HEADER | header, durability="process", files=files or LocalFiles())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal of the test lies."""
    return tmp_path / "a.jsonl"


@pytest.fixture
def written(path: Path) -> Path:
    """A journal with two lines of events, of one and of two."""
    journal = _journal(path)
    journal.append(rows_of(beats("a"), first=7))
    journal.append(rows_of(beats("b", "c"), first=8))
    journal.close()
    return path


def test_what_was_appended_is_read_back(written: Path) -> None:
    """Rows come back with kind, version, numbers, times and fields."""
    content = read_journal(written)
    assert content is not None
    assert content.rows == [
        row._replace(columns=back.columns, fields=dict(back.fields))
        for row, back in zip(rows_of(beats("a", "b", "c"), first=7), content.rows, strict=True)
    ]
    assert [row.fields["execution_id"] for row in content.rows] == ["a", "b", "c"]
    assert [row.sequence for row in content.rows] == [7, 8, 9]
    assert content.header["writer"] == WRITERS[0]
    assert (content.torn_bytes, content.segment_path) == (0, None)


def test_bytes_and_times_come_back_as_they_were(path: Path) -> None:
    """Bytes are base64 in the file and bytes in the row."""
    journal = _journal(path)
    journal.append(rows_of([value(b"\x00\xff")], first=7))
    content = read_journal(path)
    assert content is not None
    assert content.rows[0].fields["data"] == b"\x00\xff"
    assert b'"AP8="' in path.read_bytes()


def test_a_journal_can_be_read_while_it_is_written(path: Path) -> None:
    """A later call takes up where the earlier one stopped."""
    journal = _journal(path)
    journal.append(rows_of(beats("a"), first=7))
    content = read_journal(path)
    assert content is not None
    journal.append(rows_of(beats("b"), first=8))
    journal.intend("segments/x")
    assert read_journal(path, content) is content
    assert [row.sequence for row in content.rows] == [7, 8]
    assert content.segment_path == "segments/x"


def test_a_journal_that_is_gone_is_none(path: Path) -> None:
    """Whoever reads a journal that was removed meanwhile gets None."""
    assert read_journal(path) is None


@pytest.mark.parametrize("lost", [1, 10, 60])
def test_a_torn_last_line_was_never_acknowledged(written: Path, lost: int) -> None:
    """Whatever is missing of the last line, the lines before it are read."""
    whole = written.read_bytes()
    cut(written, len(whole) - lost)
    content = read_journal(written)
    assert content is not None
    assert [row.sequence for row in content.rows] == [7]
    assert content.torn_bytes == len(whole.splitlines()[2]) + 1 - lost


def test_a_torn_first_line_is_no_journal_yet(written: Path) -> None:
    """A journal whose header was torn held nothing."""
    for length in (0, 1, 40):
        cut(written, length)
        assert read_journal(written) is None


def test_a_last_line_with_a_wrong_crc_was_torn(written: Path) -> None:
    """A power cut can leave the newline and not the middle; the line is read when it is whole after all."""
    whole = written.read_bytes()
    last = len(whole.splitlines(keepends=True)[2])
    flip(written, len(whole) - last + 20)
    content = read_journal(written)
    assert content is not None
    assert [row.sequence for row in content.rows] == [7]
    assert (content.torn_bytes, content.torn_line) == (last, True)
    written.write_bytes(whole)
    assert read_journal(written, content) is content
    assert [row.sequence for row in content.rows] == [7, 8, 9]
    assert (content.torn_bytes, content.torn_line) == (0, False)


def test_the_good_beginning_of_a_damaged_journal_can_be_asked_for(written: Path) -> None:
    """The rows before the damage come with the error; once the file is whole again, all of them."""
    whole = written.read_bytes()
    start = len(whole.splitlines(keepends=True)[0])
    with written.open("ab") as stream:
        stream.write(whole[start:])  # numbers that came before: line 8 replaces the first
    content = read_journal(written, good_prefix=True)
    assert content is not None
    assert (len(content.rows), content.damage) == (3, None)
    flip(written, len(whole) - 20)
    content = read_journal(written, good_prefix=True)
    assert content is not None
    assert content.damage is not None
    assert (content.damage.code, [row.sequence for row in content.rows]) == ("journal_damaged", [7])
    written.write_bytes(whole)
    content = read_journal(written, content, good_prefix=True)
    assert content is not None
    assert (len(content.rows), content.damage) == (3, None)


def test_a_damaged_first_line_leaves_what_the_name_says(written: Path) -> None:
    """The writer and the first sequence, and no rows."""
    path = written.rename(written.with_name(f"{WRITERS[0]}-000000000007.jsonl"))
    flip(path, 20)
    content = read_journal(path, good_prefix=True)
    assert content is not None
    assert content.damage is not None
    assert (content.header, content.rows) == ({"writer": WRITERS[0], "first_sequence": 7}, [])


def test_a_line_that_is_no_record_is_damage(written: Path) -> None:
    """A right CRC over something else is refused in our words."""
    for body in (b"[]", b"nonsense", b'{"sequence":10}', b'{"sequence":10,"events":[["x",1,{"no":1}]]}'):
        raw = written.read_bytes()
        written.write_bytes(raw + b"%08x %b\n" % (zlib.crc32(body), body))
        with pytest.raises(IntegrityError):
            read_journal(written)
        written.write_bytes(raw)


@pytest.mark.parametrize("line", [0, 1])
@pytest.mark.parametrize("place", [0, 5, 8, 9, 30])
def test_a_flipped_bit_before_the_last_line_is_damage(written: Path, line: int, place: int) -> None:
    """CRC, blank and body are covered; the error says where, and what to do."""
    lines = written.read_bytes().splitlines(keepends=True)
    start = sum(map(len, lines[:line]))
    flip(written, start + place)
    with pytest.raises(IntegrityError, match=r"damaged near byte .*Keep the file") as caught:
        read_journal(written)
    assert caught.value.code == "journal_damaged"
    assert caught.value.path == "a.jsonl"
    assert caught.value.offset == start


def test_a_line_that_is_missing_is_damage(written: Path) -> None:
    """Sequences go on without a gap."""
    lines = written.read_bytes().splitlines(keepends=True)
    written.write_bytes(lines[0] + lines[2])
    with pytest.raises(IntegrityError, match="event 8 where 7 belongs") as caught:
        read_journal(written)
    assert caught.value.code == "journal_damaged"


def test_a_number_that_comes_again_replaces_what_was_interrupted(path: Path) -> None:
    """The later line counts: its writer never acknowledged the earlier one."""
    journal = _journal(path)
    journal.append(rows_of(beats("a"), first=7))
    journal.append(rows_of(beats("lost", "lost"), first=8))
    journal.append(rows_of(beats("b"), first=8))
    content = read_journal(path)
    assert content is not None
    assert [row.fields["execution_id"] for row in content.rows] == ["a", "b"]


def test_a_journal_of_a_newer_version_is_refused(path: Path) -> None:
    """The first line's version decides, and the message says what to do."""
    body = json.dumps({"journal": 2}).encode()
    path.write_bytes(b"%08x %b\n" % (zlib.crc32(body), body))
    with pytest.raises(
        FormatError, match=r"version 1 was expected in a\.jsonl, found 2; recover it"
    ) as caught:
        read_journal(path)
    assert caught.value.code == "newer_format"


def test_a_journal_that_cannot_be_read_is_a_storage_error(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk's refusal comes out in our words."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match=r"could not read the journal a\.jsonl") as caught:
        read_journal(written)
    assert caught.value.code == "journal_refused"


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk_full"), (errno.EDQUOT, "disk_full"), (errno.EROFS, "journal_refused")],
)
def test_a_write_that_is_refused_leaves_the_file_as_it_was(path: Path, number: int, code: str) -> None:
    """Half of the line was written and is cut off again; the next append succeeds."""
    plan = FaultPlan(when=When.TORN, number=number, only=frozenset({"journal_write"}))
    journal = _journal(path, files=FaultyFiles(plan))
    journal.append(rows_of(beats("a"), first=7))
    before = path.read_bytes()
    plan.at = len(plan.trace)
    with pytest.raises(StorageError, match=r"append again\. Nothing of this append was stored") as caught:
        journal.append(rows_of(beats("b"), first=8))
    assert caught.value.code == code
    assert path.read_bytes() == before
    journal.append(rows_of(beats("c"), first=8))
    content = read_journal(path)
    assert content is not None
    assert [row.fields["execution_id"] for row in content.rows] == ["a", "c"]


def test_an_interrupt_right_after_the_write_does_not_cut_a_later_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted and what is in the file agree, whatever comes between the two."""
    plan = FaultPlan(when=When.TORN, only=frozenset({"journal_write"}))
    journal = _journal(path, files=FaultyFiles(plan))

    def trace(frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_name != "_line":
            return None
        if event == "line" and "self._length += " in linecache.getline(
            frame.f_code.co_filename, frame.f_lineno
        ):
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            journal.append(rows_of(beats("interrupted"), first=7))
    finally:
        sys.settrace(before)
    for sequence, name in enumerate("abc", 7):
        journal.append(rows_of(beats(name), first=sequence))
    plan.at = len(plan.trace)
    with pytest.raises(StorageError):
        journal.append(rows_of(beats("refused"), first=10))
    content = read_journal(path)
    assert content is not None
    assert [row.fields["execution_id"] for row in content.rows] == ["a", "b", "c"]


def test_a_line_that_is_too_long_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is written: whoever recovers it would have to hold it in memory."""
    monkeypatch.setattr("eventstore.journal.MAX_LINE_BYTES", 200)
    journal = _journal(path)
    before = path.read_bytes()
    with pytest.raises(InvalidEventError, match=r"smaller batches\. Nothing was stored") as caught:
        journal.append(rows_of(beats(*"abcdefgh"), first=7))
    assert caught.value.code == "batch_too_large"
    assert path.read_bytes() == before


def test_a_journal_at_rest_has_no_descriptor_and_can_still_name_its_segment(path: Path) -> None:
    """Rows that wait for a storage that is away cost no descriptor."""
    before = _descriptors()
    journal = _journal(path)
    journal.append(rows_of(beats("a"), first=7))
    journal.rest()
    assert _descriptors() == before
    journal.intend("segments/x")
    journal.close()
    content = read_journal(path)
    assert content is not None
    assert (content.segment_path, len(content.rows)) == ("segments/x", 1)


def test_a_short_write_goes_on(path: Path) -> None:
    """A system that takes fewer bytes than offered gets the rest."""

    class Slow(LocalFiles):
        def write(self, descriptor: int, data: bytes) -> int:
            return LocalFiles.write(self, descriptor, data[:7])

    journal = _journal(path, files=Slow())
    journal.append(rows_of(beats("a"), first=7))
    content = read_journal(path)
    assert content is not None
    assert len(content.rows) == 1


def _descriptors() -> int:
    """How many files this process has open, where the system tells."""
    listing = Path("/proc/self/fd")
    return len(list(listing.iterdir())) if listing.is_dir() else 0


@pytest.mark.parametrize("operation", ["journal_create", "journal_write"])
def test_a_journal_that_cannot_be_made_leaves_no_file_and_no_descriptor(path: Path, operation: str) -> None:
    """A failed first line is cleared away, so the next attempt begins anew."""
    plan = FaultPlan(at=0, when=When.TORN, only=frozenset({operation}))
    before = _descriptors()
    with pytest.raises(StorageError):
        _journal(path, files=FaultyFiles(plan))
    assert not path.exists()
    assert _descriptors() == before
    _journal(path).close()
    assert read_journal(path) is not None


def test_what_a_failed_attempt_left_is_replaced(path: Path) -> None:
    """A file in the way holds nothing, as its writer has not got it."""
    path.write_bytes(b"leftover")
    journal = _journal(path)
    journal.append(rows_of(beats("a"), first=7))
    content = read_journal(path)
    assert content is not None
    assert len(content.rows) == 1


def test_a_closed_journal_takes_nothing(written: Path, path: Path) -> None:
    """The error says how to go on."""
    journal = _journal(path.with_name("b.jsonl"))
    journal.close()
    journal.close()
    with pytest.raises(StateError, match="flush, then append again") as caught:
        journal.append(rows_of([beat()], first=7))
    assert caught.value.code == "journal_closed"


# locks ----------------------------------------------------------------------------------------------------


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """A second taker gets None until the first lets go."""
    lock = Lock.take(tmp_path / "w.lock")
    assert lock is not None
    assert Lock.take(tmp_path / "w.lock") is None
    lock.release(remove=False)
    again = Lock.take(tmp_path / "w.lock")
    assert again is not None
    again.release(remove=True)
    again.release(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_removed_meanwhile_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited for a lock that its holder removed does not hold what others will take."""
    path = tmp_path / "w.lock"
    real = os.open

    def removed_right_after(target: Any, *rest: Any) -> int:
        descriptor = real(target, *rest)
        path.unlink()
        return descriptor

    monkeypatch.setattr("eventstore.journal_folder.os.open", removed_right_after)
    assert Lock.take(path) is None


def test_a_living_writer_is_not_taken_for_dead(tmp_path: Path) -> None:
    """Dead is whose lock nobody holds; a journal without a lock file is a dead writer's too."""
    folder = JournalFolder(tmp_path)
    alive = folder.open_writer(WRITERS[0])
    folder.open_writer(WRITERS[1]).release(remove=False)
    _journal(folder.journal_path(WRITERS[2], 0), writer=WRITERS[2], first_sequence=0).close()
    dead = dict(folder.dead_writers())
    assert list(dead) == [WRITERS[1], WRITERS[2]]
    assert dict(folder.dead_writers()) == {}
    for lock in (alive, *dead.values()):
        lock.release(remove=True)
    assert [writer for writer, _ in folder.dead_writers()] == [WRITERS[2]]


def test_a_writers_lock_has_its_name_only_when_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever recovers dead writers never meets a new writer's lock unheld."""
    folder = JournalFolder(tmp_path)
    met: list[list[tuple[WriterId, Lock]]] = []
    real = Lock.take

    def take(path: Path) -> Lock | None:
        if path.suffix == ".new":
            met.append(list(folder.dead_writers()))
            lock = real(path)
            met.append(list(folder.dead_writers()))
            return lock
        return real(path)

    monkeypatch.setattr(Lock, "take", staticmethod(take))
    lock = folder.open_writer(WRITERS[0])
    assert met == [[], []]
    assert [path.name for path in folder.path.iterdir()] == [f"{WRITERS[0]}.lock"]
    assert list(folder.dead_writers()) == []
    lock.release(remove=True)


def test_a_turn_to_seal_ends_for_forked_children_too(tmp_path: Path) -> None:
    """A child that was forked amid the turn does not hold it on."""
    folder = JournalFolder(tmp_path)
    reading, writing = os.pipe()
    with folder.sealing_turn(wait=True):
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    os.close(reading)
    descriptor = os.open(one(tmp_path.rglob("sealing.turn")), os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    os.close(writing)
    os.waitpid(child, 0)


def test_a_lock_that_was_dropped_unreleased_is_not_kept_by_a_child(tmp_path: Path) -> None:
    """A store that nobody closed dies with its process, though a process that it forked lives on."""
    reading, writing = os.pipe()
    hearing, telling = os.pipe()
    child = os.fork()
    if child == 0:
        lock = Lock.take(tmp_path / "w.lock")
        del lock
        gc.collect()
        if os.fork() == 0:
            os.close(writing)
            os.write(telling, b".")
            os.read(reading, 1)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(hearing, 1) == b"."
    lock = Lock.take(tmp_path / "w.lock")
    for end in (reading, writing, hearing, telling):
        os.close(end)
    assert lock is not None
    lock.release(remove=True)


def test_a_released_lock_is_free_though_a_copy_of_its_descriptor_lives(tmp_path: Path) -> None:
    """A child that never ran our hooks, between fork and exec, does not hold it on."""
    lock = Lock.take(tmp_path / "w.lock")
    assert lock is not None
    copy = os.dup(lock._descriptor)
    lock.release(remove=False)
    again = Lock.take(tmp_path / "w.lock")
    os.close(copy)
    assert again is not None
    again.release(remove=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_turn_that_is_only_good_manners_needs_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On a filesystem without locks sealing goes on without a turn."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("eventstore.journal_folder.fcntl.flock", refuse)
    before = _descriptors()
    with JournalFolder(tmp_path).sealing_turn(wait=False):
        pass
    assert _descriptors() == before


def test_what_is_put_aside_never_replaces_another_file(tmp_path: Path) -> None:
    """The same name may be damaged twice; both are kept, and only damage is listed."""
    folder = JournalFolder(tmp_path)
    folder.path.mkdir(parents=True)
    path = folder.journal_path(WRITERS[0], 0)
    for text in ("first", "second"):
        path.write_text(text)
        folder.put_aside(path, "damaged")
    path.write_text("torn")
    folder.put_aside(path, "torn")
    assert [aside.read_text() for aside in folder.set_aside()] == ["first", "second"]
    assert folder.journals() == []


def test_a_turn_that_cannot_be_taken_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filesystem without locks is refused in our words."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("eventstore.journal_folder.fcntl.flock", refuse)
    with (
        pytest.raises(StorageError, match="EVENTSTORE_STATE"),
        JournalFolder(tmp_path).sealing_turn(wait=True),
    ):
        pass


def test_a_read_only_state_folder_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable that moves the folder."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match="EVENTSTORE_STATE") as caught:
        JournalFolder(tmp_path / "state").open_writer(WRITERS[0])
    assert caught.value.code == "journal_refused"
