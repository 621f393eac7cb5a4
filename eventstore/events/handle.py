"""Handles: names for states of the outside world, and how one state follows another."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from eventstore.events.envelope import Event, Hash, Hashes, Name

__all__ = ["HandleAdvanced", "HandleForked", "HandleRecorded", "HandleRolledBack"]


class HandleRecorded(Event):
    """A state of a handle became known, or known again: it is valid from here on."""

    kind: ClassVar[str] = "handle.recorded"

    handle_hash: Hash
    """The state's hash."""
    handle_name: Name
    """Full name of the handle, shared by all its states."""
    handle_key: Name = ""
    """Key of the state: of a fork, else empty."""
    value_hash: Hash
    """The value that holds the handle."""


class HandleAdvanced(Event):
    """A call led from parent states to a child state; all of them are valid from here on."""

    kind: ClassVar[str] = "handle.advanced"

    handle_hash: Hash
    """The child state."""
    handle_name: Name
    """Full name of the handle."""
    parents: Hashes = ()
    """The states before; several when handles were merged."""


class HandleForked(Event):
    """A state was forked for a branch of the workflow; parent and fork are valid from here on."""

    kind: ClassVar[str] = "handle.forked"

    handle_hash: Hash
    """The fork."""
    handle_name: Name
    """Full name of the handle."""
    handle_key: Name
    """What tells this fork from its siblings."""
    parents: Annotated[tuple[Hash, ...], Field(strict=False, min_length=1, max_length=1)]
    """The one state it was forked from."""


class HandleRolledBack(Event):
    """What followed from a state is no longer true: every state below it becomes invalid, itself not."""

    kind: ClassVar[str] = "handle.rolled_back"

    handle_hash: Hash
    """The state that stays."""
    handle_name: Name
    """Full name of the handle."""
