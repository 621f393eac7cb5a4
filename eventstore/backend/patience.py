"""Transient errors of storage: a call that met one has stored nothing, so it is simply done again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from eventstore.errors import StorageError

__all__ = ["Patience", "Patient", "patiently"]

logger = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often something is tried again, and after which pause, which doubles each time up to a longest."""

    retries: int
    first_seconds: float
    most_seconds: float
    sleep: Callable[[float], object]

    def again(self, error: StorageError, action: Callable[[], Result]) -> Result:
        """Do `action`, which raised `error`, again while what it raises is transient; then raise that."""
        pause = self.first_seconds
        for _ in range(self.retries):
            if not error.transient:
                break
            pause = min(pause, self.most_seconds)
            logger.warning("storage failed, and is tried again in %g s: %s", pause, error)
            self.sleep(pause)
            pause *= 2
            try:
                return action()
            except StorageError as another:
                error = another
        raise error


class Patient(Protocol):
    """Whoever has patience."""

    @property
    def patience(self) -> Patience:
        """How much."""


Self = TypeVar("Self", bound=Patient)


def patiently(
    method: Callable[Concatenate[Self, Arguments], Result],
) -> Callable[Concatenate[Self, Arguments], Result]:
    """Let a method be called again after a transient error. Its arguments are no iterators."""

    @wraps(method)
    def call(self: Self, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return method(self, *args, **kwargs)
        except StorageError as error:
            return self.patience.again(error, lambda: method(self, *args, **kwargs))

    return call
