"""Manifests: which runs make a table at a position. A manifest is written last, so it vouches for files.

`projections/<table>/v<version>/manifests/<position>-<revision>.json` is put if absent and never changed. Of
those at one position the highest revision counts, and readers take the newest that is whole.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import polars as pl

from eventstore.ids import is_digest
from eventstore.layout import parse_run_name
from projections.projection import Projection
from projections.run import Run, RunFile

__all__ = ["MANIFEST_FORMAT", "Manifest", "Retired", "columns_of", "made_by"]

MANIFEST_FORMAT = 3


@dataclass(frozen=True, slots=True)
class Retired:
    """A run that newer ones replace; its files go when no reader can be at them any more."""

    run: Run
    at: str
    """When it was replaced: ISO 8601, UTC."""

    def is_due(self, before: dt.datetime) -> bool:
        """Whether it was replaced before a moment."""
        return dt.datetime.fromisoformat(self.at) < before


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a table is at `position`: it has folded the events 0 to position - 1."""

    projection: str
    version: int
    position: int
    seal: int
    """The number of the seal with which the log ended at `position`; 0 where nothing was sealed."""
    seal_digest: str
    store_id: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    """Name and type of each column of the table, in order."""
    runs: tuple[Run, ...]
    """In order of their positions; the first begins at 0 and is finished."""
    retired: tuple[Retired, ...]
    made_at: str
    made_by: str
    format: int = MANIFEST_FORMAT

    @property
    def is_whole(self) -> bool:
        """Whether the files of its one run are the table, so that anyone can read it by path."""
        return len(self.runs) == 1

    def encode(self) -> bytes:
        """Return the manifest's file: one line of JSON with its own SHA-256 before it."""
        body = json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()
        return b'{"digest":"' + _digest(body) + b'","manifest":' + body + b"}\n"

    @classmethod
    def decode(cls, raw: bytes) -> Manifest:
        """Read a manifest; raises ValueError, TypeError or KeyError for anything but a whole one."""
        body = raw[len(b'{"digest":"') + 64 + len(b'","manifest":') : -2]
        if raw != b'{"digest":"' + _digest(body) + b'","manifest":' + body + b"}\n":
            raise ValueError("its bytes do not have the digest that they state")
        found: dict[str, Any] = json.loads(body)
        if found.get("format") != MANIFEST_FORMAT:
            raise ValueError(f"format {MANIFEST_FORMAT} expected, found {found.get('format')!r}")
        made = cls(
            **{
                **found,
                "key": tuple(found["key"]),
                "columns": tuple((str(name), str(dtype)) for name, dtype in found["columns"]),
                "runs": tuple(_run(one) for one in found["runs"]),
                "retired": tuple(Retired(_run(one["run"]), one["at"]) for one in found["retired"]),
            }
        )
        if type(made.seal) is not int or not is_digest(made.seal_digest):
            raise ValueError(f"a seal expected, found {made.seal!r} with {made.seal_digest!r}")
        if [one.first for one in made.runs[:1]] != [0] or not made.runs[0].is_finished:
            raise ValueError("a first run from position 0 on expected")
        end = 0
        for run in made.runs:
            if not end <= run.first <= run.until <= made.position:
                raise ValueError(f"runs in order of their positions up to {made.position} expected")
            end = run.until
        return made


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


_RUN_FIELDS = {field.name for field in fields(Run)}


def _run(found: dict[str, Any]) -> Run:
    files = tuple(RunFile(**file) for file in found["files"])
    for file in files:
        if not is_digest(file.sha256):
            raise ValueError(f"a SHA-256 expected, found {file.sha256!r}")
        if file.role not in ("state", "table"):
            raise ValueError(f"a role expected, found {file.role!r}")
    if set(found) != _RUN_FIELDS or parse_run_name(found["name"]) is None:
        raise ValueError("a run expected")
    return Run(**{**found, "files": files})


def columns_of(projection: Projection) -> tuple[tuple[str, str], ...]:
    """Return names and types of a table's columns, as a manifest says them."""
    return tuple((name, str(dtype)) for name, dtype in projection.schema.items())


def made_by() -> str:
    """Return which software makes a manifest here."""
    try:
        ours = version("eventstore")
    except PackageNotFoundError:
        ours = "(not installed)"
    return f"eventstore {ours}, polars {pl.__version__}"
