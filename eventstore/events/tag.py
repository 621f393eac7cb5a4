"""Tags: key-value pairs on entities, edited by superseding and never by change."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from eventstore.events.envelope import Event, Hash, Hashes, Name, Record, Text, parse_json_text
from eventstore.hashing import canonical_json

__all__ = ["EntityType", "Tag", "TagsDeleted", "TagsRecorded"]


class EntityType(StrEnum):
    """What a tag stands on."""

    EXECUTION = "Execution"
    JOB = "Job"
    CALL_NODE = "CallNode"
    TASK = "Task"
    VALUE = "Value"
    NULL = "Null"


def _canonical(text: str) -> str:
    try:
        canonical = canonical_json(parse_json_text(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"canonical JSON text ({error})") from None
    if canonical != text:
        raise ValueError("canonical JSON text (keys sorted, no blanks, ASCII): use canonical_json")
    return text


class Tag(Record):
    """One key-value pair; equal keys may stand side by side."""

    tag_hash: Hash
    """The tag's hash (docs/format.md, "Entity ids")."""
    key: Annotated[Name, Field(min_length=1)]
    """The key."""
    value: Annotated[Text, AfterValidator(_canonical)]
    """The value as canonical JSON text."""


class TagsRecorded(Event):
    """Tags were put on an entity; those they supersede are no longer current."""

    kind: ClassVar[str] = "tags.recorded"

    entity_type: Annotated[EntityType, Field(strict=False)]
    """What is tagged."""
    entity_id: Name
    """Its id or hash."""
    tags: Annotated[tuple[Tag, ...], Field(strict=False, min_length=1)]
    """The new tags."""
    superseded: Hashes = ()
    """Tags that each of the new ones replaces, sorted."""


class TagsDeleted(Event):
    """Tags were taken off; the deletion is itself a tag without entity, key and value."""

    kind: ClassVar[str] = "tags.deleted"

    tag_hash: Hash
    """The delete tag's hash."""
    superseded: Hashes = ()
    """The tags that it takes off, sorted."""
