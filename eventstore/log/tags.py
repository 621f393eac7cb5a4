"""Which tags are current now: kept in memory for the entities that were asked about.

A tag is current if no tag supersedes it, whatever came first; the table `tags` says the same of the sealed
log. Of all entities only the hashes of superseded tags are kept, and edits are rare.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.events import Event, TagsDeleted, TagsRecorded
from eventstore.log.handles import Readable
from eventstore.tags import CurrentTag

__all__ = ["LiveTags"]

_KINDS = ("tags.deleted", "tags.recorded")
_COLUMNS = ("kind", "entity_type", "entity_id", "tag_hash", "tags", "superseded")
_DELETED = ("Null", "", "", "null")
"""What a deletion is as a tag: entity type, entity id, key, value."""


class _Tags:
    """Tags by entity and hash, the first record of each, and the hashes that others supersede."""

    __slots__ = ("by_entity", "superseded")

    def __init__(self) -> None:
        self.by_entity: dict[str, dict[str, CurrentTag]] = {}
        self.superseded: set[str] = set()

    def add(self, tag: CurrentTag) -> None:
        self.by_entity.setdefault(tag.entity_id, {}).setdefault(tag.tag_hash, tag)


class LiveTags:
    """Answers of one store about its tags, as fresh as asked. Safe to share by threads.

    Each entity that was not asked about before takes one pass over all tags: ask about several at once.
    Tags are taken to have the hashes that `eventstore.tags` gives them, of which the entity is a part.

    Parameters
    ----------
    store
        An open `EventStore`.
    fresh_seconds
        How old an answer may be with respect to the events that `observe` was not told of.
    """

    def __init__(self, store: Readable, *, fresh_seconds: float = 0.0) -> None:
        self._store = store
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._reached = -1
        self._sealed = _Tags()
        self._tail = _Tags()
        self._looked_at = float("-inf")

    def current_tags(self, entity_id: str) -> list[CurrentTag]:
        """Return the current tags of an entity, sorted by key, value and hash."""
        return self.current_tags_of([entity_id])[entity_id]

    def current_tags_of(self, entity_ids: Iterable[str]) -> dict[str, list[CurrentTag]]:
        """Return the current tags of each entity, as `current_tags` does; an empty list if it has none."""
        wanted = list(dict.fromkeys(entity_ids))
        with self._lock:
            self._ask(wanted)
            self._refresh()
            return {entity_id: self._current(entity_id) for entity_id in wanted}

    def is_superseded(self, tag_hash: str) -> bool:
        """Whether some tag supersedes the one with this hash."""
        with self._lock:
            self._refresh()
            return tag_hash in self._sealed.superseded or tag_hash in self._tail.superseded

    def observe(self, *events: Event) -> None:
        """Take in events that were just appended, ahead of reading them."""
        with self._lock:
            for event in events:
                if isinstance(event, TagsRecorded):
                    tags = [tag.model_dump() for tag in event.tags]
                    row = (event.kind, event.entity_type.value, event.entity_id, None, tags, event.superseded)
                    self._apply(self._tail, *row)
                elif isinstance(event, TagsDeleted):
                    self._apply(self._tail, event.kind, None, None, event.tag_hash, None, event.superseded)

    def _current(self, entity_id: str) -> list[CurrentTag]:
        found = self._tail.by_entity.get(entity_id, {}) | self._sealed.by_entity.get(entity_id, {})
        gone = (self._sealed.superseded, self._tail.superseded)
        current = (tag for tag in found.values() if not any(tag.tag_hash in hashes for hashes in gone))
        return sorted(current, key=lambda tag: (tag.key, tag.value, tag.tag_hash))

    # reading ---------------------------------------------------------------------------------------------

    def _ask(self, entity_ids: list[str]) -> None:
        """Read the tags of entities that are new here, as far as the log was read already."""
        new = [entity_id for entity_id in entity_ids if entity_id not in self._asked]
        if not new:
            return
        self._asked.update(new)
        self._looked_at = float("-inf")  # the tail was read without them
        if self._reached >= 0:
            try:
                for batch in self._store.read(until=self._reached + 1, kinds=_KINDS, columns=_COLUMNS):
                    self._take(self._sealed, batch)
            except BaseException:
                self._asked.difference_update(new)
                raise

    def _refresh(self) -> None:
        if self._fresh_seconds and time.monotonic() - self._looked_at < self._fresh_seconds:
            return
        size = self._store.head().size
        tail = _Tags()
        for batch in self._store.read(after=self._reached, kinds=_KINDS, columns=_COLUMNS, tail=True):
            last = batch.column("position")[-1].as_py()
            self._take(tail if last is None else self._sealed, batch)
            if last is not None:
                self._reached = last
        self._reached = max(self._reached, size - 1)
        self._tail, self._looked_at = tail, time.monotonic()

    def _take(self, to: _Tags, batch: pa.RecordBatch) -> None:
        # Most tags are of entities that nobody asks about: those are left out before they become objects.
        wanted = pc.or_(
            pc.is_in(batch.column("entity_id"), pa.array(sorted(self._asked), pa.string())),
            pc.greater(pc.list_value_length(batch.column("superseded")), 0),
        )
        if "" in self._asked:
            wanted = pc.or_kleene(wanted, pc.equal(batch.column("kind"), TagsDeleted.kind))
        chosen = batch.filter(pc.fill_null(wanted, True))
        for row in zip(*(chosen.column(name).to_pylist() for name in _COLUMNS), strict=True):
            self._apply(to, *row)

    def _apply(
        self,
        to: _Tags,
        kind: str,
        entity_type: str | None,
        entity_id: str | None,
        tag_hash: str | None,
        tags: Iterable[Mapping[str, Any]] | None,
        superseded: Iterable[str] | None,
    ) -> None:
        """Take in one event; an erased one says nothing."""
        to.superseded.update(superseded or ())
        if kind == TagsDeleted.kind and tag_hash is not None and "" in self._asked:
            type_, entity, key, value = _DELETED
            to.add(CurrentTag(tag_hash, type_, entity, key, value))
        if entity_id in self._asked and entity_type is not None:
            for tag in tags or ():
                to.add(CurrentTag(tag["tag_hash"], entity_type, entity_id, tag["key"], tag["value"]))
