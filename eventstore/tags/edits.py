"""Edits of tags that are current: what they supersede is looked up, and the events say so.

A tag is current if no tag supersedes it. Editing never removes one: it states new ones in place of those
that stand, or a deletion, so the history of a key stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from eventstore.errors import InvalidEventError
from eventstore.events import EntityType, TagsDeleted, TagsRecorded
from eventstore.tags.recording import (
    Pairs,
    canonical_value,
    checked_key,
    delete_tags,
    entity_kind,
    iter_pairs,
    record_tags,
)
from eventstore.tags.text import ANY_VALUE

__all__ = ["CurrentTag", "TagAnswers", "TagEditor"]


class CurrentTag(NamedTuple):
    """A tag that no other supersedes."""

    tag_hash: str
    entity_type: str
    entity_id: str
    key: str
    value: str
    """Canonical JSON text."""

    @property
    def content(self) -> Any:
        """The value as Python has it."""
        return json.loads(self.value)


class TagAnswers(Protocol):
    """Whoever knows the events of a store well enough to say which tags are current."""

    def current_tags(self, entity_id: str) -> Sequence[CurrentTag]:
        """Return the current tags of an entity, sorted by key, value and hash."""

    def is_superseded(self, tag_hash: str) -> bool:
        """Whether some tag supersedes the one with this hash, which itself need not be recorded."""


class TagEditor:
    """Makes the events of edits; append what one edit gives before asking for the next.

    Parameters
    ----------
    answers
        Who knows which tags are current.
    """

    def __init__(self, answers: TagAnswers) -> None:
        self._answers = answers

    def record(
        self,
        entity_type: EntityType | str,
        entity_id: str,
        pairs: Pairs,
        *,
        superseded: Iterable[str] = (),
        update: bool = False,
        new: bool = False,
        reason: str | None = None,
    ) -> list[TagsRecorded]:
        """Put tags on an entity, beside those that it has, also with equal keys.

        A pair that was on it before and was superseded or deleted stays so, unless `update` or `new` is set.

        Parameters
        ----------
        superseded
            Hashes of tags that the new ones replace.
        update
            Replace also the current tags of these keys; means `new`.
        new
            Make the tags current even if they were superseded: each then supersedes its last self.

        Raises
        ------
        InvalidEventError
            As in `record_tags`.
        """
        given = list(iter_pairs(pairs))
        replaced = set(superseded)
        if update:
            replaced |= self._hashes(entity_id, keys={checked_key(key) for key, _ in given})
        event = record_tags(entity_type, entity_id, given, superseded=replaced, reason=reason)
        if event is None:
            return []
        if not (update or new):
            return [event]
        again = [tag for tag in event.tags if self._answers.is_superseded(tag.tag_hash)]
        fresh = tuple(tag for tag in event.tags if tag not in again)
        events = [event.model_copy(update={"tags": fresh})] if fresh else []
        return events + [
            self._revived(entity_type, entity_id, tag.key, json.loads(tag.value), tag.tag_hash, reason)
            for tag in again
        ]

    def update(
        self,
        entity_type: EntityType | str,
        entity_id: str,
        old_keys: Iterable[str],
        pairs: Pairs,
        *,
        reason: str | None = None,
    ) -> list[TagsRecorded]:
        """Put tags in place of all current ones with the old keys; without pairs nothing happens.

        Unlike `record` with ``update=True``, a pair that was superseded before stays so if there is nothing
        to replace.
        """
        replaced = self._hashes(entity_id, keys=_keys(old_keys))
        event = record_tags(entity_type, entity_id, pairs, superseded=replaced, reason=reason)
        return [] if event is None else [event]

    def rename(
        self,
        entity_type: EntityType | str,
        entity_id: str,
        old_key: str,
        new_key: str,
        *,
        reason: str | None = None,
    ) -> list[TagsRecorded]:
        """Put the values of the current tags with the old key under the new one, in place of them.

        Raises
        ------
        InvalidEventError
            As in `record_tags`; the new key is the old one (``same_tag_key``).
        """
        kind = entity_kind(entity_type)
        if checked_key(old_key) == checked_key(new_key):
            raise InvalidEventError(
                f"another key than {old_key!r} was expected, found the same; give the key to rename to",
                code="same_tag_key",
                key=old_key,
            )
        pairs = [
            (new_key, tag.content) for tag in self._answers.current_tags(entity_id) if tag.key == old_key
        ]
        return self.update(kind, entity_id, [old_key], pairs, reason=reason)

    def delete(
        self, entity_id: str, pairs: Pairs = (), *, keys: Iterable[str] = (), reason: str | None = None
    ) -> TagsDeleted | None:
        """Take off the current tags that are one of `pairs` or have one of `keys`; None if there are none.

        The value `ANY_VALUE` in a pair fits every value.

        Raises
        ------
        InvalidEventError
            Neither pairs nor keys are given (``no_tags_named``); a key or value is bad, as in `record_tags`.
        """
        asked = list(iter_pairs(pairs))
        whole = _keys(keys) | {checked_key(key) for key, value in asked if value is ANY_VALUE}
        exact = {
            (checked_key(key), canonical_value(key, value)) for key, value in asked if value is not ANY_VALUE
        }
        if not whole and not exact:
            raise InvalidEventError(
                f"tags to take off {entity_id} were expected, found neither pairs nor keys; name them",
                code="no_tags_named",
                entity_id=entity_id,
            )
        hashes = self._hashes(entity_id, keys=whole, pairs=exact)
        return delete_tags(hashes, reason=reason) if hashes else None

    def _hashes(
        self,
        entity_id: str,
        *,
        keys: set[str],
        pairs: set[tuple[str, str]] | frozenset[tuple[str, str]] = frozenset(),
    ) -> set[str]:
        return {
            tag.tag_hash
            for tag in self._answers.current_tags(entity_id)
            if tag.key in keys or (tag.key, tag.value) in pairs
        }

    def _revived(
        self,
        entity_type: EntityType | str,
        entity_id: str,
        key: str,
        value: Any,
        superseded: str,
        reason: str | None,
    ) -> TagsRecorded:
        """Return the tag over its last self: down its own history to the first that nothing supersedes."""
        while True:
            event = record_tags(
                entity_type, entity_id, [(key, value)], superseded=[superseded], reason=reason
            )
            assert event is not None  # noqa: S101 - there is a pair
            superseded = event.tags[0].tag_hash
            if not self._answers.is_superseded(superseded):
                return event


def _keys(keys: Iterable[str]) -> set[str]:
    if isinstance(keys, str):
        raise InvalidEventError(
            f"keys of tags were expected, found the text {keys!r}; write [{keys!r}]",
            code="bad_tag_key",
            key=keys,
        )
    return {checked_key(key) for key in keys}
