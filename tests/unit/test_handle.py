"""Handles: immutable states, proxied instances, validity by whoever knows, and the events of what happens."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import redun.handle

from eventstore.errors import InvalidEventError
from eventstore.events import HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack
from eventstore.handle import (
    Handle,
    advance_handle,
    handles_answered_by,
    merge_handles,
    rollback_handle,
)
from eventstore.pickling import dump_pickle, load_pickle
from eventstore.value import default_types


class Answers:
    """Says that the states with these hashes are valid."""

    def __init__(self, *valid: str) -> None:
        self.valid = valid

    def is_valid_handle(self, handle_hash: str) -> bool:
        """Whether it is one of them."""
        return handle_hash in self.valid


class Connection:
    """Something that is opened."""

    name = "the connection's"

    def query(self) -> str:
        """Return what was asked."""
        return "rows"


class Database(Handle):
    """A handle that opens something, and counts how often."""

    opened: list[str] = []

    def __init__(self, name: str, path: str, namespace: str | None = None) -> None:
        self.path = path
        self.instance = Connection()
        self.opened.append(path)


def test_states_are_immutable_and_remember_their_parent() -> None:
    """A fork leaves its handle as it was, and knows where it came from until it is stored."""
    first = Handle("db")
    before = first.hash
    fork = first.fork("a")
    child = fork.apply_call("0" * 40)
    assert first.hash == before
    assert (fork.parent, fork.forked, fork.__handle__.fork_parent) == (first, True, first)
    assert (child.parent, child.forked, child.__handle__.fork_parent) == (fork, False, None)
    assert child.key == ""
    assert load_pickle(child.serialize()).parent is None
    for name in ("fullname", "hash", "key", "parent", "forked"):
        with pytest.raises(AttributeError):
            setattr(first, name, "x")


def test_a_stored_handle_comes_back_in_its_state() -> None:
    """A handle reads back with its hash, from our bytes and from redun's, and counts as recorded."""
    ours = Handle("db", 1, namespace="n", user="me").fork("k")
    theirs = redun.handle.Handle("db", 1, namespace="n", user="me").fork("k")
    assert not ours.__handle__.is_recorded
    for data in (ours.serialize(), pickle.dumps(theirs, protocol=3)):
        back = load_pickle(data)
        assert type(back) is Handle
        assert (back.hash, back.args, back.kwargs, back.key) == (ours.hash, (1,), {"user": "me"}, "k")
        assert back.fork("z").hash == ours.fork("z").hash
        assert back.__handle__.is_recorded


def test_a_subclass_opens_what_it_stands_for_when_it_is_made_and_read_back() -> None:
    """The class's own constructor runs for a first state and one that is read back, not for forks."""
    Database.opened.clear()
    handle = Database("db", "a.db")
    fork = handle.fork("a")
    assert (type(fork), fork.path, fork.instance) == (Database, "a.db", handle.instance)
    assert Database.opened == ["a.db"]
    back = load_pickle(dump_pickle(fork))
    assert (back.hash, back.path) == (fork.hash, "a.db")
    assert Database.opened == ["a.db", "a.db"]


def test_the_instance_answers_for_what_the_handle_lacks() -> None:
    """Methods and attributes come from the instance; the handle's own names and special methods do not."""
    handle = Database("db", "a.db")
    assert handle.query() == "rows"
    assert handle.name == "the connection's"
    assert Handle("db").name == "db"
    assert (handle.args, handle.kwargs, handle.namespace, handle.call_hash) == (("a.db",), {}, "", "")
    with pytest.raises(AttributeError, match="Connection"):
        _ = handle.missing
    with pytest.raises(AttributeError, match="'Handle' object has no attribute 'missing'"):
        _ = Handle("db").missing
    handle.instance = "text, which has special methods of its own"
    assert handle.upper().startswith("TEXT")
    assert copy.copy(handle).hash == handle.hash
    assert load_pickle(dump_pickle(handle)).hash == handle.hash


def test_attributes_of_a_subclass_do_not_change_who_it_is() -> None:
    """A class may keep a name, arguments or a parent of its own: the identity is kept apart."""

    class Own(Handle):
        def __init__(self, name: str) -> None:
            self.name, self.args, self.kwargs = "other", "other", "other"

    handle = Own("db")
    assert (handle.name, handle.fullname, handle.__handle__.args) == ("other", "db", ())
    assert handle.fork("a").hash == Handle("db").fork("a").hash


def test_a_handle_is_valid_if_whoever_knows_says_so() -> None:
    """The answer is asked of the argument, else of whom the block names, else it is no."""
    handle = Handle("db")
    knows, other = Answers(handle.hash), Answers()
    assert handle.is_valid(knows)
    assert not handle.is_valid(other)
    assert not handle.is_valid()
    with handles_answered_by(knows):
        assert handle.is_valid()
        assert default_types.is_valid({"a": [handle]})
        assert not default_types.is_valid([handle, handle.fork("a")])
        assert not handle.is_valid(other)
        with handles_answered_by(other):
            assert not handle.is_valid()
        assert handle.is_valid()
    assert not handle.is_valid()


def test_a_renamed_class_makes_a_stored_handle_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state is valid only while its class has the name that it was stored with."""
    assert Database.type_name == f"{__name__}.Database"
    handle = Database("db", "a.db")
    answers, data = Answers(handle.hash), handle.serialize()
    assert load_pickle(data).is_valid(answers)
    monkeypatch.setattr(Database, "type_name", "elsewhere.Database")
    assert not load_pickle(data).is_valid(answers)


@pytest.mark.parametrize("arguments", [(), (None,), ("",), (3,)])
def test_a_handle_has_a_name(arguments: tuple[Any, ...]) -> None:
    """A name is text and not empty."""
    with pytest.raises(InvalidEventError) as caught:
        Handle(*arguments)
    assert caught.value.code == "bad_handle_name"


def test_a_subclass_that_forgets_the_name_is_told_when_it_is_used() -> None:
    """A class that lets itself be made without a name has no identity, and every use of it says so."""

    class Nameless(Handle):
        def __init__(self) -> None:
            pass

    with pytest.raises(InvalidEventError) as caught:
        _ = Nameless().hash
    assert caught.value.code == "bad_handle_name"


# events --------------------------------------------------------------------------------------------------


def test_an_advance_describes_the_states_and_says_what_led_where() -> None:
    """New states are recorded with key and value, parents before; then one event says the step."""
    first = Handle("db", namespace="n")
    child = first.apply_call("1" * 40)
    made = advance_handle([first], child)
    assert made.events == (
        HandleRecorded(handle_hash=child.hash, handle_name="n.db", value_hash=child.hash),
        HandleRecorded(handle_hash=first.hash, handle_name="n.db", value_hash=first.hash),
        HandleAdvanced(handle_hash=child.hash, handle_name="n.db", parents=(first.hash,)),
    )
    assert set(made.handles) == {first, child}
    assert not first.__handle__.is_recorded
    made.mark_recorded()
    assert first.__handle__.is_recorded
    assert child.__handle__.is_recorded


def test_what_the_history_knows_is_not_described_again() -> None:
    """Only the step is said of known states; a known state alone is recorded, which makes it valid."""
    first = Handle("db")
    fork = first.fork("k")
    (event,) = advance_handle([first], fork, knows=lambda _: True).events
    assert event == HandleForked(
        handle_hash=fork.hash, handle_name="db", handle_key="k", parents=(first.hash,)
    )
    (alone,) = advance_handle([], fork, knows=lambda _: True).events
    assert alone == HandleRecorded(
        handle_hash=fork.hash, handle_name="db", handle_key="k", value_hash=fork.hash
    )


def test_forks_that_were_never_recorded_are_recorded_with_what_comes_of_them() -> None:
    """Up to the first state that was not forked; without edges between them; not for a recorded parent."""
    first = Handle("db")
    called = first.apply_call("1" * 40)
    forks = [called.fork("a")]
    forks.append(forks[0].fork("b"))
    child = forks[1].apply_call("2" * 40)
    made = advance_handle([forks[1]], child, knows=lambda _: True)
    assert [event.handle_hash for event in made.events if isinstance(event, HandleRecorded)] == [
        forks[0].hash,
        called.hash,
    ]
    assert [type(event) for event in made.events].count(HandleAdvanced) == 1
    made.mark_recorded()
    assert len(advance_handle([forks[1]], child, knows=lambda _: True).events) == 1


def test_merging_leads_the_others_to_the_first() -> None:
    """The first state is what becomes of all; one alone is just recorded."""
    first = Handle("db")
    branches = [first.fork(key).apply_call(key * 40) for key in "ab"]
    merged, made = merge_handles(branches, knows=lambda _: True)
    assert merged is branches[0]
    assert made.events == (
        HandleAdvanced(handle_hash=merged.hash, handle_name="db", parents=(branches[1].hash,)),
    )
    assert [type(event) for event in merge_handles([first])[1].events] == [HandleRecorded]


def test_only_states_of_one_handle_are_merged() -> None:
    """None at all, and states of different names, are refused."""
    with pytest.raises(InvalidEventError) as caught:
        merge_handles([])
    assert caught.value.code == "no_handles"
    with pytest.raises(InvalidEventError) as caught:
        merge_handles([Handle("db"), Handle("fs")])
    assert (caught.value.code, caught.value.names) == ("different_handles", ("db", "fs"))


def test_a_rollback_names_the_state_that_stays() -> None:
    """The event has hash, full name and the reason."""
    handle = Handle("db", namespace="n")
    assert rollback_handle(handle, reason="bad rows") == HandleRolledBack(
        handle_hash=handle.hash, handle_name="n.db", reason="bad rows"
    )
