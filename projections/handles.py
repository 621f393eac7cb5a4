"""The read models of handles: `handles`, with which states are valid, and `handle_edges`.

Validity depends on the order of rollbacks and on the edges known at each of them, so it cannot be said by
rows with a key: `handles` folds event by event. Handles are rare; edges alone are rows like any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from projections.keyed import KeyedProjection
from projections.projection import Column, Fold, Projection, text, whole

__all__ = ["HANDLES", "HANDLE_EDGES", "HandlesProjection"]

_STATE = {
    "handle_hash": text("the state"),
    "position": whole("first event that makes it known"),
    "handle_name": text("full name"),
    "handle_key": text("key, once it is known"),
    "value_hash": text("value, once it is known"),
    "is_valid": Column(pl.Boolean, "valid now"),
    "children": Column(pl.List(pl.String), "states that follow from it, each once"),
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


class _HandleFold:
    """Folds event by event, over those states alone that events can touch; the others stay as they are."""

    def __init__(self, recipe: HandlesProjection, state: pl.DataFrame | None) -> None:
        self._schema = recipe.state_schema
        self._rest = self._schema.to_frame() if state is None else state
        self._handles: dict[str, _Handle] = {}

    def _take(self, events: pl.DataFrame) -> None:
        """Take from the rest what events speak of: of a rollback all of its name, and their children."""
        rolled_back = events.filter(pl.col("kind") == "handle.rolled_back")["handle_name"]
        names = set(rolled_back.drop_nulls())
        spoken = [events["handle_hash"], events["parents"].explode()]
        of_this_name = pl.col("handle_name").is_in(sorted(names))
        if names:
            of_name = self._rest.filter(of_this_name)
            taken_before = [one for one in self._handles.values() if one.name in names]
            known = {child for one in taken_before for child in one.children}
            spoken += [of_name["children"].explode(), pl.Series(list(known), dtype=pl.String)]
        wanted = pl.col("handle_hash").is_in(pl.concat(spoken).drop_nulls().unique().implode())
        taken = self._rest.with_columns(taken=wanted | of_this_name)
        rows = taken.filter("taken").drop("taken").iter_rows()
        for hash_, position, name, key, value_hash, is_valid, children in rows:
            known_children = dict.fromkeys(children)
            self._handles[hash_] = _Handle(position, name, key, value_hash, is_valid, known_children)
        self._rest = taken.filter(~pl.col("taken")).drop("taken")

    def add(self, events: pl.DataFrame) -> None:
        if self._rest.height:
            self._take(events)
        columns = ("position", "kind", "handle_hash", "handle_name", "handle_key", "value_hash", "parents")
        for position, kind, hash_, name, key, value_hash, parents in events.select(columns).iter_rows():
            if hash_ is None:  # erased
                continue
            if kind == "handle.rolled_back":
                self._roll_back(hash_, name)
                continue
            for parent in parents or ():
                self._validate(parent, position, name).children[hash_] = None
            handle = self._validate(hash_, position, name)
            if handle.key is None:
                handle.key = key
            if handle.value_hash is None:
                handle.value_hash = value_hash

    def _validate(self, hash_: str, position: int, name: str) -> _Handle:
        handle = self._handles.setdefault(hash_, _Handle(position, name))
        handle.is_valid = True
        return handle

    def _roll_back(self, start: str, name: str) -> None:
        """Invalidate what follows from `start` over valid states of this name; `start` keeps its flag."""
        reached: set[str] = set()
        waiting = [start]
        while waiting:
            handle = self._handles.get(waiting.pop())
            if handle is None or handle.name != name or not handle.is_valid:
                continue
            fresh = [child for child in handle.children if child not in reached]
            reached.update(fresh)
            waiting.extend(fresh)
        for hash_ in reached - {start}:
            self._handles[hash_].is_valid = False

    def state(self) -> pl.DataFrame:
        rows = [
            (hash_, one.position, one.name, one.key, one.value_hash, one.is_valid, list(one.children))
            for hash_, one in self._handles.items()
        ]
        return pl.concat([self._rest, pl.DataFrame(rows, schema=self._schema, orient="row")])


class HandlesProjection(Projection):
    """Validity of handles: what is advanced becomes valid, what follows a rollback invalid."""

    def begin(self, state: pl.DataFrame | None = None) -> Fold:  # noqa: D102 - see Projection
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
