"""Digests: redun's ids to the bit (redun itself is the oracle), and the log's own as RFC 6962 has them."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redun import hashing as redun_hashing
from redun.bcoding import bencode as redun_bencode
from redun.utils import json_dumps as redun_json
from redun.value import get_type_registry

from eventstore import hashing

words = st.text(max_size=12)
hashes = st.text("0123456789abcdef", min_size=40, max_size=40)
atoms = st.integers() | words | st.binary(max_size=12)
structures = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(words, inner, max_size=4)
    ),
    max_leaves=12,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(structures)
def test_bencode_is_redun_s(value: Any) -> None:
    """Any nest of integers, text, bytes, lists and mappings has the bytes that redun gives it."""
    assert hashing.bencode(value) == redun_bencode(value)


@given(structures)
def test_structural_hashes_are_redun_s(value: Any) -> None:
    """The structural hash of any structure is redun's."""
    assert hashing.hash_struct(value) == redun_hashing.hash_struct(value)


@pytest.mark.parametrize("bad", [True, False, None, 1.5, float("nan"), object(), 1j])
@pytest.mark.parametrize(
    "nest",
    [lambda bad: bad, lambda bad: [1, bad], lambda bad: {"key": bad}, lambda bad: ({"key": [bad]},)],
    ids=["bare", "in a list", "in a mapping", "deep"],
)
def test_bencode_refuses_what_redun_refuses(bad: Any, nest: Any) -> None:
    """bool, float, None and other objects are a TypeError at any depth, in both."""
    with pytest.raises(TypeError):
        redun_bencode(nest(bad))
    with pytest.raises(TypeError, match=type(bad).__name__):
        hashing.bencode(nest(bad))


@pytest.mark.parametrize("value", [range(3), {5: None}.keys(), frozenset({"x"}), (n for n in (1, 2))])
def test_any_iterable_is_a_list(value: Any) -> None:
    """Iterables of other types are encoded as lists, as redun does."""
    items = list(value)
    expected = redun_bencode(items)
    assert hashing.bencode(items) == expected
    assert hashing.bencode(iter(items)) == expected


@given(st.dictionaries(words, st.integers(), min_size=2, max_size=6), st.randoms())
def test_hashes_are_blind_to_key_order(mapping: dict[str, int], random: Any) -> None:
    """The same entries in another order have the same hash."""
    items = list(mapping.items())
    random.shuffle(items)
    assert hashing.hash_struct(dict(items)) == hashing.hash_struct(mapping)


@given(words, st.binary(max_size=200))
def test_tagged_bytes_are_redun_s(tag: str, data: bytes) -> None:
    """Tagged-bytes hashes, which values have, are redun's."""
    assert hashing.hash_tagged_bytes(tag, data) == redun_hashing.hash_tag_bytes(tag, data)


@given(st.binary(max_size=5000), st.integers(1, 700))
def test_bytes_and_streams_have_redun_s_digest(data: bytes, chunk_bytes: int) -> None:
    """The raw digest is redun's, and a stream has that of its content, whatever the chunks."""
    expected = redun_hashing.hash_bytes(data)
    assert hashing.hash_bytes(data) == expected
    assert hashing.hash_stream(io.BytesIO(data), chunk_bytes=chunk_bytes) == expected
    assert redun_hashing.hash_stream(io.BytesIO(data)) == expected


@given(st.lists(st.integers() | words, max_size=3), st.dictionaries(words, st.integers(), max_size=3), hashes)
def test_arguments_and_evaluations_are_redun_s(
    args: list[Any], kwargs: dict[str, Any], task_hash: str
) -> None:
    """Over the hashes that redun gives the arguments, arguments hash and eval hash are redun's."""
    registry = get_type_registry()
    eval_hash, args_hash = redun_hashing.hash_eval(registry, task_hash, args, kwargs)
    ours = hashing.hash_arguments(
        [registry.get_hash(arg) for arg in args],
        {key: registry.get_hash(arg) for key, arg in kwargs.items()},
    )
    assert ours == args_hash == redun_hashing.hash_arguments(registry, args, kwargs)
    assert hashing.hash_eval(task_hash, ours) == eval_hash


@given(hashes, hashes, hashes, st.lists(hashes, max_size=4))
def test_call_nodes_are_redun_s(task: str, args: str, result: str, children: list[str]) -> None:
    """The call hash is redun's, whatever the order of the children; repeats count."""
    expected = redun_hashing.hash_call_node(task, args, result, children)
    assert hashing.hash_call(task, args, result, children) == expected
    assert hashing.hash_call(task, args, result, reversed(children)) == expected
    if children:
        assert hashing.hash_call(task, args, result, [*children, children[0]]) != expected


@given(words, words, json_values, st.lists(hashes, max_size=3))
def test_tags_are_redun_s(entity_id: str, key: str, value: Any, parents: list[str]) -> None:
    """Canonical JSON and tag hashes are redun's, which sorts the parents before it hashes."""
    assert hashing.canonical_json(value) == redun_json(value)
    expected = redun_hashing.hash_tag(entity_id, key, value, sorted(parents))
    assert hashing.hash_tag(entity_id, key, value, parents) == expected


@pytest.mark.parametrize("place", [{"position": 0}, {"position": 12}, {"key": "x"}, {"key": "position"}])
def test_argument_records_are_redun_s(place: dict[str, Any]) -> None:
    """An argument record is hashed with the text of its place and ``None`` for the other, as redun does."""
    call_hash, value_hash = "a" * 40, "b" * 40
    expected = redun_hashing.hash_struct(
        ["Argument", call_hash, str(place.get("position")), str(place.get("key")), value_hash]
    )
    assert hashing.hash_argument(call_hash, value_hash=value_hash, **place) == expected


def test_the_log_s_hashes_are_separated_by_domain() -> None:
    """Leaf, node and body begin with 0, 1 and 2, so that none can pass for another (RFC 6962, 2.1)."""
    left, right = b"\x11" * 32, b"\x22" * 32
    assert hashing.hash_leaf(left + right) == hashlib.sha256(b"\x00" + left + right).digest()
    assert hashing.hash_node(left, right) == hashlib.sha256(b"\x01" + left + right).digest()
    assert hashing.body_digest(left[:16], right) == hashlib.sha256(b"\x02" + left[:16] + right).digest()


def test_a_body_digest_depends_on_its_salt() -> None:
    """Equal bodies under two salts have two digests, so a digest does not give the body away."""
    assert hashing.body_digest(b"a" * hashing.SALT_BYTES, b"x") != hashing.body_digest(
        b"b" * hashing.SALT_BYTES, b"x"
    )
