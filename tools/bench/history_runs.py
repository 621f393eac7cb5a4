"""Benchmark of the history index: sorted runs beside SQLite, filled and asked in the same steps."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eventstore.index.runs import IndexRuns
from tools.bench.campaign import Settings, benchmark
from tools.bench.measure import Child, Row, Times, run_child

__all__: list[str] = []

MIB = 2**20
ADD_RECORDS = 200_000
PAYLOAD_BYTES = 100
LOOKUPS = 20_000
SMALL = 10_000
KEEP = {1: "last"}
SQLITE_CACHE = 256 * MIB

Batch = tuple[list[bytes], list[bytes]]


def batches(size: int, seed: int) -> Iterator[Batch]:
    """Keys and payloads in the order of a log: keys are random, as digests are, payloads 100 bytes."""
    rng = random.Random(seed)
    for first in range(0, size, ADD_RECORDS):
        count = min(ADD_RECORDS, size - first)
        digests, body = rng.randbytes(20 * count), rng.randbytes(PAYLOAD_BYTES * count)
        yield (
            [digests[at : at + 20] + b"\1" for at in range(0, 20 * count, 20)],
            [body[at : at + PAYLOAD_BYTES] for at in range(0, PAYLOAD_BYTES * count, PAYLOAD_BYTES)],
        )


def some_keys(size: int, seed: int) -> list[bytes]:
    """Some keys of all batches, in no order."""
    rng = random.Random(seed + 1)
    share = min(1.0, LOOKUPS / size)
    found = [key for keys, _ in batches(size, seed) for key in keys if share == 1 or rng.random() < share]
    rng.shuffle(found)
    return found


def paths(folder: str) -> tuple[Path, Path]:
    """Where the runs and the database are."""
    return Path(folder) / "index", Path(folder) / "records.sqlite"


def opened(folder: str) -> IndexRuns:
    """Open the runs."""
    return IndexRuns(paths(folder)[0], keep=KEEP)  # type: ignore[arg-type]


def fill_runs(folder: str, size: int, seed: int) -> dict[str, float]:
    """Add all records and merge as they come; returns seconds of both, and records that merges wrote."""
    runs = opened(folder)
    spent = {"adding": 0.0, "merging": 0.0, "merged": 0.0}
    clock = time.perf_counter
    for keys, payloads in batches(size, seed):
        with runs.turn() as mine:
            assert mine, "nobody else adds"
            started = clock()
            runs.add(keys, payloads, until=runs.position + len(keys), writers={}, mark="")
            spent["adding"] += clock() - started
            started = clock()
            if runs.merge_if_due():
                spent["merging"] += clock() - started
                spent["merged"] += runs.runs[-1].records
    runs.close()
    return spent


def fill_sqlite(folder: str, size: int, seed: int) -> float:
    """Insert the same records, a transaction for each batch, nothing synced; returns seconds."""
    connection = sqlite3.connect(paths(folder)[1], isolation_level=None)
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute(f"PRAGMA cache_size=-{SQLITE_CACHE // 1024}")
    connection.execute("CREATE TABLE records (key BLOB PRIMARY KEY, payload BLOB) WITHOUT ROWID")
    spent = 0.0
    for keys, payloads in batches(size, seed):
        started = time.perf_counter()
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO records VALUES (?, ?)", zip(keys, payloads, strict=True))
        connection.execute("COMMIT")
        spent += time.perf_counter() - started
    connection.close()
    return spent


def connected(folder: str) -> sqlite3.Connection:
    """Open the database, mapped."""
    connection = sqlite3.connect(f"file:{paths(folder)[1]}?mode=ro", uri=True)
    connection.execute(f"PRAGMA mmap_size={1 << 40}")
    return connection


def ask(connection: sqlite3.Connection) -> Callable[[bytes], Any]:
    """Return the look-up of the database."""
    statement = "SELECT payload FROM records WHERE key = ?"
    return lambda key: connection.execute(statement, (key,)).fetchall()


def middle(get: Callable[[bytes], Any], keys: Sequence[bytes], *, there: bool) -> float:
    """Ask for keys one by one; returns the median of their seconds."""
    clock = time.perf_counter
    times = []
    for key in keys:
        started = clock()
        found = get(key)
        times.append(clock() - started)
        assert bool(found) == there, "the answer is right"
    return statistics.median(times)


def asked(folder: str, size: int, seed: int, repeats: int) -> dict[str, list[float]]:
    """Ask runs and database in turn: for the first time, and again; returns medians in seconds.

    Runs in a child, so that nothing else is in its memory.
    """
    keys = some_keys(size, seed)
    rng = random.Random(seed + 2)
    absent = [rng.randbytes(20) + b"\1" for _ in keys]
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)

    for _ in range(repeats):
        started = time.perf_counter()
        runs = opened(folder)
        note("open", time.perf_counter() - started)
        connection = connected(folder)
        for name, get in (("ours", runs.get), ("sqlite", ask(connection))):
            note(f"{name}, new hit", middle(get, keys, there=True))
            note(f"{name}, new miss", middle(get, absent, there=False))
            note(f"{name}, hit", middle(get, keys, there=True))
            note(f"{name}, miss", middle(get, absent, there=False))
        note("runs", len(runs.runs))
        connection.close()
        runs.close()
    return found


def sized(settings: Settings, size: int) -> list[Row]:
    """Fill and ask an index of so many records, and a database."""
    folder = settings.fresh("history-index")
    folder.mkdir(parents=True)
    given = {"folder": str(folder), "size": size, "seed": settings.seed}
    filled: Child = run_child("tools.bench.history_runs:fill_runs", **given)
    inserting: Child = run_child("tools.bench.history_runs:fill_sqlite", **given)
    answers = run_child("tools.bench.history_runs:asked", **given, repeats=settings.repeats).result
    inserted = size / inserting.result
    us = {name: 1e6 * Times(some).median for name, some in answers.items()}
    runs, records = paths(str(folder))
    with contextlib.closing(opened(str(folder))) as index:
        runs_bytes = sum(run.size_bytes for run in index.runs)
    sqlite_bytes = records.stat().st_size
    for path in (*runs.iterdir(), records):
        path.unlink()
    spent = filled.result
    whole = f"{size:,} records in {answers['runs'][0]:.0f} runs"
    hit, miss, new_hit, new_miss = (us[f"ours, {what}"] for what in ("hit", "miss", "new hit", "new miss"))
    sum_of_both = spent["adding"] + spent["merging"]
    rows = [
        Row(f"get, {whole}, p50", hit, "us/get", us["sqlite, hit"], "SQLite", "10 us", hit < 10),
        Row("of a key that is absent", miss, "us/get", us["sqlite, miss"], "SQLite", "10 us", miss < 10),
        Row("for the first time since opening", new_hit, "us/get", us["sqlite, new hit"], "SQLite"),
        Row("absent, for the first time", new_miss, "us/get", us["sqlite, new miss"], "SQLite"),
        Row("opening", us["open"] / 1e3, "ms", bar="5 ms", holds=us["open"] < 5_000),
        Row(f"adding, {ADD_RECORDS:,} at a time", size / spent["adding"], "records/s", inserted, "SQLite"),
        Row("the same and merging", size / sum_of_both, "records/s", inserted, "SQLite"),
        Row("size", runs_bytes / size, "bytes/record", sqlite_bytes / size, "SQLite"),
    ]
    if spent["merged"]:
        peak = filled.peak_bytes / MIB
        rows += [
            Row("merging, records written", spent["merged"] / spent["merging"], "records/s"),
            Row("records written by merges, of each", spent["merged"] / size, "times"),
            Row("peak memory of adding and merging", peak, "MiB", bar="under 1 GiB", holds=peak < 1024),
        ]
    return rows


@benchmark("history_index", "records of the local history index by key, as an engine asks for them")
def history_index(settings: Settings) -> list[Row]:
    """Adding, merging, opening and asking, at 10,000 records and at the size, beside SQLite."""
    small = sized(settings, SMALL) if settings.size > SMALL else []
    return small + sized(settings, settings.size)
