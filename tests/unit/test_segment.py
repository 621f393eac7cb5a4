"""A segment is written once and read back checked: no damage passes for an answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_kit import DAY, STORE_ID, WRITERS, beats, cut, flip, rows_of, segment_of, value

from eventstore import FormatError, IntegrityError, NotFoundError, layout
from eventstore.codec.canonical import event_hashes
from eventstore.codec.rows import table_of
from eventstore.codec.schema import SCHEMA
from eventstore.filesystem import FsspecStorage, open_storage
from eventstore.ids import EventId
from eventstore.segment import SegmentFile, check_bytes, describe, encode_segment, read_segment


@pytest.fixture
def storage(tmp_path: Path) -> FsspecStorage:
    """An empty place."""
    return open_storage(tmp_path)


@pytest.fixture
def made() -> SegmentFile:
    """A segment of three events, of two kinds."""
    return segment_of([*beats("a", "b"), value(b"123")], first=5)[0]


@pytest.fixture
def stored(storage: FsspecStorage, made: SegmentFile, tmp_path: Path) -> Path:
    """The same, put."""
    storage.put(made.segment.path, made.data)
    return tmp_path / made.segment.path


def test_what_is_known_of_a_segment_is_what_is_in_it(made: SegmentFile) -> None:
    """Writer, numbers, times, kinds, size and digest are taken from the events and the bytes."""
    segment = made.segment
    assert (segment.writer, segment.first_sequence, segment.count, segment.end_sequence) == (
        WRITERS[0],
        5,
        3,
        8,
    )
    assert (segment.recorded_from_us, segment.recorded_to_us) == (1_000_000, 1_000_000)
    assert [(kind.kind, kind.version, kind.count) for kind in segment.kinds] == [
        ("execution.heartbeat", 1, 2),
        ("value.recorded", 1, 1),
    ]
    assert segment.size_bytes == len(made.data)
    name = layout.parse_segment(segment.path)
    assert name is not None
    assert (name.day, name.digest) == (DAY, segment.digest)
    check_bytes(segment.path, made.data)


def test_a_segment_without_a_position_has_no_end(made: SegmentFile) -> None:
    """Positions come with a seal."""
    with pytest.raises(ValueError, match="is not sealed"):
        _ = made.segment.end_position


def test_a_segment_holds_its_own_events_and_no_others(made: SegmentFile) -> None:
    """By writer and sequence."""
    held = [EventId(WRITERS[0], sequence) for sequence in range(10)]
    assert [event.sequence for event in held if made.segment.holds(event)] == [5, 6, 7]
    assert not made.segment.holds(EventId(WRITERS[1], 5))


def test_another_reads_what_was_written(storage: FsspecStorage, stored: Path, made: SegmentFile) -> None:
    """`describe` finds the same facts, and the hashes in order, from the file alone."""
    segment, hashes = describe(storage, made.segment.path, store_id=STORE_ID)
    assert segment == made.segment
    ((start, table),) = read_segment(storage, made.segment.path)
    assert start == 0
    assert table.schema.equals(SCHEMA)
    assert table["event_hash"].to_pylist() == hashes
    assert table["sequence"].to_pylist() == [5, 6, 7]


def test_the_footer_tells_who_wrote_what(stored: Path) -> None:
    """Someone who has only the file finds store, writer and sequences."""
    meta = json.loads(pq.read_schema(stored).metadata[b"eventstore"])
    assert meta["format"] == 1
    assert (meta["store_id"], meta["writer"]) == (STORE_ID, WRITERS[0])
    assert (meta["first_sequence"], meta["last_sequence"]) == (5, 7)


def test_row_groups_that_are_not_asked_for_are_skipped(
    storage: FsspecStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading from the middle begins with the row group that holds the first row."""
    monkeypatch.setattr("eventstore.segment.own.ROW_GROUP_ROWS", 2)
    made, _ = segment_of(beats(*"abcdefg"))
    storage.put(made.segment.path, made.data)
    starts = [start for start, _ in read_segment(storage, made.segment.path, first_row=3)]
    assert starts == [2, 4, 6]
    columns = [table.column_names for _, table in read_segment(storage, made.segment.path, columns=["kind"])]
    assert columns == [["kind"]] * 4


def test_a_missing_segment_is_not_found(storage: FsspecStorage, made: SegmentFile) -> None:
    """The error names the file and says what to do."""
    for call in (
        lambda: list(read_segment(storage, made.segment.path)),
        lambda: describe(storage, made.segment.path, store_id=STORE_ID),
    ):
        with pytest.raises(NotFoundError, match="restore it from a copy") as caught:
            call()
        assert caught.value.code == "segment_missing"
        assert caught.value.path == made.segment.path


@pytest.mark.parametrize("length", [0, 1, 4, 100, -1])
def test_a_truncated_segment_is_damage(
    storage: FsspecStorage, stored: Path, made: SegmentFile, length: int
) -> None:
    """Whatever is left, both ways of reading refuse it and name the file."""
    cut(stored, length if length >= 0 else len(made.data) + length)
    for call in (
        lambda: list(read_segment(storage, made.segment.path)),
        lambda: describe(storage, made.segment.path, store_id=STORE_ID),
    ):
        with pytest.raises(IntegrityError, match="restore the file from a copy") as caught:
            call()
        assert caught.value.code == "segment_damaged"
        assert caught.value.path == made.segment.path


def test_a_flipped_bit_anywhere_is_damage(storage: FsspecStorage, stored: Path, made: SegmentFile) -> None:
    """`describe` compares the whole file with its name."""
    for offset in range(0, len(made.data), 97):
        flip(stored, offset, offset % 8)
        with pytest.raises(IntegrityError) as caught:
            describe(storage, made.segment.path, store_id=STORE_ID)
        assert caught.value.code == "segment_damaged"
        flip(stored, offset, offset % 8)
    describe(storage, made.segment.path, store_id=STORE_ID)


def _rewritten(made: SegmentFile, *, meta: dict[str, Any] | None, table: pa.Table | None = None) -> bytes:
    """The same events with another footer."""
    table = table or pq.read_table(pa.BufferReader(made.data))
    sink = pa.BufferOutputStream()
    footer = {b"eventstore": json.dumps(meta).encode()} if meta is not None else None
    pq.write_table(table.replace_schema_metadata(footer), sink)
    return sink.getvalue().to_pybytes()


def test_a_segment_of_a_newer_format_is_refused(storage: FsspecStorage, made: SegmentFile) -> None:
    """The footer's format decides, and the message says to upgrade."""
    storage.put(made.segment.path, _rewritten(made, meta={"format": 2}))
    with pytest.raises(FormatError, match=r"format 1 was expected in .*found format 2; upgrade") as caught:
        list(read_segment(storage, made.segment.path))
    assert caught.value.code == "newer_format"


def test_a_parquet_file_of_someone_else_is_no_segment(storage: FsspecStorage, made: SegmentFile) -> None:
    """Without our footer it is not ours."""
    storage.put(made.segment.path, _rewritten(made, meta=None))
    with pytest.raises(FormatError, match="move it out of the store") as caught:
        list(read_segment(storage, made.segment.path))
    assert caught.value.code == "not_a_segment"


@pytest.mark.parametrize("change", ["missing", "type"])
def test_a_segment_with_other_columns_is_damage(
    storage: FsspecStorage, made: SegmentFile, change: str
) -> None:
    """Every column of the format is there, with its type."""
    table = pq.read_table(pa.BufferReader(made.data))
    place = table.schema.get_field_index("sequence")
    if change == "missing":
        table = table.remove_column(place)
    else:
        table = table.set_column(place, "sequence", table["sequence"].cast(pa.int32()))
    storage.put(made.segment.path, _rewritten(made, meta={"format": 1}, table=table))
    with pytest.raises(IntegrityError, match="'sequence'") as caught:
        list(read_segment(storage, made.segment.path))
    assert caught.value.code == "segment_damaged"


def test_a_footer_that_is_no_object_is_damage(storage: FsspecStorage, made: SegmentFile) -> None:
    """A crafted footer is refused like a broken one."""
    storage.put(made.segment.path, _rewritten(made, meta=[1]))  # type: ignore[arg-type]
    with pytest.raises(IntegrityError) as caught:
        list(read_segment(storage, made.segment.path))
    assert caught.value.code == "segment_damaged"


def test_a_path_that_is_no_segments_is_refused(storage: FsspecStorage) -> None:
    """`describe` reads nothing that is not named as the format says."""
    with pytest.raises(FormatError, match="a segment's path was expected"):
        describe(storage, "segments/else.parquet", store_id=STORE_ID)


def test_events_under_the_name_of_others_are_damage(storage: FsspecStorage) -> None:
    """The first event is the one that the name says."""
    made, _ = segment_of(beats("a"), first=3)
    name = layout.parse_segment(made.segment.path)
    assert name is not None
    path = layout.segment_path(name.day, name.writer, 4, name.digest)
    storage.put(path, made.data)
    with pytest.raises(IntegrityError, match="its first event is") as caught:
        describe(storage, path, store_id=STORE_ID)
    assert caught.value.code == "segment_damaged"


def test_the_name_of_a_segment_is_that_of_its_bytes() -> None:
    """Salts make each encoding its own file."""
    first, again = segment_of(beats("a"))[0], segment_of(beats("a"))[0]
    assert first.segment.path != again.segment.path
    table = table_of(rows_of(beats("a")), writer=WRITERS[0], actor=None, software=None)
    paths = {encode_segment(table, day=DAY, store_id=STORE_ID).segment.path for _ in range(2)}
    assert len(paths) == 1


def test_a_segment_of_another_store_is_refused(
    storage: FsspecStorage, stored: Path, made: SegmentFile
) -> None:
    """A copy from elsewhere is told by its footer, so nobody seals it here."""
    with pytest.raises(FormatError, match="one of") as caught:
        describe(storage, made.segment.path, store_id="cd" * 16)
    assert caught.value.code == "other_store"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("writer", WRITERS[1], "by one writer"),
        ("sequence", 9, "without a gap"),
        ("recorded_at", 1, "in order of time"),
        ("event_hash", bytes(32), "footer states"),
    ],
)
def test_rows_that_are_no_run_of_one_writer_are_refused(
    storage: FsspecStorage, made: SegmentFile, column: str, value: object, words: str
) -> None:
    """Whoever seals a segment of another first sees that its rows are what a writer puts."""
    footer = pq.ParquetFile(pa.BufferReader(made.data)).schema_arrow.metadata
    table = pq.read_table(pa.BufferReader(made.data))
    cells = (
        table[column].cast(pa.int64()).to_pylist() if column == "recorded_at" else table[column].to_pylist()
    )
    cells[1] = value
    changed = pa.array(cells, pa.int64()).cast(table[column].type) if column == "recorded_at" else cells
    place = table.schema.get_field_index(column)
    table = table.set_column(place, table.schema.field(column), pa.array(changed, table[column].type))
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(footer), sink)
    raw = sink.getvalue().to_pybytes()
    path = layout.segment_path(DAY, WRITERS[0], 5, hashlib.sha256(raw).hexdigest())
    storage.put(path, raw)
    with pytest.raises(IntegrityError, match=words):
        describe(storage, path, store_id=STORE_ID)


def test_columns_that_are_younger_than_a_file_are_null(storage: FsspecStorage, made: SegmentFile) -> None:
    """A file from before a body column was added is read, and the hashes of its events stand."""
    parquet = pq.ParquetFile(pa.BufferReader(made.data))
    footer, table = parquet.schema_arrow.metadata, parquet.read()
    empty = [name for name in ("payload", "stream") if table[name].null_count == table.num_rows]
    sink = pa.BufferOutputStream()
    pq.write_table(table.drop_columns(empty).replace_schema_metadata(footer), sink)
    raw = sink.getvalue().to_pybytes()
    path = layout.segment_path(DAY, WRITERS[0], 5, hashlib.sha256(raw).hexdigest())
    ((_, found),) = read_segment(storage, path, raw=raw)
    assert empty
    assert found.schema == SCHEMA
    assert event_hashes(found) == table["event_hash"].to_pylist()
