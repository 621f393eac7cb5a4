"""The types that are always known: bool, set, enum, datetime, and the subclasses of `Value`."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from typing import Any, ClassVar

from eventstore.hashing import hash_tagged_bytes
from eventstore.pickling import dump_pickle
from eventstore.value.contract import Value, ValueType, bad_argument
from eventstore.value.problems import UnstorableValueError

__all__ = ["BoolValues", "DatetimeValues", "EnumValues", "OwnValues", "SetValues"]


class BoolValues(ValueType):
    """True and False, also as text."""

    def parse_arg(self, kind: type, text: str) -> Any:  # noqa: ARG002 - there is one kind
        """Return True for ``true`` and False for ``false``, in any case."""
        found = {"true": True, "false": False}.get(text.lower())
        if found is None:
            raise bad_argument("true or false", text)
        return found


class SetValues(ValueType):
    """Sets: hashed in sorted order, since their own order differs between processes."""

    rehash: ClassVar[bool] = True

    def hash(self, value: Any, data: bytes | None = None) -> str:  # noqa: ARG002 - see the class
        """Return the id of a set.

        Raises
        ------
        UnstorableValueError
            Two members have no order (code ``unsortable_set``).
        """
        try:
            members = sorted(value)
        except TypeError as error:
            raise UnstorableValueError(
                f"a set whose members can be sorted was expected, found one where that fails ({error}): its "
                "hash would depend on the process; give a list, or members of one type",
                code="unsortable_set",
            ) from error
        return hash_tagged_bytes("Value.set", dump_pickle(members))

    def hash_of_bytes(self, data: bytes) -> str | None:  # noqa: ARG002 - the order of the members is lost
        """Return None: the bytes have the members in whatever order they were."""
        return None


class EnumValues(ValueType):
    """Members of enums, also by their names."""

    def parse_arg(self, kind: type, text: str) -> Any:
        """Return the member called ``NAME`` or ``Enum.NAME``."""
        members: Mapping[str, enum.Enum] = kind.__members__  # type: ignore[attr-defined]
        prefix, dot, name = text.partition(".")
        found = members.get(name if dot and prefix == kind.__name__ else text)
        if found is None:
            raise bad_argument(f"one of {', '.join(members)} of {kind.__name__}", text)
        return found


class DatetimeValues(ValueType):
    """Times, also as ISO 8601 says them."""

    def parse_arg(self, kind: type, text: str) -> Any:
        """Return the time that ISO 8601 text says, with the offset from UTC that it names."""
        try:
            return (kind if issubclass(kind, dt.datetime) else dt.datetime).fromisoformat(text)
        except ValueError:
            raise bad_argument("a time as ISO 8601, such as 2026-01-31T12:00:00Z,", text) from None


class OwnValues(ValueType):
    """A subclass of `Value`: it speaks for itself."""

    def __init__(self, cls: type[Value]) -> None:
        super().__init__(cls.type_name)
        self.format = cls.format
        self._class = cls

    def serialize(self, value: Any) -> bytes:
        """Return the bytes that are stored."""
        return bytes(value.serialize())

    def hash(self, value: Any, data: bytes | None = None) -> str:
        """Return the id of `value`, whose bytes are `data`."""
        return value.own_hash or super().hash(value, data)

    def hash_of_bytes(self, data: bytes) -> str | None:
        """Return the id where the class has no hash of its own."""
        return super().hash_of_bytes(data) if self._class.own_hash is Value.own_hash else None

    def deserialize(self, data: bytes) -> Any:
        """Return the value of these bytes."""
        return self._class.deserialize(data)

    def is_valid(self, value: Any) -> bool:
        """Whether a value that comes from the cache may still be used."""
        return bool(value.is_valid())

    def preprocess(self, value: Any, call: Mapping[str, Any]) -> Any:
        """Return what a task is handed in place of `value`."""
        return value.preprocess(call)

    def postprocess(self, value: Any, call: Mapping[str, Any]) -> Any:
        """Return what the caller of a task gets in place of `value`."""
        return value.postprocess(call)

    def parse_arg(self, kind: type, text: str) -> Any:  # noqa: ARG002 - the class knows itself
        """Return the value that `text` stands for."""
        return self._class.parse_arg(text)
