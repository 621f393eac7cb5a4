"""Containers as redun walks them: lists, tuples, named tuples, sets, dicts and dataclasses, at any depth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from eventstore.value.contract import Value
from eventstore.value.plain import is_plain

__all__ = ["iter_leaves", "iter_values", "map_leaves", "members"]

_ATOMS = frozenset({bool, bytes, complex, float, int, str, type(None)})
_SEQUENCES = frozenset({list, tuple, set, frozenset})


def iter_values(nested: Any) -> Iterator[Value]:
    """Yield each `Value` in `nested`: itself, or at any depth of lists, tuples, sets, dicts, dataclasses."""
    if is_plain(nested):
        return iter(())
    return (leaf for leaf in iter_leaves(nested) if isinstance(leaf, Value))


def iter_leaves(nested: Any) -> Iterator[Any]:
    """Yield what `iter_values` meets that is neither a container nor a plain number or text."""
    stack = [nested]
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind in _ATOMS:
            continue
        inside = None if isinstance(item, Value) else members(item)
        if inside is None:
            yield item
        elif id(item) not in seen:
            seen.add(id(item))
            # Most containers hold plain members alone: those are not looked at one by one.
            if not _ATOMS.issuperset(map(type, inside)):
                stack.extend(reversed(inside))


def members(item: Any) -> list[Any] | None:
    """Return what a container holds, keys of a dict before its values; None if `item` is no container."""
    kind = type(item)
    if kind in _SEQUENCES or (isinstance(item, tuple) and hasattr(item, "_fields")):
        return list(item)
    if kind is dict:
        return [*item.keys(), *item.values()]
    if dataclasses.is_dataclass(kind):
        return [getattr(item, field.name, None) for field in dataclasses.fields(kind)]
    return None


def map_leaves(function: Callable[[Any], Any], nested: Any) -> Any:
    """Return a copy of the containers in `nested`, with `function` applied to whatever is none.

    A dataclass is made anew by its constructor; what is no parameter of it is set afterwards. Containers that
    contain themselves raise RecursionError.
    """
    kind = type(nested)
    if isinstance(nested, Value):
        return function(nested)
    if kind in _SEQUENCES:
        return kind(map_leaves(function, item) for item in nested)
    if isinstance(nested, tuple) and hasattr(nested, "_fields"):
        return kind(*(map_leaves(function, item) for item in nested))
    if kind is dict:
        return {map_leaves(function, key): map_leaves(function, item) for key, item in nested.items()}
    if dataclasses.is_dataclass(kind):
        return _map_dataclass(function, nested)
    return function(nested)


def _map_dataclass(function: Callable[[Any], Any], nested: Any) -> Any:
    fields = dataclasses.fields(nested)
    mapped = {field.name: map_leaves(function, getattr(nested, field.name)) for field in fields}
    made = type(nested)(**{field.name: mapped[field.name] for field in fields if field.init})
    for field in fields:
        if not field.init:
            object.__setattr__(made, field.name, mapped[field.name])
    for name, item in getattr(nested, "__dict__", {}).items():
        made.__dict__.setdefault(name, item)
    return made
