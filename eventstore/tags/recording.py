"""The two events of tags, made of pairs and of the hashes of the tags that they replace."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from eventstore.errors import InvalidEventError
from eventstore.events import EntityType, Tag, TagsDeleted, TagsRecorded
from eventstore.hashing import hash_tag

__all__ = [
    "Pairs",
    "canonical_value",
    "checked_key",
    "delete_tags",
    "entity_kind",
    "iter_pairs",
    "record_tags",
]

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
        A key is no text, or empty (``bad_tag_key``), a value has no JSON form (``bad_tag_value``), or nothing
        of this type is tagged (``unknown_entity_type``).
    """
    kind = entity_kind(entity_type)
    parents = sorted(set(superseded))
    tags: dict[str, Tag] = {}
    for key, value in iter_pairs(pairs):
        text = canonical_value(key, value)
        tag_hash = hash_tag(entity_id, checked_key(key), value, parents)
        tags[tag_hash] = Tag(tag_hash=tag_hash, key=key, value=text)
    if not tags:
        return None
    return TagsRecorded(
        entity_type=kind,
        entity_id=entity_id,
        tags=tuple(tags.values()),
        superseded=tuple(parents),
        reason=reason,
    )


def delete_tags(superseded: Iterable[str], *, reason: str | None = None) -> TagsDeleted:
    """Return the event that takes the tags of these hashes off."""
    parents = sorted(set(superseded))
    return TagsDeleted(tag_hash=hash_tag("", "", None, parents), superseded=tuple(parents), reason=reason)


def iter_pairs(pairs: Pairs) -> Iterator[tuple[str, Any]]:
    """Yield key and value of each tag."""
    return iter(pairs.items() if isinstance(pairs, Mapping) else pairs)


def entity_kind(entity_type: EntityType | str) -> EntityType:
    """Return the entity type of this name, or raise (``unknown_entity_type``)."""
    try:
        return EntityType(entity_type)
    except ValueError:
        raise InvalidEventError(
            f"a type of tagged entity was expected ({', '.join(EntityType)}), found {entity_type!r}; "
            "correct the name",
            code="unknown_entity_type",
            entity_type=entity_type,
        ) from None


def checked_key(key: Any) -> str:
    """Return `key`, or raise (``bad_tag_key``) unless it is text that UTF-8 can encode, and not empty."""
    if not isinstance(key, str) or not key or not _has_utf8(key):
        raise InvalidEventError(
            f"a tag's key was expected, a text that is not empty, found {key!r}; correct the key",
            code="bad_tag_key",
            key=key,
        )
    return key


def canonical_value(key: str, value: Any) -> str:
    """Return the text by which values of tags are compared, or raise (``bad_tag_value``) an error with `key`.

    10 and 10.0 differ; objects whose keys stand in another order do not.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEventError(
            f"a tag's value is what JSON can say, found {type(value).__name__} for {key!r}: {error}",
            code="bad_tag_value",
            key=key,
        ) from None


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
