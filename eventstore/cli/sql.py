"""SQL over a store: the log as ``events`` and every table that has a snapshot, through polars.

Only what a query names is opened. Nothing is executed that could look like a change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from eventstore.errors import InvalidEventError, NotFoundError
from projections import ProjectionRegistry, default_projections, open_tables

if TYPE_CHECKING:
    from eventstore.store import EventStore

__all__ = ["EVENTS", "cleaned", "mentioned", "run_sql", "schemas"]

EVENTS = "events"
"""The name of the log itself."""

_WORD = re.compile(r"\w+")
_READS = frozenset({"select", "with", "from", "values", "table", "explain", "show", "describe"})
_NO_TABLE = re.compile(r"relation '([^']*)' was not found")
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def mentioned(query: str, names: list[str]) -> list[str]:
    """Return those of `names` that stand in the query as a word; it may be more than it reads."""
    words = {word.casefold() for word in _WORD.findall(query)}
    return [name for name in names if name.casefold() in words]


def run_sql(
    store: EventStore, query: str, *, registry: ProjectionRegistry = default_projections
) -> pl.LazyFrame:
    """Plan a query; what it names is scanned lazily.

    Raises
    ------
    InvalidEventError
        The query is wrong (code ``bad_sql``), or more than a question (``not_a_query``).
    NotFoundError
        It reads a table that has no snapshot (``no_snapshot``).
    """
    query = query.strip().rstrip(";")
    first = _WORD.search(_COMMENTS.sub(" ", query))
    if first is None or first[0].casefold() not in _READS:
        found = repr(first[0]) if first else "nothing"
        raise InvalidEventError(
            f"a query reads: one that begins with SELECT or WITH was expected, found {found}; tables change "
            "through events and `eventstore rebuild` only",
            code="not_a_query",
        )
    frames: dict[str, pl.LazyFrame] = {}
    for name in mentioned(query, registry.names):
        try:
            frames[name] = open_tables(store, [name], registry=registry)[name]
        except NotFoundError:
            continue  # perhaps the word is a column; if it is read as a table, polars misses it below
    if mentioned(query, [EVENTS]):
        frames[EVENTS] = store.scan()
    try:
        return pl.SQLContext(frames=frames).execute(query, eager=False)
    except pl.exceptions.PolarsError as error:
        missing = _NO_TABLE.search(str(error))
        if missing is not None:
            raise _no_table(missing[1], registry) from None
        raise cleaned(error) from None


def _no_table(name: str, registry: ProjectionRegistry) -> Exception:
    known = next((one for one in registry.names if one.casefold() == name.casefold()), None)
    if known is not None:
        return NotFoundError(
            f"a snapshot of the table {known!r} was expected, found none: run `eventstore rebuild` with this "
            "store, or ask with --fresh",
            code="no_snapshot",
            projection=known,
        )
    return InvalidEventError(
        f"a table was expected ({', '.join((EVENTS, *registry.names))}), found {name!r}", code="bad_sql"
    )


def cleaned(error: Exception) -> InvalidEventError:
    """Return polars' complaint about a query, without its plan."""
    message = str(error).partition("\n\nResolved plan")[0].partition("\n\nThis error occurred")[0]
    words = " ".join(message.split()).removeprefix("sql parser error: ")
    return InvalidEventError(f"the SQL was not understood: {words}", code="bad_sql")


def schemas(
    store: EventStore, *, registry: ProjectionRegistry = default_projections
) -> Mapping[str, Mapping[str, str]]:
    """Return columns and types of everything that can be asked; tables need no snapshot for that."""
    found = {EVENTS: _names(store.scan().collect_schema())}
    found.update({one.name: _names(one.schema) for one in registry})
    return found


def _names(schema: pl.Schema) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in schema.items()}
