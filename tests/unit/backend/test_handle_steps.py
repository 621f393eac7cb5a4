"""Handles: advances make valid, rollbacks make what follows invalid, and fork chains are recorded."""

from __future__ import annotations

import itertools

import pytest
from backend_kit import kinds, open_backend, state_of

from eventstore.backend import HandleState, LogBackend
from eventstore.handle import Handle


@pytest.fixture
def first(backend: LogBackend) -> Handle:
    """A handle that is recorded."""
    handle = Handle("db", "file.db", namespace="lab")
    advance(backend, [], handle)
    return handle


def advance(backend: LogBackend, parents: list[Handle], child: Handle) -> None:
    """Record an advance, and note on the handles that they are recorded, as an engine does."""
    for state in backend.advance_handle([state_of(parent) for parent in parents], state_of(child)):
        state.value.__handle__.is_recorded = True


def chain(backend: LogBackend, first: Handle, *names: str) -> list[Handle]:
    """States that follow one from the other by calls."""
    states = [first]
    for name in names:
        child = states[-1].apply_call(name * 40)
        advance(backend, [states[-1]], child)
        states.append(child)
    return states[1:]


def valid(backend: LogBackend, *handles: Handle) -> list[bool]:
    """Which of them are valid."""
    return [backend.is_valid_handle(state_of(handle)) for handle in handles]


def test_unrecorded_handle_is_not_valid(backend: LogBackend) -> None:
    """A handle that nobody recorded is not valid, by itself or by its hash."""
    handle = Handle("db")
    assert backend.is_valid_handle(state_of(handle)) is False
    assert backend.is_valid_handle(handle.hash) is False


def test_advance_without_parents_records_the_child(backend: LogBackend, first: Handle) -> None:
    """A first state is recorded as a handle and as a value, and valid."""
    assert valid(backend, first) == [True]
    assert kinds(backend) == ["value.recorded", "handle.recorded"]
    value, is_read = backend.get_value(first.hash)
    assert is_read
    assert value.hash == first.hash
    facts = backend.store.lookup.handle(first.hash)
    assert facts is not None
    assert (facts.name, facts.key, facts.value_hash) == ("lab.db", "", first.hash)


def test_advance_records_parents_and_child(backend: LogBackend) -> None:
    """States that were not recorded are: as values and handles, in one append."""
    one, two = Handle("db", 1), Handle("db", 2)
    child = one.apply_call("a" * 40)
    made = backend.advance_handle([state_of(one), state_of(two)], state_of(child))
    assert [state.handle_hash for state in made] == [one.hash, two.hash, child.hash]
    assert valid(backend, one, two, child) == [True] * 3
    assert kinds(backend) == ["value.recorded", "handle.recorded"] * 3 + ["handle.advanced"]


def test_rollback_invalidates_what_follows(backend: LogBackend, first: Handle) -> None:
    """All states below become invalid, over any number of steps; the state itself stays."""
    states = chain(backend, first, "a", "b", "c")
    backend.rollback_handle(state_of(states[0]))
    assert valid(backend, first, *states) == [True, True, False, False]


def test_rollback_of_branches(backend: LogBackend, first: Handle) -> None:
    """Every branch below becomes invalid, and no other."""
    left, right = first.fork("left"), first.fork("right")
    advance(backend, [first], left)
    advance(backend, [first], right)
    (below,) = chain(backend, left, "a")
    backend.rollback_handle(state_of(left))
    assert valid(backend, first, left, right, below) == [True, True, True, False]
    backend.rollback_handle(state_of(first))
    assert valid(backend, first, left, right, below) == [True, False, False, False]


def test_advance_makes_all_valid_again(backend: LogBackend, first: Handle) -> None:
    """States that were rolled back are valid once a step mentions them, as parent or as child."""
    one, two, three = chain(backend, first, "a", "b", "c")
    backend.rollback_handle(state_of(first))
    assert valid(backend, one, two, three) == [False] * 3
    advance(backend, [one], two)
    assert valid(backend, one, two, three) == [True, True, False]


def test_recording_again_without_parents_makes_valid(backend: LogBackend, first: Handle) -> None:
    """A state that was rolled back is valid when it is recorded again by itself."""
    (child,) = chain(backend, first, "a")
    backend.rollback_handle(state_of(first))
    advance(backend, [], child)
    assert valid(backend, child) == [True]


def test_nothing_follows_from_an_invalid_state(backend: LogBackend, first: Handle) -> None:
    """Below a state that is invalid itself a rollback changes nothing."""
    one, two, three = chain(backend, first, "a", "b", "c")
    backend.rollback_handle(state_of(first))
    advance(backend, [], three)
    backend.rollback_handle(state_of(two))
    backend.rollback_handle(state_of(first))
    assert valid(backend, first, one, two, three) == [True, False, False, True]


def test_rollback_stays_with_the_name(backend: LogBackend) -> None:
    """Edges out of states of another name are not followed."""
    one, other = Handle("one"), Handle("other")
    advance(backend, [one], other)
    below = other.apply_call("a" * 40)
    advance(backend, [other], below)
    backend.rollback_handle(state_of(one))
    assert valid(backend, one, other, below) == [True, False, True]


def test_rollback_of_an_unknown_handle_is_nothing(backend: LogBackend) -> None:
    """Rolling back what nobody recorded records nothing."""
    backend.rollback_handle(state_of(Handle("db")))
    assert kinds(backend) == []


def test_fork_chain_is_recorded(backend: LogBackend) -> None:
    """The states that an unrecorded parent was forked from are recorded and valid, up to the first."""
    first = Handle("db", "file.db")
    forks = list(itertools.accumulate("abc", lambda handle, key: handle.fork(key), initial=first))
    child = forks[-1].fork("d")
    made = backend.advance_handle([state_of(forks[-1])], state_of(child))
    assert {state.handle_hash for state in made} == {handle.hash for handle in [*forks, child]}
    assert valid(backend, *forks, child) == [True] * 5
    assert kinds(backend).count("handle.recorded") == 5


def test_no_edges_between_ancestors_of_a_fork(backend: LogBackend) -> None:
    """Ancestors that were recorded along the way are not linked: a rollback does not travel along them."""
    first = Handle("db", "file.db")
    fork = first.fork("a").fork("b")
    advance(backend, [fork], fork.fork("c"))
    backend.rollback_handle(state_of(first))
    assert valid(backend, first, fork, fork.fork("c")) == [True, True, True]


def test_recorded_parent_is_not_traced(backend: LogBackend, first: Handle) -> None:
    """Of a parent that is recorded the fork's origins are left as they are."""
    origin = Handle("db", "other.db")
    fork = origin.fork("a")
    known = state_of(fork)._replace(is_recorded=True)
    made = backend.advance_handle([known], state_of(fork.fork("b")))
    assert origin.hash not in {state.handle_hash for state in made}
    assert valid(backend, origin) == [False]


def test_fork_is_a_fork(backend: LogBackend, first: Handle) -> None:
    """A step from a state to its fork says so, with its key."""
    fork = first.fork("left")
    advance(backend, [first], fork)
    assert kinds(backend)[-1] == "handle.forked"
    facts = backend.store.lookup.handle(fork.hash)
    assert facts is not None
    assert facts.key == "left"


def test_edges_are_added_once(backend: LogBackend, first: Handle) -> None:
    """The same parent twice is one edge."""
    child = first.apply_call("a" * 40)
    made = backend.advance_handle([state_of(first), state_of(first)], state_of(child))
    assert [state.handle_hash for state in made] == [first.hash, child.hash]


def test_merge_is_an_advance_of_the_others(backend: LogBackend, first: Handle) -> None:
    """After a merge a rollback of one of the others takes the merged state with it."""
    left, right = first.fork("left"), first.fork("right")
    advance(backend, [first], left)
    advance(backend, [first], right)
    advance(backend, [right], left)
    backend.rollback_handle(state_of(right))
    assert valid(backend, left, right) == [False, True]


def test_another_backend_sees_a_rollback_at_once(backend: LogBackend, first: Handle) -> None:
    """A rollback is recorded when the call returns, not with the next write."""
    (child,) = chain(backend, first, "a")
    other = open_backend(backend.store)
    assert valid(other, child) == [True]
    backend.rollback_handle(state_of(first))
    assert valid(other, child) == [False]


def test_states_need_no_handle_objects(backend: LogBackend) -> None:
    """What an engine calls a handle may be any value."""
    value = {"connection": "somewhere"}
    state = HandleState(backend.record_value(value), "lab.db", "", value)
    assert backend.advance_handle([], state) == [state]
    assert backend.is_valid_handle(state)
