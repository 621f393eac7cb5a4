"""Options that several verbs share, so that a word means the same everywhere; and what they are read into."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from eventstore.cli import render
from eventstore.errors import InvalidEventError

__all__ = [
    "URL_VARIABLE",
    "AsJson",
    "Debug",
    "Modules",
    "SingleSealer",
    "Store",
    "import_modules",
    "moment",
    "position_or_moment",
    "store_from_environment",
]

URL_VARIABLE = "EVENTSTORE_URL"
"""Environment variable that names the store where the command line does not."""


def _remember_debug(context: typer.Context, value: bool) -> bool:
    context.meta["debug"] = value
    return value


Store = Annotated[
    str,
    typer.Argument(
        metavar="STORE",
        envvar=URL_VARIABLE,
        show_default=False,
        help="Folder or URL of the store, such as ./history or s3://bucket/history.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")]
Debug = Annotated[
    bool, typer.Option("--debug", callback=_remember_debug, help="Show the traceback of an error.")
]
Modules = Annotated[
    list[str] | None,
    typer.Option(
        "--module",
        metavar="NAME",
        show_default=False,
        help="Import this module first: it registers kinds of events, or tables. May be repeated.",
    ),
]
SingleSealer = Annotated[
    bool,
    typer.Option(
        "--single-sealer",
        help="This machine alone seals; for storage without an atomic put-if-absent, such as SFTP.",
    ),
]


def import_modules(names: Sequence[str] | None) -> None:
    """Import the user's modules, with the current folder on the path.

    Raises
    ------
    InvalidEventError
        One cannot be imported (code ``bad_module``).
    """
    if not names:
        return
    if os.getcwd() not in sys.path:  # noqa: PTH109 - the path is text
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # importing runs the user's own code
            raise InvalidEventError(
                f"the module {name!r} was expected to import, found {type(error).__name__}: {error}; "
                "name it as in an import statement. Nothing was changed",
                code="bad_module",
                module=name,
            ) from error


def store_from_environment() -> str | None:
    """Return the store that the environment names, or None."""
    return os.environ.get(URL_VARIABLE) or None


def moment(text: str | None, option: str) -> dt.datetime | None:
    """Read a time in ISO 8601; without a timezone it is taken as UTC, and that is said."""
    if text is None:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
        if found.tzinfo is None:
            render.note(f"{option} {text} names no timezone; it is taken as UTC")
            found = found.replace(tzinfo=dt.UTC)
        return found.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"a time such as 2026-03-01T12:00:00Z or 2026-03-01 was expected, found {text!r}",
            param_hint=f"'{option}'",
        ) from None


def position_or_moment(text: str | None, option: str) -> int | dt.datetime | None:
    """Read a position, which is a number, or a time as `moment` does."""
    if text is not None and text.isdecimal():
        return int(text)
    return moment(text, option)
