"""The index by key: it answers as the table does, and takes only tables it can answer for."""

from __future__ import annotations

import datetime as dt
import errno
import io
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import ProjectionError, StateError, StorageError
from eventstore.checked_file import PARTIAL
from projections.index_builder import BLOCK_ROWS
from projections.index_cells import form_of
from projections.index_keys import KeyCodec
from projections.key_index import KeyIndex, build, open_index

AT = dt.datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=dt.UTC)
SCHEMA = pl.Schema(
    {
        "id": pl.String,
        "size": pl.Int64,
        "kept": pl.Boolean,
        "at": pl.Datetime("us", "UTC"),
        "note": pl.String,
    }
)
Opener = Callable[..., KeyIndex]


def table(rows: int) -> pl.DataFrame:
    """Return a table with keys that leave room between them, and a null here and there."""
    cells = [
        (f"{2 * n:06d}", n - 5, n % 3 == 0, AT + dt.timedelta(seconds=n), None if n % 4 else f"n{n}")
        for n in range(rows)
    ]
    return pl.DataFrame(cells, schema=SCHEMA, orient="row")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Opener]:
    """A function that indexes frames and opens the result; it is closed after the test."""
    opened = []

    def make(*frames: pl.DataFrame, key: tuple[str, ...] = ("id",)) -> KeyIndex:
        build(tmp_path / "index", frames, key=key, identity="one")
        found = open_index(tmp_path / "index", identity="one")
        assert found is not None
        opened.append(found)
        return found

    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize("rows", [0, 1, 2, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 5 * BLOCK_ROWS + 3])
def test_every_row_is_found_and_nothing_else(index: Opener, rows: int) -> None:
    """Each key gives its row as polars has it; keys before, between and behind give None."""
    made = table(rows)
    found = index(made)
    assert (found.columns, found.key, found.rows) == (tuple(SCHEMA), ("id",), rows)
    assert found.many(made["id"]) == made.rows()
    absent = ["", "0", *(f"{2 * n + 1:06d}" for n in range(-1, rows)), "9999999", "é"]
    assert found.many(absent) == [None] * len(absent)


def test_how_a_table_is_cut_into_frames_does_not_matter(
    index: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, in large and tiny and empty frames, and in small batches inside: the file is the same."""
    made = table(6 * BLOCK_ROWS + 7)
    index(made)
    whole = (tmp_path / "index").read_bytes()
    index(made[:0], made[:1], made[1:BLOCK_ROWS], made[:0], *made[BLOCK_ROWS:].iter_slices(97))
    assert (tmp_path / "index").read_bytes() == whole
    monkeypatch.setattr("projections.index_builder._BATCH_BYTES", 1)
    index(made)
    assert (tmp_path / "index").read_bytes() == whole


def test_large_rows_make_small_batches(index: Opener) -> None:
    """Rows of many pages come back whole, neighbours and all."""
    made = pl.DataFrame({"id": [f"{n:03d}" for n in range(300)]}).with_columns(
        text=pl.concat_str(pl.lit("x" * 40_000), pl.col("id"))
    )
    assert index(made).many(made["id"]) == made.rows()


def test_values_are_pythons_own(index: Opener) -> None:
    """Each type comes back as its Python equal: times aware in UTC to the microsecond, nulls as None."""
    columns: dict[str, tuple[pl.DataType, Any]] = {
        "text": (pl.String(), 'a "\\\n\0\x1f\x7f\u2028é😀'),
        "small": (pl.Int8(), -128),
        "whole": (pl.Int64(), -(2**63)),
        "natural": (pl.UInt64(), 2**64 - 1),
        "flag": (pl.Boolean(), False),
        "time": (pl.Datetime("us", "UTC"), dt.datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC)),
        "milli": (pl.Datetime("ms", "UTC"), dt.datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=dt.UTC)),
        "naive": (pl.Datetime("us"), dt.datetime(1969, 12, 31, 23, 59, 59, 999_999)),
        "day": (pl.Date(), dt.date(1, 1, 1)),
        "span": (pl.Duration("us"), dt.timedelta(days=-1, microseconds=7)),
        "span_ms": (pl.Duration("ms"), dt.timedelta(days=9, milliseconds=7)),
        "double": (pl.Float64(), 0.1 + 0.2),
        "single": (pl.Float32(), 0.5),
        "bytes": (pl.Binary(), b"\0\xff"),
        "list": (pl.List(pl.Int64()), [1, None, 3]),
        "times": (pl.List(pl.Datetime("us", "UTC")), [AT, None]),
        "nested": (pl.List(pl.List(pl.Binary())), [[b"a", None], None, []]),
        "struct": (pl.Struct({"a": pl.Int64(), "b": pl.String()}), {"a": 1, "b": None}),
        "deep": (
            pl.Struct({"l": pl.List(pl.Struct({"t": pl.Date(), "f": pl.Float64()}))}),
            {"l": [{"t": dt.date(2026, 1, 31), "f": -0.0}, None]},
        ),
    }
    schema = {"id": pl.String(), **{name: dtype for name, (dtype, _) in columns.items()}}
    cells = [("a", *(cell for _, cell in columns.values())), ("b", *([None] * len(columns)))]
    found = index(pl.DataFrame(cells, schema=schema, orient="row"))
    assert found.many(["a", "b"]) == cells
    row = dict(zip(found.columns, found.get("a") or (), strict=True))
    assert [type(row[name]) for name in columns] == [type(cell) for _, cell in columns.values()]
    assert row["time"].tzinfo is row["times"][0].tzinfo is dt.UTC
    assert row["naive"].tzinfo is None
    assert math.copysign(1, row["deep"]["l"][0]["f"]) == -1, "the sign of zero is kept"


FLOATS = st.floats(allow_nan=True, allow_infinity=True)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TEXT = ANY_TEXT | st.text("\0\1\2\x1fab\"\\{}[],:'", max_size=5)
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 20)
TIMES = st.datetimes(timezones=st.just(dt.UTC))
CELLS: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "text": (pl.String(), TEXT),
    "integer": (pl.Int64(), INTEGERS),
    "natural": (pl.UInt64(), st.integers(0, 2**64 - 1)),
    "boolean": (pl.Boolean(), st.booleans()),
    "time": (pl.Datetime("us", "UTC"), TIMES),
    "naive": (pl.Datetime("us"), st.datetimes()),
    "date": (pl.Date(), st.dates()),
    "duration": (pl.Duration("us"), st.timedeltas(dt.timedelta(-1_000_000), dt.timedelta(1_000_000))),
    "bytes": (pl.Binary(), st.binary(max_size=5)),
}


@given(st.lists(st.tuples(TEXT, st.none() | FLOATS, st.none() | TEXT), unique_by=lambda row: row[0]))
def test_any_text_and_any_float_come_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, float | None, str | None]]
) -> None:
    """Text of any characters is found by itself, and floats come back to the bit (NaN as NaN)."""
    schema = {"id": pl.String, "number": pl.Float64, "note": pl.String, "both": pl.List(pl.Float64)}
    cells = [(*row, [row[1], 1.5]) for row in rows]
    frame = pl.DataFrame(cells, schema=schema, orient="row").sort("id")
    path = tmp_path_factory.getbasetemp() / "any-index"
    build(path, [frame], key=["id"], identity="x")
    found = open_index(path, identity="x")
    assert found is not None
    with found:
        for row in cells:
            assert repr(found.get(row[0])) == repr(row)


@given(st.data())
def test_both_encodings_of_a_key_are_equal_and_sort_as_polars_does(data: st.DataObject) -> None:
    """Keys of any columns have the same bytes by polars and by Python, and these sort as the table does."""
    names = data.draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=1, max_size=3, unique=True))
    rows = data.draw(
        st.lists(st.tuples(*(CELLS[name][1] for name in names)), min_size=1, max_size=8, unique=True)
    )
    schema = {name: CELLS[name][0] for name in names}
    frame = pl.DataFrame(rows, schema=schema, orient="row").sort(names)
    codec = KeyCodec(names, [form_of(name, dtype) for name, dtype in schema.items()])
    by_python = [codec.encode(row) for row in frame.rows()]
    assert [key.encode() for key in codec.encode_column(frame)] == by_python
    assert all(first < second for first, second in pairwise(by_python))


def test_keys_of_several_columns(index: Opener) -> None:
    """A key is its cells in the order that was given to `build`, wherever the columns stand."""
    cells = [(9, "a", -1), (8, "a", 0), (7, "a\0", -5), (6, "b", 10)]
    found = index(pl.DataFrame(cells, schema=["x", "id", "n"], orient="row"), key=("id", "n"))
    assert found.many([(row[1], row[2]) for row in cells]) == cells
    assert found.many([("a", 1), ("a\0", 0), ("", 0), ("b", 2**80), ("b", -(2**80))]) == [None] * 5


def test_a_key_that_no_row_can_have_is_absent(index: Opener) -> None:
    """Text that is not UTF-8 is compared, not refused: no table has it."""
    found = index(table(9))
    assert found.many(["\ud800", ("\udfff",)]) == [None, None]


@pytest.mark.parametrize("key", [(), ("a", "b"), 5, None, (None,), b"a", (b"a",), ["000000"]])
def test_a_key_of_another_shape_is_refused(index: Opener, key: Any) -> None:
    """A wrong key is a mistake of the caller, and not a row that is absent."""
    found = index(table(3))
    with pytest.raises(ProjectionError, match="id: text") as caught:
        found.get(key)
    assert caught.value.code == "bad_key"


@pytest.mark.parametrize(
    ("dtype", "good", "wrong"),
    [
        (pl.Int64(), 1, True),
        (pl.Int64(), 1, 1.0),
        (pl.UInt64(), 1, False),
        (pl.Boolean(), True, 1),
        (pl.Datetime("us", "UTC"), AT, AT.replace(tzinfo=None)),
        (pl.Datetime("us"), AT.replace(tzinfo=None), AT),
        (pl.Date(), AT.date(), AT),
        (pl.Duration("us"), dt.timedelta(1), 86_400),
        (pl.Binary(), b"a", "61"),
    ],
)
def test_key_cells_are_taken_by_type(index: Opener, dtype: pl.DataType, good: Any, wrong: Any) -> None:
    """A cell of the column's type finds its row; one that only looks equal is refused."""
    found = index(pl.DataFrame([(good, "x")], schema={"id": dtype, "x": pl.String()}, orient="row"))
    assert found.get((good,)) == (good, "x")
    with pytest.raises(ProjectionError, match="a key"):
        found.get((wrong,))


def test_a_time_of_another_zone_is_the_same_moment(index: Opener) -> None:
    """Keys that are times are compared as moments."""
    found = index(pl.DataFrame([(AT, 1)], schema={"id": SCHEMA["at"], "n": pl.Int64}, orient="row"))
    assert found.get((AT.astimezone(dt.timezone(dt.timedelta(hours=5))),)) == (AT, 1)


# what is refused -----------------------------------------------------------------------------------------


def refused(tmp_path: Path, *frames: pl.DataFrame, key: tuple[str, ...] = ("id",)) -> str:
    """Return the code of the error that building raises; nothing may be left behind."""
    with pytest.raises(ProjectionError) as caught:
        build(tmp_path / "index", frames, key=key, identity="one")
    assert list(tmp_path.iterdir()) == []
    assert "Next: " in str(caught.value)
    return caught.value.code


@pytest.fixture(params=["large batches", "small batches"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are joined to one batch, or cut into batches of one block each."""
    if request.param == "small batches":
        monkeypatch.setattr("projections.index_builder._BATCH_BYTES", 1)


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize("cut", [1, 9, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1])
def test_a_key_given_twice_is_refused(tmp_path: Path, cut: int) -> None:
    """One key has one row: in a frame, from one to the next, and from batch to batch inside."""
    made = table(3 * BLOCK_ROWS)
    assert refused(tmp_path, made[:cut], made[cut - 1 :]) == "key_not_unique"
    assert refused(tmp_path, pl.concat([made[:cut], made[cut - 1 :]])) == "key_not_unique"


@pytest.mark.usefixtures("batches")
def test_rows_out_of_order_are_refused(tmp_path: Path) -> None:
    """The order is checked in a frame, from one to the next, and from batch to batch inside."""
    made = table(3 * BLOCK_ROWS)
    assert refused(tmp_path, made[::-1]) == "not_sorted"
    assert refused(tmp_path, made[BLOCK_ROWS:], made[:BLOCK_ROWS]) == "not_sorted"
    assert refused(tmp_path, made[: 2 * BLOCK_ROWS], made[:BLOCK_ROWS]) == "not_sorted"


@pytest.mark.parametrize(
    "dtype",
    [
        pl.Time(),
        pl.Datetime("ns", "UTC"),
        pl.Datetime("us", "Europe/Berlin"),
        pl.Duration("ns"),
        pl.Decimal(10, 2),
        pl.Categorical(),
        pl.Enum(["a"]),
        pl.Int128(),
        pl.Array(pl.Int64, 2),
        pl.List(pl.Time()),
        pl.Struct({"a": pl.Object()}),
        pl.Null(),
    ],
    ids=str,
)
def test_types_without_a_faithful_form_are_refused(tmp_path: Path, dtype: pl.DataType) -> None:
    """What could not come back as it was is an error that names the column."""
    with pytest.raises(ProjectionError, match="column 'odd'") as caught:
        form_of("odd", dtype)
    assert caught.value.code == "unsupported_type"
    if not dtype.is_nested():
        empty = pl.DataFrame(schema={"id": pl.String(), "odd": dtype})
        assert refused(tmp_path, empty) == "unsupported_type"


@pytest.mark.parametrize("dtype", [pl.Float64(), pl.List(pl.Int64()), pl.Struct({"a": pl.Int64()})], ids=str)
def test_a_key_needs_an_order(tmp_path: Path, dtype: pl.DataType) -> None:
    """Floats, lists and structs are no keys."""
    assert refused(tmp_path, pl.DataFrame(schema={"id": dtype})) == "unsupported_type"


def test_other_tables_are_refused(tmp_path: Path) -> None:
    """No frame at all, columns that change or are missing, and rows without a key are said to be so."""
    made = table(3)
    assert refused(tmp_path) == "no_frames"
    assert refused(tmp_path, made, made.drop("note")) == "wrong_columns"
    assert refused(tmp_path, made, key=("id", "other")) == "wrong_columns"
    assert refused(tmp_path, made, key=()) == "wrong_columns"
    assert refused(tmp_path, made.with_columns(id=pl.lit(None, pl.String))) == "null_key"


@pytest.mark.parametrize(
    "cells",
    [
        pl.Series([2**62]).cast(pl.Datetime("us", "UTC")),
        pl.Series([-(2**62)]).cast(pl.Datetime("ms")),
        pl.Series([2**30]).cast(pl.Int32).cast(pl.Date),
        pl.Series([2**62]).cast(pl.Duration("ms")),
        pl.Series([[2**30]]).cast(pl.List(pl.Int32)).cast(pl.List(pl.Date)),
        pl.Series([2**62]).cast(pl.Datetime("us")).to_frame("t").to_struct(),
    ],
    ids=lambda cells: str(cells.dtype),
)
def test_times_that_python_lacks_are_refused(tmp_path: Path, cells: pl.Series) -> None:
    """A moment beyond the year 9999 could not be given back: it is noticed when the index is made."""
    frame = pl.DataFrame({"id": ["a"]}).with_columns(cells.alias("odd"))
    assert refused(tmp_path, frame) == "out_of_range"


# the file ------------------------------------------------------------------------------------------------


def test_an_index_is_found_by_its_identity(tmp_path: Path) -> None:
    """No file, and the index of something else, are both None: build it."""
    path = tmp_path / "index"
    assert open_index(path, identity="one") is None
    build(path, [table(3)], key=["id"], identity="one")
    assert open_index(path, identity="two") is None
    found = open_index(path, identity="one")
    assert found is not None
    found.close()


def test_an_index_of_another_format_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another version wrote is no damage."""
    with monkeypatch.context() as patch:
        patch.setattr("projections.index_builder.FORMAT", 2)
        build(tmp_path / "index", [table(3)], key=["id"], identity="one")
    assert open_index(tmp_path / "index", identity="one") is None


def test_the_header_says_what_the_file_is(tmp_path: Path) -> None:
    """Its JSON, before the trailer of 44 bytes, names key, columns, types, forms, rows and who made it."""
    build(tmp_path / "index", [table(3)], key=["id"], identity="one")
    raw = (tmp_path / "index").read_bytes()
    length = int.from_bytes(raw[-44:-40], "little")
    header = json.loads(raw[-44 - length : -44])
    assert (header["identity"], header["key"], header["rows"]) == ("one", ["id"], 3)
    assert header["columns"][3] == ["at", "Datetime(time_unit='us', time_zone='UTC')", "time"]
    assert header["made_by"].startswith("polars ")


def test_building_again_replaces_and_open_indexes_stay(tmp_path: Path) -> None:
    """Who has the old one open goes on reading it; who opens now reads the new one."""
    path = tmp_path / "index"
    build(path, [table(300)], key=["id"], identity="one")
    old = open_index(path, identity="one")
    build(path, [table(3)], key=["id"], identity="two")
    new = open_index(path, identity="two")
    assert old is not None
    assert new is not None
    with old, new:
        assert old.get("000500") is not None
        assert new.get("000500") is None


def test_an_error_while_building_leaves_things_as_they_were(tmp_path: Path) -> None:
    """The old index stays, nothing unfinished is left, and an error of the frames is raised as it is."""
    path = tmp_path / "index"
    build(path, [table(3)], key=["id"], identity="one")
    before = path.read_bytes()
    seen = []

    def frames() -> Iterator[pl.DataFrame]:
        yield table(70_000)
        seen.extend(one.name for one in tmp_path.iterdir() if one.name.endswith(PARTIAL))
        raise OSError("the table cannot be read")

    with pytest.raises(OSError, match="the table cannot be read") as caught:
        build(path, frames(), key=["id"], identity="two")
    assert not isinstance(caught.value, StorageError)
    assert len(seen) == 1, "it was under way"
    assert [one.name for one in tmp_path.iterdir()] == ["index"]
    assert path.read_bytes() == before


def test_a_disk_that_refuses_is_a_storage_error(tmp_path: Path) -> None:
    """A folder that is missing, and a folder in the file's place, are said with the path."""
    with pytest.raises(StorageError, match="could not make the index") as caught:
        build(tmp_path / "none" / "index", [table(3)], key=["id"], identity="one")
    assert caught.value.code == "index_refused"
    (tmp_path / "index").mkdir()
    with pytest.raises(StorageError, match="could not name the index"):
        build(tmp_path / "index", [table(3)], key=["id"], identity="one")
    assert [one.name for one in tmp_path.iterdir()] == ["index"]
    with pytest.raises(StorageError, match="could not open the index"):
        open_index(tmp_path / "index", identity="one")


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_is_said_and_cleaned_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """A disk that is full at any of the writes has its own code, and no file is left."""

    class Full(io.FileIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            if self.writes > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda self, mode: Full(self, mode))
    with pytest.raises(StorageError, match="make room") as caught:
        build(tmp_path / "index", [table(3)], key=["id"], identity="one")
    assert caught.value.code == "disk_full"
    assert list(tmp_path.iterdir()) == []


# use -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["000002", "000003", ""])
def test_a_closed_index_says_so(index: Opener, key: str) -> None:
    """After closing, nothing is answered, not even what is absent; closing twice is no error."""
    found = index(table(9))
    with found:
        found.get("000002")
    found.close()
    with pytest.raises(StateError, match="open it again") as caught:
        found.get(key)
    assert caught.value.code == "closed"


def test_threads_share_one_index(index: Opener) -> None:
    """Many readers at once, on pages that nobody has touched yet, all get right answers."""
    made = table(20_000)
    found, rows, wrong = index(made), made.rows(), []

    def read(step: int) -> None:
        for n in range(0, 20_000 * 7, 7 * step):
            row = rows[n % 20_000]
            if found.get(row[0]) != row or found.get(f"{row[0]}x") is not None:
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(step,)) for step in (5, 11, 13, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
