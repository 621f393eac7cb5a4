"""Executions: one run of a workflow from its root job on."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator

from eventstore.events.envelope import EntityId, Event, Text, parse_json_text

__all__ = ["ExecutionHeartbeat", "ExecutionStarted"]


def _json_list(text: str) -> str:
    try:
        value = parse_json_text(text)
    except ValueError as error:
        raise ValueError(f"a JSON list as text ({error})") from None
    if not isinstance(value, list):
        raise ValueError("a JSON list as text")  # noqa: TRY004 - pydantic wants a ValueError
    return text


class ExecutionStarted(Event):
    """A run of a workflow began; `occurred_at` is its start."""

    kind: ClassVar[str] = "execution.started"

    execution_id: EntityId
    """The execution's id, a UUID in text; the engine supplies it."""
    job_id: EntityId | None = None
    """The root job's id, where it is known already."""
    args: Annotated[Text, AfterValidator(_json_list)] = "[]"
    """How the run was asked for: a JSON list of arguments, as text."""


class ExecutionHeartbeat(Event):
    """A run said that it is still alive; `occurred_at` is when."""

    kind: ClassVar[str] = "execution.heartbeat"

    execution_id: EntityId
    """The execution that is alive."""
