"""How commands end: codes, clean messages, masked credentials."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from eventstore.cli.app import app
from eventstore.cli.exits import ExitCode, exit_code, safe_text
from eventstore.errors import (
    ConflictError,
    FormatError,
    IntegrityError,
    InvalidEventError,
    NotFoundError,
    ProjectionError,
    StateError,
    StorageError,
)
from tests.unit.cli.conftest import Run

VERBS = ("info", "events", "rebuild", "verify", "seal")


def test_exit_codes_are_those_of_the_table() -> None:
    """The five codes have the numbers that the house promises."""
    assert {one.name: one.value for one in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "CONFLICT": 3,
        "INTEGRITY": 4,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidEventError("x"), 2),
        (ConflictError("x"), 3),
        (IntegrityError("x"), 4),
        (NotFoundError("x"), 1),
        (StateError("x"), 1),
        (StorageError("x"), 1),
        (FormatError("x"), 1),
        (ProjectionError("x"), 1),
        (PermissionError("x"), 1),
    ],
)
def test_errors_have_codes(error: Exception, code: int) -> None:
    """Each class of error ends a command with its code."""
    assert exit_code(error) == code


@pytest.mark.parametrize("verb", VERBS)
def test_missing_store_is_one_clean_message(run: Run, tmp_path: Path, verb: str) -> None:
    """A store that is not there is told in one message with its code, and nothing is made."""
    result = run(verb, tmp_path / "nowhere")
    assert result.exit_code == ExitCode.FAILED
    assert "error[store_not_found]" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_folder_of_something_else_is_refused(run: Run, tmp_path: Path, verb: str) -> None:
    """A folder that holds other files is no store."""
    (tmp_path / "letter.txt").write_text("dear")
    result = run(verb, tmp_path)
    assert result.exit_code == ExitCode.FAILED
    assert "error[not_a_store]" in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_newer_format_is_refused(run: Run, store: Path, verb: str) -> None:
    """A store of a newer format is left alone, with the advice to upgrade."""
    about = store / "store.json"
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    result = run(verb, store)
    assert result.exit_code == ExitCode.FAILED
    assert "error[newer_format]" in result.stderr
    assert "upgrade" in result.stderr


@pytest.mark.parametrize("verb", [*VERBS, "append", "query"])
def test_no_store_is_a_usage_error(run: Run, verb: str) -> None:
    """Without a store on the command line and in the environment there is nothing to work on."""
    result = run(verb)
    assert result.exit_code == ExitCode.USAGE
    assert "STORE" in result.stderr


def test_debug_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    """`--debug` adds the traceback to the message, and so does the environment variable."""
    for result in (
        run("info", tmp_path / "nowhere", "--debug"),
        run("info", tmp_path / "nowhere", env={"EVENTSTORE_DEBUG": "1"}),
    ):
        assert result.exit_code == ExitCode.FAILED
        assert "Traceback" in result.stderr
        assert "error[store_not_found]" in result.stderr


@pytest.mark.parametrize("extra", [(), ("--debug",)])
def test_credentials_of_a_url_are_masked(run: Run, extra: tuple[str, ...]) -> None:
    """No part of the output shows the secret of a URL, not even a traceback."""
    result = run("info", "nosuch://ann:hunter2@host/history?token=hunter3", *extra)
    assert result.exit_code == ExitCode.FAILED
    assert "***" in result.stderr
    assert "hunter" not in result.output


def test_masking_leaves_words_with_colons_alone() -> None:
    """Only URLs are masked: a field called key is named as it is."""
    text = "handle_key: expected a text; see s3://id:secret@bucket/x?sig=abc"
    assert safe_text(text) == "handle_key: expected a text; see s3://***@bucket/x?sig=***"


def test_damage_met_while_reading_ends_with_integrity(run: Run, store: Path) -> None:
    """`info` on a broken chain of seals ends with 4 and names the seal."""
    seal = min((store / "seals").glob("*.json"))
    seal.write_bytes(seal.read_bytes().replace(b'"size":', b'"sizf":'))
    result = run("info", store)
    assert result.exit_code == ExitCode.INTEGRITY
    assert seal.name in result.stderr


def test_version_is_printed(run: Run) -> None:
    """`--version` prints name and version on stdout."""
    assert re.fullmatch(r"eventstore \S+\n", run("--version").stdout)


def test_no_arguments_print_the_help(run: Run) -> None:
    """The program alone shows its verbs."""
    result = run()
    for verb in get_command(app).commands:  # type: ignore[attr-defined]
        assert verb in result.output


def test_module_runs_as_the_program(tmp_path: Path) -> None:
    """`python -m eventstore` is the program, with its name and its exit codes."""
    result = subprocess.run(
        [sys.executable, "-m", "eventstore", "info", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == ExitCode.FAILED
    assert result.stdout == ""
    assert "error[store_not_found]" in result.stderr
    assert "Traceback" not in result.stderr


def test_completion_offers_options_and_kinds(tmp_path: Path) -> None:
    """The shell's question after `--kind` is answered with kinds of events."""
    result = subprocess.run(
        [sys.executable, "-c", "from eventstore.cli.app import main; main()"],
        env={
            "PATH": "/usr/bin:/bin",
            "_EVENTSTORE_COMPLETE": "complete_bash",
            "COMP_WORDS": "eventstore events store --kind job.",
            "COMP_CWORD": "4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["job.ended", "job.started"]
