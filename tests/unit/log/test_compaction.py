"""Compaction leaves few files and the same log, for every reader; verification sees what it did."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_kit import WRITERS, beat, beats, flip, memory_url, names, one, open_store, segment_of, value

from eventstore import (
    CompactionGoals,
    ConflictError,
    EvaluationCached,
    EventStore,
    IntegrityError,
    JobStarted,
    VerifyReport,
    layout,
)
from eventstore.codec.canonical import event_hashes
from eventstore.log.compaction import MOST_SMALL_FILES, plan
from eventstore.log.maintenance import PASSING_FILES
from eventstore.segment import CompactedEncoder, KindCount, Segment, WriterRun, encode_segment
from eventstore.testing import FaultPlan, FaultyStorage

GOALS = CompactionGoals(events=1_000, least_files=2, block_rows=8)
NEVER = dt.timedelta(0)


def _job(number: int) -> JobStarted:
    return JobStarted(job_id=f"job-{number}", execution_id=f"run-{number // 5}", task_hash="ab" * 20)


def _cached(number: int) -> EvaluationCached:
    return EvaluationCached(
        eval_hash=f"{number:040x}", task_hash="ab" * 20, args_hash="cd" * 20, value_hash=f"{number:040x}"
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store"


def _fill(store: EventStore, segments: int, first: int = 0) -> None:
    """So many segments of four events of four kinds."""
    for number in range(first, first + segments):
        made = value(b"v%d" % number, value_hash=f"{number:040x}")
        store.append(beat(f"run-{number}"), _job(number), made, _cached(number))
        store.flush()


def _segments(place: Path) -> list[Segment]:
    return list(open_store(place, read_only=True)._sequence.refresh().segments)


# which to compact -----------------------------------------------------------------------------------------


def _segment(count: int, size_bytes: int = 1, *, compacted: bool = False) -> Segment:
    run = (WriterRun(WRITERS[0], 0, count),)
    path = layout.compacted_path(0, count, "a" * 64) if compacted else f"segments/{count}"
    return Segment(path, "a" * 64, size_bytes, run, count, 0, 0, ())  # type: ignore[arg-type]


def test_a_plan_says_what_it_takes() -> None:
    """Groups, files before and after, events and bytes; by default a million events, 256 MiB, four files."""
    found = plan([_segment(200_000, 50_000_000)] * 11)
    assert [len(group) for group in found.groups] == [5, 5]
    assert (found.files, found.files_after) == (11, 3)
    assert (found.events, found.size_bytes) == (2_000_000, 500_000_000)
    assert [len(group) for group in plan([_segment(200_000, 100_000_000)] * 4).groups] == [2, 2]
    assert plan([_segment(10)] * 3).groups == ()
    assert [len(group) for group in plan([_segment(10)] * 4).groups] == [4]


def test_a_large_segment_of_a_writer_gets_the_layout_alone() -> None:
    """It is not merged with others, and once it is compacted it stays."""
    large = [_segment(700_000), _segment(900_000, compacted=True), _segment(800_000)]
    assert [[segment.count for segment in group] for group in plan(large).groups] == [[700_000], [800_000]]
    assert plan([replace(segment, path=large[1].path) for segment in large]).groups == ()


@pytest.mark.parametrize("flush", [1, 3, 40])
def test_after_any_workload_files_are_within_the_budget(place: Path, flush: int) -> None:
    """Four for each file's worth of events, and a few at the end; seals and snapshots are few as well."""
    goals = CompactionGoals(events=60, least_files=4, block_rows=16)
    with open_store(place) as store:
        for number in range(60):
            store.append(*(beat(f"{number}/{event}") for event in range(1 + (number * 7) % (2 * flush))))
            store.flush()
            if number % 13 == 0:
                store.compact(goals=goals)
        store.compact(goals=goals)
        files = len(_segments(place))
        assert files <= 4 * store.head().size / goals.events + MOST_SMALL_FILES
        assert store.verify().findings == []


def test_compacting_is_planned_before_it_is_done(place: Path) -> None:
    """Without `apply` nothing changes, in a read-only store too."""
    with open_store(place) as store:
        _fill(store, 6)
        before = sorted(place.rglob("*"))
        for look in (store, open_store(place, read_only=True)):
            report = look.compact(apply=False, goals=GOALS)
            assert (report.plan.files, report.plan.files_after, report.plan.events) == (6, 1, 24)
            assert (report.made, report.events, report.size_bytes) == ([], 0, 0)
        assert sorted(place.rglob("*")) == before
        told: list[tuple[int, int]] = []
        report = store.compact(goals=GOALS, progress=lambda done, todo: told.append((done, todo)))
        assert told == [(24, 24)]
        assert (len(report.made), report.events) == (1, 24)
        assert report.size_bytes == one((place / "compacted").iterdir()).stat().st_size


# the same log ---------------------------------------------------------------------------------------------


ASKED: list[dict[str, Any]] = [
    {},
    {"after": 10},
    {"after": 10, "until": 45},
    {"until": 3},
    {"kinds": ["job.started"]},
    {"kinds": ["evaluation.cached", "value.recorded"], "after": 17, "until": 44},
    {"columns": ["execution_id"]},
    {"kinds": ["tags.recorded"]},
]


def _answers(store: EventStore, end: int) -> list[list[dict[str, Any]]]:
    """What readers say of the events before a position: batches, some of them, and lazy tables."""
    questions = [{"until": end} | asked for asked in ASKED]
    read = [[row for batch in store.read(**one) for row in batch.to_pylist()] for one in questions]
    few = [row for batch in store.read(after=20, limit=9) for row in batch.to_pylist()]
    scanned = [store.scan(**one).collect().to_dicts() for one in questions]
    assert scanned == read
    return [*read, few]


def test_every_reader_answers_as_before(place: Path) -> None:
    """Batches, lazy tables, look-ups and levels: with compacted and plain segments in one log."""
    with open_store(place) as store, open_store(place) as other:
        _fill(store, 6)
        other.append(*beats("o1", "o2"))
        other.flush()
        _fill(store, 6, first=6)
        receipt = store.append(_job(99))
        store.flush()
        head = store.head()
        before = _answers(store, head.size)
        store.compact(goals=replace(GOALS, events=40))
        after = store.head()
        assert (after.size, after.root, after.number) == (head.size, head.root, head.number + 2)
        assert store.head_at(head.number) == head
        store.append(_job(100))
        store.flush()
        store.append(_job(101))
        store.clean(grace=NEVER)
        for reader in (store, other, open_store(place, read_only=True)):
            assert _answers(reader, head.size) == before
            tail = [event.event for event in reader.events(after=head.size - 1, tail=True)]
            assert [event.job_id for event in tail] == ["job-100", "job-101"]  # type: ignore[union-attr]
        segments = store._sequence.refresh().segments
        assert [segment.is_compacted for segment in segments] == [True, True, False]
        assert store.verify().findings == []
        assert store.lookup.evaluation(f"{3:040x}") == f"{3:040x}"
        assert receipt.level().name == "SEALED"
    with open_store(place, read_only=True) as reader:
        assert reader.lookup.evaluation(f"{11:040x}") == f"{11:040x}"
        found = reader.lookup.value(f"{5:040x}")
        assert found is not None
        assert found.data == b"v5"
        assert reader.lookup.value("ff" * 20) is None


def test_rows_are_skipped_by_kind_position_and_time(place: Path) -> None:
    """A damaged page of another kind, block or time is not met; whoever needs it is told."""
    with open_store(place) as store:
        _fill(store, 12)
        store.compact(goals=GOALS)
    (segment,) = _segments(place)
    path = place / segment.path
    meta = pq.read_metadata(path)
    harmed = next(
        group
        for group in range(meta.num_row_groups)
        if meta.row_group(group).column(1).statistics.min == "job.started"
        and meta.row_group(group).column(0).statistics.min > 20
    )
    chunk = next(
        meta.row_group(harmed).column(n)
        for n in range(meta.num_columns)
        if meta.row_group(harmed).column(n).path_in_schema == "job_id"
    )
    stats = meta.row_group(harmed).column(0).statistics
    raw = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    raw[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(raw)
    with open_store(place, read_only=True) as reader:
        scan = reader.scan(check=False)
        others = scan.filter(pl.col("kind") == "value.recorded").select("job_id", "value_hash")
        assert others.collect().height == 12
        assert reader.scan(check=False, kinds=["value.recorded", "evaluation.cached"]).collect().height == 24
        assert scan.filter(pl.col("position") < stats.min).collect().height == stats.min
        early = scan.filter(pl.col("recorded_at") < scan.select("recorded_at").collect()[8, 0])
        assert early.collect().height >= 8
        assert reader.scan(check=False, after=stats.max).select("job_id").collect().height > 0
        assert scan.select("position", "kind").collect().height == 48
        for needed in (scan, scan.filter(pl.col("kind") == "job.started").select("job_id")):
            with pytest.raises((pl.exceptions.PolarsError, OSError)):
                needed.collect()
        with pytest.raises(IntegrityError):
            reader.scan()


def test_a_slice_reads_one_block(place: Path) -> None:
    """The first rows of a large log cost no more than the block that they are in."""
    with open_store(place) as store:
        _fill(store, 12)
        store.compact(goals=GOALS)
        assert store.scan().head(3).collect()["position"].to_list() == [0, 1, 2]
        assert store.scan(after=30).head(5).collect()["position"].to_list() == [31, 32, 33, 34, 35]
        assert [event.position for event in store.events(limit=3, after=14)] == [15, 16, 17]
        assert store.ranges(rows=8) == [(start, start + 8) for start in range(0, 48, 8)]
        assert store.ranges(rows=20, after=9, until=41) == [(10, 24), (24, 41)]


def test_in_memory_and_through_the_storage_it_is_the_same() -> None:
    """Where files are not local, readers fetch them whole."""
    with EventStore.open("memory://compaction", create=True, flush_seconds=None) as store:
        _fill(store, 6)
        before = list(store.events())
        assert len(store.compact(goals=GOALS).made) == 1
        assert list(store.events()) == before
        assert store.scan(kinds=["job.started"]).collect()["position"].to_list() == list(range(1, 24, 4))
        assert store.verify().findings == []


# verification ---------------------------------------------------------------------------------------------


def _verify(place: Path) -> VerifyReport:
    return open_store(place, read_only=True).verify()


def _told(report: VerifyReport) -> list[tuple[str, str, int | None]]:
    return [(finding.code, finding.path, finding.position) for finding in report.findings]


def _compacted_place(place: Path) -> Path:
    with open_store(place) as store:
        _fill(store, 6)
        store.compact(goals=GOALS)
        _fill(store, 1, first=6)
    return place


def test_verification_counts_what_was_replaced(place: Path) -> None:
    """It reads what the log consists of, and knows the rest as what it is."""
    report = _verify(_compacted_place(place))
    assert report.findings == []
    assert (report.segments, report.replaced_segments, report.events) == (2, 6, 28)
    assert report.unsealed_segments == 0


def test_a_flipped_bit_in_a_compacted_file_is_found_with_its_position(place: Path) -> None:
    """Anywhere in the file; the position is that of the file or of the first bad event."""
    _compacted_place(place)
    segment = _segments(place)[0]
    path = place / segment.path
    good = path.read_bytes()
    for offset in range(5, len(good), len(good) // 40):
        flip(path, offset)
        ((code, found, position),) = _told(_verify(place))
        assert (code, found) == ("segment_damaged", segment.path)
        assert position is not None
        assert 0 <= position < 24
        path.write_bytes(good)


def _forge(place: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Compact the first six segments as a forger would: other rows, under a name and a seal that fit."""
    store = open_store(place)
    originals = store._sequence.refresh().segments[0:6]
    tables = [pq.read_table(place / segment.path) for segment in originals]
    rows = pa.concat_tables(tables).replace_schema_metadata(None)
    rows = rows.add_column(0, "position", pa.chunked_array([pa.arange(0, 24)]))
    encoder = CompactedEncoder(store.store_id)
    encoder.add(change(rows))
    file = encoder.finish(originals)
    store.storage.put(file.segment.path, file.data)
    assert store._sequence.replace(originals, file.segment) is not None
    store.close()


def _with(table: pa.Table, column: str, row: int, cell: object) -> pa.Table:
    cells = table[column].to_pylist()
    cells[row] = cell
    place = table.schema.get_field_index(column)
    return table.set_column(
        place, table.schema.field(column), pa.array(cells, table.schema.field(column).type)
    )


def test_an_event_that_was_altered_while_it_was_compacted_is_found(place: Path) -> None:
    """With its hash, too: then an old seal's root is not that of the events."""
    with open_store(place) as store:
        _fill(store, 7)

    def change(table: pa.Table) -> pa.Table:
        table = _with(table, "job_id", 9, "forged")
        return _with(table, "event_hash", 9, event_hashes(table)[9])

    _forge(place, change)
    ((code, path, position),) = _told(_verify(place))
    assert (code, path, position) == ("seal_damaged", layout.seal_path(3), 8)


@pytest.mark.parametrize(
    ("change", "position", "words"),
    [
        (lambda t: _with(t, "job_id", 9, "forged"), 9, "the hash that is stored"),
        (lambda t: _with(t, "sequence", 9, 55), 9, "hash|sequence"),
        (lambda t: _with(t, "writer", 9, WRITERS[1]), 9, "hash|by no writer"),
        (lambda t: _with(t, "position", 9, 90), 9, "another position"),
    ],
    ids=["fact", "sequence", "writer", "position"],
)
def test_a_forged_row_is_found(
    place: Path, change: Callable[[pa.Table], pa.Table], position: int, words: str
) -> None:
    """Whatever does not go together in a row is named with its position."""
    with open_store(place) as store:
        _fill(store, 7)
    _forge(place, change)
    (finding,) = _verify(place).findings
    assert finding.code == "segment_damaged"
    assert finding.position == position
    assert re.search(words, finding.message)


def test_events_that_changed_places_are_found(place: Path) -> None:
    """Two rows of one kind, each whole, at each other's position."""
    with open_store(place) as store:
        _fill(store, 7)

    def swap(table: pa.Table) -> pa.Table:
        order = list(range(24))
        order[5], order[9] = 9, 5
        swapped = table.take(order)
        return swapped.set_column(0, "position", pa.chunked_array([pa.arange(0, 24)]))

    _forge(place, swap)
    (finding,) = _verify(place).findings
    assert (finding.code, finding.position) == ("segment_damaged", 5)


def test_a_repeat_of_what_was_compacted_is_known_as_one(place: Path) -> None:
    """And what says something else overlaps; both by what the compacted file holds."""
    _compacted_place(place)
    segment = one((place / "segments").rglob("*-000000000004-*.parquet"))
    with open_store(place, clock=lambda: 2_000_000_000_000_000) as store:
        store.clean()
    writer = _segments(place)[0].writers[0].writer
    table = open_store(place, read_only=True).read(after=3, until=8)
    rows = pa.Table.from_batches(table).drop_columns("position")
    store_id = json.loads((place / "store.json").read_bytes())["store_id"]
    salted = _with(rows, "salt", 0, b"0123456789abcdef")
    salted = _with(salted, "event_hash", 0, event_hashes(salted)[0])
    again = encode_segment(salted, day="2026/01/01", store_id=store_id)
    path = place / again.segment.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(again.data)
    assert [code for code, *_ in _told(_verify(place))] == ["duplicate_segment"]
    path.unlink()
    other, _ = segment_of(beats("x"), writer=writer, first=4, store_id=store_id)
    path = place / other.segment.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(other.data)
    assert [code for code, *_ in _told(_verify(place))] == ["overlapping_segment"]
    assert not segment.exists()


def test_verification_goes_on_in_files_that_took_the_place_of_others(place: Path) -> None:
    """Someone compacts and cleans while it is at work: nothing is called missing."""
    with open_store(place) as store:
        _fill(store, 6)
        seen = []

        def compact(done: int, total: int) -> None:
            if not seen:
                store.compact(goals=GOALS)
                store.clean(grace=NEVER)
            seen.append((done, total))

        report = open_store(place, read_only=True).verify(progress=compact)
        assert report.findings == []
        assert len(seen) == 2
        assert report.root == store.head().root


def test_archives_are_verified_with_the_chain(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read from one follows; a damaged or another one is found; a lost one breaks the chain."""
    monkeypatch.setattr(layout, "SNAPSHOT_EVERY", 2)
    monkeypatch.setattr("eventstore.log.packing.LEAST_SEALS", 2)
    with open_store(place) as store:
        _fill(store, 14)
        assert store.compact(goals=GOALS).archived_seals > 8
    archive = one((place / "seals").glob("archive-*"))
    relative = f"seals/{archive.name}"
    good = archive.read_bytes()
    report = _verify(place)
    assert (report.findings, report.archives) == ([], 1)
    flip(archive, 50)
    assert _told(_verify(place)) == [("archive_damaged", relative, None)]
    archive.write_bytes(good)
    with open_store(place, clock=lambda: 2_000_000_000_000_000) as store:
        assert store.clean().plan.count()
    assert not (place / layout.seal_path(3)).exists()
    report = _verify(place)
    assert (report.findings, report.seals) == ([], 15)
    flip(archive, 50)
    told = _told(_verify(place))
    assert ("archive_damaged", relative, None) in told
    assert told[0][:2] == ("seal_damaged", layout.seal_path(1))
    archive.unlink()
    assert _told(_verify(place))[0][:2] == ("seal_damaged", layout.seal_path(1))


# in passing -----------------------------------------------------------------------------------------------


def test_a_writer_compacts_in_passing_when_there_are_many_files(place: Path) -> None:
    """If it was asked to; in the background, and done when the store is closed."""
    with open_store(place, auto_compact=True) as store:
        for number in range(3 * PASSING_FILES):
            store.append(beat(f"{number}"))
            store.flush()
            store._maintenance.close()  # wait, so that the test says when
    assert len(_segments(place)) <= PASSING_FILES + 3
    with open_store(place) as store:
        for number in range(2 * PASSING_FILES):
            store.append(beat(f"more {number}"))
            store.flush()
        assert store.verify().findings == []
    assert len(_segments(place)) > 2 * PASSING_FILES


def test_what_fails_in_passing_fails_nobody(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Appends go on, and the log says why nothing was compacted."""
    with open_store(place) as store:
        for number in range(PASSING_FILES):
            store.append(beat(f"{number}"))
            store.flush()
    bad = place / _segments(place)[3].path
    raw = bad.read_bytes()
    flip(bad, 200)
    with caplog.at_level(logging.WARNING), open_store(place, auto_compact=True) as store:
        store.append(beat("goes on"))
        store.flush()
        store._maintenance.close()
        assert names(store, after=PASSING_FILES - 1) == ["goes on"]
    assert "nothing was compacted in passing" in caplog.text
    bad.write_bytes(raw)
    assert _verify(place).findings == []


def test_one_compacts_at_a_time_on_a_machine(place: Path) -> None:
    """A second one is told so; in passing it just lets the first one do it."""
    first, second = open_store(place), open_store(place)
    _fill(first, 6)
    with first._maintenance._turn():
        for store in (first, second):
            with pytest.raises(ConflictError, match="one at a time is enough") as caught:
                store.compact(goals=GOALS)
            assert caught.value.code == "compacting"
        second._maintenance._pass(second.compact(apply=False, goals=GOALS).plan, GOALS)
        assert len(_segments(place)) == 6
    assert len(second.compact(goals=GOALS).made) == 1


def test_the_long_work_holds_no_lock_that_others_need(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file is encoded, this process and others append, seal and read."""
    store, other = open_store(place), open_store(place)
    _fill(store, 6)
    real = CompactedEncoder.add
    seen = []

    def add(self: CompactedEncoder, block: pa.Table, rows: pa.Table) -> None:
        if not seen:
            for writer in (store, other):
                writer.append(beat("meanwhile"))
                writer.seal()
            seen.extend(names(store, kinds=["execution.heartbeat"])[-2:])
        real(self, block, rows)

    monkeypatch.setattr(CompactedEncoder, "add", add)
    assert len(store.compact(goals=GOALS).made) == 1
    assert seen == ["meanwhile", "meanwhile"]
    assert store.head().size == 26
    assert store.verify().findings == []


def test_a_compaction_fetches_its_files_once() -> None:
    """From afar, each original is read once and the new file is put once."""
    url = memory_url()
    with open_store(url) as store:
        _fill(store, 6)
        paths = [segment.path for segment in store._sequence.refresh().segments]
        counted = FaultPlan(only=frozenset({"read", "put", "create"}))
        with open_store(url, storage=FaultyStorage(store.storage, counted)) as compactor:
            (made,) = compactor.compact(goals=GOALS).made
        kinds = ("evaluation.cached", "execution.heartbeat", "job.started", "value.recorded")
        assert made.kinds == tuple(KindCount(kind, 1, 6) for kind in kinds)
        assert hashlib.sha256(store.storage.read(made.path)).hexdigest() == made.digest
    fetched = [line for line in counted.trace if "segments/" in line]
    assert sorted(fetched) == sorted(f"read {path}" for path in paths)
    assert [line.partition(" ")[0] for line in counted.trace if "compacted/" in line] == ["put"]


def test_from_afar_a_compacted_file_is_fetched_whole_once() -> None:
    """And checked; later reads fetch the row groups that they need, by ranges."""
    url = memory_url()
    with open_store(url) as store:
        _fill(store, 6)
        (made,) = store.compact(goals=GOALS).made
        counted = FaultPlan(only=frozenset({"read", "open"}))
        with open_store(url, read_only=True, storage=FaultyStorage(store.storage, counted)) as reader:
            for _ in range(3):
                batches = list(reader.read(kinds=["job.started"], columns=["job_id"], after=8, until=20))
                assert [row for batch in batches for row in batch.column("job_id").to_pylist()] == [
                    "job-2",
                    "job-3",
                    "job-4",
                ]
        fetched = [line.partition(" ")[0] for line in counted.trace if made.path in line]
        assert fetched == ["read", "open", "open"]
        path = made.path
        raw = bytearray(store.storage.read(path))
        raw[300] ^= 1
        store.storage.put(path, bytes(raw))
        with open_store(url, read_only=True) as reader, pytest.raises(IntegrityError) as caught:
            list(reader.read())
        assert caught.value.code == "segment_damaged"
