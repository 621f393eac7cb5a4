"""JSON: one text for one value, and errors that are ours."""

from __future__ import annotations

import base64
import datetime as dt
import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.codec.payload import dump_fields, dump_json, dump_model, load_json
from eventstore.errors import IntegrityError, InvalidEventError
from eventstore.events import Event, Tag

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(values, st.booleans())
def test_what_is_dumped_loads_back(value: Any, indent: bool) -> None:
    """decode(encode(x)) = x, and any JSON parser reads the same."""
    raw = dump_json(value, indent=indent)
    assert load_json(raw, where="here") == value
    assert json.loads(raw) == value


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 9)), st.randoms())
def test_the_text_is_blind_to_key_order(mapping: dict[str, int], random: Any) -> None:
    """The same entries in another order give the same bytes."""
    items = list(mapping.items())
    random.shuffle(items)
    assert dump_json(dict(items)) == dump_json(mapping)


def test_plain_things_have_plain_forms() -> None:
    """Times are ISO 8601, enums their value, keys text, and the text is UTF-8 without blanks."""

    class Colour(StrEnum):
        RED = "red"

    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    assert dump_json({"t": moment, "c": Colour.RED, 1: "é"}) == (
        '{"1":"é","c":"red","t":"2026-01-02T03:04:05.000006+00:00"}'.encode()
    )
    assert dump_json({"b": 1, "a": []}, indent=True) == b'{\n  "a": [],\n  "b": 1\n}'


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", object(), b"x", 1j])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    """It is bad input, at any depth, with our code."""
    with pytest.raises(InvalidEventError) as caught:
        dump_json({"field": [value]})
    assert caught.value.code == "not_json"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), (1.0, float("-inf")), {"a": [float("nan")]}])
def test_a_number_that_is_not_finite_is_refused(value: Any) -> None:
    """It would come back as null; a null, and a text that says so, are fine."""
    with pytest.raises(InvalidEventError) as caught:
        dump_json({"field": [value, None]})
    assert caught.value.code == "not_json"
    assert load_json(dump_json({"field": [None, "null", 1.5]}), where="here") == {
        "field": [None, "null", 1.5]
    }


@pytest.mark.parametrize("value", [2**64, object(), "\ud800"])
def test_fields_that_json_cannot_hold_are_refused(value: Any) -> None:
    """Bad input for a journal too, and not an error of the library below."""
    with pytest.raises(InvalidEventError) as caught:
        dump_fields({"field": [value]})
    assert caught.value.code == "not_json"


@pytest.mark.parametrize("raw", [b"", b"{", b"nope", b'{"a":1}x', b"\xff", b"NaN", "[1,"])
def test_text_that_does_not_parse_names_its_place(raw: bytes | str) -> None:
    """Broken JSON is an integrity error that says where it came from and what to run."""
    with pytest.raises(IntegrityError, match="`eventstore verify`") as caught:
        load_json(raw, where="seals/7.json")
    assert (caught.value.code, caught.value.path) == ("bad_json", "seals/7.json")
    assert "seals/7.json" in str(caught.value)


class _Anything(Event):
    what: Any
    more: Any = None


@pytest.mark.parametrize(
    "value",
    [float("nan"), [float("inf")], {"a": (1, float("nan"))}, {float("nan")}, object(), 2**64, "\ud800"],
)
def test_a_field_of_any_type_is_refused_where_json_cannot_hold_it(value: Any) -> None:
    """Whether the model's own serializer refuses it, makes a null of it, or passes it on."""
    with pytest.raises(InvalidEventError) as caught:
        dump_model(_Anything(what=value), ["what", "more"])
    assert caught.value.code == "not_json"
    assert dump_model(_Anything(what=[None, {"a": 1.5}]), ["what"]) == b'{"what":[null,{"a":1.5}]}'


def test_fields_are_dumped_as_they_stand_in_memory() -> None:
    """For journals: bytes as base64, models as objects, tuples as lists."""
    tag = Tag(tag_hash="a" * 40, key="k", value="1")
    raw = dump_fields({"data": b"\x00\xff", "tags": (tag,)})
    assert json.loads(raw) == {
        "data": base64.b64encode(b"\x00\xff").decode(),
        "tags": [{"tag_hash": "a" * 40, "key": "k", "value": "1"}],
    }
