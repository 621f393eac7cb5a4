"""How benchmarks measure and report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventstore.store import EventStore
from tools.bench.campaign import Settings, campaign_store
from tools.bench.measure import Row, Times, interleave, rate, report, run_child


def test_a_ratio_is_our_cost_as_a_multiple() -> None:
    """Two is twice as slow in a rate, and twice as much in a time or a size."""
    assert Row("x", 50, "events/s", 100, "limit").ratio == 2
    assert Row("x", 50, "us/event", 25, "limit").ratio == 2
    assert Row("x", 50, "us/event").ratio is None


def test_subjects_take_turns() -> None:
    """Each repeat runs every subject once, so that a busy machine slows all of them."""
    order: list[str] = []

    def subject(name: str, seconds: float) -> float:
        order.append(name)
        return seconds

    times = interleave({"a": lambda: subject("a", 1.0), "b": lambda: subject("b", 4.0)}, repeats=3)
    assert order == ["a", "b"] * 3
    assert times == {"a": [1.0] * 3, "b": [4.0] * 3}
    assert rate(8, times["b"]) == 2


def test_a_median_ignores_one_slow_run() -> None:
    """One repeat that was disturbed does not move the figure."""
    assert Times([1.0, 50.0, 2.0]).median == 2.0


def test_a_child_reports_its_own_peak(tmp_path: Path) -> None:
    """The parent's memory does not count, and the result comes back."""
    held = bytearray(300 * 2**20)
    child = run_child("tools.bench.measure:machine")
    assert child.result["cores"] >= 1
    assert 5 * 2**20 < child.peak_bytes < len(held)


def test_a_missed_bar_is_reported_as_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table and the file say so, beside bar and ratio."""
    target = tmp_path / "found.json"
    row = Row("appending", 10.0, "events/s", 40.0, "a bare write", "20 events/s", False)
    report({"append": [row]}, settings={"size": 1}, json_file=str(target))
    assert "missed" in capsys.readouterr().out
    content = json.loads(target.read_text())
    assert content["results"]["append"][0] | {"ratio": 4.0, "holds": False} == content["results"]["append"][0]
    assert content["settings"] == {"size": 1}


def test_a_campaign_is_a_whole_store(tmp_path: Path) -> None:
    """What is laid down quickly is sealed, verifies clean, and is made once."""
    settings = Settings(3_000, 1, tmp_path)
    folder, facts = campaign_store(settings)
    assert facts["events"] == 3_000
    with EventStore.open(folder, read_only=True, state_dir=settings.state()) as store:
        assert store.head().size == 3_000
        assert store.verify().findings == []
    assert campaign_store(settings) == (folder, facts)
