"""The contract of a projection: a named, versioned, pure recipe from events to one table with a key.

A recipe folds position-ordered batches of events into a state and finishes the state into the table. The
fold is associative: any split into batches gives the same table, so a refresh equals a rebuild. How a
recipe folds is left to its kind: `KeyedProjection` for rows by key, `StatefulProjection` for rows that depend
on those before them, `GeneralProjection` for everything else.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import polars as pl

from eventstore import ProjectionError

__all__ = [
    "TIME",
    "Column",
    "DataType",
    "Finish",
    "Fold",
    "GeneralProjection",
    "Keep",
    "Projection",
    "Step",
    "moment",
    "text",
    "whole",
]

DataType = pl.DataType | pl.datatypes.DataTypeClass
"""A polars type, as a class or an instance."""

TIME = pl.Datetime("us", "UTC")
"""The type of all times in events and tables."""

Keep = Literal["any", "first", "first_non_null", "last", "last_non_null", "max", "min"]
"""What one cell keeps of many rows with one key, in position order; all of these are associative."""

Finish = Callable[[pl.LazyFrame], pl.LazyFrame]
"""Pure step from the state to the table's columns."""

Step = Callable[[pl.DataFrame | None, pl.DataFrame], pl.DataFrame]
"""Pure step from (state so far, next events in position order) to the state after them; None stands for a
state without rows."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its type, one line on meaning and unit, and what its cell keeps."""

    dtype: DataType
    doc: str
    keep: Keep = "first"


def text(doc: str, keep: Keep = "first") -> Column:
    """Return a column of text."""
    return Column(pl.String, doc, keep)


def whole(doc: str, keep: Keep = "first") -> Column:
    """Return a column of whole numbers."""
    return Column(pl.Int64, doc, keep)


def moment(doc: str, keep: Keep = "first") -> Column:
    """Return a column of times, UTC."""
    return Column(TIME, doc, keep)


class Fold(Protocol):
    """A fold under way: it takes batches one after another and can say its state at any time."""

    def add(self, events: pl.DataFrame) -> None:
        """Fold the next events.

        They have the columns `Projection.reads`, only the projection's kinds, and positions that increase
        from batch to batch; whoever folds the unsealed tail numbers it onwards from the sealed head.
        """

    def state(self) -> pl.DataFrame:
        """Return the state after all events added so far."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Projection(ABC):
    """What all recipes have in common.

    Parameters
    ----------
    name
        The table's name: lower-case letters, digits and ``_``; it becomes a folder.
    version
        From 1; a recipe that would give another table for the same events takes the next number.
    doc
        One sentence: what one row is.
    kinds
        Kinds of events that the recipe reads.
    inputs
        Columns of events that it reads, besides ``position`` and ``kind``, which are always there.
    key
        Columns that tell the rows apart; the table is sorted by them. Rows with a null here are dropped:
        that is how an erased event leaves the tables.
    columns
        The table's columns in order. ``position``, where it is not given, is put after the key: the first
        event that speaks of the row.
    state
        The state's columns, where they are not the table's.
    finish
        The step from state to table; None where they are the same. A keyed recipe's is given any rows of the
        state that are whole by the first column of the key, so it may join what agrees on that, and no more.

    Raises
    ------
    ProjectionError
        A part of the recipe is malformed (code ``bad_projection``).
    """

    name: str
    version: int
    doc: str
    kinds: tuple[str, ...]
    inputs: tuple[str, ...]
    key: tuple[str, ...]
    columns: Mapping[str, Column]
    state: Mapping[str, Column] | None = None
    finish: Finish | None = None

    def __post_init__(self) -> None:
        self._take_names("kinds", "inputs", "key")
        if "position" not in self.columns:
            position = Column(pl.Int64, "position of the first event that speaks of the row")
            head = {name: self.columns[name] for name in self.key if name in self.columns}
            object.__setattr__(self, "columns", {**head, "position": position, **self.columns})
        for good, expected, found in (
            (_NAME.fullmatch(self.name), "a name of lower-case letters, digits and _", repr(self.name)),
            (self.version >= 1, "a version from 1", str(self.version)),
            (self.kinds, "at least one kind of event", "none"),
            (self.key and set(self.key) <= set(self.columns), "a key of the table's columns", str(self.key)),
            (self.finish or self.state is None, "`finish`, to make a table of the state", "None"),
        ):
            if not good:
                raise self.error("bad_projection", expected, found, "correct the recipe")
        for name, column in (*self.columns.items(), *self.state_columns.items()):
            self._check_column(name, column)

    def _take_names(self, *fields: str) -> None:
        """Make tuples of names; one text instead of several would be taken letter by letter."""
        for field in fields:
            names = getattr(self, field)
            several = isinstance(names, Iterable) and not isinstance(names, str)
            taken = tuple(names) if several else ()
            if not several or not all(isinstance(name, str) for name in taken):
                raise self.error(
                    "bad_projection",
                    f"`{field}` to be several names, such as a list of texts",
                    repr(taken if several else names),
                    f"write [{names!r}]" if isinstance(names, str) else "name them as text",
                )
            object.__setattr__(self, field, taken)

    def _check_column(self, name: str, column: object) -> None:
        dtype = column.dtype if isinstance(column, Column) else None
        if dtype is None or not _is_stored(dtype):
            raise self.error(
                "bad_projection",
                f"a Column for {name!r}, of text, bytes, numbers of at most 64 bits, decimals, booleans, "
                "dates, times, durations, or lists or structs of these, with all their parameters",
                f"{column!r}" if dtype is None else f"{dtype!r}",
                "declare another type, and cast to it in the recipe",
            )

    @property
    def schema(self) -> pl.Schema:
        """The table's columns and types, in order."""
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    @property
    def state_columns(self) -> Mapping[str, Column]:
        """The state's columns, in order."""
        return self.columns if self.state is None else self.state

    @property
    def state_schema(self) -> pl.Schema:
        """The state's columns and types, in order."""
        return pl.Schema({name: column.dtype for name, column in self.state_columns.items()})

    @property
    def reads(self) -> tuple[str, ...]:
        """All columns of events that the recipe is given: ``position``, ``kind``, then its inputs."""
        return ("position", "kind", *(name for name in self.inputs if name not in ("position", "kind")))

    @property
    def group(self) -> tuple[str, ...]:
        """The columns by which the state is sorted, where it has them."""
        return self.key

    @abstractmethod
    def begin(self, state: pl.DataFrame | None = None) -> Fold:
        """Start to fold after `state`, or from the first event."""

    def fold(self, state: pl.DataFrame | None, events: pl.DataFrame) -> pl.DataFrame:
        """Return the state after `events`: any batch in position order, of any kinds."""
        fold = self.begin(state)
        fold.add(self.pick(events))
        return fold.state()

    def pick(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return the rows and columns of a batch that this recipe reads."""
        self.check_inputs(events.columns)
        return events.select(self.reads).filter(pl.col("kind").is_in(self.kinds))

    def check_inputs(self, columns: Collection[str]) -> None:
        """Raise ProjectionError (code ``unknown_input``) unless events have all columns that are read."""
        missing = [name for name in self.reads if name not in columns]
        if missing:
            raise self.error(
                "unknown_input",
                f"events with the columns {list(self.reads)}",
                f"no {missing}",
                "`inputs` may name the log's columns only (docs/format.md)",
            )

    def table(self, state: pl.DataFrame) -> pl.DataFrame:
        """Return the finished table of a state, sorted by its key.

        Raises
        ------
        ProjectionError
            `finish` raised (``recipe_failed``), gave other columns or types (``wrong_columns``), or gave a
            key twice (``key_not_unique``).
        """
        with self.watched("finish"):
            frame = state if self.finish is None else self.finish(state.lazy()).collect(engine="in-memory")
        frame = self.check(frame, self.schema, "finish")
        if any(frame[name].null_count() for name in self.key):
            frame = frame.filter(pl.all_horizontal(pl.col(self.key).is_not_null()))
        if _rises(frame, self.key):
            return frame
        frame = frame.sort(self.key)
        again = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in self.key)
        repeated = frame.lazy().select(self.key).filter(again).collect(engine="in-memory")
        if repeated.height:
            raise self.error(
                "key_not_unique",
                f"one row for each {self.key}",
                f"{repeated.height} more, such as {repeated.row(0)}",
                "choose a key that tells rows apart, or let `finish` join them",
            )
        return frame

    def check(
        self, frame: pl.DataFrame, schema: pl.Schema, step: str, position: int | None = None
    ) -> pl.DataFrame:
        """Return `frame` with its columns in the order of `schema`, or raise (``wrong_columns``)."""
        found = frame.schema
        if dict(found) != dict(schema):
            names = sorted({*schema, *found}, key=str)
            faulty = [name for name in names if schema.get(name) != found.get(name)]
            raise self.error(
                "wrong_columns",
                ", ".join(f"{name}: {schema.get(name, 'no such column')}" for name in faulty),
                ", ".join(f"{name}: {found.get(name, 'nothing')}" for name in faulty),
                f"correct `{step}`, or the columns that the recipe declares",
                position=position,
            )
        return frame if list(found) == list(schema) else frame.select(list(schema))

    @contextmanager
    def watched(self, step: str, position: int | None = None) -> Iterator[None]:
        """Turn whatever a recipe's own code raises into a ProjectionError (code ``recipe_failed``)."""
        try:
            yield
        except ProjectionError:
            raise
        except Exception as error:
            raise self.error(
                "recipe_failed",
                f"`{step}` to give a table",
                f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
                "correct the recipe, then rebuild; a column of events must be named in `inputs`",
                position=position,
            ) from error

    def damaged(self, code: str, path: str, expected: str, found: str) -> ProjectionError:
        """Make an error for something stored of this table that is not as it was written."""
        return ProjectionError(
            f"table {self.name} version {self.version}, {path}: expected {expected}; found {found}. "
            f"Next: run `eventstore rebuild {self.name}`",
            code=code,
            projection=self.name,
            version=self.version,
            path=path,
            expected=expected,
            found=found,
        )

    def error(
        self, code: str, expected: str, found: str, hint: str, *, position: int | None = None
    ) -> ProjectionError:
        """Make an error that names this recipe."""
        where = "" if position is None else f" in the batch at position {position}"
        return ProjectionError(
            f"projection {self.name} version {self.version}{where}: expected {expected}; "
            f"found {found}. Next: {hint}",
            code=code,
            projection=self.name,
            version=self.version,
            position=position,
            expected=expected,
            found=found,
        )


def _rises(frame: pl.DataFrame, key: tuple[str, ...]) -> bool:
    """Whether each row's key is greater than that of the row before: sorted, and none twice."""
    rises = pl.lit(value=False)
    for name in reversed(key):
        before = pl.col(name).shift()
        rises = (pl.col(name) > before) | ((pl.col(name) == before) & rises)
    falls = frame.lazy().select((~rises).sum()).collect(engine="in-memory").item()
    return int(falls or 0) == 0  # the first row has none before it: null


def _is_stored(dtype: DataType) -> bool:
    """Whether a column of this type has a canonical form (`projections.digest`) and a name of its own."""
    try:
        known = pl.Schema({"": dtype})[""]
    except TypeError:
        return False  # no type, or one without its parameters, such as the unit of a time
    match known:
        case pl.List():
            return _is_stored(known.inner)
        case pl.Struct():
            return bool(known.fields) and all(_is_stored(field.dtype) for field in known.fields)
        case pl.Int128() | pl.UInt128():
            return False
    return known in (pl.String, pl.Binary, pl.Boolean) or known.is_numeric() or known.is_temporal()


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneralProjection(Projection):
    """A recipe by one function ``step(state or None, events) -> state``, for what rows by key cannot say.

    Between refreshes the state is kept in files, sorted by the table's key where it has that; without
    `finish` it is the table, from which rows with a null key are dropped. So a step may depend neither on the
    order of its state's rows nor on rows with such a key.
    """

    step: Step

    def begin(self, state: pl.DataFrame | None = None) -> Fold:  # noqa: D102 - see Projection
        return _StepFold(self, state)


class _StepFold:
    def __init__(self, recipe: GeneralProjection, state: pl.DataFrame | None) -> None:
        self._recipe = recipe
        self._state = state

    def add(self, events: pl.DataFrame) -> None:
        if not events.height:
            return
        # A state without rows is none: a saved one must not differ from one that was never made.
        before = self._state if self._state is not None and self._state.height else None
        position = events["position"][0]
        with self._recipe.watched("step", position):
            state = self._recipe.step(before, events)
        self._state = self._recipe.check(state, self._recipe.state_schema, "step", position)

    def state(self) -> pl.DataFrame:
        return self._recipe.state_schema.to_frame() if self._state is None else self._state
