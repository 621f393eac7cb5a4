"""What a pickle would make, as inert shapes, and their text within a given length.

Nothing here is an object of the user's classes: a name stays a name, a call is only noted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

__all__ = ["Group", "Leaf", "Made", "Shape", "render", "short_bytes", "short_text"]

_MOST_DEPTH = 8
_LONGEST_LEAF = 80
_LONGEST_RAW = 400


class Leaf:
    """Text, bytes, a number or a name: `text` is how it is shown, `raw` what it is, where it is short."""

    __slots__ = ("cut", "raw", "text")

    def __init__(self, text: str, raw: str | bytes | None = None, *, cut: bool = False) -> None:
        self.text = text
        self.raw = raw
        self.cut = cut


class Group:
    """A list, tuple, set or dict; of a dict, `items` has keys and values in turn. `cut`: there is more."""

    __slots__ = ("closing", "cut", "items", "opening", "paired")

    def __init__(self, opening: str, closing: str, items: list[Shape], *, paired: bool = False) -> None:
        self.opening = opening
        self.closing = closing
        self.items = items
        self.paired = paired
        self.cut = False


class Made:
    """What a class or function would be called for: `callee`, arguments, the state and items it then gets."""

    __slots__ = ("arguments", "callee", "items", "state")

    def __init__(self, callee: Shape, arguments: Shape) -> None:
        self.callee = callee
        self.arguments = arguments
        self.state: Shape | None = None
        self.items: Group | None = None


Shape = Leaf | Group | Made


def short_text(text: str, length: int) -> Leaf:
    """Return text as Python writes it, nothing that a terminal would obey; it has `length` bytes in all."""
    shown = repr(text[:_LONGEST_LEAF])
    if len(text) <= _LONGEST_LEAF and length <= 4 * _LONGEST_LEAF:
        return Leaf(shown, text)
    return Leaf(f"{shown}... ({length:,} bytes)", text if length <= _LONGEST_RAW else None, cut=True)


def short_bytes(data: bytes, length: int) -> Leaf:
    """Return bytes as Python writes them, cut; `length` is that of all of them."""
    shown = repr(data[: _LONGEST_LEAF // 2])
    if length <= _LONGEST_LEAF // 2:
        return Leaf(shown, data)
    return Leaf(f"{shown}... ({length:,} bytes)", cut=True)


class _FullError(Exception):
    """The text is as long as it may get."""


class _Text:
    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self._left = limit

    def add(self, text: str) -> None:
        if len(text) > self._left:
            self.parts.append(text[: self._left])
            raise _FullError
        self._left -= len(text)
        self.parts.append(text)


def render(shape: Shape, limit: int) -> tuple[str, bool]:
    """Return the text of a shape, at most `limit` characters, and whether all of it is there."""
    text = _Text(limit)
    try:
        whole = _render(shape, text.add, set(), 0)
    except _FullError:
        return "".join(text.parts)[: max(0, limit - 3)] + "..."[:limit], False
    return "".join(text.parts), whole


def _render(shape: Shape, add: Callable[[str], None], above: set[int], depth: int) -> bool:
    if isinstance(shape, Leaf):
        add(shape.text)
        return not shape.cut
    if depth >= _MOST_DEPTH or id(shape) in above:
        add("...")
        return False
    above.add(id(shape))
    whole = True
    if isinstance(shape, Made) and (told := _time(shape)) is not None:
        add(told)
    else:
        opening, closing, cut, parts = _parts(shape)
        if isinstance(opening, str):
            add(opening)
        else:
            whole = _render(opening, add, above, depth + 1)
            add("(")
        first = True
        for before, part in parts:
            add(before if first else f", {before}")
            first = False
            if isinstance(part, tuple):
                whole &= _render(part[0], add, above, depth + 1)
                add(": ")
                part = part[1]
            whole &= _render(part, add, above, depth + 1)
        if cut:
            add("..." if first else ", ...")
        add(closing)
        whole &= not cut
    above.discard(id(shape))
    return whole


Part = tuple[str, Shape | tuple[Shape, Shape]]


def _parts(shape: Group | Made) -> tuple[str | Shape, str, bool, Iterator[Part]]:
    if isinstance(shape, Group):
        closing = ",)" if shape.opening == "(" and len(shape.items) == 1 and not shape.cut else shape.closing
        return shape.opening, closing, shape.cut, _members(shape)
    if isinstance(shape.callee, Leaf) and shape.callee.text in ("set", "frozenset") and shape.state is None:
        inside = _only_group(shape.arguments)
        if inside is not None and inside.items:
            opening, closing = ("{", "}") if shape.callee.text == "set" else ("frozenset({", "})")
            return opening, closing, inside.cut, _members(inside)
    return shape.callee, ")", _is_cut(shape), _inside(shape)


def _only_group(arguments: Shape) -> Group | None:
    items = arguments.items if isinstance(arguments, Group) else []
    return items[0] if len(items) == 1 and isinstance(items[0], Group) else None


def _is_cut(made: Made) -> bool:
    return any(isinstance(part, Group) and part.cut for part in (made.arguments, made.state))


def _members(group: Group) -> Iterator[Part]:
    if not group.paired:
        yield from (("", item) for item in group.items)
        return
    for place in range(0, len(group.items) - 1, 2):
        yield "", (group.items[place], group.items[place + 1])


def _inside(made: Made) -> Iterator[Part]:
    arguments = made.arguments
    yield from _members(arguments) if isinstance(arguments, Group) else iter([("*", arguments)])
    states = [made.state] if made.state is not None else []
    if len(states) == 1 and isinstance(states[0], Group) and states[0].opening == "(":
        states = list(states[0].items)  # of a class with slots: the dict, or None, and the slots
    for state in states:
        if isinstance(state, Group) and state.paired:
            for place in range(0, len(state.items) - 1, 2):
                name, item = state.items[place : place + 2]
                raw = name.raw if isinstance(name, Leaf) else None
                if isinstance(raw, str) and raw.isidentifier():
                    yield f"{raw[:80]}=", item
                else:
                    yield "", (name, item)
        elif not (isinstance(state, Leaf) and state.text == "None"):
            yield "state=", state
    if made.items is not None:
        yield "items=", made.items


def _time(made: Made) -> str | None:
    """Return a date or time as ISO 8601 says it, where it is one without a zone; None for all else."""
    if not isinstance(made.callee, Leaf) or not isinstance(made.arguments, Group):
        return None
    items = made.arguments.items
    raw = items[0].raw if len(items) == 1 and isinstance(items[0], Leaf) else None
    try:
        if made.callee.raw == "datetime.date" and isinstance(raw, bytes) and len(raw) == 4:
            return f"datetime.date({dt.date(raw[0] * 256 + raw[1], raw[2], raw[3])})"
        if made.callee.raw == "datetime.datetime" and isinstance(raw, bytes) and len(raw) == 10:
            micro = int.from_bytes(raw[7:], "big")
            year, month = raw[0] * 256 + raw[1], raw[2] & 127
            told = dt.datetime(year, month, raw[3], raw[4], raw[5], raw[6], micro)
            return f"datetime.datetime({told.isoformat()})"
    except ValueError:
        pass
    return None
