"""Benchmarks of reading: scan, rebuild of all tables, verification."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from eventstore.codec.canonical import event_hashes
from eventstore.store import EventStore
from projections import default_projections, rebuild
from tools.bench.campaign import Settings, benchmark, campaign_store, segment_paths
from tools.bench.limits import bare_hashes, hash_inputs
from tools.bench.measure import Child, Row, Times, interleave, rate, run_child

__all__: list[str] = []

GIB = 2**30


def aggregate(frame: pl.LazyFrame) -> int:
    """A question that touches several columns of every row: jobs by task and how they ended."""
    question = frame.group_by("kind", "task_hash", "status").agg(
        pl.len(), pl.col("job_id").n_unique(), pl.col("occurred_at").max()
    )
    return question.collect(engine="streaming").height


def bare_scan(folder: Path | str) -> pl.LazyFrame:
    """The same segment files, as polars reads them by itself."""
    return pl.scan_parquet(segment_paths(Path(folder)), glob=False, hive_partitioning=False, cache=False)


@benchmark("scan", "one aggregate over six columns of all events")
def scan(settings: Settings) -> list[Row]:
    """`EventStore.scan`, with and without checking the files first, beside bare `scan_parquet`."""
    folder, facts = campaign_store(settings)
    count = facts["events"]

    def ours(*, check: bool) -> float:
        with EventStore.open(folder, read_only=True, state_dir=settings.state()) as store:
            started = time.perf_counter()
            aggregate(store.scan(check=check))
            return time.perf_counter() - started

    def again() -> float:
        started = time.perf_counter()
        aggregate(warm.scan())
        return time.perf_counter() - started

    with EventStore.open(folder, read_only=True, state_dir=settings.state()) as warm:
        aggregate(warm.scan())
        times = interleave(
            {
                "first": lambda: ours(check=True),
                "again": again,
                "unchecked": lambda: ours(check=False),
                "bare": lambda: float(_timed_bare(folder)),
            },
            settings.repeats,
        )
    speed = {name: rate(count, seconds) for name, seconds in times.items()}
    limit = (speed["bare"], "bare polars scan_parquet")
    return [
        Row(f"{count:,} events, files checked first", speed["first"], "events/s", *limit),
        Row("the second time in a process", speed["again"], "events/s", *limit),
        Row("not checked", speed["unchecked"], "events/s", *limit),
    ]


def _timed_bare(folder: Path) -> float:
    started = time.perf_counter()
    aggregate(bare_scan(folder))
    return time.perf_counter() - started


@benchmark("rebuild", "all tables from the first event, each time in a new process")
def rebuilding(settings: Settings) -> list[Row]:
    """`projections.rebuild`, beside one bare polars pass over the same columns; peak memory of each."""
    folder, facts = campaign_store(settings)
    count = facts["events"]
    children: dict[str, list[Child]] = {"ours": [], "sink": [], "cheap": []}
    for _ in range(settings.repeats):
        arguments = {"folder": str(folder), "state": str(settings.state())}
        children["ours"].append(run_child("tools.bench.reading:rebuild_once", **arguments))
        children["sink"].append(run_child("tools.bench.reading:sink_once", folder=str(folder)))
        children["cheap"].append(run_child("tools.bench.reading:aggregate_once", folder=str(folder)))
    speed = {n: rate(count, Times(child.result for child in some)) for n, some in children.items()}
    peak = {name: max(child.peak_bytes for child in some) for name, some in children.items()}
    times_slower = speed["sink"] / speed["ours"]
    return [
        Row(
            f"{count:,} events, {len(default_projections.names)} tables",
            speed["ours"],
            "events/s",
            speed["sink"],
            "bare scan + sink_parquet",
            "at most 3 times one pass",
            times_slower <= 3,
        ),
        Row("the same", speed["ours"], "events/s", speed["cheap"], "bare scan + cheap aggregate"),
        Row(
            "peak memory",
            peak["ours"] / 2**20,
            "MiB",
            peak["sink"] / 2**20,
            "bare scan + sink_parquet",
            "under 2 GiB",
            peak["ours"] < 2 * GIB,
        ),
    ]


def rebuild_once(folder: str, state: str, names: Sequence[str] = ()) -> float:
    """Rebuild tables, or all; returns seconds."""
    with EventStore.open(folder, state_dir=state) as store:
        started = time.perf_counter()
        rebuild(store, names or None)
        return time.perf_counter() - started


def _columns() -> list[str]:
    """The columns that the recipes read, as the log names them."""
    read = {name for one in default_projections.select(None) for name in one.reads}
    return sorted(read - {"position"})


def sink_once(folder: str) -> float:
    """Read the columns that the recipes read and write them to one file; returns seconds."""
    target = Path(folder).parent / "sink.parquet"
    started = time.perf_counter()
    bare_scan(folder).select(_columns()).sink_parquet(target)
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


def aggregate_once(folder: str) -> float:
    """Read the same columns and count them; returns seconds."""
    started = time.perf_counter()
    bare_scan(folder).select(pl.col(_columns()).count()).collect(engine="streaming")
    return time.perf_counter() - started


@benchmark("verify", "every hash, the chain, the tree and the files' digests, on one core")
def verify(settings: Settings) -> list[Row]:
    """`EventStore.verify`, beside three bare hashes an event; and what of it is hashing rows."""
    folder, facts = campaign_store(settings)
    count = facts["events"]
    lengths: list[int] = []
    raw = b""
    for path in segment_paths(folder):
        raw = raw or path.read_bytes()
        if len(lengths) < 100_000:
            lengths += hash_inputs(pq.read_table(path).slice(0, 100_000 - len(lengths)))
    table = pq.read_table(segment_paths(folder)[0]).replace_schema_metadata(None)

    def ours() -> float:
        with EventStore.open(folder, read_only=True, state_dir=settings.state()) as store:
            report = store.verify()
            assert report.ok, report.findings[:3]
            assert report.events == count, "every event was looked at"
            return report.seconds

    times = interleave(
        {
            "ours": ours,
            "rows": lambda: _only_hashes(table),
            "read": lambda: _only_read(folder),
            "bare": lambda: bare_hashes(lengths),
            "files": lambda: _file_digests(folder),
        },
        settings.repeats,
    )
    speed = {name: rate(count, times[name]) for name in ("ours", "read", "files")}
    bare, rows = rate(len(lengths), times["bare"]), rate(table.num_rows, times["rows"])
    limit = (bare, "bare SHA-256, three an event")
    together = 1 / (1 / bare + 1 / speed["read"] + 1 / speed["files"])
    return [
        Row(
            f"{count:,} events",
            speed["ours"],
            "events/s",
            *limit,
            "400,000 events/s",
            speed["ours"] >= 400_000,
        ),
        Row("the same", speed["ours"], "events/s", together, "hashes, reading, digests of files"),
        Row("of this: event hashes", rows, "events/s", *limit),
    ]


def _only_hashes(table: Any) -> float:
    started = time.perf_counter()
    event_hashes(table)
    return time.perf_counter() - started


def _only_read(folder: Path) -> float:
    started = time.perf_counter()
    for path in segment_paths(folder):
        pq.read_table(path, use_threads=False)
    return time.perf_counter() - started


def _file_digests(folder: Path) -> float:
    started = time.perf_counter()
    for path in segment_paths(folder):
        hashlib.sha256(path.read_bytes()).digest()
    return time.perf_counter() - started
