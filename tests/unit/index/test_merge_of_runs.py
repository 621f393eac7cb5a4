"""Which runs are merged, how often records are written anew, and what a merge leaves of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_kit import KEEP, Pair, counting, make_run, pairs, shrink

from eventstore.errors import StateError
from eventstore.index.merge import TIER_RATIO, due, merge_runs
from eventstore.index.records import Records
from eventstore.index.run_file import Run


@pytest.mark.parametrize(
    ("sizes", "first"),
    [
        ([], 0),
        ([5], 1),
        ([4, 1], 2),
        ([3, 1], 0),
        ([100, 3, 1], 1),
        ([100, 20, 5], 3),
        ([100, 20, 6], 0),
        ([1000, 100, 24, 1], 4),
        ([1000, 99, 24, 1], 1),
        ([0, 0], 2),
    ],
)
def test_runs_that_newer_ones_have_come_near_to_are_due(sizes: list[int], first: int) -> None:
    """The oldest run with less than four times the bytes of all newer ones is merged with these."""
    assert due(sizes) == first


@given(st.lists(st.integers(1, 10_000), max_size=60))
def test_there_are_few_runs_and_records_are_written_a_few_times(added: list[int]) -> None:
    """After each merge runs shrink by the ratio, so their number is a logarithm; nothing is due again."""
    sizes: list[int] = []
    for size in added:
        sizes.append(size)
        first = due(sizes)
        if first < len(sizes):
            sizes[first:] = [sum(sizes[first:])]
        assert due(sizes) == len(sizes)
        assert all(size >= TIER_RATIO * sum(sizes[at + 1 :]) for at, size in enumerate(sizes))
    assert sum(sizes) == sum(added)
    assert not sizes or (TIER_RATIO + 1) ** (len(sizes) - 1) <= sum(sizes)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("parts", [[0], [300], [200, 0, 50], [5, 100, 1, 90]])
def test_a_merge_has_what_counts_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[int], small: bool
) -> None:
    """Runs of other sizes, also empty ones, become one with the records that count, in order of the log."""
    if small:
        shrink(monkeypatch)
    rng = random.Random(sum(parts))
    records: list[Pair] = []
    runs = []
    known = pairs(rng, 400, keys=80, longest=12)
    for number, count in enumerate(parts):
        more = rng.sample(known, k=count)
        records += more
        runs.append(make_run(tmp_path / f"{number}.run", more))
    written = merge_runs(tmp_path / "new.run", runs, keep=KEEP, facts={"name": "new"})
    merged = Run.open(tmp_path / "new.run")
    assert merged is not None
    expected = counting(records)
    assert merged.records == written == sum(map(len, expected.values()))
    for key, payloads in expected.items():
        assert merged.all(key) == payloads


def test_a_merge_that_is_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is asked to stop, in the middle too, no file stays."""
    shrink(monkeypatch)
    run = make_run(tmp_path / "a.run", pairs(random.Random(1), 500, keys=300))
    for answers in ([True], [False, False, True]):
        left = iter(answers)
        with pytest.raises(StateError) as caught:
            merge_runs(
                tmp_path / "new.run",
                [run],
                keep=KEEP,
                facts={"name": "new"},
                stopped=lambda it=left: next(it),
            )
        assert (caught.value.code, [path.name for path in tmp_path.iterdir()]) == ("closed", ["a.run"])


@given(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([1, 2, 3, 9]), st.binary(max_size=1)),
        max_size=40,
    )
)
def test_settling_leaves_what_counts_in_order(given_records: list[tuple[bytes, int, bytes]]) -> None:
    """Of records, now sorted, first, last or different ones stay, by family, whatever repeats."""
    records = [(letter * 20 + bytes([family]), payload) for letter, family, payload in given_records]
    columns = Records.of_columns([key for key, _ in records], [payload for _, payload in records])
    thinned = columns.settled(KEEP).between(0, 1 << 32)
    found: dict[bytes, list[bytes]] = {}
    for key, payload in zip(thinned.keys.to_pylist(), thinned.payloads.to_pylist(), strict=True):
        found.setdefault(key, []).append(payload)
    assert found == counting(records)
    assert list(found) == sorted(found)
