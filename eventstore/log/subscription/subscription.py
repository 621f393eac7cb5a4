"""Named subscriptions: sealed events handed over in batches, at least once, from where the name stands.

The checkpoint moves only after a batch was taken, and lies in the store, so another machine can go on. A
handler that keeps failing parks the subscription with its error, until someone decides.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from typing import NoReturn, Self

import pyarrow as pa

from eventstore.errors import EventStoreError, InvalidEventError, StateError
from eventstore.log.reader import check_question, checked_columns
from eventstore.log.subscription.checkpoint import Checkpoint, HandlerFailure, SubscriptionState
from eventstore.log.subscription.checkpoints import Checkpoints
from eventstore.log.subscription.delivery import (
    Handler,
    NotTaken,
    Patience,
    deliver,
    end_of,
    regrouped,
    words_of,
)
from eventstore.log.subscription.standing import Clocks, Log, Standing, Start

__all__ = ["Subscription"]


class Subscription:
    """A named place in the log that moves on as events are taken; made by `EventStore.subscription`.

    For one thread at a time. A context manager that at its end stores how far it came.

    Parameters
    ----------
    log
        The store.
    checkpoints
        Where its subscriptions stand.
    software
        What checkpoints say wrote them.
    kinds, columns, start, batch_rows, checkpoint_seconds
        See `EventStore.subscription`.
    patience, clocks
        What is tried before a handler has failed, and by which time.
    """

    def __init__(
        self,
        name: str,
        *,
        log: Log,
        checkpoints: Checkpoints,
        software: str,
        kinds: Collection[str] | None,
        columns: Collection[str] | None,
        start: Start,
        batch_rows: int,
        checkpoint_seconds: float,
        patience: Patience,
        clocks: Clocks,
    ) -> None:
        check_question(kinds=kinds)
        checked_columns(columns)
        if batch_rows < 1:
            raise InvalidEventError(
                f"batches of 1 or more events were expected, found batch_rows={batch_rows}", code="bad_range"
            )
        self.name = name
        self._log = log
        self._columns = columns
        self._batch_rows = batch_rows
        self._patience = patience
        self._clocks = clocks
        self._running = False
        self._standing = Standing(
            name,
            log=log,
            checkpoints=checkpoints,
            software=software,
            kinds=kinds,
            start=start,
            checkpoint_seconds=checkpoint_seconds,
            clocks=clocks,
        )
        self._handed = self._standing.position
        """Every event before it was handed out, or passed over as of another kind."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Subscription({self.name!r}, position={self.position}, state={str(self.state)!r})"

    # where it stands -------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Every event before it is done, whether that is stored yet or not."""
        return self._standing.position

    @property
    def checkpoint(self) -> Checkpoint:
        """What this object knows to be stored."""
        return self._standing.stored

    @property
    def kinds(self) -> tuple[str, ...] | None:
        """The kinds that it asks for, sorted; None means all."""
        return self.checkpoint.kinds

    @property
    def state(self) -> SubscriptionState:
        """What it is ready for."""
        return self.checkpoint.state

    @property
    def failure(self) -> HandlerFailure | None:
        """Why it is parked; None if it is not."""
        return self.checkpoint.failure

    @property
    def updated_at(self) -> dt.datetime:
        """When its checkpoint was written, UTC."""
        return self.checkpoint.updated_at

    # running ---------------------------------------------------------------------------------------------

    def run(
        self,
        handler: Handler,
        *,
        follow: bool = False,
        poll_seconds: float = 0.5,
        idle_seconds: float | None = None,
        stop: threading.Event | None = None,
    ) -> int:
        """Hand everything up to the head to `handler`, batch by batch; with `follow`, also what comes.

        A batch is done when `handler` returns. If it raises, the batch is handed over again, after pauses,
        and at last in halves; when an event is still not taken, the subscription is parked before it. After
        a crash, what was done since the last checkpoint comes again: a handler must bear that.

        Parameters
        ----------
        follow
            Go on as events are sealed, until `stop` is set.
        poll_seconds, idle_seconds
            With `follow`: the pause between two looks at the head, and how long to wait for something new
            before returning (None: for ever).
        stop
            Ends the run after the present batch, or amid a pause.

        Returns
        -------
        How many events were taken.

        Raises
        ------
        StateError
            It is parked, by this run (from the handler's error) or before (code ``subscription_parked``);
            where it stands is of another log, as after a restore (``foreign_checkpoint``); or the store is
            read-only (``read_only``).
        ConflictError
            Another runner has gone on (``subscription_taken``): what this one did since its last checkpoint
            is done twice.
        NotFoundError
            It was deleted (``no_such_subscription``).
        IntegrityError
            The log ends before the checkpoint (``checkpoint_beyond_head``), or cannot be read.
        """
        halt = stop or threading.Event()
        count = 0

        def taken(part: pa.RecordBatch) -> None:
            nonlocal count
            count += part.num_rows
            self.commit(end_of(part))

        batches = self.batches(follow=follow, poll_seconds=poll_seconds, idle_seconds=idle_seconds, stop=halt)
        try:
            with closing(batches):
                for batch in batches:
                    left = deliver(
                        handler,
                        batch,
                        patience=self._patience,
                        taken=taken,
                        wait=lambda seconds: self._clocks.wait(seconds, halt),
                    )
                    if left is not None:
                        self._park(left)
        except BaseException:
            self._standing.keep_amid_error()
            raise
        self._standing.keep()
        return count

    def batches(
        self,
        *,
        follow: bool = False,
        poll_seconds: float = 0.5,
        idle_seconds: float | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[pa.RecordBatch, None, None]:
        """Yield what `run` would hand over; nothing is done until `commit` says so.

        Parameters and errors are those of `run`. What was not committed comes again in the next iteration.
        """
        halt = stop or threading.Event()
        self._begin()
        self._standing.check()
        if self.failure is not None:
            raise self._parked(self.failure)
        self._running = True
        try:
            quiet_since = self._clocks.timer()
            while not halt.is_set():
                size = self._standing.look()
                if size > self._handed:
                    for batch in self._new_until(size):
                        self._handed = end_of(batch)
                        yield batch
                        if halt.is_set():
                            break
                    else:
                        self._pass_over(size)
                        quiet_since = self._clocks.timer()
                if not follow or halt.is_set():
                    break
                self._standing.keep_if_due()
                if idle_seconds is not None and self._clocks.timer() - quiet_since >= idle_seconds:
                    break
                self._clocks.wait(poll_seconds, halt)
        except BaseException:
            self._standing.keep_amid_error()
            raise
        finally:
            self._running = False
        self._standing.keep()

    def commit(self, position: int | None = None) -> None:
        """Say that every event before `position` is done; None means all that was handed out.

        It is stored at once if nothing is being iterated, else at most every `checkpoint_seconds`.

        Raises
        ------
        InvalidEventError
            Before what is done already, or beyond what was handed out (code ``bad_range``).
        """
        end = self._handed if position is None else position
        if not self.position <= end <= self._handed:
            raise InvalidEventError(
                f"a position from {self.position}, where the subscription {self.name!r} stands, to "
                f"{self._handed}, the end of what was handed out, was expected, found {end}; `seek` moves "
                "it elsewhere",
                code="bad_range",
                subscription=self.name,
            )
        self._standing.position = end
        if self._running:
            self._standing.keep_if_due()
        else:
            self._standing.keep()

    def close(self) -> None:
        """Store how far it came, if that is not stored yet."""
        self._standing.keep()

    def _new_until(self, size: int) -> Iterator[pa.RecordBatch]:
        after = self._handed - 1 if self._handed else None
        batches = self._log.read(after=after, until=size, kinds=self.kinds, columns=self._columns)
        return regrouped(batches, self._batch_rows)

    def _pass_over(self, size: int) -> None:
        """Go on behind events of other kinds, which nobody waits for."""
        if self.position == self._handed:
            self._standing.position = size
        self._handed = size

    # for operators ---------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Let it run again with the events that it was parked for; if it is not parked, do nothing.

        Raises
        ------
        StateError
            Where it stands is of another log (code ``foreign_checkpoint``): only `seek` moves it.
        """
        self._begin()
        self._standing.check()
        if self.failure is not None:
            self._standing.store(SubscriptionState.ACTIVE)

    def skip(self) -> None:
        """Let it go on behind the events that it was parked for, which its handler then never takes.

        Raises
        ------
        StateError
            It is not parked (code ``not_parked``), or where it stands is of another log
            (``foreign_checkpoint``).
        """
        self._begin()
        self._standing.check()
        if self.failure is None:
            raise StateError(
                f"the subscription {self.name!r} was expected to be parked, found it {self.state} at "
                f"position {self.position}; `seek` moves it anywhere",
                code="not_parked",
                subscription=self.name,
            )
        self._standing.move(self.failure.last + 1)

    def seek(self, position: int) -> None:
        """Let it go on at `position`, forward or back, parked or of another log; a runner elsewhere stops.

        Raises
        ------
        InvalidEventError
            Before the first position or beyond the head (code ``bad_range``).
        """
        self._begin()
        self._standing.move(position)

    def delete(self) -> None:
        """Forget where it stands; a runner elsewhere stops. The next one of this name begins anew."""
        self._begin()
        self._standing.store(SubscriptionState.DELETED)

    def _begin(self) -> None:
        """Take over what another process has stored since; refuse where nothing may be moved."""
        if self._log.read_only:
            raise StateError(
                f"{self._log.url} was opened with read_only=True: open it again without, to move the "
                f"subscription {self.name!r}",
                code="read_only",
            )
        if self._running:
            raise StateError(
                f"the subscription {self.name!r} is running: end that first",
                code="subscription_running",
                subscription=self.name,
            )
        self._standing.reload()
        self._handed = self.position

    # what goes wrong -------------------------------------------------------------------------------------

    def _park(self, left: NotTaken) -> NoReturn:
        failure = HandlerFailure(
            error_type=type(left.error).__name__,
            message=words_of(left.error),
            first=left.batch["position"][0].as_py(),
            last=end_of(left.batch) - 1,
            attempts=left.attempts,
        )
        self._standing.position = failure.first  # nothing that is asked for stands between
        try:
            self._standing.store(SubscriptionState.PARKED, failure)
        except EventStoreError as refused:
            raise refused from left.error
        raise self._parked(failure) from left.error

    def _parked(self, failure: HandlerFailure) -> StateError:
        return StateError(
            f"the subscription {self.name!r} is parked: its handler did not take the events from position "
            f"{failure.first} to {failure.last}, in {failure.attempts} attempts ({failure.error_type}: "
            f"{failure.message}). Correct the handler, then resume(); or skip() them",
            code="subscription_parked",
            subscription=self.name,
            position=failure.first,
            failure=failure,
        )
