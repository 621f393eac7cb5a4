"""docs/cli.md and the program say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from eventstore.cli.app import app
from eventstore.cli.exits import ExitCode

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text()
VERBS = get_command(app).commands  # type: ignore[attr-defined]
COMMON = {"--help", "--json", "--debug"}


def _section(name: str) -> str:
    return PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def test_sections_are_the_verbs_in_order() -> None:
    """Each verb has a section, and no section is left over."""
    assert re.findall(r"^## ([a-z]+)$", PAGE, re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_verb_has_help_and_every_option_is_documented(verb: str) -> None:
    """Each verb and each of its options has help, and the page names exactly these options."""
    command = VERBS[verb]
    assert (command.help or "").partition("\n")[0].endswith(".")
    options = set()
    for parameter in command.params:
        assert getattr(parameter, "help", None), parameter.name
        options |= {name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")}
    section = _section(verb)
    for name in options - COMMON:
        assert f"`{name}`" in section, f"{verb} {name} is not documented"
    named = set(re.findall(r"^- .*?:", section, re.MULTILINE))
    assert set(re.findall(r"`(--[a-z-]+)`", " ".join(named))) <= options, (
        "the page names an option that is gone"
    )


def test_exit_codes_are_the_table() -> None:
    """The table of exit codes on the page is that of the program."""
    rows = re.findall(r"^\| (\d) \| ([A-Z]+) \| (.+) \|$", PAGE, re.MULTILINE)
    source = (ROOT / "eventstore" / "cli" / "exits.py").read_text()
    told = re.findall(r'    ([A-Z]+) = (\d)\n    """(.+)"""', source)
    assert [(number, name, words) for name, number, words in told] == rows
    assert [name for _, name, _ in rows] == [one.name for one in ExitCode]
