"""Every path of the format, as pure functions both ways. See docs/format.md, section "Directory tree".

Paths are relative to the store's root and use ``/``. Reading a path back gives None when it is not one of
ours, so a listing can be sorted into known and foreign files without exceptions.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from eventstore.ids import WRITER_PATTERN, Digest, Position, WriterId

__all__ = [
    "PROJECTIONS",
    "SEALS",
    "SEGMENTS",
    "SNAPSHOT_EVERY",
    "STORE_FILE",
    "VALUES",
    "SegmentName",
    "parse_manifest",
    "parse_seal",
    "parse_segment",
    "parse_snapshot",
    "parse_value",
    "projection_folder",
    "seal_path",
    "segment_day",
    "segment_path",
    "snapshot_path",
    "value_path",
]

STORE_FILE = "store.json"
SEGMENTS = "segments"
SEALS = "seals"
VALUES = "values"
PROJECTIONS = "projections"
SNAPSHOT_EVERY = 64
"""A snapshot of the sequence is written after every seal whose number is a multiple of this."""

# [0-9] and not \d, which takes the digits of every script.
_DAY = "[0-9]{4}/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12][0-9]|3[01])"
_SEGMENT = re.compile(rf"segments/({_DAY})/({WRITER_PATTERN})-([0-9]{{12}})-([0-9a-f]{{64}})\.parquet")
_SEAL = re.compile(r"seals/([0-9]{20})\.json")
_SNAPSHOT = re.compile(r"seals/snapshot-([0-9]{20})\.parquet")
_MANIFEST = re.compile(r"projections/[^/]+/v[0-9]+/([0-9]{20})/manifest\.json")
_VALUE = re.compile(r"values/([0-9a-f]{2})/([0-9a-f]{62})\.zst")


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What a segment's path says: its day (UTC, by the author's clock), author, first event, content."""

    day: str
    writer: WriterId
    first_sequence: int
    digest: Digest

    @property
    def path(self) -> str:
        """The segment's path."""
        return segment_path(self.day, self.writer, self.first_sequence, self.digest)


def segment_day(moment: dt.datetime) -> str:
    """The folder of a segment that is written at `moment`: ``yyyy/mm/dd`` in UTC."""
    day = moment.astimezone(dt.UTC)
    return f"{day.year:04d}/{day.month:02d}/{day.day:02d}"


def segment_path(day: str, writer: str, first_sequence: int, digest: str) -> str:
    """The path of a segment; `day` is ``yyyy/mm/dd``, `digest` the SHA-256 of the file."""
    return f"{SEGMENTS}/{day}/{writer}-{first_sequence:012d}-{digest}.parquet"


def parse_segment(path: str) -> SegmentName | None:
    """What the path of a segment says; None for any other path."""
    match = _SEGMENT.fullmatch(path)
    if match is None:
        return None
    day, writer, sequence, digest = match.groups()
    return SegmentName(day, WriterId(writer), int(sequence), Digest(digest))


def seal_path(number: int) -> str:
    """The path of seal `number`; the first is 1."""
    return f"{SEALS}/{number:020d}.json"


def parse_seal(path: str) -> int | None:
    """The number of the seal at `path`; None for any other path."""
    match = _SEAL.fullmatch(path)
    return int(match[1]) if match else None


def snapshot_path(number: int) -> str:
    """The path of the snapshot of the sequence up to and including seal `number`."""
    return f"{SEALS}/snapshot-{number:020d}.parquet"


def parse_snapshot(path: str) -> int | None:
    """The number of the seal that the snapshot at `path` goes up to; None for any other path."""
    match = _SNAPSHOT.fullmatch(path)
    return int(match[1]) if match else None


def value_path(digest: str) -> str:
    """The path of the bytes whose SHA-256 is `digest` (64 hex characters)."""
    return f"{VALUES}/{digest[:2]}/{digest[2:]}.zst"


def parse_value(path: str) -> Digest | None:
    """The SHA-256 of the bytes at `path`; None for any other path."""
    match = _VALUE.fullmatch(path)
    return Digest(match[1] + match[2]) if match else None


def projection_folder(name: str, version: int, position: Position | int | None = None) -> str:
    """The folder of a projection's version, or of its snapshot that stands before `position`."""
    folder = f"{PROJECTIONS}/{name}/v{version}"
    return folder if position is None else f"{folder}/{position:020d}"


def parse_manifest(path: str) -> int | None:
    """The position that a table snapshot with its manifest at `path` stands at; None for any other path."""
    match = _MANIFEST.fullmatch(path)
    return int(match[1]) if match else None
