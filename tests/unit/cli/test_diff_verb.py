"""`eventstore diff`: two executions side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore import EventStore, task
from eventstore.cli.exits import ExitCode
from tests.unit.cli.conftest import Run, objects


def measure(x: int) -> int:
    """A measurement."""
    return x


def measure_better(x: int) -> int:
    """Another one."""
    return x + 1


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, str, str, str]:
    """A store with three executions: one with other arguments, and one from the cache."""
    url = tmp_path / "store"
    ids = []
    with EventStore.open(url, create=True, flush_seconds=None) as store:
        measured = task()(measure)
        for numbers in ([1, 2], [1, 3, 4], [1, 2]):
            with store.execution(args=[str(numbers)]) as execution:
                for number in numbers:
                    measured(number)
            ids.append(execution.id)
    return url, *ids


def test_a_person_is_shown_what_differs(run: Run, runs: tuple[Path, str, str, str]) -> None:
    """Both executions, counts, the jobs of one only, the jobs and arguments that differ."""
    url, first, second, _ = runs
    result = run("diff", url, first[:13], second)
    assert result.exit_code == 0, result.stderr
    shown = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert any(line.endswith(f"{first} {second}") for line in shown)
    assert "only in second 1" in shown
    assert any(line.startswith("run/measure[2] ") for line in shown), "a job of the second alone"
    assert any(line.startswith("run/measure[1] arguments, result ") for line in shown)
    assert any(line.startswith("run/measure[1] 0 ") and line.count("builtins.int") == 2 for line in shown)


def test_what_only_the_cache_changed_is_counted(run: Run, runs: tuple[Path, str, str, str]) -> None:
    """There is no row for each job; --json gives them."""
    url, first, _, third = runs
    result = run("diff", url, first, third)
    assert "the same but for a cache 2" in [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "measure" not in result.stdout
    rows = objects(run("diff", url, first, third, "--json"))
    assert [row["type"] for row in rows] == ["summary", "changed", "changed"]
    assert {tuple(row["differs"]) for row in rows[1:]} == {("status", "cached")}


def test_json_gives_everything(run: Run, runs: tuple[Path, str, str, str]) -> None:
    """A summary with counts and both executions, then one object for each row."""
    url, first, second, _ = runs
    summary, *rows = objects(run("diff", url, first, second, "--json"))
    assert (summary["type"], summary["same"], summary["pairs"], summary["only_second"]) == (
        "summary",
        False,
        3,
        1,
    )
    assert [summary[side]["execution_id"] for side in ("first", "second")] == [first, second]
    assert [row["type"] for row in rows] == ["only_second", *["changed"] * 3, *["argument"] * 2]
    assert [row["path"] for row in rows] == [
        "run/measure[2]",
        *("run", "run/measure", "run/measure[1]"),
        *("run", "run/measure[1]"),
    ]
    assert rows[-1]["argument"] == "0"


def test_a_changed_source_is_a_unified_diff(run: Run, tmp_path: Path) -> None:
    """With control characters made visible."""
    ids = []
    with EventStore.open(tmp_path / "store", create=True, flush_seconds=None) as store:
        for function in (measure, measure_better):
            with store.execution() as execution:
                task(name="measure")(function)(1)
            ids.append(execution.id)
    shown = run("diff", tmp_path / "store", *ids).stdout
    assert "source of measure" in shown
    assert "  -    return x\n" in shown
    assert "  +    return x + 1" in shown


def test_limit_cuts_tables_and_says_so(run: Run, runs: tuple[Path, str, str, str]) -> None:
    """0 shows all."""
    url, first, _, _ = runs
    with EventStore.open(url) as store:
        measured = task()(measure)
        with store.execution(cache=False) as execution:
            for number in range(10, 15):
                measured(number)
    cut = run("diff", url, first, execution.id, "--limit", "1")
    assert "these are the first 1 of 3; --limit 0 shows all" in cut.stderr
    assert "these are" not in run("diff", url, first, execution.id, "--limit", "0").stderr


def test_an_execution_that_is_not_there_or_not_one(run: Run, runs: tuple[Path, str, str, str]) -> None:
    """Absent ends with 1, ambiguous with 2, and nothing was changed."""
    url, first, _, _ = runs
    before = sorted(url.rglob("*"))
    absent = run("diff", url, first, "nowhere")
    assert absent.exit_code == ExitCode.FAILED
    assert "no_such_execution" in absent.stderr
    ambiguous = run("diff", url, first, "")
    assert ambiguous.exit_code == ExitCode.USAGE
    assert "ambiguous_id" in ambiguous.stderr
    assert sorted(url.rglob("*")) == before
