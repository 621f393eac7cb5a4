"""What may go, goes after its grace and not before; what is needed never goes; readers live through it."""

from __future__ import annotations

import datetime as dt
import os
import time
from pathlib import Path

import polars as pl
import pytest
from store_kit import beat, beats, flip, names, open_store, value

from eventstore import CompactionGoals, EventStore, IntegrityError, NotFoundError, StateError
from eventstore.filesystem import Entry, FsspecStorage
from eventstore.log.cleaning import KeepReason, Reason

GOALS = CompactionGoals(events=12, least_files=2, block_rows=4)
HOUR = dt.timedelta(hours=1)
NEVER = dt.timedelta(0)


class _Clock:
    """A clock that is set by hand, beginning now."""

    def __init__(self) -> None:
        self.us = time.time_ns() // 1000

    def __call__(self) -> int:
        return self.us

    def wait(self, span: dt.timedelta) -> None:
        """Let time go by."""
        self.us += span // dt.timedelta(microseconds=1)


@pytest.fixture
def clock() -> _Clock:
    """The clock of the store."""
    return _Clock()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store"


@pytest.fixture
def store(place: Path, clock: _Clock) -> EventStore:
    """Six segments of two events, compacted into one, their files still there."""
    store = open_store(place, clock=clock)
    for number in range(6):
        store.append(beat(f"{number}"), value(b"v%d" % number, value_hash=f"{number:040x}"))
        store.flush()
    assert len(store.compact(goals=GOALS).made) == 1
    return store


def _files(place: Path, folder: str) -> list[Path]:
    return sorted((place / folder).rglob("*.parquet"))


def test_replaced_files_stay_for_the_grace_period(store: EventStore, place: Path, clock: _Clock) -> None:
    """Counted from the seal that replaced them; the plan says how many stay."""
    clock.wait(dt.timedelta(hours=23, minutes=59))
    plan = store.clean(apply=False).plan
    assert (plan.removals, plan.kept) == ((), {KeepReason.GRACE: 6})
    assert store.clean().removed == 0
    clock.wait(dt.timedelta(minutes=1))
    plan = store.clean(apply=False).plan
    assert plan.count() == {Reason.REPLACED: 6}
    assert plan.size_bytes == sum(path.stat().st_size for path in _files(place, "segments"))
    assert len(_files(place, "segments")) == 6
    report = store.clean()
    assert (report.removed, report.size_bytes) == (6, plan.size_bytes)
    assert _files(place, "segments") == []
    assert names(store, kinds=["execution.heartbeat"]) == list("012345")
    assert store.verify().findings == []
    assert store.clean().plan.removals == ()


def test_the_grace_can_be_chosen(store: EventStore, clock: _Clock) -> None:
    """None at all, for whoever knows that nobody reads; a negative one is none."""
    assert store.clean(apply=False, grace=HOUR).plan.removals == ()
    assert store.clean(apply=False, grace=-HOUR).plan.count() == {Reason.REPLACED: 6}
    assert store.clean(grace=NEVER).removed == 6


def test_what_is_needed_never_goes(store: EventStore, place: Path, clock: _Clock) -> None:
    """Present, unsealed and repeated segments, journals, values and foreign files stay for ever."""
    other = open_store(place, auto_seal=False)
    other.append(*beats("unsealed"))
    other.flush()
    other.append(*beats("journaled"))
    (place / "foreign.txt").write_text("mine")
    clock.wait(dt.timedelta(days=1000))
    kept = {path for path in place.rglob("*") if path.is_file()} - set(_files(place, "segments")[:0])
    removed = {place / removal.path for removal in store.clean().plan.removals}
    assert len(removed) == 6
    assert {path for path in place.rglob("*") if path.is_file()} == kept - removed
    assert names(store, tail=True, kinds=["execution.heartbeat"])[-2:] == ["unsealed", "journaled"]
    other.close()


def test_a_later_compaction_replaces_an_earlier_one(store: EventStore, place: Path, clock: _Clock) -> None:
    """Compacted files go as others do, each with its own grace."""
    clock.wait(dt.timedelta(days=2))
    for number in range(20):
        store.append(beat(f"n{number}"))
        store.flush()
    store.compact(goals=CompactionGoals(events=100, least_files=2))
    (first, second) = _files(place, "compacted")
    assert store.clean().plan.count() == {Reason.REPLACED: 6}
    clock.wait(dt.timedelta(days=2))
    assert store.clean().plan.count() == {Reason.REPLACED: 21}
    assert _files(place, "compacted") == [
        path for path in (first, second) if path.name.startswith(f"{0:020d}-{32:020d}")
    ]
    assert store.verify().findings == []


def test_nothing_goes_when_what_stays_is_damaged(store: EventStore, place: Path, clock: _Clock) -> None:
    """The file that holds the events now is read back first."""
    clock.wait(dt.timedelta(days=2))
    (compacted,) = _files(place, "compacted")
    flip(compacted, 500)
    with pytest.raises(IntegrityError) as caught:
        store.clean()
    assert (caught.value.code, caught.value.path) == ("segment_damaged", str(compacted.relative_to(place)))
    assert len(_files(place, "segments")) == 6
    compacted.unlink()
    with pytest.raises(NotFoundError):
        store.clean()
    assert len(_files(place, "segments")) == 6


def test_a_plan_is_acted_on_as_it_was_shown(store: EventStore, place: Path, clock: _Clock) -> None:
    """What has become needless since stays for the next plan; what went meanwhile does not matter."""
    clock.wait(dt.timedelta(days=2))
    plan = store.clean(apply=False).plan
    for number in range(20):
        store.append(beat(f"n{number}"))
        store.flush()
    store.compact(goals=CompactionGoals(events=100, least_files=2))
    clock.wait(dt.timedelta(days=2))
    _files(place, "segments")[0].unlink()
    assert store.clean(plan=plan).removed == 6
    assert len(_files(place, "segments")) == 20
    assert store.verify().findings == []


def test_leftovers_go_by_their_own_age(store: EventStore, place: Path, clock: _Clock) -> None:
    """Half-written files, those of tables too, and never within the hour: someone may be writing."""
    table = place / "projections" / "jobs" / "v1"
    old = [
        place / "segments" / ".tmp-old",
        table / "manifests" / ".tmp-manifest",
        table / "runs" / "any" / "table" / ".tmp-table",
    ]
    new = [place / ".tmp-new", table / "manifests" / ".tmp-new"]
    for path in (*old, *new):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    for path in old:
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    plan = store.clean(apply=False, grace=NEVER).plan
    going = {place / removal.path for removal in plan.removals if removal.reason is Reason.TEMPORARY}
    assert going == set(old)
    assert plan.kept[KeepReason.GRACE] == len(new)
    store.clean(grace=NEVER)
    assert [path for path in (*old, *new) if path.exists()] == new


def test_a_place_that_tells_no_times_keeps_what_it_cannot_judge(
    store: EventStore, place: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a compacted file that nobody names may go once others have compacted the same positions."""
    (compacted,) = _files(place, "compacted")
    twin = place / "compacted" / compacted.name.replace(compacted.name[42:50], "00000000")
    beyond = place / "compacted" / f"{0:020d}-{99:020d}-{'a' * 64}.parquet"
    for path in (twin, place / "segments" / ".tmp-old"):
        path.write_bytes(b"whatever")
    real = FsspecStorage.files

    def files(self: FsspecStorage, folder: str = "", *, temporary: bool = False) -> list[Entry]:
        return [Entry(one.path, one.size_bytes) for one in real(self, folder, temporary=temporary)]

    monkeypatch.setattr(FsspecStorage, "files", files)
    clock.wait(dt.timedelta(days=2))
    plan = store.clean(apply=False).plan
    assert plan.count() == {Reason.REPLACED: 6, Reason.ORPHAN: 1}
    assert plan.kept == {KeepReason.UNKNOWN_AGE: 1}
    store.append(*beats("plain"))
    store.flush()
    beyond.write_bytes(b"whatever")
    plan = store.clean(apply=False).plan
    assert plan.count() == {Reason.REPLACED: 6, Reason.ORPHAN: 1}
    assert plan.kept == {KeepReason.UNKNOWN_AGE: 2}


def test_cleaning_is_for_writers(store: EventStore, place: Path, clock: _Clock) -> None:
    """A read-only store may look; a closed one may not act."""
    clock.wait(dt.timedelta(days=2))
    with open_store(place, read_only=True, clock=clock) as reader:
        assert len(reader.clean(apply=False).plan.removals) == 6
        assert len(reader.compact(apply=False).plan.groups) == 0
        for call in (reader.clean, reader.compact):
            with pytest.raises(StateError) as caught:
                call()
            assert caught.value.code == "read_only"
    store.close()
    for call in (store.clean, store.compact):
        with pytest.raises(StateError) as caught:
            call()
        assert caught.value.code == "closed"


# readers --------------------------------------------------------------------------------------------------


def test_a_reader_lives_through_a_clean(place: Path, clock: _Clock) -> None:
    """Its files are gone amid the read: it goes on in those that took their place, at its position."""
    store = open_store(place, clock=clock)
    for number in range(8):
        store.append(beat(f"{number}"))
        store.flush()
    for kinds in (None, ["execution.heartbeat"]):
        with open_store(place, read_only=True, clock=clock) as reader:
            events = reader.read(kinds=kinds, columns=["execution_id"])
            found = next(events).column("execution_id").to_pylist()
            assert found == ["0"] or kinds
            store.compact(goals=GOALS)
            store.clean(grace=NEVER)
            for batch in events:
                found += batch.column("execution_id").to_pylist()
            assert found == [f"{number}" for number in range(8)]


def test_a_lazy_table_lives_through_a_clean(place: Path, clock: _Clock) -> None:
    """Made before, collected after: the same rows, with what is pushed down into it."""
    store = open_store(place, clock=clock)
    for number in range(8):
        store.append(beat(f"{number}"), value(b"%d" % number, value_hash=f"{number:040x}"))
        store.flush()
    with open_store(place, read_only=True, clock=clock) as reader:
        lazy = [reader.scan(), reader.scan(after=3, until=11), reader.scan(kinds=["value.recorded"])]
        few = [frame.filter(pl.col("position") > 5).select("position", "kind") for frame in lazy]
        before = [frame.collect() for frame in [*lazy, *few]]
        store.compact(goals=GOALS)
        assert store.clean(grace=NEVER).removed > 0
        after = [frame.collect() for frame in [*lazy, *few]]
        assert all(one.equals(other) for one, other in zip(before, after, strict=True))
        store.append(*beats(*"abcdefgh"))
        store.flush()
        store.compact(goals=CompactionGoals(events=200, least_files=2))
        store.clean(grace=NEVER)
        assert all(one.equals(frame.collect()) for one, frame in zip(before, [*lazy, *few], strict=True))


def test_a_file_that_is_gone_for_good_is_still_an_error(place: Path, clock: _Clock) -> None:
    """Taking the sequence anew helps only where compaction has replaced the file."""
    with open_store(place, clock=clock) as store:
        store.append(*beats("a"))
        store.flush()
        store.append(*beats("b"))
    with open_store(place, read_only=True, clock=clock) as reader:
        lazy = reader.scan()
        _files(place, "segments")[1].unlink()
        with pytest.raises(NotFoundError) as caught:
            list(reader.read())
        assert caught.value.code == "segment_missing"
        with pytest.raises(Exception, match="found no file"):
            lazy.collect()


def test_a_journal_whose_segment_was_cleaned_away_is_not_put_again(place: Path, clock: _Clock) -> None:
    """A journal that could not be removed outlives its segment; its events are sealed."""
    store = open_store(place, clock=clock)
    store.append(*beats("a", "b"))
    (journal,) = (place.parent / "store-state").rglob("*.jsonl")
    raw = journal.read_bytes()
    store.flush()
    store.append(*beats("c", "d"))
    store.close()
    journal.write_bytes(raw)
    with open_store(place, clock=clock, state_dir=place.parent / "elsewhere") as other:
        other.compact(goals=GOALS)
        other.clean(grace=NEVER)
        assert _files(place, "segments") == []
    with open_store(place, clock=clock) as store:
        assert names(store) == ["a", "b", "c", "d"]
        assert store.verify().findings == []
    assert _files(place, "segments") == []
    assert not journal.exists()
