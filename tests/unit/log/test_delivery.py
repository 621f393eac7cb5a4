"""Handing batches to handlers: retries, pauses, halving; and batches of one size."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import InvalidEventError
from eventstore.log.subscription.delivery import NotTaken, Patience, deliver, end_of, regrouped


def _batch(*positions: int) -> pa.RecordBatch:
    return pa.record_batch({"position": pa.array(positions, pa.int64())})


def _positions(batch: pa.RecordBatch) -> list[int]:
    return batch["position"].to_pylist()


class Bench:
    """A handler that fails on some positions, some times or for ever, and notes what it was given."""

    def __init__(self, *bad: int, failures: int | None = None) -> None:
        self.bad = set(bad)
        self.failures = failures
        self.given: list[list[int]] = []
        self.taken: list[int] = []
        self.pauses: list[float] = []
        self.stop_at: int | None = None

    def __call__(self, batch: pa.RecordBatch) -> None:
        """Take a batch, or refuse it."""
        self.given.append(_positions(batch))
        if self.bad & set(self.given[-1]) and (self.failures is None or len(self.given) <= self.failures):
            raise ValueError(f"call {len(self.given)}")

    def wait(self, seconds: float) -> bool:
        """Note the pause; call it off when it is time."""
        self.pauses.append(seconds)
        return len(self.pauses) == self.stop_at

    def deliver(self, batch: pa.RecordBatch, patience: Patience) -> NotTaken | None:
        """Hand a batch over."""
        return deliver(
            self,
            batch,
            patience=patience,
            taken=lambda part: self.taken.extend(_positions(part)),
            wait=self.wait,
        )


def test_a_batch_that_is_taken_is_handed_over_once() -> None:
    """And is taken whole."""
    bench = Bench()
    assert bench.deliver(_batch(3, 4, 9), Patience()) is None
    assert (bench.given, bench.taken, bench.pauses) == ([[3, 4, 9]], [3, 4, 9], [])


def test_a_failure_is_tried_again_after_growing_pauses() -> None:
    """The same batch comes again; each pause is twice the one before."""
    bench = Bench(4, failures=3)
    assert bench.deliver(_batch(3, 4), Patience(retries=3, backoff_seconds=0.5)) is None
    assert bench.given == [[3, 4]] * 4
    assert bench.taken == [3, 4]
    assert bench.pauses == [0.5, 1.0, 2.0]


def test_pauses_end_growing_at_a_minute() -> None:
    """However many retries there are."""
    pauses = list(Patience(retries=2000, backoff_seconds=0.5).pauses())
    assert len(pauses) == 2000
    assert max(pauses) == pauses[-1] == 60.0


def test_without_splitting_the_whole_batch_is_what_was_not_taken() -> None:
    """After all retries, with the last error and the number of failures."""
    bench = Bench(4)
    left = bench.deliver(_batch(3, 4, 5), Patience(retries=2, backoff_seconds=0, split=False))
    assert left is not None
    assert (_positions(left.batch), left.attempts, str(left.error)) == ([3, 4, 5], 3, "call 3")
    assert bench.taken == []


def test_splitting_takes_all_before_the_bad_event_and_leaves_that_alone() -> None:
    """Halves are handed over once each; the event alone has all its retries again."""
    bench = Bench(6)
    left = bench.deliver(_batch(1, 2, 4, 6, 7, 9), Patience(retries=1, backoff_seconds=1))
    assert left is not None
    assert (_positions(left.batch), bench.taken) == ([6], [1, 2, 4])
    whole = [1, 2, 4, 6, 7, 9]
    assert bench.given == [whole, whole, [1, 2, 4], [6, 7, 9], [6], [6]]
    assert left.attempts == 5
    assert bench.pauses == [1, 1]


def test_a_batch_that_is_only_too_large_is_taken_in_parts() -> None:
    """A handler that refuses more than two events at once takes all of them, in order."""
    given: list[list[int]] = []
    taken: list[int] = []

    def handler(batch: pa.RecordBatch) -> None:
        given.append(_positions(batch))
        if batch.num_rows > 2:
            raise MemoryError

    left = deliver(
        handler,
        _batch(*range(7)),
        patience=Patience(retries=0),
        taken=lambda part: taken.extend(_positions(part)),
        wait=lambda _: pytest.fail("no pause was due"),
    )
    assert left is None
    assert taken == list(range(7))
    assert [len(one) for one in given] == [7, 3, 1, 2, 4, 2, 2]


def test_waiting_can_be_called_off() -> None:
    """Then the rest is neither taken nor counted as failed."""
    bench = Bench(4)
    bench.stop_at = 2
    assert bench.deliver(_batch(3, 4), Patience(retries=9)) is None
    assert (bench.given, bench.taken) == ([[3, 4]] * 2, [])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_is_no_failure(error: type[BaseException]) -> None:
    """It passes through at once, and nothing counts as taken."""

    def handler(_: pa.RecordBatch) -> None:
        raise error

    taken: list[pa.RecordBatch] = []
    with pytest.raises(error):
        deliver(handler, _batch(1), patience=Patience(), taken=taken.append, wait=lambda _: False)
    assert taken == []


def test_an_error_of_taking_is_not_the_handlers() -> None:
    """Where progress cannot be noted, the batch is not handed over again."""
    bench = Bench()

    def refuse(_: pa.RecordBatch) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        deliver(bench, _batch(1), patience=Patience(), taken=refuse, wait=bench.wait)
    assert bench.given == [[1]]


@pytest.mark.parametrize("patience", [{"retries": -1}, {"backoff_seconds": -0.1}])
def test_patience_below_nothing_is_refused(patience: dict[str, float]) -> None:
    """With the code of a bad range."""
    with pytest.raises(InvalidEventError) as caught:
        Patience(**patience)  # type: ignore[arg-type]
    assert caught.value.code == "bad_range"


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12).map(
        lambda steps: [sum(steps[: place + 1]) for place in range(len(steps))]
    ),
    st.sets(st.integers(1, 60)),
    st.integers(0, 2),
)
def test_every_event_before_the_first_bad_one_is_taken_once_in_order(
    positions: list[int], bad: set[int], retries: int
) -> None:
    """Whatever the batch and whichever events are bad; the first bad one is what is left."""
    bench = Bench(*bad)
    left = bench.deliver(_batch(*positions), Patience(retries=retries, backoff_seconds=0))
    before = [position for position in positions if position < min({*bad, 999} & {*positions, 999})]
    assert bench.taken == before
    assert (left is None) == (before == positions)
    if left is not None:
        assert _positions(left.batch) == positions[len(before) : len(before) + 1]


@given(st.lists(st.integers(1, 7), max_size=8), st.integers(1, 9))
def test_regrouping_keeps_rows_and_fills_batches(sizes: list[int], rows: int) -> None:
    """The same rows in the same order, all batches full but the last, none empty."""
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    batches = [_batch(*range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    made = list(regrouped(batches, rows))
    assert [position for batch in made for position in _positions(batch)] == list(range(sum(sizes)))
    assert all(batch.num_rows == rows for batch in made[:-1])
    assert all(0 < batch.num_rows <= rows for batch in made)
    assert [end_of(batch) for batch in made[-1:]] == ends[-1:]
