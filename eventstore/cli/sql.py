"""SQL over a store: the log as ``events`` and every table that has a snapshot, through polars.

Only what a query names is opened. Nothing is executed that could look like a change.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from eventstore.cli import render
from eventstore.cli.exits import safe_text
from eventstore.codec.schema import BODY, HEADER, POSITION
from eventstore.errors import EventStoreError, InvalidEventError, NotFoundError
from eventstore.log.reader import READ_SCHEMA
from projections import ProjectionRegistry, Tables, default_projections, open_tables, position_of

if TYPE_CHECKING:
    from eventstore.store import EventStore

__all__ = ["EVENTS", "SqlColumn", "cleaned", "columns_of", "mentioned", "run_sql"]

EVENTS = "events"
"""The name of the log itself."""

_WORD = re.compile(r"\w+")
_READS = frozenset({"select", "with", "from", "values", "table", "explain", "show", "describe"})
_NO_TABLE = re.compile(r"relation '([^']*)' was not found")
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


class SqlColumn(NamedTuple):
    """A column that can be asked for."""

    name: str
    type: str
    doc: str


def mentioned(query: str, names: list[str]) -> list[str]:
    """Return those of `names` that stand in the query as a word; it may be more than it reads."""
    words = {word.casefold() for word in _WORD.findall(query)}
    return [name for name in names if name.casefold() in words]


def run_sql(
    store: EventStore,
    query: str,
    *,
    fresh: bool = False,
    at: int | dt.datetime | None = None,
    registry: ProjectionRegistry = default_projections,
) -> pl.LazyFrame:
    """Plan a query; what it names is scanned lazily.

    Parameters
    ----------
    fresh
        Fold what was sealed since the tables were built, for this answer alone.
    at
        Answer as of this position or time: tables and the log.

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
    size = store.head().size
    names = mentioned(query, registry.names)
    if fresh or at is not None:
        size = size if at is None else position_of(store, at)
        frames.update(open_tables(store, names, at=size, registry=registry) if names else {})
    for name in names if not frames else ():
        try:
            tables = open_tables(store, [name], registry=registry)
        except NotFoundError:
            continue  # perhaps the word is a column; if it is read as a table, polars misses it below
        frames[name] = tables[name]
        _tell(tables, name, registry.get(name).version, size)
    if mentioned(query, [EVENTS]):
        frames[EVENTS] = store.scan(until=size)
    try:
        return pl.SQLContext(frames=frames).execute(query, eager=False)
    except pl.exceptions.PolarsError as error:
        raise cleaned(error, registry=registry) from error


def _tell(tables: Tables, name: str, version: int, size: int) -> None:
    """Say what a reader of this table should know of it."""
    view = tables.views[name]
    for error in view.parts[0][0].set_aside if view.parts else ():
        render.warning(safe_text(f"an older snapshot answers: {error}"))
    if view.version != version:
        render.note(
            f"{name} is what version {view.version} of its recipe made; `eventstore rebuild {name}` makes "
            f"version {version}"
        )
    if view.position < size:
        render.note(f"{name} stands at {view.position:,} of {size:,} events; --fresh folds what is new")


def _no_table(name: str, registry: ProjectionRegistry) -> EventStoreError:
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


def cleaned(error: Exception, *, registry: ProjectionRegistry = default_projections) -> EventStoreError:
    """Return polars' complaint about a query as our error, without its plan; it may come with the answer."""
    missing = _NO_TABLE.search(str(error))
    if missing is not None:
        return _no_table(missing[1], registry)
    message = str(error).partition("\n\nResolved plan")[0].partition("\n\nThis error occurred")[0]
    words = " ".join(message.split()).removeprefix("sql parser error: ")
    if isinstance(error, pl.exceptions.ComputeError):
        return EventStoreError(
            f"the query failed while it ran: {words}. If the SQL is right, run `eventstore verify`",
            code="query_failed",
        )
    return InvalidEventError(f"the SQL was not understood: {words}", code="bad_sql")


def columns_of(
    *, registry: ProjectionRegistry = default_projections
) -> Iterator[tuple[str, list[SqlColumn]]]:
    """Yield everything that can be asked, the log first: name, and columns in order."""
    log = pl.from_arrow(READ_SCHEMA.empty_table())
    if isinstance(log, pl.DataFrame):
        docs = {POSITION.name: "place in the log, from 0", **{one.name: one.doc for one in HEADER + BODY}}
        yield EVENTS, [SqlColumn(name, _plain(dtype), docs[name]) for name, dtype in log.schema.items()]
    for one in registry:
        yield (
            one.name,
            [SqlColumn(name, _plain(one.schema[name]), column.doc) for name, column in one.columns.items()],
        )


def _plain(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.Datetime):
        return "Datetime"
    if isinstance(dtype, pl.List):
        inner = dtype.inner() if isinstance(dtype.inner, type) else dtype.inner
        return f"List of {_plain(inner)}"
    return "Struct" if isinstance(dtype, pl.Struct) else str(dtype)
