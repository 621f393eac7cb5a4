"""The content digest: computed again in plain Python from the words of its definition."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import io
import json
import struct
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore import ProjectionError
from projections import ContentDigest, content_digest

EPOCH = dt.datetime(1970, 1, 1)
_UNITS = {"ms": 1_000, "us": 1, "ns": 1}


def _ticks(span: dt.timedelta, unit: str) -> int:
    micros = span // dt.timedelta(microseconds=1)
    return {"ms": micros // 1000, "us": micros, "ns": micros * 1000}[unit]


def _number(dtype: Any, cell: Any) -> bytes:
    """One cell of fixed width, as the definition says; null is zero."""
    if isinstance(dtype, pl.Decimal):
        return int((cell or decimal.Decimal(0)).scaleb(dtype.scale)).to_bytes(16, "little", signed=True)
    if dtype in (pl.Float32, pl.Float64):
        return struct.pack("<f" if dtype == pl.Float32 else "<d", 0.0 if cell is None else cell)
    if dtype == pl.Date:
        return struct.pack("<i", 0 if cell is None else (cell - EPOCH.date()).days)
    if isinstance(dtype, pl.Datetime):
        since = dt.timedelta(0) if cell is None else cell.replace(tzinfo=None) - EPOCH
        return struct.pack("<q", _ticks(since, dtype.time_unit))
    if isinstance(dtype, pl.Duration):
        return struct.pack("<q", 0 if cell is None else _ticks(cell, dtype.time_unit))
    if dtype == pl.Time:
        since = dt.datetime.combine(EPOCH, cell or dt.time(0)) - EPOCH
        return struct.pack("<q", _ticks(since, "ns"))
    if dtype == pl.Boolean:
        return bytes([bool(cell)])
    width = {"8": 1, "16": 2, "32": 4, "64": 8}[str(dtype).lstrip("UInt")]
    return int(cell or 0).to_bytes(width, "little", signed=str(dtype).startswith("I"))


def _streams(dtype: Any, cells: list[Any]) -> list[bytes]:
    """All streams of a column."""
    nulls = b"".join(struct.pack("<Q", row) for row, cell in enumerate(cells) if cell is None)
    if dtype in (pl.String, pl.Binary):
        data = [cell.encode() if isinstance(cell, str) else cell or b"" for cell in cells]
        return [nulls, b"".join(struct.pack("<I", len(one)) for one in data), b"".join(data)]
    if isinstance(dtype, pl.List):
        lengths = b"".join(struct.pack("<I", len(cell or ())) for cell in cells)
        return [nulls, lengths, *_streams(dtype.inner, [item for cell in cells for item in cell or ()])]
    if isinstance(dtype, pl.Struct):
        parts = [
            stream
            for field in dtype.fields
            for stream in _streams(
                field.dtype, [None if cell is None else cell[field.name] for cell in cells]
            )
        ]
        return [nulls, b"", *parts]
    return [nulls, b"".join(_number(dtype, cell) for cell in cells)]


def plain_digest(table: dict[str, tuple[Any, list[Any]]], key: list[str]) -> str:
    """Compute the digest of columns, each its type and cells."""
    rows = len(next(iter(table.values()))[1])
    head = {
        "columns": [[name, str(dtype)] for name, (dtype, _) in table.items()],
        "key": key,
        "rows": rows,
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    for dtype, cells in table.values():
        for stream in _streams(dtype, cells):
            digest.update(hashlib.sha256(stream).digest())
    return digest.hexdigest()


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_when = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))
_milli = _when.map(lambda one: one.replace(microsecond=one.microsecond // 1000 * 1000))
_whole = st.integers(-(2**40), 2**40)
_pair = pl.Struct({"a": pl.Int32(), "b": pl.List(pl.String())})
CELLS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pl.String(), _text),
    (pl.Binary(), st.binary(max_size=20)),
    (pl.Boolean(), st.booleans()),
    *(
        (getattr(pl, f"Int{bits}")(), st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
        for bits in (8, 16, 32, 64)
    ),
    *((getattr(pl, f"UInt{bits}")(), st.integers(0, 2**bits - 1)) for bits in (8, 16, 32, 64)),
    (pl.Float32(), st.floats(width=32, allow_nan=False)),
    (pl.Float64(), st.floats(allow_nan=False)),
    (pl.Decimal(12, 3), st.decimals(-(10**8), 10**8, places=3)),
    (pl.Date(), st.dates()),
    (pl.Time(), st.times()),
    (pl.Datetime("us", "UTC"), _when.map(lambda one: one.replace(tzinfo=dt.UTC))),
    (pl.Datetime("ms"), _milli),
    (pl.Datetime("ns"), _when),
    (pl.Duration("us"), st.timedeltas(dt.timedelta(-(10**6)), dt.timedelta(10**6))),
    (pl.List(pl.String()), st.lists(st.none() | _text, max_size=3)),
    (pl.List(pl.List(pl.Int16())), st.lists(st.none() | st.lists(st.integers(0, 9), max_size=2), max_size=3)),
    (
        pl.List(_pair),
        st.lists(st.none() | st.fixed_dictionaries({"a": st.none(), "b": st.just(["x"])}), max_size=2),
    ),
    (
        _pair,
        st.fixed_dictionaries(
            {"a": st.none() | st.integers(-5, 5), "b": st.none() | st.lists(_text, max_size=2)}
        ),
    ),
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, tuple[Any, list[Any]]], list[int]]:
    """Columns of some types, with nulls, and places to cut."""
    rows = draw(st.integers(0, 12))
    chosen = draw(st.lists(st.sampled_from(range(len(CELLS))), min_size=1, max_size=4))
    table = {
        f"c{number}": (CELLS[one][0], draw(st.lists(st.none() | CELLS[one][1], min_size=rows, max_size=rows)))
        for number, one in enumerate(chosen)
    }
    return table, sorted(draw(st.lists(st.integers(0, rows), max_size=3)))


@given(made=tables())
def test_the_digest_is_what_its_definition_says(made: Any) -> None:
    """For every type, with nulls: plain Python comes to the same digest, over any split into batches."""
    table, cuts = made
    frame = pl.DataFrame([pl.Series(name, cells, dtype) for name, (dtype, cells) in table.items()])
    digest = ContentDigest(frame.schema, ["c0"])
    for start, end in pairwise([0, *cuts, frame.height]):
        digest.add(frame.slice(start, end - start))
    assert digest.hexdigest() == plain_digest(table, ["c0"])
    assert content_digest(frame, ["c0"]) == digest.hexdigest()


@pytest.mark.parametrize("number", range(len(CELLS)), ids=[str(dtype) for dtype, _ in CELLS])
def test_every_type_with_and_without_nulls(number: int) -> None:
    """Each type alone: no rows, nulls only, and nulls at both ends and in between."""
    dtype, strategy = CELLS[number]
    for seed in ([], [None, None], [None, strategy, None, strategy, None]):

        @settings(max_examples=10)
        @given(cells=st.tuples(*(st.none() if one is None else one for one in seed)))
        def check(cells: tuple[Any, ...]) -> None:
            found = content_digest(pl.Series("k", list(cells), dtype).to_frame(), ["k"])
            assert found == plain_digest({"k": (dtype, list(cells))}, ["k"])

        check()


def test_a_worked_example() -> None:
    """Two rows, by hand: a hash of the head and of each stream."""
    table = pl.DataFrame(
        {"k": ["a", "é"], "n": [None, -2], "l": [["x", None], []]},
        schema={"k": pl.String, "n": pl.Int64, "l": pl.List(pl.String)},
    )
    head = '{"columns":[["k","String"],["n","Int64"],["l","List(String)"]],"key":["k"],"rows":2}\n'
    streams = [
        *(b"", struct.pack("<II", 1, 2), "aé".encode()),
        *(struct.pack("<Q", 0), struct.pack("<qq", 0, -2)),
        *(b"", struct.pack("<II", 2, 0)),
        *(struct.pack("<Q", 1), struct.pack("<II", 1, 0), b"x"),
    ]
    whole = hashlib.sha256(head.encode() + b"".join(hashlib.sha256(one).digest() for one in streams))
    assert content_digest(table, ("k",)) == whole.hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        {"k": ["a", "b"], "n": [1, 3]},
        {"k": ["a", "c"], "n": [1, 2]},
        {"k": ["ab", ""], "n": [1, 2]},
        {"k": ["a", None], "n": [1, 2]},
        {"k": ["a", "b"], "n": [1, None]},
        {"k": ["a", "b"], "m": [1, 2]},
        {"k": ["a", "b"], "n": [1.0, 2.0]},
        {"k": ["a"], "n": [1]},
        {"n": [1, 2], "k": ["a", "b"]},
    ],
)
def test_any_change_of_content_changes_the_digest(other: dict[str, list[object]]) -> None:
    """Cells, their borders, nulls, names, types, order and rows all enter."""
    base = content_digest(pl.DataFrame({"k": ["a", "b"], "n": [1, 2]}), ("k",))
    assert content_digest(pl.DataFrame(other), ("k",)) != base


def test_the_key_enters() -> None:
    """The same rows under another key are another table."""
    table = pl.DataFrame({"k": ["a"], "n": [1]})
    assert content_digest(table, ("k",)) != content_digest(table, ("n",))


def test_the_digest_does_not_see_how_the_table_lies_in_memory() -> None:
    """Chunks, slices and a way through Parquet make no difference; nor do bytes under nulls."""
    table = pl.DataFrame(
        {
            "k": [f"key {n:03}" for n in range(40)],
            "t": [None if n % 3 else f"a longer text than twelve bytes {n}" for n in range(40)],
            "when": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=n) for n in range(40)],
            "s": [{"a": n, "b": [n] * (n % 3)} if n % 5 else None for n in range(40)],
            "l": [[{"x": n, "y": [None, "y"]}] * (n % 4) if n % 7 else None for n in range(40)],
            "raw": [bytes([n]) * n for n in range(40)],
        }
    )
    digest = content_digest(table, ("k",))
    chunked = pl.concat([table.slice(0, 7), table.slice(7, 20), table.slice(27)], rechunk=False)
    padded = pl.concat([table.head(3), table, table.tail(3)]).slice(3, 40)
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    buffer.seek(0)
    hidden = table.with_columns(
        t=pl.when(pl.col("t").is_not_null()).then(pl.col("t").fill_null("hidden")),
        s=pl.when(pl.col("s").is_not_null()).then(
            pl.struct(a=pl.col("s").struct["a"], b=pl.col("s").struct["b"])
        ),
    )
    for same in (chunked, padded, pl.read_parquet(buffer), hidden):
        assert content_digest(same, ("k",)) == digest


@pytest.mark.parametrize(
    "dtype",
    [pl.Categorical(), pl.Enum(["a"]), pl.Int128(), pl.UInt128(), pl.Null(), pl.Array(pl.Int8(), 2)],
    ids=str,
)
def test_a_type_without_canonical_form_is_refused(dtype: Any) -> None:
    """A column that has no canonical bytes is an error and not a made-up digest, at any depth."""
    for one in (dtype, pl.List(dtype), pl.Struct({"a": dtype})):
        with pytest.raises(ProjectionError) as got:
            content_digest(pl.DataFrame(schema={"k": one}), ("k",))
        assert got.value.code == "unsupported_type"
