"""What one backend has said or learnt of late, so that it need not be looked up: bounded, newest kept."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["Known", "Recent"]

Fact = TypeVar("Fact")
_MOST = 25_000


class Recent(Generic[Fact]):
    """A mapping of at most two generations of `most` keys: those that are asked for stay.

    Forgetting is harmless: the store is asked again.
    """

    __slots__ = ("_most", "_new", "_old")

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._new: dict[str, Fact] = {}
        self._old: dict[str, Fact] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, key: str) -> Fact | None:
        """Return what is known of `key`."""
        fact = self._new.get(key)
        if fact is None:
            fact = self._old.pop(key, None)
            if fact is not None:
                self.put(key, fact)
        return fact

    def put(self, key: str, fact: Fact) -> None:
        """Remember `fact`."""
        if len(self._new) >= self._most:
            self._old, self._new = self._new, {}
        self._new[key] = fact

    def forget(self, key: str) -> None:
        """Know nothing of `key` any more."""
        self._new.pop(key, None)
        self._old.pop(key, None)


class Known:
    """What is recorded, by kind: about 200 bytes each, at most 250,000 in all."""

    __slots__ = ("calls", "jobs", "tasks", "unseen", "values")

    def __init__(self) -> None:
        self.values: Recent[bool] = Recent()
        """Whether the value is an error, by its hash."""
        self.calls: Recent[bool] = Recent()
        """Whether the call's result is an error, by its hash."""
        self.tasks: Recent[bool] = Recent()
        """Hashes of tasks of which all is recorded."""
        self.jobs: Recent[bool] = Recent()
        """Ids of jobs that have started."""
        self.unseen: Recent[bool] = Recent()
        """Task hash and arguments hash of calls that the cache was asked for, and of which there was none."""
