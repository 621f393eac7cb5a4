"""The store and the model of the log agree after any history of appends, flushes, seals and crashes."""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from eventstore import CompactionGoals, Event, EventStore, InvalidEventError, Level, Receipt, layout
from eventstore.testing import ModelLog, stored_form
from eventstore.testing.strategies import REGISTRY, batches

INLINE_LIMIT = 16
MOST_STORES = 3
GOALS = CompactionGoals(events=12, least_files=2, block_rows=4)
"""Files and blocks so small that a short history fills several."""
KINDS = ("job.started", "value.recorded", "kit.batch_measured", "tags.recorded")
positions = st.none() | st.integers(-1, 12)


class LogMachine(RuleBasedStateMachine):
    """Several stores on one place, and one model of what it holds."""

    shared = True
    """Whether journals outlive their writer, and all see them: not in memory."""
    auto_seal = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.url = str(self.folder / "store") if self.shared else f"memory://{uuid.uuid4()}"
        self.model = ModelLog(auto_seal=self.auto_seal)
        self.stores: list[EventStore] = []
        self.receipts: dict[EventStore, list[Receipt]] = {}
        self.writers: dict[EventStore, str] = {}
        self.now = 1_700_000_000_000_000
        self.open_store()

    def clock(self) -> int:
        """A clock that stands still between the steps."""
        return self.now

    def store(self, number: int) -> EventStore:
        """One of the open stores."""
        return self.stores[number % len(self.stores)]

    @precondition(lambda self: len(self.stores) < MOST_STORES)
    @rule()
    def open_store(self) -> None:
        """Another store opens, and takes over what the dead left."""
        self.now += 1
        store = EventStore.open(
            self.url,
            create=True,
            registry=REGISTRY,
            flush_seconds=None,
            inline_limit=INLINE_LIMIT,
            auto_seal=self.auto_seal,
            state_dir=self.folder / "state",
            clock=self.clock,
        )
        self.stores.append(store)
        self.receipts[store] = []
        if self.shared:
            self.model.recover()

    @precondition(lambda self: self.stores)
    @rule(number=st.integers(0, 9), batch=batches(*KINDS, most=3), step=st.sampled_from([0, 1, 1000, -500]))
    def append(self, number: int, batch: list[Event], step: int) -> None:
        """One batch; the clock may stand still or go back a little."""
        self.now += step
        store = self.store(number)
        receipt = store.append(*batch)
        recorded = [event.recorded_at for event in store.events(tail=True) if event.id == receipt.first]
        assert len(recorded) == 1
        recorded_us = round(recorded[0].timestamp() * 1_000_000)
        assert recorded_us >= self.now
        writer = str(receipt.first.writer)
        assert self.writers.setdefault(store, writer) == writer
        self.receipts[store].append(receipt)
        stored = [stored_form(event, recorded_us=recorded_us, inline_limit=INLINE_LIMIT) for event in batch]
        self.model.append(receipt.first, stored, recorded_us=recorded_us)

    @precondition(lambda self: self.stores)
    @rule(number=st.integers(0, 9))
    def flush(self, number: int) -> None:
        """What one writer has open becomes durable."""
        store = self.store(number)
        store.flush()
        self.model.flush(self.writers.get(store, ""))

    @precondition(lambda self: self.stores)
    @rule(number=st.integers(0, 9))
    def seal(self, number: int) -> None:
        """One store gives all that is durable its position."""
        store = self.store(number)
        head = store.seal()
        self.model.flush(self.writers.get(store, ""))
        self.model.seal()
        assert head.size == self.model.size

    @precondition(lambda self: self.stores)
    @rule(number=st.integers(0, 9))
    def compact(self, number: int) -> None:
        """One store merges what there is, after sealing it; nothing else changes."""
        store = self.store(number)
        report = store.compact(goals=GOALS)
        self.model.flush(self.writers.get(store, ""))
        self.model.seal()
        self.model.seals += len(report.made)
        assert report.given_up == 0
        assert store.head().number == self.model.seals
        assert store.compact(apply=False, goals=GOALS).plan.groups == ()

    @precondition(lambda self: self.stores)
    @rule(number=st.integers(0, 9), hours=st.sampled_from([0, 30]))
    def clean(self, number: int, hours: int) -> None:
        """One store removes what was replaced so long ago."""
        report = self.store(number).clean(grace=dt.timedelta(hours=hours))
        assert report.removed == len(report.plan.removals)

    @precondition(lambda self: self.stores)
    @rule(number=st.integers(0, 9))
    def close(self, number: int) -> None:
        """One store is closed in order."""
        store = self.store(number)
        store.close()
        self.model.flush(self.writers.pop(store, ""))
        self.stores.remove(store)

    @precondition(lambda self: self.stores)
    @rule(number=st.integers(0, 9))
    def crash(self, number: int) -> None:
        """One store dies."""
        store = self.store(number)
        store.abandon()
        self.model.crash(self.writers.pop(store, ""), journaled=self.shared)
        self.stores.remove(store)

    @precondition(lambda self: self.stores)
    @rule(
        number=st.integers(0, 9),
        after=positions,
        until=positions,
        kinds=st.none() | st.sets(st.sampled_from(KINDS)),
        limit=st.none() | st.integers(0, 5),
        tail=st.booleans(),
    )
    def read(self, number: int, **asked: Any) -> None:
        """Any question gets the model's answer; a tail behind an end is no question, and refused."""
        store = self.store(number)
        if asked.get("tail") and asked.get("until") is not None:
            with pytest.raises(InvalidEventError, match="until"):
                store.events(**asked)
            return
        expected = self.model.read(**asked, own=self.writers.get(store), journals=self.shared)
        found = list(store.events(**asked))
        differences = [known.differs(event) for known, event in zip(expected, found, strict=False)]
        assert [words for words in differences if words] == []
        assert len(found) == len(expected)

    @precondition(lambda self: self.stores)
    @rule(number=st.integers(0, 9))
    def levels(self, number: int) -> None:
        """Every receipt says how safe its events are."""
        store = self.store(number)
        for receipt in self.receipts[store]:
            assert receipt.level() is Level(self.model.level(receipt.last))

    def teardown(self) -> None:
        """All die; what the next one finds is whole, and verifies."""
        for store in list(self.stores):
            store.abandon()
            self.model.crash(self.writers.pop(store, ""), journaled=self.shared)
        self.stores.clear()
        self.open_store()
        (store,) = self.stores
        self.seal(0)
        self.read(0, after=None, until=None, kinds=None, limit=None, tail=True)
        for cut in {self.model.size // 3, self.model.size // 2, self.model.size - 1} - {-1, 0}:
            self.read(0, after=None, until=cut)
            self.read(0, after=cut, until=None)
        report = store.verify()
        assert report.findings == []
        assert report.events == self.model.size
        assert store.head().number == self.model.seals
        store.close()
        shutil.rmtree(self.folder)


class MemoryMachine(LogMachine):
    """Without journals: what a crashed writer had open is gone."""

    shared = False


class EagerMachine(LogMachine):
    """Every flush seals what it finds."""

    auto_seal = True


class CompactingMachine(LogMachine):
    """Days go by, a snapshot comes after every second seal, and archives are small: seals go too."""

    auto_seal = True

    @rule()
    def wait(self) -> None:
        """The grace of all that was replaced is over."""
        self.now += 48 * 3600 * 1_000_000

    def teardown(self) -> None:
        """Before the end all is compacted and cleaned up, out of which the next one reads it."""
        self.open_store()
        self.wait()
        for store in self.stores[-1:]:
            store.compact(goals=GOALS)
            self.model.seals = store.head().number
            store.clean(grace=dt.timedelta(0))
        super().teardown()


@pytest.fixture(autouse=True)
def small_archives(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seals are archived early where that is what is tried out."""
    if "Compacting" in request.node.nodeid:
        monkeypatch.setattr(layout, "SNAPSHOT_EVERY", 2)
        monkeypatch.setattr("eventstore.log.packing.LEAST_SEALS", 1)


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that seals always looks for the segments of others, as the model does."""
    monkeypatch.setattr("eventstore.store.event_store.LOOK_SECONDS", 0.0)


def _profile(examples: int, steps: int) -> settings:
    """Short at the desk; as long as the profile says in a campaign."""
    long = settings.default is not None and settings.default.max_examples > 1000
    return settings(max_examples=500 if long else examples, stateful_step_count=60 if long else steps)


TestLocal = LogMachine.TestCase
TestLocal.settings = _profile(12, 20)
TestMemory = MemoryMachine.TestCase
TestMemory.settings = _profile(25, 25)
TestEager = EagerMachine.TestCase
TestEager.settings = _profile(8, 15)
TestCompacting = CompactingMachine.TestCase
TestCompacting.settings = _profile(10, 25)
