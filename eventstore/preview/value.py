"""What a listing may show of a stored value, whoever wrote it."""

from __future__ import annotations

from typing import NamedTuple

from eventstore.errors import IntegrityError
from eventstore.pickling import PICKLE_FORMAT
from eventstore.preview.opcodes import Machine
from eventstore.preview.reading import DamagedError
from eventstore.preview.shapes import Leaf, render, short_bytes, short_text
from eventstore.value.arrays import NPY_FORMAT, describe_npy
from eventstore.value.tables import ARROW_FORMAT, read_arrow

__all__ = ["Preview", "preview_pickle", "preview_value"]

_TABLE_BYTES = 16 * 1024 * 1024
"""Longer tables are not read for a preview."""


class Preview(NamedTuple):
    """What a value looks like.

    Attributes
    ----------
    text
        One line without control characters.
    names
        The classes and functions that a pickle names, as ``module.name``, the first 100: what unpickling
        would import, and could call.
    whole
        Whether `text` says all of it.
    """

    text: str
    names: tuple[str, ...] = ()
    whole: bool = True


def preview_value(data: bytes, media_type: str = PICKLE_FORMAT, *, limit: int = 200) -> Preview:
    """Return what a stored value looks like; runs nothing that the bytes name, whatever they are.

    Parameters
    ----------
    data, media_type
        As they were recorded.
    limit
        Most characters of the text.
    """
    if media_type == PICKLE_FORMAT:
        return preview_pickle(data, limit=limit)
    if media_type == ARROW_FORMAT:
        shape = Leaf(_table(data), cut=True)
    elif media_type == NPY_FORMAT:
        shape = Leaf(describe_npy(data) or f"<damaged npy file of {len(data):,} bytes>", cut=True)
    elif media_type.startswith("text/") or media_type == "application/json":
        shape = short_text(data[:400].decode("utf-8", "replace"), len(data))
    else:
        told = f"<{repr(media_type[:80])[1:-1]}: {short_bytes(data[:400], len(data)).text}>"
        shape = Leaf(told, cut=len(data) > 40)
    text, whole = render(shape, limit)
    return Preview(text, (), whole)


def preview_pickle(data: bytes, *, limit: int = 200) -> Preview:
    """Return what a pickle would make, read opcode by opcode; parameters as in `preview_value`."""
    machine = Machine(data)
    try:
        shape = machine.run()
        told, ended = "", shape is not None
    except DamagedError as error:
        shape, told, ended = None, f" <damaged pickle: {error}>", False
    if shape is None:
        shape = machine.rest() or Leaf("")
    text, whole = render(shape, max(0, limit - len(told)))
    return Preview((text + told).strip()[:limit], tuple(machine.names), whole and ended)


def _table(data: bytes) -> str:
    if len(data) > _TABLE_BYTES:
        return f"<table of {len(data):,} bytes>"
    try:
        table = read_arrow(data)
    except IntegrityError:
        return f"<damaged Arrow file of {len(data):,} bytes>"
    columns = ", ".join(f"{repr(field.name)[1:-1]}: {field.type}" for field in table.schema)
    return f"<table of {table.num_rows:,} rows: {columns}>"
