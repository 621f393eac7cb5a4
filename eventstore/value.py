"""The value contract: what a Python object is called, how it becomes bytes, and which hash names it.

Type names, bytes and hashes are redun's to the bit. A new kind of value is a subclass of `Value`, or a
`ValueType` that speaks for a class one does not own. Pure: knows no log and no storage.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, ClassVar, NamedTuple, Protocol

from eventstore.errors import InvalidEventError
from eventstore.hashing import hash_struct, hash_tagged_bytes
from eventstore.pickling import PICKLE_FORMAT, dump_pickle, load_pickle, stores_as

__all__ = [
    "Described",
    "Value",
    "ValueType",
    "ValueTypes",
    "default_types",
    "iter_leaves",
    "iter_values",
    "not_picklable",
    "source_of",
]


class Described(NamedTuple):
    """A value as it is recorded: its hash, what it is called, its bytes, and its path if it is a file."""

    value_hash: str
    type_name: str
    format: str
    data: bytes
    file_path: str | None


# values with behaviour -----------------------------------------------------------------------------------


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


def iter_values(nested: Any) -> Iterator[Value]:
    """Yield each `Value` in `nested`: itself, or at any depth of lists, tuples, sets, dicts, dataclasses."""
    return (leaf for leaf in iter_leaves(nested) if isinstance(leaf, Value))


def iter_leaves(nested: Any) -> Iterator[Any]:
    """Yield what `iter_values` meets that is neither a container nor a plain number or text."""
    stack = [nested]
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind in _ATOMS:
            continue
        members = None if isinstance(item, Value) else _members(item, kind)
        if members is None:
            yield item
        elif id(item) not in seen:
            seen.add(id(item))
            stack.extend(reversed(members))


_ATOMS = frozenset({bool, bytes, complex, float, int, str, type(None)})


def _members(item: Any, kind: type) -> list[Any] | None:
    if kind in (list, tuple, set, frozenset) or (isinstance(item, tuple) and hasattr(item, "_fields")):
        return list(item)
    if kind is dict:
        return [*item.keys(), *item.values()]
    if dataclasses.is_dataclass(kind):
        return [getattr(item, field.name, None) for field in dataclasses.fields(kind)]
    return None


# types ---------------------------------------------------------------------------------------------------


class ValueType(Protocol):
    """How the values of one Python type are called, serialized and hashed."""

    format: str
    """Media type of the bytes."""

    def name(self, kind: type) -> str:
        """Return the stored type name of values of `kind`."""

    def serialize(self, value: Any) -> bytes:
        """Return the bytes that are stored."""

    def hash(self, value: Any, data: bytes) -> str:
        """Return the id of `value`, whose bytes are `data`."""

    def deserialize(self, data: bytes) -> Any:
        """Return the value of these bytes."""


class PlainValues:
    """Any Python object: its pickle, and the hash of that.

    Parameters
    ----------
    fixed_name
        The type name for subclasses as well; None gives ``module.ClassName`` of each.
    """

    format = PICKLE_FORMAT

    def __init__(self, fixed_name: str | None = None) -> None:
        self._fixed_name = fixed_name

    def name(self, kind: type) -> str:
        """Return the stored type name of values of `kind`."""
        return self._fixed_name or f"{kind.__module__}.{kind.__name__}"

    def serialize(self, value: Any) -> bytes:
        """Return the bytes that are stored."""
        return dump_pickle(value)

    def hash(self, value: Any, data: bytes) -> str:  # noqa: ARG002 - other types need the value
        """Return the id of `value`, whose bytes are `data`."""
        return hash_tagged_bytes("Value", data)

    def deserialize(self, data: bytes) -> Any:
        """Return the value of these bytes."""
        return load_pickle(data)


class SetValues(PlainValues):
    """Sets: hashed in sorted order, since their own order differs between processes."""

    def hash(self, value: Any, data: bytes) -> str:  # noqa: ARG002 - see the class
        """Return the id of a set; raises TypeError where its members have no order."""
        return hash_tagged_bytes("Value.set", dump_pickle(sorted(value)))


class OwnValues(PlainValues):
    """A subclass of `Value`: it speaks for itself."""

    def __init__(self, cls: type[Value]) -> None:
        super().__init__(cls.type_name)
        self.format = cls.format
        self._class = cls

    def serialize(self, value: Any) -> bytes:
        """Return the bytes that are stored."""
        return bytes(value.serialize())

    def hash(self, value: Any, data: bytes) -> str:
        """Return the id of `value`, whose bytes are `data`."""
        return value.own_hash or hash_tagged_bytes("Value", data)

    def deserialize(self, data: bytes) -> Any:
        """Return the value of these bytes."""
        return self._class.deserialize(data)


@stores_as("redun.value.Function")
class _Function:
    """What is stored of a function: where it is found, and the hash of its source."""

    def __init__(self, function: FunctionType) -> None:
        self.hash = hash_struct(
            ["Value.function", f"{function.__module__}.{function.__name__}", "source", source_of(function)]
        )
        self.module = function.__module__
        self.name = function.__name__

    def __getstate__(self) -> dict[str, str]:
        return {"hash": self.hash, "module": self.module, "name": self.name}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.hash, self.module, self.name = state["hash"], state["module"], state["name"]


class FunctionValues(PlainValues):
    """Functions of a module: named by their source, stored as where to find them."""

    def serialize(self, value: Any) -> bytes:
        """Return the bytes that are stored.

        Raises
        ------
        TypeError
            The function is a lambda or defined inside another, or its source cannot be read.
        """
        # Two lambdas of one line have one source, and would be taken for each other.
        if "<" in value.__qualname__:
            raise TypeError(f"{value.__qualname__} has no name of its own: define it with def in its module")
        try:
            return dump_pickle(_Function(value))
        except OSError as error:
            raise TypeError(f"the source of {value.__qualname__} cannot be read: {error}") from error

    def hash(self, value: Any, data: bytes) -> str:  # noqa: ARG002 - the source decides
        """Return the id of a function."""
        return _Function(value).hash

    def deserialize(self, data: bytes) -> Any:
        """Import the function again; raises LookupError where it is gone or reads otherwise by now."""
        stored = load_pickle(data)
        found = getattr(importlib.import_module(stored.module), stored.name, None)
        if not isinstance(found, FunctionType) or _Function(found).hash != stored.hash:
            raise LookupError(f"{stored.module}.{stored.name} is not the function that was recorded")
        return found


_DEF = re.compile(r"^ *def ", re.MULTILINE)


def source_of(function: Callable[..., Any]) -> str:
    """Return a function's source from its first line that begins with ``def``, as redun hashes it.

    A coroutine function is taken whole, decorators included: its first such line would be an inner one.

    Raises
    ------
    OSError, TypeError
        There is no source to read: typed at a prompt, compiled, or made by `exec`.
    """
    source = inspect.getsource(function)
    if inspect.iscoroutinefunction(function):
        return source
    found = _DEF.search(source)
    return source[found.start() :] if found else source


class ValueTypes:
    """Which `ValueType` speaks for which Python type: by exact type, then its bases, then plain."""

    def __init__(self) -> None:
        self._types: dict[type, ValueType] = {
            set: SetValues("builtins.set"),
            enum.Enum: PlainValues("enum.Enum"),
            dt.datetime: PlainValues("datetime.datetime"),
            FunctionType: FunctionValues("builtins.function"),
        }
        self._found: dict[type, ValueType] = {}
        self._named: dict[str, ValueType] = {"builtins.function": self._types[FunctionType]}
        self._plain = PlainValues()

    def register(self, kind: type, value_type: ValueType) -> None:
        """Let `value_type` speak for the values of `kind` and of its subclasses."""
        self._types[kind] = value_type
        self._named[value_type.name(kind)] = value_type
        self._found.clear()

    def of(self, kind: type) -> ValueType:
        """Return what speaks for values of `kind`."""
        found = self._found.get(kind)
        if found is None:
            known = (self._types[base] for base in kind.__mro__ if base in self._types)
            found = next(known, None) or (OwnValues(kind) if issubclass(kind, Value) else self._plain)
            self._found[kind] = found
        return found

    def type_name(self, value: Any) -> str:
        """Return the stored type name of `value`."""
        return self.of(type(value)).name(type(value))

    def describe(self, value: Any) -> Described:
        """Serialize and hash `value`; the exceptions of pickling pass through."""
        kind = type(value)
        value_type = self.of(kind)
        data = value_type.serialize(value)
        path = value.file_path if isinstance(value, Value) else None
        return Described(value_type.hash(value, data), value_type.name(kind), value_type.format, data, path)

    def hash(self, value: Any) -> str:
        """Return the id of `value`."""
        if isinstance(value, Value) and (own := value.own_hash) is not None:
            return own
        return self.describe(value).value_hash

    def load(self, type_name: str, data: bytes, media_type: str = PICKLE_FORMAT) -> Any:
        """Return the value of stored bytes. **Unpickles**, so it runs what the bytes name.

        An unknown type name means a plain pickle. The exceptions of unpickling pass through.

        Raises
        ------
        LookupError
            Values of this type are not stored as `media_type` here.
        """
        value_type = self._named.get(type_name) or _own_type(type_name) or self._plain
        if value_type.format != media_type:
            raise LookupError(f"{type_name} was expected as {value_type.format}, found {media_type}")
        return value_type.deserialize(data)


def _own_type(type_name: str) -> OwnValues | None:
    """Return the type of the `Value` subclass of this name, or None."""
    stack = Value.__subclasses__()
    while stack:
        cls = stack.pop()
        if cls.type_name == type_name:
            return OwnValues(cls)
        stack += cls.__subclasses__()
    return None


default_types = ValueTypes()
"""The types that recording uses unless it is given others."""


def not_picklable(what: str, value: Any, error: BaseException) -> InvalidEventError:
    """Return the error that says which part of a call cannot be recorded, and why."""
    return InvalidEventError(
        f"{what} was expected to be something that can be pickled, found {type(value).__name__}: "
        f"{type(error).__name__}: {error}. Give plain data, a File, or an object whose class is defined at "
        "the top of a module; nothing was stored",
        code="not_picklable",
        what=what,
        type_name=type(value).__name__,
    )
