"""`StoreTypes`: the store's own value types, as a backend asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventstore.backend.descriptions import TaskDescription
from eventstore.value import Described, Value, ValueTypes

__all__ = ["StoreTypes"]


class StoreTypes:
    """Speaks for the values of an engine that has no types of its own. Knows no tasks.

    Parameters
    ----------
    types
        Usually those of the store.
    """

    def __init__(self, types: ValueTypes) -> None:
        self._types = types

    def describe(self, value: Any, *, data: bytes | None = None) -> Described:
        """Return hash, type name, media type, bytes and path of `value`; see `Types.describe`."""
        if data is None:
            return self._types.describe(value)
        kind = type(value)
        value_type = self._types.of(kind)
        path = value.file_path if isinstance(value, Value) else None
        return Described(value_type.hash(value, data), value_type.name(kind), value_type.format, data, path)

    def load(self, type_name: str, data: bytes, media_type: str) -> Any:
        """Return the value of these bytes; see `ValueTypes.load`."""
        return self._types.load(type_name, data, media_type)

    def iter_subvalues(self, value: Any) -> Iterator[Any]:
        """Yield the values inside `value`, with those inside them."""
        return self._types.iter_subvalues(value)

    def task_of(self, value: Any) -> TaskDescription | None:  # noqa: ARG002 - as in `Types`
        """Return None: functions are values, and no tasks."""
        return None
