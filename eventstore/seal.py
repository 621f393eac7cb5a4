"""One link of the chain that puts segments in order, and the snapshot that sums up all links so far.

A seal is a small JSON file whose digest covers its bytes; it names the seal before by that digest, so a
chain cannot be altered unseen. A snapshot is derived from the chain and only spares reading it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eventstore import layout
from eventstore.codec.payload import dump_json, load_json
from eventstore.codec.schema import FORMAT_VERSION
from eventstore.errors import FormatError, IntegrityError
from eventstore.ids import Digest, Position, WriterId
from eventstore.merkle import Peaks
from eventstore.segment import KindCount, Segment

__all__ = ["GENESIS", "Seal", "Snapshot", "decode_seal", "decode_snapshot", "encode_snapshot"]

GENESIS = Digest("0" * 64)
"""What the first seal names as the seal before it."""

_HEAD, _MIDDLE, _TAIL = b'{"digest":"', b'","seal":', b"}\n"
_META = b"eventstore"


@dataclass(frozen=True, slots=True)
class Seal:
    """A sealed step of the log: the segments it adds, and the tree after them."""

    number: int
    previous: Digest
    store_id: str
    sealed_at: str
    software: str
    segments: tuple[Segment, ...]
    size: int
    peaks: tuple[bytes, ...]
    root: bytes

    def encode(self) -> tuple[Digest, bytes]:
        """Return the seal's digest and the bytes of its file."""
        body = dump_json(
            {
                "format": FORMAT_VERSION,
                "number": self.number,
                "peaks": [peak.hex() for peak in self.peaks],
                "previous": self.previous,
                "root": self.root.hex(),
                "sealed_at": self.sealed_at,
                "segments": [_plain(segment) for segment in self.segments],
                "size": self.size,
                "software": self.software,
                "store_id": self.store_id,
            }
        )
        digest = Digest(hashlib.sha256(body).hexdigest())
        return digest, _HEAD + digest.encode() + _MIDDLE + body + _TAIL


def _plain(segment: Segment) -> dict[str, Any]:
    return {
        "count": segment.count,
        "first_position": segment.first_position,
        "first_sequence": segment.first_sequence,
        "kinds": [[kind.kind, kind.version, kind.count] for kind in segment.kinds],
        "path": segment.path,
        "recorded_from_us": segment.recorded_from_us,
        "recorded_to_us": segment.recorded_to_us,
        "size_bytes": segment.size_bytes,
        "writer": segment.writer,
    }


def _segment(known: Mapping[str, Any]) -> Segment:
    name = layout.parse_segment(known["path"])
    if name is None:
        raise ValueError(f"{known['path']!r} is no segment's path")
    return Segment(
        path=known["path"],
        digest=name.digest,
        size_bytes=known["size_bytes"],
        writer=WriterId(known["writer"]),
        first_sequence=known["first_sequence"],
        count=known["count"],
        recorded_from_us=known["recorded_from_us"],
        recorded_to_us=known["recorded_to_us"],
        kinds=tuple(KindCount(*kind) for kind in known["kinds"]),
        first_position=Position(known["first_position"]),
    )


def decode_seal(path: str, raw: bytes) -> tuple[Digest, Seal]:
    """Read a seal's file; returns its digest and what it says.

    Raises
    ------
    IntegrityError
        The bytes are truncated or altered, or the seal disagrees with its own name, positions or tree
        (code ``seal_damaged``).
    FormatError
        Written by a newer version (code ``newer_format``).
    """
    start = len(_HEAD) + 64 + len(_MIDDLE)
    body, claimed = raw[start : -len(_TAIL)], raw[len(_HEAD) : len(_HEAD) + 64]
    frame = _HEAD + claimed + _MIDDLE + body + _TAIL
    digest = Digest(hashlib.sha256(body).hexdigest())
    if frame != raw or digest.encode() != claimed:
        raise seal_damaged(path, f"its {len(raw)} bytes do not have the digest that they state")
    said = load_json(body, where=path)
    if not isinstance(said, dict):
        raise seal_damaged(path, "it holds no JSON object")
    if said.get("format") != FORMAT_VERSION:
        raise FormatError(
            f"a seal of format {FORMAT_VERSION} was expected in {path!r}, found format "
            f"{said.get('format')!r}; upgrade eventstore to read it",
            code="newer_format",
            path=path,
        )
    try:
        seal = Seal(
            number=said["number"],
            previous=Digest(said["previous"]),
            store_id=said["store_id"],
            sealed_at=said["sealed_at"],
            software=said["software"],
            segments=tuple(_segment(known) for known in said["segments"]),
            size=said["size"],
            peaks=tuple(bytes.fromhex(peak) for peak in said["peaks"]),
            root=bytes.fromhex(said["root"]),
        )
        agrees = Peaks(seal.size, seal.peaks).root() == seal.root
        dt.datetime.fromisoformat(seal.sealed_at)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise seal_damaged(path, f"a field is wrong ({error!r})") from error
    if not agrees:
        raise seal_damaged(path, "its root is not that of its peaks")
    if layout.parse_seal(path) != seal.number:
        raise seal_damaged(path, f"it says that it is number {seal.number}")
    return digest, seal


def seal_damaged(path: str, found: str) -> IntegrityError:
    """Build the error for a seal that is not what its place in the chain asks for."""
    return IntegrityError(
        f"the seal {path!r} is damaged: {found}; restore the file from a copy and run `eventstore verify`",
        code="seal_damaged",
        path=path,
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole sequence up to and including seal `number`, whose digest is `digest`."""

    number: int
    digest: Digest
    store_id: str
    peaks: Peaks
    segments: tuple[Segment, ...] = ()
    writers: Mapping[WriterId, int] = field(default_factory=dict)
    """One past the last sealed sequence of every writer."""

    def then(self, digest: Digest, seal: Seal, path: str) -> Snapshot:
        """Return the sequence with one more seal.

        Raises
        ------
        IntegrityError
            The seal does not follow: number, chain, store, positions or sequences are wrong.
        """
        if seal.store_id != self.store_id:
            raise seal_damaged(path, f"it belongs to the store {seal.store_id}, not {self.store_id}")
        if seal.number != self.number + 1 or seal.previous != self.digest:
            raise seal_damaged(path, f"it follows {seal.previous}, and the seal before it is {self.digest}")
        writers = dict(self.writers)
        position = self.peaks.size
        for segment in seal.segments:
            expected = writers.get(segment.writer, 0)
            if segment.first_position != position or segment.first_sequence != expected:
                raise seal_damaged(
                    path,
                    f"{segment.path} stands at position {segment.first_position} and sequence "
                    f"{segment.first_sequence} where {position} and {expected} belong",
                )
            writers[segment.writer] = segment.end_sequence
            position += segment.count
        if position != seal.size:
            raise seal_damaged(path, f"it says {seal.size} events where {position} belong")
        return replace(
            self,
            number=seal.number,
            digest=digest,
            peaks=Peaks(seal.size, seal.peaks),
            segments=self.segments + seal.segments,
            writers=writers,
        )


_SNAPSHOT_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("writer", pa.string()),
        ("first_sequence", pa.int64()),
        ("count", pa.int64()),
        ("recorded_from_us", pa.int64()),
        ("recorded_to_us", pa.int64()),
        ("first_position", pa.int64()),
        ("kinds", pa.string()),
    ]
)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return the bytes of a snapshot's file."""
    meta = {
        "format": FORMAT_VERSION,
        "number": snapshot.number,
        "digest": snapshot.digest,
        "store_id": snapshot.store_id,
        "size": snapshot.peaks.size,
        "peaks": [peak.hex() for peak in snapshot.peaks.peaks],
        "writers": dict(snapshot.writers),
    }
    rows = [{**_plain(s), "kinds": dump_json(_plain(s)["kinds"]).decode()} for s in snapshot.segments]
    meta["content_digest"] = _content_digest(meta, rows)
    table = pa.Table.from_pylist(rows, schema=_SNAPSHOT_SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({_META: dump_json(meta)}),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _content_digest(meta: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """SHA-256 of everything that a snapshot says: the checksums of Parquet do not cover its footer."""
    return hashlib.sha256(dump_json([meta, rows])).hexdigest()


def _check_content(meta: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    said = {name: value for name, value in meta.items() if name != "content_digest"}
    if meta["content_digest"] != _content_digest(said, rows):
        raise ValueError("it does not have the digest that it states")
    if sum(row["count"] for row in rows) != meta["size"]:
        raise ValueError("its segments do not add up to its size")


def decode_snapshot(path: str, raw: bytes) -> Snapshot:
    """Read a snapshot's file.

    Raises
    ------
    IntegrityError
        It is truncated or altered (code ``snapshot_damaged``); the seals themselves still serve.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(raw), page_checksum_verification=True) as file:
            meta = json.loads(file.schema_arrow.metadata[_META])
            rows: Sequence[dict[str, Any]] = file.read().to_pylist()
        if meta["format"] != FORMAT_VERSION:
            raise FormatError(
                f"format {FORMAT_VERSION} was expected in {path!r}, found {meta['format']}; upgrade "
                "eventstore",
                code="newer_format",
                path=path,
            )
        _check_content(meta, rows)
        segments = tuple(_segment({**row, "kinds": json.loads(row["kinds"])}) for row in rows)
        snapshot = Snapshot(
            number=meta["number"],
            digest=Digest(meta["digest"]),
            store_id=meta["store_id"],
            peaks=Peaks(meta["size"], [bytes.fromhex(peak) for peak in meta["peaks"]]),
            segments=segments,
            writers=meta["writers"],
        )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"the snapshot {path!r} is damaged: {error}; delete it, the seals serve without it",
            code="snapshot_damaged",
            path=path,
        ) from error
    return snapshot
