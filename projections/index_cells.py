"""The forms of columns in an index, and its rows: JSON that polars writes and Python reads without loss.

Each column has a form, named in the index's header. A row is a JSON object of its cells in order, named by
their numbers: text, integers and booleans as they are, times and durations as integers of microseconds (times
since 1970), dates as days since 1970, floats as the 64-bit integer of their IEEE 754 bits, bytes as hex,
lists and structs as JSON's.
"""

from __future__ import annotations

import datetime as dt
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import polars as pl
from polars.datatypes import DataTypeClass

from eventstore import ProjectionError

__all__ = [
    "EPOCH",
    "EPOCH_DAY",
    "EPOCH_UTC",
    "Form",
    "check_cells",
    "form_of",
    "physical",
    "row_column",
    "row_decoder",
]

Form = str | dict[str, Any]
"""A name of `_SCALARS`, ``{"list": form}``, or ``{"struct": [[name, form], ...]}``; JSON as it is."""

EPOCH = dt.datetime(1970, 1, 1)
"""The zero of times without a zone."""
EPOCH_UTC = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The zero of times."""
EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
"""The zero of dates, as `datetime.date` counts days."""

_DOUBLE, _BITS = struct.Struct("<d"), struct.Struct("<q")


@dataclass(frozen=True, slots=True)
class _Scalar:
    """A form without parts: to JSON by polars, and back by Python."""

    to_json: Callable[[pl.Expr], pl.Expr] | None = None
    """None: JSON has it."""
    from_json: Callable[[Any], Any] | None = None


def _float(bits: int) -> float:
    return cast("float", _DOUBLE.unpack(_BITS.pack(bits))[0])


def _microseconds(cell: pl.Expr) -> pl.Expr:
    return cell.dt.cast_time_unit("us").to_physical()


_SCALARS: Mapping[str, _Scalar] = {
    "text": _Scalar(),
    "integer": _Scalar(),
    "natural": _Scalar(),  # 64 bits without a sign
    "boolean": _Scalar(),
    "time": _Scalar(_microseconds, lambda us: EPOCH_UTC + dt.timedelta(microseconds=us)),
    "naive_time": _Scalar(_microseconds, lambda us: EPOCH + dt.timedelta(microseconds=us)),
    "date": _Scalar(lambda cell: cell.to_physical(), lambda days: dt.date.fromordinal(days + EPOCH_DAY)),
    "duration": _Scalar(_microseconds, lambda us: dt.timedelta(microseconds=us)),
    "float": _Scalar(lambda cell: cell.cast(pl.Float64).reinterpret(dtype=pl.Int64), _float),
    "bytes": _Scalar(lambda cell: cell.bin.encode("hex"), bytes.fromhex),
}


def form_of(column: str, dtype: pl.DataType) -> Form:
    """Return the form of a column.

    Raises
    ------
    ProjectionError
        There is none for its type (code ``unsupported_type``).
    """
    match dtype:
        case pl.String():
            return "text"
        case pl.UInt64():
            return "natural"
        case pl.Int8() | pl.Int16() | pl.Int32() | pl.Int64() | pl.UInt8() | pl.UInt16() | pl.UInt32():
            return "integer"
        case pl.Boolean():
            return "boolean"
        case pl.Datetime(time_unit="us" | "ms", time_zone="UTC"):
            return "time"
        case pl.Datetime(time_unit="us" | "ms", time_zone=None):
            return "naive_time"
        case pl.Date():
            return "date"
        case pl.Duration(time_unit="us" | "ms"):
            return "duration"
        case pl.Float32() | pl.Float64():
            return "float"
        case pl.Binary():
            return "bytes"
        case pl.List():
            return {"list": form_of(column, _instance(dtype.inner))}
        case pl.Struct():
            return {
                "struct": [[field.name, form_of(column, _instance(field.dtype))] for field in dtype.fields]
            }
    raise ProjectionError(
        f"column {column!r}: expected text, bytes, integers of at most 64 bits, floats, booleans, dates, "
        "times (in UTC or without a zone) and durations in ms or us, or lists and structs of these; found "
        f"{dtype}. "
        "Next: cast it, or leave it out",
        code="unsupported_type",
        column=column,
    )


def _instance(dtype: pl.DataType | DataTypeClass) -> pl.DataType:
    return dtype if isinstance(dtype, pl.DataType) else dtype()


def check_cells(frame: pl.DataFrame) -> None:
    """Raise ProjectionError (code ``out_of_range``) where a date or time has no equal in Python."""
    for column in frame.iter_columns():
        for leaf in _leaves(column):
            unit = getattr(leaf.dtype, "time_unit", None)
            least, most = _RANGES.get((leaf.dtype.base_type(), unit), (None, None))
            cells = leaf.to_physical() if least is not None else None
            if cells is not None and not cells.is_between(least, most).all():
                raise ProjectionError(
                    f"column {column.name!r} of type {leaf.dtype}: expected times of the years 1 to 9999, or "
                    f"durations of 64 bits of microseconds; found {cells.min()!r} to {cells.max()!r}. "
                    "Next: correct the table's recipe",
                    code="out_of_range",
                    column=column.name,
                )


_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
_MOST_MS = (2**63 - 1) // 1000
_RANGES: Mapping[tuple[Any, str | None], tuple[int, int]] = {
    (pl.Date, None): (_FIRST_US // 86_400_000_000, _LAST_US // 86_400_000_000),
    (pl.Datetime, "us"): (_FIRST_US, _LAST_US),
    (pl.Datetime, "ms"): (_FIRST_US // 1000, _LAST_US // 1000),
    (pl.Duration, "ms"): (-_MOST_MS, _MOST_MS),
}


def _leaves(column: pl.Series) -> Iterator[pl.Series]:
    if isinstance(column.dtype, pl.List):
        if _may_be_out_of_range(column.dtype):
            yield from _leaves(column.explode())
    elif isinstance(column.dtype, pl.Struct):
        for name in column.struct.fields:
            yield from _leaves(column.struct.field(name))
    else:
        yield column


def _may_be_out_of_range(dtype: pl.DataType) -> bool:
    match dtype:
        case pl.List(inner=inner):
            return _may_be_out_of_range(_instance(inner))
        case pl.Struct(fields=fields):
            return any(_may_be_out_of_range(_instance(field.dtype)) for field in fields)
        case _:
            return dtype.is_temporal()


def row_column(frame: pl.DataFrame, forms: Sequence[Form]) -> pl.Series:
    """Return the rows as JSON text; `forms` are those of the columns."""
    cells = [
        physical(form, pl.col(name)).alias(str(number))
        for number, (name, form) in enumerate(zip(frame.columns, forms, strict=True))
    ]
    return frame.select(pl.struct(cells).struct.json_encode()).to_series()


def physical(form: Form, cell: pl.Expr) -> pl.Expr:
    """Return cells as polars' JSON writer takes them without loss."""
    if isinstance(form, str):
        to_json = _SCALARS[form].to_json
        return cell if to_json is None else to_json(cell)
    if _decoder(form) is None:
        return cell
    if "list" in form:
        return cell.list.eval(physical(form["list"], pl.element()))
    fields = [physical(inner, cell.struct.field(name)).alias(name) for name, inner in form["struct"]]
    return pl.when(cell.is_not_null()).then(pl.struct(fields))


def row_decoder(forms: Sequence[Form]) -> Callable[[bytes], tuple[Any, ...]]:
    """Return the function from a row's JSON to its cells; it raises ValueError for anything else."""
    parse = json.JSONDecoder().raw_decode  # `json.loads` without its looking for blanks
    width = len(forms)
    steps = [(number, step) for number, form in enumerate(forms) if (step := _decoder(form)) is not None]

    def decode(raw: bytes) -> tuple[Any, ...]:
        text = raw.decode()
        row, end = parse(text)
        if type(row) is not dict or len(row) != width or end != len(text):
            raise ValueError(f"a row of {width} cells was expected")
        cells = list(row.values())
        for number, step in steps:
            if cells[number] is not None:
                cells[number] = step(cells[number])
        return tuple(cells)

    return decode


def _decoder(form: Form) -> Callable[[Any], Any] | None:
    """Return the function from JSON to Python for cells that are not null; None where they are equal."""
    if isinstance(form, str):
        return _SCALARS[form].from_json
    if "list" in form:
        inner = _decoder(form["list"])
        if inner is None:
            return None
        return lambda cells: [None if cell is None else inner(cell) for cell in cells]
    steps = [(name, decode) for name, field in form["struct"] if (decode := _decoder(field)) is not None]

    def decode_fields(cells: dict[str, Any]) -> dict[str, Any]:
        for name, decode in steps:
            if cells[name] is not None:
                cells[name] = decode(cells[name])
        return cells

    return decode_fields if steps else None
