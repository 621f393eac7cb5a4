"""Tags have redun's hashes; text typed as key=value means what redun takes it for."""

from __future__ import annotations

import math

import pytest
import redun.tags
from hypothesis import given
from hypothesis import strategies as st
from redun.backends.base import TagEntity
from redun.backends.db import RedunBackendDb

from eventstore.errors import InvalidEventError
from eventstore.events import EntityType
from eventstore.tags import delete_tags, parse_tag, parse_tag_value, record_tags

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def backend():
    """The backend of redun itself, in memory."""
    backend = RedunBackendDb(db_uri="sqlite:///:memory:")
    backend.load()
    return backend


def test_hashes_are_those_that_redun_records(backend):
    """New tags, tags that supersede and a deletion have the hashes that redun's backend gives them."""
    pairs = [("team", "x"), ("n", 10), ("n", 10.0), ("deep", {"b": [1, None], "a": "\u00e9"}), ("none", None)]
    theirs = backend.record_tags(TagEntity.Execution, "run-1", pairs)
    ours = record_tags(EntityType.EXECUTION, "run-1", pairs)
    assert [tag.tag_hash for tag in ours.tags] == [tag_hash for tag_hash, *_ in theirs]
    old = [tag_hash for tag_hash, _, key, _ in theirs if key == "n"]
    (edited,) = backend.record_tags(TagEntity.Execution, "run-1", [("n", 11)], update=True)
    assert record_tags("Execution", "run-1", {"n": 11}, superseded=old).tags[0].tag_hash == edited[0]
    deleted = backend.delete_tags("run-1", [("n", 11)])
    assert delete_tags([edited[0]]).tag_hash == deleted[0][0]


def test_a_pair_given_twice_counts_once_and_order_stays():
    """Equal pairs become one tag; superseded hashes are sorted and unique; no pairs, no event."""
    event = record_tags("Job", "j", [("b", 1), ("a", 2), ("b", 1)], superseded=["2" * 40, "1" * 40, "2" * 40])
    assert [(tag.key, tag.value) for tag in event.tags] == [("b", "1"), ("a", "2")]
    assert event.superseded == ("1" * 40, "2" * 40)
    assert record_tags("Job", "j", {}) is None


@given(st.text(min_size=1).filter(lambda key: key.isprintable()), json_values)
def test_any_json_value_is_stored_as_canonical_json(key, value):
    """The stored text is sorted and without blanks, whatever the value."""
    import json

    (tag,) = record_tags("Value", "0" * 40, [(key, value)]).tags
    assert tag.value == json.dumps(value, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("value", [math.nan, math.inf, b"x", {1, 2}, object(), {"a": -math.inf}])
def test_a_value_without_json_form_is_refused(value):
    """What JSON cannot say is an error that names the key."""
    with pytest.raises(InvalidEventError) as caught:
        record_tags("Job", "j", {"k": value})
    assert (caught.value.code, caught.value.key) == ("bad_tag_value", "k")


@pytest.mark.parametrize("key", ["", 3, None, "\ud800"])
def test_a_bad_key_is_refused(key):
    """A key is text that UTF-8 can encode, and not empty."""
    with pytest.raises(InvalidEventError) as caught:
        record_tags("Job", "j", [(key, 1)])
    assert caught.value.code == "bad_tag_key"


def test_an_unknown_entity_type_is_refused():
    """The entity type is one of the six, checked at the event's door."""
    with pytest.raises(InvalidEventError):
        record_tags("Planet", "j", {"k": 1})


@given(
    st.text(max_size=8)
    | st.from_regex(r"[-+]?[0-9_.]{1,6}(e[0-9]{1,3})?")
    | st.sampled_from(["true", "null"])
)
def test_typed_values_mean_what_redun_takes_them_for(text):
    """A typed value is read as redun reads it, but for numbers that JSON does not have."""
    try:
        expected = redun.tags.parse_tag_value(text)
    except ValueError:
        with pytest.raises(InvalidEventError):
            parse_tag_value(text)
        return
    if isinstance(expected, float) and not math.isfinite(expected):
        expected = text
    found = parse_tag_value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_typed_pairs():
    """The key ends at the first equals sign; a pair without key or sign is refused."""
    assert parse_tag("a=b=c") == ("a", "b=c")
    assert parse_tag("a=") == ("a", None)
    assert parse_tag('a="3"') == ("a", "3")
    assert parse_tag("a=[1, 2]") == ("a", [1, 2])
    assert parse_tag("a=nan") == ("a", "nan")
    for text in ("a", "=b", ""):
        with pytest.raises(InvalidEventError) as caught:
            parse_tag(text)
        assert caught.value.code == "bad_tag"
    with pytest.raises(InvalidEventError) as caught:
        parse_tag("a=[1")
    assert caught.value.code == "bad_tag_value"
