"""The events of tags: what is put on and taken off, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import InvalidEventError
from eventstore.tags import canonical_value, delete_tags, record_tags

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_a_pair_given_twice_counts_once_and_order_stays() -> None:
    """Equal pairs become one tag; superseded hashes are sorted and unique; no pairs, no event."""
    event = record_tags("Job", "j", [("b", 1), ("a", 2), ("b", 1)], superseded=["2" * 40, "1" * 40, "2" * 40])
    assert event is not None
    assert [(tag.key, tag.value) for tag in event.tags] == [("b", "1"), ("a", "2")]
    assert event.superseded == ("1" * 40, "2" * 40)
    assert record_tags("Job", "j", {}) is None
    assert delete_tags(["2" * 40, "1" * 40, "2" * 40]).superseded == ("1" * 40, "2" * 40)


@given(st.text(min_size=1).filter(lambda key: key.isprintable()), json_values)
def test_any_json_value_is_stored_as_canonical_json(key: str, value: Any) -> None:
    """The stored text is sorted and without blanks, whatever the value."""
    event = record_tags("Value", "0" * 40, [(key, value)])
    assert event is not None
    assert event.tags[0].value == json.dumps(value, sort_keys=True, separators=(",", ":"))


def test_values_are_compared_by_their_canonical_text() -> None:
    """The order of an object's keys does not matter; 10, 10.0, "10" and true are four values."""
    assert canonical_value("k", {"b": 1, "a": [2]}) == canonical_value("k", {"a": [2], "b": 1})
    assert len({canonical_value("k", value) for value in (10, 10.0, "10", True)}) == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, b"x", {1, 2}, object(), {"a": -math.inf}])
def test_a_value_without_json_form_is_refused(value: Any) -> None:
    """What JSON cannot say is an error that names the key."""
    with pytest.raises(InvalidEventError) as caught:
        record_tags("Job", "j", {"k": value})
    assert (caught.value.code, caught.value.key) == ("bad_tag_value", "k")


@pytest.mark.parametrize("key", ["", 3, None, "\ud800"])
def test_a_bad_key_is_refused(key: Any) -> None:
    """A key is text that UTF-8 can encode, and not empty."""
    with pytest.raises(InvalidEventError) as caught:
        record_tags("Job", "j", [(key, 1)])
    assert caught.value.code == "bad_tag_key"


@pytest.mark.parametrize("entity_type", ["Planet", "job", "", None])
def test_an_unknown_entity_type_is_refused(entity_type: Any) -> None:
    """The entity type is one of the six, by its exact name."""
    with pytest.raises(InvalidEventError, match="Execution, Job, CallNode, Task, Value, Null") as caught:
        record_tags(entity_type, "j", {"k": 1})
    assert (caught.value.code, caught.value.entity_type) == ("unknown_entity_type", entity_type)
