"""Benchmarks of appending: one by one, forced to the device, in batches, by several processes."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

from eventstore.codec.payload import dump_fields
from eventstore.codec.rows import table_of
from eventstore.events import Event
from eventstore.store import EventStore
from tools.bench.campaign import Settings, benchmark
from tools.bench.generator import WRITER, generate, generate_rows
from tools.bench.limits import bare_hashes, bare_parquet, bare_sqlite, bare_writes, hash_inputs
from tools.bench.measure import Row, interleave, rate, run_child

__all__: list[str] = []

BATCH = 1_000


def prebuilt(settings: Settings, size: int) -> list[Event]:
    """Event objects, made before the clock runs; the collector need not look at them again."""
    events = list(chain.from_iterable(generate(size, seed=settings.seed)))
    gc.collect()
    gc.freeze()
    return events


def opened(settings: Settings, **options: Any) -> EventStore:
    """A new store that makes segments only when it is told to."""
    defaults: dict[str, Any] = {"flush_seconds": None, "flush_rows": 1 << 30, "flush_bytes": 1 << 40}
    return EventStore.open(
        settings.fresh("append"), create=True, state_dir=settings.state(), **defaults | options
    )


def appended(settings: Settings, feed: Callable[[], Iterator[tuple[Event, ...]]], **options: Any) -> float:
    """Append what `feed` yields, one call each; returns the seconds until the last acknowledgement."""
    store = opened(settings, **options)
    append = store.append
    started = time.perf_counter()
    for events in feed():
        append(*events)
    seconds = time.perf_counter() - started
    store.abandon()
    for path in settings.state().rglob("*.journal"):
        path.unlink()
    return seconds


def journal_lines(settings: Settings, batches: list[tuple[Event, ...]], **options: Any) -> list[bytes]:
    """The very lines that a journal takes for these appends."""
    store = opened(settings, **options)
    for events in batches:
        store.append(*events)
    journals = [path for path in settings.state().rglob("*") if path.is_file() and path.stat().st_size > 100]
    newest = max(journals, key=lambda path: path.stat().st_mtime_ns)
    lines = newest.read_bytes().splitlines(keepends=True)[1:]
    assert len(lines) == len(batches), "one line an append"
    store.abandon()
    newest.unlink()
    return lines


def database_rows(events: list[Event]) -> list[tuple[object, ...]]:
    """The same events as rows of a database."""
    return [
        (event.kind, place, getattr(event, "job_id", None), dump_fields(event.__dict__))
        for place, event in enumerate(events)
    ]


def cut(events: list[Event], size: int) -> list[tuple[Event, ...]]:
    """Batches of `size`."""
    return [tuple(events[first : first + size]) for first in range(0, len(events), size)]


def rebuilt(events: list[Event], size: int) -> Iterator[tuple[Event, ...]]:
    """The same batches, each event validated anew as its batch is asked for."""
    parts = [(type(event), event.__dict__) for event in events]
    for first in range(0, len(parts), size):
        yield tuple(model(**fields) for model, fields in parts[first : first + size])


@benchmark("append", "one event a call, journaled (survives a killed process); no segment is made meanwhile")
def append_one_by_one(settings: Settings) -> list[Row]:
    """One by one, beside a bare write of the same lines and a bare SQLite insert each."""
    events = prebuilt(settings, min(settings.size, 40_000))
    count, singles = len(events), cut(events, 1)
    lines = journal_lines(settings, singles)
    rows = database_rows(events)
    times = interleave(
        {
            "ours": lambda: appended(settings, lambda: iter(singles)),
            "constructed": lambda: appended(settings, lambda: rebuilt(events, 1)),
            "write": lambda: bare_writes(settings.fresh("write"), lines),
            "sqlite": lambda: bare_sqlite(settings.fresh("sqlite"), rows, batch=1),
        },
        settings.repeats,
    )
    ours, limit = rate(count, times["ours"]), rate(count, times["write"])
    size = sum(map(len, lines)) / count
    what = f"{count:,} prebuilt events, {size:.0f} journal bytes each"
    return [
        Row(what, ours, "events/s", limit, "bare os.write", "100,000 events/s", ours >= 100_000),
        Row("the same", ours, "events/s", rate(count, times["sqlite"]), "bare SQLite, autocommit, no sync"),
        Row("with construction", rate(count, times["constructed"]), "events/s", limit, "bare os.write"),
    ]


@benchmark("append-fsync", "one event a call, forced to the device each (survives power loss)")
def append_fsync(settings: Settings) -> list[Row]:
    """Each forced to the device, beside a bare write and sync, and SQLite's full synchronous commit."""
    events = prebuilt(settings, min(settings.size, 1_000))
    count, singles = len(events), cut(events, 1)
    lines = journal_lines(settings, singles)
    rows = database_rows(events)
    times = interleave(
        {
            "ours": lambda: appended(settings, lambda: iter(singles), durability="fsync"),
            "write": lambda: bare_writes(settings.fresh("write"), lines, sync=True),
            "sqlite": lambda: bare_sqlite(settings.fresh("sqlite"), rows, batch=1, synchronous="FULL"),
        },
        settings.repeats,
    )
    ours = rate(count, times["ours"])
    return [
        Row(f"{count:,} events", ours, "events/s", rate(count, times["write"]), "bare os.write + fdatasync"),
        Row("the same", ours, "events/s", rate(count, times["sqlite"]), "bare SQLite, autocommit, FULL"),
    ]


@benchmark("append-batch", "1,000 events a call: journaled; and on into segments that are sealed")
def append_batches(settings: Settings) -> list[Row]:
    """By thousands, beside bare writes, bare SQLite transactions, bare Parquet and bare hashing."""
    events = prebuilt(settings, min(settings.size, 100_000))
    count, batches = len(events), cut(events, BATCH)
    lines = journal_lines(settings, batches)
    rows = database_rows(events)
    table = table_of(
        next(generate_rows(count, seed=settings.seed, batch=count)), writer=WRITER, actor="a", software="b"
    )
    lengths = hash_inputs(table)
    times = interleave(
        {
            "ours": lambda: appended(settings, lambda: iter(batches)),
            "constructed": lambda: appended(settings, lambda: rebuilt(events, BATCH)),
            "sealed": lambda: _sealed(settings, batches),
            "write": lambda: bare_writes(settings.fresh("write"), lines),
            "sqlite": lambda: bare_sqlite(settings.fresh("sqlite"), rows, batch=BATCH),
            "parquet": lambda: bare_parquet(table),
            "hashes": lambda: bare_hashes(lengths),
        },
        settings.repeats,
    )
    speed = {name: rate(count, seconds) for name, seconds in times.items()}
    both = 1 / (1 / speed["parquet"] + 1 / speed["hashes"])
    return [
        Row(
            f"{count:,} prebuilt events, journaled",
            speed["ours"],
            "events/s",
            speed["write"],
            "bare os.write",
            "300,000 events/s",
            speed["ours"] >= 300_000,
        ),
        Row("the same", speed["ours"], "events/s", speed["sqlite"], "bare SQLite, 1,000 a transaction"),
        Row("with construction", speed["constructed"], "events/s", speed["write"], "bare os.write"),
        Row("to sealed segments", speed["sealed"], "events/s", speed["parquet"], "bare Parquet write"),
        Row("the same", speed["sealed"], "events/s", speed["hashes"], "bare SHA-256, three an event"),
        Row("the same", speed["sealed"], "events/s", both, "bare Parquet write and hashes"),
    ]


def _sealed(settings: Settings, batches: list[tuple[Event, ...]]) -> float:
    """Append, flush and seal; returns the seconds until everything is sealed."""
    with opened(settings) as store:
        started = time.perf_counter()
        for events in batches:
            store.append(*events)
        head = store.seal()
        seconds = time.perf_counter() - started
        assert head.size == sum(map(len, batches)), "everything sealed"
    return seconds


@benchmark(
    "writers", "1, 2, 4 and 8 processes share the events of one store, 100 a call, until all is sealed"
)
def writers(settings: Settings) -> list[Row]:
    """Total throughput of several processes; nothing may be lost, and it should not fall."""
    total = min(settings.size, 64_000) // 800 * 800
    rows: list[Row] = []
    alone = work_alone = 0.0
    for processes in (1, 2, 4, 8):
        speeds, works = [], []
        for _ in range(settings.repeats):
            folder = settings.fresh("writers")
            EventStore.open(folder, create=True, state_dir=settings.state()).close()
            child = run_child(
                "tools.bench.appending:many_writers",
                folder=str(folder),
                state=str(settings.state()),
                processes=processes,
                each=total // processes,
            )
            with EventStore.open(folder, state_dir=settings.state()) as store:
                assert store.seal().size == total, "an acknowledged event is missing"
            speeds.append(total / child.result["seconds"])
            works.append(child.result["processor_seconds"] / total * 1e6)
        speed, work = statistics.median(speeds), statistics.median(works)
        alone, work_alone = alone or speed, work_alone or work
        rows.append(
            Row(
                f"{processes} x {total // processes:,} events",
                speed,
                "events/s",
                alone,
                "one process",
                "does not fall, none lost",
                speed >= 0.9 * alone,
            )
        )
        rows.append(Row("  processor time of all", work, "us/event", work_alone, "one process"))
    return rows


def many_writers(folder: str, state: str, processes: int, each: int) -> dict[str, float]:
    """Run writers at the same time; seconds from the first one's start to the last one's end, and the
    processor time of all of them, which a busy machine disturbs less.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    spans = context.SimpleQueue()
    workers = [
        context.Process(target=_one_writer, args=(folder, state, each, number, barrier, spans))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, "a writer failed"
    taken = [spans.get() for _ in workers]
    return {
        "seconds": max(end for _, end, _ in taken) - min(start for start, _, _ in taken),
        "processor_seconds": sum(work for _, _, work in taken),
    }


def _one_writer(folder: str, state: str, each: int, number: int, barrier: Any, spans: Any) -> None:
    # Some thousand different events, again and again: the write path does not look for repeats.
    batches = cut(list(chain.from_iterable(generate(4_000, seed=number))), 100)
    # A process's first segment pays for imports and first calls; what is measured is how writers go on.
    with EventStore.open(f"memory://warm-{number}", create=True) as store:
        store.append(*batches[0])
    gc.freeze()
    with EventStore.open(Path(folder), state_dir=state) as store:
        barrier.wait()
        start, worked = time.perf_counter(), time.process_time()
        for events in islice(cycle(batches), each // 100):
            store.append(*events)
    spans.put((start, time.perf_counter(), time.process_time() - worked))
