"""Hashes in bulk are those that docs/format.md describes event by event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from eventstore.codec import canonical
from eventstore.codec.canonical import event_hashes
from eventstore.codec.rows import Row, table_of
from eventstore.codec.schema import BODY_COLUMNS, SCHEMA, microseconds
from eventstore.hashing import bencode, body_digest, hash_leaf

Rows = Callable[..., list[Row]]
WRITER = "01kdxe7c000000000000000000"


def naive_hashes(table: pa.Table) -> list[bytes]:
    """The hashes of a table's rows by the one-at-a-time functions, written apart from the bulk code."""
    hashes = []
    for row in table.to_pylist():
        digest = row["body_digest"]
        if digest is None:
            body = {name: row[name] for name in BODY_COLUMNS if row[name] is not None}
            digest = body_digest(row["salt"], bencode(plain(body)))
        header = {name: row[name] for name in ("kind", "recorded_at", "sequence", "version", "writer")}
        hashes.append(hash_leaf(bencode(plain({**header, "body_digest": digest}))))
    return hashes


def plain(value: Any) -> Any:
    """Integers, text, bytes, lists and maps without nulls, as the format page asks."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dt.datetime):
        return microseconds(value)
    return int(value) if isinstance(value, bool) else value


def made(rows: list[Row]) -> pa.Table:
    """The table of `rows`."""
    return table_of(rows, writer=WRITER, actor="ada", software=None)


def erased(table: pa.Table, which: list[int]) -> pa.Table:
    """The table after the bodies of some rows were erased: digest kept, salt and body gone."""
    rows = table.to_pylist()
    for place in which:
        row = rows[place]
        body = {name: row[name] for name in BODY_COLUMNS if row[name] is not None}
        row["body_digest"] = body_digest(row["salt"], bencode(plain(body)))
        row.update(dict.fromkeys(("salt", *BODY_COLUMNS)))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.9, 1.0])
def test_bulk_hashes_equal_the_naive_ones_for_every_kind(random_rows: Rows, missing: float) -> None:
    """Any mix of kinds, with text of any script, nulls, empty lists and nested arguments, hashes alike."""
    table = made(random_rows(300, seed=int(missing * 10), missing=missing))
    assert len(table["kind"].unique()) == 18
    assert event_hashes(table) == naive_hashes(table) == table["event_hash"].to_pylist()


@pytest.mark.parametrize("kinds", [1, 2])
def test_one_kind_alone_hashes_like_many_together(random_rows: Rows, kinds: int) -> None:
    """A table of one kind or two takes no other way to its hashes."""
    table = made(random_rows(50, seed=5, kinds=kinds))
    assert event_hashes(table) == naive_hashes(table)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_tiny_tables(random_rows: Rows, count: int) -> None:
    """No row, one row and two rows are hashed as any other number."""
    table = made(random_rows(count, seed=count))
    assert event_hashes(table) == naive_hashes(table)


def test_erased_rows_keep_their_hashes(random_rows: Rows) -> None:
    """Once salt and body are gone, the body's digest gives the same event hash, among rows still whole."""
    table = made(random_rows(300, seed=7))
    places = list(range(0, 300, 3))
    assert event_hashes(erased(table, places)) == event_hashes(table)
    assert event_hashes(erased(table, list(range(300)))) == event_hashes(table)


def test_slices_chunks_and_column_order_do_not_matter(random_rows: Rows) -> None:
    """The hashes belong to rows: cutting, joining and reordering columns change none of them."""
    table = made(random_rows(200, seed=8))
    hashes = event_hashes(table)
    assert event_hashes(table.slice(37, 100)) == hashes[37:137]
    chunked = pa.concat_tables([table.slice(0, 3), table.slice(3, 0), table.slice(3, 150), table.slice(153)])
    assert event_hashes(chunked) == hashes
    assert event_hashes(table.select(sorted(table.column_names, reverse=True))) == hashes


def test_a_table_beyond_the_bulk_limit_is_hashed_in_halves(
    random_rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded by halving large tables, which changes no hash."""
    table = made(random_rows(200, seed=9))
    monkeypatch.setattr(canonical, "_BULK_BYTES", 2_000)
    assert event_hashes(table) == naive_hashes(table)


def test_every_trusted_column_is_committed_to(random_rows: Rows) -> None:
    """Changing one cell of any column but the hash itself changes that row's hash and no other."""
    table = table_of(random_rows(150, seed=10), writer=WRITER, actor="ada", software="test/1")
    before = event_hashes(table)
    for name in SCHEMA.names:
        if name in ("event_hash", "body_digest"):  # the result itself, and what only erased rows have
            continue
        column = table[name].to_pylist()
        place = next(i for i, value in enumerate(column) if value not in (None, [], b""))
        column[place] = altered(column[place])
        changed = table.set_column(
            table.column_names.index(name), SCHEMA.field(name), pa.array(column, SCHEMA.field(name).type)
        )
        after = event_hashes(changed)
        assert [i for i in range(150) if after[i] != before[i]] == [place], name


def altered(value: Any) -> Any:
    """Something of the same type that is not `value`; lists lose their first item."""
    match value:
        case bool():
            return not value
        case dt.datetime():
            return value + dt.timedelta(microseconds=1)
        case int():
            return value - 1
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:]
        case list():
            return value[1:]
        case _:
            return f"{value}x"


def _spoken_beside_digest(row: dict[str, Any]) -> None:
    body = {name: row[name] for name in BODY_COLUMNS if row[name] is not None}
    row["body_digest"] = body_digest(row["salt"], bencode(plain(body)))
    row.update(salt=None, actor="mallory")


HARMS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a body beside its digest": _spoken_beside_digest,
    "a salt beside a digest": lambda row: row.update(body_digest=bytes(32)),
    "neither salt nor digest": lambda row: row.update(salt=None),
    "a null in a list": lambda row: row.update(children=["a", None]),
    "a null struct in a list": lambda row: row.update(tags=[None]),
    "a null deep in a list": lambda row: row.update(
        arguments=[{"key": "k", "position": None, "upstreams": [None], "value_hash": "v"}]
    ),
    "no kind": lambda row: row.update(kind=None),
    "no time": lambda row: row.update(recorded_at=None),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_row_that_the_format_does_not_allow_has_no_hash(random_rows: Rows, harm: str) -> None:
    """What could be read in two ways, or would not be committed to, never gets an event's hash."""
    table = made(random_rows(20, seed=3))
    rows = table.to_pylist()
    HARMS[harm](rows[7])
    hashes = event_hashes(pa.Table.from_pylist(rows, schema=SCHEMA))
    assert hashes.pop(7) == canonical.NO_HASH
    expected = table["event_hash"].to_pylist()
    del expected[7]
    assert hashes == expected
    alone = pa.Table.from_pylist([rows[7]], schema=SCHEMA)
    assert event_hashes(alone) == [canonical.NO_HASH]
