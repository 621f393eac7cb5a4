"""Call nodes: which task, applied to which arguments, gave which result through which calls."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from eventstore.events.envelope import Event, Hash, Hashes, Int32, Name, Record

__all__ = ["Argument", "CallContextRecorded", "CallNodeRecorded"]


class Argument(Record):
    """One argument of a call: by position or by key, exactly one of them."""

    position: Int32 | None = None
    """Place among the positional arguments, from 0."""
    key: Name | None = None
    """Keyword, for arguments given by keyword and for defaults."""
    value_hash: Hash
    """The evaluated argument."""
    upstreams: Hashes = ()
    """Call nodes whose results went into it, each once, in order of appearance."""

    @model_validator(mode="after")
    def _placed_once(self) -> Self:
        if (self.position is None) == (self.key is None):
            raise ValueError("either `position` or `key`, and not both")
        return self


class CallNodeRecorded(Event):
    """A call node became known; stated once for each hash. `occurred_at` is its timestamp."""

    kind: ClassVar[str] = "call_node.recorded"

    call_hash: Hash
    """The call node's hash (docs/format.md, "Entity ids")."""
    task_hash: Hash
    """The task that was called."""
    task_name: Name
    """Full name of the task, with its namespace."""
    args_hash: Hash
    """The hash of its arguments."""
    value_hash: Hash
    """Its result."""
    children: Hashes = ()
    """Call nodes made below this one, in call order; repeats stay."""
    arguments: Annotated[tuple[Argument, ...], Field(strict=False)] = ()
    """Its arguments: positional ones first, then by key."""
    subtree_tasks: Hashes = ()
    """Hashes of all tasks at and below this node, sorted."""


class CallContextRecorded(Event):
    """A call node was reached under a context."""

    kind: ClassVar[str] = "call_context.recorded"

    call_hash: Hash
    """The call node."""
    context_hash: Hash
    """The context's hash."""
    value_hash: Hash | None = None
    """The value that holds the context, where it was recorded."""
