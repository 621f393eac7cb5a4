"""What people ask of tags, from `tags` and `tag_edits`: what is tagged now, and how it came to be."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import polars as pl

from eventstore.tags import ANY_VALUE, CurrentTag, canonical_value
from projections.tables import Tables

__all__ = ["TAG_TABLES", "TableTags", "current_tags", "tag_history", "tagged_entities"]

TAG_TABLES = ("tags", "tag_edits")
"""The tables that these questions read."""

_IS_DELETION = pl.col("entity_type") == "Null"


class TableTags:
    """Answers which tags are current as of the tables; for what came since, see `EventStore.lookup`.

    Parameters
    ----------
    tables
        With `tags` and `tag_edits` open.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def current_tags(self, entity_id: str) -> list[CurrentTag]:
        """Return the current tags of an entity, sorted by key, value and hash."""
        return self.current_tags_of([entity_id])[entity_id]

    def current_tags_of(self, entity_ids: Collection[str]) -> dict[str, list[CurrentTag]]:
        """Return the current tags of each entity, as `current_tags` does; an empty list if it has none."""
        found: dict[str, list[CurrentTag]] = {entity_id: [] for entity_id in entity_ids}
        rows = current_tags(self._tables, entity_ids, deletions=True)
        for row in rows.select(CurrentTag._fields).collect().iter_rows():
            tag = CurrentTag(*row)
            found[tag.entity_id].append(tag)
        return found

    def is_superseded(self, tag_hash: str) -> bool:
        """Whether some tag supersedes the one with this hash."""
        row = self._tables.lookup("tags", tag_hash)
        if row is not None:
            return not row["is_current"]
        edits = self._tables["tag_edits"].filter(pl.col("parent_hash") == tag_hash)
        return bool(edits.head(1).collect().height)


def current_tags(
    tables: Tables, entity_ids: Collection[str] | None = None, *, deletions: bool = False
) -> pl.LazyFrame:
    """Return the tags that stand now, sorted by entity, key, value and hash.

    Parameters
    ----------
    entity_ids
        Only of these entities; None means all.
    deletions
        Also deletions, which are tags of the entity with the empty id.

    Returns
    -------
    Rows of `tags`, without `is_current`.
    """
    rows = tables["tags"].filter("is_current").drop("is_current")
    if not deletions:
        rows = rows.filter(~_IS_DELETION)
    if entity_ids is not None:
        rows = rows.filter(pl.col("entity_id").is_in(list(entity_ids)))
    return rows.sort("entity_id", "key", "value", "tag_hash")


def tagged_entities(tables: Tables, key: str, value: Any = ANY_VALUE) -> pl.LazyFrame:
    """Return what has a tag now: `entity_type`, `entity_id`, `value` (canonical JSON), sorted by these.

    Parameters
    ----------
    value
        Only tags with this value, compared as canonical JSON; `ANY_VALUE` means whichever.

    Raises
    ------
    InvalidEventError
        The value has no JSON form (code ``bad_tag_value``).
    """
    rows = current_tags(tables).filter(pl.col("key") == key)
    if value is not ANY_VALUE:
        rows = rows.filter(pl.col("value") == canonical_value(key, value))
    columns = ("entity_type", "entity_id", "value")
    return rows.select(columns).unique().sort(columns)


def tag_history(tables: Tables, entity_id: str, *, key: str | None = None) -> pl.LazyFrame:
    """Return all tags that an entity ever had, as they were recorded, and what became of each.

    Parameters
    ----------
    key
        Only tags with this key; a tag that was renamed says so by what replaced it.

    Returns
    -------
    Rows of `tags`, and of the first edit that superseded each: `replaced_at`, `replaced_by` (who),
    `replaced_reason`, `replacements` (hashes of the tags in its place, none if it was deleted), `deleted`
    (whether some edit took it off); all null for a tag that is current.
    """
    tags = tables["tags"].filter(pl.col("entity_id") == entity_id)
    if key is not None:
        tags = tags.filter(pl.col("key") == key)
    heirs = tables["tags"].select("tag_hash", is_deletion=_IS_DELETION)
    edits = (
        tables["tag_edits"]
        .join(tags.select(parent_hash="tag_hash"), on="parent_hash", how="semi")
        .join(heirs, on="tag_hash")
        .sort("position", "tag_hash")
        .group_by(tag_hash="parent_hash")
        .agg(
            replaced_at=pl.col("occurred_at").first(),
            replaced_by=pl.col("actor").first(),
            replaced_reason=pl.col("reason").first(),
            replacements=pl.col("tag_hash").filter(~pl.col("is_deletion")),
            deleted=pl.col("is_deletion").any(),
        )
    )
    return tags.join(edits, on="tag_hash", how="left").sort("position", "key", "value", "tag_hash")
