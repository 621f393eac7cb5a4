"""States of handles, folded from their events one after another; see REDUN's rules in docs/format.md.

A state is valid from the event that mentions it on, until a rollback of a state before it reaches it over
valid states of the same name. The rolled-back state itself keeps its flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from eventstore.index.facts import HandleFacts
from eventstore.index.families import Entry, Family

__all__ = ["HandleStates"]

Below = Callable[[str], HandleFacts | None]
Children = Callable[[str], Sequence[str]]


class HandleStates:
    """States that events change, on top of those that are known already.

    Parameters
    ----------
    below, children_below
        An earlier state by hash, and what follows from it; never changed here.
    """

    def __init__(self, below: Below = lambda _: None, children_below: Children = lambda _: ()) -> None:
        self._below = below
        self._children_below = children_below
        self._states: dict[str, HandleFacts] = {}
        self._children: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def layer(self) -> HandleStates:
        """Return states on top of these, which changes to them leave as they are."""
        return HandleStates(self.get, self.children)

    def knows(self, handle_hash: str) -> bool:
        """Whether an event has mentioned the state."""
        return self.get(handle_hash) is not None

    def is_valid(self, handle_hash: str) -> bool:
        """Whether the state is known and valid."""
        state = self.get(handle_hash)
        return state is not None and state.is_valid

    def get(self, handle_hash: str) -> HandleFacts | None:
        """Return a state, or None if no event has mentioned it."""
        found = self._states.get(handle_hash)
        return found if found is not None else self._below(handle_hash)

    def children(self, handle_hash: str) -> list[str]:
        """Return what follows from a state, each once."""
        both = (*self._children_below(handle_hash), *self._children.get(handle_hash, ()))
        return list(dict.fromkeys(both))

    def apply(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take in one event; an erased one, without hash, says nothing."""
        handle_hash = fields.get("handle_hash")
        if handle_hash is None:
            return
        name = fields["handle_name"]
        if kind == "handle.rolled_back":
            self._roll_back(handle_hash, name)
            return
        for parent in fields.get("parents") or ():
            self._validate(parent, name)
            self._children.setdefault(parent, {})[handle_hash] = None
        self._validate(handle_hash, name, fields.get("handle_key"), fields.get("value_hash"))

    def entries(self) -> Iterator[Entry]:
        """Yield the states and edges that events have changed, as records."""
        for handle_hash, state in self._states.items():
            yield Family.HANDLE, handle_hash, (state.name, state.key, state.value_hash, state.is_valid)
        for parent, children in self._children.items():
            for child in children:
                yield Family.HANDLE_CHILD, parent, (child,)

    def _validate(
        self, handle_hash: str, name: str, key: str | None = None, value_hash: str | None = None
    ) -> None:
        known = self.get(handle_hash)
        if known is None:
            self._states[handle_hash] = HandleFacts(handle_hash, name, key or "", value_hash, True)
        elif (
            not known.is_valid
            or (value_hash is not None and known.value_hash is None)
            or (key and not known.key)
        ):
            self._states[handle_hash] = known._replace(
                is_valid=True, key=known.key or key or "", value_hash=known.value_hash or value_hash
            )

    def _roll_back(self, start: str, name: str) -> None:
        reached: dict[str, None] = {}
        waiting = [start]
        while waiting:
            state = self.get(handle_hash := waiting.pop())
            if state is not None and state.is_valid and state.name == name:
                fresh = [child for child in self.children(handle_hash) if child not in reached]
                waiting.extend(fresh)
                reached.update(dict.fromkeys(fresh))
        reached.pop(start, None)
        for handle_hash in reached:
            state = self.get(handle_hash)
            if state is not None and state.is_valid:
                self._states[handle_hash] = state._replace(is_valid=False)
