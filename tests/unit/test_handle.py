"""Handles have redun's hashes when made, after a call and after a fork."""

from __future__ import annotations

import pickle

import pytest
import redun.handle
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import InvalidEventError
from eventstore.handle import Handle
from eventstore.pickling import load_pickle

plain = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)


@given(
    st.text(min_size=1, max_size=5),
    st.lists(plain, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "port"]), plain),
    st.text(max_size=4),
    st.lists(st.text(max_size=3) | st.none(), max_size=4),
)
def test_every_state_has_the_hash_of_redun(name, args, kwargs, namespace, steps):
    """However a handle is made, forked (text) and called (None), its hash is redun's."""
    ours = Handle(name, *args, namespace=namespace, **kwargs)
    theirs = redun.handle.Handle(name, *args, namespace=namespace, **kwargs)
    assert ours.hash == theirs.get_hash()
    for number, key in enumerate(steps):
        call_hash = f"{number:040x}"
        ours = ours.apply_call(call_hash) if key is None else ours.fork(key)
        theirs = theirs.apply_call(call_hash) if key is None else theirs.fork(key)
        assert ours.hash == theirs.get_hash()
        assert ours.fullname == theirs.__handle__.fullname


def test_states_are_immutable_and_remember_their_parent():
    """A fork leaves its handle as it was, and knows where it came from until it is stored."""
    first = Handle("db")
    before = first.hash
    fork = first.fork("a")
    child = fork.apply_call("0" * 40)
    assert first.hash == before
    assert fork.parent is first
    assert fork.forked
    assert child.parent is fork
    assert not child.forked
    assert child.key == ""
    assert load_pickle(child.serialize()).parent is None


def test_a_stored_handle_comes_back_in_its_state():
    """A handle reads back with its hash, from our bytes and from redun's."""
    ours = Handle("db", 1, namespace="n", user="me").fork("k")
    theirs = redun.handle.Handle("db", 1, namespace="n", user="me").fork("k")
    for data in (ours.serialize(), pickle.dumps(theirs, protocol=3)):
        back = load_pickle(data)
        assert type(back) is Handle
        assert (back.hash, back.args, back.kwargs, back.key) == (ours.hash, (1,), {"user": "me"}, "k")
        assert back.fork("z").hash == ours.fork("z").hash
        assert back.is_valid()


class Database(Handle):
    """A handle with a class of its own."""


def test_a_subclass_keeps_its_class_and_a_renamed_one_is_not_valid(monkeypatch):
    """Forks of a subclass are of the subclass; a class renamed since makes a stored handle invalid."""
    handle = Database("db").fork("a")
    assert type(handle) is Database
    assert Database.type_name == f"{__name__}.Database"
    data = handle.serialize()
    assert load_pickle(data).is_valid()
    monkeypatch.setattr(Database, "type_name", "elsewhere.Database")
    assert not load_pickle(data).is_valid()


@pytest.mark.parametrize("name", ["", 3])
def test_a_handle_has_a_name(name):
    """A name is text and not empty."""
    with pytest.raises(InvalidEventError) as caught:
        Handle(name)
    assert caught.value.code == "bad_handle_name"
