"""Pickles as redun writes them: protocol 3, and classes that both packages have under redun's names.

So a value has the same bytes, and with them the same id, in both, and is read back as the class of whoever
reads it. Only `load_pickle` unpickles; `eventstore.preview` shows what a pickle holds without.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from typing import Any, TypeVar

from eventstore.errors import NotFoundError

__all__ = [
    "OURS",
    "PICKLE_FORMAT",
    "PICKLE_PROTOCOL",
    "dump_pickle",
    "load_pickle",
    "stores_as",
    "under_stored_names",
]

PICKLE_FORMAT = "application/python-pickle"
PICKLE_PROTOCOL = 3
OURS = b"ceventstore."
"""How every pickled reference to a class of ours begins: opcode GLOBAL, then the module."""

_stored_names: dict[str, str] = {}
_classes: dict[tuple[str, str], type] = {}

Class = TypeVar("Class", bound=type)


def stores_as(name: str) -> Callable[[Class], Class]:
    """Pickle the decorated class of this package under another dotted name, and read that as the class."""

    def decorate(cls: Class) -> Class:
        module, _, stored = name.rpartition(".")
        _stored_names[f"{cls.__module__} {cls.__qualname__}"] = f"c{module}\n{stored}\n"
        _classes[module, stored] = cls
        return cls

    return decorate


def dump_pickle(value: Any) -> bytes:
    """Pickle `value` with protocol 3, classes of ours under their stored names.

    Raises
    ------
    TypeError, AttributeError, pickle.PicklingError, RecursionError
        The value, or something in it, cannot be pickled.
    """
    return under_stored_names(pickle.dumps(value, PICKLE_PROTOCOL))


def under_stored_names(data: bytes) -> bytes:
    """Return a pickle of protocol 3 with the classes of this package under their stored names."""
    last = data.rfind(OURS)
    if last < 0:
        return data
    # Protocol 3 has no frames and names classes in text, so a name may change its length in place; but only
    # a walk over the opcodes tells a name from the same text inside a string.
    parts: list[bytes] = []
    done = 0
    for opcode, argument, place in pickletools.genops(data):
        if place is None or place > last:
            break
        if opcode.name == "GLOBAL" and isinstance(argument, str) and argument in _stored_names:
            parts += data[done:place], _stored_names[argument].encode()
            done = place + len(argument) + 2
    return b"".join((*parts, data[done:]))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _classes.get((module, name))
        if known is not None:
            return known
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            raise NotFoundError(
                f"{module}.{name} was expected, which a stored value names, found that it is gone "
                f"({type(error).__name__}: {error}); restore its module, or record the value again",
                code="type_gone",
                type_name=f"{module}.{name}",
            ) from error


def load_pickle(data: bytes) -> Any:
    """Unpickle: runs what the pickle names, so give it only bytes whose author you trust.

    Raises
    ------
    NotFoundError
        A class in it, or the class's module, is gone (code ``type_gone``).
    """
    return _Unpickler(io.BytesIO(data)).load()
