"""Tags as people type and read them."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.errors import InvalidEventError
from eventstore.tags import (
    ANY_VALUE,
    format_tag,
    format_tag_value,
    parse_tag,
    parse_tag_or_key,
    parse_tag_value,
)


def test_typed_pairs() -> None:
    """The key ends at the first equals sign; values are JSON where they look like it, else text."""
    assert parse_tag("a=b=c") == ("a", "b=c")
    assert parse_tag("a=") == ("a", None)
    assert parse_tag('a="3"') == ("a", "3")
    assert parse_tag("a=[1, 2]") == ("a", [1, 2])
    assert parse_tag("a=nan") == ("a", "nan")
    assert parse_tag_or_key("a=1") == ("a", 1)
    assert parse_tag_or_key("a") == ("a", ANY_VALUE)
    assert repr(ANY_VALUE) == "ANY_VALUE"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a", "bad_tag"),
        ("=b", "bad_tag"),
        ("", "bad_tag"),
        ("a=[1", "bad_tag_value"),
        ('a={"b": NaN}', "bad_tag_value"),
        (f"a={'[' * 100_000}", "bad_tag_value"),
    ],
)
def test_what_is_no_pair_is_refused(text: str, code: str) -> None:
    """Without key, sign, or with JSON that is broken, cannot be stored, or is nested without end."""
    with pytest.raises(InvalidEventError) as caught:
        parse_tag(text)
    assert caught.value.code == code


def test_a_key_alone_has_a_key() -> None:
    """Nothing at all is not a key."""
    with pytest.raises(InvalidEventError) as caught:
        parse_tag_or_key("")
    assert caught.value.code == "bad_tag"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("word", "word"),
        ("two words", '"two words"'),
        ("a,b", '"a,b"'),
        ("3", '"3"'),
        ("true", '"true"'),
        ("", '""'),
        ("[x", '"[x"'),
        ("line\n", '"line\\n"'),
        (3, "3"),
        (None, "null"),
        ({"b": [1], "a": 2.0}, '{"a": 2.0, "b": [1]}'),
    ],
)
def test_values_are_shown_as_they_are_typed(value: Any, text: str) -> None:
    """What is shown reads back as the same value, and stands in one line."""
    assert format_tag_value(value) == text
    assert parse_tag_value(text) == value


def test_long_tags_are_cut() -> None:
    """Key and value are each cut to a length, dots included; without a length nothing is."""
    assert format_tag("k" * 10, "v" * 10, max_length=6) == "kkk...=vvv..."
    assert format_tag("key", "v" * 100) == f"key={'v' * 100}"
