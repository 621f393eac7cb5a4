"""What people ask of handles, from `handles` and `handle_edges`: what is valid, and what led where."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import polars as pl

from projections.tables import Tables

__all__ = ["HANDLE_TABLES", "TableHandles", "current_handles", "handle_lineage"]

HANDLE_TABLES = ("handles", "handle_edges")
"""The tables that these questions read."""

Way = Literal["above", "below"]


class TableHandles:
    """Answers which states are valid as of the tables; for what came since, see `EventStore.lookup`.

    Parameters
    ----------
    tables
        With `handles` open.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def is_valid_handle(self, handle_hash: str) -> bool:
        """Whether the state is recorded, and not rolled back since it was last mentioned."""
        row = self._tables.lookup("handles", handle_hash)
        return row is not None and bool(row["is_valid"])

    def knows_handle(self, handle_hash: str) -> bool:
        """Whether an event has made the state known."""
        return self._tables.lookup("handles", handle_hash) is not None


def current_handles(tables: Tables, names: Collection[str] | None = None) -> pl.LazyFrame:
    """Return the states where handles stand now: valid ones from which no valid state follows.

    Parameters
    ----------
    names
        Full names of handles; None means all.

    Returns
    -------
    Rows of `handles`. A handle that branched has several; of states that follow from each other, as after a
    merge with a state before, none is returned.
    """
    valid = tables["handles"].filter("is_valid")
    left = (
        tables["handle_edges"]
        .filter(pl.col("parent_hash") != pl.col("child_hash"))
        .join(valid.select(child_hash="handle_hash"), on="child_hash", how="semi")
    )
    current = valid.join(left, left_on="handle_hash", right_on="parent_hash", how="anti")
    return current if names is None else current.filter(pl.col("handle_name").is_in(list(names)))


def handle_lineage(tables: Tables, handle_hash: str, *, way: Way = "above") -> pl.DataFrame:
    """Return a state and all that led to it, or (``way="below"``) all that followed from it.

    Edges are followed whether states are valid or not, and across names.

    Returns
    -------
    Rows of `handles` with `distance` before them: how many steps away at least, 0 for the state itself.
    Sorted by distance, then as the states became known. Empty for a state that is not known.
    """
    here, there = ("child_hash", "parent_hash") if way == "above" else ("parent_hash", "child_hash")
    edges = tables["handle_edges"].select("parent_hash", "child_hash").collect()
    neighbours: dict[str, list[str]] = {}
    for start, end in edges.select(here, there).iter_rows():
        neighbours.setdefault(start, []).append(end)
    distances, layer = {handle_hash: 0}, [handle_hash]
    while layer:
        layer = list(dict.fromkeys(end for start in layer for end in neighbours.get(start, ())))
        layer = [end for end in layer if end not in distances]
        distances |= dict.fromkeys(layer, max(distances.values()) + 1)
    found = pl.LazyFrame(
        {"handle_hash": list(distances), "distance": list(distances.values())},
        schema={"handle_hash": pl.String, "distance": pl.Int64},
    )
    rows = found.join(tables["handles"], on="handle_hash").sort("distance", "position", "handle_hash")
    return rows.select("distance", pl.exclude("distance")).collect()
