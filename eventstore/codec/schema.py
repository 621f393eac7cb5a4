"""The columns of a segment: one Arrow schema, shared by name between all kinds of events.

The header and the three integrity columns come first, then the body columns in alphabetical order. A body
column means the same in every kind that fills it; a null is "not said". docs/format.md, section "Columns",
is made from this table and a test keeps them equal.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import pyarrow as pa

__all__ = [
    "BODY",
    "BODY_COLUMNS",
    "DICTIONARY_COLUMNS",
    "FORMAT_VERSION",
    "HEADER_COLUMNS",
    "POSITION",
    "SCHEMA",
    "TIME",
    "Column",
    "microseconds",
]

FORMAT_VERSION = 1
"""The version of the format that this code writes, and the newest it reads."""

TIME = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()
_TEXTS = pa.list_(pa.field("item", _TEXT))
_ARGUMENTS = pa.list_(
    pa.field(
        "item",
        pa.struct(
            [
                pa.field("key", _TEXT),
                pa.field("position", pa.int32()),
                pa.field("upstreams", _TEXTS),
                pa.field("value_hash", _TEXT),
            ]
        ),
    )
)
_TAGS = pa.list_(
    pa.field(
        "item",
        pa.struct([pa.field("key", _TEXT), pa.field("tag_hash", _TEXT), pa.field("value", _TEXT)]),
    )
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `doc` says meaning and unit; `repeats` asks the writer for a dictionary."""

    name: str
    type: pa.DataType
    doc: str
    repeats: bool = False


HEADER: tuple[Column, ...] = (
    Column("kind", _TEXT, "what happened, such as job.started", repeats=True),
    Column("version", pa.int32(), "schema version of the kind, from 1", repeats=True),
    Column("writer", _TEXT, "id of the writer that appended the event", repeats=True),
    Column("sequence", pa.int64(), "the event's number among its writer's events, from 0"),
    Column("recorded_at", TIME, "when the writer took it, UTC; never decreases within a writer"),
    Column("event_hash", pa.binary(32), "the event's hash and leaf of the tree"),
    Column("salt", pa.binary(16), "random bytes that hide the body digest; null once erased"),
    Column("body_digest", pa.binary(32), "the body's digest; only where the body was erased"),
)

BODY: tuple[Column, ...] = (
    Column("actor", _TEXT, "who did it", repeats=True),
    Column("args", _TEXT, "how a run was asked for: JSON list as text"),
    Column("args_hash", _TEXT, "hash of a call's arguments"),
    Column("arguments", _ARGUMENTS, "arguments of a call: key or position, value, upstream calls"),
    Column("cached", pa.bool_(), "whether a job's result came from a cache"),
    Column("call_hash", _TEXT, "a call node"),
    Column(
        "children",
        _TEXTS,
        "call nodes below a call node, in call order; one that left no record keeps its place",
    ),
    Column("context_hash", _TEXT, "the context that a call was reached under"),
    Column("data", pa.binary(), "a small value's serialized bytes"),
    Column("data_digest", _TEXT, "BLAKE3 (32 bytes) of a large value's bytes, in hex (section 11)"),
    Column("entity_id", _TEXT, "id of a tagged entity"),
    Column("entity_type", _TEXT, "type of a tagged entity", repeats=True),
    Column("eval_hash", _TEXT, "key of the evaluation cache"),
    Column("execution_id", _TEXT, "an execution", repeats=True),
    Column("file_path", _TEXT, "path or URL of a file value"),
    Column("format", _TEXT, "media type of a value's bytes", repeats=True),
    Column("handle_hash", _TEXT, "a state of a handle"),
    Column("handle_key", _TEXT, "key of a handle's state"),
    Column("handle_name", _TEXT, "full name of a handle", repeats=True),
    Column("job_id", _TEXT, "a job"),
    Column("occurred_at", TIME, "when the fact happened, UTC"),
    Column("parent_id", _TEXT, "the job that called a job"),
    Column("parents", _TEXTS, "states of a handle before this one"),
    Column("payload", _TEXT, "fields of a user's own kind: JSON object as text"),
    Column("reason", _TEXT, "why"),
    Column("size_bytes", pa.int64(), "length of a value's serialized bytes"),
    Column("software", _TEXT, "software and version that recorded the event", repeats=True),
    Column("source", _TEXT, "source text of a task"),
    Column("status", _TEXT, "how a job ended: DONE, CACHED, FAILED", repeats=True),
    Column("stream", _TEXT, "entity that an event of a user's own kind is about"),
    Column("subtree_tasks", _TEXTS, "tasks at and below a call node, sorted"),
    Column("subvalues", _TEXTS, "values inside a value"),
    Column("superseded", _TEXTS, "tags that are no longer current"),
    Column("tag_hash", _TEXT, "a delete tag"),
    Column("tags", _TAGS, "tags put on an entity: key, hash, value as canonical JSON"),
    Column("task_hash", _TEXT, "a task", repeats=True),
    Column("task_name", _TEXT, "name of a task", repeats=True),
    Column("task_namespace", _TEXT, "namespace of a task", repeats=True),
    Column("task_version", _TEXT, "version of a task", repeats=True),
    Column("type_name", _TEXT, "registered name of a value's type", repeats=True),
    Column("value_hash", _TEXT, "a value"),
)

HEADER_COLUMNS: tuple[str, ...] = tuple(column.name for column in HEADER)
BODY_COLUMNS: tuple[str, ...] = tuple(column.name for column in BODY)
SCHEMA: pa.Schema = pa.schema([pa.field(column.name, column.type) for column in HEADER + BODY])
DICTIONARY_COLUMNS: tuple[str, ...] = tuple(column.name for column in HEADER + BODY if column.repeats)

POSITION: pa.Field = pa.field("position", pa.int64())
"""The column that readers put first; it is the seals that know it, never a segment."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


def microseconds(moment: dt.datetime) -> int:
    """Whole microseconds from the Unix epoch to an aware `moment`, as time columns hold them."""
    return (moment - _EPOCH) // _MICROSECOND
