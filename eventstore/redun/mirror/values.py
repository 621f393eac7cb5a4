"""The values of a mirror's rows: what redun's models ask a session's backend for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redun.value import InvalidValueError, get_type_registry

from eventstore.errors import NotFoundError

if TYPE_CHECKING:
    from redun.value import TypeRegistry

    from eventstore.store import EventStore

__all__ = ["MirrorValues"]


class MirrorValues:
    """Bytes and objects of the rows of redun's table of values.

    A store that was opened with ``trust_pickle=False`` gives no bytes, so that redun shows type and size and
    unpickles nothing.

    Parameters
    ----------
    store
        Where large values lie.
    stored
        Gives digest and size of the bytes of a value that lies in the value store, by its hash.
    types
        redun's registry; None takes redun's own.
    """

    def __init__(
        self,
        store: EventStore,
        stored: Callable[[str], tuple[str, int] | None],
        types: TypeRegistry | None = None,
    ) -> None:
        self.type_registry = types or get_type_registry()
        self._store = store
        self._stored = stored

    # The names are redun's: its models call back for them.

    def _get_value_data(self, value_row: Any) -> tuple[bytes, bool]:
        """Return a value's bytes and True; no bytes and False where they are gone or must not be loaded."""
        if not self._store.types.trusts_pickle:
            return b"", False
        if value_row.value:
            return bytes(value_row.value), True
        place = self._stored(value_row.value_hash)
        if place is None:
            return b"", True  # a value of no bytes
        try:
            return self._store.values.get(place[0]), True
        except NotFoundError:
            return b"", False

    def _get_value_size(self, value_row: Any) -> int:
        """Return how many bytes a value has."""
        if value_row.value:
            return len(value_row.value)
        place = self._stored(value_row.value_hash)
        return 0 if place is None else place[1]

    def _get_value(self, value_row: Any) -> tuple[Any, bool]:
        """Return a value and True; None and False where it is gone."""
        data, is_there = self._get_value_data(value_row)
        if not is_there:
            return None, False
        return self._deserialize_value(value_row.type, data)

    def _deserialize_value(self, type_name: str, data: bytes) -> tuple[Any, bool]:
        """Return what bytes stand for and True; None and False if the type says that it is not valid."""
        if not self._store.types.trusts_pickle:
            return None, False
        try:
            return self.type_registry.deserialize(type_name, data), True
        except InvalidValueError:
            return None, False
