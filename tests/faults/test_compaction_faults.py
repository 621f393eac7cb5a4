"""Compaction and cleaning are killed, refused, raced: the log stays, and the next run mends the rest."""

from __future__ import annotations

import datetime as dt
import errno
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from faults_kit import CHANGING, HARMLESS, WITH_HALVES
from fork_kit import forked, status_of
from store_kit import beat, beats, names, open_store, value

from eventstore import CompactionGoals, EventStore, IntegrityError, StorageError, layout
from eventstore.filesystem import FsspecStorage, open_storage
from eventstore.log.compaction import encode_compacted
from eventstore.log.sequence import SealSequence
from eventstore.segment import CompactedEncoder
from eventstore.testing import KILLED, Act, FaultPlan, FaultyStorage, When

GOALS = CompactionGoals(events=9, least_files=2, block_rows=4)
NEVER = dt.timedelta(0)
LATER_US = 3 * 24 * 3600 * 1_000_000
UNFINISHED = HARMLESS | {"unreferenced_compacted"}
"""What a compactor that was stopped may leave behind."""


@pytest.fixture(autouse=True)
def small_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot after every second seal, and archives of few seals."""
    monkeypatch.setattr(layout, "SNAPSHOT_EVERY", 2)
    monkeypatch.setattr("eventstore.log.packing.LEAST_SEALS", 1)


def _later() -> int:
    """Now, after all grace periods."""
    return time.time_ns() // 1000 + LATER_US


def _grown(place: Path) -> list[str]:
    """Make a store of several segments by two writers; returns the names of its events."""
    with open_store(place) as store, open_store(place) as other:
        for number in range(5):
            writer = other if number == 2 else store
            writer.append(*beats(f"{number}/a", f"{number}/b"))
            writer.flush()
    with open_store(place, read_only=True) as reader:
        return names(reader)


def _run(place: Path, plan: FaultPlan | None) -> None:
    """What is struck: compact, append, compact all that is there, clean."""
    options: dict[str, object] = {"clock": _later}
    if plan is not None:
        options["storage"] = FaultyStorage(open_storage(place), plan)
    with open_store(place, **options) as store:
        store.compact(goals=GOALS)
        store.append(beat("late"))
        store.compact(goals=GOALS)
        store.clean(grace=NEVER)


def _check(place: Path, expected: list[str]) -> None:
    """Every event is there once, in its place; then another run leaves nothing to report."""
    with open_store(place, clock=_later) as store:
        store.seal()
        found = names(store)
        assert found[: len(expected)] == expected
        assert set(found[len(expected) :]) <= {"late"}
        assert store.scan().collect()["execution_id"].to_list() == found
        report = store.verify()
        assert report.ok, report.findings
        assert {finding.code for finding in report.findings} <= UNFINISHED, report.findings
        store.compact(goals=GOALS)
        store.clean(grace=NEVER)
    with open_store(place, clock=_later) as store:
        store.clean(grace=NEVER)
        assert names(store) == found
        report = store.verify()
        assert report.findings == []
        assert report.replaced_segments == 0
    assert not list(place.rglob(".tmp-*"))


def _worth(trace: list[str], when: When) -> Iterator[int]:
    """Operations that change something: a fault before any other leaves what the one before it left."""
    wanted = WITH_HALVES if when is When.TORN else CHANGING
    return (at for at, line in enumerate(trace) if line.partition(" ")[0] in wanted)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A store to copy, and the names of its events."""
    place = tmp_path_factory.mktemp("template") / "store"
    return place, _grown(place)


def _sweep(
    template: tuple[Path, list[str]], folder: Path, when: When, strike: Callable[[Path, FaultPlan], None]
) -> int:
    place, expected = template
    counted = FaultPlan()
    shutil.copytree(place, folder / "counted")
    _run(folder / "counted", counted)
    struck = list(_worth(counted.trace, when))
    for at in struck:
        copy = folder / f"{at}" / "store"
        shutil.copytree(place, copy)
        try:
            strike(copy, FaultPlan(at, when=when))
            _check(copy, expected)
        except BaseException as error:
            error.add_note(f"struck {when} operation {at}: {counted.trace[at]}")
            raise
        shutil.rmtree(copy.parent)
    return len(struck)


def _kill(place: Path, plan: FaultPlan) -> None:
    plan.act = Act.KILL
    assert status_of(forked(lambda: _run(place, plan))) == KILLED


@pytest.mark.parametrize("when", [When.AFTER, When.TORN])
def test_a_kill_at_any_change_loses_nothing(
    template: tuple[Path, list[str]], tmp_path: Path, when: When
) -> None:
    """Events, positions and root stay, and what was left behind goes with the next run."""
    assert _sweep(template, tmp_path, when, _kill) >= 5


def _refuse(place: Path, plan: FaultPlan) -> None:
    try:
        _run(place, plan)
    except StorageError as error:
        assert "again" in str(error)  # noqa: PT017 - whether it is raised depends on the operation
    _run(place, None)


def test_a_refusal_at_any_change_is_mended_by_the_same_call(
    template: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The error says to try again, and trying again does it."""
    assert _sweep(template, tmp_path, When.BEFORE, _refuse) >= 6


def test_a_full_disk_leaves_nothing_half_visible(tmp_path: Path) -> None:
    """The log stays as it is, and is compacted once there is room."""
    place = tmp_path / "store"
    expected = _grown(place)
    plan = FaultPlan(0, when=When.TORN, number=errno.ENOSPC, only=frozenset({"put"}))
    with open_store(place, storage=FaultyStorage(open_storage(place), plan)) as store:
        before = store.head()
        with pytest.raises(StorageError) as caught:
            store.compact(goals=GOALS)
        assert caught.value.code == "disk_full"
        assert store.head() == before
        assert names(store) == expected
        assert not list((place / "compacted").glob("*.parquet"))
        plan.disarm()
        assert len(store.compact(goals=GOALS).made) == 1
    _check(place, expected)


# others at work -------------------------------------------------------------------------------------------


def test_two_compactors_at_once_publish_one_file_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one finds its run replaced, gives its file up, and deletes it."""
    place = tmp_path / "store"
    expected = _grown(place)
    # On another machine there are other journals, and another turn.
    first = open_store(place)
    second = open_store(place, state_dir=tmp_path / "elsewhere")
    real = FsspecStorage.put
    reports = []

    def put(self: FsspecStorage, path: str, data: bytes) -> None:
        real(self, path, data)
        if path.startswith("compacted/"):
            monkeypatch.setattr(FsspecStorage, "put", real)
            reports.append(second.compact(goals=GOALS))

    monkeypatch.setattr(FsspecStorage, "put", put)
    report = first.compact(goals=GOALS)
    assert (report.given_up, len(report.made)) == (1, 0)
    assert (reports[0].given_up, len(reports[0].made)) == (0, 1)
    assert len(list((place / "compacted").glob("*.parquet"))) == 1
    for store in (first, second):
        assert names(store) == expected
        store.close()
    _check(place, expected)


def test_a_compactor_beside_a_sealer_goes_on_with_the_next_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Someone else's seal, put at the last moment, costs neither of them anything."""
    place = tmp_path / "store"
    expected = _grown(place)
    store, other = open_store(place), open_store(place, state_dir=tmp_path / "elsewhere")
    real = FsspecStorage.create

    def create(self: FsspecStorage, path: str, data: bytes) -> bool:
        monkeypatch.setattr(FsspecStorage, "create", real)
        other.append(beat("late"))
        other.flush()
        return real(self, path, data)

    monkeypatch.setattr(FsspecStorage, "create", create)
    before = store.head().number
    report = store.compact(goals=GOALS)
    assert (report.given_up, len(report.made)) == (0, 1)
    assert store.head().number == before + 2
    assert names(store) == names(other) == [*expected, "late"]
    store.close()
    other.close()
    _check(place, expected)


def test_writers_sealers_readers_and_a_compactor_share_a_store(tmp_path: Path) -> None:
    """Whoever reads meanwhile sees a prefix without gap, doubles or another order."""
    place = tmp_path / "store"
    done = threading.Event()
    failed: list[BaseException] = []

    def write(name: str) -> None:
        with open_store(place) as store:
            for number in range(25):
                store.append(beat(f"{name}/{number}"), value(b"x" * number))
                store.flush()

    def compact() -> None:
        with open_store(place) as store:
            while not done.is_set():
                store.compact(goals=CompactionGoals(events=40, least_files=3, block_rows=16))
                store.clean(grace=NEVER)

    def read() -> None:
        with open_store(place, read_only=True) as store:
            while not done.is_set():
                frame = store.scan(columns=["writer", "sequence"])
                positions = [event.position for event in store.events()]
                assert positions == list(range(len(positions)))
                assert frame.collect()["position"].to_list() == positions[: frame.collect().height]

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)
                done.set()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    open_store(place).close()
    beside = [guarded(compact), guarded(read)]
    writers = [guarded(lambda name=name: write(name)) for name in "ab"]
    for thread in writers:
        thread.join()
    done.set()
    for thread in beside:
        thread.join()
    assert failed == []
    with open_store(place, clock=_later) as store:
        store.seal()
        assert store.head().size == 100
        report = store.verify()
        assert report.findings == []


# proof before publishing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["flip", "gone"])
def test_a_damaged_original_stops_compaction_and_is_named(tmp_path: Path, harm: str) -> None:
    """File and position are said, and nothing was published."""
    place = tmp_path / "store"
    _grown(place)
    with open_store(place) as store:
        segment = store._sequence.refresh().segments[2]
        path = place / segment.path
        raw = path.read_bytes()
        if harm == "flip":
            path.write_bytes(raw[:300] + bytes([raw[300] ^ 4]) + raw[301:])
        else:
            path.unlink()
        before = store.head()
        with pytest.raises((IntegrityError, LookupError)) as caught:
            store.compact(goals=CompactionGoals(events=100, least_files=2))
        assert segment.path in str(caught.value)
        if harm == "flip":
            assert "from position 4 on" in str(caught.value)
            assert (caught.value.code, caught.value.position) == ("segment_damaged", 4)  # type: ignore[attr-defined]
        assert store.head() == before
        assert not (place / "compacted").exists()


@pytest.mark.parametrize(
    ("column", "row"), [("execution_id", 3), ("event_hash", 0), ("sequence", 5), ("recorded_at", 2)]
)
def test_a_file_that_does_not_read_back_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, row: int
) -> None:
    """As if memory had failed while it was encoded: the error names the position and the column."""
    place = tmp_path / "store"
    _grown(place)
    real = CompactedEncoder.add

    def add(self: CompactedEncoder, block: pa.Table, _rows: pa.Table) -> None:
        cells = block[column].to_pylist()
        if block["position"][0].as_py() <= row <= block["position"][-1].as_py():
            place = row - block["position"][0].as_py()
            cells[place] = cells[place - 1] if cells[place - 1] != cells[place] else None
        altered = pa.chunked_array([pa.array(cells, block.schema.field(column).type)])
        real(
            self, block.set_column(block.schema.get_field_index(column), block.schema.field(column), altered)
        )

    monkeypatch.setattr(CompactedEncoder, "add", add)
    with open_store(place) as store:
        before = store.head()
        with pytest.raises(IntegrityError) as caught:
            store.compact(goals=GOALS)
        assert caught.value.code == "compaction_differs"
        assert (caught.value.position, f"'{column}'" in str(caught.value)) == (row, True)
        assert store.head() == before
        assert not (place / "compacted").exists()


def test_a_compacted_file_that_vanished_is_not_sealed(tmp_path: Path) -> None:
    """A seal never names what is not there, whoever took it away."""
    place = tmp_path / "store"
    _grown(place)
    with open_store(place) as store:
        sequence: SealSequence = store._sequence
        group = sequence.refresh().segments[0:3]
        file = encode_compacted(store.storage, group, store_id=store.store_id)
        with pytest.raises(LookupError, match=r"expected in .* found no file"):
            sequence.replace(group, file.segment)
        assert len(sequence.refresh().segments) == 5


def test_a_store_opens_with_what_a_killed_compactor_left(tmp_path: Path) -> None:
    """Its file is told as what it is, and goes after the grace period, not before."""
    place = tmp_path / "store"
    expected = _grown(place)
    with open_store(place) as store:
        group = store._sequence.refresh().segments[0:3]
        file = encode_compacted(store.storage, group, store_id=store.store_id)
        store.storage.put(file.segment.path, file.data)
        assert [finding.code for finding in store.verify().findings] == ["unreferenced_compacted"]
        assert store.clean(grace=NEVER).removed == 0
        assert (place / file.segment.path).exists()
    with EventStore.open(place, clock=_later, state_dir=tmp_path / "x") as store:
        (removal,) = store.clean().plan.removals
        assert (removal.path, str(removal.reason)) == (file.segment.path, "compacted, and named by no seal")
        assert names(store) == expected
        assert store.verify().findings == []
