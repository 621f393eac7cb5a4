"""One event as one line for a person, and as one JSON object for a program."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from eventstore.cli import render
from eventstore.cli.render import Text
from eventstore.ids import EventId, WriterId

__all__ = ["LINE_COLUMNS", "EventLines", "event_object"]

LINE_COLUMNS: tuple[str, ...] = (
    *("position", "kind", "version", "writer", "sequence", "recorded_at", "event_hash"),
    *("actor", "args", "args_hash", "arguments", "cached", "call_hash", "children", "context_hash"),
    *("data_digest", "entity_id", "entity_type", "eval_hash", "execution_id", "file_path", "format"),
    *("handle_hash", "handle_key", "handle_name", "job_id", "occurred_at", "parent_id", "parents", "payload"),
    *("reason", "size_bytes", "status", "stream", "subvalues", "superseded", "tag_hash", "tags"),
    *("task_hash", "task_name", "task_namespace", "type_name", "value_hash"),
)
"""What lines are made of; the bytes of values and the sources of tasks are left in the store."""

# The most telling first; a line is cut off where the terminal ends.
_FIRST = (
    *("status", "job_id", "execution_id", "task_name", "handle_name", "handle_key", "stream", "type_name"),
    *("file_path", "payload", "tags", "value_hash"),
)
_LAST = ("actor", "reason")
_UNSAID = frozenset(
    {
        "position",
        "kind",
        "version",
        "writer",
        "sequence",
        "recorded_at",
        "occurred_at",
        "event_hash",
        "cached",
    }
    | {"format", "software", "salt", "body_digest"}
)
_STYLES = {
    "call_context": "blue",
    "call_node": "blue",
    "evaluation": "cyan",
    "execution": "bold magenta",
    "handle": "yellow",
    "job": "green",
    "tags": "bright_magenta",
    "task": "bright_blue",
    "value": "cyan",
}
_STATUS_STYLES = {"DONE": "green", "CACHED": "cyan", "FAILED": "bold red"}
_MOST = 48


class EventLines:
    """Makes lines; on a terminal the day stands on a line of its own, wherever it changes."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal
        self._day: dt.date | None = None

    def day(self, row: Mapping[str, Any]) -> Text | None:
        """Return the line that announces the day of the next event, if there is need of one."""
        moment = _moment(row)
        if not self._terminal or moment.date() == self._day:
            return None
        self._day = moment.date()
        return Text(f"{self._day.isoformat()} (UTC)", style="bold dim")

    def line(self, row: Mapping[str, Any]) -> Text:
        """Return the line of one event: position, time, kind, then its fields."""
        kind = str(row["kind"])
        place = row["position"]
        text = Text()
        if place is None:
            text.append("unsealed", style="dim italic")
        else:
            text.append(f"{place:>8}", style="dim")
        clock = _moment(row).isoformat(" ", "milliseconds").removesuffix("+00:00")
        text.append(f"  {clock[11:] if self._terminal else clock + 'Z'}  ", style="dim")
        text.append(f"{kind:<19}", style=_STYLES.get(kind.partition(".")[0], "bold white"))
        names = [*_FIRST, *(name for name in row if name not in _FIRST + _LAST), *_LAST]
        for name in names:
            value = row.get(name)
            if value is None or value in ([], "") or name in _UNSAID:
                continue
            style = _STATUS_STYLES.get(str(value), "") if name == "status" else ""
            text.append(f" {name}=", style="dim")
            text.append(render.visible(_short(name, value)), style=style)
        return text


def _moment(row: Mapping[str, Any]) -> dt.datetime:
    moment: dt.datetime = row.get("occurred_at") or row["recorded_at"]
    return moment.astimezone(dt.UTC)


def _short(name: str, value: Any) -> str:
    if name == "tags":
        return ",".join(f"{tag['key']}={tag['value']}" for tag in value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, list):
        return f"[{len(value)}]"
    text = str(value)
    if render.is_id(text):
        return text[: render.SHORT_ID]
    text = " ".join(text.split())
    if len(text) <= _MOST:
        return text
    # The end of a path tells more than its beginning.
    return f"…{text[1 - _MOST :]}" if name == "file_path" else f"{text[: _MOST - 1]}…"


def event_object(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event as an object: its columns that say something, its id, and its payload opened.

    Hashes and salts are hex, other bytes are left for base64.
    """
    made: dict[str, Any] = {
        "position": row["position"],
        "id": str(EventId(WriterId(row["writer"]), row["sequence"])),
    }
    for name, value in row.items():
        if value is None or name in made:
            continue
        if name in ("event_hash", "salt", "body_digest"):
            value = value.hex()
        elif name == "payload":
            value = json.loads(value)
        elif name in ("arguments", "tags"):
            value = [{key: item for key, item in one.items() if item is not None} for one in value]
        made[name] = value
    return made
