"""Handles on both sides: hashes, bytes, and which states are valid after any sequence of operations."""

from __future__ import annotations

import copy
import decimal
import itertools
import pickle
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redun
import redun.handle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from redun.backends.db import RedunBackendDb
from tables_kit import frame_of

from eventstore.events import Event
from eventstore.handle import Advance, Handle, advance_handle, merge_handles, rollback_handle
from eventstore.index import HandleStates
from eventstore.pickling import dump_pickle, load_pickle
from eventstore.value import default_types
from projections.handles import HANDLES

plain = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)


class Opened(Handle):
    """Opens something, and keeps a mark of its own."""

    type_name = "demo.Opened"

    def __init__(self, name: str, path: str = "", namespace: str | None = None) -> None:
        self.path = path
        self.instance = {"path": path}


class TheirOpened(redun.handle.Handle):
    """The same, written for redun."""

    type_name = "demo.Opened"

    def __init__(self, name, path="", namespace=None):
        self.path = path
        self.instance = {"path": path}


@given(
    st.text(min_size=1, max_size=5),
    st.lists(plain, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "port"]), plain),
    st.none() | st.text(max_size=4),
    st.lists(st.text(max_size=3) | st.none(), max_size=4),
)
def test_every_state_has_the_hash_and_bytes_of_redun(
    name: str, args: list[Any], kwargs: dict[str, Any], namespace: str | None, steps: list[str | None]
) -> None:
    """However a handle is made, forked (text) and called (None): hash, type name and pickle are redun's."""
    ours = Handle(name, *args, namespace=namespace, **kwargs)
    theirs = redun.handle.Handle(name, *args, namespace=namespace, **kwargs)
    for number, key in enumerate([*steps, ""]):
        assert ours.hash == theirs.get_hash()
        assert ours.fullname == theirs.__handle__.fullname
        found = default_types.describe(ours)
        assert found.data == pickle.dumps(theirs, protocol=3)
        assert (found.value_hash, found.type_name) == (theirs.get_hash(), type(theirs).type_name)
        call_hash = f"{number:040x}"
        ours = ours.apply_call(call_hash) if key is None else ours.fork(key)
        theirs = theirs.apply_call(call_hash) if key is None else theirs.fork(key)


@pytest.mark.parametrize("namespace", [None, "", "mine"])
def test_a_module_may_say_the_namespace_of_its_handles(
    monkeypatch: pytest.MonkeyPatch, namespace: str | None
) -> None:
    """`redun_namespace` of the class's module stands in for a namespace that is not given."""
    monkeypatch.setitem(globals(), "redun_namespace", "module")
    ours, theirs = Opened("db", namespace=namespace), TheirOpened("db", namespace=namespace)
    assert ours.fullname == theirs.__handle__.fullname
    assert ours.hash == theirs.get_hash()


@pytest.mark.parametrize("step", ["fork", "apply_call"])
def test_clones_keep_the_same_attributes(step: str) -> None:
    """A subclass's own attributes and its instance go along, the same objects, without opening again."""
    for handle in (Opened("db", "a.db"), TheirOpened("db", "a.db")):
        handle.path = "changed"
        clone = getattr(handle, step)("1" * 40)
        assert (type(clone), clone.path) == (type(handle), "changed")
        assert clone.instance is handle.instance
        assert clone.get("path") == "a.db"  # answered by the instance


def test_hooks_of_a_call_are_those_of_redun() -> None:
    """A task gets a fork by key or count of uses; what it returns is the state that the call led to."""
    ours, theirs = Handle("db"), redun.handle.Handle("db")
    for call_order in (0, 3):
        call: dict[str, Any] = {"call_order": call_order, "pre_call_hash": "ab" * 20}
        ours, theirs = ours.preprocess(call), theirs.preprocess(call)
        assert (ours.hash, ours.key) == (theirs.get_hash(), theirs.__handle__.key)
    assert ours.postprocess(call).hash == theirs.postprocess(call).get_hash()


def test_special_methods_are_the_handles_own() -> None:
    """In redun a deep copy of a handle is one of its instance, where that has a way to be copied."""
    ours, theirs = Opened("db", "a"), TheirOpened("db", "a")
    ours.instance = theirs.instance = decimal.Decimal(1)
    assert copy.deepcopy(theirs) == decimal.Decimal(1)
    assert copy.deepcopy(ours).hash == ours.hash


def test_a_namespace_of_the_whole_process_is_not_read() -> None:
    """Redun takes the namespace that was set last; here a handle says its own."""
    redun.namespace("set before")
    try:
        theirs = redun.handle.Handle("db")
    finally:
        redun.namespace()
    assert theirs.__handle__.fullname == "set before.db"
    assert Handle("db").fullname == "db"


# which states are valid ----------------------------------------------------------------------------------

_runs = itertools.count()
_backends: list[RedunBackendDb] = []


def backend() -> RedunBackendDb:
    """Return redun's own backend, in memory, made once."""
    if not _backends:
        _backends.append(RedunBackendDb(db_uri="sqlite:///:memory:"))
        _backends[0].load()
    return _backends[0]


class Pair:
    """One handle on both sides."""

    def __init__(self, ours: Handle, theirs: Any) -> None:
        assert ours.hash == theirs.get_hash()
        self.ours, self.theirs = ours, theirs

    def read_back(self) -> Pair:
        """Return the same state in another process."""
        theirs = pickle.loads(pickle.dumps(self.theirs, protocol=3))
        return Pair(load_pickle(dump_pickle(self.ours)), theirs)


class Sides:
    """What happens to handles, done on both sides, and which states are valid compared after each step."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.states = HandleStates()
        self.hashes: set[str] = set()
        self._folded: pl.DataFrame | None = None
        self._cut = 0

    def advance(self, parents: list[Pair], child: Pair) -> None:
        """Parents lead to a child; without any it is only recorded."""
        made = advance_handle([one.ours for one in parents], child.ours, knows=self.states.knows)
        backend().advance_handle([one.theirs for one in parents], child.theirs)
        self._append(made)
        for one in (*parents, child):
            assert one.ours.__handle__.is_recorded is one.theirs.__handle__.is_recorded is True

    def merge(self, pairs: list[Pair]) -> None:
        """The other states lead to the first; redun's scheduler asks its backend for just that."""
        first, made = merge_handles([one.ours for one in pairs], knows=self.states.knows)
        assert first is pairs[0].ours
        backend().advance_handle([one.theirs for one in pairs[1:]], pairs[0].theirs)
        self._append(made)

    def roll_back(self, pair: Pair) -> None:
        """What follows from a state, also from one that was never recorded, becomes invalid.

        In a circle, which only merges make, redun invalidates the state itself as well; here it stays, and
        redun is told so.
        """
        before = self._is_valid_in_redun(pair.ours.hash)
        backend().rollback_handle(pair.theirs)
        if before and not self._is_valid_in_redun(pair.ours.hash):
            backend().advance_handle([], pair.read_back().theirs)
        self._append(Advance((), (rollback_handle(pair.ours),)))

    def valid(self) -> set[str]:
        """Return the states that are valid, on which both sides agree."""
        valid = {one for one in self.hashes if self.states.is_valid(one)}
        assert valid == {one for one in self.hashes if self._is_valid_in_redun(one)}
        return valid

    def _append(self, made: Advance) -> None:
        for event in made.events:
            fields: Any = event
            parents = getattr(event, "parents", None)
            self.states.apply(event.kind, vars(fields))
            self.hashes |= {fields.handle_hash, *(parents or ())}
        self.events += made.events
        made.mark_recorded()
        self.valid()

    @staticmethod
    def _is_valid_in_redun(handle_hash: str) -> bool:
        probe = redun.handle.Handle("probe")
        probe.__handle__.hash = handle_hash
        return bool(backend().is_valid_handle(probe))

    def refresh(self) -> None:
        """Fold into the table what is new, from the state that it kept."""
        if self.events[self._cut :]:
            frame = frame_of(self.events[self._cut :], first=self._cut)
            self._folded, self._cut = HANDLES.fold(self._folded, frame), len(self.events)

    def check_table(self) -> None:
        """The table agrees with both, state for state."""
        self.refresh()
        if self._folded is None:
            return
        rows = {row["handle_hash"]: row for row in HANDLES.table(self._folded).iter_rows(named=True)}
        assert set(rows) == {one for one in self.hashes if self.states.knows(one)}
        for handle_hash, row in rows.items():
            theirs = backend().session.get(redun.backends.db.Handle, handle_hash)
            assert row["is_valid"] == self.states.is_valid(handle_hash) == theirs.is_valid
            assert (row["handle_name"], row["handle_key"], row["value_hash"]) == (
                theirs.fullname,
                theirs.key,
                theirs.value_hash,
            )


@pytest.mark.parametrize(
    ("story", "valid"),
    [
        ("a>b b>c", "abc"),
        ("a>b b>c !b", "ab"),
        ("a>b b>c !a", "a"),
        ("!a a", "a"),
        ("a>b !a a>b", "ab"),
        ("a>b b>c !a b", "ab"),
        ("a>b b>c c>d !a d !b", "ad"),  # nothing follows below the invalid b
        ("a>b b>c !a c !a", "ac"),  # nothing is reached through the invalid b
        ("a>n n>c !a", "ac"),  # n has another full name, and is not gone through
        ("a>n n>c !n", "an"),
        ("a>b b>a !a", "a"),
        ("a>a !a", "a"),
        ("a>c b>c c>d !b", "ab"),
    ],
)
def test_which_states_are_valid_after_a_story(story: str, valid: str) -> None:
    """Steps in order: ``a>b`` a leads to b, ``!a`` rolls back to a, ``a`` records it. All sides agree."""
    name, sides = f"db{next(_runs)}", Sides()
    pairs = {letter: Pair(Handle(name, letter), redun.handle.Handle(name, letter)) for letter in "abcd"}
    spaced = {"namespace": "n"}
    pairs["n"] = Pair(Handle(name, **spaced), redun.handle.Handle(name, **spaced))
    for step in story.split():
        if step[0] == "!":
            sides.roll_back(pairs[step[1]])
        else:
            *parents, child = step.split(">")
            sides.advance([pairs[parent] for parent in parents], pairs[child])
    assert sides.valid() == {pairs[letter].ours.hash for letter in valid}
    sides.check_table()


places = st.integers(0, 5)
"""Which of the few states there are, so that operations meet."""


class HandleMachine(RuleBasedStateMachine):
    """Any sequence of operations; each comparison is of all states that there are."""

    @initialize()
    def begin(self) -> None:
        """Take a name that no other run has: a first state, a fork of a fork, what a call made of it.

        And a state of another namespace, which has the same name and so can be merged with them.
        """
        name, self.sides = f"db{next(_runs)}", Sides()
        first = Pair(Handle(name), redun.handle.Handle(name))
        fork = Pair(first.ours.fork("a"), first.theirs.fork("a"))
        again = Pair(fork.ours.fork("b"), fork.theirs.fork("b"))
        called = Pair(again.ours.apply_call("c" * 40), again.theirs.apply_call("c" * 40))
        spaced = {"namespace": "n"}
        other = Pair(Handle(name, **spaced), redun.handle.Handle(name, **spaced))
        self.pairs = [first, fork, again, called, other]

    def _at(self, place: int) -> Pair:
        return self.pairs[place % len(self.pairs)]

    @precondition(lambda self: len(self.pairs) < 6)
    @rule(place=places, key=st.none() | st.just("k"))
    def make(self, place: int, key: str | None) -> None:
        """A fork, or what a call made of a state; not recorded yet."""
        ours, theirs = self._at(place).ours, self._at(place).theirs
        if key is None:
            self.pairs.append(Pair(ours.apply_call("d" * 40), theirs.apply_call("d" * 40)))
        else:
            self.pairs.append(Pair(ours.fork(key), theirs.fork(key)))

    @rule(place=places)
    def read_back(self, place: int) -> None:
        """The same state in another process: it does not know any more what it was forked from."""
        place %= len(self.pairs)
        self.pairs[place] = self.pairs[place].read_back()

    @rule(before=places, after=places, other=st.none() | places)
    def advance(self, before: int, after: int, other: int | None) -> None:
        """One or two parents, also one twice, lead to a child, also to themselves."""
        parents = [self._at(place) for place in (before, other) if place is not None]
        self.sides.advance(parents, self._at(after))

    @rule(place=places)
    def record(self, place: int) -> None:
        """Without parents a state is only recorded, which makes it valid."""
        self.sides.advance([], self._at(place))

    @rule(chosen=st.lists(places, min_size=1, max_size=3))
    def merge(self, chosen: list[int]) -> None:
        """Up to three states become one, also one with itself."""
        self.sides.merge([self._at(place) for place in chosen])

    @rule(place=places)
    def roll_back(self, place: int) -> None:
        """What follows from a state becomes invalid."""
        self.sides.roll_back(self._at(place))

    @rule()
    def refresh(self) -> None:
        """The table is brought up to here."""
        self.sides.refresh()

    def teardown(self) -> None:
        """The table has been kept by folding at any places between."""
        if hasattr(self, "sides"):
            self.sides.check_table()


TestHandleMachine = HandleMachine.TestCase
TestHandleMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


def test_every_public_name_of_redun_has_its_line() -> None:
    """docs/redun.md names each public class, function, method and constant of the module."""
    page = (Path(__file__).parents[2] / "docs" / "redun.md").read_text()
    module = redun.handle
    names = [name for name, member in vars(module).items() if _is_own(module, name, member)]
    for kind in (module.Handle, module.Handle.HandleInfo):
        names += [name for name, member in vars(kind).items() if name[0] != "_" and callable(member)]
    assert len(names) >= 10
    assert [name for name in names if f"`{name}`" not in page] == []


def _is_own(module: Any, name: str, member: Any) -> bool:
    return not name.startswith("_") and (
        name.isupper() or getattr(member, "__module__", "") == module.__name__
    )
