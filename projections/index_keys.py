"""Keys of an index: text that sorts as the table does, made of columns by polars and of one key by Python.

A key is the text of its cells joined by NUL: integers plus 2^63 in 20 digits (those without a sign as they
are), times, dates and durations as the integers that `projections.index_cells` says, booleans as 0 or 1,
bytes as hex, and text with U+0000 written as U+0001 U+0001 and U+0001 as U+0001 U+0002. A key of one text
column is that text. Compared as UTF-8, keys stand in the order in which polars sorts their columns.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from eventstore import ProjectionError
from projections.index_cells import EPOCH, EPOCH_DAY, EPOCH_UTC, Form, physical

__all__ = ["Key", "KeyCodec"]

Key = str | tuple[Any, ...]
"""The cells of a key in order; of a key of one text column also the text."""

_MICROSECOND = dt.timedelta(microseconds=1)
_BIAS = 1 << 63


def _text_key(cell: Any) -> str:
    if not isinstance(cell, str):
        raise TypeError
    return cell.replace("\1", "\1\2").replace("\0", "\1\1")


def _integer_key(cell: Any) -> str:
    if not isinstance(cell, int) or isinstance(cell, bool):
        raise TypeError
    return f"{cell + _BIAS:020d}"


def _natural_key(cell: Any) -> str:
    if not isinstance(cell, int) or isinstance(cell, bool):
        raise TypeError
    return f"{cell:020d}"


def _boolean_key(cell: Any) -> str:
    if not isinstance(cell, bool):
        raise TypeError
    return "1" if cell else "0"


def _time_key(cell: Any) -> str:
    return _integer_key((cell - EPOCH_UTC) // _MICROSECOND)  # a naive time raises TypeError here


def _naive_time_key(cell: Any) -> str:
    return _integer_key((cell - EPOCH) // _MICROSECOND)


def _date_key(cell: Any) -> str:
    if not isinstance(cell, dt.date) or isinstance(cell, dt.datetime):
        raise TypeError
    return _integer_key(cell.toordinal() - EPOCH_DAY)


def _duration_key(cell: Any) -> str:
    if not isinstance(cell, dt.timedelta):
        raise TypeError
    return _integer_key(cell // _MICROSECOND)


def _bytes_key(cell: Any) -> str:
    if not isinstance(cell, bytes):
        raise TypeError
    return cell.hex()


_TO_KEY: Mapping[str, Callable[[Any], str]] = {
    "text": _text_key,
    "integer": _integer_key,
    "natural": _natural_key,
    "boolean": _boolean_key,
    "time": _time_key,
    "naive_time": _naive_time_key,
    "date": _date_key,
    "duration": _duration_key,
    "bytes": _bytes_key,
}
"""To the text of a key's cell, by form; each raises TypeError for what the column cannot hold."""


class KeyCodec:
    """The encoding of keys whose cells have these forms, by polars for columns and by Python for one key.

    Parameters
    ----------
    columns, forms
        Names and forms of the key's columns, in order.

    Raises
    ------
    ProjectionError
        A column's type cannot be in a key (code ``unsupported_type``).
    """

    def __init__(self, columns: Sequence[str], forms: Sequence[Form]) -> None:
        self.columns = tuple(columns)
        self._forms = tuple(forms)
        self._cells = [self._cell_encoder(name, form) for name, form in zip(columns, forms, strict=True)]
        self._is_text = self._forms == ("text",)

    @staticmethod
    def _cell_encoder(column: str, form: Form) -> Callable[[Any], str]:
        to_key = _TO_KEY.get(form) if isinstance(form, str) else None
        if to_key is None:
            raise ProjectionError(
                f"column {column!r} of a key: expected text, bytes, integers, booleans, dates, times or "
                f"durations; found {form}. Next: choose another key",
                code="unsupported_type",
                column=column,
            )
        return to_key

    def encode(self, key: Key) -> bytes:
        """Return the bytes of one key; what no column can hold, such as an integer too large, fits no row.

        Raises
        ------
        ProjectionError
            The key has another number or other types of cells (code ``bad_key``).
        """
        try:
            if self._is_text:
                text = key if isinstance(key, str) else _only(key)
                return text.encode("utf-8", "surrogatepass")
            if isinstance(key, tuple):
                cells = [to_key(cell) for to_key, cell in zip(self._cells, key, strict=True)]
                return "\0".join(cells).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError):
            pass
        expected = ", ".join(f"{name}: {form}" for name, form in zip(self.columns, self._forms, strict=True))
        raise ProjectionError(
            f"a key ({expected}) was expected, found {key!r}. Next: give its cells as a tuple, in this order",
            code="bad_key",
            expected=expected,
            found=repr(key),
        )

    def encode_column(self, frame: pl.DataFrame) -> pl.Series:
        """Return the keys of a frame as text whose UTF-8 is what `encode` gives."""
        if self._is_text:
            return frame[self.columns[0]]
        cells = [self._cell(frame, name, form) for name, form in zip(self.columns, self._forms, strict=True)]
        return frame.select(pl.concat_str(cells, separator="\0")).to_series()

    @staticmethod
    def _cell(frame: pl.DataFrame, name: str, form: Form) -> pl.Expr:
        cell = pl.col(name)
        match form:
            case "text":
                if frame[name].str.contains_any(["\0", "\1"]).any():
                    cell = cell.str.replace_all("\1", "\1\2", literal=True)
                    cell = cell.str.replace_all("\0", "\1\1", literal=True)
                return cell
            case "bytes":
                return cell.bin.encode("hex")
            case "boolean":
                return cell.cast(pl.UInt8).cast(pl.String)
            case "natural":
                return cell.cast(pl.String).str.pad_start(20, "0")
        whole = physical(form, cell).cast(pl.Int64).reinterpret(dtype=pl.UInt64)
        return (whole ^ _BIAS).cast(pl.String).str.pad_start(20, "0")


def _only(key: tuple[Any, ...]) -> str:
    if not isinstance(key, tuple) or len(key) != 1 or not isinstance(key[0], str):
        raise TypeError
    return key[0]
