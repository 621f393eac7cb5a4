"""`python -m eventstore.redun`: commands of redun that make a backend before they read `setup_scheduler`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import workflow_kit as kit
from redun import Scheduler
from redun.backends.db import Execution, RedunBackendDb

from eventstore.redun import EventStoreBackend
from eventstore.redun.__main__ import main

SCHEDULER = "[scheduler]\nsetup_scheduler = eventstore.redun::setup_scheduler\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a repo on a store with one run, beside another one that is empty."""
    for name in ("here", "there"):
        (tmp_path / name / ".redun").mkdir(parents=True)
        (tmp_path / name / ".redun" / "redun.ini").write_text(f"[backend]\ndb_uri = history\n{SCHEDULER}")
    folder = tmp_path / "here"
    with (folder / ".redun" / "redun.ini").open("a") as ini:
        ini.write("[repos.there]\nconfig_dir = ../there/.redun\n")
    monkeypatch.chdir(folder)
    backend = EventStoreBackend(db_uri=str(folder / ".redun" / "history"))
    scheduler = Scheduler(backend=backend)
    scheduler.load()
    scheduler.run(kit.tree(1))
    backend.close()
    return folder


def executions(place: Path) -> int:
    """How many executions a store has."""
    backend = RedunBackendDb(db_uri=str(place))
    backend.load(migrate=False)
    found: int = backend.session.query(Execution).count()
    backend.close()  # type: ignore[attr-defined]
    return found


def test_push_and_pull_between_stores(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records go to the other repo's store once, and come back where they are missing."""
    there = here.parent / "there" / ".redun" / "history"
    assert main(["push", "there"]) == 0
    assert "Pushed" in capsys.readouterr().out
    assert executions(there) == 1
    assert main(["push", "there"]) == 0
    assert "up to date" in capsys.readouterr().out
    (here / ".redun" / "history").rename(here / "kept")
    assert main(["pull", "there"]) == 0
    assert "new record(s) from repo 'there'" in capsys.readouterr().out
    assert executions(here / ".redun" / "history") == 1


@pytest.mark.parametrize("words", [["info"], ["versions"], ["upgrade", "latest"], ["downgrade", "3.1"]])
def test_migrations_of_a_store(here: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """There are none; the message names the store and what to call."""
    assert main(["db", *words]) == 1
    said = capsys.readouterr().err
    assert f"eventstore verify {here / '.redun' / 'history'}" in said
    assert "no migrations" in said


def test_migrations_of_a_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of a SQL database are redun's own business."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".redun").mkdir()
    (tmp_path / ".redun" / "redun.ini").write_text("[backend]\ndb_uri = sqlite:///redun.db\n")
    assert main(["db", "upgrade", "latest"]) == 0
    assert "Final db version: 3" in capsys.readouterr().out
    assert main(["db", "info"]) == 0
    assert "CLI compatible with db: True" in capsys.readouterr().out


def test_a_process_of_its_own(here: Path) -> None:
    """`python -m eventstore.redun push` works where nothing was imported; a missing store is one line."""
    ini = here / ".redun" / "redun.ini"
    pushed = _run("push", "there")
    assert (pushed.returncode, "Pushed" in pushed.stdout) == (0, True), pushed.stderr
    ini.write_text(ini.read_text().replace("history", "nowhere\nautomigrate = False"))
    missing = _run("pull", "there")
    assert missing.returncode == 1
    assert "NotFoundError: " in missing.stderr
    assert "Traceback" not in missing.stderr


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eventstore.redun", *words],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
