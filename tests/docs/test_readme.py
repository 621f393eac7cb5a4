"""The README is true: its code blocks run in order, its commands answer, its rooms exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's Python blocks have run, one after another."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "README.md").write_text("one\ntwo\n")
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    (folder / "program.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, env=_environment(folder)
    )
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "EVENTSTORE_STATE": str(folder / "state")}


def test_blocks_run_and_print_what_they_say(place: Path) -> None:
    """The task counts the lines, the log shows the job's kinds, the receipt says journaled."""
    printed = (place / "printed.txt").read_text()
    assert printed.startswith("2\n")
    assert "job.ended" in printed
    assert "JOURNALED" in printed


@pytest.mark.parametrize("verb", ["query", "verify", "events"])
def test_commands_of_the_readme_answer(place: Path, verb: str) -> None:
    """Each `eventstore` command that the README shows ends well (following events: without --follow)."""
    line = re.search(rf"^    eventstore ({verb} .*)$", README, re.MULTILINE)
    assert line is not None
    words = [word for word in shlex.split(line[1]) if word != "--follow"]
    done = subprocess.run(
        [sys.executable, "-m", "eventstore", *words],
        cwd=place,
        capture_output=True,
        text=True,
        env=_environment(place),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_rooms_of_the_picture_exist() -> None:
    """Every path that the picture of the house names is there."""
    picture = README.split("## The house")[1].split("## How fast")[0]
    for name in re.findall(r"(?:eventstore|projections|tests|tools|docs)/[\w/]*(?:\.py)?", picture):
        assert (ROOT / name).exists(), name


def test_links_lead_somewhere() -> None:
    """Relative links name files or folders of the repository."""
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target
