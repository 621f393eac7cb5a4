"""How a command ends: the table of exit codes, and how an error becomes one clean message.

The table stands here and in docs/cli.md, and nowhere else; a test keeps the two equal.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from enum import IntEnum
from typing import Any

import typer
from typer.core import TyperGroup

from eventstore.cli import render
from eventstore.errors import ConflictError, EventStoreError, IntegrityError, InvalidEventError

__all__ = ["ExitCode", "VerbGroup", "exit_code", "fail", "safe_text"]


class ExitCode(IntEnum):
    """What the shell is told."""

    DONE = 0
    """What was asked for is done."""
    FAILED = 1
    """It could not be done: nothing there, storage refused, a newer format, a recipe failed."""
    USAGE = 2
    """What was given is wrong: an option, a line of input, SQL. Nothing was changed."""
    CONFLICT = 3
    """Someone else committed first: read again, then retry."""
    INTEGRITY = 4
    """The log is altered or incomplete: run `eventstore verify`, or read what it reported."""


_HINTS = {
    "file_not_found": "`eventstore verify STORE` tells what else is missing.",
    "no_atomic_create": "On the command line: --single-sealer.",
    "store_not_found": "On the command line: eventstore append STORE --create.",
    "unknown_kind": "On the command line: --module my.models imports the module that registers it.",
    "unknown_projection": "On the command line: --module my.models imports the module that registers it.",
}
DEBUG_VARIABLE = "EVENTSTORE_DEBUG"


def exit_code(error: BaseException) -> ExitCode:
    """Return the code that stands for an error."""
    match error:
        case IntegrityError():
            return ExitCode.INTEGRITY
        case ConflictError():
            return ExitCode.CONFLICT
        case InvalidEventError():
            return ExitCode.USAGE
        case _:
            return ExitCode.FAILED


def safe_text(text: str) -> str:
    """Mask the credentials of every URL in `text`."""
    from eventstore.filesystem import mask_url

    return re.sub(r"\S+://\S+", lambda match: mask_url(match[0]), text)


def fail(error: BaseException, *, debug: bool = False) -> ExitCode:
    """Say on stderr what went wrong, without a traceback unless `debug`; returns the exit code."""
    code = error.code if isinstance(error, EventStoreError) else "os_error"
    if debug:
        sys.stderr.write(safe_text("".join(traceback.format_exception(error))))
    render.error(safe_text(str(error)), code=code, hint=_HINTS.get(code))
    return exit_code(error)


class VerbGroup(TyperGroup):
    """Turns the errors of every verb into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read our output has seen enough; typer ends quietly
        except (EventStoreError, OSError) as error:
            debug = bool(ctx.meta.get("debug") or os.environ.get(DEBUG_VARIABLE))
            raise typer.Exit(fail(error, debug=debug)) from error
