"""Tags as people type and read them: ``key=value``."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from eventstore.errors import InvalidEventError

__all__ = [
    "ANY_VALUE",
    "format_tag",
    "format_tag_value",
    "parse_tag",
    "parse_tag_or_key",
    "parse_tag_value",
]


class _AnyValue:
    def __repr__(self) -> str:
        return "ANY_VALUE"


ANY_VALUE: Final = _AnyValue()
"""In place of a value: whichever it is."""


def parse_tag(text: str) -> tuple[str, Any]:
    """Read ``key=value``; the value is read by `parse_tag_value`.

    Raises
    ------
    InvalidEventError
        There is no ``=``, or nothing before it (``bad_tag``), or broken JSON after it (``bad_tag_value``).
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise _bad_tag("key=value", text)
    return key, parse_tag_value(value)


def parse_tag_or_key(text: str) -> tuple[str, Any]:
    """Read ``key=value``, or a key alone, whose value is then `ANY_VALUE`; raises as `parse_tag`."""
    if "=" in text:
        return parse_tag(text)
    if not text:
        raise _bad_tag("a key, or key=value", text)
    return text, ANY_VALUE


_WORDS = {"": None, "null": None, "true": True, "false": False}


def parse_tag_value(text: str) -> Any:
    """Read a tag's value: nothing is None; JSON lists, objects and strings; numbers; true, false, null; text.

    Numbers are what Python's ``int`` and ``float`` take, as in redun; but ``nan`` and ``inf`` have no JSON
    form and stay text.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in '[{"':
        try:
            return json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise InvalidEventError(
                f"a value that begins with {text[0]} is JSON, found {text!r} ({error}); put a JSON string in "
                "double quotes to have it as text",
                code="bad_tag_value",
                text=text,
            ) from None
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if value - value == 0:  # neither nan nor an infinity
            return value
    return text


_QUOTED = re.compile(r"[ ,\x00-\x1f\x7f]")


def format_tag_value(value: Any) -> str:
    """Return the text that `parse_tag_value` reads as `value`: JSON, or plain text where that says the same.

    Text with a blank, a comma or a control character is quoted, so that several tags fit into one line.
    """
    if isinstance(value, str) and not _QUOTED.search(value) and _is_plain(value):
        return value
    return json.dumps(value, sort_keys=True)


def format_tag(key: str, value: Any, *, max_length: int | None = None) -> str:
    """Return ``key=value``, key and value cut to `max_length` characters each, with ``...`` at the end."""
    return f"{_cut(key, max_length)}={_cut(format_tag_value(value), max_length)}"


def _is_plain(text: str) -> bool:
    try:
        return bool(parse_tag_value(text) == text)
    except InvalidEventError:
        return False


def _cut(text: str, max_length: int | None) -> str:
    if max_length is None or len(text) <= max_length:
        return text
    return text[: max(0, max_length - 3)] + "..."


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _bad_tag(expected: str, text: str) -> InvalidEventError:
    return InvalidEventError(
        f"{expected} was expected, found {text!r}; put a key before the =", code="bad_tag", text=text
    )
