"""A writer's own segment: encoded whole from a table of its events, described and read back checked.

Its name carries the SHA-256 of the file, so whoever has the name can tell whether the bytes are right. The
footer says who wrote which events, for readers who have only the file.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eventstore import layout
from eventstore.codec.schema import DICTIONARY_COLUMNS, FORMAT_VERSION, SCHEMA
from eventstore.errors import FormatError
from eventstore.filesystem import Storage
from eventstore.ids import Digest, WriterId
from eventstore.segment.facts import KindCount, Segment, SegmentFile, WriterRun
from eventstore.segment.opening import (
    META,
    check_bytes,
    damaged,
    events_digest,
    opened,
    other_store,
    translated,
    with_nulls,
)

__all__ = ["ROW_GROUP_BYTES", "ROW_GROUP_ROWS", "count_kinds", "describe", "encode_segment", "read_segment"]

_VERSIONS = 1 << 32
ROW_GROUP_BYTES = 32 * 1024 * 1024
"""Uncompressed bytes that a row group aims at; its rows are at most `ROW_GROUP_ROWS`."""
ROW_GROUP_ROWS = 131_072


def encode_segment(table: pa.Table, *, day: str, store_id: str) -> SegmentFile:
    """Encode a table of events of one writer, in order of sequence, as a segment file.

    Parameters
    ----------
    table
        All columns of the format, at least one row, event hashes included.
    day
        The folder, ``yyyy/mm/dd``.
    store_id
        The store that it belongs to; the footer names it.
    """
    known = _facts(table)
    (run,) = known["writers"]
    meta = {
        "format": FORMAT_VERSION,
        "store_id": store_id,
        "writer": run.writer,
        "first_sequence": run.first_sequence,
        "last_sequence": run.end_sequence - 1,
        "events_digest": events_digest(table["event_hash"]),
    }
    footer = json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()
    sink = pa.BufferOutputStream()
    rows = max(1, min(ROW_GROUP_ROWS, table.num_rows * ROW_GROUP_BYTES // max(1, table.nbytes)))
    pq.write_table(
        table.replace_schema_metadata({META: footer}),
        sink,
        row_group_size=rows,
        compression="zstd",
        compression_level=3,
        use_dictionary=list(DICTIONARY_COLUMNS),
        column_encoding={
            "sequence": "DELTA_BINARY_PACKED",
            "recorded_at": "DELTA_BINARY_PACKED",
            "occurred_at": "DELTA_BINARY_PACKED",
        },
        write_statistics=["kind", "writer", "sequence", "recorded_at", "execution_id"],
        write_page_checksum=True,
        store_schema=True,
    )
    data = sink.getvalue().to_pybytes()
    digest = Digest(hashlib.sha256(data).hexdigest())
    path = layout.segment_path(day, run.writer, run.first_sequence, digest)
    return SegmentFile(Segment(path=path, digest=digest, size_bytes=len(data), **known), data)


def _facts(table: pa.Table) -> dict[str, Any]:
    times = pc.min_max(table["recorded_at"].cast(pa.int64()))
    writer, first = WriterId(table["writer"][0].as_py()), table["sequence"][0].as_py()
    return {
        "writers": (WriterRun(writer, first, table.num_rows),),
        "count": table.num_rows,
        "recorded_from_us": times["min"].as_py(),
        "recorded_to_us": times["max"].as_py(),
        "kinds": tuple(sorted(KindCount(*kind, count) for kind, count in count_kinds(table).items())),
    }


def count_kinds(table: pa.Table) -> Counter[tuple[str, int]]:
    """Return how many events of each kind and version there are."""
    kinds = pc.dictionary_encode(table["kind"].combine_chunks())
    # Numbered together: grouping by two columns would import pyarrow's engine for datasets.
    both = pc.add(pc.multiply(kinds.indices.cast(pa.int64()), _VERSIONS), table["version"].cast(pa.int64()))
    found: Counter[tuple[str, int]] = Counter()
    for each in pc.value_counts(both).to_pylist():
        kind, version = divmod(each["values"], _VERSIONS)
        found[kinds.dictionary[kind].as_py(), version] = each["counts"]
    return found


def read_segment(
    storage: Storage,
    path: str,
    *,
    columns: Sequence[str] | None = None,
    first_row: int = 0,
    raw: bytes | None = None,
) -> Iterator[tuple[int, pa.Table]]:
    """Yield a writer's segment by row groups, each with the number of its first row.

    Parameters
    ----------
    columns
        Those to read; None reads all.
    first_row
        Row groups that end before this row are skipped; the others are whole.
    raw
        The file's bytes, where they are at hand. Pages are checked by their own checksums as they are
        read; `check_bytes` compares a whole file with the digest in its name.

    Raises
    ------
    NotFoundError
        No such file (code ``segment_missing``).
    IntegrityError
        The file is truncated or altered (code ``segment_damaged``).
    FormatError
        A newer format, or a Parquet file that is no segment.
    """
    with opened(storage, path, raw) as (file, _):
        asked = columns or SCHEMA.names
        names = set(file.schema_arrow.names)
        there = [name for name in dict.fromkeys(asked) if name in names]
        start = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if start + rows > first_row:
                yield start, with_nulls(file.read_row_group(group, columns=there), asked)
            start += rows


def describe(storage: Storage, path: str, *, store_id: str) -> tuple[Segment, list[bytes]]:
    """Return what is known of a segment that someone else wrote, and its event hashes in order.

    The whole file is read and compared with the digest in its name. Raises like `read_segment`, and
    FormatError (code ``other_store``) for a segment of another store.
    """
    name = layout.parse_segment(path)
    if name is None:
        raise FormatError(f"a segment's path was expected, found {path!r}", path=path)
    columns = ["kind", "version", "writer", "sequence", "recorded_at", "event_hash"]
    with translated(path, storage):
        raw = storage.read(path)
        check_bytes(path, raw)
        with opened(storage, path, raw) as (file, footer):
            table = file.read(columns=columns)
    if footer.get("store_id") != store_id:
        raise other_store(path, store_id, footer.get("store_id"))
    if not table.num_rows:
        raise damaged(path, "it holds no event")
    segment = Segment(path=path, digest=name.digest, size_bytes=len(raw), **_facts(table))
    if (segment.writer, segment.first_sequence) != (name.writer, name.first_sequence):
        raise damaged(path, f"its first event is {segment.writer}-{segment.first_sequence}")
    _check_run(path, table)
    if footer.get("events_digest") != events_digest(table["event_hash"]):
        raise damaged(path, "its event hashes do not have the digest that its footer states")
    return segment, table["event_hash"].to_pylist()


def _check_run(path: str, table: pa.Table) -> None:
    """Check that rows are by one writer, numbered without a gap, and in order of time."""
    first, rows = table["sequence"][0].as_py(), table.num_rows
    times = table["recorded_at"].combine_chunks().cast(pa.int64())
    checks = {
        "by one writer": pc.equal(table["writer"], table["writer"][0]),
        "numbered without a gap": pc.equal(
            table["sequence"], pa.chunked_array([pa.arange(first, first + rows)])
        ),
        "in order of time": pc.less_equal(times[:-1], times[1:]),
    }
    for words, good in checks.items():
        if good.null_count or not pc.all(good, min_count=0).as_py():
            raise damaged(path, f"its events were expected {words}, and are not")
