"""Benchmarks of tables: refresh after a little is new, as of a position, point reads by key."""

from __future__ import annotations

import random
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import polars as pl

from eventstore import layout
from eventstore.store import EventStore
from projections import default_projections, open_tables, rebuild, refresh
from projections.snapshot import find_snapshot
from tools.bench.campaign import Settings, benchmark, campaign_store
from tools.bench.generator import generate
from tools.bench.measure import Child, Row, Times, run_child

__all__: list[str] = []

NEW = 1_000
"""Events that are new at a refresh."""
ONE = "jobs"
"""The table that is asked as of a position."""
KEYED = "values"
"""The table with the most rows, in which rows are looked up."""
LOOKUPS = 5_000


def _built_store(settings: Settings) -> tuple[Path, dict[str, Any]]:
    """Return a copy of the campaign's store that may grow, with all tables built, made once."""
    folder, facts = campaign_store(settings)
    mine = folder.with_name(f"{folder.name}-built")
    done = mine.with_suffix(".done")
    if not done.exists():
        shutil.rmtree(mine, ignore_errors=True)
        # Segments are never changed: links will do, and a second copy of 50 million events is spared.
        shutil.copytree(folder, mine, copy_function=_link, ignore=shutil.ignore_patterns(layout.PROJECTIONS))
        run_child("tools.bench.tables:build_once", folder=str(mine), state=str(settings.state()))
        done.touch()
    return mine, facts


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def build_once(folder: str, state: str) -> None:
    """Build all tables."""
    with EventStore.open(folder, state_dir=state) as store:
        rebuild(store)


@benchmark("refresh", f"all tables after {NEW:,} new events, each time in a new process")
def refreshing(settings: Settings) -> list[Row]:
    """`projections.refresh`, beside a rebuild of everything; memory of each refresh."""
    folder, facts = _built_store(settings)
    arguments = {"folder": str(folder), "state": str(settings.state())}
    seed = int(time.time())
    repeats = max(5, settings.repeats)
    children: list[Child] = [
        run_child("tools.bench.tables:refresh_once", **arguments, seed=seed + number)
        for number in range(repeats)
    ]
    whole = run_child("tools.bench.reading:rebuild_once", **arguments, names=[])
    ours = statistics.median(child.result for child in children)
    peak = max(child.peak_bytes for child in children)
    what = f"{NEW:,} new events on {facts['events']:,}"
    return [
        Row(what, ours, "s", whole.result, "rebuild of all tables", "under 1 s", ours < 1),
        Row("the slowest", max(child.result for child in children), "s"),
        Row("peak memory", peak / 2**20, "MiB", whole.peak_bytes / 2**20, "rebuild of all tables"),
    ]


def refresh_once(folder: str, state: str, seed: int) -> float:
    """Record and seal a little, then refresh all tables; returns the seconds of the refresh."""
    with EventStore.open(folder, state_dir=state) as store:
        for events in generate(NEW, seed=seed):
            store.append(*events)
        store.seal()
        started = time.perf_counter()
        refresh(store)
        return time.perf_counter() - started


@benchmark("asof", f"the table {ONE} at random positions, counted, each time in a new process")
def as_of(settings: Settings) -> list[Row]:
    """`open_tables(at=...)` far from any snapshot and near one, beside a rebuild of that table."""
    folder, facts = _built_store(settings)
    count = facts["events"]
    arguments = {"folder": str(folder), "state": str(settings.state())}
    chance = random.Random(settings.seed)
    far, near, whole = Times(), Times(), Times()
    for _ in range(settings.repeats):
        position = chance.randrange(count // 4, count)
        told = run_child("tools.bench.tables:as_of_once", **arguments, position=position)
        far.append(told.result * count / position)
        behind = 500 + run_child("tools.bench.tables:grow", **arguments, seed=position).result
        near.append(run_child("tools.bench.tables:as_of_once", **arguments, position=behind).result)
        whole.append(run_child("tools.bench.reading:rebuild_once", **arguments, names=[ONE]).result)
    peer = (whole.median, f"rebuild of {ONE}")
    far_holds = far.median <= 2 * whole.median
    return [
        Row(f"per {count:,} events before it", far.median, "s", *peer, "at most twice a rebuild", far_holds),
        Row("500 events behind a snapshot", near.median, "s", *peer),
    ]


def grow(folder: str, state: str, seed: int) -> int:
    """Record and seal a little; returns the position of the newest snapshot, which is behind by that."""
    with EventStore.open(folder, state_dir=state) as store:
        snapshot = find_snapshot(store, default_projections.select([ONE])[0])
        assert snapshot is not None, "the table is built"
        for events in generate(NEW, seed=seed):
            store.append(*events)
        store.seal()
        return snapshot.position


def as_of_once(folder: str, state: str, position: int) -> float:
    """Open one table as of a position and count its rows; returns seconds."""
    with EventStore.open(folder, read_only=True, state_dir=state) as store:
        started = time.perf_counter()
        with open_tables(store, [ONE], at=min(position, store.head().size)) as tables:
            tables[ONE].select(pl.len()).collect()
        return time.perf_counter() - started


@benchmark("keyed", f"rows of the table {KEYED} by key, from the index of this machine")
def keyed(settings: Settings) -> list[Row]:
    """`Tables.lookup`, warm and as the first answer of a new process, beside polars on the same files."""
    folder, _facts = _built_store(settings)
    arguments = {"folder": str(folder), "state": str(settings.state())}
    run_child("tools.bench.tables:look_up", **arguments, count=1)
    told = run_child("tools.bench.tables:look_up", **arguments, count=LOOKUPS)
    rows = f"{told.result['rows']:,} rows"
    return [
        Row(
            f"{rows}, warm, p50",
            told.result["warm_us"],
            "us",
            told.result["scan_us"],
            "polars scan of the table's files",
            "under 50 us",
            told.result["warm_us"] < 50,
        ),
        Row("the same, p99", told.result["p99_us"], "us"),
        Row("absent key, p50", told.result["absent_us"], "us"),
        Row(
            "first answer of a new process, opening included",
            told.result["first_ms"],
            "ms",
            None,
            "",
            "under 100 ms",
            told.result["first_ms"] < 100,
        ),
    ]


def look_up(folder: str, state: str, count: int) -> dict[str, float]:
    """Look rows up; returns what they took."""
    recipe = default_projections.get(KEYED)
    with EventStore.open(folder, read_only=True, state_dir=state) as store:
        with open_tables(store, [KEYED], verify=False) as tables:
            total = int(tables[KEYED].select(pl.len()).collect().item())
            step = max(1, total // count)
            keys = tables[KEYED].select(recipe.key).gather_every(step).collect().to_series().to_list()
        random.Random(0).shuffle(keys)
        started = time.perf_counter()
        with open_tables(store, [KEYED], verify=False) as tables:
            assert tables.lookup(KEYED, keys[0]) is not None, "the key was just read"
            first = time.perf_counter() - started
            tables.lookup_many(KEYED, keys)
            warm = [_timed(tables.lookup, key) for key in keys]
            absent = [_timed(tables.lookup, f"{key[:-1]}~") for key in keys]
            scans = [
                _timed(lambda _, key: tables[KEYED].filter(pl.col(recipe.key[0]) == key).collect(), key)
                for key in keys[:20]
            ]
    return {
        "rows": total,
        "first_ms": first * 1e3,
        "warm_us": statistics.median(warm) * 1e6,
        "p99_us": sorted(warm)[len(warm) * 99 // 100] * 1e6,
        "absent_us": statistics.median(absent) * 1e6,
        "scan_us": statistics.median(scans) * 1e6,
    }


def _timed(question: Any, key: str) -> float:
    started = time.perf_counter()
    question(KEYED, key)
    return time.perf_counter() - started
