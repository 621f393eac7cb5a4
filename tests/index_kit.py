"""What tests of the history index's runs share: records, what counts of them, and small sizes."""

from __future__ import annotations

import errno
import io
import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from eventstore.checked_file import PARTIAL
from eventstore.index.records import Records
from eventstore.index.run_file import Run
from eventstore.index.run_writer import write_run
from eventstore.index.runs import IndexRuns, Keep

__all__ = [
    "ALL",
    "FIRST",
    "KEEP",
    "LAST",
    "OTHER",
    "RULES",
    "Pair",
    "add",
    "counting",
    "disk_of",
    "make_run",
    "pairs",
    "shrink",
    "some_key",
]

Pair = tuple[bytes, bytes]

FIRST, LAST, ALL, OTHER = 1, 2, 3, 200
KEEP: Mapping[int, Keep] = {FIRST: "first", LAST: "last", ALL: "all"}
"""By family; all counts of one that is not here."""
RULES = (FIRST, LAST, ALL, OTHER)


def some_key(rng: random.Random, family: int | None = None) -> bytes:
    """Return a key of random bytes."""
    return rng.randbytes(20) + bytes([rng.choice(RULES) if family is None else family])


def pairs(rng: random.Random, count: int, *, keys: int, longest: int = 60) -> list[Pair]:
    """Return records of so many keys, of which several share one, some with what others have too."""
    pool = [some_key(rng) for _ in range(keys)]
    payloads = [b"", b"same", *(rng.randbytes(rng.randrange(longest)) for _ in range(count))]
    return [(rng.choice(pool), rng.choice(payloads)) for _ in range(count)]


def counting(records: Iterable[Pair]) -> dict[bytes, list[bytes]]:
    """Return the payloads that count, by key."""
    found: dict[bytes, list[bytes]] = {}
    for key, payload in records:
        found.setdefault(key, []).append(payload)
    leave = {"first": lambda all_: all_[:1], "last": lambda all_: all_[-1:]}
    return {
        key: leave.get(KEEP.get(key[20], "all"), lambda all_: list(dict.fromkeys(all_)))(payloads)
        for key, payloads in found.items()
    }


def make_run(path: Path, records: Iterable[Pair]) -> Run:
    """Write records, with nothing thinned, as a run and open it."""
    given = sorted(records, key=lambda record: record[0])
    columns = Records.of_columns([key for key, _ in given], [payload for _, payload in given])
    write_run(
        path,
        columns.between,
        count=len(columns),
        size_bytes=columns.size_bytes,
        facts={"name": path.stem},
    )
    run = Run.open(path)
    assert run is not None
    return run


def add(runs: IndexRuns, records: Iterable[Pair], until: int | None = None) -> None:
    """Add records in a turn of their own; each is one position, unless `until` is given."""
    given = list(records)
    with runs.turn() as mine:
        assert mine, "nobody else has the turn"
        at = runs.position + len(given) if until is None else until
        keys, payloads = [key for key, _ in given], [payload for _, payload in given]
        runs.add(keys, payloads, until=at, writers={"w": at}, mark=f"mark {at}")


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make blocks, parts and pages small, so that a few records take every path."""
    patch.setattr("eventstore.index.run_writer.PART_BYTES", 1_000)
    patch.setattr("eventstore.index.run_writer._BLOCK_RECORDS", 2)
    patch.setattr("eventstore.index.run_writer._PAGE_BITS", 6)
    patch.setattr("eventstore.checked_file._GROUP_BITS", 3)
    patch.setattr("eventstore.index.run_file._SMALL_RECORDS", 4)
    patch.setattr("eventstore.index.run_file._SMALL_BYTES", 200)


def disk_of(room: int, patch: pytest.MonkeyPatch) -> None:
    """Let new files of the index have so many bytes together; then the disk is full."""
    left = room
    real = Path.open

    class Full(io.BufferedWriter):
        def write(self, data: Any) -> int:
            nonlocal left
            left -= len(data)
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    def open_path(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if path.suffix != PARTIAL:
            return real(path, mode, *more, **named)
        return Full(io.FileIO(path, mode.replace("b", "")))

    patch.setattr(Path, "open", open_path)
