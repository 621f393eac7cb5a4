"""Stores laid down for benchmarks: many events as segments, quickly, and the benchmark's settings.

A campaign goes round the door: tables of the segment schema are encoded and put as a writer would put them,
then sealed by the store itself.
"""

from __future__ import annotations

import datetime as dt
import gc
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from eventstore import layout
from eventstore.ids import new_writer_id
from eventstore.segment import SegmentFile, encode_segment
from eventstore.store import EventStore
from tools.bench.generator import generate_tables
from tools.bench.measure import Row, run_child

__all__ = ["BENCHMARKS", "Benchmark", "Settings", "benchmark", "campaign_store", "segment_paths", "segments"]

ROWS_PER_SEGMENT = 200_000


@dataclass(frozen=True, slots=True)
class Settings:
    """What a benchmark is told: events, repeats, a folder of its own, the seed."""

    size: int
    repeats: int
    folder: Path
    seed: int = 0

    def fresh(self, name: str) -> Path:
        """Return a path below the folder that nothing has yet."""
        for number in range(1_000_000):
            path = self.folder / f"{name}-{number}"
            if not path.exists():
                return path
        raise FileExistsError(name)

    def state(self) -> Path:
        """Where journals go."""
        return self.folder / "state"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A named measurement; `workload` says in one line what is done."""

    name: str
    workload: str
    run: Callable[[Settings], list[Row]]


BENCHMARKS: dict[str, Benchmark] = {}
"""All benchmarks, in the order in which they run."""


def benchmark(
    name: str, workload: str
) -> Callable[[Callable[[Settings], list[Row]]], Callable[[Settings], list[Row]]]:
    """Register the decorated function as a benchmark."""

    def register(run: Callable[[Settings], list[Row]]) -> Callable[[Settings], list[Row]]:
        BENCHMARKS[name] = Benchmark(name, workload, run)
        return run

    return register


def segments(tables: Iterator[pa.Table], store_id: str) -> Iterator[SegmentFile]:
    """Encode tables as today's segments of one writer."""
    day = layout.segment_day(dt.datetime.now(dt.UTC))
    for table in tables:
        yield encode_segment(table, day=day, store_id=store_id)


def lay_down(folder: str, state: str, size: int, seed: int, rows: int = ROWS_PER_SEGMENT) -> dict[str, Any]:
    """Fill a new store, `rows` events a segment; in a child, so that the parent's memory stays small.

    Large values are left out, so that the folder holds the log alone.
    """
    gc.disable()
    with EventStore.open(folder, create=True, state_dir=state, auto_seal=False) as store:
        tables = generate_tables(size, seed=seed, rows_per_table=rows, writer=new_writer_id())
        facts = {"events": 0, "jobs": 0, "value_bytes": 0}
        for table in tables:
            file = next(segments(iter([table]), store.store_id))
            store.storage.put(file.segment.path, file.data)
            facts["events"] += table.num_rows
            facts["jobs"] += sum(k.count for k in file.segment.kinds if k.kind == "job.started")
            facts["value_bytes"] += sum(table["size_bytes"].drop_null().to_pylist())
            gc.collect(0)
        store.seal(everywhere=True)
    return facts


def campaign_store(settings: Settings, *, rows: int = ROWS_PER_SEGMENT) -> tuple[Path, dict[str, Any]]:
    """Return a sealed store of ``settings.size`` events, made once for all benchmarks, and its facts.

    Parameters
    ----------
    rows
        Events of a segment.
    """
    small = "" if rows == ROWS_PER_SEGMENT else f"-by-{rows}"
    folder = settings.folder / f"campaign-{settings.size}-{settings.seed}{small}"
    note = settings.folder / f"{folder.name}.json"
    if not note.exists():
        made = run_child(
            "tools.bench.campaign:lay_down",
            folder=str(folder),
            state=str(settings.state()),
            size=settings.size,
            seed=settings.seed,
            rows=rows,
        )
        note.write_text(json.dumps({**made.result, "seconds": made.seconds}))
    return folder, json.loads(note.read_text())


def segment_paths(folder: Path) -> list[Path]:
    """The segment files of a local store, in order."""
    return sorted((folder / layout.SEGMENTS).rglob("*.parquet"))
