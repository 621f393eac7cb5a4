"""Errors as values: what a failed call returned instead of a result."""

from __future__ import annotations

import contextlib
import traceback
from types import TracebackType
from typing import Any, ClassVar, Self

from eventstore.pickling import dump_pickle, load_pickle
from eventstore.value import Value

__all__ = ["ErrorValue"]


class ErrorValue(Value):
    """An exception and the text of its traceback.

    Stored as the pickle of the plain pair (exception, text), under the type name ``eventstore.ErrorValue``.
    """

    type_name: ClassVar[str] = "eventstore.ErrorValue"

    def __init__(self, error: BaseException, text: str) -> None:
        self.error = error
        self.text = text

    def __repr__(self) -> str:
        return f"ErrorValue({self.error!r})"

    @classmethod
    def of(cls, error: BaseException, trace: TracebackType | None) -> Self:
        """Return what is recorded of `error`; `trace` begins at the user's own code."""
        return cls(error, "".join(traceback.format_exception(type(error), error, trace)))

    def generic(self) -> Self:
        """Return a stand-in for an exception that cannot be pickled: an `Exception` of its repr."""
        told = f"{type(self.error).__name__} (its repr fails)"
        with contextlib.suppress(Exception):
            told = repr(self.error)
        return type(self)(Exception(told[:10_000]), self.text[:100_000])

    def serialize(self) -> bytes:
        """Return the pickle of exception and text."""
        return dump_pickle((self.error, self.text))

    @classmethod
    def deserialize(cls, data: bytes) -> Any:
        """Return the error value of these bytes; unpickles."""
        error, text = load_pickle(data)
        return cls(error, text)
