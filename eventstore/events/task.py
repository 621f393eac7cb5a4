"""Tasks: the functions of a workflow, identified by name and source or version."""

from __future__ import annotations

from typing import ClassVar

from eventstore.events.envelope import Event, Hash, Name, Text

__all__ = ["TaskRecorded"]


class TaskRecorded(Event):
    """A task became known; stated once for each hash."""

    kind: ClassVar[str] = "task.recorded"

    task_hash: Hash
    """The task's hash (docs/format.md, "Entity ids")."""
    task_name: Name
    """Name without namespace."""
    task_namespace: Name = ""
    """Namespace, empty for none."""
    source: Text | None = None
    """Source text, where it is known."""
    task_version: Name | None = None
    """The version that stands for the source in the hash, if there is one."""
