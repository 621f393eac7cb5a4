"""Snapshots: a table published at a position, as immutable Parquet files and a manifest that is written last.

`projections/<table>/v<version>/<position>/` holds files named by their SHA-256 and ``manifest.json``; without
a manifest there is no snapshot. Readers take the newest one that is whole. A damaged one is set aside in
favour of an older good one, which is right for its position; if none is left the damage is an error.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, Protocol

import polars as pl

from eventstore import NotFoundError, ProjectionError, Storage
from eventstore.layout import projection_folder
from projections.digest import content_digest
from projections.projection import Projection

__all__ = [
    "MANIFEST",
    "Manifest",
    "Place",
    "Snapshot",
    "SnapshotFile",
    "check_snapshot",
    "find_snapshot",
    "list_positions",
    "publish",
]

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1

Role = Literal["state", "table"]

_PART_ROWS = 1_000_000
_ROW_GROUP_ROWS = 65_536
_ZSTD_LEVEL = 1
"""Tables are mostly hashes, which a higher level makes slower to write and no smaller."""
_FILE = re.compile(r"[0-9a-f]{64}\.parquet")
_POSITION = re.compile(r"\d{20}")


class Place(Protocol):
    """What of a store is needed to keep snapshots."""

    @property
    def storage(self) -> Storage:
        """Where the files are."""

    @property
    def store_id(self) -> str:
        """Which store this is."""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One file of a snapshot, named ``<sha256>.parquet``."""

    role: Role
    """``table``: rows of the table; ``state``: what a refresh goes on from, where that is more."""
    sha256: str
    size_bytes: int
    rows: int

    @property
    def name(self) -> str:
        """The file's name in the snapshot's folder."""
        return f"{self.sha256}.parquet"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot is: written last, so that it vouches for files that are there."""

    projection: str
    version: int
    position: int
    store_id: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    """Name and type of each column of the table, in order."""
    rows: int
    digest: str
    """The table's content digest; see `projections.digest`."""
    files: tuple[SnapshotFile, ...]
    """The table's files in order of the key, then those of the state."""
    made_by: str
    format: int = MANIFEST_FORMAT

    def encode(self) -> bytes:
        """Return the manifest as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, indent=2).encode() + b"\n"

    @classmethod
    def decode(cls, raw: bytes) -> Manifest:
        """Read a manifest; raises ValueError, TypeError or KeyError for anything but a whole one."""
        found: dict[str, Any] = json.loads(raw)
        if not isinstance(found, dict) or found.get("format") != MANIFEST_FORMAT:
            raise ValueError(f"format {MANIFEST_FORMAT} expected")
        files = tuple(SnapshotFile(**one) for one in found.pop("files"))
        columns = tuple((str(name), str(dtype)) for name, dtype in found.pop("columns"))
        made = cls(**{**found, "key": tuple(found["key"])}, columns=columns, files=files)
        for name in ("version", "position", "rows"):
            if type(getattr(made, name)) is not int:
                raise TypeError(f"{name}: an integer expected")
        for file in files:
            if (
                not _FILE.fullmatch(file.name)
                or type(file.size_bytes) is not int
                or type(file.rows) is not int
            ):
                raise ValueError("files: a SHA-256, a size and a number of rows expected")
        return made


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole snapshot, ready to be read."""

    manifest: Manifest
    folder: str
    storage: Storage
    set_aside: tuple[ProjectionError, ...] = ()
    """Why newer snapshots were passed over."""

    @property
    def position(self) -> int:
        """The snapshot has folded the events 0 to position - 1."""
        return self.manifest.position

    def scan(self, role: Role = "table") -> pl.LazyFrame:
        """Return the rows of the table (or of the state, which is the table where there is none)."""
        files = [file for file in self.manifest.files if file.role == role]
        if not files and role == "state":
            return self.scan()
        sources = [self.storage.polars_source(f"{self.folder}/{file.name}") for file in files]
        return pl.scan_parquet(sources, glob=False, hive_partitioning=False)


def publish(
    store: Place,
    projection: Projection,
    position: int,
    table: pl.DataFrame,
    state: pl.DataFrame | None = None,
) -> Snapshot:
    """Write a snapshot that stands at `position`; one that is there already is replaced.

    Parameters
    ----------
    table
        The finished table, sorted by its key.
    state
        What a refresh goes on from, where it is not the table.
    """
    folder = projection_folder(projection.name, projection.version, position)
    files = [*_write(store.storage, folder, "table", table)]
    if state is not None:
        files += _write(store.storage, folder, "state", state)
    manifest = Manifest(
        projection=projection.name,
        version=projection.version,
        position=position,
        store_id=store.store_id,
        key=projection.key,
        columns=_columns(projection),
        rows=table.height,
        digest=content_digest(table, projection.key),
        files=tuple(files),
        made_by=_made_by(),
    )
    store.storage.put(f"{folder}/{MANIFEST}", manifest.encode())
    return Snapshot(manifest, folder, store.storage)


def _write(storage: Storage, folder: str, role: Role, frame: pl.DataFrame) -> Iterator[SnapshotFile]:
    for start in range(0, max(frame.height, 1), _PART_ROWS):
        part = frame.slice(start, _PART_ROWS)
        buffer = io.BytesIO()
        part.write_parquet(
            buffer, compression="zstd", compression_level=_ZSTD_LEVEL, row_group_size=_ROW_GROUP_ROWS
        )
        data = buffer.getvalue()
        file = SnapshotFile(role, hashlib.sha256(data).hexdigest(), len(data), part.height)
        storage.put(f"{folder}/{file.name}", data)
        yield file


def list_positions(store: Place, projection: Projection, *, until: int | None = None) -> list[int]:
    """Return the positions that have a folder, newest first, at most `until`; some may not be whole."""
    names = (
        path.rstrip("/").rpartition("/")[2]
        for path in store.storage.folders(projection_folder(projection.name, projection.version))
    )
    found = (int(name) for name in names if _POSITION.fullmatch(name))
    return sorted((one for one in found if until is None or one <= until), reverse=True)


def find_snapshot(
    store: Place, projection: Projection, *, until: int | None = None, verify: bool = True
) -> Snapshot | None:
    """Return the newest whole snapshot, at most at position `until`; None if there is none at all.

    Parameters
    ----------
    verify
        Compare every file with its SHA-256; False looks at presence and size only.

    Raises
    ------
    ProjectionError
        There are snapshots, and all of them are damaged: the error of the newest.
    """
    damaged: list[ProjectionError] = []
    for position in list_positions(store, projection, until=until):
        try:
            snapshot = _open(store, projection, position, verify=verify)
        except ProjectionError as error:
            damaged.append(error)
            continue
        if snapshot is not None:
            return replace(snapshot, set_aside=tuple(damaged))
    if damaged:
        raise damaged[0]
    return None


def _open(store: Place, projection: Projection, position: int, *, verify: bool) -> Snapshot | None:
    """Return the snapshot at `position`, or None while nobody has finished it."""
    storage = store.storage
    folder = projection_folder(projection.name, projection.version, position)
    path = f"{folder}/{MANIFEST}"
    try:
        manifest = Manifest.decode(storage.read(path))
    except NotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(projection, position, "bad_manifest", path, "a manifest", repr(error)) from error
    for name, expected, found in (
        ("projection", projection.name, manifest.projection),
        ("version", projection.version, manifest.version),
        ("position", position, manifest.position),
        ("store_id", store.store_id, manifest.store_id),
    ):
        if expected != found:
            raise _damaged(
                projection, position, "foreign_snapshot", path, f"{name} {expected}", f"{name} {found}"
            )
    if (manifest.key, manifest.columns) != (projection.key, _columns(projection)):
        raise _damaged(
            projection,
            position,
            "recipe_changed",
            path,
            f"the key and columns of the recipe, {projection.key} and {_columns(projection)}",
            f"{manifest.key} and {manifest.columns}: give a changed recipe the next version",
        )
    for file in manifest.files:
        _check_file(projection, position, storage, f"{folder}/{file.name}", file, verify=verify)
    return Snapshot(manifest, folder, storage)


def _check_file(
    projection: Projection, position: int, storage: Storage, path: str, file: SnapshotFile, *, verify: bool
) -> None:
    try:
        data = storage.read(path) if verify else None
        size = storage.size(path) if data is None else len(data)
    except NotFoundError as error:
        raise _damaged(projection, position, "missing_file", path, "a file", "none") from error
    if size != file.size_bytes:
        raise _damaged(projection, position, "wrong_size", path, f"{file.size_bytes} bytes", f"{size} bytes")
    if data is not None and (found := hashlib.sha256(data).hexdigest()) != file.sha256:
        raise _damaged(projection, position, "wrong_digest", path, f"SHA-256 {file.sha256}", found)


def check_snapshot(snapshot: Snapshot) -> None:
    """Compare a snapshot's rows with its content digest.

    Raises
    ------
    ProjectionError
        They differ (code ``wrong_content``).
    """
    manifest = snapshot.manifest
    table = snapshot.scan().collect(engine="in-memory")
    found = content_digest(table, manifest.key)
    if found != manifest.digest:
        raise ProjectionError(
            f"snapshot {snapshot.folder}: expected the content digest {manifest.digest}, found {found}. "
            f"Next: {_rebuild(manifest.projection)}",
            code="wrong_content",
            projection=manifest.projection,
            version=manifest.version,
            position=manifest.position,
            path=snapshot.folder,
        )


def _damaged(
    projection: Projection, position: int, code: str, path: str, expected: str, found: str
) -> ProjectionError:
    return ProjectionError(
        f"snapshot of {projection.name} version {projection.version} at position {position}, {path}: "
        f"expected {expected}; found {found}. Next: {_rebuild(projection.name)}",
        code=code,
        projection=projection.name,
        version=projection.version,
        position=position,
        path=path,
        expected=expected,
        found=found,
    )


def _rebuild(name: str) -> str:
    return f"run `eventstore rebuild {name}`"


def _columns(projection: Projection) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(dtype)) for name, dtype in projection.schema.items())


def _made_by() -> str:
    try:
        ours = version("eventstore")
    except PackageNotFoundError:
        ours = "(not installed)"
    return f"eventstore {ours}, polars {pl.__version__}"
