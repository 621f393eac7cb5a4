"""Functions as values: named by their source, stored as where to find them."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar

from eventstore.errors import NotFoundError
from eventstore.hashing import hash_struct
from eventstore.pickling import dump_pickle, load_pickle, stores_as
from eventstore.value.contract import ValueType, bad_argument
from eventstore.value.problems import UnstorableValueError

__all__ = ["FunctionValues", "source_of"]


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


class FunctionValues(ValueType):
    """Functions of a module. Raises UnstorableValueError for those that no name leads to."""

    rehash: ClassVar[bool] = True

    def serialize(self, value: Any) -> bytes:
        """Return the bytes that are stored; raises like `dump`."""
        return self.dump(value)[1]

    def hash(self, value: Any, data: bytes | None = None) -> str:  # noqa: ARG002 - the source decides
        """Return the id of a function; raises like `dump`."""
        return self.dump(value)[0]

    def dump(self, value: Any) -> tuple[str, bytes]:
        """Return hash and bytes of a function.

        Raises
        ------
        UnstorableValueError
            It is a lambda or defined inside another (code ``local_function``), or its source cannot be read
            (``no_function_source``).
        """
        # Two lambdas of one line have one source, and would be taken for each other.
        if "<" in value.__qualname__:
            raise UnstorableValueError(
                f"a function of a module was expected, found {value.__qualname__} of {value.__module__}, "
                "which has no name of its own: define it with def, outside of any function",
                code="local_function",
            )
        try:
            stored = _Function(value)
        except OSError as error:
            raise UnstorableValueError(
                f"the source of {value.__qualname__} tells one version of it from another, and cannot be "
                f"read ({error}): define it in a file",
                code="no_function_source",
            ) from error
        return stored.hash, dump_pickle(stored)

    def hash_of_bytes(self, data: bytes) -> str | None:  # noqa: ARG002 - it is read with them
        """Return None: the hash is that of the source."""
        return None

    def deserialize(self, data: bytes) -> Any:
        """Import the function again.

        Raises
        ------
        NotFoundError
            It is gone, or reads otherwise by now (code ``function_changed``); or its module is gone
            (``type_gone``).
        """
        stored = load_pickle(data)
        try:
            found = getattr(importlib.import_module(stored.module), stored.name, None)
        except ModuleNotFoundError as error:
            raise NotFoundError(
                f"the function {stored.module}.{stored.name} was expected, found no module {error.name}; "
                "install what is missing, or record the value again",
                code="type_gone",
                type_name=f"{stored.module}.{stored.name}",
            ) from error
        if not isinstance(found, FunctionType) or _Function(found).hash != stored.hash:
            raise NotFoundError(
                f"the function {stored.module}.{stored.name} as it was recorded was expected, found "
                f"{'one that reads otherwise' if found else 'none'}; record the value again",
                code="function_changed",
                type_name=f"{stored.module}.{stored.name}",
            )
        return found

    def parse_arg(self, kind: type, text: str) -> Any:  # noqa: ARG002 - there is one kind
        """Return the function called ``module.name``, which is imported."""
        module, _, name = text.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            raise bad_argument("a function as module.name", text) from None


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
