"""Handing one batch to a handler: retries with growing pauses, then halving, to find what it cannot take.

What was taken is told at once, part by part and in order, so nothing before a failure is handed over again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from eventstore.errors import InvalidEventError
from eventstore.filesystem import mask_url

__all__ = ["Handler", "NotTaken", "Patience", "deliver", "end_of", "regrouped", "words_of"]

logger = logging.getLogger(__name__)

Handler = Callable[[pa.RecordBatch], object]
"""Takes a batch: returning means that it is done, raising that it is not."""

_MOST_BACKOFF_SECONDS = 60.0
_MOST_WORDS = 2_000


@dataclass(frozen=True, slots=True)
class Patience:
    """What is tried before a handler counts as failed.

    Parameters
    ----------
    retries
        How often a batch is handed over again.
    backoff_seconds
        Pause before the first retry; it doubles with each, up to a minute.
    split
        Halve a batch that was not taken, once for each half, until one event is alone; that one then has
        all retries again.
    """

    retries: int = 3
    backoff_seconds: float = 0.5
    split: bool = True

    def __post_init__(self) -> None:
        if self.retries < 0 or self.backoff_seconds < 0:
            raise InvalidEventError(
                f"retries and a pause of 0 or more were expected, found retries={self.retries}, "
                f"backoff_seconds={self.backoff_seconds}",
                code="bad_range",
            )

    def pauses(self) -> Iterator[float]:
        """Yield the pause before each retry, in seconds."""
        for retry in range(self.retries):
            yield min(self.backoff_seconds * 2 ** min(retry, 32), _MOST_BACKOFF_SECONDS)


@dataclass(frozen=True, slots=True)
class NotTaken:
    """What a handler did not take: its error, the events, and how often it failed over them."""

    error: Exception
    batch: pa.RecordBatch
    attempts: int


def deliver(
    handler: Handler,
    batch: pa.RecordBatch,
    *,
    patience: Patience,
    taken: Callable[[pa.RecordBatch], object],
    wait: Callable[[float], bool],
) -> NotTaken | None:
    """Hand a batch over, whole or in parts; None if all was taken, or if waiting was called off.

    Parameters
    ----------
    taken
        Called with each part, right after the handler took it.
    wait
        Pauses for so many seconds; True calls everything off.

    Notes
    -----
    Only an `Exception` is a failure. What ends a program passes through, and nothing counts as taken.
    """
    attempts = 0
    parts = [batch]
    while parts:
        part = parts.pop()
        pauses = patience.pauses() if part is batch or part.num_rows == 1 else iter(())
        while True:
            try:
                handler(part)
            except Exception as error:
                failed = error
                attempts += 1
            else:
                taken(part)
                break
            _log(part, failed, attempts)
            pause = next(pauses, None)
            if pause is not None:
                if wait(pause):
                    return None
            elif patience.split and part.num_rows > 1:
                half = part.num_rows // 2
                parts += [part.slice(half), part.slice(0, half)]
                break
            else:
                return NotTaken(failed, part, attempts)
    return None


def _log(part: pa.RecordBatch, error: Exception, attempts: int) -> None:
    logger.warning(
        "the handler did not take the events from position %d to %d (failure %d): %s: %s",
        part["position"][0].as_py(),
        end_of(part) - 1,
        attempts,
        type(error).__name__,
        words_of(error),
    )


def words_of(error: BaseException) -> str:
    """Return what an error says, fit to be stored: credentials masked, at most 2,000 characters."""
    words = str(error).encode(errors="backslashreplace").decode()  # JSON takes no lone surrogates
    if len(words) > 2 * _MOST_WORDS:
        # Between words, as half a URL may show what the whole one hides.
        words = words[: 2 * _MOST_WORDS].rpartition(" ")[0]
    return mask_url(words)[:_MOST_WORDS]


def end_of(batch: pa.RecordBatch) -> int:
    """One past the position of a batch's last event."""
    end: int = batch["position"][-1].as_py() + 1
    return end


def regrouped(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of exactly `rows`, the last one shorter.

    Small segments give small batches; a handler should not be called for each.
    """
    waiting: list[pa.RecordBatch] = []
    left = rows
    for batch in batches:
        start = 0
        while batch.num_rows - start >= left:
            waiting.append(batch.slice(start, left))
            start += left
            yield _joined(waiting)
            waiting, left = [], rows
        if start < batch.num_rows:
            waiting.append(batch.slice(start))
            left -= batch.num_rows - start
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
