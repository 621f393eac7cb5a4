"""The exception tree: one class per thing that a handler would do.

Every error carries a stable ``code`` and its facts as attributes; its message says what was expected,
what was found, where, and the next step. Codes are only ever added, never renamed.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar

__all__ = [
    "ConflictError",
    "EventStoreError",
    "FileMissingError",
    "FilePermissionError",
    "FormatError",
    "IntegrityError",
    "InvalidEventError",
    "NotFoundError",
    "ProjectionError",
    "StateError",
    "StorageError",
]


class EventStoreError(Exception):
    """Root of all errors that this package raises on purpose.

    Parameters
    ----------
    message
        For a person: expected, found, where, next step.
    code
        Stable and short, for a program; None takes the class's own.
    facts
        What the message is about (``path``, ``position``, ``kind``, ...), readable as attributes.
    """

    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.facts = facts

    def __getattr__(self, name: str) -> Any:
        facts = self.__dict__.get("facts", {})
        if name in facts:
            return facts[name]
        raise AttributeError(f"{type(self).__name__} has no fact {name!r}; it has {sorted(facts)}")

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.code, self.facts))


def _rebuild(cls: type[EventStoreError], message: str, code: str, facts: dict[str, Any]) -> EventStoreError:
    return cls(message, code=code, **facts)


class InvalidEventError(EventStoreError, ValueError):
    """The input is wrong: fix it. Nothing was stored."""

    default_code = "invalid_event"


class NotFoundError(EventStoreError, LookupError):
    """A store, segment, value or stream is not there: create it, or look elsewhere."""

    default_code = "not_found"


class ConflictError(EventStoreError):
    """Someone else committed first: read again, then retry."""

    default_code = "conflict"


class StateError(EventStoreError):
    """The object cannot do this now: closed, read-only, or opened in another process."""

    default_code = "state"


class StorageError(EventStoreError, OSError):
    """The filesystem refused; ``transient`` tells whether the same call may succeed later."""

    default_code = "storage"

    def __init__(
        self, message: str, *, code: str | None = None, transient: bool = False, **facts: Any
    ) -> None:
        super().__init__(message, code=code, transient=transient, **facts)


class FileMissingError(NotFoundError, FileNotFoundError):
    """A user's file is not there; also Python's own FileNotFoundError, with its ``filename``."""

    default_code = "file_not_found"

    def __init__(self, message: str, *, code: str | None = None, path: str = "", **facts: Any) -> None:
        super().__init__(message, code=code, path=path, **facts)
        self.errno, self.filename = errno.ENOENT, path


class FilePermissionError(StorageError, PermissionError):
    """A user's file may not be read, written or listed; also Python's own PermissionError."""

    default_code = "no_permission"

    def __init__(self, message: str, *, code: str | None = None, path: str = "", **facts: Any) -> None:
        super().__init__(message, code=code, path=path, **facts)
        self.errno, self.filename = errno.EACCES, path


class FormatError(EventStoreError):
    """Written by a newer version of the format, or not an event store at all."""

    default_code = "format"


class IntegrityError(EventStoreError):
    """A digest, a gap or an order is wrong: stop, and run ``eventstore verify``."""

    default_code = "integrity"


class ProjectionError(EventStoreError):
    """A projection's recipe failed; carries ``projection`` and, where known, ``position``."""

    default_code = "projection"
