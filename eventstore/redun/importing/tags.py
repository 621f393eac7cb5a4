"""Tags of a redun database become events, with all edits: a tag comes after those that it supersedes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from eventstore.events import EntityType, Tag, TagsDeleted, TagsRecorded
from eventstore.hashing import canonical_json
from eventstore.redun.importing import tables
from eventstore.redun.importing.adding import Adding
from eventstore.redun.importing.database import PAGE, RedunDatabase
from eventstore.redun.importing.order import mentioned_first

__all__ = ["import_tags"]


def import_tags(database: RedunDatabase, adding: Adding) -> None:
    """Add the tags that the store does not have. Which are current follows from the edits."""
    tag, edit = tables.tag, tables.tag_edit.c

    def is_known(tag_hash: str) -> bool:
        return tag_hash in adding.pending or adding.known.tag(tag_hash) is not None

    def parents(hashes: Sequence[str]) -> dict[str, list[str]]:
        return database.grouped(edit.child_id, edit.parent_id, hashes)

    for page in database.stream(sa.select(tag.c.tag_hash), order=tag):
        adding.looked_at("tags", len(page))
        new = [tag_hash for (tag_hash,) in page if not is_known(tag_hash)]
        hashes = mentioned_first(new, mentions=parents, is_known=is_known)
        for start in range(0, len(hashes), PAGE):
            some = hashes[start : start + PAGE]
            superseded = parents(some)
            rows = {row.tag_hash: row for row in database.rows_of(sa.select(tag), tag.c.tag_hash, some)}
            for tag_hash in some:
                if tag_hash in rows:
                    _add_tag(adding, rows[tag_hash], sorted(superseded[tag_hash]))
    adding.append()


def _add_tag(adding: Adding, row: Any, superseded: list[str]) -> None:
    if row.entity_type == EntityType.NULL and not (row.entity_id or row.key):
        adding.add(tables.tag.name, row.tag_hash, TagsDeleted, tag_hash=row.tag_hash, superseded=superseded)
    else:
        adding.add(tables.tag.name, row.tag_hash, _tags, row=row, superseded=superseded)


def _tags(*, row: Any, superseded: list[str]) -> TagsRecorded:
    tag = Tag(tag_hash=row.tag_hash, key=row.key, value=canonical_json(row.value))
    return TagsRecorded(
        entity_type=row.entity_type, entity_id=row.entity_id, tags=(tag,), superseded=tuple(superseded)
    )
