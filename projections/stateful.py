"""Recipes that look at the state before: what an event does to a row depends on what was known until then.

Their fold is given the state so far and says the rows that it changed, each whole. So the newest row of a key
counts, and runs of changed rows are joined like those of any recipe by key.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from projections.joined import JoinedProjection
from projections.projection import Fold

__all__ = ["ChangingFold", "StatefulProjection"]


class ChangingFold(Fold, Protocol):
    """A fold under way that knows which rows it changed."""

    def changes(self) -> pl.DataFrame:
        """Return each row of the state that events added so far have changed, as it is after them.

        A row that was changed and changed back is among them: no rows means that the table was the same at
        every position on the way.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class StatefulProjection(JoinedProjection):
    """A recipe whose fold changes rows of the state before; of each column the last cell is kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.keeps_row("last") or self.first_event_of:
            raise self.error(
                "bad_projection",
                "columns of the state that all keep 'last', and no `first_event_of`",
                "something else",
                "rows that changed are whole, so the newest counts",
            )

    @abstractmethod
    def begin(self, state: pl.DataFrame | None = None) -> ChangingFold:
        """Start to fold after `state`, or from the first event."""
