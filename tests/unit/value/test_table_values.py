"""Tables and arrays: stored openly, hashed by content alone, and read back equal, or refused."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import struct
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import IntegrityError, NotFoundError
from eventstore.hashing import hash_bytes, hash_struct
from eventstore.pickling import PICKLE_FORMAT
from eventstore.value import UnstorableValueError, ValueTypes, default_types
from eventstore.value.arrays import NPY_FORMAT
from eventstore.value.tables import ARROW_FORMAT

types = ValueTypes()
types.use_tables("polars", "pandas", "pyarrow", "numpy")
BERLIN = "Europe/Berlin"


def round_trip(value: Any) -> Any:
    """Describe, check, and read back without trust in pickle."""
    found = types.describe(value)
    assert found.format in (ARROW_FORMAT, NPY_FORMAT)
    return types.without_pickle().load(found.type_name, found.data, found.format, value_hash=found.value_hash)


def all_types() -> pl.DataFrame:
    """A frame with a column of each type of polars that Arrow knows, each with a null."""
    return pl.DataFrame(
        {
            "integer": pl.Series([1, None, -3], dtype=pl.Int16),
            "unsigned": pl.Series([1, None, 2**63], dtype=pl.UInt64),
            "number": [0.5, None, -0.0],
            "single": pl.Series([0.5, None, 3], dtype=pl.Float32),
            "text": ["x", None, "größer"],
            "categorical": pl.Series(["u", None, "v"], dtype=pl.Categorical),
            "enum": pl.Series(["u", None, "v"], dtype=pl.Enum(["v", "u", "never"])),
            "list": [[1], None, []],
            "lists": [[["a"], None], None, []],
            "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int64, 2)),
            "decimal": [decimal.Decimal("1.20"), None, decimal.Decimal("-3")],
            "time": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), None, None],
            "local": [dt.datetime(2026, 1, 1), None, None],
            "date": [dt.date(2026, 1, 1), None, None],
            "duration": [dt.timedelta(1), None, None],
            "clock": [dt.time(1), None, None],
            "struct": [{"x": 1, "y": [None]}, {"x": None, "y": None}, None],
            "bytes": [b"1", None, b""],
            "null": [None, None, None],
            "boolean": [True, None, False],
        }
    )


def test_tables_and_arrays_are_plain_pickles_until_asked_for():
    """Nobody's hashes change by an upgrade: the open formats are opt-in, reading them is not."""
    for value in (pl.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}), pa.table({"a": [1]}), np.arange(3)):
        assert default_types.describe(value).format == PICKLE_FORMAT
        found = types.describe(value)
        assert found.format != PICKLE_FORMAT
        back = default_types.load(found.type_name, found.data, found.format, value_hash=found.value_hash)
        assert type(back) is type(value)
    with pytest.raises(KeyError):
        ValueTypes().use_tables("vaex")


@pytest.mark.parametrize("frame", [all_types(), all_types()[:0], pl.DataFrame(), all_types()[1:]])
def test_a_polars_frame_comes_back_equal(frame):
    """Every type, with nulls, empty and sliced: same schema, same values."""
    back = round_trip(frame)
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_the_hash_is_blind_to_layout():
    """Chunks, slices and offsets of equal content have one hash, for frames and for Arrow tables."""
    frame = all_types()
    expected = types.hash(frame)
    assert types.hash(pl.concat([frame[:1], frame[1:]], rechunk=False)) == expected
    assert types.hash(pl.concat([frame, frame], rechunk=False)[3:]) == expected
    table = frame.to_arrow()
    expected = types.hash(table)
    halves = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    assert halves.column(0).num_chunks == 2
    assert types.hash(halves) == expected
    assert types.hash(pa.concat_tables([table, table]).slice(3)) == expected
    assert types.hash(table.replace_schema_metadata({"pandas": "{}", "made": "today"})) == expected
    narrow = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    schema = pa.schema([pa.field(f.name, narrow.get(f.type, f.type)) for f in table.schema])
    assert types.hash(table.cast(schema)) == expected


columns = st.lists(st.none() | st.integers(-3, 3), min_size=1, max_size=6)


@given(columns, columns, st.integers(0, 6))
def test_equal_content_and_only_that_has_an_equal_hash(left, right, cut):
    """Two columns hash alike if and only if they hold the same, however they are chunked."""
    for kind in (pa.int64(), pa.float64(), pa.string(), pa.list_(pa.int8())):
        convert = {pa.string(): str, pa.list_(pa.int8()): lambda item: [item] * abs(item)}.get(
            kind, lambda item: item
        )
        one, other = (
            [None if item is None else convert(item) for item in column] for column in (left, right)
        )
        whole = pa.table({"x": pa.array(one, kind)})
        parts = pa.table({"x": pa.chunked_array([pa.array(one[:cut], kind), pa.array(one[cut:], kind)])})
        assert types.hash(whole) == types.hash(parts)
        assert (types.hash(whole) == types.hash(pa.table({"x": pa.array(other, kind)}))) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        pl.DataFrame({"b": [1, 2]}),
        pl.DataFrame({"a": [2, 1]}),
        pl.DataFrame({"a": [1, 2, 3]}),
        pl.DataFrame({"a": [1.0, 2.0]}),
        pl.DataFrame({"a": pl.Series([1, 2], dtype=pl.Int32)}),
        pl.DataFrame({"a": [1, None]}),
        pl.DataFrame({"a": [1, 2], "b": [None, None]}),
        pl.DataFrame({"a": ["1", "2"]}),
        pl.DataFrame({"a": [[1], [2]]}),
    ],
)
def test_other_content_has_another_hash(other):
    """Names, order, number, types, nulls and values of columns count."""
    assert types.hash(other) != types.hash(pl.DataFrame({"a": [1, 2]}))


def test_what_belongs_to_a_type_counts():
    """Zones, units, scales, sizes, fields and the categories of an enum; kinds of tables are told apart."""
    kinds = [
        *(pl.Datetime("us"), pl.Datetime("ms"), pl.Datetime("us", "UTC"), pl.Datetime("us", BERLIN)),
        *(
            pl.Decimal(10, 2),
            pl.Decimal(12, 2),
            pl.String,
            pl.Categorical,
            pl.Enum(["a"]),
            pl.Enum(["a", "b"]),
        ),
        *(pl.Array(pl.Int8, 2), pl.List(pl.Int8), pl.Struct({"x": pl.Int8}), pl.Struct({"y": pl.Int8})),
        *(pl.List(pl.Enum(["a"])), pl.List(pl.Enum(["b"])), pl.Struct({"x": pl.Enum(["a"])})),
    ]
    hashes = {types.hash(pl.DataFrame(schema={"c": kind})) for kind in kinds}
    assert len(hashes) == len(kinds)
    table = pl.DataFrame({"a": [1]})
    assert len({types.hash(kind) for kind in (table, table.to_arrow(), pd.DataFrame({"a": [1]}))}) == 3


def test_dictionaries_are_hashed_by_what_they_say():
    """How text is encoded as numbers does not count for a categorical column."""
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", "b"]))
    other = pa.DictionaryArray.from_arrays(pa.array([2, 0, None], pa.int8()), pa.array(["b", "never", "a"]))
    assert types.hash(pa.table({"c": one})) == types.hash(pa.table({"c": other}))
    chunked = pa.table({"c": pa.chunked_array([one.cast(one.type), other.cast(one.type)])})
    assert round_trip(chunked).column("c").to_pylist() == ["a", "b", None] * 2


def test_every_nan_is_alike_and_zeros_are_not():
    """The sign and payload of a NaN is no content; the sign of zero is."""
    odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
    for make in (lambda items: pa.table({"x": items}), np.array):
        assert types.hash(make([odd, 1.0])) == types.hash(make([float("nan"), 1.0]))
        assert types.hash(make([0.0])) != types.hash(make([-0.0]))
    assert types.hash(np.array([complex(odd, 1)])) != types.hash(np.array([complex(odd, 2)]))


def test_the_hash_of_a_table_can_be_computed_by_anyone():
    """The formula of docs/format.md, spelled out for one small table."""
    table = pa.table({"n": pa.array([1, None], pa.int32()), "t": ["ab", "c"]})
    numbers = b"\x01" + b"\x01\x00" + struct.pack("<ii", 1, 0)
    text = b"\x00" + struct.pack("<qq", 2, 1) + b"abc"
    described = [["n", "int32", hash_bytes(numbers)], ["t", "string", hash_bytes(text)]]
    expected = hash_struct(["Value.table", "pyarrow.Table", 2, described, b"{}"])
    assert types.hash(table) == expected
    array = np.array([[1, 2]], dtype=">i2")
    raw = hash_bytes(struct.pack("<hh", 1, 2))
    assert types.hash(array) == hash_struct(["Value.array", "numpy.ndarray", "<i2", [1, 2], raw])


def test_the_hash_of_a_table_is_the_same_for_ever():
    """These hashes were computed once; no version of a library may change them."""
    assert types.hash(all_types()) == "525fe8c1ddf6987b4079d0b73c2732488ec0e035"
    assert types.hash(all_types().to_arrow()) == "9b9e56c32a10e4653e4cd4656295d371a085b6ed"
    assert types.hash(some_frame()) == "92d6f71e2fe70410785058399a9143df8ee25e5c"
    assert types.hash(np.arange(6.0).reshape(2, 3)) == "56305bb3e7d4c9d8b5c694e83134347a20aaa3ec"


def test_the_stored_form_is_read_by_other_programs():
    """Bytes of tables are Arrow IPC files, those of arrays are npy files."""
    frame = all_types()
    assert pl.read_ipc(io.BytesIO(types.describe(frame).data)).equals(frame)
    plain = pd.DataFrame({"a": [1, 2]})
    assert pd.read_feather(io.BytesIO(types.describe(plain).data)).equals(plain)
    array = np.arange(4)
    assert np.array_equal(np.load(io.BytesIO(types.describe(array).data), allow_pickle=False), array)


def some_frame() -> pd.DataFrame:
    """A frame with the types that pandas has of its own."""
    return pd.DataFrame(
        {
            "nullable": pd.array([1, None], dtype="Int64"),
            "text": pd.array(["x", None], dtype="str"),
            "category": pd.Categorical(["b", "a"], categories=["b", "a", "never"], ordered=True),
            "time": pd.DatetimeIndex(["2026-01-01", "2026-01-02"], tz=BERLIN).as_unit("us"),
            "number": [1.0, np.nan],
            "boolean": [True, False],
        }
    )


@pytest.mark.parametrize(
    "frame",
    [
        some_frame(),
        some_frame()[::-1],
        some_frame().set_index("text"),
        some_frame().set_index(["category", "time"]),
        some_frame().rename_axis("rows"),
        pd.DataFrame(),
        pd.DataFrame({"x": []}),
        pd.DataFrame({"lists": [[1], [2, 3]]}),
        pd.DataFrame({"x": [1]}, index=pd.RangeIndex(5, 6, name="i")),
    ],
)
def test_a_pandas_frame_comes_back_equal(frame):
    """Extension types, categories and indexes of any kind come back, and count for the hash."""
    back = round_trip(frame)
    pd.testing.assert_frame_equal(back, frame, check_index_type="equiv")
    assert types.hash(back) == types.hash(frame)


def test_the_index_and_dtypes_of_pandas_count():
    """Frames that behave otherwise have other hashes, though their columns hold the same."""
    frame = pd.DataFrame({"a": [1, 2]})
    ordered = pd.Categorical(["a"], categories=["a", "b"], ordered=True)
    others = [
        frame.set_index(pd.Index([7, 8])),
        frame.set_index(pd.RangeIndex(1, 3)),
        frame.rename_axis("i"),
        frame.astype("Int64"),
        *(
            pd.DataFrame({"c": kind})
            for kind in (ordered, ordered.as_unordered(), ordered.remove_unused_categories())
        ),
    ]
    assert len({types.hash(each) for each in (frame, *others)}) == len(others) + 1


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({1: [1]}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"a": [1, "x"]}),
        pd.DataFrame({"a": [1]}, index=pd.array([None], dtype="Int64")),
        pl.DataFrame({"o": [object()]}),
        pl.DataFrame({"i": pl.Series([1], dtype=pl.Int128)}),
        pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))}),
        np.array([None]),
        np.array([1.5], dtype="g"),
        np.array(["a"], dtype="T"),
        np.zeros(1, dtype=[("a", "i4"), ("b", object)]),
        np.zeros(1, dtype=[("\u4e2d", "i4")]),
    ],
    ids=lambda value: str(getattr(value, "dtype", None) or type(value)),
)
def test_what_has_no_stable_form_is_refused(value):
    """Objects, mixed columns and machine-dependent numbers are refused by name, and nothing is pickled."""
    with pytest.raises(UnstorableValueError) as caught:
        types.describe(value)
    assert caught.value.code in ("unstorable_table", "unstorable_array")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3), order="F"),
        np.array(5),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", ">f8")]),
        np.zeros(3, dtype=[("x", "f4", (2, 2))]),
        np.arange(6, dtype=">i4")[::2],
        np.zeros((0, 3)),
        np.array(["a", "bcd"]),
        np.array([b"x"]),
        np.array(["", ""]),
        np.array(["2026-01-01", "NaT"], dtype="M8[D]"),
        np.array([1 + 2j]),
        np.array([True, False]),
        np.zeros(2, "V3"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_an_array_comes_back_equal(array):
    """Shape, dtype and elements come back, in memory of its own that can be written to."""
    back = round_trip(array)
    assert (back.shape, back.dtype) == (array.shape, array.dtype)
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable
    assert types.hash(np.array(array, order="F")) == types.hash(array)


def test_the_padding_of_a_record_is_no_content():
    """Bytes between the fields of a record do not count."""
    kind = np.dtype([("a", "i1"), ("b", "i4")], align=True)
    one, other = (np.frombuffer(bytes([fill] * 8), np.uint8).copy().view(kind) for fill in (0, 255))
    one["a"] = other["a"] = 1
    one["b"] = other["b"] = 2
    assert one.tobytes() != other.tobytes()
    assert types.hash(one) == types.hash(other)


def test_subclasses_are_not_taken_for_what_they_extend():
    """A masked array or a frame of somebody's own keeps what it has besides: it is pickled."""

    class Frame(pd.DataFrame):
        pass

    assert types.describe(np.ma.array([1, 2], mask=[0, 1])).format == PICKLE_FORMAT
    assert types.type_name(Frame()) == f"{__name__}.Frame"


@pytest.mark.parametrize("value", [all_types(), some_frame(), all_types().to_arrow(), np.arange(10)])
def test_damaged_bytes_are_an_error(value):
    """Truncated or altered bytes are an IntegrityError, or differ from the hash; never another value."""
    found = types.describe(value)
    load = types.without_pickle().load
    for data in (b"", b"ARROW1", found.data[:-1], found.data[: len(found.data) // 2], b"\x00" * 100):
        with pytest.raises(IntegrityError):
            load(found.type_name, data, found.format, value_hash=found.value_hash)
    for place in range(0, len(found.data), max(1, len(found.data) // 60)):
        data = bytearray(found.data)
        data[place] ^= 0x41
        try:
            back = load(found.type_name, bytes(data), found.format, value_hash=found.value_hash)
        except IntegrityError:
            continue
        assert types.hash(back) == found.value_hash


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,), }",
        "(" * 5000,
    ],
)
def test_a_hostile_npy_file_neither_runs_nor_allocates(header):
    """A header that lies about its size, wants pickle or is code is an error at once."""
    text = header.encode() + b"\n"
    data = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text + b"\x80\x03N."
    with pytest.raises(IntegrityError) as caught:
        types.load("numpy.ndarray", data, NPY_FORMAT)
    assert caught.value.code == "bad_table"


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    """Reading a table without its library says what to install."""
    import sys

    found = types.describe(all_types())
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(NotFoundError, match="pip install polars") as caught:
        ValueTypes().load(found.type_name, found.data, found.format)
    assert (caught.value.code, caught.value.library) == ("library_missing", "polars")
    with pytest.raises(NotFoundError):
        ValueTypes().use_tables("polars")
