"""Tags from key-value pairs: the events that put them on and take them off; and ``key=value`` text.

A tag's hash is redun's. Which tags are current is not known here: a caller who edits says which hashes
the new tags supersede.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from eventstore.errors import InvalidEventError
from eventstore.events import EntityType, Tag, TagsDeleted, TagsRecorded
from eventstore.hashing import hash_tag

__all__ = ["Pairs", "delete_tags", "parse_tag", "parse_tag_value", "record_tags"]

Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]
"""Tags as people give them: a mapping, or pairs where a key may stand more than once."""


def record_tags(
    entity_type: EntityType | str,
    entity_id: str,
    pairs: Pairs,
    *,
    superseded: Iterable[str] = (),
    reason: str | None = None,
) -> TagsRecorded | None:
    """Return the event that puts `pairs` on an entity, or None if there are none.

    Parameters
    ----------
    superseded
        Hashes of tags that the new ones replace; they enter the hash of each.

    Raises
    ------
    InvalidEventError
        A key is no text (``bad_tag_key``) or a value has no JSON form (``bad_tag_value``).
    """
    parents = sorted(set(superseded))
    tags: dict[str, Tag] = {}
    for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if not isinstance(key, str) or not key or not _has_utf8(key):
            raise InvalidEventError(f"a tag's key is text, found {key!r}", code="bad_tag_key", key=key)
        text = _json(key, value)
        tag_hash = hash_tag(entity_id, key, value, parents)
        tags[tag_hash] = Tag(tag_hash=tag_hash, key=key, value=text)
    if not tags:
        return None
    return TagsRecorded(
        entity_type=entity_type,  # type: ignore[arg-type]  # checked at the event's door
        entity_id=entity_id,
        tags=tuple(tags.values()),
        superseded=tuple(parents),
        reason=reason,
    )


def delete_tags(superseded: Iterable[str], *, reason: str | None = None) -> TagsDeleted:
    """Return the event that takes the tags of these hashes off."""
    parents = sorted(set(superseded))
    return TagsDeleted(tag_hash=hash_tag("", "", None, parents), superseded=tuple(parents), reason=reason)


def parse_tag(text: str) -> tuple[str, Any]:
    """Read ``key=value``; the value is read by `parse_tag_value`.

    Raises
    ------
    InvalidEventError
        There is no ``=``, or nothing before it (``bad_tag``), or broken JSON after it (``bad_tag_value``).
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidEventError(f"key=value was expected, found {text!r}", code="bad_tag", text=text)
    return key, parse_tag_value(value)


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
            return json.loads(text)
        except ValueError as error:
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


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(key: str, value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEventError(
            f"a tag's value is what JSON can say, found {type(value).__name__} for {key!r}: {error}",
            code="bad_tag_value",
            key=key,
        ) from None
