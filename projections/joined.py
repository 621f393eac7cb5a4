"""Recipes whose states can be joined: rows by key, of which neighbouring ranges of positions say some each.

Each column says which of the cells of one key it keeps, and all ways of keeping are associative. So a table
may be a list of runs, each the state of its range alone, joined when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from projections.projection import Keep, Projection

__all__ = ["JoinedProjection"]

_KEEP: Mapping[Keep, Callable[[pl.Expr], pl.Expr]] = {
    "any": lambda cell: cell.any(),
    "first": lambda cell: cell.first(),
    "first_non_null": lambda cell: cell.drop_nulls().first(),
    "last": lambda cell: cell.last(),
    "last_non_null": lambda cell: cell.drop_nulls().last(),
    "max": lambda cell: cell.max(),
    "min": lambda cell: cell.min(),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class JoinedProjection(Projection):
    """A recipe whose states of neighbouring ranges are joined by key.

    Parameters
    ----------
    state_key
        What tells the rows of the state apart, where it is not `key`.
    first_event_of
        Columns that name a thing which is stated once, the first of the key: only the rows of the first event
        that speaks of it stay, those of later ones are dropped whole, whatever they say.
    """

    state_key: tuple[str, ...] = ()
    first_event_of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._take_names("state_key", "first_event_of")
        if self.group[0] != self.key[0] or (self.state_key and self.finish is None):
            raise self.error(
                "bad_projection",
                f"a `state_key` that begins with {self.key[0]!r}, and a `finish`",
                f"{self.state_key}",
                "let state and table begin with the same column",
            )
        found = [name for name in self.group if name not in self.state_columns]
        if found:
            raise self.error("bad_projection", "a state with these columns", f"no {found}", "add them")
        if self.first_event_of not in ((), self.group[:1]):
            raise self.error(
                "bad_projection",
                f"`first_event_of` to be {self.group[:1]}",
                f"{self.first_event_of}",
                "put it first in the key",
            )
        if self.state is not None and "position" not in self.state:
            raise self.error("bad_projection", "`position` in the state", "none", "add it")

    @property
    def group(self) -> tuple[str, ...]:
        """The columns by which rows of the state are told apart."""
        return self.state_key or self.key

    def table(self, state: pl.DataFrame) -> pl.DataFrame:
        """Return the finished table of a state; see `Projection.table`.

        Raises
        ------
        ProjectionError
            Also if `finish` gave a first column of the key that is not the state's (``key_changed``): parts
            of a table are finished on their own and put side by side by this column.
        """
        table = super().table(state)
        if self.finish is None or not table.height:
            return table
        by = self.key[0]
        strange = table.select(by).join(state.select(by), on=by, how="anti")
        if strange.height:
            raise self.error(
                "key_changed",
                f"`finish` to leave {by!r} as it is in the state",
                f"{strange.item(0, 0)!r}, which the state does not have",
                "make the key in `rows`",
            )
        return table

    @property
    def together(self) -> tuple[str, ...]:
        """The columns of which rows that agree are finished or reduced together."""
        return self.group[:1] if self.finish is not None or self.first_event_of else self.group

    def merge(self, states: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return one state for those of neighbouring ranges, given in position order."""
        if len(states) == 1:
            return states[0]
        return self.reduce(pl.concat(states)) if states else self.state_schema.to_frame()

    def reduce(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one row for each key; `rows` are in position order within each key."""
        return self.reduced(rows.lazy()).collect(engine="in-memory")

    def reduce_sorted(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one row for each key, as `reduce`, of rows that are sorted by it; they stay so.

        Rows whose key comes once, as most do, are passed on as they are.
        """
        if self.first_event_of:
            return self.reduce(rows)
        same = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in self.group)
        again = rows.lazy().select(same.fill_null(value=False)).collect(engine="in-memory").to_series()
        if not again.any():
            return rows
        if self.keeps_row("first"):
            return rows.filter(~again)
        if self.keeps_row("last"):
            return rows.filter(~again.shift(-1, fill_value=False))
        shared = again | again.shift(-1, fill_value=False)
        joined = self.reduce(rows.filter(shared))
        return pl.concat([rows.filter(~shared), joined]).sort(self.group)

    def keeps_row(self, which: Literal["first", "last"]) -> bool:
        """Whether of the rows with one key the first, or the last, stays as it is."""
        return all(column.keep == which or name in self.group for name, column in self.state_columns.items())

    def reduced(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return one row for each key, as `reduce`, lazily."""
        columns = self.state_columns
        if self.first_event_of:
            return rows.filter(pl.col("position") == pl.col("position").min().over(self.first_event_of))
        if self.keeps_row("first"):
            return rows.unique(subset=list(self.group), keep="first", maintain_order=False)
        if self.keeps_row("last"):
            return rows.unique(subset=list(self.group), keep="last", maintain_order=False)
        cells = [
            _KEEP[column.keep](pl.col(name)).alias(name)
            for name, column in columns.items()
            if name not in self.group
        ]
        return rows.group_by(self.group).agg(cells).select(list(columns))
