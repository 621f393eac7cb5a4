"""A compacted segment gives its rows back in order, and what is not asked for is not read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_kit import STORE_ID, WRITERS, beat, flip, segment_of, value

from eventstore import Event, EventId, FormatError, IntegrityError, JobStarted, NotFoundError, layout
from eventstore.codec.schema import SCHEMA
from eventstore.filesystem import FsspecStorage, open_storage
from eventstore.log.compaction import CompactionGoals, encode_compacted
from eventstore.segment import Segment, read_blocks, read_compacted, read_placed, read_segment

MOST = 10


def _events(first: int, count: int) -> list[Event]:
    made: list[Event] = []
    for number in range(first, first + count):
        match number % 4:
            case 0:
                made.append(beat(f"run-{number}"))
            case 1:
                made.append(value(b"v%d" % number, value_hash=f"{number:040x}"))
            case _:
                made.append(JobStarted(job_id=f"job-{number}", execution_id="run", task_hash="ab" * 20))
    return made


@pytest.fixture
def storage(tmp_path: Path) -> FsspecStorage:
    """An empty place."""
    return open_storage(tmp_path)


def _group(storage: FsspecStorage, counts: Sequence[int] = (5, 1, 12, 7), start: int = 100) -> list[Segment]:
    """Sealed segments of two writers in turn, from position `start` on."""
    group, ends, position = [], [0, 0], start
    for number, count in enumerate(counts):
        writer = number % 2
        file, _ = segment_of(
            _events(position, count), writer=WRITERS[writer], first=ends[writer], recorded_us=1_000 + position
        )
        storage.put(file.segment.path, file.data)
        group.append(replace(file.segment, first_position=position))  # type: ignore[arg-type]
        ends[writer] += count
        position += count
    return group


def _compacted(storage: FsspecStorage, group: Sequence[Segment], block_rows: int = MOST) -> Segment:
    goals = CompactionGoals(block_rows=block_rows)
    file = encode_compacted(storage, group, store_id=STORE_ID, goals=goals)
    storage.put(file.segment.path, file.data)
    return file.segment


def _whole(storage: FsspecStorage, group: Sequence[Segment]) -> pa.Table:
    tables = [table for segment in group for table in read_placed(storage, segment)]
    return pa.concat_tables(tables).combine_chunks()


def test_rows_come_back_in_order_whatever_the_blocks(storage: FsspecStorage) -> None:
    """Every column of every row, with its position; blocks are as large as they may be."""
    group = _group(storage)
    expected = _whole(storage, group)
    assert expected["position"].to_pylist() == list(range(100, 125))
    for block_rows in (1, 4, 10, 1000):
        segment = _compacted(storage, group, block_rows)
        found = list(read_compacted(storage, segment.path))
        assert [table.num_rows for table in found] == list(read_blocks(storage, segment.path))
        assert max(table.num_rows for table in found) == min(block_rows, 25)
        assert pa.concat_tables(found).equals(expected)
        assert pa.concat_tables(found).schema.names == ["position", *SCHEMA.names]


def test_facts_are_those_of_all_originals(storage: FsspecStorage) -> None:
    """Writers, kinds, times and positions; the name says positions and content."""
    group = _group(storage)
    segment = _compacted(storage, group)
    assert (segment.first_position, segment.end_position, segment.count) == (100, 125, 25)
    assert [(run.writer, run.first_sequence, run.count) for run in segment.writers] == [
        (WRITERS[0], 0, 17),
        (WRITERS[1], 0, 8),
    ]
    assert sum(kind.count for kind in segment.kinds) == 25
    assert (segment.recorded_from_us, segment.recorded_to_us) == (1_100, 1_118)
    name = layout.parse_compacted(segment.path)
    assert name is not None
    assert (name.first_position, name.end_position, name.digest) == (100, 125, segment.digest)
    assert segment.is_compacted
    assert not group[0].is_compacted
    assert segment.holds(EventId(WRITERS[0], 16))
    assert not segment.holds(EventId(WRITERS[0], 17))
    assert segment.size_bytes == storage.size(segment.path)


def test_compacted_segments_are_compacted_again(storage: FsspecStorage) -> None:
    """With others, or alone in other blocks: the rows are the same."""
    group = _group(storage, (5, 1, 12, 7, 3, 3))
    expected = _whole(storage, group)
    first = _compacted(storage, group[:3], 4)
    again = _compacted(storage, [first, *group[3:]], 6)
    assert _whole(storage, [again]).equals(expected)
    assert [run.count for run in again.writers] == [20, 11]


def test_two_attempts_never_share_a_name(storage: FsspecStorage) -> None:
    """So whoever gives up may delete its own file."""
    group = _group(storage)
    assert _compacted(storage, group).path != _compacted(storage, group).path


def test_columns_kinds_and_positions_are_chosen(storage: FsspecStorage) -> None:
    """Blocks that cannot hold a position are left out, others are whole; only these kinds come."""
    segment = _compacted(storage, _group(storage))
    found = list(read_compacted(storage, segment.path, columns=["kind", "job_id"], kinds=["job.started"]))
    table = pa.concat_tables(found)
    assert table.column_names == ["position", "kind", "job_id"]
    assert set(table["kind"].to_pylist()) == {"job.started"}
    assert table["position"].to_pylist() == [n for n in range(100, 125) if n % 4 > 1]
    asked = [(112, 113, [110]), (0, 101, [100]), (110, 121, [110, 120]), (125, None, []), (0, 100, [])]
    for start, end, firsts in asked:
        found = list(read_compacted(storage, segment.path, start=start, end=end))
        assert [one["position"][0].as_py() for one in found] == firsts
    assert [one.num_rows for one in read_compacted(storage, segment.path, columns=[])] == [10, 10, 5]
    assert list(read_compacted(storage, segment.path, kinds=["tags.recorded"])) == []


def _harm(storage: FsspecStorage, path: str, group: int, column: str) -> None:
    """Flip a bit in the pages of one column of one row group."""
    local = storage.local_path(path)
    assert local is not None
    about = pq.read_metadata(local).row_group(group)
    place = next(n for n in range(about.num_columns) if about.column(n).path_in_schema == column)
    chunk = about.column(place)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    flip(local, start + chunk.total_compressed_size - 3)


def test_row_groups_of_other_kinds_and_blocks_are_not_touched(storage: FsspecStorage) -> None:
    """Damage in one of them is met by whoever asks for its kind or its positions, and by nobody else."""
    segment = _compacted(storage, _group(storage))
    beats_of_first = 0  # "execution.heartbeat" comes before "job.started" and "value.recorded"
    _harm(storage, segment.path, beats_of_first, "execution_id")

    def read(**asked: object) -> None:
        list(read_compacted(storage, segment.path, **asked))  # type: ignore[arg-type]

    read(kinds=["job.started", "value.recorded"])
    read(start=110)
    read(columns=["kind", "job_id"])
    for asked in ({}, {"kinds": ["execution.heartbeat"]}, {"start": 109, "columns": ["execution_id"]}):
        with pytest.raises(IntegrityError) as caught:
            read(**asked)
        assert (caught.value.code, caught.value.path) == ("segment_damaged", segment.path)


def test_statistics_tell_what_a_row_group_holds(storage: FsspecStorage) -> None:
    """Position, kind, writer and times have them; random bytes do not."""
    segment = _compacted(storage, _group(storage))
    local = storage.local_path(segment.path)
    assert local is not None
    meta = pq.read_metadata(local)
    about = meta.row_group(0)
    told = {about.column(n).path_in_schema: about.column(n).statistics for n in range(about.num_columns)}
    for name in ("position", "kind", "writer", "recorded_at", "occurred_at", "execution_id"):
        assert told[name] is not None, name
    assert told["event_hash"] is None
    assert meta.num_row_groups == sum(
        len({n % 4 if n % 4 < 2 else 2 for n in range(start, min(start + MOST, 125))})
        for start in range(100, 125, MOST)
    )


# what is not as it should be ------------------------------------------------------------------------------


def _rewritten(storage: FsspecStorage, segment: Segment, **changes: object) -> str:
    """The same rows with another footer, under a name that fits the bytes; returns its path."""
    local = storage.local_path(segment.path)
    assert local is not None
    file = pq.ParquetFile(local)
    footer = json.loads(file.metadata.metadata[b"eventstore"]) | changes
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, file.schema_arrow, write_statistics=True) as writer:
        for group in range(file.num_row_groups):
            writer.write_table(file.read_row_group(group))
        writer.add_key_value_metadata({b"eventstore": json.dumps(footer).encode()})
    raw = sink.getvalue().to_pybytes()
    path = layout.compacted_path(100, 125, hashlib.sha256(raw).hexdigest())
    storage.put(path, raw)
    return path


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"blocks": [10, 10, 4]}, "it holds 24 events"),
        ({"blocks": [9, 11, 5]}, "row groups are not those of its blocks"),
        ({"blocks": [25]}, None),
        ({"blocks": None}, "is damaged"),
        ({"first_position": 99}, "names other positions than its name"),
        ({"end_position": None}, "names other positions than its name"),
    ],
    ids=str,
)
def test_a_footer_that_does_not_fit_is_damage(
    storage: FsspecStorage, changes: dict[str, object], found: str | None
) -> None:
    """Blocks and positions are compared with the rows and the name."""
    path = _rewritten(storage, _compacted(storage, _group(storage)), **changes)
    if found is None:
        assert sum(table.num_rows for table in read_compacted(storage, path)) == 25
        return
    with pytest.raises(IntegrityError, match=found) as caught:
        list(read_compacted(storage, path))
    assert caught.value.code == "segment_damaged"


def test_a_segment_of_another_store_or_format_is_refused(storage: FsspecStorage) -> None:
    """The footer says what it belongs to."""
    segment = _compacted(storage, _group(storage))
    with pytest.raises(FormatError) as caught:
        list(read_compacted(storage, segment.path, store_id="cd" * 16))
    assert caught.value.code == "other_store"
    path = _rewritten(storage, segment, format=2)
    with pytest.raises(FormatError, match="found format 2; upgrade") as caught:
        list(read_compacted(storage, path))
    assert caught.value.code == "newer_format"


def test_a_missing_file_and_a_writers_segment_are_told_apart(storage: FsspecStorage) -> None:
    """By the errors that a writer's segment has."""
    group = _group(storage)
    with pytest.raises(NotFoundError) as missing:
        list(read_compacted(storage, layout.compacted_path(0, 5, "a" * 64)))
    assert missing.value.code == "segment_missing"
    with pytest.raises(IntegrityError):
        list(read_compacted(storage, group[0].path))
    with pytest.raises(IntegrityError, match="it holds 5 events where 6 were sealed"):
        list(read_placed(storage, replace(group[0], count=6)))
    rows = [row for row, _ in read_segment(storage, group[0].path)]
    assert rows == [0]


def test_in_memory_it_is_the_same() -> None:
    """Where there are no local files, all is read through the storage; the footer alone by ranges."""
    storage = open_storage("memory://compacted-in-memory")
    group = _group(storage)
    segment = _compacted(storage, group)
    assert read_blocks(storage, segment.path) == (10, 10, 5)
    assert _whole(storage, [segment]).equals(_whole(storage, group))
