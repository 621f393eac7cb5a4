"""Sending from store to store: only what is missing, in order, provable there, and never half."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from faults_kit import worth_striking
from store_kit import WRITERS, beat, beats, flip, memory_url, names, one, open_store, segment_of, value

from eventstore import (
    CompactionGoals,
    Event,
    EventStore,
    IntegrityError,
    InvalidEventError,
    NotFoundError,
    StateError,
    StorageError,
    event_kind,
)
from eventstore.events import Registry
from eventstore.filesystem import open_storage
from eventstore.log import transfer as room
from eventstore.segment import read_segment
from eventstore.testing import FaultPlan, FaultyStorage, When
from projections import open_tables

LARGE = bytes(range(256)) * 8
SMALL = {"inline_limit": 64}


@pytest.fixture
def source(tmp_path: Path) -> EventStore:
    """A store to send from."""
    return open_store(tmp_path / "source", **SMALL)


@pytest.fixture
def target(tmp_path: Path) -> EventStore:
    """A store to send to."""
    return open_store(tmp_path / "target", **SMALL)


def _rows(store: EventStore) -> list[dict[str, Any]]:
    """All that is sealed, column by column, but for positions."""
    return pa.Table.from_batches(list(store.read())).drop_columns(["position"]).to_pylist()


def _intact(store: EventStore, *harmless: str) -> None:
    report = store.verify()
    assert {finding.code for finding in report.findings} <= set(harmless), report.findings
    assert report.ok


def _append(store: EventStore, *parts: list[Event] | list[Any]) -> None:
    """Make a segment of each part."""
    for part in parts:
        store.append(*part)
        store.flush()
    store.seal()


def _as_writers(store: EventStore, *parts: tuple[int, list[Any]]) -> None:
    """Put and place a segment for each part, by the writer of this number."""
    ends: dict[int, int] = {}
    for number, (writer, events) in enumerate(parts):
        first = ends.get(writer, 0)
        file, hashes = segment_of(
            events,
            writer=WRITERS[writer],
            first=first,
            recorded_us=1_000_000 + number,
            store_id=store.store_id,
        )
        ends[writer] = first + len(events)
        store.storage.put(file.segment.path, file.data)
        store._sequence.place([(file.segment, hashes)])


# what is sent ---------------------------------------------------------------------------------------------


def test_events_keep_everything_but_their_position(source: EventStore, target: EventStore) -> None:
    """Writer, number, time, salt, hash and body are the source's; positions go on behind the target's."""
    _append(target, beats("own"))
    _append(source, beats("a", "b"), [value(b"small"), beat("c")])
    report = target.pull(source)
    assert (report.events, report.values) == (4, 0)
    assert _rows(target)[1:] == _rows(source)
    assert [event.position for event in target.events()] == [0, 1, 2, 3, 4]
    _intact(target)


def test_a_store_that_has_only_what_was_sent_has_the_same_root(
    source: EventStore, target: EventStore
) -> None:
    """The tree is over the events in order, so it proves that nothing was lost or changed on the way."""
    _append(source, beats("a"), beats("b", "c"), [value(LARGE)])
    target.pull(source)
    assert target.head().root == source.head().root


def test_large_values_go_along_and_small_ones_inside_their_events(
    source: EventStore, target: EventStore
) -> None:
    """A value is put once, before its event, and not at all if the target has it."""
    _append(source, [value(LARGE, "ab" * 20), value(LARGE + b"!", "cd" * 20), value(b"small", "ef" * 20)])
    target.values.put(LARGE)
    report = target.pull(source)
    assert (report.values, report.value_bytes) == (1, len(LARGE) + 1)
    for value_hash, data in (("ab" * 20, LARGE), ("cd" * 20, LARGE + b"!"), ("ef" * 20, b"small")):
        found = target.lookup.value(value_hash)
        assert found is not None
        assert found.data == data
    _intact(target)


def test_many_small_segments_of_a_writer_become_one(source: EventStore, target: EventStore) -> None:
    """What follows on from each other is put together, up to the size of a segment."""
    _append(source, *([beat(f"{number}")] for number in range(20)))
    assert target.pull(source).files == 1
    assert names(target) == names(source)
    assert len(target._sequence.refresh().segments) == 1


def test_a_segment_has_no_more_rows_or_bytes_than_it_may(
    source: EventStore, target: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long runs are cut by rows, and by bytes."""
    _append(source, beats(*(f"{number}" for number in range(10))))
    monkeypatch.setattr(room, "PIECE_ROWS", 4)
    assert target.pull(source).files == 3
    assert [segment.count for segment in target._sequence.refresh().segments] == [4, 4, 2]
    monkeypatch.setattr(room, "PIECE_BYTES", 1)
    with open_store(memory_url()) as other:
        assert other.pull(source).files == 10
        assert other.head().root == source.head().root


def test_seals_come_as_it_goes_on(
    source: EventStore, target: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put is sealed after so many files, so that an interrupt costs little; progress tells."""
    monkeypatch.setattr(room, "PIECE_ROWS", 2)
    monkeypatch.setattr(room, "SEAL_SEGMENTS", 2)
    _append(source, beats(*(f"{number}" for number in range(10))))
    told: list[tuple[int, int]] = []
    target.pull(source, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 10), (4, 10), (8, 10), (10, 10)]
    assert target.head().number == 3


def test_the_order_is_that_of_the_source(source: EventStore, target: EventStore) -> None:
    """Not that of the clocks, which is how segments that are found unsealed are placed."""
    parts = [(2, beats("c0")), (0, beats("a0", "a1")), (2, beats("c1")), (1, beats("b0")), (0, beats("a2"))]
    _as_writers(source, *parts)
    assert target.pull(source).files == 5
    assert names(target) == ["c0", "a0", "a1", "c1", "b0", "a2"]
    assert target.head().root == source.head().root
    _intact(target)


def test_a_compacted_source_gives_the_same(source: EventStore, target: EventStore) -> None:
    """Blocks are sorted by kind and hold several writers; what comes out has the order of positions."""
    parts = [
        (number % 3, [beat(f"{number}"), value(b"%d" % number, f"{number:040x}"), beat(f"{number}!")])
        for number in range(9)
    ]
    _as_writers(source, *parts)
    source.compact(goals=CompactionGoals(events=1_000, least_files=1, block_rows=8))
    assert any(segment.is_compacted for segment in source._sequence.refresh().segments)
    target.pull(source)
    assert _rows(target) == _rows(source)
    assert target.head().root == source.head().root
    _intact(target)


def test_of_a_writer_that_is_known_in_part_the_rest_is_sent(source: EventStore, target: EventStore) -> None:
    """Segments need not begin where the target ends: they are cut, also within compacted ones."""
    _as_writers(source, (0, beats("a0", "a1")), (1, beats("b0")))
    target.pull(source)
    _as_writers_go_on(source)
    source.compact(goals=CompactionGoals(events=1_000, least_files=1, block_rows=8))
    report = target.pull(source)
    assert (report.plan.events, report.events) == (3, 3)
    assert names(target) == ["a0", "a1", "b0", "a2", "a3", "b1"]
    _intact(target)


def _as_writers_go_on(store: EventStore) -> None:
    for number, (writer, first, events) in enumerate(((0, 2, beats("a2", "a3")), (1, 1, beats("b1")))):
        file, hashes = segment_of(
            events,
            writer=WRITERS[writer],
            first=first,
            recorded_us=2_000_000 + number,
            store_id=store.store_id,
        )
        store.storage.put(file.segment.path, file.data)
        store._sequence.place([(file.segment, hashes)])


def test_kinds_that_this_process_does_not_know_are_sent(target: EventStore, tmp_path: Path) -> None:
    """Rows are sent, not events: nobody need have the sender's models."""
    registry = Registry()

    @event_kind("lab.measured", registry=registry)
    class Measured(Event):
        grams: float

    with open_store(tmp_path / "lab", registry=registry) as lab:
        lab.append(Measured(grams=1.5))
        lab.seal()
        target.pull(lab)
        assert _rows(target) == _rows(lab)
    (found,) = target.events()
    assert found.kind == "lab.measured"


def test_what_is_not_sealed_is_not_sent(source: EventStore, target: EventStore) -> None:
    """It has no place in the source's order yet."""
    source.append(beat("waiting"))
    assert target.pull(source).events == 0
    source.seal()
    assert target.pull(source).events == 1


def test_what_the_target_had_durable_and_unsealed_comes_first(
    source: EventStore, target: EventStore, tmp_path: Path
) -> None:
    """The leftovers of an earlier transfer are placed, and are then known."""
    _append(source, beats("a"))
    with open_store(tmp_path / "target", auto_seal=False) as other:
        other.append(beat("waiting"))
        other.flush()
    target.pull(source)
    assert names(target) == ["waiting", "a"]


def test_a_segment_that_does_not_go_on_is_not_placed(source: EventStore) -> None:
    """One that begins before or behind what is sealed of its writer, or whose place is just taken."""
    made = [
        segment_of(beats(*letters), writer=WRITERS[0], first=first, store_id=source.store_id)
        for first, letters in ((0, "ab"), (1, "xy"), (2, "c"), (2, "z"), (9, "q"))
    ]
    for file, _ in made:
        source.storage.put(file.segment.path, file.data)
    assert source._sequence.place([(file.segment, hashes) for file, hashes in made]).number == 1
    assert names(source) == ["a", "b", "c"]
    assert source._sequence.place([(made[0][0].segment, made[0][1])]).number == 1


# again, back and round -----------------------------------------------------------------------------------


def test_a_second_time_nothing_is_sent_and_nothing_written(source: EventStore, target: EventStore) -> None:
    """Not a file and not a seal."""
    _append(source, beats("a"), [value(LARGE)])
    target.pull(source)
    before = target.storage.files()
    report = target.pull(source)
    assert (report.events, report.files, report.plan.segments) == (0, 0, ())
    assert target.storage.files() == before


def test_both_ways_each_gets_what_it_lacks(source: EventStore, target: EventStore) -> None:
    """Stores with events of their own end with the same events, each in its own order, and go on."""
    _append(source, beats("s0", "s1"))
    _append(target, beats("t0"))
    target.pull(source)
    source.pull(target)
    assert (names(target), names(source)) == (["t0", "s0", "s1"], ["s0", "s1", "t0"])
    _append(source, beats("s2"))
    _append(target, beats("t1"))
    assert (target.pull(source).events, source.pull(target).events) == (1, 1)
    assert (names(target)[3:], names(source)[3:]) == (["t1", "s2"], ["s2", "t1"])
    for store in (source, target):
        _intact(store)
        assert sorted(names(store)) == ["s0", "s1", "s2", "t0", "t1"]


def test_three_in_a_circle_come_to_rest(tmp_path: Path) -> None:
    """What goes round comes home known, and is not taken again."""
    stores = [open_store(tmp_path / f"{number}") for number in range(3)]
    for number, store in enumerate(stores):
        _append(store, beats(f"{number}a", f"{number}b"))
    sent = [[stores[(n + 1) % 3].pull(stores[n]).events for n in range(3)] for _ in range(3)]
    assert sent == [[2, 4, 4], [2, 0, 0], [0, 0, 0]]
    for store in stores:
        assert len(names(store)) == len(set(names(store))) == 6
        _intact(store)
        store.close()


def test_tables_are_those_of_the_events(source: EventStore, target: EventStore) -> None:
    """A table of the target says of what was sent what it says in the source."""
    with source.execution(args=["x"], name="sent") as run:
        run.tag("by", "ada")
    source.seal()
    _append(target, beats("own"))
    target.pull(source)
    for name in ("executions", "tags", "jobs"):
        mine, theirs = (
            open_tables(store, [name], fresh="sealed")[name].collect() for store in (target, source)
        )
        key = mine.columns[0]
        kept = mine.filter(mine[key].is_in(theirs[key].implode())).drop("position", strict=False)
        assert kept.sort(kept.columns).equals(theirs.drop("position", strict=False).sort(kept.columns)), (
            f"{name}: {kept} {theirs}"
        )


# refused --------------------------------------------------------------------------------------------------


def test_a_store_is_not_sent_into_itself_or_a_copy(source: EventStore, tmp_path: Path) -> None:
    """Both have one id; a copy that went its own way cannot be told from the store."""
    _append(source, beats("a"))
    with pytest.raises(InvalidEventError, match="two different stores") as caught:
        source.pull(source)
    assert caught.value.code == "same_store"
    shutil.copytree(tmp_path / "source", tmp_path / "copy")
    with open_store(tmp_path / "copy") as copy, pytest.raises(InvalidEventError):
        copy.pull(source, apply=False)


def test_a_target_that_may_not_be_written_refuses(
    source: EventStore, target: EventStore, tmp_path: Path
) -> None:
    """But for the plan, which changes nothing; a source may be read-only."""
    _append(source, beats("a"))
    with open_store(tmp_path / "target", read_only=True) as closed:
        assert closed.pull(source, apply=False).plan.events == 1
        with pytest.raises(StateError) as caught:
            closed.pull(source)
    assert caught.value.code == "read_only"
    with open_store(tmp_path / "source", read_only=True) as reader:
        assert target.pull(reader).events == 1


def test_a_plan_changes_nothing_and_says_what_would_come(source: EventStore, target: EventStore) -> None:
    """Segments, events, bytes, and the large values that the target does not have."""
    _append(
        source, beats("a", "b"), [value(LARGE), value(LARGE + b"!", "cd" * 20), value(b"small", "ef" * 20)]
    )
    target.values.put(LARGE)
    before = target.storage.files(), source.storage.files()
    plan = target.pull(source, apply=False).plan
    assert (len(plan.segments), plan.events, plan.writers, plan.values) == (2, 5, 1, 1)
    assert plan.size_bytes == sum(segment.size_bytes for segment in source._sequence.refresh().segments)
    assert (target.storage.files(), source.storage.files()) == before
    target.pull(source)
    assert target.pull(source, apply=False).plan == room.TransferPlan(values=0)


# damage ---------------------------------------------------------------------------------------------------


def _three_parts(source: EventStore) -> None:
    _as_writers(source, (0, beats("a0", "a1")), (1, beats("b0", "b1")), (2, beats("c0")))


def test_a_damaged_segment_is_named_and_nothing_of_it_is_sent(
    source: EventStore, target: EventStore, tmp_path: Path
) -> None:
    """What stands before it is sealed; once it is whole again, the rest follows."""
    _three_parts(source)
    path = source._sequence.refresh().segments[1].path
    file = tmp_path / "source" / path
    whole = file.read_bytes()
    flip(file, len(whole) // 2)
    with pytest.raises(IntegrityError, match="restore the file from a copy") as caught:
        target.pull(source)
    assert caught.value.path == path
    assert names(target) == ["a0", "a1"]
    _intact(target)
    file.write_bytes(whole)
    assert target.pull(source).events == 3
    assert names(target) == ["a0", "a1", "b0", "b1", "c0"]


def test_a_segment_that_is_gone_is_named(source: EventStore, target: EventStore, tmp_path: Path) -> None:
    """It is no leftover of a compaction, so the transfer ends."""
    _three_parts(source)
    path = source._sequence.refresh().segments[2].path
    (tmp_path / "source" / path).unlink()
    with pytest.raises(NotFoundError) as caught:
        target.pull(source)
    assert (caught.value.code, caught.value.path) == ("segment_missing", path)
    assert names(target) == ["a0", "a1", "b0", "b1"]


def test_an_event_that_does_not_have_its_hash_is_not_sent(source: EventStore, target: EventStore) -> None:
    """A file may be what its name says and still have been written wrong; the whole segment stays back."""
    _as_writers(source, (0, beats("good")))
    file, hashes = segment_of(beats("x", "y"), writer=WRITERS[1], store_id=source.store_id)
    read = read_segment(source.storage, file.segment.path, raw=file.data)
    table = pa.concat_tables(each for _, each in read)
    wrong = table.set_column(
        table.schema.get_field_index("execution_id"), "execution_id", pa.array(["x", "forged"])
    )
    forged = room.encode_segment(wrong, day="2024/05/06", store_id=source.store_id)
    source.storage.put(forged.segment.path, forged.data)
    source._sequence.place([(forged.segment, hashes)])
    with pytest.raises(IntegrityError, match="the event at position 2 does not have the hash"):
        target.pull(source)
    assert names(target) == ["good"]


@pytest.mark.parametrize("compacted", [False, True])
def test_nothing_is_sent_of_a_segment_whose_value_is_gone(
    source: EventStore, target: EventStore, tmp_path: Path, compacted: bool
) -> None:
    """An event never comes without the bytes that it mentions, nor do those beside it in the segment."""
    _append(source, beats("before"), [beat("beside"), value(LARGE)])
    if compacted:
        source.compact(goals=CompactionGoals(events=1_000, least_files=1, block_rows=8))
    file = one((tmp_path / "source" / "values").rglob("*.zst"))
    frame = file.read_bytes()
    file.unlink()
    with pytest.raises(NotFoundError) as caught:
        target.pull(source)
    assert caught.value.code == "value_missing"
    assert names(target) == ([] if compacted else ["before"])
    file.write_bytes(frame[:-1])
    with pytest.raises(IntegrityError):
        target.pull(source)
    file.write_bytes(frame)
    target.pull(source)
    assert _rows(target) == _rows(source)
    _intact(target)


def test_a_value_that_is_larger_than_the_target_takes_is_refused(source: EventStore, tmp_path: Path) -> None:
    """The bound is the target's; nothing of its segment is sent."""
    _append(source, [value(LARGE)])
    with open_store(tmp_path / "narrow", max_value_bytes=100) as narrow:
        with pytest.raises(InvalidEventError) as caught:
            narrow.pull(source)
        assert caught.value.code == "value_too_large"
        assert narrow.head().size == 0


# others meanwhile -----------------------------------------------------------------------------------------


class _Meanwhile:
    """A storage in which something happens once, right after a segment was put."""

    def __init__(self, url: str, happens: Callable[[], object]) -> None:
        self._storage = open_storage(url)
        self._happens: Callable[[], object] | None = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def put(self, path: str, data: bytes) -> None:
        self._storage.put(path, data)
        happens, self._happens = (
            (self._happens, None) if path.startswith("segments/") else (None, self._happens)
        )
        if happens is not None:
            happens()


def test_someone_else_may_send_the_same_at_the_same_time(source: EventStore, tmp_path: Path) -> None:
    """Each event is placed once, whoever was faster; the file that came late is told, and harms nobody."""
    _three_parts(source)
    place = tmp_path / "target"
    open_store(place).close()

    def faster() -> None:
        with open_store(place) as other, open_store(tmp_path / "source", read_only=True) as same:
            _as_writers_go_on_in(tmp_path)
            other.pull(same)

    meanwhile = _Meanwhile(str(place), faster)
    with open_store(place, storage=meanwhile) as target:
        target.pull(source)
        assert names(target) == ["a0", "a1", "b0", "b1", "c0", "more"]
        _intact(target, "duplicate_segment")


def _as_writers_go_on_in(tmp_path: Path) -> None:
    with open_store(tmp_path / "source") as source:
        file, hashes = segment_of(
            beats("more"), writer=WRITERS[2], first=1, recorded_us=3_000_000, store_id=source.store_id
        )
        source.storage.put(file.segment.path, file.data)
        source._sequence.place([(file.segment, hashes)])


def test_someone_else_may_seal_what_was_put(source: EventStore, tmp_path: Path) -> None:
    """A sealer that finds a segment before it was placed places it; that is as good."""
    _three_parts(source)
    place = tmp_path / "target"
    open_store(place).close()

    def faster() -> None:
        with open_store(place) as other:
            other.seal()

    with open_store(place, storage=_Meanwhile(str(place), faster)) as target:
        assert target.pull(source).events == 5
        assert names(target) == names(source)
        _intact(target)


def test_the_source_may_be_compacted_and_cleaned_meanwhile(
    source: EventStore, target: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments that went away are looked for where compaction has put their events."""
    _three_parts(source)
    before = source._sequence.refresh()
    source.compact(goals=CompactionGoals(events=1_000, least_files=1, block_rows=8))
    source.clean(grace=dt.timedelta(0))
    stale, fresh = [before, before], source._sequence.refresh  # for the two plans that a transfer begins with
    monkeypatch.setattr(source._sequence, "refresh", lambda: stale.pop() if stale else fresh())
    target.pull(source)
    assert names(target) == ["a0", "a1", "b0", "b1", "c0"]
    assert not stale


# interrupted ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "when"), [("source", When.BEFORE), *(("target", when) for when in When)])
def test_after_any_fault_the_same_call_ends_the_transfer(side: str, when: When) -> None:
    """One operation fails, before, after or half done: calling again leaves everything, once and provable."""
    url = memory_url()
    with open_store(url, **SMALL) as source:
        _as_writers(source, (0, beats("a0", "a1")), (1, beats("b0")))
        _append(source, [value(LARGE), beat("c0")])
    counted = FaultPlan()
    assert not _struck(url, side, counted)
    struck = worth_striking(counted.trace, when)
    raised = 0
    for at, name in struck:
        try:
            raised += _struck(url, side, FaultPlan(at, when=when))
        except BaseException as error:
            error.add_note(f"a fault {when} operation {at} of {len(counted.trace)}, {name}")
            raise
    assert raised >= len(struck) // 2 >= 2


def _struck(url: str, side: str, plan: FaultPlan) -> bool:
    """Transfer with a fault and without; returns whether the fault was noticed."""
    armed, plan.at = plan.at, None
    places = {"source": open_storage(url), "target": open_storage(memory_url())}
    faulty = {name: FaultyStorage(place, plan) if name == side else place for name, place in places.items()}
    with (
        open_store(url, read_only=True, storage=faulty["source"]) as source,
        open_store(url, storage=faulty["target"]) as target,
    ):
        _append(target, beats("own"))
        plan.trace.clear()
        plan.at = armed
        raised = False
        try:
            target.pull(source)
        except StorageError:
            raised = True
        plan.disarm()
        transferred = len(plan.trace)
        target.pull(source)
        assert names_of_all(target) == ["own", "a0", "a1", "b0", "value", "c0"]
        _intact(target, "foreign_file", "duplicate_segment")
    del plan.trace[transferred:]
    return raised


def names_of_all(store: EventStore) -> list[str]:
    """The name of each event."""
    return [getattr(event.event, "execution_id", "value") for event in store.events()]
