"""What an open store is asked: batches, events, ranges, lazy tables, subscriptions."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from eventstore.codec.rows import recorded_events
from eventstore.events.envelope import RecordedEvent
from eventstore.events.registry import Registry
from eventstore.filesystem import Storage
from eventstore.log.ranges import ranges_of
from eventstore.log.reader import LogReader
from eventstore.log.sequence import Head, SealSequence
from eventstore.log.subscription import Checkpoint, Checkpoints, Clocks, Patience, Start, Subscription
from eventstore.log.writer import Author

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Reading"]


class Reading:
    """The part of `EventStore` that reads the log."""

    storage: Storage
    store_id: str
    read_only: bool
    registry: Registry
    _author: Author
    _clock: Callable[[], int]
    _reader: LogReader
    _sequence: SealSequence

    @property
    def url(self) -> str:
        """Where the store is, credentials masked."""
        return self.storage.url

    def _check_open(self) -> None:
        raise NotImplementedError

    def head(self) -> Head:
        """Return where the sealed log ends now."""
        return self._sequence.head()

    def head_at(self, number: int) -> Head | None:
        """Return where the log ended with seal `number`; None if the chain has no such seal.

        What was derived from the log keeps the number and digest of the seal that it reached; by this it is
        told from what was derived before the log was restored from an older copy and went on differently.

        Raises
        ------
        IntegrityError
            That seal is damaged or missing.
        """
        self._check_open()
        return self._sequence.head_at(number)

    def read(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        limit: int | None = None,
        tail: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield committed events in position order, as Arrow; see `LogReader.read`."""
        return self._reader.read(
            after=after, until=until, kinds=kinds, columns=columns, limit=limit, tail=tail
        )

    def events(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        limit: int | None = None,
        tail: bool = False,
    ) -> Iterator[RecordedEvent]:
        """Yield committed events in position order, typed; parameters as in `read`."""
        batches = self.read(after=after, until=until, kinds=kinds, limit=limit, tail=tail)
        return (event for batch in batches for event in recorded_events(batch, self.registry))

    def position_at(self, moment: dt.datetime) -> int:
        """Return how many events were sealed by `moment`: the position that "as of then" means.

        Before the first seal there were none. A time without a timezone is an InvalidEventError (code
        ``naive_time``).
        """
        self._check_open()
        return self._sequence.size_at(moment)

    def ranges(
        self, *, after: int | None = None, until: int | None = None, rows: int = 131_072
    ) -> list[tuple[int, int]]:
        """Return ``(first, end)`` of ranges of sealed positions, to be read one after another.

        Parameters
        ----------
        after, until
            As in `read`.
        rows
            Positions that a range has at most, unless a segment or a block alone has more.
        """
        self._check_open()
        now = self._sequence.refresh()
        end = now.peaks.size if until is None else min(until, now.peaks.size)
        return list(ranges_of(now.segments, self._reader.blocks, after=after, until=end, rows=rows))

    def scan(
        self,
        *,
        after: int | None = None,
        until: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        tail: bool = False,
        check: bool = True,
    ) -> pl.LazyFrame:
        """Return events as a lazy polars table, ``position`` first; parameters as in `read`.

        With `check`, damage to a segment is an error and never a wrong answer; see `scan_log`.
        """
        from eventstore.log.scan import scan_log  # polars is a third of the time that a program starts in

        return scan_log(
            self.storage,
            self._sequence,
            self._reader,
            self.registry,
            after=after,
            until=until,
            kinds=kinds,
            columns=columns,
            tail=tail,
            check=check,
        )

    def subscribe(
        self,
        *,
        after: int | None = None,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        poll_seconds: float = 0.5,
        stop: threading.Event | None = None,
        idle_seconds: float | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield sealed events as they come; see `LogReader.subscribe`."""
        return self._reader.subscribe(
            after=after,
            kinds=kinds,
            columns=columns,
            poll_seconds=poll_seconds,
            stop=stop,
            idle_seconds=idle_seconds,
        )

    def subscription(
        self,
        name: str,
        *,
        kinds: Collection[str] | None = None,
        columns: Collection[str] | None = None,
        start: Start = None,
        batch_rows: int = 1_000,
        retries: int = 3,
        backoff_seconds: float = 0.5,
        split: bool = True,
        checkpoint_seconds: float = 1.0,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> Subscription:
        """Return the subscription of this name, made if there is none; it hands over sealed events.

        Where it stands lies in the store, so a later process, here or elsewhere, goes on there. Events come
        in position order and at least once. Two runners of one name notice each other; where storage has no
        atomic put-if-absent they may not, and events then come more often than needed.

        Parameters
        ----------
        name
            1 to 100 lower-case letters, digits, ``-`` and ``_``.
        kinds
            Only events of these kinds. They belong to the name: None takes those that it was made with, or
            all for a new one.
        columns
            Only these columns, always after ``position``; None means all.
        start
            Where a new one begins: a position, ``"head"``, or None for the first event.
        batch_rows
            Most events that are handed over at once.
        retries, backoff_seconds
            How often a batch is handed over again after the handler raised, and the pause before the first
            time, which doubles with each, up to a minute.
        split
            Then halve the batch until the event that the handler does not take is alone, so that only this
            one parks the subscription.
        checkpoint_seconds
            A checkpoint is written at most so often while events are taken.
        timer, sleep
            Seconds that never go back; how to pause, None for a pause that `stop` ends.

        Raises
        ------
        InvalidEventError
            The name is bad, or stands for other kinds (code ``bad_subscription``); `start` is not in the log
            (``bad_range``).
        NotFoundError
            There is none, and this store is read-only (``no_such_subscription``).
        """
        return Subscription(
            name,
            log=self,
            checkpoints=Checkpoints(self.storage, store_id=self.store_id),
            software=self._author.software,
            kinds=kinds,
            columns=columns,
            start=start,
            batch_rows=batch_rows,
            checkpoint_seconds=checkpoint_seconds,
            patience=Patience(retries, backoff_seconds, split),
            clocks=Clocks(self._clock, timer, sleep),
        )

    def subscriptions(self) -> list[Checkpoint]:
        """Return where each named subscription stands, by name."""
        return Checkpoints(self.storage, store_id=self.store_id).all()
