"""Old seals live in archives: the head is found without them, and the chain reads out of them."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kit import STORE_ID, WRITERS, beats, flip, segment_of

from eventstore import IntegrityError, layout
from eventstore.filesystem import FsspecStorage, open_storage
from eventstore.layout import ArchiveName
from eventstore.log import cleaning
from eventstore.log.archive import Archives, decode_archive, encode_archive
from eventstore.log.packing import archives_in_use, first_kept, pack
from eventstore.log.seal_files import SealFiles, stays, witness
from eventstore.log.sequence import SealSequence
from eventstore.testing import FaultPlan, FaultyStorage

NOW = 1_715_000_000_000_000
DAY = 24 * 3600 * 1_000_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot after every second seal, and archives of few seals."""
    monkeypatch.setattr(layout, "SNAPSHOT_EVERY", 2)
    monkeypatch.setattr("eventstore.log.packing.LEAST_SEALS", 2)


@pytest.fixture
def storage(tmp_path: Path) -> FsspecStorage:
    """An empty place."""
    return open_storage(tmp_path)


def _sequence(storage: object, **options: object) -> SealSequence:
    settings = {"store_id": STORE_ID, "software": "test", "clock": lambda: NOW}
    return SealSequence(storage, **(settings | options))  # type: ignore[arg-type]


def _seal(storage: FsspecStorage, sequence: SealSequence, number: int) -> None:
    file, hashes = segment_of(beats("x"), writer=WRITERS[0], first=number)
    storage.put(file.segment.path, file.data)
    sequence.offer(file.segment, hashes)
    sequence.seal(look=False)


def _grow(storage: FsspecStorage, seals: int) -> SealSequence:
    """A chain of one event a seal."""
    sequence = _sequence(storage)
    for number in range(seals):
        _seal(storage, sequence, number)
    return sequence


def _pack(storage: FsspecStorage, sequence: SealSequence) -> int:
    return pack(storage, sequence.files, sequence.head().number)


def _clean(storage: FsspecStorage, sequence: SealSequence, *, days: int = 3) -> int:
    now = time.time_ns() // 1000 + days * DAY  # files say when they were written by the machine's clock
    plan = cleaning.plan(storage, sequence, clock=lambda: now, grace=dt.timedelta(hours=1))
    return cleaning.act(storage, sequence, plan).removed


def _seals(storage: FsspecStorage) -> list[int]:
    paths = (layout.parse_seal(entry.path) for entry in storage.files(layout.SEALS))
    return [number for number in paths if number is not None]


# finding the head -----------------------------------------------------------------------------------------


class _Numbers:
    """A place in which only these seals exist."""

    url = "nowhere"

    def __init__(self, numbers: set[int]) -> None:
        self.numbers = numbers
        self.asked = 0

    def exists(self, path: str) -> bool:
        self.asked += 1
        return layout.parse_seal(path) in self.numbers


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.integers(2, 100))
def test_the_head_is_found_among_the_seals_that_stay(head: int, cleaned: int, tail: int) -> None:
    """Whatever was removed at an earlier head, the digits of every later one lead to it, in few questions."""
    cleaned = min(head, cleaned)
    numbers = set(range(max(1, cleaned - tail), head + 1))
    numbers |= {number for number in stays(cleaned) if number <= head}
    place = _Numbers(numbers)
    files = SealFiles(place, store_id=STORE_ID)  # type: ignore[arg-type]
    assert files.newest() == head
    assert place.asked <= 2 * head.bit_length() + 10
    assert files.is_end(head)


@given(st.integers(0, 5_000), st.integers(2, 5_000))
def test_a_sleeper_knows_that_it_slept(slept_at: int, more: int) -> None:
    """Its next seal has no file, and neither has the odd one at or before its own; else it is at the end."""
    head = slept_at + more
    numbers = stays(head) | set(range(max(1, head - 1), head + 1))
    files = SealFiles(_Numbers(numbers), store_id=STORE_ID)  # type: ignore[arg-type]
    if slept_at + 1 not in numbers:
        assert not files.is_end(slept_at)
    assert slept_at == 0 or (witness(slept_at) % 2 == 1 and slept_at - 1 <= witness(slept_at) <= slept_at)


def test_few_seals_stay() -> None:
    """Twice as many as the head has digits, at most."""
    assert stays(0) == stays(1) - {1} == set()
    assert stays(11) == {2, 4, 8, 10, 11}
    assert len(stays(10**9 - 1)) <= 60


# archives -------------------------------------------------------------------------------------------------


def test_an_archive_gives_back_the_bytes_of_each_seal(storage: FsspecStorage) -> None:
    """By number; and nothing that was altered passes."""
    _grow(storage, 3)
    lines = [storage.read(layout.seal_path(number)) for number in (1, 2, 3)]
    raw, path = encode_archive(lines), layout.archive_path(1, 3)
    assert decode_archive(path, raw) == dict(enumerate(lines, 1))
    assert len(raw) < sum(map(len, lines))
    for name, harmed in (
        (layout.archive_path(1, 2), raw),
        (layout.archive_path(2, 5), raw),
        (path, raw[:-1]),
        (path, b""),
        (path, raw[:50] + bytes([raw[50] ^ 1]) + raw[51:]),
    ):
        with pytest.raises(IntegrityError, match="restore the file") as caught:
            decode_archive(name, harmed)
        assert (caught.value.code, caught.value.path) == ("archive_damaged", name)


def test_what_may_be_packed_is_packed_once(storage: FsspecStorage) -> None:
    """All before the last snapshot but one; the next archives grow by tiers, and their number stays small."""
    sequence = _grow(storage, 7)
    assert first_kept(storage, sequence.files, 7) == 4
    assert (_pack(storage, sequence), _pack(storage, sequence)) == (3, 0)
    assert sequence.files.archives.names() == [ArchiveName(1, 3)]
    for number in range(7, 60):
        _seal(storage, sequence, number)
        _pack(storage, sequence)
    names = sequence.files.archives.names()
    used = archives_in_use(names)
    assert used[0].first == 1
    assert used[-1].last == 60 - 60 % 2 - 2 - 1
    assert len(used) <= 6
    assert len(names) > len(used), "what was merged is still there until it is cleaned up"
    assert _clean(storage, sequence) > 0
    assert sequence.files.archives.names() == used


def test_a_damaged_snapshot_keeps_the_seals(storage: FsspecStorage, tmp_path: Path) -> None:
    """Whoever opens the store needs the seals behind a snapshot that is whole."""
    sequence = _grow(storage, 9)
    flip(tmp_path / layout.snapshot_path(8), 300)
    assert first_kept(storage, sequence.files, 9) == 1
    assert _pack(storage, sequence) == 0


def test_the_chain_reads_out_of_archives(storage: FsspecStorage) -> None:
    """Once the seals are gone, the head, the links and the sizes at moments are the same."""
    grown = _grow(storage, 21)
    head = grown.head()
    links = list(grown.files.links(0))
    assert _pack(storage, grown) == 17
    assert _clean(storage, grown) >= 12
    left = _seals(storage)
    assert set(left) == stays(21) | {18, 19, 20, 21}
    for snapshots in (True, False):
        if not snapshots:
            for entry in storage.files(layout.SEALS):
                if layout.parse_snapshot(entry.path):
                    storage.delete(entry.path)
        fresh = _sequence(storage)
        assert fresh.head() == head
        assert fresh.refresh().segments == grown.refresh().segments
        assert list(fresh.files.links(0, archived=True)) == links
    assert _sequence(storage).size_at(dt.datetime.fromtimestamp(NOW / 1e6, dt.UTC)) == 21
    assert _sequence(storage).size_at(dt.datetime.fromtimestamp(NOW / 1e6 - 1, dt.UTC)) == 0
    _seal(storage, _sequence(storage), 21)
    assert _sequence(storage).head().number == 22


def test_opening_reads_no_archive(storage: FsspecStorage) -> None:
    """A snapshot and the seals behind it suffice."""
    grown = _grow(storage, 21)
    _pack(storage, grown)
    _clean(storage, grown)
    plan = FaultPlan()
    assert _sequence(FaultyStorage(storage, plan)).head() == grown.head()
    assert not any("archive" in line or line.startswith("files") for line in plan.trace)


@pytest.mark.parametrize("slept_at", [0, 1, 2, 3, 4, 8, 9, 16])
def test_whoever_slept_through_a_clean_wakes_up_at_the_head(
    storage: FsspecStorage, slept_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next seal is in an archive only; it does not take that for the end, and does not seal there."""
    monkeypatch.setattr("eventstore.log.sequence._AWAKE_SECONDS", 0.0)
    sequence = _grow(storage, slept_at)
    sleeper = _sequence(storage)
    assert sleeper.head().number == slept_at
    for number in range(slept_at, 21):
        _seal(storage, sequence, number)
    _pack(storage, sequence)
    _clean(storage, sequence)
    _seal(storage, sleeper, 21)
    assert (sleeper.head().number, sleeper.head().size) == (22, 22)
    assert sequence.head() == sleeper.head()


def test_a_seal_that_was_put_into_the_past_is_taken_back(
    storage: FsspecStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sealer that slept between its look and its put sees that its number was given long ago."""
    sequence = _grow(storage, 4)
    sleeper = _sequence(storage)
    sleeper.head()
    sleeper._searched = True
    file, hashes = segment_of(beats("late"), writer=WRITERS[1])
    storage.put(file.segment.path, file.data)
    sleeper.offer(file.segment, hashes)
    real = FsspecStorage.create

    def create(self: FsspecStorage, path: str, data: bytes) -> bool:
        monkeypatch.setattr(FsspecStorage, "create", real)
        for number in range(4, 21):
            _seal(storage, sequence, number)
        _pack(storage, sequence)
        _clean(storage, sequence)
        assert not storage.exists(path)
        return real(self, path, data)

    monkeypatch.setattr(FsspecStorage, "create", create)
    monkeypatch.setattr("eventstore.log.sequence._AWAKE_SECONDS", 0.0)
    assert sleeper.seal(look=False).number == 22
    assert not storage.exists(layout.seal_path(5))
    assert sequence.head() == sleeper.head()


def test_a_missing_archive_is_said(storage: FsspecStorage) -> None:
    """Whoever needs a seal that is neither in a file nor in an archive learns which one."""
    sequence = _grow(storage, 21)
    _pack(storage, sequence)
    _clean(storage, sequence)
    for name in sequence.files.archives.names():
        storage.delete(layout.archive_path(name.first, name.last))
    assert _sequence(storage).head().number == 21
    with pytest.raises(IntegrityError, match="it is not there") as caught:
        _sequence(storage).size_at(dt.datetime.fromtimestamp(NOW / 1e6 - 1, dt.UTC))
    assert caught.value.code == "seal_damaged"
    with pytest.raises(IntegrityError, match="nothing is removed"):
        cleaning.plan(storage, _sequence(storage), clock=lambda: NOW)


def test_a_damaged_archive_beside_a_longer_one_does_not_matter(
    storage: FsspecStorage, tmp_path: Path
) -> None:
    """The longest is read first, and another serves where it is damaged."""
    _grow(storage, 9)
    lines = [storage.read(layout.seal_path(number)) for number in range(1, 8)]
    storage.put(layout.archive_path(1, 3), encode_archive(lines[:3]))
    storage.put(layout.archive_path(1, 7), encode_archive(lines))
    assert Archives(storage).read(2) == lines[1]
    flip(tmp_path / layout.archive_path(1, 7), 40)
    assert Archives(storage).read(2) == lines[1]
    with pytest.raises(IntegrityError) as caught:
        Archives(storage).read(5)
    assert caught.value.code == "archive_damaged"
    assert Archives(storage).read(8) is None


def test_seals_are_not_removed_when_their_archive_is_damaged(storage: FsspecStorage, tmp_path: Path) -> None:
    """It is compared with them before the first goes."""
    sequence = _grow(storage, 21)
    _pack(storage, sequence)
    before = _seals(storage)
    (name,) = sequence.files.archives.names()
    path = tmp_path / layout.archive_path(name.first, name.last)
    good = tmp_path / "good"
    shutil.copy(path, good)
    flip(path, 60)
    with pytest.raises(IntegrityError) as caught:
        _clean(storage, sequence)
    assert caught.value.code == "archive_damaged"
    assert _seals(storage) == before
    lines = list(decode_archive(layout.archive_path(name.first, name.last), good.read_bytes()).values())
    path.write_bytes(encode_archive([lines[1], *lines[1:]]))
    with pytest.raises(IntegrityError, match="its number 1 is not the seal beside it"):
        _clean(storage, sequence)
    assert _seals(storage) == before


def test_a_broken_link_is_not_packed(storage: FsspecStorage, tmp_path: Path) -> None:
    """What does not follow is damage, and no archive of it is made."""
    sequence = _grow(storage, 9)
    first = tmp_path / layout.seal_path(1)
    shutil.copy(tmp_path / layout.seal_path(2), tmp_path / "aside")
    flip(tmp_path / layout.seal_path(2), 200)
    with pytest.raises(IntegrityError):
        _pack(storage, sequence)
    assert sequence.files.archives.names() == []
    assert first.exists()
