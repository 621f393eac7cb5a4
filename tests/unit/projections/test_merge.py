"""The merge of sorted sequences: all rows, in key order, reduced, and only a little of each read ahead."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections import Column, KeyedProjection, text, whole
from projections.merge import merge_sorted, sorted_chunks

KEEPS = ("first", "last", "first_non_null", "last_non_null", "max", "min")


def recipe(key: Sequence[str], **more: Any) -> KeyedProjection:
    """Return a recipe whose rows have keys `a` and `b`, and a cell for each way of keeping."""
    return KeyedProjection(
        name="things",
        version=1,
        doc="One thing.",
        kinds=("lab.seen",),
        inputs=(),
        key=tuple(key),
        columns={
            "a": text("a key"),
            "b": whole("a key"),
            "position": whole("first event"),
            **{keep: Column(pl.Int64, keep, keep) for keep in KEEPS},  # type: ignore[arg-type]
        },
        rows=lambda events: events,
        **more,
    )


BY_BOTH = recipe(("a", "b"))
BY_FIRST = recipe(("a",))
JOINED = recipe(("a", "b"), finish=lambda state: state)
FIRST_EVENT = recipe(("a", "b"), first_event_of=("a",))


def rows(one: KeyedProjection, keys: Sequence[tuple[str, int]], first: int = 0) -> pl.DataFrame:
    """Return a state of rows at increasing positions; every third cell is null."""
    cell = pl.when(pl.int_range(pl.len()) % 3 != 1).then(pl.col("position") * 7 % 5)
    frame = pl.DataFrame(
        {"a": [a for a, _ in keys], "b": [b for _, b in keys], "position": range(first, first + len(keys))},
        schema={"a": pl.String, "b": pl.Int64, "position": pl.Int64},
    )
    return one.reduce(frame.with_columns(cell.alias(keep) for keep in KEEPS).select(list(one.state_columns)))


def cut(frame: pl.DataFrame, lengths: Sequence[int]) -> list[pl.DataFrame]:
    """Cut a frame into batches of these lengths, over and over; some may be empty."""
    batches, start = [], 0
    for length in cycle(lengths):
        batches.append(frame.slice(start, length))
        start += length
        if start >= frame.height:
            return batches
    raise AssertionError("lengths never end")


def merged(one: KeyedProjection, sequences: Sequence[Sequence[pl.DataFrame]]) -> list[pl.DataFrame]:
    """Return the batches that the merge yields."""
    return list(merge_sorted(sequences, key=one.group, together=one.together, reduce=one.reduce_sorted))


keys = st.lists(st.tuples(st.sampled_from(["", "a", "b", "é", "zz"]), st.integers(-2, 3)), max_size=30)
lengths = st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any)


@given(
    one=st.sampled_from([BY_BOTH, BY_FIRST, JOINED, FIRST_EVENT]),
    parts=st.lists(st.tuples(keys, lengths), max_size=8),
)
def test_a_merge_is_all_rows_sorted_and_reduced(one: KeyedProjection, parts: list[Any]) -> None:
    """Whatever the sequences and their batches: the merge is one reduction of all rows, in key order."""
    first, frames, sequences = 0, [], []
    for named, sizes in parts:
        state = rows(one, named, first).sort(one.group)
        first += len(named)
        frames.append(state)
        sequences.append(cut(state, sizes))
    batches = merged(one, sequences)
    found = pl.concat([one.state_schema.to_frame(), *batches])
    whole_state = one.reduce(pl.concat([one.state_schema.to_frame(), *frames])).sort(one.group)
    assert found.equals(whole_state)
    # A group of rows that are finished together never lies in two batches.
    groups = [set(batch.select(one.together).iter_rows()) for batch in batches]
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_a_group_may_be_larger_than_all_batches() -> None:
    """Rows that belong together leave together, though they fill many batches of several sequences."""
    here = rows(JOINED, [("a", 0), *(("b", n) for n in range(50)), ("c", 0)]).sort("a", "b")
    there = rows(JOINED, [*(("b", n) for n in range(25, 90)), ("d", 0)], first=52).sort("a", "b")
    batches = merged(JOINED, [list(sorted_chunks(here, 4)), list(sorted_chunks(there, 7))])
    [large] = [batch for batch in batches if "b" in batch["a"]]
    assert large.filter(a="b")["b"].to_list() == list(range(90))
    assert pl.concat(batches)["a"].to_list() == ["a", *["b"] * 90, "c", "d"]


def test_only_a_little_is_read_ahead() -> None:
    """When rows leave, no sequence was read further than two batches behind them."""
    pulled = [0] * 12

    def batches(number: int) -> Iterator[pl.DataFrame]:
        frame = rows(BY_FIRST, [(f"{n:06}", 0) for n in range(number, 1200, 12)])
        for batch in sorted_chunks(frame.sort("a"), 10):
            pulled[number] += batch.height
            yield batch

    done = 0
    sequences = [batches(number) for number in range(12)]
    for batch in merge_sorted(
        sequences, key=("a",), together=("a",), reduce=lambda frame: BY_FIRST.reduce_sorted(frame)
    ):
        done += batch.height
        assert max(pulled) * 12 <= done + 3 * 10 * 12
    assert done == 1200


def test_the_order_of_many_rows_with_one_key_is_kept() -> None:
    """Also where a sort that is not stable would mix them up: each key has the first row's cells."""
    count, sequences = 3_000, 4
    keys = [(f"{number:06}", 0) for number in range(count)]
    states = [rows(BY_FIRST, keys, first=count * number).sort("a") for number in range(sequences)]
    [batch] = merged(BY_FIRST, [[state] for state in states])
    assert batch["position"].to_list() == list(range(count))
    last = states[-1].select("a", "last")
    assert batch.select("a", "last").equals(last)


def test_nothing_gives_nothing() -> None:
    """No sequences, sequences without batches, and batches without rows yield no batch."""
    empty = BY_BOTH.state_schema.to_frame()
    assert merged(BY_BOTH, []) == []
    assert merged(BY_BOTH, [[], [empty, empty], []]) == []
    some = rows(BY_BOTH, [("a", 1)])
    assert [batch.rows() for batch in merged(BY_BOTH, [[empty, some, empty], []])] == [some.rows()]


def test_of_one_key_the_earlier_sequence_comes_first() -> None:
    """`first` and `last` follow the order of the sequences, which is that of positions."""
    sequences = [[rows(BY_FIRST, [("a", number)], first=10 * number)] for number in range(5)]
    [batch] = merged(BY_FIRST, sequences)
    assert (batch["b"].item(), batch["position"].item()) == (0, 0)
    assert (batch["first"].item(), batch["last"].item()) == (0, 280 % 5)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.Boolean, [False, True]),
        (pl.UInt64, [0, 1, 2**63, 2**64 - 1]),
        (pl.Int8, [-128, -1, 0, 127]),
        (pl.Float64, [float("-inf"), -1.5, 0.0, 1e300, float("inf")]),
        (pl.Binary, [b"", b"\x00", b"a", b"\xff", b"\xff\x00"]),
        (pl.String, ["", "\x00", "Z", "a", "é", "\ud7ff", "\ue000", "\U0001f600"]),
        (pl.Date, [dt.date(1, 1, 1), dt.date(1970, 1, 1), dt.date(9999, 12, 31)]),
        (pl.Time, [dt.time(0), dt.time(23, 59, 59, 999_999)]),
        (pl.Duration("us"), [dt.timedelta(-1), dt.timedelta(0), dt.timedelta(microseconds=1)]),
        (pl.Datetime("us", "UTC"), [dt.datetime(2026, 1, 1, 0, 0, n, tzinfo=dt.UTC) for n in range(4)]),
    ],
    ids=str,
)
def test_keys_of_every_type_that_sorts(dtype: Any, values: list[Any]) -> None:
    """The merge agrees with polars on the order of a type's values, in batches of one."""
    one = KeyedProjection(
        name="typed",
        version=1,
        doc="One.",
        kinds=("x",),
        inputs=(),
        key=("k",),
        columns={"k": Column(dtype, "key")},
        rows=lambda events: events,
    )
    frame = pl.DataFrame({"k": values, "position": range(len(values))}, schema=one.schema).sort("k")
    sequences = [list(sorted_chunks(frame.gather_every(2), 1)), list(sorted_chunks(frame[::-1].sort("k"), 1))]
    assert pl.concat(merged(one, sequences))["k"].to_list() == frame["k"].to_list()


def test_times_finer_than_python_can_say() -> None:
    """Keys in nanoseconds, of which Python keeps microseconds, are merged without loss or repeats."""
    one = KeyedProjection(
        name="typed",
        version=1,
        doc="One.",
        kinds=("x",),
        inputs=(),
        key=("k",),
        columns={"k": Column(pl.Datetime("ns"), "key")},
        rows=lambda events: events,
    )
    frame = pl.DataFrame({"k": range(0, 3_000, 100), "position": range(30)}).cast(one.schema)  # type: ignore[arg-type]
    halves = [frame.filter(pl.col("position") % 3 < 2), frame.filter(pl.col("position") % 3 > 0)]
    found = pl.concat(merged(one, [list(sorted_chunks(half, 2)) for half in halves]))
    assert found.equals(frame)
