"""Types of redun, as the backend asks for them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import workflow_kit as kit
from hypothesis import given
from hypothesis import strategies as st
from redun import File
from redun.expression import (
    Expression,
    SchedulerExpression,
    SimpleExpression,
    TaskExpression,
    ValueExpression,
)
from redun.value import ProxyValue, Value, get_type_registry

from eventstore.errors import NotFoundError
from eventstore.redun import EventStoreBackend
from eventstore.redun.types import RedunTypes

VALUES = [None, True, 3, "text", [1, {"a": 2}], {3, 1}, File("some/file"), kit.leaf, ValueError("no")]


class Odd(Value):
    """Its hash is a text of the user's own."""

    type_name = "test_types.Odd"

    def get_hash(self, data: bytes | None = None) -> str:
        """Return always the same."""
        return "constant_hash"

    def __getstate__(self) -> dict[str, str]:
        return {}

    def __setstate__(self, state: dict[str, str]) -> None:
        pass


@pytest.fixture
def types() -> RedunTypes:
    """Return redun's types without a value store."""
    return RedunTypes(max_value_size=1_000_000)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_as_the_registry_has_it(types: RedunTypes, value: object) -> None:
    """Hash, type name, media type and bytes are those of redun's registry, and the bytes are the value's."""
    registry = get_type_registry()
    found = types.describe(value)
    assert found.value_hash == registry.get_hash(value)
    assert found.type_name == registry.get_type_name(type(value))
    assert found.format == registry.get_serialization_format(value)
    assert found.data == registry.serialize(value)
    assert found.file_path == (value.path if isinstance(value, File) else None)
    again = types.describe(types.load(found.type_name, found.data, found.format))
    assert again.value_hash == found.value_hash


def test_given_bytes(types: RedunTypes) -> None:
    """Bytes that are given are stored and hashed as they are."""
    data = pickle.dumps("text", 4)
    found = types.describe("text", data=data)
    assert found.data == data
    assert found.value_hash not in {types.describe("text").value_hash, ""}


def test_tasks(types: RedunTypes) -> None:
    """A task is known by name, namespace, source and version; other values are none."""
    described = types.task_of(kit.leaf)
    assert described is not None
    assert described[:2] == (kit.leaf.hash, "leaf")
    assert described.full_name == "kit.leaf"
    assert "def leaf" in (described.source or "")
    assert types.task_of("leaf") is None


def test_subvalues(types: RedunTypes) -> None:
    """What is inside a container comes flattened."""
    inside = types.iter_subvalues([File("a"), {"k": (File("b"), 1)}])
    assert sorted(each.path for each in inside) == ["a", "b"]


def test_unknown_type(types: RedunTypes) -> None:
    """Bytes of an unknown type are unpickled; if they need a module that is gone, that is said."""
    assert types.load("gone.Class", pickle.dumps(5), "application/python-pickle") == 5
    with pytest.raises(NotFoundError) as caught:
        types.load("gone.Class", b"cgone_module\nClass\n.", "application/python-pickle")
    assert caught.value.code == "type_gone"


def test_odd_hash() -> None:
    """A class whose hash is no hash is recorded under one made of it, the same each time."""
    backend = EventStoreBackend()
    backend.load()
    value_hash = backend.record_value(Odd())
    assert len(value_hash) == 40
    assert backend.record_value(Odd()) == value_hash
    value, is_there = backend.get_value(value_hash)
    assert (type(value), is_there) == (Odd, True)


_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.sets(st.integers(), max_size=3),
    st.just(1j),
    st.builds(File, st.text("abc/", min_size=1)),
    st.just(kit.leaf),
)
_names = st.text("abc", max_size=3)
_options = st.none() | st.dictionaries(_names, st.integers() | _names, max_size=2)
_exports = st.none() | st.sets(_names, max_size=2)


def _expressions(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(values, max_size=3)
    given_ = {"args": several.map(tuple), "kwargs": st.dictionaries(_names, values, max_size=3)}
    return st.one_of(
        several,
        st.dictionaries(_names, values, max_size=2),
        st.builds(SimpleExpression, st.sampled_from(["add", "getitem"]), several.map(tuple)),
        st.builds(SchedulerExpression, st.just("redun.cond"), **given_),
        st.builds(ValueExpression, several),
        st.builds(
            TaskExpression,
            st.sampled_from(["bench.one", "bench.täsk"]),
            **given_,
            task_options=_options,
            export_options=_exports,
        ),
    )


@given(st.recursive(_leaves, _expressions, max_leaves=12), _options, _exports)
def test_expressions_have_the_hash_that_redun_gives(
    value: Any, options: dict[str, Any] | None, exports: set[str] | None
) -> None:
    """Whatever is inside; and redun finds the hash made, where it would make it."""
    given_ = ("bench.outer", (value, 1), {"key": value, "b": "text"}, options, exports)
    expected = _afresh(TaskExpression(*given_))
    expression = TaskExpression(*given_)
    assert _afresh(expression, RedunTypes(max_value_size=1 << 30)) == expected
    assert expression._hash == expected == expression.get_hash()


def test_expressions_ask_who_speaks_for_a_value(types: RedunTypes) -> None:
    """Also for numbers and text a user may have registered a class, which hashes as it likes."""

    def hashed() -> tuple[str, str]:
        ours, other = (TaskExpression("bench.outer", (1.5,), {}) for _ in range(2))
        return types.describe(ours).value_hash, other.get_hash()

    before, expected = hashed()
    assert before == expected

    class Rounded(ProxyValue):  # known to redun from here on
        type = float
        type_name = "test_types.Rounded"

        def get_hash(self, data: bytes | None = None) -> str:
            return "0" * 40

    registry = get_type_registry()
    try:
        after, expected = hashed()
    finally:
        registry._raw2proxy_type.pop(float)
        registry._type_name2value_type.pop(Rounded.type_name)
    assert after == expected != before
    assert hashed() == (before, before)


def _afresh(expression: TaskExpression[Any], types: RedunTypes | None = None) -> str:
    """Return the hash, by us or by redun, without what was remembered in the parts."""
    left: list[Any] = [expression]
    while left:
        part = left.pop()
        if isinstance(part, Expression):
            part._hash = None
            left += [part.__dict__.get(name) for name in ("args", "kwargs", "value")]
        elif isinstance(part, list | tuple):
            left += part
        elif isinstance(part, dict):
            left += part.values()
    return expression.get_hash() if types is None else types.describe(expression).value_hash
