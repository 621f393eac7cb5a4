"""One immutable Parquet segment: written whole from a table of events, read back checked.

A segment's name carries the SHA-256 of the file, so whoever has the name can tell whether the bytes are
right. The footer says who wrote which events, for readers who have only the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eventstore import layout
from eventstore.codec.schema import DICTIONARY_COLUMNS, FORMAT_VERSION, SCHEMA
from eventstore.errors import EventStoreError, FormatError, IntegrityError, NotFoundError
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
        start = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if start + rows > first_row:
                table = file.read_row_group(group, columns=columns)
                yield start, table.replace_schema_metadata(None)
            start += rows


@contextlib.contextmanager
def _translated(path: str, storage: Storage) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise missing(path, storage.url) from error
    except EventStoreError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, AttributeError) as error:
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


def describe(storage: Storage, path: str) -> tuple[Segment, list[bytes]]:
    """Return what is known of a segment that someone else wrote, and its event hashes in order.

    The whole file is read and compared with the digest in its name. Raises like `read_segment`.
    """
    name = layout.parse_segment(path)
    if name is None:
        raise FormatError(f"a segment's path was expected, found {path!r}", path=path)
    columns = ["kind", "version", "writer", "sequence", "recorded_at", "event_hash"]
    with _translated(path, storage):
        raw = storage.read(path)
        check_bytes(path, raw)
        with pq.ParquetFile(pa.BufferReader(raw)) as file:
            _check_footer(path, file)
            table = file.read(columns=columns)
    known = _facts(table)
    if (known["writer"], known["first_sequence"]) != (name.writer, name.first_sequence):
        raise damaged(path, f"its first event is {known['writer']}-{known['first_sequence']}")
    segment = Segment(path=path, digest=name.digest, size_bytes=len(raw), **known)
    return segment, table["event_hash"].to_pylist()


def _check_footer(path: str, file: pq.ParquetFile) -> None:
    raw = (file.schema_arrow.metadata or {}).get(_META)
    if raw is None:
        raise FormatError(
            f"a segment of an event store was expected in {path!r}, found a Parquet file without the "
            "`eventstore` footer; move it out of the store",
            code="not_a_segment",
            path=path,
        )
    version = json.loads(raw).get("format")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"a segment of format {FORMAT_VERSION} was expected in {path!r}, found format {version}; "
            "upgrade eventstore to read it",
            code="newer_format",
            path=path,
        )
    types = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
    wrong = sorted(field.name for field in SCHEMA if types.get(field.name) != field.type)
    if wrong:
        raise damaged(path, f"the columns {wrong} are missing or of another type")


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
