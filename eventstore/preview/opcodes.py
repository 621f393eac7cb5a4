"""A reader of pickle opcodes that imports nothing, calls nothing and allocates next to nothing.

It keeps the stack and the memo of a pickle machine, with shapes in place of objects. Whatever the bytes are,
it ends after `MOST_STEPS` opcodes, copies at most a few bytes of each text, and never recurses.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable

from eventstore.preview.reading import COUNTED, NUMBERS, Cursor, DamagedError
from eventstore.preview.shapes import Group, Leaf, Made, Shape, short_text

__all__ = ["MOST_STEPS", "Machine"]

MOST_STEPS = 20_000
_MOST_NAMES = 100

_CONSTANTS = {"NONE": "None", "NEWTRUE": "True", "NEWFALSE": "False"}
_EMPTY = {
    "EMPTY_LIST": ("[", "]"),
    "EMPTY_TUPLE": ("(", ")"),
    "EMPTY_DICT": ("{", "}"),
    "EMPTY_SET": ("{", "}"),
}
_NAMES = {ord(info.code): info.name for info in pickletools.opcodes}


class _Mark:
    """Where a group begins on the stack."""


class Machine:
    """Reads one pickle; `run` returns the shape of what it would make."""

    def __init__(self, data: bytes) -> None:
        self.names: dict[str, None] = {}
        self._read = Cursor(data)
        self._stack: list[Shape | _Mark] = []
        self._memo: dict[int, Shape] = {}

    def run(self) -> Shape | None:
        """Return the shape at STOP; None if that did not come within `MOST_STEPS`: see `rest`.

        Raises
        ------
        DamagedError
            The bytes are no pickle.
        """
        for _ in range(MOST_STEPS):
            name = _NAMES.get(self._read.opcode())
            if name is None:
                raise DamagedError(f"no opcode is at byte {self._read.place - 1}")
            if name == "STOP":
                return self._pop()
            self._step(name)
        return None

    def rest(self) -> Shape | None:
        """Return what is on the stack where the reading ended, put together as far as it goes."""
        marks = sum(isinstance(each, _Mark) for each in self._stack)
        while marks:
            items = self._items()
            marks -= 1
            group = _filled(self._stack[-1] if self._stack else None)
            if group is None:
                group = Group("(", ")", [])
                self._stack.append(group)
            _cut_short(group, items)
        bottom, above = self._stack[:1], self._stack[1:]
        if not bottom or isinstance(bottom[0], _Mark):
            return None
        shape, items = bottom[0], [each for each in above if not isinstance(each, _Mark)]
        if isinstance(shape, Made) and items:
            shape.state = items[0]
            _cut_short(_filled(items[0]), items[1:])
        elif isinstance(shape, Leaf) and items:
            arguments = Group("(", ")", items)
            arguments.cut = True
            return Made(shape, arguments)
        else:
            _cut_short(_filled(shape), items)
        return shape

    # reading ---------------------------------------------------------------------------------------------

    def _step(self, name: str) -> None:
        if name in COUNTED:
            self._push(self._read.counted(*COUNTED[name]))
        elif name in NUMBERS:
            self._push(Leaf(repr(self._read.number(NUMBERS[name]))))
        elif name in _CONSTANTS:
            self._push(Leaf(_CONSTANTS[name]))
        elif name in _EMPTY:
            self._push(Group(*_EMPTY[name], [], paired=name == "EMPTY_DICT"))
        else:
            hand = _HANDS.get(name)
            if hand is None:
                raise DamagedError(f"opcode {name} does not occur in stored values")
            hand(self)

    # the stack -------------------------------------------------------------------------------------------

    def _push(self, shape: Shape) -> None:
        self._stack.append(shape)

    def _pop(self) -> Shape:
        if not self._stack:
            raise DamagedError("the stack is empty")
        top = self._stack.pop()
        if isinstance(top, _Mark):
            raise DamagedError("a mark is where a value belongs")
        return top

    def _top(self) -> Shape:
        top = self._pop()
        self._push(top)
        return top

    def _items(self) -> list[Shape]:
        """Take what is above the last mark, and the mark."""
        items: list[Shape] = []
        while self._stack:
            top = self._stack.pop()
            if isinstance(top, _Mark):
                items.reverse()
                return items
            items.append(top)
        raise DamagedError("a mark is missing")

    # opcodes ---------------------------------------------------------------------------------------------

    def _do_proto(self) -> None:
        self._read.argument("PROTO")

    def _do_frame(self) -> None:
        self._read.argument("FRAME")

    def _do_mark(self) -> None:
        self._stack.append(_Mark())

    def _do_pop(self) -> None:
        if not self._stack:
            raise DamagedError("the stack is empty")
        self._stack.pop()

    def _do_pop_mark(self) -> None:
        self._items()

    def _do_dup(self) -> None:
        self._push(self._top())

    def _do_int(self) -> None:
        self._push(Leaf({"00": "False", "01": "True"}.get(line := self._read.line(), _plain(line))))

    def _do_long(self) -> None:
        self._push(Leaf(_plain(self._read.line().removesuffix("L"))))

    def _do_float(self) -> None:
        self._push(Leaf(_plain(self._read.line())))

    def _do_unicode(self) -> None:
        text = self._read.line()
        self._push(short_text(text, len(text)))

    _do_string = _do_unicode

    def _do_append(self) -> None:
        self._extend([self._pop()])

    def _do_appends(self) -> None:
        self._extend(self._items())

    _do_additems = _do_appends

    def _do_setitem(self) -> None:
        value = self._pop()
        self._extend([self._pop(), value], paired=True)

    def _do_setitems(self) -> None:
        self._extend(self._items(), paired=True)

    def _extend(self, items: list[Shape], *, paired: bool = False) -> None:
        top = self._top()
        if isinstance(top, Made):
            top.items = top.items or (Group("{", "}", [], paired=True) if paired else Group("[", "]", []))
        group = top.items if isinstance(top, Made) else top
        if not isinstance(group, Group) or group.paired != paired or (paired and len(items) % 2):
            raise DamagedError("items are added to what holds none")
        group.items.extend(items)

    def _do_list(self) -> None:
        self._push(Group("[", "]", self._items()))

    def _do_tuple(self) -> None:
        self._push(Group("(", ")", self._items()))

    def _do_frozenset(self) -> None:
        self._push(Group("frozenset({", "})", self._items()))

    def _do_dict(self) -> None:
        self._push(Group("{", "}", [], paired=True))
        top = self._stack.pop()
        items = self._items()
        self._stack.append(top)
        self._extend(items, paired=True)

    def _do_tuple1(self) -> None:
        self._push(Group("(", ")", [self._pop()]))

    def _do_tuple2(self) -> None:
        second = self._pop()
        self._push(Group("(", ")", [self._pop(), second]))

    def _do_tuple3(self) -> None:
        third, second = self._pop(), self._pop()
        self._push(Group("(", ")", [self._pop(), second, third]))

    def _do_put(self) -> None:
        self._remember(_number(self._read.line()))

    def _do_binput(self) -> None:
        self._remember(self._read.argument("BINPUT"))

    def _do_long_binput(self) -> None:
        self._remember(self._read.argument("LONG_BINPUT"))

    def _do_memoize(self) -> None:
        self._remember(len(self._memo))

    def _remember(self, place: int) -> None:
        self._memo[place] = self._top()

    def _do_get(self) -> None:
        self._recall(_number(self._read.line()))

    def _do_binget(self) -> None:
        self._recall(self._read.argument("BINGET"))

    def _do_long_binget(self) -> None:
        self._recall(self._read.argument("LONG_BINGET"))

    def _recall(self, place: int) -> None:
        shape = self._memo.get(place)
        if shape is None:
            raise DamagedError(f"nothing was remembered as {place}")
        self._push(shape)

    # names, and what would run them ----------------------------------------------------------------------

    def _name(self, module: str, name: str) -> Leaf:
        full = f"{module}.{name}"
        if len(self.names) < _MOST_NAMES:
            self.names[full] = None
        shown = repr(full[:200])[1:-1].removeprefix("builtins.")
        return Leaf(shown, full)

    def _do_global(self) -> None:
        module = self._read.line()
        self._push(self._name(module, self._read.line()))

    def _do_stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        parts = [part.raw if isinstance(part, Leaf) else None for part in (module, name)]
        if not isinstance(parts[0], str) or not isinstance(parts[1], str):
            raise DamagedError("a name is no text")
        self._push(self._name(parts[0], parts[1]))

    def _do_inst(self) -> None:
        module = self._read.line()
        callee = self._name(module, self._read.line())
        self._push(Made(callee, Group("(", ")", self._items())))

    def _do_obj(self) -> None:
        items = self._items()
        if not items:
            raise DamagedError("a class is missing")
        self._push(Made(items[0], Group("(", ")", items[1:])))

    def _do_reduce(self) -> None:
        arguments = self._pop()
        self._push(Made(self._pop(), arguments))

    _do_newobj = _do_reduce

    def _do_newobj_ex(self) -> None:
        keywords, arguments = self._pop(), self._pop()
        made = Made(self._pop(), arguments)
        made.state = keywords
        self._push(made)

    def _do_build(self) -> None:
        state, top = self._pop(), self._top()
        if not isinstance(top, Made):
            raise DamagedError("a state is given to what has none")
        top.state = state

    def _do_persid(self) -> None:
        text = self._read.line()
        self._push(Made(Leaf("<persistent>"), Group("(", ")", [short_text(text, len(text))])))

    def _do_binpersid(self) -> None:
        self._push(Made(Leaf("<persistent>"), Group("(", ")", [self._pop()])))

    def _do_ext1(self) -> None:
        self._extension("EXT1")

    def _do_ext2(self) -> None:
        self._extension("EXT2")

    def _do_ext4(self) -> None:
        self._extension("EXT4")

    def _extension(self, name: str) -> None:
        self._push(Leaf(f"<extension {self._read.argument(name)}>"))

    def _do_next_buffer(self) -> None:
        self._push(Leaf("<buffer>"))

    def _do_readonly_buffer(self) -> None:
        self._top()


_HANDS: dict[str, Callable[[Machine], None]] = {
    name[4:].upper(): getattr(Machine, name) for name in dir(Machine) if name.startswith("_do_")
}


def _filled(below: Shape | _Mark | None) -> Group | None:
    """Return the group that was being filled when the reading ended, if that is what is below."""
    if isinstance(below, Made):
        below = below.items
    return below if isinstance(below, Group) and below.opening != "(" else None


def _cut_short(group: Group | None, items: list[Shape]) -> None:
    """Add to a group what was read of its next members, and say that there is more."""
    if group is not None:
        group.items.extend(items[: len(items) // 2 * 2] if group.paired else items)
        group.cut = True


def _plain(text: str) -> str:
    """Return the text of a number as it is, if it is short."""
    return repr(text)[1:-1] if len(text) <= 64 else f"<number of {len(text)} digits>"


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 10:
        raise DamagedError("a place in the memo is no number")
    return int(text)
