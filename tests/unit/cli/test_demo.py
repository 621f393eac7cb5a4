"""`eventstore demo`: the newcomer's first impression, on a small folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventstore import EventStore
from eventstore.cli.demo_show import choose_files
from eventstore.cli.demo_workflow import Measure
from eventstore.cli.exits import ExitCode
from eventstore.pickling import load_pickle
from tests.unit.cli.conftest import Run, objects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five Python files in two packages, and what is passed over."""
    made = tmp_path / "sources"
    for name in (
        "a.py",
        "b.py",
        "pkg/c.py",
        "pkg/sub/d.py",
        "pkg/e.py",
        "tests/f.py",
        ".hidden/g.py",
        "h.txt",
    ):
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"class {path.stem.upper()}:\n    def f(self):\n        return {name!r}\n")
    return made


def test_files_are_chosen_by_package(folder: Path) -> None:
    """Files come sorted, by direct subfolder, without tests and hidden folders, up to the limit."""
    chosen = choose_files(folder, 100)
    assert {name: [path.name for path in paths] for name, paths in chosen.items()} == {
        "(top level)": ["a.py", "b.py"],
        "pkg": ["c.py", "e.py", "d.py"],
    }
    assert sum(map(len, choose_files(folder, 3).values())) == 3


def test_demo_runs_twice_and_again(run: Run, folder: Path, tmp_path: Path) -> None:
    """The second run is answered from the history, and so is the first of a second demo on the same store."""
    url = tmp_path / "demo-store"
    result = run("demo", "--store", url, "--folder", folder, "--json")
    assert result.exit_code == 0, result.output
    facts = objects(result)
    assert [one["step"] for one in facts] == [
        "start", "run", "run", "handle", "rebuild", "question", "question", "question", "verify",
    ]  # fmt: skip
    first, second = facts[1]["statuses"], facts[2]["statuses"]
    # Six measures (one fails), three package totals, the grand total, and what was published, which was not
    # rolled back; packages and the rest run again.
    assert first["CACHED"] == 0
    assert second["CACHED"] == 5 + 4 + 1
    assert first["FAILED"] == second["FAILED"] == 1
    assert sum(first.values()) == sum(second.values()) == 6 + 3 + 4 + 2 + 1 + 1
    assert facts[3]["after_trim"] < facts[3]["published"] == facts[3]["after_rollback"] == 3
    (failed,) = facts[7]["rows"]
    assert (failed["task"], failed["times"]) == ("demo.measure", 2)
    assert failed["file_path"].endswith("unfinished.py")
    assert facts[8]["ok"] is True

    again = objects(run("demo", "--store", url, "--folder", folder, "--json"))
    assert again[1]["statuses"]["CACHED"] == 9
    assert again[0]["size"] == facts[8]["size"]
    assert run("verify", url).exit_code == 0


def test_measures_are_right(run: Run, folder: Path, tmp_path: Path) -> None:
    """The run comes to the totals of all files that parse, and tags were edited and kept."""
    url = tmp_path / "demo-store"
    run("demo", "--store", url, "--folder", folder, "--files", "4")
    with EventStore.open(url, read_only=True) as store:
        values = [store.lookup.value(one.event.value_hash) for one in store.events(kinds=["value.recorded"])]  # type: ignore[union-attr]
    loaded = [
        load_pickle(one.data) for one in values if one is not None and one.type_name.endswith("Measure")
    ]
    assert Measure(files=4, lines=12, functions=4, classes=4) in loaded
    tags = objects(run("query", url, "SELECT key, value, is_current FROM tags WHERE key = 'state'", "--json"))
    assert {(one["value"], one["is_current"]) for one in tags} == {('"draft"', False), ('"final"', True)}


def test_output_reads_well_in_eighty_columns(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every section is there; apart from commands to copy and paths, no line is longer than 80 columns."""
    monkeypatch.chdir(tmp_path)
    result = run("demo", "--folder", folder, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert (tmp_path / "demo-store" / "store.json").exists()
    shown = result.stdout.splitlines()
    assert [line[0] for line in shown if line[:1].isdigit()] == list("1234567")
    assert "intact" in result.stdout
    assert "verify tampered" in result.stdout
    before = shown[: next(n for n, line in enumerate(shown) if line.startswith("7"))]
    assert [line for line in before if len(line) > 80 and str(tmp_path) not in line] == []


def test_folder_without_python_files(run: Run, tmp_path: Path) -> None:
    """A folder with nothing to measure is told before a store is made."""
    (tmp_path / "empty").mkdir()
    result = run("demo", "--store", tmp_path / "store", "--folder", tmp_path / "empty")
    assert result.exit_code == ExitCode.FAILED
    assert "error[no_files]" in result.stderr
    assert not (tmp_path / "store").exists()


def test_folder_of_something_else_is_not_touched(run: Run, folder: Path, tmp_path: Path) -> None:
    """The demo's store is never made inside a folder that holds other files."""
    result = run("demo", "--store", folder, "--folder", folder)
    assert result.exit_code == ExitCode.FAILED
    assert "error[not_a_store]" in result.stderr
    assert not (folder / "store.json").exists()
