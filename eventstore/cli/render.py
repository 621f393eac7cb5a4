"""How things look: data on stdout, talk on stderr. The one room of the command line that knows rich.

Text that comes from a store is never read as markup, and is whole when stdout is no terminal.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

__all__ = [
    "bytes_text",
    "error",
    "flush",
    "heading",
    "json_line",
    "line",
    "listen_to_logging",
    "note",
    "out",
    "pairs",
    "plain",
    "progress",
    "say",
    "table",
    "talk",
    "text",
    "visible",
    "warning",
]

_WIDE = 10_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MOST_CELL = 60

Cell = str | Text


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def out() -> Console:
    """Return the console of data."""
    return _console()


def talk() -> Console:
    """Return the console of talk: progress, notes, errors."""
    return _console(stderr=True)


# talk ------------------------------------------------------------------------------------------------------


def say(words: Cell) -> None:
    """Tell the person something; programs do not read it."""
    talk().print(words, soft_wrap=True)


def note(words: str) -> None:
    """Say something that may be overlooked."""
    say(Text(f"note: {words}", style="dim"))


def warning(words: str) -> None:
    """Say something that should be looked at."""
    say(Text.assemble(("warning: ", "bold yellow"), words))


def error(words: str, *, code: str, hint: str | None = None) -> None:
    """Say what went wrong, with its stable code and, where there is one, a next step."""
    say(Text.assemble((f"error[{code}]: ", "bold red"), words))
    if hint:
        say(Text(hint, style="dim"))


class _Talk(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage()
        if record.levelno >= logging.ERROR:
            error(words, code="log")
        else:
            warning(words)


def listen_to_logging() -> None:
    """Say the library's warnings as our own."""
    logger = logging.getLogger("eventstore")
    if not any(isinstance(handler, _Talk) for handler in logger.handlers):
        logger.addHandler(_Talk(logging.WARNING))
        logger.propagate = False


@contextmanager
def progress(words: str, unit: str = "events") -> Iterator[Callable[[int, int], None]]:
    """Show a bar with count and rate on stderr, if that is a terminal; gives what to call with (done, all)."""
    console = talk()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TextColumn("{task.fields[rate]}", style="dim", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(words, total=None, rate="")

        def advance(done: int, total: int) -> None:
            elapsed = bar.tasks[0].elapsed or 0
            rate = f"{done / elapsed:,.0f}/s" if elapsed > 0.2 else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield advance


# data ------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return a value as JSON can say it: bytes as base64, times as ISO 8601 in UTC, no NaN."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return base64.b64encode(value).decode()
        case dt.datetime():
            moment = value.astimezone(dt.UTC) if value.tzinfo else value
            return moment.isoformat().replace("+00:00", "Z")
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case Mapping():
            return {str(name): plain(item) for name, item in value.items()}
        case Iterable():
            return [plain(item) for item in value]
        case _:
            return str(value)


def json_line(record: Mapping[str, Any]) -> None:
    """Print one object on one line of stdout."""
    sys.stdout.write(json.dumps(plain(record), ensure_ascii=False, separators=(", ", ": ")) + "\n")


def flush() -> None:
    """Let whoever follows our output see it now."""
    sys.stdout.flush()


def visible(words: str) -> str:
    """Return text with its control characters made visible: what is stored must not steer the terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", words)


def line(words: Cell, console: Console | None = None) -> None:
    """Print one line; on a terminal, what does not fit is cut off. A caller of many gives the console."""
    (console or out()).print(words, no_wrap=True, overflow="ellipsis", crop=True)


def text(words: Cell) -> None:
    """Print text whole, however long; the terminal breaks its lines."""
    out().print(words, soft_wrap=True)


def heading(words: str) -> None:
    """Print the title of what follows."""
    text(Text(words, style="bold"))


def pairs(rows: Iterable[tuple[str, Cell]]) -> None:
    """Print names and values in two columns."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(f"  {name}", value)
    out().print(grid)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    fold: bool = False,
) -> None:
    """Print a table.

    Parameters
    ----------
    right
        Columns that are aligned to the right.
    fold
        Let long cells go over several lines, instead of cutting them off.
    """
    grid = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for name in columns:
        grid.add_column(
            Text(name),
            justify="right" if name in right else "left",
            overflow="fold" if fold else "ellipsis",
            no_wrap=not fold,
        )
    for row in rows:
        grid.add_row(*(_cell(value, whole=fold) for value in row))
    out().print(grid)


def _cell(value: Any, *, whole: bool) -> Text:
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("null", style="dim")
    if isinstance(value, bool):
        return Text("true" if value else "false")
    if isinstance(value, bytes):
        return Text(f"<{len(value)} bytes>", style="dim")
    if isinstance(value, dt.datetime):
        return Text(value.replace(tzinfo=None).isoformat(" ", "milliseconds"))
    words = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    words = visible(words if whole else " ".join(words.split()))
    return Text(words if whole or len(words) <= _MOST_CELL else f"{words[: _MOST_CELL - 1]}…")


def bytes_text(count: int) -> str:
    """Print a size for a person: 1.2 MB."""
    return decimal(count)
