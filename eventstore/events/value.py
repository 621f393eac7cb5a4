"""Values: the bytes that tasks take and give, named by hash; and evaluations, which map a call to one."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator

from eventstore.events.envelope import DataDigest, Event, Hash, Hashes, Int64, Name

__all__ = ["EvaluationCached", "ValueRecorded"]


class ValueRecorded(Event):
    """A value became known; stated once for each hash.

    Its bytes ride inline in `data`, or lie in the value store under `data_digest`: exactly one of them.
    """

    kind: ClassVar[str] = "value.recorded"

    value_hash: Hash
    """The value's hash (docs/format.md, "Entity ids")."""
    type_name: Name
    """Registered name of its type, such as ``builtins.int``."""
    format: Name = "application/python-pickle"
    """Media type of the bytes."""
    size_bytes: Int64
    """Length of the serialized bytes."""
    data: bytes | None = None
    """The serialized bytes, when they are small."""
    data_digest: DataDigest | None = None
    """BLAKE3 of the serialized bytes, when they lie in the value store."""
    subvalues: Hashes = ()
    """Values inside this one, flattened, in the order of first appearance."""
    file_path: Name | None = None
    """Path or URL, where the value is a file."""

    @model_validator(mode="after")
    def _bytes_once(self) -> Self:
        if (self.data is None) == (self.data_digest is None):
            raise ValueError("either `data` or `data_digest`, and not both")
        if self.data is not None and len(self.data) != self.size_bytes:
            raise ValueError(f"`size_bytes` to be the length of `data` ({len(self.data)})")
        return self


class EvaluationCached(Event):
    """The result of one single reduction was put into the evaluation cache; a later one replaces it."""

    kind: ClassVar[str] = "evaluation.cached"

    eval_hash: Hash
    """The cache's key."""
    task_hash: Hash
    """The task that was evaluated."""
    args_hash: Hash
    """The hash of its arguments."""
    value_hash: Hash
    """What came out."""
