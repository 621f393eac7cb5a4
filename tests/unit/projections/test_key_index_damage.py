"""Damaged index files: every answer is right or an `IndexDamagedError`, whatever happened to the file."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from projections.index_builder import BLOCK_ROWS
from projections.key_index import IndexDamagedError, build, open_index

ROWS = 3 * BLOCK_ROWS + 17
AT = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)


def table() -> pl.DataFrame:
    """Return some blocks of rows with hashes for keys."""
    cells = [
        (hashlib.sha256(b"%d" % n).hexdigest(), n, n % 2 == 0, AT + dt.timedelta(n), None if n % 3 else "x")
        for n in range(ROWS)
    ]
    schema = {
        "id": pl.String,
        "n": pl.Int64,
        "flag": pl.Boolean,
        "at": pl.Datetime("us", "UTC"),
        "x": pl.String,
    }
    return pl.DataFrame(cells, schema=schema, orient="row").sort("id")


TABLE = table()
RIGHT: dict[str, tuple[Any, ...] | None] = {row[0]: row for row in TABLE.rows()}
ABSENT = [f"{key[:-1]}g" for key in list(RIGHT)[::7]] + ["", "0", "g", *(f"{n:x}8" for n in range(16))]
RIGHT.update(dict.fromkeys(ABSENT))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a good index."""
    path = tmp_path_factory.mktemp("index") / "index"
    build(path, [TABLE], key=["id"], identity="one")
    return path.read_bytes()


def ask(path: Path, keys: list[str]) -> tuple[int, int]:
    """Ask for keys; return how many were answered rightly and how many refused as damaged."""
    try:
        index = open_index(path, identity="one")
    except IndexDamagedError:
        return 0, len(keys)
    assert index is not None, "damage is not taken for another index"
    right = damaged = 0
    with index:
        for key in keys:
            try:
                found = index.get(key)
            except IndexDamagedError:
                damaged += 1
            else:
                assert found == RIGHT[key], f"a wrong answer for {key}"
                right += 1
    return right, damaged


def header_of(whole: bytes) -> tuple[dict[str, Any], int]:
    """Return the header of an index, and where it begins."""
    begin = len(whole) - 44 - int.from_bytes(whole[-44:-40], "little")
    return json.loads(whole[begin:-44]), begin


def test_a_whole_file_answers_everything(tmp_path: Path, whole: bytes) -> None:
    """The questions of these tests have right answers when nothing is damaged."""
    path = tmp_path / "index"
    path.write_bytes(whole)
    assert ask(path, list(RIGHT)) == (len(RIGHT), 0)


def test_no_flipped_bit_gives_a_wrong_answer(tmp_path: Path, whole: bytes) -> None:
    """One bit anywhere, in content, sums, header or trailer: no answer is wrong, and some question tells."""
    path = tmp_path / "index"
    rng = random.Random(7)
    header, header_at = header_of(whole)
    directory = range(header["directory"], header["content_bytes"])  # in no page of its own: all of its bytes
    ends = (*range(header_at - 16, header_at + 8), *range(len(whole) - 46, len(whole)))
    places = [*range(0, len(whole), 331), *directory, *ends]
    some = list(RIGHT)
    unnoticed = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        if ask(path, rng.sample(some, 30))[1] == 0 and ask(path, some)[1] == 0:
            unnoticed.append(place)
    assert len(places) > 300
    assert unnoticed == []


def test_no_longer_damage_gives_a_wrong_answer(tmp_path: Path, whole: bytes) -> None:
    """Zeroed pages, pages in each other's place, runs of noise."""
    path = tmp_path / "index"
    rng = random.Random(11)
    page = 4096
    for start in range(0, len(whole) - 2 * page, page):
        first, second = whole[start : start + page], whole[start + page : start + 2 * page]
        for middle in (bytes(2 * page), second + first, rng.randbytes(2 * page)):
            path.write_bytes(whole[:start] + middle + whole[start + 2 * page :])
            assert ask(path, list(RIGHT))[1] > 0


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"",
        lambda raw: raw[:1],
        lambda raw: raw[:43],
        lambda raw: raw[-44:],
        lambda raw: raw[:-1],
        lambda raw: raw[:-4096],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[1:],
        lambda raw: raw[4096:],
        lambda raw: raw + b"\0",
        lambda raw: raw + raw[-44:],
        lambda raw: raw[:4096] + raw,
        lambda raw: b"PAR1" + bytes(10_000) + b"PAR1",
        lambda raw: b"{}" * 500,
    ],
)
def test_another_length_or_a_foreign_file_is_damage(
    tmp_path: Path, whole: bytes, change: Callable[[bytes], bytes]
) -> None:
    """Cut, extended, or something else altogether: refused when it is opened."""
    path = tmp_path / "index"
    path.write_bytes(change(whole))
    with pytest.raises(IndexDamagedError, match="build it anew") as caught:
        open_index(path, identity="one")
    assert (caught.value.code, caught.value.path) == ("index_damaged", str(path))


def test_a_page_that_was_changed_together_with_its_sum_is_noticed(tmp_path: Path, whole: bytes) -> None:
    """The header has a digest of the sums: the content of another page does not pass with its own sum."""
    changed, sums = bytearray(whole), header_of(whole)[0]["content_bytes"]
    changed[4096:8192], changed[sums + 4 : sums + 8] = whole[8192:12288], whole[sums + 8 : sums + 12]
    (tmp_path / "index").write_bytes(changed)
    with pytest.raises(IndexDamagedError, match="sums of"):
        open_index(tmp_path / "index", identity="one")


@pytest.mark.parametrize("header", [b"", b"[]", b"{}", b'{"content_bytes": "x"}', b'{"content_bytes": -5}'])
def test_a_header_that_says_nothing_is_damage(tmp_path: Path, header: bytes) -> None:
    """A header with a good digest is still read with care."""
    trailer = struct.pack("<I32s8s", len(header), hashlib.sha256(header).digest(), b"KEYINDEX")
    (tmp_path / "index").write_bytes(bytes(100) + header + trailer)
    with pytest.raises(IndexDamagedError):
        open_index(tmp_path / "index", identity="one")


def forged(whole: bytes, change: Callable[[bytearray, dict[str, Any]], None]) -> bytes:
    """Change content and header, with every sum and digest made to fit, as a faulty writer would."""
    header, _ = header_of(whole)
    content = bytearray(whole[: header["content_bytes"]])
    change(content, header)
    pages = [zlib.crc32(content[at : at + 4096]) for at in range(0, len(content), 4096)]
    sums = struct.pack(f"<{len(pages)}I", *pages)
    header["content_bytes"], header["sums_sha256"] = len(content), hashlib.sha256(sums).hexdigest()
    raw = json.dumps(header).encode()
    trailer = struct.pack("<I32s8s", len(raw), hashlib.sha256(raw).digest(), b"KEYINDEX")
    return bytes(content) + sums + raw + trailer


def test_a_row_of_another_key_is_noticed(tmp_path: Path, whole: bytes) -> None:
    """Rows repeat their keys: a table of rows that is off by one gives no row of a neighbour."""

    def shift(content: bytearray, header: dict[str, Any]) -> None:
        rows = 4 * (BLOCK_ROWS + 1)  # the first block's table of rows, after that of its keys
        content[rows : rows + 4 * BLOCK_ROWS] = content[rows + 4 : rows + 4 * BLOCK_ROWS + 4]

    path = tmp_path / "index"
    path.write_bytes(forged(whole, shift))
    with open_index(path, identity="one") as index:  # type: ignore[union-attr]
        for row in TABLE.rows()[:BLOCK_ROWS]:
            with pytest.raises(IndexDamagedError):
                index.get(row[0])
        assert index.get(TABLE["id"][BLOCK_ROWS]) == TABLE.row(BLOCK_ROWS), "other blocks are whole"


@pytest.mark.parametrize(
    "change",
    [
        {"directory": 10**9},
        {"directory": 0},
        {"rows": 10**6},
        {"rows": None},
        {"key": ["other"]},
        {"columns": [["id", "String"]]},
        {"columns": [["id", "String", "other"]]},
    ],
)
def test_a_header_that_does_not_fit_its_file_is_damage(
    tmp_path: Path, whole: bytes, change: dict[str, Any]
) -> None:
    """A header that contradicts the content is refused when the index is opened or asked."""
    path = tmp_path / "index"
    path.write_bytes(forged(whole, lambda _, header: header.update(change)))
    with pytest.raises(IndexDamagedError):
        open_index(path, identity="one").many(TABLE["id"])  # type: ignore[union-attr]


def test_the_callers_duty_is_short(tmp_path: Path, whole: bytes) -> None:
    """Open; if it is damaged set it aside; if there is none build it: afterwards there is a good one."""
    path = tmp_path / "index"
    path.write_bytes(whole[:-1])
    index = None
    try:
        index = open_index(path, identity="one")
    except IndexDamagedError:
        path.rename(tmp_path / "index.damaged")
    if index is None:
        build(path, [TABLE], key=["id"], identity="one")
        index = open_index(path, identity="one")
    assert index is not None
    with index:
        assert index.get(TABLE["id"][0]) == TABLE.row(0)
    assert path.read_bytes() == whole, "building is deterministic"
