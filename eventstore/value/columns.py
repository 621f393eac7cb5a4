"""The content of Arrow columns as canonical bytes: the same for any chunking, offset, metadata and version.

docs/format.md, "Tables and arrays", says the same in words. Bytes are little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from eventstore.value.problems import UnstorableValueError

__all__ = ["column_digest", "type_facts"]

Update = Callable[[Any], None]
_ID_LENGTH = 40
_WIDTHS = {8: pa.uint8(), 16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}
_PLAIN = (
    (pt.is_boolean, "bool"),
    (pt.is_null, "null"),
    (lambda kind: pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind), "string"),
    (lambda kind: pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind), "binary"),
    (pt.is_date32, "date"),
    (pt.is_date64, "date[ms]"),
    (pt.is_float16, "float16"),
    (pt.is_float32, "float32"),
    (pt.is_float64, "float64"),
)


def type_facts(kind: pa.DataType) -> Any:
    """Return what a hash says of a type: text, or a list for types made of others.

    Raises
    ------
    UnstorableValueError
        The type has no canonical form here, such as a union or an extension type (``unstorable_table``).
    """
    for fits, text in _PLAIN:
        if fits(kind):
            return text
    if pt.is_integer(kind):
        return f"{'int' if pt.is_signed_integer(kind) else 'uint'}{kind.bit_width}"
    if pt.is_timestamp(kind):
        return f"timestamp[{kind.unit}]" if kind.tz is None else f"timestamp[{kind.unit},{kind.tz}]"
    if pt.is_duration(kind):
        return f"duration[{kind.unit}]"
    if pt.is_time(kind):
        return f"time[{kind.unit}]"
    if pt.is_decimal(kind):
        return f"decimal[{kind.precision},{kind.scale}]"
    if pt.is_fixed_size_binary(kind):
        return f"binary[{kind.byte_width}]"
    if pt.is_dictionary(kind):
        return ["dictionary", type_facts(kind.value_type)]
    if pt.is_list(kind) or pt.is_large_list(kind):
        return ["list", type_facts(kind.value_type)]
    if pt.is_fixed_size_list(kind):
        return ["array", kind.list_size, type_facts(kind.value_type)]
    if pt.is_struct(kind):
        return ["struct", [[field.name, type_facts(field.type)] for field in kind]]
    raise UnstorableValueError(
        f"a column type with a canonical form was expected, found {kind}: cast the column, or keep the table "
        "as a file and record the file",
        code="unstorable_table",
    )


def column_digest(column: pa.ChunkedArray | pa.Array) -> str:
    """Return the digest of a column's content: SHA-512 of its canonical bytes, 40 hex characters."""
    digest = hashlib.sha512()
    if isinstance(column, pa.ChunkedArray):
        large = _large(column.type)
        column = column if large is None else column.cast(large)
        column = (
            column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [_none(column)])
        )
    _feed(digest.update, column)
    return digest.hexdigest()[:_ID_LENGTH]


def _none(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([], column.type)


def _feed(update: Update, array: pa.Array) -> None:
    kind = array.type
    if pt.is_dictionary(kind):
        _feed(update, array.dictionary_decode())
        return
    if array.null_count and not pt.is_null(kind):
        update(b"\x01")
        _feed_fixed(update, array.is_valid().cast(pa.uint8()))
    else:
        update(b"\x00")
    large = _large(kind)
    if large is not None:
        _feed_text(update, array.cast(large))
    elif pt.is_struct(kind):
        for child in array.flatten():
            _feed(update, child)
    elif pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind):
        lengths = pc.list_value_length(array).cast(pa.int64())
        _feed_fixed(update, lengths.fill_null(0) if lengths.null_count else lengths)
        _feed(update, array.flatten())
    elif not pt.is_null(kind):
        _feed_fixed(update, _numbers(array))


def _large(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of text or bytes with 64-bit offsets; None for what is neither."""
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.large_string()
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind):
        return pa.large_binary()
    return None


def _feed_text(update: Update, array: pa.Array) -> None:
    if array.null_count:
        array = array.fill_null(b"" if pt.is_large_binary(array.type) else "")
    _feed_fixed(update, pc.binary_length(array).cast(pa.int64()))
    _, offsets, content = array.buffers()
    if len(array) and content is not None:
        (start,) = struct.unpack_from("<q", offsets, 8 * array.offset)
        (end,) = struct.unpack_from("<q", offsets, 8 * (array.offset + len(array)))
        update(memoryview(content)[start:end])


def _numbers(array: pa.Array) -> pa.Array:
    """Return fixed-width values with nulls as zeros and every NaN alike."""
    kind = array.type
    if pt.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif pt.is_floating(kind):
        array = array.cast(pa.float32()) if pt.is_float16(kind) else array
        unequal = pc.is_nan(array)
        if pc.any(unequal).as_py():
            array = pc.if_else(unequal, pa.scalar(float("nan"), array.type), array)
    elif pt.is_decimal(kind):
        array = array.cast(pa.decimal256(kind.precision, kind.scale))
        return array.fill_null(pa.scalar(Decimal(0), array.type)) if array.null_count else array
    elif pt.is_fixed_size_binary(kind):
        return array.fill_null(bytes(kind.byte_width)) if array.null_count else array
    array = array.view(_WIDTHS[array.type.bit_width])
    return array.fill_null(0) if array.null_count else array


def _feed_fixed(update: Update, array: pa.Array) -> None:
    content = array.buffers()[1]
    if len(array) and content is not None:
        width = array.type.bit_width // 8
        update(memoryview(content)[array.offset * width : (array.offset + len(array)) * width])
