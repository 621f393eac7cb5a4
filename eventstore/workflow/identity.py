"""Who a task is: its full name and its source, or a version that stands for the source; and its hash."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from eventstore.errors import InvalidEventError
from eventstore.hashing import hash_struct

__all__ = ["Identity"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z_0-9.]*")
INLINE = "inline"
"""The version of jobs whose code stands in the caller: explicit jobs and the run itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A task as it is recorded."""

    hash: str
    name: str
    namespace: str
    source: str | None
    version: str | None
    tags: tuple[tuple[str, Any], ...] = ()

    @property
    def fullname(self) -> str:
        """Name with namespace."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @classmethod
    def of_source(
        cls, name: str, namespace: str, source: str | None, version: str | None, tags: Any = ()
    ) -> Self:
        """Return the identity of a task with source text; a version, if there is one, decides alone.

        Raises
        ------
        InvalidEventError
            Name or namespace is no identifier (``bad_task_name``), the version is no text
            (``bad_task_version``), or there is neither source nor version (``no_source``).
        """
        check_name(name, namespace)
        fullname = f"{namespace}.{name}" if namespace else name
        if version is not None:
            if not isinstance(version, str):
                raise InvalidEventError(
                    f"the version of task {fullname} as text was expected, found {version!r}",
                    code="bad_task_version",
                    task=fullname,
                )
            task_hash = hash_struct(["Task", fullname, "version", version])
        elif source is not None:
            task_hash = hash_struct(["Task", fullname, "source", source])
        else:
            raise InvalidEventError(
                f"the source of task {fullname} tells one version of it from another, and cannot be read "
                "here (typed at a prompt, or made by exec?); give @task(version=...) and change it with the "
                "code. Nothing was stored",
                code="no_source",
                task=fullname,
            )
        return cls(task_hash, name, namespace, source, version, tuple(tags))

    @classmethod
    def inline(cls, name: str, namespace: str = "") -> Self:
        """Return the identity of a job whose code is not a function: hashed with version "inline"."""
        return cls.of_source(name, namespace, None, INLINE)


def check_name(name: str, namespace: str) -> None:
    """Raise InvalidEventError (``bad_task_name``) unless both are names as redun takes them."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidEventError(
            f"a task's name of letters, digits and _ was expected, found {name!r}; give name=...",
            code="bad_task_name",
            task=name,
        )
    if not isinstance(namespace, str) or (namespace and not _NAMESPACE.fullmatch(namespace)):
        raise InvalidEventError(
            f"a task's namespace of letters, digits, _ and dots was expected, found {namespace!r}",
            code="bad_task_name",
            task=name,
        )
