"""The snapshot of the sequence: one Parquet file that sums up all seals up to one, so that opening is quick.

It is derived from the chain and nothing of it is believed: its segments must give the `entries` of the seal.
"""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from eventstore.chain import SealedSegments, Snapshot
from eventstore.codec.payload import dump_json
from eventstore.codec.schema import FORMAT_VERSION
from eventstore.errors import FormatError, IntegrityError
from eventstore.ids import Digest, Position, WriterId
from eventstore.merkle import Peaks
from eventstore.seal import Seal, plain_segment
from eventstore.segment import KindCount, Segment, WriterRun

__all__ = ["decode_snapshot", "encode_snapshot"]

_META = b"eventstore"
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("count", pa.int64()),
        ("recorded_from_us", pa.int64()),
        ("recorded_to_us", pa.int64()),
        ("first_position", pa.int64()),
        ("writers", pa.string()),
        ("kinds", pa.string()),
    ]
)
_LISTS = ("writers", "kinds")


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the bytes of a snapshot's file."""
    plain = [plain_segment(segment) for segment in snapshot.segments]
    columns = {
        name: [dump_json(row[name]).decode() if name in _LISTS else row[name] for row in plain]
        for name in _SCHEMA.names
    }
    meta = {"format": FORMAT_VERSION, "number": snapshot.number, "store_id": snapshot.store_id}
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pydict(columns, schema=_SCHEMA.with_metadata({_META: dump_json(meta)})),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def decode_snapshot(path: str, raw: bytes, digest: Digest, seal: Seal) -> Snapshot:
    """Read the snapshot of the sequence up to `seal`, whose digest is `digest`.

    Raises
    ------
    IntegrityError
        It is truncated or altered (code ``snapshot_damaged``); the seals themselves still serve.
    FormatError
        Written by a newer version (code ``newer_format``).
    """
    try:
        segments = _decode_segments(path, raw, seal)
    except FormatError:
        raise
    except Exception as error:
        # Altered bytes can break a decoder in any way; whatever it was, the seals serve.
        raise IntegrityError(
            f"the snapshot {path!r} is damaged: {error}; delete it, the seals serve without it",
            code="snapshot_damaged",
            path=path,
        ) from error
    return Snapshot(
        store_id=seal.store_id,
        number=seal.number,
        digest=digest,
        peaks=Peaks(seal.size, seal.peaks),
        sealed_at=seal.sealed_at,
        segments=segments,
        writers={run.writer: run.end_sequence for segment in segments for run in segment.writers},
    )


def _decode_segments(path: str, raw: bytes, seal: Seal) -> SealedSegments:
    with pq.ParquetFile(pa.BufferReader(raw), page_checksum_verification=True) as file:
        meta = json.loads(file.schema_arrow.metadata[_META])
        if meta["format"] != FORMAT_VERSION:
            raise FormatError(
                f"format {FORMAT_VERSION} was expected in {path!r}, found {meta['format']}; upgrade "
                "eventstore",
                code="newer_format",
                path=path,
            )
        table = file.read()
    if (meta["number"], meta["store_id"]) != (seal.number, seal.store_id):
        raise ValueError(f"it is number {meta['number']} of the store {meta['store_id']}")
    segments = _segments(table)
    if segments.entries != seal.entries:
        raise ValueError("its segments are not those of the seals that it sums up")
    return segments


def _segments(table: pa.Table) -> SealedSegments:
    """Build the segments column by column: the rows of a long history are many."""
    columns = {name: table[name].to_pylist() for name in _SCHEMA.names}
    kinds = {text: tuple(KindCount(*kind) for kind in json.loads(text)) for text in set(columns["kinds"])}
    return SealedSegments().then(
        Segment(
            path=path,
            # By the form of a segment's name, which a seal's reader checks and `entries` then vouches for.
            digest=Digest(path[-72:-8]),
            size_bytes=size_bytes,
            writers=tuple(
                WriterRun(WriterId(writer), first, count) for writer, first, count in json.loads(writers)
            ),
            count=count,
            recorded_from_us=recorded_from_us,
            recorded_to_us=recorded_to_us,
            kinds=kinds[text],
            first_position=Position(first_position),
        )
        for path, size_bytes, count, recorded_from_us, recorded_to_us, first_position, writers, text in zip(
            *columns.values(), strict=True
        )
    )
