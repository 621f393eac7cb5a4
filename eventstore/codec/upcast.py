"""Old events in today's shape: the steps from version n to n + 1, applied on reading, never to storage."""

from __future__ import annotations

from typing import Any

from eventstore.errors import IntegrityError
from eventstore.events.registry import EventType

__all__ = ["upcast_fields"]


def upcast_fields(event_type: EventType, version: int, fields: dict[str, Any]) -> dict[str, Any]:
    """Bring the fields of one event from `version` to the version of `event_type`.

    Raises
    ------
    IntegrityError
        A step failed on stored data (code ``upcast_failed``).
    """
    for step in range(version, event_type.version):
        try:
            fields = event_type.upcasters[step](dict(fields))
        except Exception as error:
            raise IntegrityError(
                f"the upcaster of {event_type.kind} from version {step} to {step + 1} raised "
                f"{type(error).__name__}: {error}; correct it, stored events stay as they are",
                code="upcast_failed",
                kind=event_type.kind,
                version=step,
            ) from error
    return fields
