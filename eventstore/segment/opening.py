"""Opening a segment's file: its bytes against its name, its footer, its columns.

What Arrow and the filesystem raise meanwhile becomes our errors.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eventstore import layout
from eventstore.codec.schema import FORMAT_VERSION, HEADER_COLUMNS, POSITION, SCHEMA
from eventstore.errors import (
    EventStoreError,
    FormatError,
    IntegrityError,
    NotFoundError,
    StorageError,
)
from eventstore.filesystem import Storage
from eventstore.ids import Digest

__all__ = [
    "META",
    "check_bytes",
    "check_footer",
    "damaged",
    "digest_in",
    "events_digest",
    "missing",
    "opened",
    "other_store",
    "raw_hashes",
    "store_id_in",
    "translated",
    "with_nulls",
]

_FIELDS = pa.schema([POSITION, *SCHEMA])
META = b"eventstore"
"""Key of the footer, in the key-value metadata of the Parquet file."""


def events_digest(hashes: pa.ChunkedArray) -> str:
    """SHA-256 over the event hashes one after another: the content of a segment, blind to Parquet."""
    digest = hashlib.sha256()
    for raw in raw_hashes(hashes):
        digest.update(raw)
    return digest.hexdigest()


def raw_hashes(hashes: pa.ChunkedArray) -> Iterator[memoryview]:
    """Yield the bytes of event hashes, which are never null, as they lie in memory."""
    width = hashes.type.byte_width
    for chunk in hashes.chunks:
        start = chunk.offset * width
        yield memoryview(chunk.buffers()[1])[start : start + len(chunk) * width]


def digest_in(path: str) -> Digest | None:
    """Return the SHA-256 that a segment's name promises; None for any other path."""
    name = layout.parse_segment(path) or layout.parse_compacted(path)
    return name.digest if name is not None else None


def check_bytes(path: str, raw: bytes) -> None:
    """Raise IntegrityError unless `raw` is what the segment's name promises."""
    found = hashlib.sha256(raw).hexdigest()
    if digest_in(path) != found:
        raise damaged(path, f"its {len(raw)} bytes have SHA-256 {found}")


@contextlib.contextmanager
def opened(
    storage: Storage, path: str, raw: bytes | None = None, *, ranged: bool = False
) -> Iterator[tuple[pq.ParquetFile, Mapping[str, Any]]]:
    """Open a segment and check its footer and the types of its columns; yields the file and the footer.

    Errors of Arrow and of the filesystem inside the block come out as ours. A remote file is fetched whole,
    unless only `ranged` parts of it are to be read.
    """
    with (
        translated(path, storage),
        _source(storage, path, raw, ranged=ranged) as source,
        pq.ParquetFile(source, page_checksum_verification=True) as file,
    ):
        yield file, check_footer(path, file)


@contextlib.contextmanager
def translated(path: str, storage: Storage) -> Iterator[None]:
    """Turn what reading a segment raises into our errors."""
    try:
        yield
    except NotFoundError as error:
        raise missing(path, storage.url) from error
    except EventStoreError:
        raise
    except OSError as error:
        if error.errno is None:  # Arrow's own: the bytes do not decode
            raise damaged(path, str(error)) from error
        if error.errno == errno.ENOENT:  # gone between a look and the opening
            raise missing(path, storage.url) from error
        raise StorageError(
            f"the segment {path!r} in {storage.url} could not be read: {error.strerror or error}; check the "
            "place, then read again",
            code="segment_unreadable",
            transient=error.errno in (errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EIO),
            path=path,
        ) from error
    except (pa.ArrowException, ValueError, KeyError, AttributeError, TypeError) as error:
        raise damaged(path, str(error)) from error


@contextlib.contextmanager
def _source(storage: Storage, path: str, raw: bytes | None, *, ranged: bool) -> Iterator[Any]:
    local = storage.local_path(path)
    if raw is None and local is None and ranged:
        with storage.open(path) as stream:
            yield pa.PythonFile(stream, mode="r")
    elif raw is not None or local is None:
        yield pa.BufferReader(storage.read(path) if raw is None else raw)
    elif not local.is_file():
        raise missing(path, storage.url)
    else:
        yield str(local)


def check_footer(path: str, file: pq.ParquetFile) -> Mapping[str, Any]:
    """Return what the footer says; raises FormatError or IntegrityError unless the file is a segment."""
    raw = (file.metadata.metadata or {}).get(META)
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


def store_id_in(raw: bytes) -> object:
    """Return the store that a segment's footer names."""
    return json.loads(pq.read_metadata(pa.BufferReader(raw)).metadata[META]).get("store_id")


def with_nulls(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """Return the columns of the format by these names; those that are younger than the file are null."""
    schema = pa.schema([_FIELDS.field(name) for name in dict.fromkeys(names)])
    if table.num_columns == len(schema):
        return table.select(schema.names).replace_schema_metadata(None)
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


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


def other_store(path: str, expected: str, found: object) -> FormatError:
    """Build the error for a segment of another store."""
    return FormatError(
        f"a segment of the store {expected} was expected in {path!r}, found one of {found!r}; move it out of "
        "this store",
        code="other_store",
        path=path,
    )
