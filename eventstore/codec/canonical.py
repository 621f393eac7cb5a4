"""The canonical bytes of an event, and its hash from them: one at a time, and in bulk over Arrow columns.

A header and a body are bencoded maps of the fields that are not null, so they do not depend on Parquet,
on column order, or on columns that are added later. docs/format.md, section "Event hash", is the law.
The single encoder is compiled once for each kind; the bulk one builds the same bytes with Arrow kernels.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eventstore.codec.schema import BODY_COLUMNS, SCHEMA
from eventstore.errors import IntegrityError

__all__ = [
    "BodyEncoder",
    "body_encoder",
    "decode_body",
    "decode_header",
    "event_hashes",
    "header_encoder",
    "microseconds",
]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)

Fields = Mapping[str, Any]
BodyEncoder = Callable[[Fields, int, str | None, str | None], bytes]
"""(fields, recorded_at in microseconds, default actor, software) -> the canonical body."""


def microseconds(moment: dt.datetime) -> int:
    """Whole microseconds from the Unix epoch to an aware `moment`."""
    return (moment - _EPOCH) // _MICROSECOND


# one event -----------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    return f"{len(text) if text.isascii() else len(text.encode())}:{text}"


def _texts(items: Iterable[str]) -> str:
    return f"l{''.join([_text(item) for item in items])}e"


def _structs(items: Iterable[Any], names: tuple[str, ...]) -> str:
    parts = ["l"]
    for item in items:
        parts.append("d")
        get = item.get if isinstance(item, Mapping) else item.__dict__.get
        for name in names:
            value = get(name)
            if value is None:
                continue
            if isinstance(value, str):
                encoded = _text(value)
            elif isinstance(value, int):
                encoded = f"i{value}e"
            else:
                encoded = _texts(value)
            parts.append(f"{len(name)}:{name}{encoded}")
        parts.append("e")
    parts.append("e")
    return "".join(parts)


def _time(value: dt.datetime | int) -> int:
    return value if isinstance(value, int) else microseconds(value)


@lru_cache(maxsize=1024)
def body_encoder(columns: tuple[str, ...]) -> BodyEncoder:
    """Compile the encoder of a kind that fills `columns` (body columns, any order).

    The columns ``actor``, ``occurred_at`` and ``software`` take the defaults that the encoder is called
    with when the fields do not say them; every other absent or None field is left out.
    """
    lines = [
        "def encode(fields, recorded_us, actor, software):",
        "    get = fields.get",
        "    out = 'd'",
    ]
    names = sorted({*columns, "actor", "occurred_at", "reason", "software"})
    head_done = False
    for name in names:
        kind = SCHEMA.field(name).type
        key = f"{len(name)}:{name}"
        default = {"actor": "actor", "software": "software", "occurred_at": "recorded_us"}.get(name)
        lines.append(f"    v = get({name!r})")
        if default:
            lines.append(f"    if v is None: v = {default}")
        lines.append("    if v is not None:")
        if pa.types.is_string(kind):
            lines.append(f"        out += f'{key}{{len(v)}}:{{v}}' if v.isascii() else {key!r} + _text(v)")
        elif pa.types.is_timestamp(kind):
            lines.append(f"        out += f'{key}i{{v if v.__class__ is int else _time(v)}}e'")
        elif pa.types.is_integer(kind):
            lines.append(f"        out += f'{key}i{{v}}e'")
        elif pa.types.is_boolean(kind):
            lines.append(f"        out += '{key}i1e' if v else '{key}i0e'")
        elif pa.types.is_binary(kind):
            assert not head_done, "one column of raw bytes a body"
            head_done = True
            lines.append(f"        head = f'{{out}}{key}{{len(v)}}:'.encode() + v")
            lines.append("        out = ''")
            lines.append("    else: head = b''")
        elif pa.types.is_struct(kind.value_type):
            members = tuple(kind.value_type.field(i).name for i in range(kind.value_type.num_fields))
            lines.append(f"        out += {key!r} + _structs(v, {members!r})")
        else:
            lines.append(f"        out += {key!r} + _texts(v)")
    lines.append("    return head + (out + 'e').encode()" if head_done else "    return (out + 'e').encode()")
    scope: dict[str, Any] = {"_text": _text, "_texts": _texts, "_structs": _structs, "_time": _time}
    exec("\n".join(lines), scope)
    return scope["encode"]  # type: ignore[no-any-return]


def header_encoder(kind: str, version: int, writer: str) -> Callable[[bytes, int, int], bytes]:
    """Compile (body digest, recorded_at in microseconds, sequence) -> the canonical header."""
    raw = kind.encode()
    head = b"d11:body_digest32:"
    middle = b"4:kind%d:%b11:recorded_ati" % (len(raw), raw)
    tail = b"e7:versioni%de6:writer%d:%be" % (version, len(writer), writer.encode())

    def encode(digest: bytes, recorded_us: int, sequence: int) -> bytes:
        return b"%b%b%b%de8:sequencei%d%b" % (head, digest, middle, recorded_us, sequence, tail)

    return encode


# back again ----------------------------------------------------------------------------------------------


def decode_header(raw: bytes) -> dict[str, Any]:
    """Read a canonical header: kind, version, writer, sequence, recorded_at (microseconds), body_digest."""
    fields = _bdecode_all(raw)
    return {
        name.decode(): value.decode() if name in (b"kind", b"writer") else value
        for name, value in fields.items()
    }


def decode_body(raw: bytes) -> dict[str, Any]:
    """Read a canonical body: column name to Python value; times as integer microseconds.

    Raises
    ------
    IntegrityError
        The bytes are not a canonical body of known columns (code ``bad_body``).
    """
    try:
        return {
            name.decode(): _typed(value, SCHEMA.field(name.decode()).type)
            for name, value in _bdecode_all(raw).items()
        }
    except (KeyError, ValueError, AttributeError, IndexError) as error:
        raise IntegrityError(
            f"a canonical event body was expected, found bytes that do not parse ({error}); "
            "run `eventstore verify`",
            code="bad_body",
        ) from error


def _typed(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return value.decode()
    if pa.types.is_boolean(kind):
        return bool(value)
    if pa.types.is_list(kind):
        return [_typed(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {name.decode(): _typed(item, kind.field(name.decode()).type) for name, item in value.items()}
    return value


def _bdecode_all(raw: bytes) -> dict[bytes, Any]:
    value, end = _bdecode(raw, 0)
    if end != len(raw) or not isinstance(value, dict):
        raise ValueError(f"a bencoded map was expected, it ends at byte {end} of {len(raw)}")
    return value


def _bdecode(raw: bytes, at: int) -> tuple[Any, int]:
    mark = raw[at : at + 1]
    if mark == b"i":
        end = raw.index(b"e", at)
        return int(raw[at + 1 : end]), end + 1
    if mark == b"l":
        items = []
        at += 1
        while raw[at : at + 1] != b"e":
            item, at = _bdecode(raw, at)
            items.append(item)
        return items, at + 1
    if mark == b"d":
        fields: dict[bytes, Any] = {}
        at += 1
        while raw[at : at + 1] != b"e":
            key, at = _bdecode(raw, at)
            fields[key], at = _bdecode(raw, at)
        return fields, at + 1
    colon = raw.index(b":", at)
    end = colon + 1 + int(raw[at:colon])
    if end > len(raw):
        raise ValueError(f"text of {raw[at:colon]!r} bytes at {at} runs past the end")
    return raw[colon + 1 : end], end


# in bulk -------------------------------------------------------------------------------------------------

_BINARY = pa.binary()
_BULK_BYTES = 256 * 1024 * 1024


def event_hashes(table: pa.Table) -> list[bytes]:
    """Recompute the hashes of all rows of a table with the columns of a segment, in row order.

    The stored ``event_hash`` is not looked at. Rows whose body was erased enter by ``body_digest``.
    """
    if table.num_rows > 1 and table.nbytes > _BULK_BYTES:
        half = table.num_rows // 2
        return event_hashes(table.slice(0, half)) + event_hashes(table.slice(half))
    table = table.combine_chunks()
    if not table.num_rows:
        return []
    used = [name for name in table.column_names if table[name].null_count < table.num_rows]
    table = table.select(used)
    kinds = table["kind"].unique().to_pylist()
    if len(kinds) == 1:
        return _hashes_of_kind(table)
    hashes: list[bytes] = [b""] * table.num_rows
    for kind in kinds:
        rows = pc.indices_nonzero(pc.equal(table["kind"], kind))
        for row, digest in zip(
            rows.to_pylist(), _hashes_of_kind(table.take(rows).combine_chunks()), strict=True
        ):
            hashes[row] = digest
    return hashes


def _hashes_of_kind(table: pa.Table) -> list[bytes]:
    sha256 = hashlib.sha256
    if "salt" in table.column_names:
        pieces = [_constant(b"\x02"), _column(table, "salt").cast(_BINARY), _constant(b"d")]
        for name in BODY_COLUMNS:
            if name in table.column_names and table[name].null_count < table.num_rows:
                pieces.extend(_field(name, _column(table, name)))
        pieces.append(_constant(b"e"))
        digests = [sha256(raw).digest() for raw in _join(pieces, table.num_rows).to_pylist()]
    else:
        digests = [b""] * table.num_rows
    if "body_digest" in table.column_names:
        erased = table["body_digest"].to_pylist()
        digests = [kept or digest for kept, digest in zip(erased, digests, strict=True)]
    pieces = [_constant(b"\x00d11:body_digest32:"), pa.array(digests, _BINARY)]
    for name in ("kind", "recorded_at", "sequence", "version", "writer"):
        pieces.extend(_field(name, _column(table, name)))
    pieces.append(_constant(b"e"))
    return [sha256(raw).digest() for raw in _join(pieces, table.num_rows).to_pylist()]


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _constant(raw: bytes) -> pa.Scalar:
    return pa.scalar(raw, _BINARY)


def _join(pieces: Sequence[pa.Array | pa.Scalar], rows: int) -> pa.Array:
    """Concatenate pieces row by row; a null piece adds nothing."""
    merged: list[pa.Array | pa.Scalar] = []
    for piece in pieces:
        if isinstance(piece, pa.Scalar) and merged and isinstance(merged[-1], pa.Scalar):
            merged[-1] = _constant(merged[-1].as_py() + piece.as_py())
        else:
            merged.append(piece)
    if not any(isinstance(piece, pa.Array) for piece in merged):
        return pa.array([b"".join(piece.as_py() for piece in merged)] * rows, _BINARY)
    return pc.binary_join_element_wise(*merged, _constant(b""), null_handling="replace", null_replacement=b"")


def _field(name: str, column: pa.Array) -> list[pa.Array | pa.Scalar]:
    """The pieces of one map entry: key and value, or nothing where the column is null."""
    key = _constant(b"%d:%b" % (len(name), name.encode()))
    pieces = [key, *_encoded(column)]
    if not column.null_count:
        return pieces
    return [_where_valid(_join(pieces, len(column)), column)]


def _where_valid(encoded: pa.Array, column: pa.Array) -> pa.Array:
    return pc.if_else(column.is_valid(), encoded, pa.scalar(None, _BINARY))


def _encoded(column: pa.Array) -> list[pa.Array | pa.Scalar]:
    """The pieces that together are the bencode of each item; where an item is null they are arbitrary."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return [_constant(b"i"), _decimal(column.cast(pa.int8())), _constant(b"e")]
    if pa.types.is_timestamp(kind) or pa.types.is_integer(kind):
        return [_constant(b"i"), _decimal(column.cast(pa.int64())), _constant(b"e")]
    if pa.types.is_list(kind):
        return [_constant(b"l"), _encoded_items(column), _constant(b"e")]
    if pa.types.is_struct(kind):
        pieces: list[pa.Array | pa.Scalar] = [_constant(b"d")]
        for member, values in zip(kind, column.flatten(), strict=True):
            if len(values) and values.null_count == len(values):
                continue
            pieces.extend(_field(member.name, values))
        return [*pieces, _constant(b"e")]
    raw = column.cast(_BINARY)
    lengths = pc.binary_length(raw)
    extremes = pc.min_max(lengths)
    if extremes["min"].as_py() == extremes["max"].as_py() is not None:
        return [_constant(b"%d:" % extremes["min"].as_py()), raw]
    return [_decimal(lengths), _constant(b":"), raw]


def _decimal(numbers: pa.Array) -> pa.Array:
    return numbers.cast(pa.string()).cast(_BINARY)


def _encoded_items(column: pa.Array) -> pa.Array:
    """The items of each list, encoded and joined; empty for an empty list and for null."""
    items = column.flatten()
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    encoded = _join(_encoded(items), len(items)) if len(items) else pa.array([], _BINARY)
    lists = pa.ListArray.from_arrays(offsets, encoded)
    return pc.binary_join(lists, _constant(b""))
