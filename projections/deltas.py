"""Deltas: what events made of one table, while they are folded and after; one class for each kind of recipe.

What a keyed recipe has folded so far waits in memory until it is spilled to scratch files as sorted rows,
which are merged at the end. A recipe that needs the state before reads it at the first event of its kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from projections.keyed import KeyedProjection
from projections.merge import merge_sorted, sorted_chunks
from projections.projection import Fold, Projection
from projections.run import CHUNK_ROWS
from projections.scratch import SPILL_ROWS, Scratch, SpilledRows
from projections.stateful import ChangingFold, StatefulProjection

__all__ = ["ChangesDelta", "Delta", "KeyedDelta", "ReadState", "StateDelta", "delta_of"]

ReadState = Callable[[], pl.DataFrame]
"""Reads the state that a fold goes on from."""

_MERGE_ROWS = 500_000
"""Waiting states are merged when as many rows wait, or as many as the merged state has if that is more."""
_FEW_ROWS = 10_000
"""A batch gives a small table so few rows."""


class KeyedDelta:
    """What events made of a keyed table, while they are folded and after."""

    def __init__(self, recipe: KeyedProjection, start: int) -> None:
        self.recipe = recipe
        self.end = start
        self._states: list[pl.DataFrame] = []
        self._spilled: list[SpilledRows] = []
        self._spilled_rows = 0
        self._waiting = 0
        self.size_bytes = 0

    @property
    def rows(self) -> int:
        """Rows at most; some may still become one."""
        return self._spilled_rows + sum(state.height for state in self._states)

    @property
    def empty(self) -> bool:
        """Whether the events gave no row."""
        return not self.rows

    def add(self, events: pl.DataFrame) -> None:
        """Fold the next events."""
        partial = _compacted(self.recipe.partial(events))
        self._states.append(partial)
        self._waiting += partial.height
        if self._waiting >= max(_MERGE_ROWS, self._states[0].height):
            self._merge()
        else:
            self.size_bytes += int(partial.estimated_size())

    def _merge(self) -> pl.DataFrame:
        merged = self.recipe.merge(self._states)
        self._states, self._waiting = [merged], 0
        self.size_bytes = int(merged.estimated_size())
        return merged

    def _sorted(self) -> pl.DataFrame:
        """Return what waits, sorted, and let go of it."""
        states, self._states, self._waiting, self.size_bytes = self._states, [], 0, 0
        if not states:
            return self.recipe.state_schema.to_frame()
        waiting = pl.concat(states).sort(self.recipe.group, maintain_order=True)
        return self.recipe.reduce_sorted(waiting)

    def spill(self, scratch: Scratch) -> None:
        """Move what waits to scratch files."""
        merged = self._sorted()
        self._spilled_rows += merged.height
        if merged.height:
            self._spilled.append(scratch.write(sorted_chunks(merged, 8 * CHUNK_ROWS)))

    def sequences(self) -> list[Iterator[pl.DataFrame]]:
        """Return sequences of sorted batches of the state; to be read once."""
        rest = self._sorted()
        # Many sequences at once: each gets a smaller part of the memory.
        rows = SPILL_ROWS * max(1, min(16, 48 // max(1, len(self._spilled))))
        return [
            *(one.chunks(rows) for one in self._spilled),
            *([sorted_chunks(rest, CHUNK_ROWS)] if rest.height else []),
        ]

    def frame(self) -> pl.DataFrame:
        """Return the whole state, sorted; only where it is known to be small."""
        batches = list(
            merge_sorted(
                self.sequences(),
                key=self.recipe.group,
                together=self.recipe.together,
                reduce=self.recipe.reduce_sorted,
            )
        )
        return pl.concat(batches) if batches else self.recipe.state_schema.to_frame()


def _compacted(state: pl.DataFrame) -> pl.DataFrame:
    """Return rows whose texts are their own: else few rows keep the texts of their whole batch in memory."""
    if state.height > _FEW_ROWS:
        return state  # these are spilled before long
    texts = [name for name, dtype in state.schema.items() if dtype == pl.String]
    return state.with_columns(pl.concat_str([pl.col(name), pl.lit("")]).alias(name) for name in texts)


class ChangesDelta:
    """The rows that events changed of a table, by a recipe that looks at the state before."""

    def __init__(self, recipe: StatefulProjection, before: ReadState | None, start: int) -> None:
        self.recipe = recipe
        self.end = start
        self._before = before
        self._fold: ChangingFold | None = None
        self._frame: pl.DataFrame | None = None
        self.size_bytes = 0

    @property
    def rows(self) -> int:
        """How many rows were changed."""
        return self.frame().height

    @property
    def empty(self) -> bool:
        """Whether the events changed no row."""
        return not self.rows

    def add(self, events: pl.DataFrame) -> None:
        """Fold the next events."""
        if self._fold is None:
            self._fold = self.recipe.begin(None if self._before is None else self._before())
        self._fold.add(events)
        self._frame = None

    def sequences(self) -> list[Iterator[pl.DataFrame]]:
        """Return the changed rows as one sequence of sorted batches."""
        return [] if self.empty else [sorted_chunks(self.frame(), CHUNK_ROWS)]

    def frame(self) -> pl.DataFrame:
        """Return the changed rows, sorted."""
        if self._frame is None:
            empty = self.recipe.state_schema.to_frame()
            self._frame = empty if self._fold is None else self._fold.changes().sort(self.recipe.group)
        return self._frame


class StateDelta:
    """The whole state of a general recipe after events."""

    def __init__(self, recipe: Projection, before: ReadState | None, start: int) -> None:
        self.recipe = recipe
        self.end = start
        self._before = before
        self._fold: Fold | None = None
        self.size_bytes = 0

    @property
    def empty(self) -> bool:
        """Whether there were no events."""
        return self._fold is None

    def add(self, events: pl.DataFrame) -> None:
        """Fold the next events."""
        self._begun().add(events)

    def _begun(self) -> Fold:
        if self._fold is None:
            self._fold = self.recipe.begin(None if self._before is None else self._before())
        return self._fold

    def state(self) -> pl.DataFrame:
        """Return the state, sorted by the table's key where it has that."""
        state = self._begun().state()
        return state.sort(self.recipe.key) if set(self.recipe.key) <= set(state.columns) else state

    def sequences(self) -> list[Iterator[pl.DataFrame]]:
        """Return the state as the one sequence that it is."""
        return [iter([self.state()])]


Delta = KeyedDelta | ChangesDelta | StateDelta
"""What events made of a table, as its kind of recipe says it."""


def delta_of(recipe: Projection, before: ReadState | None, start: int) -> Delta:
    """Return the delta of a recipe, without events yet.

    Parameters
    ----------
    before
        Reads the state before `start`; None where there is none. A keyed recipe needs none.
    """
    if isinstance(recipe, KeyedProjection):
        return KeyedDelta(recipe, start)
    if isinstance(recipe, StatefulProjection):
        return ChangesDelta(recipe, before, start)
    return StateDelta(recipe, before, start)
