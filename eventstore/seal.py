"""One link of the chain that puts segments in order, and the snapshot that sums up all links so far.

A seal is a small JSON file whose digest covers its bytes; it names the seal before by that digest, so a
chain cannot be altered unseen. A snapshot is derived from the chain and only spares reading it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from eventstore import layout
from eventstore.codec.payload import dump_json, load_json
from eventstore.codec.schema import FORMAT_VERSION
from eventstore.errors import FormatError, IntegrityError
from eventstore.ids import Digest, Position, WriterId
from eventstore.merkle import Peaks
from eventstore.segment import KindCount, Segment

__all__ = [
    "GENESIS",
    "Chain",
    "Seal",
    "SealedSegments",
    "Snapshot",
    "decode_seal",
    "decode_snapshot",
    "encode_snapshot",
    "entries_digest",
]

GENESIS = Digest("0" * 64)
"""What the first seal names as the seal before it, and what its `entries` go on from."""

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
    entries: Digest
    """The digest of all segment lists up to and including this one; see `entries_digest`."""

    def encode(self) -> tuple[Digest, bytes]:
        """Return the seal's digest and the bytes of its file."""
        body = dump_json(
            {
                "entries": self.entries,
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


def entries_digest(before: Digest, segments: Iterable[Segment]) -> Digest:
    """Return what a seal with these segments states as `entries`, where the seal before it states `before`.

    Whoever holds the lists of segments alone can so compare them with one seal.
    """
    said = dump_json([_plain(segment) for segment in segments])
    return Digest(hashlib.sha256(before.encode() + said).hexdigest())


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
            entries=Digest(said["entries"]),
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


class SealedSegments(Sequence[Segment]):
    """Segments in the order of the log, and which seal placed each.

    The lists behind it only grow, and are shared by all that have grown from one another: going on costs
    what is added, and whoever holds an earlier one sees what it always held.
    """

    __slots__ = ("_ends", "_length", "_seals", "_segments")

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._ends: list[int] = []
        """For each seal, how many segments there are after it."""
        self._length = self._seals = 0

    def then(self, seals: Iterable[Sequence[Segment]]) -> SealedSegments:
        """Return these and the segments of the next seals."""
        after = SealedSegments()
        after._segments, after._ends = self._segments, self._ends
        if (len(self._segments), len(self._ends)) != (self._length, self._seals):
            # Someone else has grown from here already, another way.
            after._segments, after._ends = self._segments[: self._length], self._ends[: self._seals]
        for segments in seals:
            after._segments += segments
            after._ends.append(len(after._segments))
        after._length, after._seals = len(after._segments), len(after._ends)
        return after

    def by_seal(self) -> Iterator[Sequence[Segment]]:
        """Yield the segments of each seal, from the first on."""
        for start, end in pairwise([0, *self._ends[: self._seals]]):
            yield self._segments[start:end]

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SealedSegments):
            return NotImplemented
        return list(self.by_seal()) == list(other.by_seal())

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Segment]:
        return islice(self._segments, self._length)

    @overload
    def __getitem__(self, place: int) -> Segment: ...
    @overload
    def __getitem__(self, place: slice) -> list[Segment]: ...
    def __getitem__(self, place: int | slice) -> Segment | list[Segment]:
        if isinstance(place, slice):
            return [self._segments[number] for number in range(self._length)[place]]
        return self._segments[range(self._length)[place]]


@dataclass(slots=True)
class Chain:
    """Where a chain of seals stands. It goes on link by link, and does not keep what the links say."""

    store_id: str
    number: int = 0
    digest: Digest = GENESIS
    entries: Digest = GENESIS
    peaks: Peaks = field(default_factory=Peaks)
    writers: dict[WriterId, int] = field(default_factory=dict)

    def follow(self, digest: Digest, seal: Seal) -> None:
        """Go on to the next seal.

        Raises
        ------
        IntegrityError
            The seal does not follow: number, chain, store, positions, sequences or entries are wrong.
        """
        path = layout.seal_path(seal.number)
        if seal.store_id != self.store_id:
            raise seal_damaged(path, f"it belongs to the store {seal.store_id}, not {self.store_id}")
        if seal.number != self.number + 1 or seal.previous != self.digest:
            raise seal_damaged(path, f"it follows {seal.previous}, and the seal before it is {self.digest}")
        ends: dict[WriterId, int] = {}
        position = self.peaks.size
        for segment in seal.segments:
            expected = ends.get(segment.writer, self.writers.get(segment.writer, 0))
            if segment.first_position != position or segment.first_sequence != expected:
                raise seal_damaged(
                    path,
                    f"{segment.path} stands at position {segment.first_position} and sequence "
                    f"{segment.first_sequence} where {position} and {expected} belong",
                )
            ends[segment.writer] = segment.end_sequence
            position += segment.count
        if position != seal.size:
            raise seal_damaged(path, f"it says {seal.size} events where {position} belong")
        if seal.entries != entries_digest(self.entries, seal.segments):
            raise seal_damaged(path, "its `entries` are not the digest of all segments up to it")
        self.number, self.digest, self.entries = seal.number, digest, seal.entries
        self.peaks = Peaks(seal.size, seal.peaks)
        self.writers.update(ends)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole sequence up to and including seal `number`, whose digest is `digest`."""

    store_id: str
    number: int = 0
    digest: Digest = GENESIS
    entries: Digest = GENESIS
    peaks: Peaks = field(default_factory=Peaks)
    sealed_at: str | None = None
    segments: SealedSegments = field(default_factory=SealedSegments)
    writers: Mapping[WriterId, int] = field(default_factory=dict)
    """One past the last sealed sequence of every writer."""

    def then(self, links: Iterable[tuple[Digest, Seal]]) -> Snapshot:
        """Return the sequence with more seals; raises like `Chain.follow`."""
        chain: Chain | None = None
        sealed_at, added = self.sealed_at, []
        for digest, seal in links:
            if chain is None:
                chain = Chain(
                    self.store_id, self.number, self.digest, self.entries, self.peaks, dict(self.writers)
                )
            chain.follow(digest, seal)
            sealed_at = seal.sealed_at
            added.append(seal.segments)
        if chain is None:
            return self
        return Snapshot(
            store_id=self.store_id,
            number=chain.number,
            digest=chain.digest,
            entries=chain.entries,
            peaks=chain.peaks,
            sealed_at=sealed_at,
            segments=self.segments.then(added),
            writers=chain.writers,
        )


_SNAPSHOT_SCHEMA = pa.schema(
    [
        ("seal", pa.int64()),
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
    segments = list(snapshot.segments)
    columns = {
        column: [getattr(segment, column) for segment in segments]
        for column in _SNAPSHOT_SCHEMA.names
        if column not in ("seal", "kinds")
    }
    columns["seal"] = [
        number for number, group in enumerate(snapshot.segments.by_seal(), 1) for _segment in group
    ]
    texts = {segment.kinds: dump_json(_plain(segment)["kinds"]).decode() for segment in segments}
    columns["kinds"] = [texts[segment.kinds] for segment in segments]
    meta = {"format": FORMAT_VERSION, "number": snapshot.number, "store_id": snapshot.store_id}
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pydict(columns, schema=_SNAPSHOT_SCHEMA.with_metadata({_META: dump_json(meta)})),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def decode_snapshot(path: str, raw: bytes, digest: Digest, seal: Seal) -> Snapshot:
    """Read the snapshot of the sequence up to `seal`, whose digest is `digest`.

    Nothing is taken on trust: the segments that it lists must give the `entries` of the seal.

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
        entries=seal.entries,
        peaks=Peaks(seal.size, seal.peaks),
        sealed_at=seal.sealed_at,
        segments=segments,
        writers={segment.writer: segment.end_sequence for segment in segments},
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
    segments = _sealed_segments(table, seal.number)
    entries = GENESIS
    for group in segments.by_seal():
        entries = entries_digest(entries, group)
    if entries != seal.entries:
        raise ValueError("its segments are not those of the seals that it sums up")
    return segments


def _sealed_segments(table: pa.Table, seals: int) -> SealedSegments:
    """Build the segments column by column: the rows of a long history are many."""
    columns = {name: table[name].to_pylist() for name in _SNAPSHOT_SCHEMA.names}
    texts = set(columns["kinds"])
    kinds = {text: tuple(KindCount(*kind) for kind in json.loads(text)) for text in texts}
    segments = [
        Segment(
            path=path,
            # By the form of a segment's name, which a seal's reader checks and `entries` then vouches for.
            digest=Digest(path[-72:-8]),
            size_bytes=size_bytes,
            writer=WriterId(writer),
            first_sequence=first_sequence,
            count=count,
            recorded_from_us=recorded_from_us,
            recorded_to_us=recorded_to_us,
            kinds=kinds[text],
            first_position=Position(first_position),
        )
        for (
            _number,
            path,
            size_bytes,
            writer,
            first_sequence,
            count,
            recorded_from_us,
            recorded_to_us,
            first_position,
            text,
        ) in zip(*columns.values(), strict=True)
    ]
    numbers = columns["seal"]
    ends = [bisect_right(numbers, number) for number in range(seals + 1)]
    return SealedSegments().then(segments[start:end] for start, end in pairwise(ends))
