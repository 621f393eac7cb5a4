"""One immutable Parquet segment: written whole from a table of events, read back checked.

A segment's name carries the SHA-256 of the file, so whoever has the name can tell whether the bytes are
right. The footer says who wrote which events, for readers who have only the file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eventstore import layout
from eventstore.codec.schema import DICTIONARY_COLUMNS, FORMAT_VERSION, HEADER_COLUMNS, SCHEMA
from eventstore.errors import (
    EventStoreError,
    FormatError,
    IntegrityError,
    NotFoundError,
    StorageError,
)
from eventstore.filesystem import Storage
from eventstore.ids import Digest, EventId, Position, WriterId

__all__ = ["KindCount", "Segment", "SegmentFile", "describe", "encode_segment", "read_segment"]

ROW_GROUP_BYTES = 32 * 1024 * 1024
"""Uncompressed bytes that a row group aims at; its rows are at most `ROW_GROUP_ROWS`."""
ROW_GROUP_ROWS = 131_072
_META = b"eventstore"


@dataclass(frozen=True, slots=True, order=True)
class KindCount:
    """How many events of one kind and schema version a segment holds."""

    kind: str
    version: int
    count: int


@dataclass(frozen=True, slots=True)
class Segment:
    """What is known of a segment without opening it; times are microseconds of Unix time.

    `first_position` is None until a seal has placed it.
    """

    path: str
    digest: Digest
    size_bytes: int
    writer: WriterId
    first_sequence: int
    count: int
    recorded_from_us: int
    recorded_to_us: int
    kinds: tuple[KindCount, ...]
    first_position: Position | None = None

    @property
    def end_sequence(self) -> int:
        """One past the last sequence number."""
        return self.first_sequence + self.count

    def holds(self, event: EventId) -> bool:
        """Whether the event is in it."""
        return event.writer == self.writer and self.first_sequence <= event.sequence < self.end_sequence

    @property
    def end_position(self) -> int:
        """One past the last position; only for a sealed segment."""
        if self.first_position is None:
            raise ValueError(f"{self.path} is not sealed")
        return self.first_position + self.count


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment in memory: what is known of it, and its bytes."""

    segment: Segment
    data: bytes


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
    meta = {
        "format": FORMAT_VERSION,
        "store_id": store_id,
        "writer": known["writer"],
        "first_sequence": known["first_sequence"],
        "last_sequence": known["first_sequence"] + table.num_rows - 1,
        "events_digest": events_digest(table["event_hash"]),
    }
    footer = json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()
    sink = pa.BufferOutputStream()
    rows = max(1, min(ROW_GROUP_ROWS, table.num_rows * ROW_GROUP_BYTES // max(1, table.nbytes)))
    pq.write_table(
        table.replace_schema_metadata({_META: footer}),
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
    path = layout.segment_path(day, known["writer"], known["first_sequence"], digest)
    return SegmentFile(Segment(path=path, digest=digest, size_bytes=len(data), **known), data)


def events_digest(hashes: pa.ChunkedArray) -> str:
    """SHA-256 over the event hashes one after another: the content of a segment, blind to Parquet."""
    digest = hashlib.sha256()
    for raw in hashes.to_pylist():
        digest.update(raw)
    return digest.hexdigest()


def _facts(table: pa.Table) -> dict[str, Any]:
    times = pc.min_max(table["recorded_at"].cast(pa.int64()))
    groups = table.group_by(["kind", "version"]).aggregate([([], "count_all")]).to_pylist()
    return {
        "writer": WriterId(table["writer"][0].as_py()),
        "first_sequence": table["sequence"][0].as_py(),
        "count": table.num_rows,
        "recorded_from_us": times["min"].as_py(),
        "recorded_to_us": times["max"].as_py(),
        "kinds": tuple(sorted(KindCount(row["kind"], row["version"], row["count_all"]) for row in groups)),
    }


def read_segment(
    storage: Storage,
    path: str,
    *,
    columns: Sequence[str] | None = None,
    first_row: int = 0,
    raw: bytes | None = None,
) -> Iterator[tuple[int, pa.Table]]:
    """Yield a segment's row groups, each with the number of its first row.

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
    with (
        _translated(path, storage),
        _source(storage, path, raw) as source,
        pq.ParquetFile(source, page_checksum_verification=True) as file,
    ):
        _check_footer(path, file)
        asked = pa.schema([SCHEMA.field(name) for name in dict.fromkeys(columns or SCHEMA.names)])
        there = [name for name in asked.names if name in file.schema_arrow.names]
        start = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if start + rows > first_row:
                yield start, _with_nulls(file.read_row_group(group, columns=there), asked)
            start += rows


def _with_nulls(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Add the columns that are younger than the file: nobody said them then."""
    if table.num_columns == len(schema):
        return table.select(schema.names).replace_schema_metadata(None)
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


@contextlib.contextmanager
def _translated(path: str, storage: Storage) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise missing(path, storage.url) from error
    except EventStoreError:
        raise
    except OSError as error:
        if error.errno is None:  # Arrow's own: the bytes do not decode
            raise damaged(path, str(error)) from error
        raise StorageError(
            f"the segment {path!r} in {storage.url} could not be read: {error.strerror or error}; check the "
            "place, then read again",
            code="segment_unreadable",
            transient=error.errno in (errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO),
            path=path,
        ) from error
    except (pa.ArrowException, ValueError, KeyError, AttributeError) as error:
        raise damaged(path, str(error)) from error


@contextlib.contextmanager
def _source(storage: Storage, path: str, raw: bytes | None) -> Iterator[Any]:
    local = storage.local_path(path)
    if raw is not None or local is None:
        yield pa.BufferReader(storage.read(path) if raw is None else raw)
    elif not local.is_file():
        raise missing(path, storage.url)
    else:
        yield str(local)


def check_bytes(path: str, raw: bytes) -> None:
    """Raise IntegrityError unless `raw` is what the segment's name promises."""
    name = layout.parse_segment(path)
    found = hashlib.sha256(raw).hexdigest()
    if name is None or name.digest != found:
        raise damaged(path, f"its {len(raw)} bytes have SHA-256 {found}")


def describe(storage: Storage, path: str, *, store_id: str) -> tuple[Segment, list[bytes]]:
    """Return what is known of a segment that someone else wrote, and its event hashes in order.

    The whole file is read and compared with the digest in its name. Raises like `read_segment`, and
    FormatError (code ``other_store``) for a segment of another store.
    """
    name = layout.parse_segment(path)
    if name is None:
        raise FormatError(f"a segment's path was expected, found {path!r}", path=path)
    columns = ["kind", "version", "writer", "sequence", "recorded_at", "event_hash"]
    with _translated(path, storage):
        raw = storage.read(path)
        check_bytes(path, raw)
        with pq.ParquetFile(pa.BufferReader(raw)) as file:
            footer = _check_footer(path, file)
            table = file.read(columns=columns)
    if footer.get("store_id") != store_id:
        raise FormatError(
            f"a segment of the store {store_id} was expected in {path!r}, found one of "
            f"{footer.get('store_id')!r}; move it out of this store",
            code="other_store",
            path=path,
        )
    if not table.num_rows:
        raise damaged(path, "it holds no event")
    known = _facts(table)
    if (known["writer"], known["first_sequence"]) != (name.writer, name.first_sequence):
        raise damaged(path, f"its first event is {known['writer']}-{known['first_sequence']}")
    _check_run(path, table)
    if footer.get("events_digest") != events_digest(table["event_hash"]):
        raise damaged(path, "its event hashes do not have the digest that its footer states")
    segment = Segment(path=path, digest=name.digest, size_bytes=len(raw), **known)
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


def _check_footer(path: str, file: pq.ParquetFile) -> Mapping[str, Any]:
    raw = (file.schema_arrow.metadata or {}).get(_META)
    if raw is None:
        raise FormatError(
            f"a segment of an event store was expected in {path!r}, found a Parquet file without the "
            "`eventstore` footer; move it out of the store",
            code="not_a_segment",
            path=path,
        )
    footer: Mapping[str, Any] = json.loads(raw)
    version = footer.get("format")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"a segment of format {FORMAT_VERSION} was expected in {path!r}, found format {version}; "
            "upgrade eventstore to read it",
            code="newer_format",
            path=path,
        )
    types = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
    wrong = sorted(
        field.name
        for field in SCHEMA
        if types.get(field.name, field.type) != field.type
        or (field.name in HEADER_COLUMNS and field.name not in types)
    )
    if wrong:
        raise damaged(path, f"the columns {wrong} are missing or of another type")
    return footer


def damaged(path: str, found: str) -> IntegrityError:
    """Build the error for a segment whose bytes are not what was sealed."""
    return IntegrityError(
        f"the segment {path!r} is damaged: {found}; restore the file from a copy and run `eventstore verify`",
        code="segment_damaged",
        path=path,
    )


def missing(path: str, url: str) -> NotFoundError:
    """Build the error for a segment that a seal names and that is not there."""
    return NotFoundError(
        f"the segment {path!r} was expected in {url}, found no file; restore it from a copy and run "
        "`eventstore verify`",
        code="segment_missing",
        path=path,
    )
