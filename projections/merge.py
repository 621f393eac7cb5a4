"""The merge of sorted sequences of rows: what rebuild, refresh and reading make one table of.

Rows come in batches from any number of sequences, each sorted by key; they leave in key order, batch by
batch, and only about one batch of each sequence is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import polars as pl

__all__ = ["merge_sorted", "sorted_chunks"]

Reduce = Callable[[pl.DataFrame], pl.DataFrame]


def merge_sorted(
    sequences: Iterable[Iterable[pl.DataFrame]],
    *,
    key: Sequence[str],
    together: Sequence[str],
    reduce: Reduce,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of all sequences in key order, reduced.

    Parameters
    ----------
    sequences
        Batches sorted by `key`, without nulls in it. Of rows with one key, those of an earlier sequence come
        first.
    together
        The first columns of the key; rows that agree on them leave in one batch.
    reduce
        Gets rows which are whole by `together`, sorted by `key`, those with one key in the order of their
        sequences; makes one of these, and keeps the order.
    """
    cursors = [_Cursor(iter(one)) for one in sequences]
    while True:
        cursors = [one for one in cursors if one.fill()]
        if not cursors:
            return
        bounds = [bound for one in cursors if (bound := one.bound(together)) is not None]
        if not bounds:
            yield reduce(_sorted([one.take_all() for one in cursors], key))
            return
        bound = min(bounds)
        heads = [head for one in cursors if (head := one.take_before(bound, together)).height]
        if heads:
            yield reduce(_sorted(heads, key))
        else:
            # The rows of one group fill all that was read of a sequence.
            for one in cursors:
                if one.bound(together) == bound:
                    one.read_more()


def _sorted(frames: Sequence[pl.DataFrame], key: Sequence[str]) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    return pl.concat(frames).sort(key, maintain_order=True)


def sorted_chunks(frame: pl.DataFrame, rows: int) -> Iterator[pl.DataFrame]:
    """Yield a sorted frame in batches."""
    for start in range(0, frame.height, rows):
        yield frame.slice(start, rows)


class _Cursor:
    """A sequence and what was read of it but not taken yet."""

    def __init__(self, batches: Iterator[pl.DataFrame]) -> None:
        self._batches = batches
        self._buffer: pl.DataFrame | None = None
        self._ahead = next(batches, None)

    def fill(self) -> bool:
        """Have rows in the buffer; False if the sequence is at its end."""
        while self._buffer is None or not self._buffer.height:
            if self._ahead is None:
                return False
            self._buffer = self._next()
        return True

    def _next(self) -> pl.DataFrame | None:
        batch, self._ahead = self._ahead, next(self._batches, None)
        return batch

    def read_more(self) -> None:
        more = self._next()
        if more is not None and self._buffer is not None:
            self._buffer = pl.concat([self._buffer, more])

    def bound(self, together: Sequence[str]) -> tuple[object, ...] | None:
        """The key of the last row that was read; rows like it may follow. None at the end."""
        if self._ahead is None or self._buffer is None:
            return None
        return self._buffer.select(together).row(-1)

    def take_all(self) -> pl.DataFrame:
        frame, self._buffer = self._buffer, None
        if frame is None:
            raise AssertionError("the buffer was filled")
        return frame

    def take_before(self, bound: tuple[object, ...], together: Sequence[str]) -> pl.DataFrame:
        """Take the rows whose key is less than `bound`."""
        frame = self.take_all()
        count = frame.lazy().select(_less(together, bound).sum()).collect(engine="in-memory").item()
        self._buffer = frame.slice(count)
        return frame.head(count)


def _less(columns: Sequence[str], bound: Sequence[object]) -> pl.Expr:
    """Whether a row comes before `bound`, column after column."""
    first, value = pl.col(columns[0]), pl.lit(bound[0])
    if len(columns) == 1:
        return first < value
    return (first < value) | ((first == value) & _less(columns[1:], bound[1:]))
