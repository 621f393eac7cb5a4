"""Benchmarks of what becomes of rows: segments, their size, and seals."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from eventstore.codec.rows import Row as EventRow
from eventstore.codec.rows import table_of
from eventstore.ids import new_writer_id
from eventstore.store import EventStore
from tools.bench.campaign import Settings, benchmark, campaign_store, segment_paths, segments
from tools.bench.generator import WRITER, generate, generate_rows, generate_tables
from tools.bench.limits import bare_create, bare_hashes, bare_parquet, hash_inputs
from tools.bench.measure import Row, Times, interleave

__all__ = ["file_sizes"]


def microseconds(count: int, times: Times) -> float:
    """Microseconds a thing, from the median."""
    return times.median / count * 1e6


@benchmark("segment", "rows to an Arrow table with salts and hashes, and the table to one segment file")
def segment(settings: Settings) -> list[Row]:
    """The two steps of a flush, beside bare hashing and a bare Parquet write of the same table."""
    count = min(settings.size, 100_000)
    rows: list[EventRow] = next(generate_rows(count, seed=settings.seed, batch=count))
    gc.collect()
    gc.freeze()
    table = made(rows)
    lengths = hash_inputs(table)
    times = interleave(
        {
            "table": lambda: _only_time(lambda: made(rows)),
            "encode": lambda: _only_time(lambda: next(segments(iter([table]), "bench"))),
            "hashes": lambda: bare_hashes(lengths),
            "parquet": lambda: bare_parquet(table),
        },
        settings.repeats,
    )
    cost = {name: microseconds(count, seconds) for name, seconds in times.items()}
    return [
        Row(
            f"table of {count:,} rows", cost["table"], "us/event", cost["hashes"], "bare SHA-256, three each"
        ),
        Row("segment of that table", cost["encode"], "us/event", cost["parquet"], "bare Parquet write"),
        Row(
            "both",
            cost["table"] + cost["encode"],
            "us/event",
            cost["hashes"] + cost["parquet"],
            "both limits",
        ),
    ]


def made(rows: list[EventRow]) -> pa.Table:
    """The table of rows, as a flush makes it."""
    return table_of(rows, writer=WRITER, actor="bench", software="bench/1")


def _only_time(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def file_sizes(paths: list[Path]) -> tuple[int, int]:
    """Bytes of segment files, and how many of them are the column that holds values."""
    total = data = 0
    for path in paths:
        total += path.stat().st_size
        meta = pq.read_metadata(path)
        for group in map(meta.row_group, range(meta.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                data += column.total_compressed_size if column.path_in_schema == "data" else 0
    return total, data


@benchmark("bytes", "size of full segments of 200,000 events, beyond the values' own bytes")
def sizes(settings: Settings) -> list[Row]:
    """Bytes in the files, in all and without the column that holds values."""
    folder, facts = campaign_store(settings)
    total, data = file_sizes(segment_paths(folder))
    events, jobs, values = facts["events"], facts["jobs"], facts["value_bytes"]
    beyond = (total - data) / jobs
    return [
        Row("a segment file", total / events, "bytes/event"),
        Row("values in the file", data / jobs, "bytes/job", values / jobs, "values as they come"),
        Row("all but values", beyond, "bytes/job", 3_500, "redun's SQLite", "875 bytes/job", beyond <= 875),
    ]


@benchmark("seal", "segments of 2,000 events get their positions: 20 at once, and one after another")
def seal(settings: Settings) -> list[Row]:
    """Sealing, beside the bare tree over the hashes and a bare exclusive create of a small file."""
    segment_count, size = 20, 2_000
    count = segment_count * size
    events = list(chain.from_iterable(generate(count, seed=settings.seed)))
    tables = list(generate_tables(count, seed=settings.seed, rows_per_table=size, writer=new_writer_id()))

    def known() -> float:
        with EventStore.open(
            settings.fresh("seal"), create=True, state_dir=settings.state(), auto_seal=False
        ) as store:
            for first in range(0, count, size):
                store.append(*events[first : first + size])
                store.flush()
            return _only_time(store.seal)

    def found() -> float:
        folder = settings.fresh("seal")
        with EventStore.open(folder, create=True, state_dir=settings.state()) as store:
            for file in segments(iter(tables), store.store_id):
                store.storage.put(file.segment.path, file.data)
            return _only_time(lambda: store.seal(everywhere=True))

    def singly() -> float:
        seconds = 0.0
        with EventStore.open(
            settings.fresh("seal"), create=True, state_dir=settings.state(), auto_seal=False
        ) as store:
            for first in range(0, count, size):
                store.append(*events[first : first + size])
                store.flush()
                seconds += _only_time(store.seal)
        return seconds

    def creates() -> float:
        folder = settings.fresh("creates")
        folder.mkdir()
        started = time.perf_counter()
        for number in range(segment_count):
            bare_create(folder / str(number), b"x" * 1_500)
        return time.perf_counter() - started

    times = interleave(
        {
            "known": known,
            "found": found,
            "singly": singly,
            "tree": lambda: bare_hashes([], count),
            "creates": creates,
        },
        settings.repeats,
    )
    event = {name: microseconds(count, seconds) for name, seconds in times.items()}
    each = {name: microseconds(segment_count, seconds) for name, seconds in times.items()}
    return [
        Row(
            "20 own segments, at once",
            event["known"],
            "us/event",
            event["tree"],
            "bare SHA-256, one an event",
        ),
        Row(
            "20 of others, read first",
            event["found"],
            "us/event",
            event["tree"],
            "bare SHA-256, one an event",
        ),
        Row("one own segment at a time", each["singly"], "us/segment", each["creates"], "create, sync, link"),
    ]
