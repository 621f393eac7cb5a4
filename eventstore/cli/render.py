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
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = [
    "SHORT_ID",
    "Text",
    "bytes_text",
    "counted",
    "error",
    "flush",
    "heading",
    "is_id",
    "json_line",
    "json_text",
    "line",
    "listen_to_logging",
    "note",
    "out",
    "pairs",
    "paragraph",
    "plain",
    "progress",
    "say",
    "table",
    "talk",
    "text",
    "visible",
    "waiting",
    "warning",
]

_WIDE = 10_000
_PARAGRAPH = 96
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MOST_CELL = 72
SHORT_ID = 8
"""Characters of an id that people are shown; `eventstore events --entity` takes them."""
_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

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
    console = talk()
    console.print(words, soft_wrap=not console.is_terminal)


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
    """Show a bar with rate and time left on stderr, if that is a terminal; gives (done, all) -> None."""
    console = talk()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TextColumn("{task.fields[rate]}", style="dim", markup=False),
        TimeElapsedColumn(),
        TextColumn("left", style="dim", markup=False),
        TimeRemainingColumn(compact=True),
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


@contextmanager
def waiting(words: str) -> Iterator[None]:
    """Show on stderr that something is going on, if that is a terminal."""
    console = talk()
    if console.is_terminal:
        with console.status(Text(words)):
            yield
    else:
        yield


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


def json_text(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(plain(value), ensure_ascii=False)


def json_line(record: Mapping[str, Any]) -> None:
    """Print one object on one line of stdout."""
    sys.stdout.write(json_text(record) + "\n")


def flush() -> None:
    """Let whoever follows our output see it now."""
    sys.stdout.flush()


def visible(words: str) -> str:
    """Return text with its control characters made visible: what is stored must not steer the terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", words)


def line(words: Cell, console: Console | None = None) -> None:
    """Print one line; on a terminal, what does not fit is cut off. A caller of many gives the console."""
    console = console or out()
    if console.is_terminal:
        console.print(words, no_wrap=True, overflow="ellipsis", crop=True)
    else:
        sys.stdout.write(f"{words}\n")  # many times as fast, and there is nothing to style


def text(words: Cell) -> None:
    """Print text whole, however long; on a terminal its lines are broken between words."""
    console = out()
    console.print(words, soft_wrap=not console.is_terminal)


def heading(words: str) -> None:
    """Print the title of what follows."""
    text(Text(words, style="bold"))


def paragraph(words: str, *, indent: int = 0, style: str = "") -> None:
    """Print running text, broken at `_PARAGRAPH` columns or before."""
    console = out()
    width = min(console.width, _PARAGRAPH) - indent
    for broken in textwrap.wrap(words, max(width, 20)):
        console.print(Text(" " * indent + broken, style=style), soft_wrap=True)


def pairs(rows: Iterable[tuple[str, str] | tuple[str, Cell]], *, indent: int = 2) -> None:
    """Print names and values in two columns."""
    given = list(rows)
    width = max((len(name) for name, _ in given), default=0)
    console = out()
    for name, value in given:
        console.print(Text.assemble((f"{'':{indent}}{name:<{width}}  ", "cyan"), value), soft_wrap=True)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    indent: int = 0,
) -> None:
    """Print a table. What is too wide gets short ids; what is still too wide becomes a record for each row.

    Parameters
    ----------
    right
        Columns that are aligned to the right.
    indent
        Blanks before every line.
    """
    console, given = out(), list(rows)
    for short in (False, True):
        grid = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
        for name in columns:
            grid.add_column(Text(name), justify="right" if name in right else "left", no_wrap=True)
        for row in given:
            grid.add_row(*(_cell(value, console, short=short) for value in row))
        needed = console.measure(grid, options=console.options.update(width=_WIDE)).maximum + indent
        if needed <= console.width:
            console.print(Padding(grid, (0, 0, 0, indent), expand=False) if indent else grid)
            return
    for number, row in enumerate(given, 1):
        console.print(Text(f"{'':{indent}}row {number:,}", style="bold dim"))
        cells = [_cell(value, console, short=False) for value in row]
        pairs(zip(columns, cells, strict=True), indent=indent + 2)


def is_id(words: str) -> bool:
    """Whether a text is a hash or a UUID, of which the first `SHORT_ID` characters usually tell enough."""
    return bool(_ID.fullmatch(words))


def _cell(value: Any, console: Console, *, short: bool) -> Text:
    if isinstance(value, Text):
        return value
    if value is None:
        return Text("null", style="dim")
    if isinstance(value, bool):
        return Text("true" if value else "false")
    if isinstance(value, bytes):
        return Text(f"<{len(value)} bytes>", style="dim")
    if isinstance(value, dt.timedelta):
        return Text(_duration(value.total_seconds()))
    if isinstance(value, dt.datetime):
        return Text(value.replace(tzinfo=None).isoformat(" ", "milliseconds"))
    words = " ".join((value if isinstance(value, str) else json_text(value)).split())
    if short and is_id(words):
        words = words[:SHORT_ID]
    if console.is_terminal and len(words) > _MOST_CELL:
        words = f"{words[: _MOST_CELL - 1]}…"
    return Text(visible(words))


def _duration(seconds: float) -> str:
    if abs(seconds) < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if abs(seconds) < 60 else str(dt.timedelta(seconds=round(seconds)))


def counted(count: int, word: str) -> str:
    """Print a count with its word: 1 event, 1,234 events."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def bytes_text(count: int) -> str:
    """Print a size for a person: 1.2 MB."""
    return decimal(count)
