"""What of the tables' files nobody needs any more: old recipes and snapshots, and what killed processes left.

A plan is made first and is only data; to act on it is another step. What a reader may still be at stays for a
time of grace. Temporary files are the log's to clean, as everywhere in a store.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass

from eventstore import StateError
from eventstore.layout import (
    PROJECTIONS,
    manifest_path,
    parse_manifest,
    parse_run_name,
    projection_folder,
)
from projections.builder import Store
from projections.manifest import Manifest
from projections.snapshot import KEPT_MANIFESTS, RUN_GRACE, Listed, sort_out, survey

__all__ = ["ORPHAN_GRACE", "Leftover", "plan_prune", "prune"]

ORPHAN_GRACE = dt.timedelta(hours=24)
"""How old a run must be that no manifest names: someone may be just writing it."""

_LOOKS = 3
"""How often a table is listed anew when others published meanwhile; then nothing of it goes this time."""
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that may go, and why."""

    path: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Version:
    """What one version of a recipe has on storage."""

    name: str
    number: int
    files: dict[str, int]
    """Size in bytes by path."""
    listed: list[Listed]
    """Its manifests, newest first."""

    @property
    def folder(self) -> str:
        return projection_folder(self.name, self.number)


def plan_prune(
    store: Store, *, now: dt.datetime | None = None, grace: dt.timedelta = RUN_GRACE
) -> list[Leftover]:
    """Return the files of tables that nobody needs any more; nothing is changed.

    These are: all of an older version of a recipe where a newer one has been there whole for a while; of
    manifests that tell of this log all but the newest three, and those of a log that went on differently (it
    was restored from an older copy); runs that were replaced an hour ago and that no manifest names which
    stays; and runs that no manifest names and that are a day old.

    Parameters
    ----------
    now
        The time to compare with; None takes this machine's.
    grace
        How long an older version stays after a newer one was built, for readers that are still at it; more
        than an hour counts as an hour.
    """
    moment = now or dt.datetime.now(dt.UTC)
    least = min(max(grace, dt.timedelta(0)), RUN_GRACE)
    found: list[Leftover] = []
    for name in _names(store.storage.folders(PROJECTIONS)):
        versions = _versions(store, name)
        built = [
            one.number
            for one in versions
            if (since := _built_since(one)) is not None and moment - since >= least
        ]
        newest = max(built, default=0)
        for one in versions:
            if one.number < newest:
                reason = f"version {one.number} of the recipe, and version {newest} is built"
                found += [Leftover(path, size, reason) for path, size in one.files.items()]
            else:
                found += _of_version(one, moment)
    return found


def prune(store: Store, plan: list[Leftover]) -> int:
    """Delete the files of a plan, manifests first, and return how many bytes they had.

    Raises
    ------
    StateError
        The store is read-only (code ``read_only``).
    """
    if store.read_only:
        raise StateError(
            "the store was opened with read_only=True and files were to be deleted: open it again without",
            code="read_only",
        )
    # Without its manifest nobody begins to read what is deleted next.
    for one in sorted(plan, key=lambda one: parse_manifest(one.path) is None):
        store.storage.delete(one.path)
    return sum(one.size_bytes for one in plan)


def _names(folders: list[str]) -> list[str]:
    return [folder.rstrip("/").rpartition("/")[2] for folder in folders]


def _versions(store: Store, name: str) -> list[_Version]:
    found = []
    for folder in _names(store.storage.folders(f"{PROJECTIONS}/{name}")):
        match = _VERSION.fullmatch(folder)
        if match is None:
            continue
        number = int(match[1])
        for _ in range(_LOOKS):
            files = {one.path: one.size_bytes for one in store.storage.files(projection_folder(name, number))}
            named = sorted(
                (said for path in files if (said := parse_manifest(path)) is not None), reverse=True
            )
            listed = survey(store, name, number, named)
            if len(listed) == len(named):
                found.append(_Version(name, number, files, listed))
                break
    return found


def _built_since(version: _Version) -> dt.datetime | None:
    """Return since when a whole table of this log is there, as far as is known; None if there is none.

    Files are there with the sizes that a manifest states, as where a table is opened without reading it.
    """
    whole = [
        one.manifest
        for one in version.listed
        if one.manifest and one.of_log and _is_whole(version, one.manifest)
    ]
    return min((moment for manifest in whole for moment in _seen(manifest)), default=None)


def _is_whole(version: _Version, manifest: Manifest) -> bool:
    return all(
        version.files.get(f"{version.folder}/runs/{run.name}/{file.name}") == file.size_bytes
        for run in manifest.runs
        for file in run.files
    )


def _seen(manifest: Manifest) -> Iterator[dt.datetime]:
    """Yield times at which a table was there: its last manifests may all be of a minute ago."""
    yield dt.datetime.fromisoformat(manifest.made_at)
    for retired in manifest.retired:
        yield dt.datetime.fromisoformat(retired.at)
    for run in (*manifest.runs, *(one.run for one in manifest.retired)):
        # One from 0 on may be written long before its manifest; another goes on from what was there.
        if run.first and (said := parse_run_name(run.name)) is not None:
            yield said[2]


def _of_version(version: _Version, now: dt.datetime) -> Iterator[Leftover]:
    staying, leaving = sort_out(version.listed, KEPT_MANIFESTS)
    for one in leaving:
        path = manifest_path(version.name, version.number, one.position, one.revision)
        foreign = one.of_log is False
        reason = (
            "it tells of a log that went on differently"
            if foreign
            else f"there are {KEPT_MANIFESTS} newer snapshots"
        )
        yield Leftover(path, version.files[path], reason)
    # What stays is to be whole, as where a snapshot is published: one manifest may have retired what another
    # names, which was made beside it.
    needed = {run.name for one in staying if one.manifest for run in one.manifest.runs}
    replaced = _replaced(staying, leaving)
    for run, paths in _runs(version).items():
        said = parse_run_name(run)
        if run in needed or said is None:
            continue
        at = replaced.get(run)
        if at is None and now - said[2] > ORPHAN_GRACE:
            reason = "no snapshot names it"
        elif at is not None and now - at > RUN_GRACE:
            reason = f"replaced by a newer run at {at:%Y-%m-%dT%H:%M:%S}"
        else:
            continue
        yield from (Leftover(path, version.files[path], reason) for path in paths)


def _replaced(staying: list[Listed], leaving: list[Listed]) -> dict[str, dt.datetime]:
    """Return when runs were last replaced; those of manifests that go were when the newest was made."""
    kept = [one.manifest for one in staying if one.manifest]
    found: dict[str, dt.datetime] = {}
    for manifest in kept:
        for one in manifest.retired:
            at = dt.datetime.fromisoformat(one.at)
            found[one.run.name] = max(at, found.get(one.run.name, at))
    newest = max((dt.datetime.fromisoformat(manifest.made_at) for manifest in kept), default=None)
    for gone in leaving:
        if newest is not None and gone.manifest and gone.of_log is not False:
            for run in (*gone.manifest.runs, *(one.run for one in gone.manifest.retired)):
                found.setdefault(run.name, newest)
    return found


def _runs(version: _Version) -> dict[str, list[str]]:
    """Return the paths of each run's files."""
    found: dict[str, list[str]] = {}
    start = f"{version.folder}/runs/"
    for path in version.files:
        if path.startswith(start):
            found.setdefault(path[len(start) :].partition("/")[0], []).append(path)
    return found
