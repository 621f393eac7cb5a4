"""Handles: named states of something outside, such as a database, that calls lead from one to the next.

A handle never holds the state itself, only a hash that says how it came about. Handles are immutable: a
fork or a call gives a new one that remembers, until it is stored, which one it came from. No log in here.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from eventstore.errors import InvalidEventError
from eventstore.hashing import hash_struct
from eventstore.pickling import stores_as
from eventstore.value import Value, default_types

__all__ = ["Handle"]


@stores_as("redun.handle.Handle")
class Handle(Value):
    """One state of a named thing.

    Parameters
    ----------
    name
        Its name; with `namespace` it tells all states of one thing from those of another.
    args, kwargs
        What the thing is opened with; they enter the hash of the first state.
    namespace
        Put before the name with a dot.

    Raises
    ------
    InvalidEventError
        The name is empty (``bad_handle_name``).
    """

    type_name: ClassVar[str] = "redun.Handle"

    def __init__(self, name: str, *args: Any, namespace: str = "", **kwargs: Any) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidEventError(
                f"the name of a handle was expected, found {name!r}", code="bad_handle_name"
            )
        self.name = name
        self.namespace = namespace
        self.args = args
        self.kwargs = kwargs
        self.call_hash = ""
        self.key = ""
        self.parent: Self | None = None
        self.forked = False
        self.hash = self._first_hash()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fullname!r}, hash={self.hash[:8]})"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "namespace": self.namespace,
            "args": self.args,
            "kwargs": self.kwargs,
            "class_name": self.type_name,
            "call_hash": self.call_hash,
            "key": self.key,
            "hash": self.hash,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.namespace = state["namespace"] or ""
        self.parent = None
        self.forked = False

    @property
    def fullname(self) -> str:
        """Name with namespace."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def own_hash(self) -> str:
        """The state's hash, which is the value's id."""
        return self.hash

    def is_valid(self) -> bool:
        """Whether its class is still the one that it was stored with; rollbacks are the log's to know."""
        return bool(self.__dict__.get("class_name", self.type_name) == self.type_name)

    def fork(self, key: str) -> Self:
        """Return a state for one branch of the work; `key` tells it from its siblings."""
        return self._next(self.hash, key, forked=True)

    def apply_call(self, call_hash: str) -> Self:
        """Return the state that a call, named by its eval hash, led to."""
        return self._next(call_hash, "", forked=False)

    def _next(self, call_hash: str, key: str, *, forked: bool) -> Self:
        state = type(self).__new__(type(self))
        state.__dict__.update(self.__dict__)
        state.call_hash, state.key, state.parent, state.forked = call_hash, key, self, forked
        state.hash = hash_struct(["Handle", self.fullname, "call_hash", key, call_hash])
        return state

    def _first_hash(self) -> str:
        positional = [default_types.hash(value) for value in self.args]
        keyword = {name: default_types.hash(value) for name, value in self.kwargs.items()}
        return hash_struct(["Handle", self.fullname, "init", self.key, positional, keyword])
