"""Benchmark of values: naming them beside bare pickle and SHA, recording known ones, tables, previews."""

from __future__ import annotations

import hashlib
import pickle
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
from redun.value import get_type_registry

from eventstore.preview import preview_pickle
from eventstore.store import EventStore
from eventstore.value import ValueTypes, default_types
from eventstore.workflow.recording import Recorder
from tools.bench.campaign import Settings, benchmark
from tools.bench.material import Material
from tools.bench.measure import Row

__all__: list[str] = []

VALUES = 5_000
CHUNK = 100
"""Values that are named without a pause: so few that hardly anything else runs meanwhile."""
ROUNDS = 15
"""How often each chunk is named by each subject, in turn; the quickest time counts."""

Name = Callable[[Any], object]


def realistic(count: int, seed: int) -> list[Any]:
    """Results as tasks give them: median 90 bytes, mean 450; see the README."""
    material = Material(random.Random(seed))
    task = material.tasks[-1]
    return [pickle.loads(material.result(task).data) for _ in range(count)]  # noqa: S301 - our own bytes


def bare(value: Any) -> tuple[str, bytes]:
    """Pickle, SHA-512 of the bytes that the id is defined by, and nothing else."""
    data = pickle.dumps(value, protocol=3)
    return hashlib.sha512(b"l5:Valuee" + data).hexdigest()[:40], data


def theirs(value: Any) -> tuple[str, bytes]:
    """What redun's backend asks of a value to record it."""
    value_type = get_type_registry().get_value(value)
    data = value_type.serialize()
    return value_type.get_hash(data=data), data


def quickest(values: Sequence[Any], *names: Name, rounds: int = ROUNDS) -> list[float]:
    """Microseconds a value of each way to name it: for each chunk the least of all rounds, run in turn."""
    sums = [0.0] * len(names)
    for first in range(0, len(values), CHUNK):
        chunk = values[first : first + CHUNK]
        least = [float("inf")] * len(names)
        for _ in range(rounds):
            for place, name in enumerate(names):
                started = time.perf_counter()
                for value in chunk:
                    name(value)
                least[place] = min(least[place], time.perf_counter() - started)
        sums = [total + part for total, part in zip(sums, least, strict=True)]
    return [total / len(values) * 1e6 for total in sums]


def naming(settings: Settings) -> list[Row]:
    """Rows of hashing and serializing."""
    rng = random.Random(settings.seed)
    mix = realistic(VALUES, settings.seed)
    subjects = [
        ("describe, realistic mix", mix, True),
        ("a small integer", [7] * VALUES, False),
        ("a list of 100,000 integers", [list(range(100_000))], True),
        ("3 MB of bytes", [rng.randbytes(3_000_000)], True),
    ]
    rows = []
    for what, values, judged in subjects:
        ours, limit, peer = quickest(
            values, default_types.describe, bare, theirs, rounds=ROUNDS if len(values) > 1 else 30
        )
        bar, holds = ("1.2 times", ours <= 1.2 * limit) if judged else ("", None)
        rows.append(Row(what, ours, "us/value", limit, "bare pickle and SHA-512", bar, holds))
        rows.append(Row("the same", ours, "us/value", peer, "redun's registry"))
    return rows


def recording(settings: Settings) -> list[Row]:
    """A row of recording what the store knows already."""
    values = realistic(1_000, settings.seed)
    folder = settings.fresh("values")
    with EventStore.open(str(folder), create=True, state_dir=settings.state(), flush_seconds=None) as store:
        recorder = Recorder(store)

        def record(value: Any) -> None:
            batch = recorder.batch()
            batch.value(value, recorder.describe(value, "a value"))
            batch.append()

        for value in values:
            record(value)
        before = store.append  # nothing more may come
        appended: list[object] = []
        store.append = lambda *events: appended.extend(events)  # type: ignore[assignment,method-assign]
        (known,) = quickest(values, record)
        store.append = before  # type: ignore[method-assign]
        assert appended == [], "a known value is not written again"
        (limit,) = quickest(values, bare)
    what = "record a known value, realistic mix"
    return [Row(what, known, "us/value", limit, "bare pickle and SHA-512", "10 us", known < 10)]


def tables(settings: Settings) -> list[Row]:
    """Rows of a polars frame by its content, beside its pickle."""
    rng = random.Random(settings.seed)
    rows = 200_000
    frame = pl.DataFrame(
        {
            "sample": [f"sample-{rng.randrange(1000)}" for _ in range(rows)],
            "reads": [rng.randrange(10**6) for _ in range(rows)],
            "score": [rng.random() for _ in range(rows)],
        }
    )
    types = ValueTypes()
    types.use_tables("polars")
    ours, limit = quickest([frame], types.describe, bare, rounds=9)
    found = types.describe(frame)
    mine, theirs_ = (len(found.data), len(bare(frame)[1]))
    return [
        Row(f"polars frame of {rows:,} rows", ours / 1e3, "ms", limit / 1e3, "bare pickle and SHA-512"),
        Row("its bytes", mine / 1e6, "MB", theirs_ / 1e6, "pickle"),
    ]


def previews(settings: Settings) -> list[Row]:
    """Rows of previews: of realistic values, and of one that is far too large."""
    data = [default_types.describe(value).data for value in realistic(1_000, settings.seed)]
    ours, limit = quickest(data, preview_pickle, pickle.loads)
    huge = pickle.dumps(list(range(1_000_000)), protocol=3)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        preview_pickle(huge)
        times.append(time.perf_counter() - started)
    return [
        Row("preview, realistic mix", ours, "us/value", limit, "unpickling"),
        Row("preview of a list of 1,000,000", statistics.median(times) * 1e3, "ms"),
    ]


@benchmark("values", "naming values, recording known ones, tables by content, previews")
def values(settings: Settings) -> list[Row]:
    """Each part beside its limit; 5,000 values of the generated history, whatever the size."""
    return naming(settings) + recording(settings) + tables(settings) + previews(settings)
