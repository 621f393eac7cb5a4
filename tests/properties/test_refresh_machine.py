"""Histories of a store and its tables: however they are built, asked and broken, tables are the fold.

All that is large by default is small here, so that a few events take every path: rows are spilled, files and
row groups hold a few rows, runs are merged in tiers, and what was replaced is deleted at once.
"""

from __future__ import annotations

import datetime as dt
import errno
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from store_kit import memory_url, open_store
from tables_kit import ALL, any_events, assert_tables, handle_events, shrink, table_from, tag_events

from eventstore import EventStore, EventStoreError
from eventstore.filesystem import open_storage
from eventstore.log.compaction import CompactionGoals
from eventstore.testing import FaultPlan, FaultyStorage, When
from projections import ProjectionRegistry, content_digest, open_tables, rebuild, refresh
from projections.builder import SCRATCH
from projections.snapshot import list_snapshots, open_snapshot

MEMORY = st.sampled_from([1, 3_000, 10**9])
events = st.one_of(any_events, tag_events, handle_events)
ONE = st.sampled_from(["handles", "handles", "kinds", "newest"])
"""Recipes that go on from the state before."""
some = st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3)


class TablesMachine(RuleBasedStateMachine):
    """One store in a folder, several writers, a few recipes of all there are."""

    shared = True

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.url = str(self.folder / "store [1]") if self.shared else memory_url()
        self.patch = pytest.MonkeyPatch()
        shrink(self.patch)
        self.patch.setattr("projections.snapshot.RUN_GRACE", dt.timedelta(0))
        self.stores: list[EventStore] = []
        self.built: set[str] = set()
        self.registry = ProjectionRegistry()

    @initialize(names=st.sets(st.sampled_from(ALL.names), min_size=1, max_size=3), one=ONE)
    def choose(self, names: set[str], one: str) -> None:
        """Of all recipes a few are used, so that each step is quick; one of them needs the state before."""
        self.registry = ProjectionRegistry([ALL.get(name) for name in sorted({*names, one})])
        self.open_store()

    def names(self, numbers: Sequence[int] | None) -> list[str] | None:
        """Return the names of the tables with these numbers."""
        known = self.registry.names
        return None if numbers is None else [known[number % len(known)] for number in numbers]

    @property
    def store(self) -> EventStore:
        """The first store that is open."""
        return self.stores[0]

    # the log ---------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.stores) < 3)
    @rule()
    def open_store(self) -> None:
        """One more writer."""
        self.stores.append(open_store(self.url, state_dir=self.folder / "state"))

    @rule(number=st.integers(0, 9), batch=st.lists(events, min_size=1, max_size=6))
    def append(self, number: int, batch: list[Any]) -> None:
        """One writer appends."""
        self.stores[number % len(self.stores)].append(*batch)

    @rule(number=st.integers(0, 9))
    def seal(self, number: int) -> None:
        """One writer seals what all have made durable."""
        self.stores[number % len(self.stores)].seal()

    @precondition(lambda self: len(self.stores) > 1)
    @rule()
    def abandon(self) -> None:
        """One writer dies."""
        self.stores.pop().abandon()

    @rule(events=st.integers(2, 40), block_rows=st.integers(1, 8), clean=st.booleans())
    def compact(self, events: int, block_rows: int, clean: bool) -> None:
        """Segments become fewer and larger, and what they replace may go: no table can tell."""
        root = self.store.head().root
        goals = CompactionGoals(events=events, least_files=2, block_rows=block_rows)
        self.store.compact(goals=goals)
        if clean:
            self.store.clean(grace=dt.timedelta(0))
        if self.store.head().size and root != self.store.head().root:
            assert self.store.verify().ok, "compaction seals what is durable first"

    # the tables ------------------------------------------------------------------------------------------

    @rule(numbers=some, merge=st.sampled_from(["tiers", "tiers", "all"]), memory=MEMORY)
    def refresh(self, numbers: list[int] | None, merge: Any, memory: int) -> None:
        """All or some tables come to the head, and are whole as they are read."""
        names = self.names(numbers)
        self.store.seal()
        made = refresh(self.store, names, registry=self.registry, merge=merge, memory_bytes=memory)
        assert {one.position for one in made.values()} == {self.store.head().size}
        self.built |= set(made)
        if merge == "all":
            assert all(one.manifest.is_whole for one in made.values())
        assert_tables(self.store, open_tables(self.store, list(made), registry=self.registry))

    @rule(numbers=some, memory=MEMORY)
    def rebuild(self, numbers: list[int] | None, memory: int) -> None:
        """Tables are folded from the first event: nothing about them changes."""
        names = self.names(numbers)
        made = rebuild(self.store, names, registry=self.registry, memory_bytes=memory)
        self.built |= set(made)
        frames = self.store.scan(until=self.store.head().size).collect()
        for name, one in made.items():
            recipe = self.registry.get(name)
            table = table_from(recipe, frames.head(one.position))
            assert one.digest == content_digest(table, recipe.key), name

    @rule(
        at=st.integers(0, 10_000),
        when=st.sampled_from([When.BEFORE, When.AFTER]),
        merge=st.sampled_from(["tiers", "all"]),
        what=st.sampled_from(["refresh", "rebuild", "compact", "clean"]),
    )
    def crash(self, at: int, when: When, merge: Any, what: str) -> None:
        """A disk fails at some storage operation of what changes files: nothing wrong is ever seen."""
        plan = FaultPlan(only=frozenset({"put", "create", "delete", "polars_source"}))
        storage = FaultyStorage(open_storage(self.url), plan)
        broken = open_store(self.url, storage=storage, state_dir=self.folder / "broken")
        plan.at, plan.when, plan.number = at % 40, when, errno.ENOSPC
        done: set[str] = set()
        try:
            if what == "rebuild":
                done = set(rebuild(broken, registry=self.registry))
            elif what == "compact":
                broken.compact(goals=CompactionGoals(events=10, least_files=2, block_rows=3))
            elif what == "clean":
                broken.clean(grace=dt.timedelta(0))
            else:
                done = set(refresh(broken, registry=self.registry, merge=merge))
        except EventStoreError:
            pass
        finally:
            plan.disarm()
            broken.close()
        self.built |= done
        self.snapshots()

    # reading ---------------------------------------------------------------------------------------------

    @rule(share=st.integers(0, 100), numbers=some, memory=MEMORY)
    def as_of(self, share: int, numbers: list[int] | None, memory: int) -> None:
        """Tables as of any position are the fold of what is before it."""
        position = self.store.head().size * share // 100
        with open_tables(
            self.store, self.names(numbers), at=position, registry=self.registry, memory_bytes=memory
        ) as tables:
            assert set(tables.positions.values()) <= {position}
            assert_tables(self.store, tables, position)

    @rule(memory=MEMORY)
    def tail(self, memory: int) -> None:
        """With the tail, tables are the fold of all that was appended, whoever did."""
        before = self.store.head().size
        frame = self.store.scan(tail=True).collect()
        frame = frame.with_columns(position=pl.int_range(pl.len(), dtype=pl.Int64))
        with open_tables(self.store, fresh="tail", registry=self.registry, memory_bytes=memory) as tables:
            assert self.store.head().size == before
            for name in tables:
                recipe = self.registry.get(name)
                found = tables[name].collect().sort(recipe.key)
                assert found.equals(table_from(recipe, frame)), name

    @rule()
    def snapshots(self) -> None:
        """Of each table the newest three at most are listed, all whole; what was built can be opened."""
        for recipe in self.registry:
            listed = list_snapshots(self.store, recipe)
            for position, revision in listed:
                open_snapshot(self.store, recipe, position, revision).check()
            if recipe.name in self.built:
                assert listed
        if self.built:
            tables = open_tables(self.store, sorted(self.built), registry=self.registry)
            assert_tables(self.store, tables)

    def teardown(self) -> None:
        """In the end a refresh equals a rebuild, by digest and twice over, and nothing is left in scratch."""
        try:
            if not self.stores:
                return
            for store in self.stores[1:]:
                store.abandon()
            store = self.store
            store.recover()
            store.seal()
            assert store.verify().ok
            refresh(store, registry=self.registry)
            tables = open_tables(store, registry=self.registry)
            contents = {name: view.content() for name, view in tables.views.items()}
            assert_tables(store, tables)
            for _ in range(2):
                made = rebuild(store, registry=self.registry, memory_bytes=1)
                assert {name: (one.rows, one.digest) for name, one in made.items()} == contents
            self.snapshots()
            scratch = store.local_folder / SCRATCH
            assert not scratch.exists() or list(scratch.iterdir()) == []
            store.close()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)


class MemoryMachine(TablesMachine):
    """In memory, where nothing is local: every file is read through the storage."""

    shared = False


def _profile(examples: int, steps: int) -> settings:
    """Short at the desk; as long as the profile says in a campaign."""
    long = settings.default is not None and settings.default.max_examples > 1000
    return settings(max_examples=300 if long else examples, stateful_step_count=50 if long else steps)


TestLocal = TablesMachine.TestCase
TestLocal.settings = _profile(8, 12)
TestMemory = MemoryMachine.TestCase
TestMemory.settings = _profile(8, 12)
