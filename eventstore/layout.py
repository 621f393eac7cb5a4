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
    "COMPACTED",
    "DICTIONARIES",
    "PROJECTIONS",
    "SEALS",
    "SEGMENTS",
    "SNAPSHOT_EVERY",
    "STORE_FILE",
    "SUBSCRIPTIONS",
    "SUBSCRIPTION_PATTERN",
    "VALUES",
    "ArchiveName",
    "CompactedName",
    "SegmentName",
    "archive_path",
    "compacted_path",
    "dictionary_path",
    "manifest_folder",
    "manifest_path",
    "parse_archive",
    "parse_compacted",
    "parse_dictionary",
    "parse_manifest",
    "parse_run_name",
    "parse_seal",
    "parse_segment",
    "parse_snapshot",
    "parse_subscription",
    "parse_value",
    "projection_folder",
    "run_folder",
    "run_name",
    "seal_path",
    "segment_day",
    "segment_path",
    "snapshot_path",
    "subscription_folder",
    "subscription_path",
    "value_path",
]

STORE_FILE = "store.json"
SEGMENTS = "segments"
COMPACTED = "compacted"
SEALS = "seals"
VALUES = "values"
DICTIONARIES = "values/dictionaries"
PROJECTIONS = "projections"
SUBSCRIPTIONS = "subscriptions"
SUBSCRIPTION_PATTERN = "[a-z0-9_-]{1,100}"
"""What a subscription's name looks like; it is a folder."""
SNAPSHOT_EVERY = 64
"""A snapshot of the sequence is written after every seal whose number is a multiple of this."""

# [0-9] and not \d, which takes the digits of every script.
_DAY = "[0-9]{4}/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12][0-9]|3[01])"
_SEGMENT = re.compile(rf"segments/({_DAY})/({WRITER_PATTERN})-([0-9]{{12}})-([0-9a-f]{{64}})\.parquet")
_COMPACTED = re.compile(r"compacted/([0-9]{20})-([0-9]{20})-([0-9a-f]{64})\.parquet")
_SEAL = re.compile(r"seals/([0-9]{20})\.json")
_ARCHIVE = re.compile(r"seals/archive-([0-9]{20})-([0-9]{20})\.jsonl\.zst")
_SNAPSHOT = re.compile(r"seals/snapshot-([0-9]{20})\.parquet")
_MANIFEST = re.compile(r"projections/[^/]+/v[0-9]+/manifests/([0-9]{20})-([0-9]{6})\.json")
_RUN = re.compile(r"([0-9]{20})-([0-9]{20})-([0-9]{8}T[0-9]{6})-[0-9a-f]{8}")
_SUBSCRIPTION = re.compile(rf"subscriptions/({SUBSCRIPTION_PATTERN})/([0-9]{{20}})\.json")
_DICTIONARY = re.compile(r"values/dictionaries/([0-9]{10})-([0-9a-f]{64})\.zdict")
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


@dataclass(frozen=True, slots=True)
class CompactedName:
    """What a compacted segment's path says: its half-open range of positions, and its content."""

    first_position: Position
    end_position: int
    digest: Digest


def compacted_path(first_position: int, end_position: int, digest: str) -> str:
    """The path of a compacted segment with the positions from the first to before the end."""
    return f"{COMPACTED}/{first_position:020d}-{end_position:020d}-{digest}.parquet"


def parse_compacted(path: str) -> CompactedName | None:
    """What the path of a compacted segment says; None for any other path."""
    match = _COMPACTED.fullmatch(path)
    if match is None or int(match[1]) >= int(match[2]):
        return None
    return CompactedName(Position(int(match[1])), int(match[2]), Digest(match[3]))


def seal_path(number: int) -> str:
    """The path of seal `number`; the first is 1."""
    return f"{SEALS}/{number:020d}.json"


def parse_seal(path: str) -> int | None:
    """The number of the seal at `path`; None for any other path."""
    match = _SEAL.fullmatch(path)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True, order=True)
class ArchiveName:
    """What the path of an archive of seals says: the first and the last number in it."""

    first: int
    last: int


def archive_path(first: int, last: int) -> str:
    """The path of the archive of the seals from `first` to `last`, both included."""
    return f"{SEALS}/archive-{first:020d}-{last:020d}.jsonl.zst"


def parse_archive(path: str) -> ArchiveName | None:
    """The numbers of the seals in the archive at `path`; None for any other path."""
    match = _ARCHIVE.fullmatch(path)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        return None
    return ArchiveName(int(match[1]), int(match[2]))


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


def dictionary_path(number: int, digest: str) -> str:
    """The path of a zstd dictionary; `number` is what frames call it, `digest` the SHA-256 of the file."""
    return f"{DICTIONARIES}/{number:010d}-{digest}.zdict"


def parse_dictionary(path: str) -> tuple[int, Digest] | None:
    """Number and SHA-256 of the dictionary at `path`; None for any other path."""
    match = _DICTIONARY.fullmatch(path)
    return (int(match[1]), Digest(match[2])) if match else None


def projection_folder(name: str, version: int) -> str:
    """The folder of one version of a projection."""
    return f"{PROJECTIONS}/{name}/v{version}"


def manifest_folder(name: str, version: int) -> str:
    """The folder of the manifests of one version of a projection."""
    return f"{projection_folder(name, version)}/manifests"


def manifest_path(name: str, version: int, position: int, revision: int) -> str:
    """The path of a snapshot's manifest; `revision` counts those at one `position` from 1."""
    return f"{manifest_folder(name, version)}/{position:020d}-{revision:06d}.json"


def parse_manifest(path: str) -> tuple[int, int] | None:
    """Position and revision of the table snapshot whose manifest is at `path`; None for any other path."""
    match = _MANIFEST.fullmatch(path)
    return (int(match[1]), int(match[2])) if match else None


def run_folder(name: str, version: int, run: str) -> str:
    """The folder of a run's files; `run` is the name that `run_name` gave."""
    return f"{projection_folder(name, version)}/runs/{run}"


def run_name(first: int, until: int, moment: dt.datetime, token: str) -> str:
    """The name of a run over the positions `first` to `until` - 1; `token` keeps two makers apart."""
    return f"{first:020d}-{until:020d}-{moment.astimezone(dt.UTC):%Y%m%dT%H%M%S}-{token}"


def parse_run_name(name: str) -> tuple[int, int, dt.datetime] | None:
    """First position, end position and time of making (UTC) of the run of this name; None for other names."""
    match = _RUN.fullmatch(name)
    if match is None:
        return None
    try:
        made = dt.datetime.strptime(match[3], "%Y%m%dT%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return None
    return int(match[1]), int(match[2]), made


def subscription_folder(name: str) -> str:
    """The folder of the checkpoints of the subscription `name`."""
    return f"{SUBSCRIPTIONS}/{name}"


def subscription_path(name: str, revision: int) -> str:
    """The path of a subscription's checkpoint; the first revision is 1."""
    return f"{subscription_folder(name)}/{revision:020d}.json"


def parse_subscription(path: str) -> tuple[str, int] | None:
    """The subscription's name and the revision of the checkpoint at `path`; None for any other path."""
    match = _SUBSCRIPTION.fullmatch(path)
    return (match[1], int(match[2])) if match else None
