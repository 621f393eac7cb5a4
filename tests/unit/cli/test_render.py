"""How things look, by width."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pytest

from eventstore.cli import render

HASH = "0123456789abcdef0123456789abcdef01234567"


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines on stdout, without blanks at their ends."""
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        ("80", [HASH, "DONE", "1"]),
        ("30", [HASH[:8], "DONE", "1"]),
    ],
)
def test_wide_tables_get_short_ids(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: str, expected: list[str]
) -> None:
    """Ids are whole where they fit, and cut where they do not; nothing else is cut."""
    monkeypatch.setenv("COLUMNS", width)
    render.table(("task_hash", "status", "n"), [(HASH, "DONE", 1)], right=("n",))
    lines = shown(capsys)
    assert lines[2].split() == expected
    assert max(map(len, lines)) <= int(width)


def test_tables_that_are_too_wide_become_records(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No column is lost: what does not fit side by side stands one below the other, whole."""
    monkeypatch.setenv("COLUMNS", "60")
    render.table(("first", "second"), [("x" * 50, HASH), (None, True)])
    assert shown(capsys) == [
        "row 1",
        f"  first   {'x' * 50}",
        f"  second  {HASH}",
        "row 2",
        "  first   null",
        "  second  true",
    ]


def test_pipes_get_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is no width, and long texts are whole."""
    monkeypatch.delenv("COLUMNS", raising=False)
    render.table(("source", "took"), [("y" * 500, dt.timedelta(milliseconds=12.34))])
    assert shown(capsys)[2].split() == ["y" * 500, "12.3", "ms"]


def test_json_says_what_json_cannot() -> None:
    """Bytes are base64, times ISO in UTC, what is not a number is null, and the rest is text."""
    value = {
        "bytes": b"\x01\xff",
        "time": dt.datetime(2026, 3, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "nan": [float("nan"), 1.5],
        "decimal": Decimal("1.10"),
        "none": None,
        1: (True, "ü"),
    }
    assert json.loads(render.json_text(value)) == {
        "bytes": "Af8=",
        "time": "2026-03-01T12:00:00Z",
        "nan": [None, 1.5],
        "decimal": "1.10",
        "none": None,
        "1": [True, "ü"],
    }


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (HASH, True),
        (HASH + HASH[:24], True),
        ("6091af35-ce3c-487b-ab30-061a962ab7ab", True),
        (HASH[:39], False),
        ("measure", False),
    ],
)
def test_ids_are_known_by_their_form(words: str, answer: bool) -> None:
    """Hashes of 40 and 64 digits and UUIDs are ids, other words are not."""
    assert render.is_id(words) is answer


def test_counted_words_have_their_plural() -> None:
    """One is singular, all other counts are plural, with thousands apart."""
    assert [render.counted(n, "event") for n in (0, 1, 1234)] == ["0 events", "1 event", "1,234 events"]
