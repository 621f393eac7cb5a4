"""Tags of a backend: recorded once, edited by superseding, and read as those that nothing supersedes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eventstore.backend.known import Recent
from eventstore.backend.recorder import Batch, Recorder
from eventstore.backend.stated import tag_record, tags_recorded
from eventstore.events import EntityType, Event, TagsDeleted, TagsRecorded
from eventstore.hashing import hash_struct
from eventstore.index.facts import TagFacts
from eventstore.tags import Pairs, TagEditor, canonical_value
from eventstore.tags.recording import checked_key, entity_kind

__all__ = ["Tagging"]

_MOST_SAID = 5_000
"""Tags that are remembered, twice as many at most: jobs say theirs twice within a moment."""


class Tagging:
    """Records tags and says which are current.

    Parameters
    ----------
    recorder
        Where events go.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._said: Recent[TagFacts] = Recent(_MOST_SAID)

    def record(
        self,
        entity_type: EntityType | str,
        entity_id: str,
        pairs: Sequence[tuple[str, Any]],
        parents: Iterable[str],
        *,
        update: bool,
        new: bool,
    ) -> list[TagFacts]:
        """Put tags on an entity; see `Backend.record_tags`."""
        if not pairs:
            return []
        batch = self._recorder.batch()
        if update or new:
            events = self._editor().record(
                entity_type, entity_id, pairs, superseded=parents, update=update, new=new
            )
            return self._append(batch, events)
        made = self.add(batch, entity_kind(entity_type), entity_id, pairs, parents)
        batch.append()
        return made

    def add(
        self,
        batch: Batch,
        entity_type: EntityType,
        entity_id: str,
        pairs: Iterable[tuple[str, Any]],
        parents: Iterable[str] = (),
    ) -> list[TagFacts]:
        """State tags that were not recorded of late; returns all of them."""
        superseded = tuple(sorted(set(parents)))
        facts: dict[str, TagFacts] = {}
        fresh = []
        for key, value in pairs:
            text = canonical_value(key, value)
            # The hash of a tag takes longer to make than all else here, and jobs say their tags twice.
            said = None if superseded else f"{entity_id}\0{checked_key(key)}\0{text}"
            tag = self._said.get(said) if said is not None else None
            if tag is None:
                tag_hash = hash_struct(["Tag", entity_id, checked_key(key), text, superseded])
                if tag_hash in facts:
                    continue
                tag = TagFacts(tag_hash, entity_type.value, entity_id, key, text, superseded)
                fresh.append(tag_record(tag_hash, key, text))
                if said is not None:
                    batch.note(self._said, said, tag)
            facts[tag.tag_hash] = tag
        if fresh:
            batch.add(tags_recorded(entity_type, entity_id, tuple(fresh), superseded))
        return list(facts.values())

    def update(
        self, entity_type: EntityType | str, entity_id: str, old_keys: Iterable[str], pairs: Pairs
    ) -> list[TagFacts]:
        """Put tags in place of those with the old keys; see `Backend.update_tags`."""
        events = self._editor().update(entity_type, entity_id, old_keys, pairs)
        return self._append(self._recorder.batch(), events)

    def delete(self, entity_id: str, pairs: Pairs, keys: Iterable[str]) -> list[TagFacts]:
        """Take tags off; see `Backend.delete_tags`."""
        event = self._editor().delete(entity_id, pairs, keys=keys)
        return self._append(self._recorder.batch(), [event] if event is not None else [])

    def current(self, entity_id: str) -> list[TagFacts]:
        """Return the current tags of an entity, sorted by key and value."""
        return self._recorder.lookup.current_tag_facts(entity_id)

    def _editor(self) -> TagEditor:
        return TagEditor(self._recorder.lookup)

    def _append(self, batch: Batch, events: Sequence[Event]) -> list[TagFacts]:
        made = [facts for event in events for facts in _facts_of(event)]
        for event in events:
            batch.add(event)
        batch.append()
        return made


def _facts_of(event: Event) -> list[TagFacts]:
    if isinstance(event, TagsDeleted):
        return [TagFacts(event.tag_hash, EntityType.NULL.value, "", "", "null", event.superseded)]
    assert isinstance(event, TagsRecorded)  # noqa: S101 - there is no other kind
    kind, entity_id, parents = event.entity_type.value, event.entity_id, event.superseded
    return [TagFacts(tag.tag_hash, kind, entity_id, tag.key, tag.value, parents) for tag in event.tags]
