"""Benchmark of point reads by key: the index file beside SQLite and sorted Parquet with the same rows."""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from projections.key_index import KeyIndex, build, open_index
from tools.bench.campaign import Settings, benchmark
from tools.bench.measure import Child, Row, Times, interleave, rate, run_child

__all__: list[str] = []

MIB = 2**20
KEY = "value_hash"
IDENTITY = "bench"
FRAME_ROWS = 1 << 16
GROUP_ROWS = 1 << 13
LOOKUPS = 5_000
SCANS = 20


def frames(size: int, seed: int) -> Iterator[pl.DataFrame]:
    """Rows of a table like `values`, sorted by key: three hashes, numbers, a flag, a time, some nulls."""
    rng = random.Random(seed)
    count = -(-size // FRAME_ROWS)
    for number in range(count):
        rows = min(FRAME_ROWS, size - number * FRAME_ROWS)
        index = pl.int_range(number * FRAME_ROWS, number * FRAME_ROWS + rows, eager=True)
        # The first digits grow from frame to frame, so that each can be sorted by itself.
        keys = f"{number * 16**6 // count:06x}" + hexes(rng, rows, 34)
        yield pl.DataFrame(
            {
                KEY: keys.sort(),
                "position": index * 7919 % size,
                "call_hash": hexes(rng, rows, 40),
                "data_digest": hexes(rng, rows, 64),
                "type_name": pl.select(pl.when(index % 5 > 0).then(pl.lit("builtins.dict"))).to_series(),
                "size_bytes": index % 50_000,
                "stored": index % 500 == 0,
                "recorded_at": (index * 1_000_003 + 1_767_225_600_000_000).cast(pl.Datetime("us", "UTC")),
            }
        )


def hexes(rng: random.Random, rows: int, width: int) -> pl.Series:
    """Return a column of random hex text."""
    digits = pa.py_buffer(rng.randbytes(rows * width // 2).hex().encode())
    ends = pl.int_range(0, (rows + 1) * width, width, eager=True).to_arrow().buffers()[1]
    return pl.Series(pa.LargeStringArray.from_buffers(rows, ends, digits))


def paths(folder: str) -> tuple[Path, Path, Path]:
    """Where the Parquet file, the index and the database are."""
    return Path(folder) / "rows.parquet", Path(folder) / "rows.index", Path(folder) / "rows.sqlite"


def lay_down(folder: str, size: int, seed: int) -> list[str]:
    """Write the rows as one Parquet file, in row groups that suit look-ups; returns some keys."""
    Path(folder).mkdir(parents=True)
    rng, keys = random.Random(seed), []
    every = max(1, -(-size // FRAME_ROWS)) / LOOKUPS
    writer = None
    for frame in frames(size, seed):
        table = frame.to_arrow()
        writer = writer or pq.ParquetWriter(
            paths(folder)[0], table.schema, compression="zstd", use_dictionary=False
        )
        writer.write_table(table, row_group_size=GROUP_ROWS)
        keys += rng.choices(frame[KEY].to_list(), k=int(1 / every) + 1)
    assert writer is not None
    writer.close()
    rng.shuffle(keys)
    return keys[:LOOKUPS]


def batches(folder: str) -> Iterator[pl.DataFrame]:
    """The rows again, as a reader of the Parquet file gets them."""
    with pq.ParquetFile(paths(folder)[0], pre_buffer=False) as file:
        for batch in file.iter_batches(FRAME_ROWS):
            yield pl.DataFrame(batch)


def build_once(folder: str) -> float:
    """Build the index; returns seconds, with those of reading Parquet."""
    started = time.perf_counter()
    build(paths(folder)[1], batches(folder), key=[KEY], identity=IDENTITY)
    return time.perf_counter() - started


def fill_sqlite_once(folder: str) -> float:
    """Insert the rows in order of the key, in one transaction, nothing synced; returns seconds."""
    path = paths(folder)[2]
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    started = time.perf_counter()
    statement = None
    connection.execute("BEGIN")
    for frame in batches(folder):
        if statement is None:
            columns = ", ".join(f"{name} PRIMARY KEY" if name == KEY else name for name in frame.columns)
            connection.execute(f"CREATE TABLE rows ({columns}) WITHOUT ROWID")
            statement = f"INSERT INTO rows VALUES ({', '.join('?' * frame.width)})"  # noqa: S608 - our names
        connection.executemany(statement, frame.with_columns(pl.col("recorded_at").to_physical()).iter_rows())
    connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return seconds


def opened(folder: str) -> KeyIndex:
    """Open the index, which is there."""
    index = open_index(paths(folder)[1], identity=IDENTITY)
    assert index is not None, "it was built"
    return index


def connected(folder: str) -> sqlite3.Connection:
    """Open the database, mapped."""
    connection = sqlite3.connect(f"file:{paths(folder)[2]}?mode=ro", uri=True)
    connection.execute(f"PRAGMA mmap_size={1 << 40}")
    return connection


def first_answer(folder: str, key: str) -> float:
    """Open the index and ask it once; returns seconds. Runs in a child: nothing was open before."""
    started = time.perf_counter()
    with opened(folder) as index:
        found = index.get(key)
        seconds = time.perf_counter() - started
    assert found is not None, "the key is there"
    return seconds


def first_sqlite_answer(folder: str, key: str) -> float:
    """The same of the database."""
    started = time.perf_counter()
    connection = connected(folder)
    found = ask(connection)(key)
    seconds = time.perf_counter() - started
    connection.close()
    assert found is not None, "the key is there"
    return seconds


def ask(connection: sqlite3.Connection) -> Callable[[str], Any]:
    """Return the look-up of the database."""
    statement = f"SELECT * FROM rows WHERE {KEY} = ?"  # noqa: S608 - our own name
    return lambda key: connection.execute(statement, (key,)).fetchone()


def middle(get: Callable[[str], Any], keys: Sequence[str], *, there: bool) -> float:
    """Ask for keys one by one; returns the median of their seconds."""
    clock = time.perf_counter
    times = []
    for key in keys:
        started = clock()
        found = get(key)
        times.append(clock() - started)
        assert (found is not None) == there, "the answer is right"
    return statistics.median(times)


def new_and_warm(folder: str, keys: Sequence[str], into: dict[str, Times]) -> None:
    """Ask a newly opened index and a newly opened database, then both again, for keys and for others."""
    absent = [f"{key[:-1]}g" for key in keys]
    connection = connected(folder)
    with opened(folder) as index:
        for name, get in (("ours", index.get), ("sqlite", ask(connection))):
            into[f"{name}, new"].append(middle(get, keys, there=True))
            into[f"{name}, warm"].append(middle(get, keys, there=True))
            into[f"{name}, absent"].append(middle(get, absent, there=False))
    connection.close()


@benchmark("key_index", "rows of a sorted table by their key, one at a time")
def key_index(settings: Settings) -> list[Row]:
    """Building, opening and asking an index, beside SQLite (WITHOUT ROWID) and polars on sorted Parquet."""
    count = settings.size
    folder = str(settings.fresh("lookups"))
    keys = run_child("tools.bench.lookups:lay_down", folder=folder, size=count, seed=settings.seed).result
    children: dict[str, list[Child]] = {
        name: [] for name in ("build_once", "fill_sqlite_once", "first_answer", "first_sqlite_answer")
    }
    for _ in range(settings.repeats):
        for name, some in children.items():
            more = {"key": keys[0]} if "answer" in name else {}
            some.append(run_child(f"tools.bench.lookups:{name}", folder=folder, **more))
    seconds = {name: Times(child.result for child in some) for name, some in children.items()}
    peak = max(child.peak_bytes for child in children["build_once"]) / MIB
    parquet, *others = paths(folder)
    index_bytes, sqlite_bytes = (path.stat().st_size / count for path in others)

    times = {f"{name}, {what}": Times() for name in ("ours", "sqlite") for what in ("new", "warm", "absent")}
    for _ in range(settings.repeats):
        new_and_warm(folder, keys, times)
    table = pl.scan_parquet(parquet)
    scans = interleave(
        {
            "polars": lambda: middle(
                lambda key: table.filter(pl.col(KEY) == key).collect().rows()[0], keys[:SCANS], there=True
            )
        },
        settings.repeats,
    )
    for path in paths(folder):
        path.unlink()
    us = {name: 1e6 * some.median for name, some in {**times, **scans}.items()}
    built, filled = rate(count, seconds["build_once"]), rate(count, seconds["fill_sqlite_once"])
    first_ms, first_sqlite_ms = (1e3 * seconds[n].median for n in ("first_answer", "first_sqlite_answer"))
    warm = us["ours, warm"]
    return [
        Row(f"get, {count:,} rows, p50", warm, "us/get", us["sqlite, warm"], "SQLite", "50 us", warm < 50),
        Row("the same", warm, "us/get", us["polars"], "polars, sorted Parquet"),
        Row("for the first time since opening", us["ours, new"], "us/get", us["sqlite, new"], "SQLite"),
        Row("of a key that is absent", us["ours, absent"], "us/get", us["sqlite, absent"], "SQLite"),
        Row("first answer, new process", first_ms, "ms", first_sqlite_ms, "SQLite", "100 ms", first_ms < 100),
        Row("build, from Parquet", built, "rows/s", filled, "SQLite", "300,000 rows/s", built >= 300_000),
        Row("peak memory of building", peak, "MiB", bar="under 1 GiB", holds=peak < 1024),
        Row("size", index_bytes, "bytes/row", sqlite_bytes, "SQLite"),
    ]
