"""What of the tables' files nobody needs any more: old recipes and snapshots, and what killed processes left.

A plan is made first and is only data; to act on it is another step. What a reader may still be at stays for a
time of grace.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass

from eventstore import NotFoundError, StateError
from eventstore.layout import (
    PROJECTIONS,
    manifest_folder,
    manifest_path,
    parse_manifest,
    parse_run_name,
    projection_folder,
    run_folder,
)
from projections.builder import Store
from projections.manifest import Manifest
from projections.snapshot import KEPT_MANIFESTS, RUN_GRACE, is_of_log

__all__ = ["ORPHAN_GRACE", "Leftover", "plan_prune", "prune"]

ORPHAN_GRACE = dt.timedelta(hours=24)
"""How old a run must be that no manifest names: someone may be just writing it."""

_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that may go, and why."""

    path: str
    size_bytes: int
    reason: str


def plan_prune(store: Store, *, now: dt.datetime | None = None) -> list[Leftover]:
    """Return the files of tables that nobody needs any more; nothing is changed.

    These are: all of an older version of a recipe where a newer one was built; manifests but the newest
    three, and those of a log that went on differently (it was restored from an older copy); runs that were
    replaced an hour ago; and runs that no manifest names and that are a day old.

    Parameters
    ----------
    now
        The time to compare with; None takes this machine's.
    """
    moment = now or dt.datetime.now(dt.UTC)
    found: list[Leftover] = []
    for name in _names(store.storage.folders(PROJECTIONS)):
        versions = sorted(
            int(match[1])
            for one in _names(store.storage.folders(f"{PROJECTIONS}/{name}"))
            if (match := _VERSION.fullmatch(one))
        )
        built = [version for version in versions if any(_manifests(store, name, version))]
        for version in versions:
            if built and version < built[-1]:
                reason = f"version {version} of the recipe, and version {built[-1]} is built"
                folder = projection_folder(name, version)
                found += [Leftover(one.path, one.size_bytes, reason) for one in store.storage.files(folder)]
            else:
                found += _of_version(store, name, version, moment)
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


def _manifests(store: Store, name: str, version: int) -> Iterator[tuple[str, int, Manifest]]:
    """Yield path, size and content of the whole manifests of a table, newest first."""
    listed = [
        (named, entry)
        for entry in store.storage.files(manifest_folder(name, version))
        if (named := parse_manifest(entry.path)) is not None
    ]
    for named, entry in sorted(listed, key=lambda one: one[0], reverse=True):
        path = manifest_path(name, version, *named)
        try:
            manifest = Manifest.decode(store.storage.read(path))
        except (NotFoundError, ValueError, TypeError, KeyError, AttributeError):
            continue
        if manifest.store_id == store.store_id:
            yield path, entry.size_bytes, manifest


def _of_version(store: Store, name: str, version: int, now: dt.datetime) -> Iterator[Leftover]:
    named: set[str] = set()
    due: dict[str, str] = {}
    kept = 0
    for path, size, manifest in _manifests(store, name, version):
        if not is_of_log(store, manifest):
            yield Leftover(path, size, "it tells of a log that went on differently")
            continue
        kept += 1
        if kept > KEPT_MANIFESTS:
            yield Leftover(path, size, f"there are {KEPT_MANIFESTS} newer snapshots")
            continue
        named.update(run.name for run in manifest.runs)
        for one in manifest.retired:
            if one.is_due(now - RUN_GRACE):
                due[one.run.name] = f"replaced by a newer run at {one.at[:19]}"
            else:
                named.add(one.run.name)
    # Manifests that are kept beside the newest name runs that it retired; who opens one of them then sets it
    # aside.
    named -= due.keys()
    for run in _names(store.storage.folders(f"{projection_folder(name, version)}/runs")):
        said = parse_run_name(run)
        if run in named or said is None:
            continue
        orphaned = now - said[2] > ORPHAN_GRACE
        reason = due.get(run) or ("no snapshot names it" if orphaned else None)
        if reason:
            files = store.storage.files(run_folder(name, version, run))
            yield from (Leftover(one.path, one.size_bytes, reason) for one in files)
