"""The exception tree: its shape, its codes, and errors that travel between processes."""

from __future__ import annotations

import copy
import errno
import pickle

import pytest

from eventstore import errors
from eventstore.errors import EventStoreError, StorageError

TREE = {
    "ConflictError": ("conflict", ()),
    "FormatError": ("format", ()),
    "IntegrityError": ("integrity", ()),
    "InvalidEventError": ("invalid_event", (ValueError,)),
    "NotFoundError": ("not_found", (LookupError,)),
    "ProjectionError": ("projection", ()),
    "StateError": ("state", ()),
    "StorageError": ("storage", (OSError,)),
}
LEAVES = {
    "FileMissingError": ("file_not_found", (errors.NotFoundError, FileNotFoundError), errno.ENOENT),
    "FilePermissionError": ("no_permission", (StorageError, PermissionError), errno.EACCES),
}
CLASSES = [getattr(errors, name) for name in (*TREE, *LEAVES)]


def test_the_tree_has_exactly_the_documented_leaves() -> None:
    """Every class of the room is in the documented tree, and nothing else is."""
    assert set(errors.__all__) == {*TREE, *LEAVES, "EventStoreError"}


@pytest.mark.parametrize("name", TREE)
def test_each_error_stands_where_a_handler_expects_it(name: str) -> None:
    """Each error is directly below the root, beside the built-in error that says the same."""
    assert getattr(errors, name).__bases__ == (EventStoreError, *TREE[name][1])


@pytest.mark.parametrize("name", TREE)
def test_each_error_has_its_own_default_code(name: str) -> None:
    """Without a code of its own an error carries its class's code."""
    assert getattr(errors, name)("x").code == TREE[name][0]


@pytest.mark.parametrize("cls", CLASSES)
def test_code_and_facts_are_attributes(cls: type[EventStoreError]) -> None:
    """The code that was given wins, and facts read like attributes."""
    error = cls("what, where, next", code="special", path="a/b", position=7)
    assert (error.code, error.path, error.position, str(error)) == ("special", "a/b", 7, "what, where, next")


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_errors_travel_whole(cls: type[EventStoreError], again: object) -> None:
    """Class, message, code and facts survive pickling and copying."""
    error = cls("what", code="special", path="a/b")
    back = again(error)  # type: ignore[operator]
    assert type(back) is cls
    assert (str(back), back.code, back.facts) == (str(error), error.code, error.facts)


def test_an_absent_fact_is_an_attribute_error_that_lists_what_there_is() -> None:
    """Asking for a fact that is not there names those that are."""
    with pytest.raises(AttributeError, match=r"no fact 'position'; it has \['path'\]"):
        _ = EventStoreError("what", path="a").position


@pytest.mark.parametrize("transient", [True, False])
def test_a_storage_error_always_says_whether_retrying_helps(transient: bool) -> None:
    """`transient` is there, also after pickling, and is False unless it was said."""
    assert pickle.loads(pickle.dumps(StorageError("x", transient=transient))).transient is transient
    assert StorageError("x").transient is False


@pytest.mark.parametrize("name", LEAVES)
def test_errors_of_files_are_the_builtin_ones_too(name: str) -> None:
    """Whoever handles Python's own error for a file handles ours: class, number and file name."""
    code, bases, number = LEAVES[name]
    error = pickle.loads(pickle.dumps(getattr(errors, name)("what", path="a/b")))
    assert type(error).__bases__ == bases
    assert (error.code, error.errno, error.filename, error.path) == (code, number, "a/b", "a/b")
