"""The benchmark of compaction: its rate beside a bare read-and-write, and what it leaves."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pyarrow.parquet as pq

from eventstore import layout
from eventstore.store import EventStore
from tools.bench.campaign import ROWS_PER_SEGMENT, Settings, benchmark, campaign_store, segment_paths
from tools.bench.generator import generate
from tools.bench.measure import Row, Times, rate, run_child
from tools.bench.reading import aggregate
from tools.bench.writing import file_sizes

__all__: list[str] = []

REDUN_BYTES = 3_500
"""What redun's SQLite file has for a job, beyond the values' own bytes; see the benchmark `redun`."""
FEW = 50_000
"""Events that are laid down in many small segments."""
SMALL = 100
"""Events of such a segment."""


@benchmark("compact", "all segments into compacted ones, checked, in a new process")
def compacting(settings: Settings) -> list[Row]:
    """`EventStore.compact`, beside reading the same files and writing their rows again with pyarrow."""
    folder, facts = campaign_store(settings, rows=min(ROWS_PER_SEGMENT, settings.size // 20))
    count = facts["events"]
    copy = settings.fresh("compacted")
    shutil.copytree(folder, copy, copy_function=_link, ignore=shutil.ignore_patterns(layout.PROJECTIONS))
    ours = run_child("tools.bench.compacting:compact_once", folder=str(copy), state=str(settings.state()))
    bare = run_child("tools.bench.compacting:rewrite_once", folder=str(folder))
    shutil.rmtree(copy)
    small = run_child(
        "tools.bench.compacting:small_files",
        folder=str(settings.fresh("small")),
        state=str(settings.state()),
        seed=settings.seed,
    )
    speed, limit = rate(count, _one(ours.result["seconds"])), rate(count, _one(bare.result))
    a_job = ours.result["bytes"] / facts["jobs"]
    before, after = small.result["before"], small.result["after"]
    return [
        Row(
            f"{count:,} events",
            speed,
            "events/s",
            limit,
            "bare pyarrow read and write",
            "half of bare",
            speed * 2 >= limit,
        ),
        Row("peak memory", ours.peak_bytes / 2**20, "MiB", bare.peak_bytes / 2**20, "bare"),
        Row(
            "bytes a job beyond the values' own, after",
            a_job,
            "bytes",
            REDUN_BYTES,
            "redun's SQLite file",
            "at most a quarter",
            a_job * 4 <= REDUN_BYTES,
        ),
        Row(f"files of {FEW:,} events by {SMALL}", after["files"], "files", before["files"], "before"),
        Row("their bytes", after["bytes"], "bytes", before["bytes"], "before"),
        Row("one aggregate over them", after["scan"], "s", before["scan"], "before"),
    ]


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _one(seconds: float) -> Times:
    return Times([seconds])


def compact_once(folder: str, state: str) -> dict[str, float]:
    """Compact a store; returns seconds, and the bytes of what it made without the column of values."""
    with EventStore.open(folder, state_dir=state) as store:
        started = time.perf_counter()
        store.compact()
        seconds = time.perf_counter() - started
    size, values = file_sizes(sorted((Path(folder) / layout.COMPACTED).glob("*.parquet")))
    return {"seconds": seconds, "bytes": size - values}


def rewrite_once(folder: str) -> float:
    """Read every segment and write its rows again, as pyarrow does by itself; returns seconds."""
    target = Path(folder).parent / "rewritten.parquet"
    started = time.perf_counter()
    for path in segment_paths(Path(folder)):
        pq.write_table(pq.read_table(path), target, compression="zstd", compression_level=3)
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


def small_files(folder: str, state: str, seed: int) -> dict[str, dict[str, float]]:
    """Record events in many small segments and compact them; returns files, bytes and scans of both."""
    with EventStore.open(folder, create=True, state_dir=state, flush_rows=SMALL, auto_seal=False) as store:
        for events in generate(FEW, seed=seed, batch=SMALL):
            store.append(*events)
            store.flush()
        store.seal(everywhere=True)
        before = _state(store, layout.SEGMENTS)
        store.compact()
        return {"before": before, "after": _state(store, layout.COMPACTED)}


def _state(store: EventStore, folder: str) -> dict[str, float]:
    entries = store.storage.files(folder)
    aggregate(store.scan())
    started = time.perf_counter()
    aggregate(store.scan())
    return {
        "files": len(entries),
        "bytes": sum(entry.size_bytes for entry in entries),
        "scan": time.perf_counter() - started,
    }
