"""Live answers about handles and tags: own events, those of others, how fresh, and how much is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_kit import open_store

from eventstore import EventStore
from eventstore.handle import Handle, advance_handle, handles_answered_by, rollback_handle
from eventstore.index import HandleStates
from eventstore.tags import delete_tags, record_tags


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store."""
    with open_store(tmp_path / "store") as store:
        yield store


def steps() -> tuple[Handle, Handle, Handle]:
    """Three states, each made of the one before."""
    first = Handle("db")
    second = first.apply_call("1" * 40)
    return first, second, second.apply_call("2" * 40)


def test_handles_are_answered_while_nothing_is_sealed(store: EventStore) -> None:
    """Own events count at once, and again after the seal; what nobody recorded is not valid."""
    live = store.lookup
    first, second, third = steps()
    assert not live.is_valid_handle(first.hash)
    store.append(*advance_handle([first], second).events)
    store.append(*advance_handle([second], third, knows=live.knows_handle).events)
    for settle in (store.flush, store.seal, store.seal):
        assert [one.is_valid(live) for one in (first, second, third)] == [True, True, True]
        settle()
    store.append(rollback_handle(second))
    with handles_answered_by(live):
        assert [one.is_valid() for one in (first, second, third)] == [True, True, False]
    store.append(*advance_handle([second], third, knows=live.knows_handle).events)
    assert third.is_valid(live)


def test_what_others_append_is_seen(store: EventStore, tmp_path: Path) -> None:
    """A rollback and a tag by another writer on this machine count as soon as they are appended."""
    live = tags = store.lookup
    first, second, _ = steps()
    event = record_tags("Job", "j", {"k": 1})
    assert event is not None
    store.append(*advance_handle([first], second).events, event)
    assert live.is_valid_handle(second.hash)
    assert [tag.content for tag in tags.current_tags("j")] == [1]
    with open_store(tmp_path / "store") as other:
        other.append(rollback_handle(first), delete_tags([event.tags[0].tag_hash]))
        assert not live.is_valid_handle(second.hash)
        assert tags.current_tags("j") == []


def test_states_on_top_leave_those_below_as_they_are() -> None:
    """The tail is folded on a layer of its own, which sees what is below it and changes nothing there."""
    below = HandleStates()
    below.apply("handle.advanced", {"handle_hash": "b", "handle_name": "db", "parents": ["a"]})
    top = below.layer()
    top.apply("handle.rolled_back", {"handle_hash": "a", "handle_name": "db", "parents": None})
    top.apply("handle.advanced", {"handle_hash": "c", "handle_name": "db", "parents": ["b"]})
    top.apply("handle.rolled_back", {"handle_hash": "a", "handle_name": "db", "parents": None})
    assert [top.is_valid(one) for one in "abc"] == [True, False, False]
    assert [below.is_valid(one) for one in "abc"] == [True, True, False]
    assert not below.knows("c")


def test_an_erased_event_says_nothing() -> None:
    """Without a hash there is no state, and no rollback."""
    states = HandleStates()
    states.apply("handle.advanced", {"handle_hash": "b", "handle_name": "db", "parents": ["a"]})
    for kind in ("handle.rolled_back", "handle.recorded"):
        states.apply(kind, {"handle_hash": None, "handle_name": "db"})
    assert states.is_valid("b")


def test_a_tag_is_what_was_recorded_first(store: EventStore) -> None:
    """One pair under two entity types is one tag of the first type; deletions are tags of no entity."""
    tags = store.lookup
    for entity_type in ("Value", "Job"):
        event = record_tags(entity_type, "e", {"k": {"b": 1, "a": 2}})
        assert event is not None
        store.append(event)
        store.seal()
    (tag,) = tags.current_tags("e")
    assert (tag.entity_type, tag.key, tag.value) == ("Value", "k", '{"a":2,"b":1}')
    gone = delete_tags([tag.tag_hash])
    store.append(gone)
    assert tags.current_tags_of(["e", ""]) == {"e": [], "": [(gone.tag_hash, "Null", "", "", "null")]}
