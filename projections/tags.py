"""The read models of tags: `tags`, with which are current, and `tag_edits`, which say what replaced what.

A tag is current if and only if no tag supersedes it, whatever came first. A deletion is itself a tag, of no
entity.
"""

from __future__ import annotations

import polars as pl

from projections.keyed import KeyedProjection
from projections.projection import Column, moment, text, whole

__all__ = ["TAGS", "TAG_EDITS"]

_KINDS = ("tags.recorded", "tags.deleted")
_DELETED = pl.col("kind") == "tags.deleted"

_STATE = {
    "tag_hash": text("a tag"),
    "superseded": Column(pl.Boolean, "false: the tag's record; true: an edit that supersedes it"),
    "position": whole("first event that says so"),
    "entity_type": text("of the record"),
    "entity_id": text("of the record"),
    "key": text("of the record"),
    "value": text("of the record"),
    "occurred_at": moment("of the record"),
    "actor": text("of the record"),
    "reason": text("of the record"),
}


def _made(events: pl.LazyFrame) -> pl.LazyFrame:
    """One row for each tag that events make: the new tags, and the deletions."""
    tag = pl.col("tags").struct
    common = ("position", "occurred_at", "actor", "reason", "superseded")
    recorded = (
        events.filter(~_DELETED)
        .filter(pl.col("tags").list.len() > 0)
        .explode("tags")
        .select(
            *common,
            "entity_type",
            "entity_id",
            tag_hash=tag.field("tag_hash"),
            key=tag.field("key"),
            value=tag.field("value"),
        )
    )
    deleted = events.filter(_DELETED).select(
        *common,
        pl.lit("Null").alias("entity_type"),
        pl.lit("").alias("entity_id"),
        "tag_hash",
        pl.lit("").alias("key"),
        pl.lit("null").alias("value"),
    )
    return pl.concat([recorded, deleted])


def _tag_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    made = _made(events).with_columns(superseded=pl.lit(value=False))
    references = (
        events.filter(pl.col("superseded").list.len() > 0)
        .select("position", tag_hash="superseded")
        .explode("tag_hash")
        .with_columns(superseded=pl.lit(value=True))
    )
    return pl.concat([made, references], how="diagonal")


def _tag_table(state: pl.LazyFrame) -> pl.LazyFrame:
    return (
        state.with_columns(is_current=~pl.col("superseded").any().over("tag_hash"))
        .filter(~pl.col("superseded"))
        .drop("superseded")
    )


def _edit_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    return (
        _made(events)
        .filter(pl.col("superseded").list.len() > 0)
        .select("tag_hash", "position", "occurred_at", "actor", "reason", parent_hash="superseded")
        .explode("parent_hash")
    )


TAGS = KeyedProjection(
    name="tags",
    version=1,
    doc="One tag, current or not; a deletion is a tag of type Null.",
    kinds=_KINDS,
    inputs=(
        "actor",
        "entity_id",
        "entity_type",
        "occurred_at",
        "reason",
        "superseded",
        "tag_hash",
        "tags",
    ),
    key=("tag_hash",),
    columns={
        "tag_hash": text("the tag's hash"),
        "position": whole("event that recorded it first"),
        "entity_type": text("Execution, Job, CallNode, Task, Value; Null for a deletion"),
        "entity_id": text("id or hash of the tagged entity; empty for a deletion"),
        "key": text("the key; empty for a deletion"),
        "value": text("the value as canonical JSON text; null (the JSON word) for a deletion"),
        "is_current": Column(pl.Boolean, "whether no tag supersedes it"),
        "occurred_at": moment("when it was first recorded"),
        "actor": text("who recorded it"),
        "reason": text("why; null where nobody said so"),
    },
    state=_STATE,
    finish=_tag_table,
    state_key=("tag_hash", "superseded"),
    rows=_tag_rows,
)

TAG_EDITS = KeyedProjection(
    name="tag_edits",
    version=1,
    doc="One step of a tag's history: a tag that another one, or a deletion, superseded.",
    kinds=_KINDS,
    inputs=TAGS.inputs,
    key=("parent_hash", "tag_hash"),
    columns={
        "parent_hash": text("the tag that is no longer current"),
        "tag_hash": text("the tag, or deletion, in its place"),
        "position": whole("first event that made the edit"),
        "occurred_at": moment("when"),
        "actor": text("who made the edit"),
        "reason": text("why; null where nobody said so"),
    },
    rows=_edit_rows,
)
