"""What a value answers for itself, and what a type answers for the values of classes that one does not own.

A new kind of value is a subclass of `Value`; a class that somebody else wrote gets a `ValueType`, registered
with `ValueTypes.register`. Both pickle unless they say otherwise, as redun does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from eventstore.errors import InvalidEventError
from eventstore.hashing import hash_tagged_bytes
from eventstore.pickling import PICKLE_FORMAT, dump_pickle, load_pickle

__all__ = ["Described", "Value", "ValueType", "bad_argument", "own_class"]


class Described(NamedTuple):
    """A value as it is recorded: its hash, what it is called, its bytes, and its path if it is a file."""

    value_hash: str
    type_name: str
    format: str
    data: bytes
    file_path: str | None


_own_classes: dict[str, type[Value]] = {}


def own_class(type_name: str) -> type[Value] | None:
    """Return the subclass of `Value` that is called so, the last that was defined; None if there is none."""
    return _own_classes.get(type_name)


class Value:
    """Base of values that know more about themselves than their pickle: files, handles, errors, tasks.

    A subclass is called ``module.ClassName`` unless it sets `type_name` itself.
    """

    type_name: ClassVar[str] = "eventstore.Value"
    format: ClassVar[str] = PICKLE_FORMAT
    """Media type of what `serialize` gives."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "type_name" not in cls.__dict__:
            cls.type_name = f"{cls.__module__}.{cls.__name__}"
        _own_classes[cls.type_name] = cls

    @property
    def own_hash(self) -> str | None:
        """The value's hash where it does not depend on the serialized bytes, else None."""
        return None

    @property
    def file_path(self) -> str | None:
        """Path or URL, where the value is a file."""
        return None

    def refresh(self) -> None:
        """Look at the outside world again; called before the value is recorded."""

    def is_valid(self) -> bool:
        """Whether a value that comes from the cache may still be used."""
        return True

    def serialize(self) -> bytes:
        """Return the bytes that are stored."""
        return dump_pickle(self)

    @classmethod
    def deserialize(cls, data: bytes) -> Any:
        """Return the value that `serialize` gave these bytes for."""
        return load_pickle(data)

    def preprocess(self, call: Mapping[str, Any]) -> Any:  # noqa: ARG002 - for subclasses
        """Return what a task is handed in place of this value; `call` says which call it is for."""
        return self

    def postprocess(self, call: Mapping[str, Any]) -> Any:  # noqa: ARG002 - for subclasses
        """Return what the caller of a task gets in place of this value, which the task returned."""
        return self

    def iter_subvalues(self) -> Iterator[Value]:
        """Yield the values inside this one, and those inside them; they are recorded with it."""
        return iter(())

    @classmethod
    def parse_arg(cls, text: str) -> Any:
        """Return the value that `text`, an argument of a command line, stands for."""
        return cls(text)  # type: ignore[call-arg]  # subclasses that are parsed take one argument


class ValueType:
    """How the values of one Python type are called, serialized and hashed: here by pickle and its hash.

    Subclasses override what is different.

    Parameters
    ----------
    type_name
        The stored type name of all values, also of subclasses; None gives ``module.ClassName`` of each.
    """

    format: str = PICKLE_FORMAT
    """Media type of the bytes."""
    rehash: ClassVar[bool] = False
    """Whether a value that was read back has the hash that it was recorded with."""

    def __init__(self, type_name: str | None = None) -> None:
        self._type_name = type_name

    def name(self, kind: type) -> str:
        """Return the stored type name of values of `kind`."""
        return self._type_name or f"{kind.__module__}.{kind.__name__}"

    def speaks_for(self, kind: type) -> bool:  # noqa: ARG002 - for subclasses
        """Whether it speaks for `kind`, which is the registered class or is derived from it."""
        return True

    def serialize(self, value: Any) -> bytes:
        """Return the bytes that are stored."""
        return dump_pickle(value)

    def hash(self, value: Any, data: bytes | None = None) -> str:
        """Return the id of `value`; `data` are its bytes where they are at hand."""
        return hash_tagged_bytes("Value", self.serialize(value) if data is None else data)

    def dump(self, value: Any) -> tuple[str, bytes]:
        """Return hash and bytes of `value`, for types where both have work in common."""
        data = self.serialize(value)
        return self.hash(value, data), data

    def hash_of_bytes(self, data: bytes) -> str | None:
        """Return the id of the value whose bytes these are, unpickling nothing; None if they do not tell."""
        return hash_tagged_bytes("Value", data)

    def deserialize(self, data: bytes) -> Any:
        """Return the value of these bytes."""
        return load_pickle(data)

    def is_valid(self, value: Any) -> bool:  # noqa: ARG002 - for subclasses
        """Whether a value that comes from the cache may still be used."""
        return True

    def preprocess(self, value: Any, call: Mapping[str, Any]) -> Any:  # noqa: ARG002 - for subclasses
        """Return what a task is handed in place of `value`; `call` says which call it is for."""
        return value

    def postprocess(self, value: Any, call: Mapping[str, Any]) -> Any:  # noqa: ARG002 - for subclasses
        """Return what the caller of a task gets in place of `value`, which the task returned."""
        return value

    def parse_arg(self, kind: type, text: str) -> Any:
        """Return the value of `kind` that `text`, an argument of a command line, stands for."""
        return kind(text)


def bad_argument(expected: str, text: str) -> InvalidEventError:
    """Return the error that a command line's argument is not what was `expected`."""
    return InvalidEventError(
        f"{expected} was expected, found {text[:80]!r}; correct the argument", code="bad_argument", text=text
    )
