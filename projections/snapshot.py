"""Snapshots: a table at a position, found by its manifest and published by it.

Files come first and the manifest last, so nothing half-written is ever seen. A snapshot that is damaged, or
not of this store and recipe, is set aside in favour of an older whole one, which is right for its position.
Which manifests stay is said here by `sort_out`, for who publishes as for who cleans.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import polars as pl

from eventstore import IntegrityError, NotFoundError, ProjectionError, Storage, StorageError
from eventstore.layout import manifest_folder, manifest_path, parse_manifest, run_folder, seal_path
from projections.files import check_file, file_is_there, read_source
from projections.manifest import Manifest, Retired, columns_of, made_by
from projections.projection import Projection
from projections.run import Place, Role, Run, remove_run

__all__ = [
    "KEPT_MANIFESTS",
    "RUN_GRACE",
    "Head",
    "Listed",
    "Log",
    "Snapshot",
    "find_older",
    "find_snapshot",
    "is_of_log",
    "list_snapshots",
    "open_snapshot",
    "publish",
    "sort_out",
    "survey",
]

KEPT_MANIFESTS = 3
"""So many manifests of this log are kept: who is just opening a table finds the one that was listed, and
another serves when the newest is damaged."""

RUN_GRACE = dt.timedelta(hours=1)
"""How long the files of a run stay after newer ones replaced it: for readers that still use them."""

_MOST_REVISIONS = 1_000
_LOOKS = 3
"""How often manifests are listed anew when those that were listed are gone."""


class Head(Protocol):
    """Where the sealed log ends, or ended; `eventstore.log.sequence.Head` is one."""

    @property
    def size(self) -> int:
        """Number of sealed events."""

    @property
    def number(self) -> int:
        """The newest seal's number; 0 where there is none."""

    @property
    def digest(self) -> str:
        """The newest seal's digest."""


class Log(Place, Protocol):
    """What of a store is needed to tell its snapshots from those of another history."""

    def head_at(self, number: int) -> Head | None:
        """Return where the log ended with seal `number`; None if it has no such seal.

        Raises
        ------
        IntegrityError
            That seal is damaged or missing.
        """


@dataclass(frozen=True, slots=True)
class Listed:
    """A manifest that is there, and what can be said of it without looking at its files."""

    position: int
    revision: int
    manifest: Manifest | None = None
    """None where it is damaged, or says that it is of another store or table."""
    of_log: bool | None = None
    """Whether it tells of the log that is here; None where that cannot be known: then it is not used, and not
    treated as another log's either."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table at a position, ready to be read."""

    recipe: Projection
    manifest: Manifest
    revision: int
    storage: Storage
    set_aside: tuple[ProjectionError, ...] = ()
    """Why newer snapshots were passed over."""
    keeper: object = None
    """What must not end before its files were read: the scratch space, where they lie in one."""

    @property
    def position(self) -> int:
        """The snapshot has folded the events 0 to position - 1."""
        return self.manifest.position

    @property
    def parts(self) -> tuple[tuple[Snapshot, Run], ...]:
        """Its runs, each with the snapshot that has its files, as a view takes them."""
        return tuple((self, run) for run in self.manifest.runs)

    @property
    def path(self) -> str:
        """Where its manifest is."""
        one = self.manifest
        return manifest_path(one.projection, one.version, one.position, self.revision)

    @property
    def digest(self) -> str | None:
        """The table's content digest; None while newer runs wait to be joined with the first."""
        return self.manifest.runs[0].table_digest if self.manifest.is_whole else None

    @property
    def rows(self) -> int:
        """Rows of the first run's table and of the states of newer runs, which may speak of the same."""
        runs = self.manifest.runs
        return (runs[0].table_rows or 0) + sum(run.rows for run in runs[1:])

    def files(self, run: Run) -> Iterator[tuple[str, str, int]]:
        """Yield path, SHA-256 and size of each file of a run."""
        folder = run_folder(self.manifest.projection, self.manifest.version, run.name)
        for file in run.files:
            yield f"{folder}/{file.name}", file.sha256, file.size_bytes

    def scan(self, run: Run, role: Role) -> pl.LazyFrame:
        """Return the rows of a run; raises ProjectionError where a file is not what its name says."""
        folder = run_folder(self.manifest.projection, self.manifest.version, run.name)
        sources = []
        for file in run.of_role(role):
            path = f"{folder}/{file.name}"
            raw = check_file(self.storage, self.recipe, path, sha256=file.sha256, size_bytes=file.size_bytes)
            sources.append(read_source(self.storage, path, raw))
        rows = pl.scan_parquet(sources, glob=False, hive_partitioning=False, cache=False)
        if self.keeper is None:
            return rows
        # A lazy frame outlives the tables that it came from, and then this step keeps the files.
        return rows.map_batches(
            partial(_as_it_is, self.keeper),
            predicate_pushdown=True,
            projection_pushdown=True,
            slice_pushdown=True,
            streamable=True,
        )

    def check(self) -> None:
        """Compare every file with its SHA-256; raises ProjectionError where one differs."""
        for run in self.manifest.runs:
            self.check_run(run)

    def check_run(self, run: Run) -> None:
        """Compare the files of one run with their SHA-256; raises ProjectionError where one differs."""
        for path, sha256, size_bytes in self.files(run):
            check_file(self.storage, self.recipe, path, sha256=sha256, size_bytes=size_bytes)


def _as_it_is(_keeper: object, rows: pl.DataFrame) -> pl.DataFrame:
    return rows


def list_snapshots(store: Place, recipe: Projection, *, until: int | None = None) -> list[tuple[int, int]]:
    """Return position and revision of every manifest at most at `until`, newest first, whole or not."""
    entries = store.storage.files(manifest_folder(recipe.name, recipe.version))
    found = (named for entry in entries if (named := parse_manifest(entry.path)) is not None)
    return sorted((one for one in found if until is None or one[0] <= until), reverse=True)


def find_snapshot(
    store: Log, recipe: Projection, *, until: int | None = None, verify: bool = True
) -> Snapshot | None:
    """Return the newest whole snapshot, at most at position `until`; None if there is none at all.

    Parameters
    ----------
    verify
        Compare every file with its SHA-256; False looks at presence and size only, and only locally.

    Raises
    ------
    ProjectionError
        There are snapshots, and all of them are damaged: the error of the newest.
    """
    damaged: list[ProjectionError] = []
    for _ in range(_LOOKS):
        damaged, gone = [], False
        for position, revision in list_snapshots(store, recipe, until=until):
            try:
                snapshot = open_snapshot(store, recipe, position, revision)
                if verify:
                    snapshot.check()
            except NotFoundError:
                gone = True  # only the newest are kept, and someone has just published the next
                continue
            except ProjectionError as error:
                damaged.append(error)
                continue
            return replace(snapshot, set_aside=tuple(damaged))
        if not gone:
            break
    if damaged:
        raise damaged[0]
    return None


def open_snapshot(
    store: Log, recipe: Projection, position: int, revision: int, *, any_columns: bool = False
) -> Snapshot:
    """Open the snapshot with this manifest; of its files, local ones are looked for.

    Parameters
    ----------
    any_columns
        Take it whatever key and columns it has.

    Raises
    ------
    NotFoundError
        There is no such manifest.
    ProjectionError
        It is damaged, or not of this store and recipe; or its seal cannot be read (code
        ``seal_unreadable``), so nobody can say whether it is of this log.
    """
    snapshot = _open(store, recipe, position, revision, any_columns=any_columns)
    for run in snapshot.manifest.runs:
        for file, _sha256, size_bytes in snapshot.files(run):
            file_is_there(store.storage, recipe, file, size_bytes=size_bytes)
    return snapshot


def _open(store: Log, recipe: Projection, position: int, revision: int, *, any_columns: bool) -> Snapshot:
    path = manifest_path(recipe.name, recipe.version, position, revision)
    raw = store.storage.read(path)
    try:
        manifest = Manifest.decode(raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise recipe.damaged("bad_manifest", path, "a manifest", repr(error)) from error
    for name, expected, found in (
        ("projection", recipe.name, manifest.projection),
        ("version", recipe.version, manifest.version),
        ("position", position, manifest.position),
        ("store_id", store.store_id, manifest.store_id),
    ):
        if expected != found:
            raise recipe.damaged("foreign_snapshot", path, f"{name} {expected}", f"{name} {found}")
    try:
        of_log = is_of_log(store, manifest)
    except IntegrityError as error:
        raise _seal_unreadable(recipe, path, manifest, error) from error
    if not of_log:
        raise recipe.damaged(
            "foreign_snapshot",
            path,
            f"seal {manifest.seal} of this log, at position {position}",
            f"another one, with digest {manifest.seal_digest}, as when the log was restored from a copy",
        )
    if not any_columns and (manifest.key, manifest.columns) != (recipe.key, columns_of(recipe)):
        raise recipe.damaged(
            "recipe_changed",
            path,
            f"the key and columns of the recipe, {recipe.key} and {columns_of(recipe)}",
            f"{manifest.key} and {manifest.columns}: give a changed recipe the next version",
        )
    return Snapshot(recipe, manifest, revision, store.storage)


def _seal_unreadable(
    recipe: Projection, path: str, manifest: Manifest, error: IntegrityError
) -> ProjectionError:
    seal = seal_path(manifest.seal)
    return ProjectionError(
        f"table {recipe.name} version {recipe.version}, {path}: expected {seal}, the seal at which it was "
        f"made; found that it cannot be read: {error.message}. Next: run `eventstore verify`, which says "
        f"what the log has lost; `eventstore rebuild {recipe.name}` makes the table from what can be read",
        code="seal_unreadable",
        projection=recipe.name,
        version=recipe.version,
        path=path,
        seal=seal,
    )


def is_of_log(store: Log, manifest: Manifest) -> bool:
    """Whether a manifest tells of the log that is here, which may have gone on from an older copy.

    Raises
    ------
    IntegrityError
        Its seal is damaged or missing, so it cannot be known.
    """
    head = store.head_at(manifest.seal)
    said = manifest.position, manifest.seal_digest
    return head is not None and (head.size, head.digest) == said


def survey(store: Log, name: str, version: int, named: Iterable[tuple[int, int]]) -> list[Listed]:
    """Read manifests of a table, by position and revision; those that vanished meanwhile are left out."""
    found = []
    for position, revision in named:
        try:
            manifest = Manifest.decode(store.storage.read(manifest_path(name, version, position, revision)))
        except NotFoundError:
            continue
        except (ValueError, TypeError, KeyError, AttributeError):
            found.append(Listed(position, revision))
            continue
        said = manifest.projection, manifest.version, manifest.position, manifest.store_id
        if said != (name, version, position, store.store_id):
            found.append(Listed(position, revision))
            continue
        try:
            of_log = is_of_log(store, manifest)
        except IntegrityError:
            found.append(Listed(position, revision, manifest))
        else:
            found.append(Listed(position, revision, manifest, of_log))
    return found


def sort_out(listed: Iterable[Listed], keep: int) -> tuple[list[Listed], list[Listed]]:
    """Return which manifests stay and which go, of those that are there, newest first.

    Manifests of a log that went on differently go, wherever they stand. Of this log the newest `keep` stay,
    and with them what is newer than the last of these and damaged or not to be judged: it does not count.
    """
    staying: list[Listed] = []
    leaving: list[Listed] = []
    kept = 0
    for one in listed:
        if kept == keep or one.of_log is False:
            leaving.append(one)
        else:
            staying.append(one)
            kept += one.of_log is True
    return staying, leaving


def find_older(store: Log, recipe: Projection, *, verify: bool = True) -> Snapshot | None:
    """Return the newest whole snapshot of an older version of a recipe, whatever its key and columns are."""
    for position, revision in list_snapshots(store, recipe):
        try:
            snapshot = open_snapshot(store, recipe, position, revision, any_columns=True)
            if verify:
                snapshot.check_run(snapshot.manifest.runs[0])
        except (NotFoundError, ProjectionError):
            continue
        return snapshot
    return None


def publish(
    store: Log, recipe: Projection, head: Head, runs: Sequence[Run], before: Snapshot | None
) -> Snapshot:
    """Make `runs` the table at `head`.

    Parameters
    ----------
    head
        Where the log ended when it was folded.
    before
        The snapshot that it goes on from; what it no longer uses of that one's runs is retired.
    """
    now = dt.datetime.now(dt.UTC)
    kept = {run.name for run in runs}
    retired = {one.run.name: one for one in before.manifest.retired} if before else {}
    due = [one for one in retired.values() if one.is_due(now - RUN_GRACE)]
    everything = list_snapshots(store, recipe)
    listed = survey(store, recipe.name, recipe.version, everything)
    staying, leaving = sort_out(listed, KEPT_MANIFESTS - 1)
    # A manifest that stays is to be whole: it serves when a newer one is damaged.
    needed = {run.name for one in staying if one.manifest for run in one.manifest.runs}
    due = [one for one in due if one.run.name not in needed]
    # Manifests that go take with them the knowledge of runs that only they name.
    for manifest in (before.manifest if before else None, *(one.manifest for one in leaving)):
        for run in (*manifest.runs, *(one.run for one in manifest.retired)) if manifest else ():
            retired.setdefault(run.name, Retired(run, now.isoformat()))
    gone = {one.run.name for one in due}
    manifest = Manifest(
        projection=recipe.name,
        version=recipe.version,
        position=head.size,
        seal=head.number,
        seal_digest=head.digest,
        store_id=store.store_id,
        key=recipe.key,
        columns=columns_of(recipe),
        runs=tuple(runs),
        retired=tuple(one for name, one in retired.items() if name not in kept | gone),
        made_at=now.isoformat(),
        made_by=made_by(),
    )
    snapshot = _put(store, recipe, manifest, everything)
    for old in leaving:
        store.storage.delete(manifest_path(recipe.name, recipe.version, old.position, old.revision))
    for one in due:
        if one.run.name not in kept:
            remove_run(store.storage, recipe, one.run)
    return snapshot


def _put(store: Place, recipe: Projection, manifest: Manifest, listed: Sequence[tuple[int, int]]) -> Snapshot:
    revision = max((number for position, number in listed if position == manifest.position), default=0)
    raw = manifest.encode()
    for _ in range(_MOST_REVISIONS):
        revision += 1
        path = manifest_path(recipe.name, recipe.version, manifest.position, revision)
        if _create(store.storage, path, raw):
            break
    else:
        raise recipe.error("no_revision", "a free revision", f"{revision} taken", "try again")
    return Snapshot(recipe, manifest, revision, store.storage)


def _create(storage: Storage, path: str, raw: bytes) -> bool:
    """Put a manifest if there is none; False if there is one."""
    if storage.abilities.atomic_create:
        try:
            return storage.create(path, raw)
        except StorageError as error:
            if error.code != "no_atomic_create":
                raise
    # Two at once would both be right: what is lost is one of two equal manifests.
    if storage.exists(path):
        return False
    storage.put(path, raw)
    return True
