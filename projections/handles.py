"""The read models of handles: `handles`, with which states are valid, and `handle_edges`.

Validity depends on the order of rollbacks and on the edges known at each of them, so an event alone says no
row: `handles` folds event by event, from the state before. Handles are rare; edges are rows like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from projections.keyed import KeyedProjection
from projections.projection import Column, text, whole
from projections.stateful import ChangingFold, StatefulProjection

__all__ = ["HANDLES", "HANDLE_EDGES", "HandlesProjection"]

_STATE = {
    "handle_hash": text("the state", "last"),
    "position": whole("first event that makes it known", "last"),
    "handle_name": text("full name", "last"),
    "handle_key": text("key, once it is known", "last"),
    "value_hash": text("value, once it is known", "last"),
    "is_valid": Column(pl.Boolean, "valid now", "last"),
    "children": Column(pl.List(pl.String), "states that follow from it, each once", "last"),
}


@dataclass(slots=True)
class _Handle:
    position: int
    name: str
    key: str | None = None
    value_hash: str | None = None
    is_valid: bool = True
    children: dict[str, None] = field(default_factory=dict)
    """Keeps the order and each child once."""
    is_changed: bool = False

    def lead_to(self, child: str) -> None:
        if child not in self.children:
            self.children[child] = None
            self.is_changed = True

    def fill(self, key: str | None, value_hash: str | None) -> None:
        if self.key is None and key is not None:
            self.key, self.is_changed = key, True
        if self.value_hash is None and value_hash is not None:
            self.value_hash, self.is_changed = value_hash, True

    def set_valid(self, *, is_valid: bool) -> None:
        if self.is_valid != is_valid:
            self.is_valid, self.is_changed = is_valid, True


class _HandleFold:
    """Folds event by event, over those states alone that events reach; the others stay rows of a frame."""

    def __init__(self, recipe: HandlesProjection, state: pl.DataFrame | None) -> None:
        self._recipe = recipe
        self._before = recipe.state_schema.to_frame() if state is None else state
        known = self._before["handle_hash"].to_list()
        self._places = dict(zip(known, range(len(known)), strict=True))
        self._handles: dict[str, _Handle] = {}

    def add(self, events: pl.DataFrame) -> None:
        columns = ("position", "kind", "handle_hash", "handle_name", "handle_key", "value_hash", "parents")
        for position, kind, hash_, name, key, value_hash, parents in events.select(columns).iter_rows():
            if hash_ is None:  # erased
                continue
            if kind == "handle.rolled_back":
                self._roll_back(hash_, name)
                continue
            for parent in parents or ():
                self._mention(parent, position, name).lead_to(hash_)
            self._mention(hash_, position, name).fill(key, value_hash)

    def _find(self, hash_: str) -> _Handle | None:
        """Return a state that was known before or became so, to be changed from now on; None if neither."""
        found = self._handles.get(hash_)
        if found is None and (place := self._places.get(hash_)) is not None:
            _, position, name, key, value_hash, is_valid, children = self._before.row(place)
            known_children = dict.fromkeys(children)
            found = _Handle(position, name, key, value_hash, is_valid, known_children)
            self._handles[hash_] = found
        return found

    def _mention(self, hash_: str, position: int, name: str) -> _Handle:
        """Return a state, valid from now on."""
        handle = self._find(hash_)
        if handle is None:
            handle = self._handles[hash_] = _Handle(position, name, is_changed=True)
        handle.set_valid(is_valid=True)
        return handle

    def _roll_back(self, start: str, name: str) -> None:
        """Invalidate what follows from `start` over valid states of this name; `start` keeps its flag."""
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            handle = self._find(waiting.pop())
            if handle is None or handle.name != name or not handle.is_valid:
                continue
            fresh = [child for child in handle.children if child not in reached]
            reached.update(fresh)
            waiting.extend(fresh)
        for hash_ in reached - {start}:
            self._handles[hash_].set_valid(is_valid=False)  # found above: each child has a row of its own

    def changes(self) -> pl.DataFrame:
        rows = [
            (hash_, one.position, one.name, one.key, one.value_hash, one.is_valid, list(one.children))
            for hash_, one in self._handles.items()
            if one.is_changed
        ]
        return pl.DataFrame(rows, schema=self._recipe.state_schema, orient="row")

    def state(self) -> pl.DataFrame:
        return self._recipe.merge([self._before, self.changes()])


class HandlesProjection(StatefulProjection):
    """Validity of handles: what is advanced becomes valid, what follows a rollback invalid."""

    def begin(self, state: pl.DataFrame | None = None) -> ChangingFold:  # noqa: D102 - see Projection
        return _HandleFold(self, state)


def _table(state: pl.LazyFrame) -> pl.LazyFrame:
    return state.drop("children")


def _edge_rows(events: pl.LazyFrame) -> pl.LazyFrame:
    return (
        events.filter(pl.col("parents").list.len() > 0)
        .select(
            "position",
            "handle_name",
            "parents",
            child_hash="handle_hash",
            kind=pl.when(pl.col("kind") == "handle.forked").then(pl.lit("fork")).otherwise(pl.lit("advance")),
        )
        .explode("parents")
        .rename({"parents": "parent_hash"})
    )


HANDLES = HandlesProjection(
    name="handles",
    version=1,
    doc="One state of a handle that was recorded, advanced or forked.",
    kinds=("handle.recorded", "handle.advanced", "handle.forked", "handle.rolled_back"),
    inputs=("handle_hash", "handle_key", "handle_name", "parents", "value_hash"),
    key=("handle_hash",),
    columns={
        "handle_hash": text("the state's hash"),
        "position": whole("first event that makes it known"),
        "handle_name": text("full name of the handle, shared by its states"),
        "handle_key": text("key of the state: of a fork, else empty; null where no event says it"),
        "value_hash": text("value that holds the handle; null until it is recorded"),
        "is_valid": Column(pl.Boolean, "false after a rollback above it, until it is mentioned again"),
    },
    state=_STATE,
    finish=_table,
)

HANDLE_EDGES = KeyedProjection(
    name="handle_edges",
    version=1,
    doc="One step from a state of a handle to the next.",
    kinds=("handle.advanced", "handle.forked"),
    inputs=("handle_hash", "handle_name", "parents"),
    key=("parent_hash", "child_hash"),
    columns={
        "parent_hash": text("the state before"),
        "child_hash": text("the state after"),
        "position": whole("first event that made the edge"),
        "kind": text("advance or fork, as first recorded"),
        "handle_name": text("full name of the handle"),
    },
    rows=_edge_rows,
)
