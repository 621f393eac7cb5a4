"""What two states of one table have in common and what not: rows that came, went, or say something else.

Pure over two lazy frames with the same columns and a key. Nothing is read before a result is collected, and
all of it streams: the work is joins on the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from eventstore import ProjectionError
from projections.catalog import default_projections
from projections.registry import ProjectionRegistry
from projections.tables import Tables

__all__ = ["DiffCounts", "TableDiff", "diff_moments", "diff_tables"]

_BEFORE, _AFTER = "_before", "_after"
_OWN = ("differs", "cell", "column", "before", "after")
"""Names that a result gives besides those of the table."""


@dataclass(frozen=True, slots=True)
class DiffCounts:
    """How many rows are of which sort; `unchanged` ones are equal in every column."""

    added: int
    removed: int
    changed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class TableDiff:
    """The difference between two states of a table, as lazy frames."""

    key: tuple[str, ...]
    """What tells rows apart."""
    columns: tuple[str, ...]
    """The columns that are compared: all but the key, in the table's order."""
    added: pl.LazyFrame
    """Rows whose key is only in the later state."""
    removed: pl.LazyFrame
    """Rows whose key is only in the earlier state."""
    pairs: pl.LazyFrame
    """Keys in both: the key, `differs` (names of the columns that are not equal), then each compared column
    as ``<name>_before`` and ``<name>_after``."""

    @property
    def changed(self) -> pl.LazyFrame:
        """The rows of `pairs` of which at least one column differs."""
        return self.pairs.filter(pl.col("differs").list.len() > 0)

    def counts(self) -> DiffCounts:
        """Count the rows of each sort; this reads both states."""
        differ = (pl.col("differs").list.len() > 0).sum()
        frames = [
            self.added.select(pl.len()),
            self.removed.select(pl.len()),
            self.pairs.select(changed=differ, unchanged=pl.len() - differ),
        ]
        added, removed, pairs = pl.collect_all(frames, engine="streaming")
        return DiffCounts(added.item(), removed.item(), *pairs.row(0))

    def cells(self) -> pl.LazyFrame:
        """Return one row for each cell that differs: the key, `column`, `before` and `after` as text.

        Nested values are spelled as JSON, bytes as hex; a null stays null.
        """
        schema = self.pairs.collect_schema()
        cells = [
            pl.struct(
                column=pl.lit(name),
                before=_spelled(name + _BEFORE, schema[name + _BEFORE]),
                after=_spelled(name + _AFTER, schema[name + _AFTER]),
            )
            for name in self.columns
        ]
        if not cells:
            nothing = pl.lit(None, pl.String)
            return self.pairs.select(*self.key, column=nothing, before=nothing, after=nothing).clear()
        return (
            self.changed.select(*self.key, "differs", cell=pl.concat_list(cells))
            .explode("cell", empty_as_null=False, keep_nulls=False)
            .unnest("cell")
            .filter(pl.col("column").is_in(pl.col("differs")))
            .drop("differs")
        )


def diff_tables(before: pl.LazyFrame, after: pl.LazyFrame, key: Sequence[str]) -> TableDiff:
    """Compare two frames row by row.

    Nulls are equal to nulls, and lists and structs are compared by content.

    Parameters
    ----------
    before, after
        Frames with the same columns and types; the order of columns and rows does not matter.
    key
        Columns that tell the rows of each frame apart. Null is a key like any other.

    Raises
    ------
    ProjectionError
        The frames have other columns or types (code ``schemas_differ``), the key is empty or no column of
        theirs (``unknown_key``), or two columns would get one name in the result (``name_clash``).
    """
    schema, other = before.collect_schema(), after.collect_schema()
    if dict(schema) != dict(other):
        faulty = [name for name in sorted({*schema, *other}) if schema.get(name) != other.get(name)]
        raise ProjectionError(
            "two frames with the same columns were expected, found "
            + "; ".join(
                f"{name}: {schema.get(name, 'none')} and {other.get(name, 'none')}" for name in faulty
            )
            + ". Compare states that one version of a recipe made",
            code="schemas_differ",
            columns=faulty,
        )
    names, columns = tuple(key), tuple(name for name in schema if name not in key)
    if not names or not set(names) <= set(schema):
        raise ProjectionError(
            f"a key of the columns {', '.join(schema)} was expected, found {list(names)}",
            code="unknown_key",
            columns=list(names),
        )
    made = [*names, *_OWN, *(name + side for name in columns for side in (_BEFORE, _AFTER))]
    if len(set(made)) < len(made):
        twice = sorted({name for name in made if made.count(name) > 1})
        raise ProjectionError(
            f"columns that stay apart with {_BEFORE} and {_AFTER} behind their names, and beside "
            f"{', '.join(_OWN)}, were expected, found {', '.join(twice)} twice; rename them first",
            code="name_clash",
            columns=twice,
        )
    return TableDiff(
        key=names,
        columns=columns,
        added=after.join(before.select(names), on=names, how="anti", nulls_equal=True).select(list(schema)),
        removed=before.join(after.select(names), on=names, how="anti", nulls_equal=True),
        pairs=_pairs(before, after, names, columns),
    )


def _pairs(
    before: pl.LazyFrame, after: pl.LazyFrame, key: tuple[str, ...], columns: tuple[str, ...]
) -> pl.LazyFrame:
    old = before.select(*key, *(pl.col(name).alias(name + _BEFORE) for name in columns))
    new = after.select(*key, *(pl.col(name).alias(name + _AFTER) for name in columns))
    both = old.join(new, on=key, how="inner", nulls_equal=True)
    names = [
        pl.when(pl.col(name + _BEFORE).ne_missing(pl.col(name + _AFTER))).then(pl.lit(name))
        for name in columns
    ]
    differs = pl.concat_list(names).list.drop_nulls() if names else pl.lit([], pl.List(pl.String))
    sides = [name + side for name in columns for side in (_BEFORE, _AFTER)]
    return both.with_columns(differs=differs).select(*key, "differs", *sides)


def _spelled(name: str, dtype: pl.DataType) -> pl.Expr:
    cell = pl.col(name)
    if dtype == pl.Binary:
        return cell.bin.encode("hex")
    if dtype.is_nested():
        # Only structs are spelled as JSON, so it becomes the member of one for a moment.
        text = pl.struct(cell=cell).struct.json_encode()
        spelled = text.str.strip_prefix('{"cell":').str.strip_suffix("}")
        return pl.when(cell.is_not_null()).then(spelled)
    return cell.cast(pl.String)


def diff_moments(
    then: Tables, now: Tables, name: str, *, registry: ProjectionRegistry = default_projections
) -> TableDiff:
    """Compare the table `name` as of two positions; see `diff_tables`.

    Raises
    ------
    NotFoundError
        No such table is registered (code ``unknown_projection``), or one side has none (``no_snapshot``).
    ProjectionError
        Other versions of the recipe made the two (``versions_differ``).
    """
    registry.get(name)
    before, after = then[name], now[name]
    versions = then.versions[name], now.versions[name]
    if versions[0] != versions[1]:
        raise ProjectionError(
            f"two states of {name} by one version of its recipe were expected, found versions {versions[0]} "
            f"and {versions[1]}; rebuild the table, then open both again",
            code="versions_differ",
            projection=name,
        )
    # Of an older version, which serves until the present one is built, the key may be another.
    return diff_tables(before, after, then.views[name].recipe.key)
