"""Whatever happens to its runners, a subscription leaves no event out and none before its turn."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eventstore import (
    ConflictError,
    EventStore,
    EventStoreError,
    ExecutionHeartbeat,
    ExecutionStarted,
    StateError,
    Storage,
    StorageError,
    Subscription,
)
from eventstore.filesystem import open_storage
from eventstore.log.subscription import is_of_log

NAME = "machine"
KIND = "execution.heartbeat"
MOST_RUNNERS = 3


class Mortal:
    """A storage of one process: after its death nothing is stored, whatever is still called."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        if self.dead:
            raise StorageError("the process is dead")
        return getattr(self._storage, name)


@dataclass(eq=False)
class Runner:
    """One process that runs the subscription."""

    storage: Mortal
    subscription: Subscription
    pulled: Generator[pa.RecordBatch, None, None] | None = None
    reached: int = 0
    """Every event before it was handed out in the iteration at hand, or was done before it."""
    last: list[int] = field(default_factory=list)


class SubscriptionMachine(RuleBasedStateMachine):
    """Several runners, an operator, a handler that fails on some events, and what was delivered."""

    kinds: list[str] | None = [KIND]

    def __init__(self) -> None:
        super().__init__()
        self.url = f"memory://{uuid.uuid4()}"
        self.writer = EventStore.open(self.url, create=True, flush_seconds=None, auto_seal=False)
        self.now = 0.0
        self.wanted: list[int] = []
        """Positions of the events that the subscription asks for."""
        self.waiting: list[bool] = []
        """Whether it asks for them, of events that are not sealed."""
        self.delivered: set[int] = set()
        self.passed: set[int] = set()
        """What an operator has passed over."""
        self.poison: set[int] = set()
        self.runners: list[Runner] = []

    # the log

    @rule(picks=st.lists(st.booleans(), min_size=1, max_size=6), flush=st.booleans())
    def append(self, picks: list[bool], flush: bool) -> None:
        """Events of a kind that is asked for, and of another."""
        kinds = [ExecutionStarted, ExecutionHeartbeat]
        self.writer.append(*(kinds[pick](execution_id="x") for pick in picks))
        self.waiting += [pick or self.kinds is None for pick in picks]
        if flush:
            self.writer.flush()

    @rule()
    def seal(self) -> None:
        """What waits gets its position."""
        size = self.writer.seal().size
        first = size - len(self.waiting)
        self.wanted += [first + place for place, wanted in enumerate(self.waiting) if wanted]
        self.waiting = []

    @rule(seconds=st.sampled_from([0.5, 5.0]))
    def time_passes(self, seconds: float) -> None:
        """So that checkpoints are due."""
        self.now += seconds

    @precondition(lambda self: self.wanted)
    @rule(place=st.integers(0, 99), heal=st.booleans())
    def poisoned(self, place: int, heal: bool) -> None:
        """An event that the handler cannot take; or the handler is corrected."""
        self.poison = set() if heal else {*self.poison, self.wanted[place % len(self.wanted)]}

    # runners

    def _opened(self) -> Runner:
        storage = Mortal(open_storage(self.url))
        store = EventStore.open(self.url, storage=storage, flush_seconds=None)
        subscription = store.subscription(
            NAME,
            kinds=self.kinds,
            batch_rows=3,
            retries=0,
            checkpoint_seconds=2.0,
            timer=lambda: self.now,
            sleep=lambda _: None,
        )
        return Runner(storage, subscription)

    def _runner(self, number: int) -> Runner:
        return self.runners[number % len(self.runners)]

    def _stored(self) -> int:
        known = self.writer.subscriptions()
        return known[0].position if known else 0

    def _deliver(self, runner: Runner, batch: pa.RecordBatch) -> None:
        """Check what a runner is given: all that is asked for, in order, from where it was, and no more."""
        positions = batch["position"].to_pylist()
        begin, end = runner.reached, positions[-1] + 1
        assert positions == [one for one in self.wanted if begin <= one < end]
        assert end <= self.writer.head().size
        self.delivered.update(positions)
        runner.reached = end

    @precondition(lambda self: len(self.runners) < MOST_RUNNERS)
    @rule()
    def start(self) -> None:
        """Another process opens the subscription."""
        self.runners.append(self._opened())

    @precondition(lambda self: self.runners)
    @rule(number=st.integers(0, 9), commits=st.booleans())
    def pull(self, number: int, commits: bool) -> None:
        """A runner takes one batch, and may say so."""
        runner = self._runner(number)
        if runner.pulled is None:
            runner.pulled = runner.subscription.batches()
            batch = self._next(runner, begins=True)
        else:
            batch = self._next(runner)
        if batch is None:
            return
        self._deliver(runner, batch)
        if commits:
            try:
                runner.subscription.commit()
            except ConflictError:
                self._end(runner)

    def _next(self, runner: Runner, *, begins: bool = False) -> pa.RecordBatch | None:
        assert runner.pulled is not None
        try:
            batch = next(runner.pulled)
        except (ConflictError, StateError, StopIteration):
            self._end(runner)
            return None
        if begins:
            runner.reached = runner.subscription.position
        return batch

    @staticmethod
    def _end(runner: Runner) -> None:
        if runner.pulled is not None:
            runner.pulled.close()
            runner.pulled = None

    @precondition(lambda self: self.runners)
    @rule(number=st.integers(0, 9))
    def run(self, number: int) -> None:
        """A runner goes through all that is there, with a handler that may fail."""
        runner = self._runner(number)
        self._end(runner)
        runner.reached = -1

        def handler(batch: pa.RecordBatch) -> None:
            positions = batch["position"].to_pylist()
            if self.poison & set(positions):
                raise ValueError(positions)
            if runner.reached < 0:
                runner.reached = runner.subscription.position
            self._deliver(runner, batch)

        ended: EventStoreError | None = None
        try:
            runner.subscription.run(handler)
        except (ConflictError, StateError) as error:
            ended = error
        if ended is None:
            assert runner.subscription.position == self.writer.head().size
        elif isinstance(ended, StateError):
            assert ended.code == "subscription_parked"
            assert ended.position == runner.subscription.position

    @precondition(lambda self: self.runners)
    @rule(number=st.integers(0, 9))
    def crash(self, number: int) -> None:
        """A process dies: what it did and did not store is done again."""
        runner = self._runner(number)
        runner.storage.dead = True
        self._end(runner)
        self.runners.remove(runner)

    @precondition(lambda self: self.runners)
    @rule(number=st.integers(0, 9))
    def close(self, number: int) -> None:
        """A process ends in order; what it did may be another's by now."""
        runner = self._runner(number)
        self._end(runner)
        with contextlib.suppress(ConflictError):
            runner.subscription.close()
        self.runners.remove(runner)

    # the operator

    @rule()
    def resume(self) -> None:
        """Someone lets it go on."""
        self._opened().subscription.resume()

    @rule()
    def skip(self) -> None:
        """Someone passes over the event that it was parked for."""
        subscription = self._opened().subscription
        if subscription.failure is not None:
            self.passed.add(subscription.failure.first)
            assert subscription.failure.first == subscription.failure.last == subscription.position
            subscription.skip()

    @rule(place=st.floats(0, 1))
    def seek(self, place: float) -> None:
        """Someone moves it, which passes over what lies between."""
        subscription = self._opened().subscription
        position = round(place * self.writer.head().size)
        self.passed.update(one for one in self.wanted if subscription.position <= one < position)
        subscription.seek(position)

    # what holds

    @invariant()
    def nothing_before_the_checkpoint_is_left_out(self) -> None:
        """Whoever goes on from what is stored now misses nothing."""
        stored = self._stored()
        assert {one for one in self.wanted if one < stored} <= self.delivered | self.passed

    @invariant()
    def what_is_stored_is_of_this_log(self) -> None:
        """By the seal that it names, so nobody refuses it."""
        for known in self.writer.subscriptions():
            assert is_of_log(known, self.writer.head_at(known.seal))

    def teardown(self) -> None:
        """A last runner with a handler that takes all, and everything is delivered."""
        self.seal()
        self.poison = set()
        last = self._opened()
        last.subscription.resume()
        self.runners.append(last)
        self.run(len(self.runners) - 1)
        assert set(self.wanted) <= self.delivered | self.passed
        assert self._stored() == self.writer.head().size
        assert self.writer.verify().findings == []
        for runner in self.runners:
            runner.storage.dead = True
            self._end(runner)
        self.writer.close()


class AllKindsMachine(SubscriptionMachine):
    """A subscription that asks for everything."""

    kinds = None


def _profile(examples: int) -> settings:
    """Short at the desk; as long as the profile says in a campaign."""
    long = settings.default is not None and settings.default.max_examples > 1000
    return settings(max_examples=500 if long else examples, stateful_step_count=60 if long else 30)


TestSubscription = SubscriptionMachine.TestCase
TestSubscription.settings = _profile(15)
TestAllKinds = AllKindsMachine.TestCase
TestAllKinds.settings = _profile(5)
