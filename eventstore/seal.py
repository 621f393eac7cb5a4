"""One link of the chain that puts segments in order: a small JSON file whose digest covers its bytes.

It names the seal before by that digest, so a chain cannot be altered unseen. It adds segments, or puts
compacted ones in the place of others.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventstore import layout
from eventstore.codec.payload import dump_json, load_json
from eventstore.codec.schema import FORMAT_VERSION
from eventstore.errors import FormatError, IntegrityError
from eventstore.ids import Digest, Position, WriterId
from eventstore.merkle import Peaks
from eventstore.segment import KindCount, Segment, WriterRun, digest_in

__all__ = ["GENESIS", "Seal", "decode_seal", "plain_segment", "seal_damaged"]

GENESIS = Digest("0" * 64)
"""What the first seal names as the seal before it, and what its `entries` go on from."""

_HEAD, _MIDDLE, _TAIL = b'{"digest":"', b'","seal":', b"}\n"


@dataclass(frozen=True, slots=True)
class Seal:
    """A sealed step of the log: the segments it adds or compacts, and the tree after them."""

    number: int
    previous: Digest
    store_id: str
    sealed_at: str
    software: str
    segments: tuple[Segment, ...]
    size: int
    peaks: tuple[bytes, ...]
    root: bytes
    entries: Digest
    """The digest of the segments that the log consists of after it; see `eventstore.chain.entries_digest`."""
    compacted: tuple[Segment, ...] = ()
    """Each takes the place of the segments before it that hold the same positions."""

    @property
    def moment(self) -> dt.datetime:
        """When it was sealed, by the sealer's clock; never before the seal before it."""
        return dt.datetime.fromisoformat(self.sealed_at)

    def encode(self) -> tuple[Digest, bytes]:
        """Return the seal's digest and the bytes of its file."""
        body = dump_json(
            {
                "compacted": [plain_segment(segment) for segment in self.compacted],
                "entries": self.entries,
                "format": FORMAT_VERSION,
                "number": self.number,
                "peaks": [peak.hex() for peak in self.peaks],
                "previous": self.previous,
                "root": self.root.hex(),
                "sealed_at": self.sealed_at,
                "segments": [plain_segment(segment) for segment in self.segments],
                "size": self.size,
                "software": self.software,
                "store_id": self.store_id,
            }
        )
        digest = Digest(hashlib.sha256(body).hexdigest())
        return digest, _HEAD + digest.encode() + _MIDDLE + body + _TAIL


def plain_segment(segment: Segment) -> dict[str, Any]:
    """Return what a seal says of a segment, as JSON says it."""
    return {
        "count": segment.count,
        "first_position": segment.first_position,
        "kinds": [[kind.kind, kind.version, kind.count] for kind in segment.kinds],
        "path": segment.path,
        "recorded_from_us": segment.recorded_from_us,
        "recorded_to_us": segment.recorded_to_us,
        "size_bytes": segment.size_bytes,
        "writers": [[run.writer, run.first_sequence, run.count] for run in segment.writers],
    }


def _segment(known: Mapping[str, Any], *, compacted: bool) -> Segment:
    path = known["path"]
    digest = digest_in(path)
    if digest is None or (layout.parse_compacted(path) is not None) != compacted:
        raise ValueError(f"{path!r} is no such segment's path")
    segment = Segment(
        path=path,
        digest=digest,
        size_bytes=known["size_bytes"],
        writers=tuple(WriterRun(WriterId(writer), first, count) for writer, first, count in known["writers"]),
        count=known["count"],
        recorded_from_us=known["recorded_from_us"],
        recorded_to_us=known["recorded_to_us"],
        kinds=tuple(KindCount(*kind) for kind in known["kinds"]),
        first_position=Position(known["first_position"]),
    )
    if not compacted and len(segment.writers) != 1:
        raise ValueError(f"{path!r} is by one writer, and the seal names {len(segment.writers)}")
    return segment


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
            segments=tuple(_segment(known, compacted=False) for known in said["segments"]),
            size=said["size"],
            peaks=tuple(bytes.fromhex(peak) for peak in said["peaks"]),
            root=bytes.fromhex(said["root"]),
            entries=Digest(said["entries"]),
            compacted=tuple(_segment(known, compacted=True) for known in said["compacted"]),
        )
        agrees = Peaks(seal.size, seal.peaks).root() == seal.root
        zone = seal.moment.tzinfo
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise seal_damaged(path, f"a field is wrong ({error!r})") from error
    if zone is None:
        raise seal_damaged(path, "its time names no timezone")
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
