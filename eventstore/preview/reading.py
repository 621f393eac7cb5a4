"""The arguments of pickle opcodes, read one by one from bytes that may be hostile."""

from __future__ import annotations

import struct

from eventstore.preview.shapes import Leaf, short_bytes, short_text

__all__ = ["COUNTED", "NUMBERS", "Cursor", "DamagedError"]

_LONGEST_LINE = 4_096
_KEPT_BYTES = 400

COUNTED = {  # opcode: width of the length, and what is counted
    "SHORT_BINBYTES": (1, "bytes"),
    "BINBYTES": (4, "bytes"),
    "BINBYTES8": (8, "bytes"),
    "BYTEARRAY8": (8, "bytes"),
    "SHORT_BINSTRING": (1, "latin"),
    "BINSTRING": (4, "latin"),
    "SHORT_BINUNICODE": (1, "text"),
    "BINUNICODE": (4, "text"),
    "BINUNICODE8": (8, "text"),
    "LONG1": (1, "integer"),
    "LONG4": (4, "integer"),
}
NUMBERS = {"BININT": "<i", "BININT1": "<B", "BININT2": "<H", "BINFLOAT": ">d"}
_ARGUMENTS = {  # opcode: how its argument is packed
    "BINPUT": "<B",
    "LONG_BINPUT": "<I",
    "BINGET": "<B",
    "LONG_BINGET": "<I",
    "EXT1": "<B",
    "EXT2": "<H",
    "EXT4": "<i",
    "PROTO": "<B",
    "FRAME": "<Q",
}


class DamagedError(Exception):
    """The bytes are no pickle, or break off."""


class Cursor:
    """A place in a pickle. Whatever is announced is checked against what is there before it is taken."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.place = 0

    def opcode(self) -> int:
        """Return the next opcode."""
        return self._take(1)[0]

    def _take(self, count: int) -> memoryview:
        taken = self._data[self.place : self.place + count]
        if len(taken) < count:
            raise DamagedError("it breaks off")
        self.place += count
        return taken

    def number(self, form: str) -> int | float:
        """Return a number packed as `form` says."""
        (found,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return found  # type: ignore[no-any-return]

    def argument(self, name: str) -> int:
        """Return the argument of the opcode called `name`, which has one of fixed length."""
        return int(self.number(_ARGUMENTS[name]))

    def counted(self, width: int, what: str) -> Leaf:
        """Return text, bytes or an integer after its length in `width` bytes; only a part is copied."""
        length = int.from_bytes(self._take(width), "little")
        if length > len(self._data) - self.place:
            raise DamagedError(f"{length} bytes are announced, and {len(self._data) - self.place} are left")
        kept = bytes(self._data[self.place : self.place + min(length, _KEPT_BYTES)])
        self.place += length
        if what == "integer":
            if length > 64:
                return Leaf(f"<int of {length:,} bytes>", cut=True)
            return Leaf(str(int.from_bytes(kept, "little", signed=True)))
        if what == "bytes":
            return short_bytes(kept, length)
        return short_text(kept.decode("latin-1") if what == "latin" else _decoded(kept), length)

    def line(self) -> str:
        """Return the text up to the end of the line."""
        window = bytes(self._data[self.place : self.place + _LONGEST_LINE])
        end = window.find(b"\n")
        if end < 0:
            raise DamagedError("a line does not end")
        self.place += end + 1
        return _decoded(window[:end])


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")
