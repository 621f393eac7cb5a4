"""How safe an acknowledged event is, and the receipt that an append returns."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from eventstore.ids import EventId, WriterId

__all__ = ["Level", "Receipt"]


class Level(IntEnum):
    """How safe an acknowledged event is."""

    JOURNALED = 1
    """In the writer's journal on this machine: survives a killed process (with ``fsync``, power loss)."""
    DURABLE = 2
    """In a segment on the store's filesystem."""
    SEALED = 3
    """In the sealed log: it has its position for ever."""


class Receipt:
    """What an append returns: who wrote its events, under which numbers, and how safe they are."""

    __slots__ = ("_count", "_first", "_level", "_writer")

    def __init__(self, writer: WriterId, first: int, count: int, level: Callable[[EventId], Level]) -> None:
        self._writer = writer
        self._first = first
        self._count = count
        self._level = level

    def __repr__(self) -> str:
        return f"Receipt({self.first} to {self.last})"

    @property
    def first(self) -> EventId:
        """The id of the first event."""
        return EventId(self._writer, self._first)

    @property
    def last(self) -> EventId:
        """The id of the last event."""
        return EventId(self._writer, self._first + self._count - 1)

    def level(self) -> Level:
        """Return how safe the events are by now."""
        return self._level(self.last)
