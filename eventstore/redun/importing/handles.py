"""Handles of a redun database become events that lead to the same valid and invalid states.

redun keeps a flag for each state and forgets which roll-backs set it; events say what happened. So the events
of a name are: all states and edges, which makes every state valid; a roll-back above each invalid state; and
those states again that are valid all the same, because they were reached anew after the roll-back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from eventstore.events import HandleAdvanced, HandleRecorded, HandleRolledBack
from eventstore.index import HandleStates
from eventstore.redun.importing import tables
from eventstore.redun.importing.adding import Adding
from eventstore.redun.importing.database import RedunDatabase

if TYPE_CHECKING:
    from eventstore.store import EventStore

__all__ = ["KEPT_VALID", "import_handles"]

KEPT_VALID = "handles that stay valid"
"""What `Adding.found` calls states that are invalid in the database and that no roll-back makes so: in the
log one never undoes the state that it begins at, not even where edges lead in a circle."""
_Kind = type[HandleAdvanced | HandleRecorded | HandleRolledBack]
_COLUMNS = ("kind", "handle_hash", "handle_name", "parents")


def import_handles(database: RedunDatabase, adding: Adding, store: EventStore) -> None:
    """Add states, edges and roll-backs, as far as the store does not say the same already."""
    if not database.count(tables.handle):
        return
    history = _History(store)
    names = sa.select(tables.handle.c.fullname).distinct()
    for page in list(database.stream(names, order=tables.handle.c.fullname)):
        for (name,) in page:
            _Name(database, adding, history, name).run()
    adding.append()


class _History:
    """The states and edges that events have made known: about 900 bytes a state."""

    def __init__(self, store: EventStore) -> None:
        self.states = HandleStates()
        self.recorded: set[str] = set()
        """States with an event of their own; others are only known as the parent of one."""
        self._edges: set[tuple[str, str]] = set()
        kinds = [each.kind for each in (HandleAdvanced, HandleRecorded, HandleRolledBack)]
        for batch in store.read(kinds=[*kinds, "handle.forked"], columns=_COLUMNS, tail=True):
            for event in zip(*(batch.column(name).to_pylist() for name in _COLUMNS), strict=True):
                self.apply(*event)

    def apply(self, kind: str, handle_hash: str | None, name: str, parents: list[str] | None) -> None:
        self.states.apply(kind, {"handle_hash": handle_hash, "handle_name": name, "parents": parents})
        if handle_hash is not None:
            self._edges.update((parent, handle_hash) for parent in parents or ())
        if handle_hash is not None and kind == HandleRecorded.kind:
            self.recorded.add(handle_hash)

    def has_edge(self, parent: str, child: str) -> bool:
        return (parent, child) in self._edges


class _Name:
    """All handles of one full name."""

    def __init__(self, database: RedunDatabase, adding: Adding, history: _History, name: str) -> None:
        self._database = database
        self._adding = adding
        self._history = history
        self._states = history.states
        self._name = name

    def run(self) -> None:
        if not self._add_states():
            return
        after = self._states.layer()
        events = list(self._corrections(after))
        if any(after.is_valid(row.hash) != self._states.is_valid(row.hash) for row, _ in self._rows()):
            for event in events:
                self._add(*event)
        kept = (row for row, _ in self._rows() if after.is_valid(row.hash) and not row.is_valid)
        self._adding.found[KEPT_VALID] += sum(1 for _ in kept)

    def _corrections(self, states: HandleStates) -> Iterator[tuple[_Kind, str, dict[str, Any]]]:
        """Yield what leads to the flags of the database, as far as anything does; `states` go along."""
        for row, _ in self._rows():  # what earlier events left invalid would be in the way of roll-backs
            if not states.is_valid(row.hash):
                yield self._applied(states, *_recorded(row))
        valid = {row.hash for row, _ in self._rows() if row.is_valid}
        for from_valid in (True, False):  # in a circle of invalid states only the first lead to all of them
            for row, parents in self._rows():
                for parent in parents:
                    if not row.is_valid and states.is_valid(row.hash) and (parent in valid) == from_valid:
                        yield self._applied(states, HandleRolledBack, parent, {})
        for row, _ in self._rows():
            if row.is_valid and not states.is_valid(row.hash):
                yield self._applied(states, *_recorded(row))

    def _applied(
        self, states: HandleStates, kind: _Kind, key: str, more: dict[str, Any]
    ) -> tuple[_Kind, str, dict[str, Any]]:
        states.apply(kind.kind, {"handle_hash": key, "handle_name": self._name})
        return kind, key, more

    def _rows(self) -> Iterator[tuple[Any, list[str]]]:
        """Yield each handle of this name, and its parents."""
        handle, edge = tables.handle, tables.handle_edge.c
        mine = sa.select(handle).where(handle.c.fullname == self._name)
        for page in self._database.stream(mine, order=handle):
            parents = self._database.grouped(edge.child_id, edge.parent_id, [row.hash for row in page])
            for row in page:
                yield row, parents[row.hash]

    def _add_states(self) -> bool:
        """Add what is new; returns whether the store and the database differ in anything."""
        differs = False
        for row, parents in self._rows():
            self._adding.looked_at("handles")
            if row.hash not in self._history.recorded:
                differs = True
                self._add(*_recorded(row))
            new = [parent for parent in parents if not self._history.has_edge(parent, row.hash)]
            if new:
                differs = True
                self._add(HandleAdvanced, row.hash, {"parents": new})
            differs |= self._states.is_valid(row.hash) != row.is_valid
        return differs

    def _add(self, kind: _Kind, key: str, more: dict[str, Any]) -> None:
        event = self._adding.add(
            tables.handle.name, key, kind, handle_hash=key, handle_name=self._name, **more
        )
        if event is not None:
            self._history.apply(kind.kind, key, self._name, more.get("parents"))


def _recorded(row: Any) -> tuple[_Kind, str, dict[str, Any]]:
    return HandleRecorded, row.hash, {"handle_key": row.key, "value_hash": row.value_hash}
