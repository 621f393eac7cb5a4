"""Values that hold nothing but numbers and text: a walk through them finds nothing, so it can be saved."""

from __future__ import annotations

from typing import Any

__all__ = ["is_plain"]

_LEAVES = frozenset({bool, bytes, float, int, str, type(None)})
_DEPTH = 8


def is_plain(value: Any, depth: int = _DEPTH) -> bool:
    """Whether `value` is of Python's own simple types, or a list, tuple or dict of such, not too deep."""
    kind = value.__class__
    if kind in _LEAVES:
        return True
    if kind is dict:
        if not _LEAVES.issuperset(map(type, value)):
            return False
        parts = value.values()
    elif kind is list or kind is tuple:
        parts = value
    else:
        return False
    rest = [part for part in parts if part.__class__ not in _LEAVES]
    return not rest or (depth > 0 and all([is_plain(part, depth - 1) for part in rest]))  # noqa: C419 - faster
