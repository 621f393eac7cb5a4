"""Live answers about handles and tags: own events, those of others, how fresh, and how much is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_kit import open_store

from eventstore import EventStore, StorageError
from eventstore.handle import Handle, advance_handle, handles_answered_by, rollback_handle
from eventstore.log.handles import HandleStates, LiveHandles
from eventstore.log.tags import LiveTags
from eventstore.tags import delete_tags, record_tags


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty store."""
    with open_store(tmp_path / "store") as store:
        yield store


class Counted:
    """A store that counts how many events are read of it, and fails when told to."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.events = 0
        self.fails = False

    def head(self) -> Any:
        """The head of the store."""
        return self.store.head()

    def read(self, **asked: Any) -> Iterator[Any]:
        """The events of the store, until it fails behind the first batch."""
        for batch in self.store.read(**asked):
            self.events += batch.num_rows
            yield batch
            if self.fails:
                raise StorageError("the network is down", transient=True)


def steps() -> tuple[Handle, Handle, Handle]:
    """Three states, each made of the one before."""
    first = Handle("db")
    second = first.apply_call("1" * 40)
    return first, second, second.apply_call("2" * 40)


def test_handles_are_answered_while_nothing_is_sealed(store: EventStore) -> None:
    """Own events count at once, and again after the seal; what nobody recorded is not valid."""
    live = LiveHandles(store)
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
    live, tags = LiveHandles(store), LiveTags(store)
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


def test_answers_may_be_as_old_as_allowed(store: EventStore) -> None:
    """Within `fresh_seconds` only what was observed is known, and no event is read."""
    counted = Counted(store)
    live = LiveHandles(counted, fresh_seconds=3600)
    tags = LiveTags(counted, fresh_seconds=3600)
    first, second, third = steps()
    assert not live.knows_handle(first.hash)
    assert tags.current_tags("j") == []
    event = record_tags("Job", "j", {"k": 1})
    assert event is not None
    made = advance_handle([first], second).events
    store.append(*made, event)
    assert not live.knows_handle(first.hash)
    assert tags.current_tags("j") == []
    live.observe(*made, event)
    tags.observe(*made, event)
    assert live.is_valid_handle(second.hash)
    assert not live.knows_handle(third.hash)
    assert [tag.content for tag in tags.current_tags("j")] == [1]
    assert counted.events == 0
    live.observe(rollback_handle(first))
    tags.observe(delete_tags([event.tags[0].tag_hash]))
    assert not live.is_valid_handle(second.hash)
    assert tags.is_superseded(event.tags[0].tag_hash)
    assert tags.current_tags("j") == []


def test_the_sealed_log_is_read_once(store: EventStore) -> None:
    """A question reads what is new; an entity that is new here takes one more pass, and those known none."""
    counted = Counted(store)
    live, tags = LiveHandles(counted), LiveTags(counted)
    first, second, third = steps()
    store.append(*advance_handle([first], second).events)
    for entity_id in "xyz":
        store.append(record_tags("Job", entity_id, {"k": entity_id}))  # type: ignore[arg-type]
    store.seal()
    assert live.is_valid_handle(first.hash)
    assert counted.events == 3
    assert tags.current_tags_of(["x", "y"]).keys() == {"x", "y"}
    assert counted.events == 6
    for _ in range(3):
        assert live.is_valid_handle(second.hash)
        assert [tag.content for tag in tags.current_tags("y")] == ["y"]
    assert counted.events == 6
    store.append(*advance_handle([second], third, knows=live.knows_handle).events)
    store.seal()
    assert live.is_valid_handle(third.hash)
    assert counted.events == 8
    assert [tag.content for tag in tags.current_tags("z")] == ["z"]
    assert counted.events == 11


def test_a_read_that_failed_is_done_again(store: EventStore) -> None:
    """After an error in the middle the next question has the whole answer, and nothing twice."""
    counted = Counted(store)
    live, tags = LiveHandles(counted), LiveTags(counted)
    first, second, third = steps()
    events = [record_tags("Job", "j", {"k": number}) for number in range(2)]
    store.append(*advance_handle([first], second).events, events[0])  # type: ignore[arg-type]
    store.seal()
    store.append(*advance_handle([second], third).events, events[1])  # type: ignore[arg-type]
    assert tags.current_tags("other") == []
    for _ in range(2):
        counted.fails = True
        with pytest.raises(StorageError):
            live.is_valid_handle(third.hash)
        with pytest.raises(StorageError):
            tags.current_tags("j")
    counted.fails = False
    assert live.is_valid_handle(third.hash)
    assert [tag.content for tag in tags.current_tags("j")] == [0, 1]


def test_states_on_top_leave_those_below_as_they_are() -> None:
    """The tail is folded on a layer of its own, which sees what is below it and changes nothing there."""
    below = HandleStates()
    below.apply("handle.advanced", "b", "db", ["a"])
    top = HandleStates(below)
    top.apply("handle.rolled_back", "a", "db", None)
    top.apply("handle.advanced", "c", "db", ["b"])
    top.apply("handle.rolled_back", "a", "db", None)
    assert [top.is_valid(one) for one in "abc"] == [True, False, False]
    assert [below.is_valid(one) for one in "abc"] == [True, True, False]
    assert not below.knows("c")


def test_an_erased_event_says_nothing() -> None:
    """Without a hash there is no state, and no rollback."""
    states = HandleStates()
    states.apply("handle.advanced", "b", "db", ["a"])
    for kind in ("handle.rolled_back", "handle.recorded"):
        states.apply(kind, None, "db", None)
    assert states.is_valid("b")


def test_a_tag_is_what_was_recorded_first(store: EventStore) -> None:
    """One pair under two entity types is one tag of the first type; deletions are tags of no entity."""
    tags = LiveTags(store)
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
