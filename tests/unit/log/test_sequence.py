"""The chain of seals: order, races, gaps, repeats, snapshots, and what is missing or broken in it."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from store_kit import STORE_ID, WRITERS, beats, cut, flip, segment_of

from eventstore import FormatError, IntegrityError, InvalidEventError, StorageError, layout
from eventstore.chain import SealedSegments
from eventstore.filesystem import Entry, FsspecStorage, open_storage
from eventstore.ids import EventId
from eventstore.log.sequence import SealSequence
from eventstore.seal import decode_seal
from eventstore.snapshot import decode_snapshot, encode_snapshot
from eventstore.testing import FaultPlan, FaultyStorage

NOW = 1_715_000_000_000_000


@pytest.fixture
def storage(tmp_path: Path) -> FsspecStorage:
    """An empty place."""
    return open_storage(tmp_path)


@pytest.fixture
def every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot after every second seal."""
    monkeypatch.setattr(layout, "SNAPSHOT_EVERY", 2)


def _sequence(storage: object, **options: object) -> SealSequence:
    settings = {"store_id": STORE_ID, "software": "test", "clock": lambda: NOW}
    return SealSequence(storage, **(settings | options))  # type: ignore[arg-type]


def _put(
    storage: FsspecStorage,
    names: str,
    *,
    writer: int = 0,
    first: int = 0,
    at: int = 1_000_000,
    store_id: str = STORE_ID,
) -> str:
    """Put a segment with events of these names; returns its path."""
    file, _ = segment_of(
        beats(*names), writer=WRITERS[writer], first=first, recorded_us=at, store_id=store_id
    )
    storage.put(file.segment.path, file.data)
    return file.segment.path


def _grow(storage: FsspecStorage, seals: int) -> SealSequence:
    """Make a chain of one segment of one event a seal."""
    sequence = _sequence(storage)
    for number in range(seals):
        _put(storage, "x", first=number)
        sequence.seal()
    return sequence


def test_an_empty_log_has_the_empty_head(storage: FsspecStorage) -> None:
    """Size 0, number 0, the root of the empty tree; sealing nothing makes no seal."""
    sequence = _sequence(storage)
    head = sequence.seal()
    assert (head.size, head.number, head.root) == (0, 0, hashlib.sha256(b"").digest())
    assert storage.files("seals") == []


def test_every_head_that_there_was_is_known_by_its_number(storage: FsspecStorage) -> None:
    """From number 0 to what others sealed meanwhile; of what is not there, nothing is said."""
    ours = _sequence(storage)
    heads = [ours.head()]
    others = _sequence(storage)
    for number in range(5):
        _put(storage, "xy", first=2 * number)
        heads.append(others.seal())
    assert [ours.head_at(number) for number in range(6)] == heads
    assert [(head.size, head.number) for head in heads] == [(2 * number, number) for number in range(6)]
    assert len({head.digest for head in heads}) == len({head.root for head in heads}) == 6
    assert ours.head_at(-1) is ours.head_at(6) is None


def test_segments_are_placed_by_time_and_each_writer_in_its_order(storage: FsspecStorage) -> None:
    """Time comes first, then the writer's id; a writer's own segments never change places."""
    late = _put(storage, "cd", at=3_000_000)
    other = _put(storage, "b", writer=2, at=2_000_000)
    tie = _put(storage, "a", writer=1, at=2_000_000)
    later = _put(storage, "e", first=2, at=3_000_000)
    assert _sequence(storage).seal().size == 5
    now = _sequence(storage).refresh()
    assert [segment.path for segment in now.segments] == [tie, other, late, later]
    assert [segment.first_position for segment in now.segments] == [0, 1, 2, 4]


def test_a_segment_waits_for_the_one_before_it(storage: FsspecStorage) -> None:
    """A gap in a writer's sequences is never sealed over."""
    later = _put(storage, "cd", first=2, at=2_000_000)
    sequence = _sequence(storage)
    assert sequence.seal().size == 0
    assert sequence.unsealed() == [later]
    _put(storage, "ab", at=1_000_000)
    assert sequence.seal().size == 4
    assert [segment.first_sequence for segment in sequence.refresh().segments] == [0, 2]


def test_a_repeat_under_another_digest_is_passed_over(storage: FsspecStorage) -> None:
    """The same events put twice, together or later, are sealed once."""
    _put(storage, "ab")
    _put(storage, "ab")
    sequence = _sequence(storage)
    assert sequence.seal().size == 2
    _put(storage, "ab")
    _put(storage, "c", first=2)
    assert sequence.seal().size == 3
    assert sequence.unsealed() == []
    assert _sequence(storage).seal().size == 3


def test_whoever_loses_the_race_finds_the_work_done(storage: FsspecStorage) -> None:
    """Two sequences with the same candidates make one seal, or two that follow each other."""
    first, second = _sequence(storage), _sequence(storage)
    first.refresh()
    second.refresh()
    _put(storage, "a")
    assert first.seal().number == 1
    _put(storage, "b", first=1)
    head = second.seal()
    assert (head.number, head.size) == (2, 2)
    assert first.head() == head


def test_a_lost_race_is_run_again(storage: FsspecStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone else's seal under our number, put at the last moment, only makes ours the next."""
    winner, loser = _sequence(storage), _sequence(storage)
    _put(storage, "a")
    real = storage.create

    def create(path: str, data: bytes) -> bool:
        monkeypatch.setattr(storage, "create", real)
        winner.seal()
        _put(storage, "b", writer=1)
        return real(path, data)

    monkeypatch.setattr(storage, "create", create)
    head = loser.seal()
    assert (head.number, head.size) == (2, 2)
    assert _sequence(storage).head() == head


def test_a_race_without_end_is_given_up(storage: FsspecStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that always says "taken" gets a clear error, which says that another try may help."""
    _put(storage, "a")
    monkeypatch.setattr(storage, "create", lambda *_: False)
    monkeypatch.setattr("eventstore.log.sequence._MOST_RACES", 3)
    with pytest.raises(StorageError, match=r"3 tries .*seal again") as caught:
        _sequence(storage).seal()
    assert (caught.value.code, caught.value.transient) == ("seal_races", True)


def _kept(sequence: SealSequence) -> tuple[object, dict[str, list[bytes]], int]:
    """What is remembered of segments that are not sealed: facts, hashes, and how many hashes."""
    unsealed = sequence._unsealed
    return unsealed._met, unsealed._hashes, unsealed._hash_count


def test_own_segments_are_sealed_without_reading_them(storage: FsspecStorage) -> None:
    """What was offered is known; and what was sealed meanwhile is not kept for ever."""
    plan = FaultPlan()
    sequence = _sequence(FaultyStorage(storage, plan))
    file, hashes = segment_of(beats("a"))
    storage.put(file.segment.path, file.data)
    sequence.offer(file.segment, hashes)
    assert sequence.seal(look=False).size == 1
    assert not any(file.segment.path in line for line in plan.trace)
    sequence.offer(file.segment, hashes)
    assert sequence.seal(look=False).number == 1
    assert _kept(sequence) == ({}, {}, 0)


def test_the_hashes_of_few_segments_are_kept(storage: FsspecStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing seals memory stays bounded; a later seal reads again what it needs."""
    monkeypatch.setattr("eventstore.log.unsealed._MOST_HASHES", 5)
    sequence = _sequence(storage)
    for number in range(6):
        file, hashes = segment_of(beats("a", "b"), first=2 * number)
        storage.put(file.segment.path, file.data)
        sequence.offer(file.segment, hashes)
        sequence.offer(file.segment, hashes)
        _, hashes_kept, count = _kept(sequence)
        assert sum(map(len, hashes_kept.values())) == count <= 5
        assert sequence.segment(file.segment.path) == file.segment
    head = sequence.seal(look=False)
    assert head.size == 12
    assert _kept(sequence) == ({}, {}, 0)
    assert _sequence(storage).head() == head


def test_of_repeats_that_differ_in_length_the_one_that_goes_on_is_sealed(storage: FsspecStorage) -> None:
    """Else the events after it would be repeats themselves; without any, the one that holds more."""
    for names in ("abcd", "abc", "ab"):
        _put(storage, names)
    _put(storage, "def", first=3)
    for names in ("x", "xyz", "xy"):
        _put(storage, names, writer=1)
    assert _sequence(storage).seal().size == 6 + 3


def test_others_segments_are_found_only_by_looking(storage: FsspecStorage) -> None:
    """A seal in passing need not list folders."""
    _put(storage, "a")
    sequence = _sequence(storage)
    assert sequence.seal(look=False).size == 0
    assert sequence.seal().size == 1


def test_old_folders_are_looked_into_when_asked(storage: FsspecStorage) -> None:
    """Without `everywhere` only folders from two days before the last seal on."""
    sequence = _grow(storage, 1)
    made, _ = segment_of(beats("z"), writer=WRITERS[1])
    name = layout.parse_segment(made.segment.path)
    assert name is not None
    recent = dt.datetime.fromtimestamp(NOW / 1e6, dt.UTC)
    folders = {}
    for days in (0, 2, 3):
        day = layout.segment_day(recent - dt.timedelta(days=days))
        folders[days] = layout.segment_path(day, WRITERS[1], 0, name.digest)
    storage.put(folders[3], made.data)
    assert sequence.unsealed() == []
    assert sequence.unsealed(everywhere=True) == [folders[3]]
    storage.put(folders[2], made.data)
    storage.put(folders[0], made.data)
    assert sequence.unsealed() == [folders[2], folders[0]]
    assert sequence.seal().size == 2
    assert sequence.seal(everywhere=True).size == 2


def test_a_folder_that_did_not_change_is_not_listed_again(storage: FsspecStorage, tmp_path: Path) -> None:
    """Its time of change tells, unless it is so new that more may come within the same tick."""
    clock = dt.datetime(2024, 5, 6, 12, tzinfo=dt.UTC)
    plan = FaultPlan(only=frozenset({"files"}))
    sequence = _sequence(FaultyStorage(storage, plan), clock=lambda: int(clock.timestamp() * 1e6))
    first = _put(storage, "a")
    sequence.seal()
    day = Path(first).parent
    waiting = _put(storage, "c", first=2)

    def listings() -> int:
        plan.trace.clear()
        assert sequence.unsealed() == expected
        return len(plan.trace)

    expected = [waiting]
    assert [listings(), listings()] == [1, 1]
    os.utime(tmp_path / day, (1_700_000_000, 1_700_000_000))
    assert [listings(), listings(), listings()] == [1, 0, 0]
    expected = sorted([waiting, _put(storage, "z", writer=2)])
    assert listings() == 1
    os.utime(tmp_path / day, (1_700_000_001, 1_700_000_001))
    assert [listings(), listings()] == [1, 0]
    _put(storage, "b", first=1)
    assert sequence.seal().size == 4
    os.utime(tmp_path / day, (1_700_000_002, 1_700_000_002))
    expected = []
    assert [listings(), listings()] == [1, 0]


def test_others_may_read_while_a_listing_takes_its_time(
    storage: FsspecStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking for unsealed segments holds no lock."""
    sequence = _grow(storage, 1)
    real, heads = storage.files, []

    def files(folder: str, **options: bool) -> list[Entry]:
        reader = threading.Thread(target=lambda: heads.append(sequence.head()))
        reader.start()
        reader.join(10)
        return real(folder, **options)

    monkeypatch.setattr(storage, "files", files)
    sequence.unsealed(everywhere=True)
    assert [head.size for head in heads] == [1]


def test_an_unreadable_segment_is_left_out(
    storage: FsspecStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Others are sealed; the log says which one is not."""
    bad = _put(storage, "a")
    cut(tmp_path / bad, 100)
    _put(storage, "b", writer=1)
    with caplog.at_level(logging.WARNING):
        assert _sequence(storage).seal().size == 1
    assert bad in caplog.text


def test_foreign_files_among_segments_are_not_looked_at(storage: FsspecStorage) -> None:
    """Names that are not of the format are nobody's events."""
    storage.put("segments/2024/05/06/readme.txt", b"hello")
    storage.put("segments/else.parquet", b"hello")
    sequence = _sequence(storage)
    assert sequence.unsealed(everywhere=True) == []
    assert sequence.seal(everywhere=True).size == 0


def test_levels_come_from_the_writers_ends(storage: FsspecStorage) -> None:
    """An event is sealed when its writer's sealed sequences go beyond it."""
    _put(storage, "ab")
    sequence = _sequence(storage)
    sequence.seal()
    assert sequence.sealed_end(WRITERS[0]) == 2
    assert sequence.sealed_end(WRITERS[1]) == 0
    assert sequence.level_is_sealed(EventId(WRITERS[0], 1))
    assert not sequence.level_is_sealed(EventId(WRITERS[0], 2))


def test_the_time_of_a_seal_is_never_before_the_one_before(storage: FsspecStorage) -> None:
    """A sealer whose clock is behind takes over the time that it finds."""
    times = [NOW, NOW - 5_000_000, NOW + 1]
    for number, now in enumerate(times):
        _put(storage, "x", first=number)
        _sequence(storage, clock=lambda now=now: now).seal()
    told = [found[1].moment for found in _sequence(storage).files.links(0)]
    assert [round(moment.timestamp() * 1e6) for moment in told] == [NOW, NOW, NOW + 1]


@pytest.mark.parametrize("seals", [0, 1, 2, 7, 40])
def test_the_size_at_a_moment_is_that_of_the_newest_seal_until_then(
    storage: FsspecStorage, seals: int
) -> None:
    """Before the first seal nothing, at a seal's own time what it says; with few reads."""
    for number in range(seals):
        _put(storage, "x", first=number)
        _sequence(storage, clock=lambda number=number: NOW + 10 * number).seal()
    plan = FaultPlan(only=frozenset({"read"}))
    sequence = _sequence(FaultyStorage(storage, plan))
    sequence.refresh()
    for step in range(-11, 10 * seals + 11, 3):
        expected = min(seals, max(0, step // 10 + 1))
        before = len(plan.trace)
        moment = dt.datetime.fromtimestamp((NOW + step) / 1e6, dt.UTC)
        assert sequence.size_at(moment) == expected
        assert sequence.size_at(moment.astimezone(dt.timezone(dt.timedelta(hours=5)))) == expected
        assert len(plan.trace) - before <= 2 * (1 + seals.bit_length())


def test_a_moment_without_a_timezone_is_refused(storage: FsspecStorage) -> None:
    """Nobody knows which moment it is."""
    with pytest.raises(InvalidEventError) as caught:
        _sequence(storage).size_at(dt.datetime(2024, 5, 6))
    assert caught.value.code == "naive_time"


# opening --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seals", [0, 1, 2, 3, 4, 5, 7, 8, 9])
def test_the_head_is_found_with_few_questions(storage: FsspecStorage, every_second: None, seals: int) -> None:
    """A snapshot and what is after it are read, not all of the chain."""
    made = _grow(storage, seals)
    plan = FaultPlan()
    fresh = _sequence(FaultyStorage(storage, plan))
    assert fresh.head() == made.head()
    assert fresh.refresh().segments == made.refresh().segments
    reads = [line for line in plan.trace if line.startswith("read")]
    assert len(reads) <= 5
    assert not any(line.startswith("files") for line in plan.trace)


def test_a_snapshot_is_written_in_time_and_says_what_the_chain_says(
    storage: FsspecStorage, every_second: None
) -> None:
    """After every so many seals; the one before is kept, and older ones are deleted."""
    now = _grow(storage, 9).refresh()
    paths = [entry.path for entry in storage.files("seals") if layout.parse_snapshot(entry.path)]
    assert paths == [layout.snapshot_path(6), layout.snapshot_path(8)]
    digest, seal = decode_seal(layout.seal_path(8), storage.read(layout.seal_path(8)))
    read = decode_snapshot(paths[1], storage.read(paths[1]), digest, seal)
    assert list(read.segments) == now.segments[:8]
    assert read.writers == {WRITERS[0]: 8}


def test_a_snapshot_that_could_not_be_deleted_goes_with_the_next(
    storage: FsspecStorage, every_second: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A storage that refuses to delete fails no seal."""
    plan = FaultPlan(at=0, only=frozenset({"delete"}))
    sequence = _sequence(FaultyStorage(storage, plan))
    kept = {}
    for number in range(8):
        _put(storage, "x", first=number)
        sequence.seal()
        kept[number + 1] = [
            layout.parse_snapshot(entry.path) for entry in storage.files("seals") if "snapshot" in entry.path
        ]
    assert kept[6] == [2, 4, 6]
    assert kept[8] == [6, 8]
    assert "an old snapshot was not deleted" in caplog.text


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped", "of another number", "newer", "forged"])
def test_a_bad_snapshot_is_not_used(
    storage: FsspecStorage, tmp_path: Path, every_second: None, harm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seals serve without it, and the answer is the same."""
    grown = _grow(storage, 5)
    head, now = grown.head(), grown.refresh()
    path = tmp_path / layout.snapshot_path(4)
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        cut(path, 100)
    elif harm == "flipped":
        flip(path, path.stat().st_size // 2)
    elif harm == "of another number":
        shutil.copy(tmp_path / layout.snapshot_path(2), path)
    else:
        segments = now.segments[:4]
        with monkeypatch.context() as patch:
            if harm == "newer":
                patch.setattr("eventstore.snapshot.FORMAT_VERSION", 2)
            else:
                segments[1] = replace(segments[1], path=segments[0].path)
            listed = SealedSegments().then(segments)
            path.write_bytes(encode_snapshot(replace(now, number=4, segments=listed)))
    fresh = _sequence(storage)
    assert fresh.head() == head
    assert fresh.refresh().segments == now.segments


def test_a_snapshot_that_cannot_be_written_does_not_fail_the_seal(
    storage: FsspecStorage, every_second: None, caplog: pytest.LogCaptureFixture
) -> None:
    """It is derived: the seal stands, the log says so."""
    plan = FaultPlan(at=0, strikes=None, only=frozenset({"put"}))
    sequence = _sequence(FaultyStorage(storage, plan))
    for number in range(2):
        _put(storage, "x", first=number)
        sequence.seal()
    assert "the seal stands, its snapshot was not written" in caplog.text
    assert _sequence(storage).head().number == 2


@pytest.mark.parametrize("seals", [2, 3, 6, 9])
def test_a_missing_seal_does_not_pass_for_the_end(storage: FsspecStorage, seals: int) -> None:
    """Whichever one of them is gone, but the newest: opening says which, and nothing is sealed over it."""
    _grow(storage, seals)
    for number in range(1, seals):
        raw = storage.read(layout.seal_path(number))
        storage.delete(layout.seal_path(number))
        with pytest.raises(IntegrityError, match="it is not there") as caught:
            _sequence(storage).seal()
        assert caught.value.code == "seal_damaged"
        assert caught.value.path == layout.seal_path(number)
        storage.put(layout.seal_path(number), raw)
    assert _sequence(storage).head().number == seals


def test_nothing_is_sealed_into_a_hole_that_is_wider_than_the_probes(storage: FsspecStorage) -> None:
    """A reader takes it for the end; before its first seal a writer looks at all names, and refuses."""
    _grow(storage, 16)
    for number in range(5, 16):
        storage.delete(layout.seal_path(number))
    sequence = _sequence(storage)
    assert sequence.head().number == 4
    for _ in range(2):
        with pytest.raises(IntegrityError, match="it is not there") as caught:
            sequence.seal()
        assert (caught.value.code, caught.value.path) == ("seal_damaged", layout.seal_path(5))
    assert not storage.exists(layout.seal_path(5))


def test_seals_that_come_before_the_first_of_ours_are_no_gap(
    storage: FsspecStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone else seals while we look for holes: ours comes after theirs, and we look once."""
    other, sequence = _grow(storage, 1), _sequence(storage)
    _put(storage, "b", writer=1)
    real, listed = storage.files, []

    def files(folder: str, **options: bool) -> list[Entry]:
        if folder == layout.SEALS and not listed:
            _put(storage, "x", first=1)
            other.seal()
        listed.extend([folder] * (folder == layout.SEALS))
        return real(folder, **options)

    monkeypatch.setattr(storage, "files", files)
    _put(storage, "c", writer=2)
    assert sequence.seal().size == 4
    _put(storage, "d", writer=3)
    assert sequence.seal().size == 5
    assert len(listed) <= 2


def test_seals_that_come_while_we_look_are_no_gap(
    storage: FsspecStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that moves on between two questions is not taken for a hole."""
    made = _grow(storage, 1)
    real = storage.exists
    asked: list[str] = []

    def exists(path: str) -> bool:
        asked.append(path)
        if path == layout.seal_path(3) and len(asked) > 2:
            monkeypatch.setattr(storage, "exists", real)
            for number in (1, 2):
                _put(storage, "x", first=number)
                made.seal()
        return real(path)

    monkeypatch.setattr(storage, "exists", exists)
    assert _sequence(storage).head().number == 3


def test_a_seal_of_a_newer_format_stops_the_reader(storage: FsspecStorage) -> None:
    """Nothing of it is guessed."""
    _grow(storage, 1)
    body = b'{"format":2}'
    raw = b'{"digest":"%b","seal":%b}\n' % (hashlib.sha256(body).hexdigest().encode(), body)
    storage.put(layout.seal_path(2), raw)
    with pytest.raises(FormatError) as caught:
        _sequence(storage).head()
    assert caught.value.code == "newer_format"


@pytest.mark.parametrize("harm", ["cut", "flipped", "swapped", "of another store"])
def test_a_damaged_chain_stops_the_reader(storage: FsspecStorage, tmp_path: Path, harm: str) -> None:
    """The error names the first seal that is wrong; a sequence that is open keeps what it had."""
    open_one = _grow(storage, 2)
    before = open_one.refresh()
    _put(storage, "x", first=2)
    _sequence(storage).seal()
    second, third = tmp_path / layout.seal_path(2), tmp_path / layout.seal_path(3)
    if harm == "cut":
        cut(second, 99)
    elif harm == "flipped":
        flip(second, 200)
    elif harm == "swapped":
        raw = second.read_bytes()
        second.write_bytes(third.read_bytes())
        third.write_bytes(raw)
    else:
        other = open_storage(tmp_path / "other")
        sequence = _sequence(other, store_id="cd" * 16)
        for number in range(2):
            _put(other, "x", first=number, store_id="cd" * 16)
            sequence.seal()
        shutil.copy(tmp_path / "other" / layout.seal_path(2), second)
    for _ in range(2):
        with pytest.raises(IntegrityError) as caught:
            _sequence(storage).head()
        assert caught.value.code == "seal_damaged"
        assert caught.value.path == layout.seal_path(2)
    assert open_one._now is before


def test_what_does_not_follow_is_not_taken_over(storage: FsspecStorage) -> None:
    """A seal that others put on another history is refused, and the sequence stays as it was."""
    sequence = _grow(storage, 1)
    raw = storage.read(layout.seal_path(1))
    storage.put(layout.seal_path(2), raw)
    for _ in range(2):
        with pytest.raises(IntegrityError):
            sequence.head()
    storage.delete(layout.seal_path(2))
    assert sequence.head().number == 1


# one sealer -----------------------------------------------------------------------------------------------


class _Plain:
    """A storage that has no atomic put-if-absent."""

    def __init__(self, storage: FsspecStorage) -> None:
        self._storage = storage
        self.abilities = type(storage.abilities)(atomic_create=False, local=True, shared=True)

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)

    def create(self, path: str, data: bytes) -> bool:
        raise StorageError("no", code="no_atomic_create", path=path)


def test_without_put_if_absent_sealing_needs_a_guard(storage: FsspecStorage) -> None:
    """Without one it refuses; with one it seals, inside the guard."""
    _put(storage, "a")
    with pytest.raises(StorageError) as caught:
        _sequence(_Plain(storage)).seal()
    assert caught.value.code == "no_atomic_create"
    entered: list[str] = []

    @contextlib.contextmanager
    def guard() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    sequence = _sequence(_Plain(storage), turn=guard, single_sealer=True)
    assert sequence.seal().size == 1
    assert entered == ["in", "out"]
    _put(storage, "b", first=1)
    assert sequence.seal().number == 2


def test_errors_of_storage_come_out_and_do_no_harm(storage: FsspecStorage) -> None:
    """Wherever a seal is interrupted by an error, the next one goes on."""
    _put(storage, "a")
    counted = FaultPlan()
    _sequence(FaultyStorage(storage, counted)).head()
    for at in range(len(counted.trace)):
        sequence = _sequence(FaultyStorage(storage, FaultPlan(at)))
        with pytest.raises(StorageError):
            sequence.seal()
        assert sequence.seal().size == 1
    assert [entry.path for entry in storage.files("seals", temporary=True)] == [layout.seal_path(1)]
