"""Recipes that say rows: each event gives rows, and rows with one key become one by what columns keep.

This is the usual kind of projection. An event is folded without the state before it. Batches are reduced on
their own and reduced together later, so a fold costs what is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from projections.joined import JoinedProjection
from projections.projection import DataType, Fold

__all__ = ["KeyedProjection", "Rows", "from_payload"]

Rows = Callable[[pl.LazyFrame], pl.LazyFrame]
"""Pure step from events to rows with the state's columns, ``position`` (the event's) among them."""

_MERGE_ROWS = 500_000
"""Partial states are merged when as many rows wait, or as many as the merged state has if that is more."""


@dataclass(frozen=True, eq=False, kw_only=True)
class KeyedProjection(JoinedProjection):
    """A recipe by one function from events to rows; further parameters are those of `JoinedProjection`.

    Parameters
    ----------
    rows
        From events in position order to rows with exactly the state's columns. Rows of one event keep their
        order; the order between events is restored by ``position``.
    """

    rows: Rows

    def begin(self, state: pl.DataFrame | None = None) -> Fold:  # noqa: D102 - see Projection
        return _KeyedFold(self, state)

    def partial(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return the state that one batch gives on its own."""
        position = events["position"][0] if events.height else None
        with self.watched("rows", position):
            frame = self.rows(events.lazy()).collect(engine="in-memory")
        frame = self.check(frame, self.state_schema, "rows", position)
        frame = frame.filter(pl.all_horizontal(pl.col(self.group).is_not_null()))
        # Stable, so the rows of one event stay in their order.
        if not frame["position"].is_sorted():
            frame = frame.sort("position", maintain_order=True)
        return self.reduce(frame)


class _KeyedFold:
    """Partial states wait until there are as many rows as are merged: the work stays linear."""

    def __init__(self, recipe: KeyedProjection, state: pl.DataFrame | None) -> None:
        self._recipe = recipe
        self._states = [] if state is None else [state]
        self._waiting = 0

    def add(self, events: pl.DataFrame) -> None:
        partial = self._recipe.partial(events)
        self._states.append(partial)
        self._waiting += partial.height
        if self._waiting >= max(_MERGE_ROWS, self._states[0].height):
            self.state()

    def state(self) -> pl.DataFrame:
        merged = self._recipe.merge(self._states)
        self._states, self._waiting = [merged], 0
        return merged


def from_payload(events: pl.LazyFrame, fields: Mapping[str, DataType]) -> pl.LazyFrame:
    """Add the given fields of a user's own kind to its events, read from the JSON in ``payload``.

    A field that the JSON lacks is null; one that cannot be read as its type fails the recipe.
    """
    decoded = pl.col("payload").str.json_decode(pl.Struct(dict(fields)))
    return events.with_columns(decoded.alias("payload")).unnest("payload")
