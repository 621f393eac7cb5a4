"""The tables of values, from their events by hand."""

from __future__ import annotations

from typing import Any

from tables_kit import at, h, rows_of

from eventstore import EvaluationCached, ValueRecorded
from projections.values import EVALUATIONS, FILES, SUBVALUES, VALUES


def value(name: str, second: int = 1, data: bytes | None = b"abc", **more: Any) -> ValueRecorded:
    """Return the record of a value."""
    more.setdefault("type_name", "builtins.int")
    more.setdefault("size_bytes", 0 if data is None else len(data))
    return ValueRecorded(value_hash=h(name), data=data, occurred_at=at(second), **more)


def test_the_first_record_of_a_value_stays_and_its_bytes_stay_out() -> None:
    """Type, format and size are the first record's; the table has no bytes, only where they are."""
    assert rows_of(VALUES, value("v"), value("v", 2, type_name="builtins.str", format="x")) == [
        {
            "value_hash": h("v"),
            "position": 0,
            "type_name": "builtins.int",
            "format": "application/python-pickle",
            "size_bytes": 3,
            "stored": False,
            "data_digest": None,
            "file_path": None,
            "occurred_at": at(1),
        }
    ]


def test_a_large_value_says_its_digest() -> None:
    """A value in the value store is `stored` and carries the digest that finds it."""
    [row] = rows_of(VALUES, value("v", data=None, size_bytes=10**8, data_digest="ab" * 32))
    assert (row["stored"], row["data_digest"], row["size_bytes"]) == (True, "ab" * 32, 10**8)


def test_subvalues_are_linked_once() -> None:
    """A subvalue that is named twice has one link, at its first place."""
    rows = rows_of(SUBVALUES, value("v", subvalues=(h("a"), h("b"), h("a"))), value("leaf"))
    found = {row["subvalue_hash"]: (row["value_hash"], row["index"], row["position"]) for row in rows}
    assert found == {h("a"): (h("v"), 0, 0), h("b"): (h("v"), 1, 0)}


def test_links_to_subvalues_add_up() -> None:
    """A value that was first recorded inside another still gets its own links later."""
    rows = rows_of(SUBVALUES, value("v"), value("v", subvalues=(h("a"),)), value("v", subvalues=(h("a"),)))
    assert [(row["subvalue_hash"], row["position"]) for row in rows] == [(h("a"), 1)]


def test_files_are_the_values_with_a_path() -> None:
    """Only file values are in the table of files, with path and type."""
    events = [value("n"), value("f", type_name="redun.File", file_path="s3://bucket/a b.txt")]
    assert rows_of(FILES, *events) == [
        {
            "value_hash": h("f"),
            "position": 1,
            "file_path": "s3://bucket/a b.txt",
            "type_name": "redun.File",
            "occurred_at": at(1),
        }
    ]


def test_an_evaluation_gives_its_newest_value() -> None:
    """The value is replaced by the latest; task and arguments of the first write stay."""
    events = [
        EvaluationCached(
            eval_hash=h("e"),
            task_hash=h(f"t{n}"),
            args_hash=h(f"a{n}"),
            value_hash=h(f"v{n}"),
            occurred_at=at(n),
        )
        for n in range(3)
    ]
    assert rows_of(EVALUATIONS, *events) == [
        {
            "eval_hash": h("e"),
            "position": 0,
            "task_hash": h("t0"),
            "args_hash": h("a0"),
            "value_hash": h("v2"),
            "value_position": 2,
            "updated_at": at(2),
        }
    ]
