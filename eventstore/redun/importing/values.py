"""Values and tasks of a redun database become events: what a value has inside comes before it.

Bytes are inline or in redun's value store, which the database then says with empty bytes. A value whose bytes
are nowhere is left out, as redun has no answer for it either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from eventstore.errors import NotFoundError
from eventstore.events import TaskRecorded, ValueRecorded
from eventstore.hashing import hash_tagged_bytes
from eventstore.redun.importing import tables
from eventstore.redun.importing.adding import Adding
from eventstore.redun.importing.database import RedunDatabase
from eventstore.redun.importing.order import mentioned_first
from eventstore.value_store import RedunValueStore

__all__ = ["MISSING", "count_in_value_store", "import_tasks", "import_values"]

MISSING = "values without bytes"
"""What `Adding.found` calls those that are left out because their bytes are nowhere."""
_READ_BYTES = 16 * 1024 * 1024
"""About how many bytes of values are read at once, if no single value has more."""
_EMPTY = hash_tagged_bytes("Value", b"")
"""The hash of a value that really has no bytes."""


def count_in_value_store(database: RedunDatabase) -> int:
    """Return how many values have their bytes in redun's value store."""
    column = tables.value.c.value
    return database.count(
        tables.value, sa.func.length(column) == 0, tables.value.c.value_hash != sa.literal(_EMPTY)
    )


def import_values(database: RedunDatabase, adding: Adding, value_store: RedunValueStore | None) -> None:
    """Add the values that the store does not have, with the bytes of each, and its subvalues before it."""
    value, subvalue = tables.value.c, tables.subvalue.c

    def is_known(value_hash: str) -> bool:
        return value_hash in adding.pending or adding.known.has_value(value_hash)

    def subvalues(hashes: Sequence[str]) -> dict[str, list[str]]:
        return database.grouped(subvalue.parent_value_hash, subvalue.value_hash, hashes)

    for page in database.stream(sa.select(value.value_hash), order=tables.value):
        adding.looked_at("values", len(page))
        new = [value_hash for (value_hash,) in page if not is_known(value_hash)]
        hashes = mentioned_first(new, mentions=subvalues, is_known=is_known)
        for some in _portions(database, hashes):
            _add_values(database, adding, value_store, some, subvalues)
    adding.append()


def _portions(database: RedunDatabase, hashes: Sequence[str]) -> Iterator[list[str]]:
    """Cut a list of values so that those of each part can be held in memory; drops what is not there."""
    value = tables.value.c
    query = sa.select(value.value_hash, sa.func.length(value.value))
    sizes = dict(tuple(row) for row in database.rows_of(query, value.value_hash, hashes))
    part: list[str] = []
    size = 0
    for value_hash in hashes:
        if value_hash in sizes:
            if part and size + sizes[value_hash] > _READ_BYTES:
                yield part
                part, size = [], 0
            part.append(value_hash)
            size += sizes[value_hash]
    if part:
        yield part


def _add_values(
    database: RedunDatabase,
    adding: Adding,
    value_store: RedunValueStore | None,
    hashes: list[str],
    subvalues: Callable[[Sequence[str]], dict[str, list[str]]],
) -> None:
    value, file = tables.value, tables.file.c
    rows = {row.value_hash: row for row in database.rows_of(sa.select(value), value.c.value_hash, hashes)}
    paths = database.grouped(file.value_hash, file.path, hashes)
    inside = subvalues(hashes)
    for value_hash in hashes:
        row = rows[value_hash]
        data = row.value if row.value or value_hash == _EMPTY else _stored(value_store, value_hash)
        if data is None:
            adding.found[MISSING] += 1
            continue
        adding.add(
            value.name,
            value_hash,
            ValueRecorded,
            value_hash=value_hash,
            type_name=row.type,
            format=row.format,
            size_bytes=len(data),
            data=data,
            subvalues=inside[value_hash],
            file_path=next(iter(paths[value_hash]), None),
        )


def _stored(value_store: RedunValueStore | None, value_hash: str) -> bytes | None:
    if value_store is None:
        return None
    try:
        return value_store.get(value_hash)
    except (NotFoundError, ValueError):  # what is no hash has no file
        return None


def import_tasks(database: RedunDatabase, adding: Adding) -> None:
    """Add the tasks that the store does not have."""
    task = tables.task
    for page in database.stream(sa.select(task), order=task):
        adding.looked_at("tasks", len(page))
        row: Any
        for row in page:
            if adding.known.task(row.hash) is None:
                adding.add(
                    task.name,
                    row.hash,
                    TaskRecorded,
                    task_hash=row.hash,
                    task_name=row.name,
                    task_namespace=row.namespace or "",
                    source=row.source,
                )
    adding.append()
