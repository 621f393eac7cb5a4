"""Where an argument came from: which earlier calls of the same job returned it, or something in it.

Plain Python hands over values, not expressions, so this is decided by comparing. The rule: an argument comes
from the latest earlier call of the same job whose result has the same value hash. If there is none, each of
its members (of a list, tuple, set or dict, at most `_MOST_MEMBERS`) comes from the latest call that returned
this very object, or an equal number or text, or the same file or handle, alone or as a member of its
result. None, booleans and whatever is empty say nothing, since they are everywhere.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from eventstore.value import Value

__all__ = ["Origins"]

_MOST_RESULTS = 50_000
_MOST_MEMBERS = 1_000
_MOST_BYTES = 16 * 1024 * 1024
_PLAIN = (int, float, str, bytes)
_LONGEST_PLAIN = 256


class Origins:
    """The results that one job got from its calls, newest first in mind; bounded in number and bytes.

    Objects that can only be told by identity are held, so that their identity stays theirs, until newer
    ones push them out.
    """

    __slots__ = ("_bytes", "_calls", "_held", "_members")

    def __init__(self) -> None:
        self._calls: dict[str, str] = {}
        self._members: dict[Any, tuple[Any, str]] = {}
        self._held: deque[tuple[list[Any], str, int]] = deque()
        self._bytes = 0

    def note(self, value: Any, value_hash: str, size_bytes: int, call_hash: str) -> None:
        """Take in that the call `call_hash` returned `value`."""
        if not _speaks(value):
            return
        self._calls.pop(value_hash, None)
        self._calls[value_hash] = call_hash
        if len(self._calls) > _MOST_RESULTS:
            del self._calls[next(iter(self._calls))]
        if size_bytes > _MOST_BYTES:
            return
        keys = []
        for part in (value, *_members(value)):
            if _speaks(part):
                key = _key(part)
                self._members[key] = (part, call_hash)
                keys.append(key)
        self._held.append((keys, call_hash, size_bytes))
        self._bytes += size_bytes
        while self._bytes > _MOST_BYTES or len(self._held) > _MOST_RESULTS:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        keys, call_hash, size_bytes = self._held.popleft()
        self._bytes -= size_bytes
        for key in keys:
            entry = self._members.get(key)
            if entry is not None and entry[1] == call_hash:
                del self._members[key]

    def of(self, value: Any, value_hash: str) -> tuple[str, ...]:
        """Return the call hashes that `value` came from, each once, in order of its members."""
        if not self._calls or not _speaks(value):
            return ()
        direct = self._calls.get(value_hash)
        if direct is not None:
            return (direct,)
        found: dict[str, None] = {}
        for part in (value, *_members(value)):
            if _speaks(part):
                entry = self._members.get(_key(part))
                if entry is not None:
                    found[entry[1]] = None
        return tuple(found)


def _speaks(value: Any) -> bool:
    if value is None or value is True or value is False:
        return False
    return not (isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)) and not value)


def _members(value: Any) -> list[Any]:
    kind = type(value)
    if kind in (list, tuple, set, frozenset) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        members = value
    elif kind is dict:
        members = value.values()
    else:
        return []
    return list(members) if len(members) <= _MOST_MEMBERS else []


def _key(value: Any) -> Any:
    if isinstance(value, Value) and (own := value.own_hash) is not None:
        return own
    kind = type(value)
    if kind in _PLAIN and (kind in (int, float) or len(value) <= _LONGEST_PLAIN):
        return (kind, value)
    return id(value)
