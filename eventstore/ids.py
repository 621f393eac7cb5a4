"""The small words of the log: writer, event and position ids, and digests. Parse, print, order.

A `Position` is a plain dense integer from 0; a `Digest` is lower-case hex. Both are `NewType`s, so they cost
nothing at run time and still tell a reader which integer or string is meant.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import NewType

from eventstore.errors import InvalidEventError

__all__ = [
    "WRITER_PATTERN",
    "Digest",
    "EventId",
    "Position",
    "WriterId",
    "check_writer_id",
    "is_digest",
    "new_writer_id",
]

Position = NewType("Position", int)
"""Where a sealed event stands in the log: 0 for the first, dense, never reused."""

Digest = NewType("Digest", str)
"""SHA-256 as 64 lower-case hex characters."""

WriterId = NewType("WriterId", str)
"""26 characters of Crockford base 32, lower case: 48 bits of Unix milliseconds, then 80 random bits."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
WRITER_PATTERN = f"[0-7][{_ALPHABET}]{{25}}"
"""The form of a writer id, as a regular expression without groups."""

_WRITER = re.compile(WRITER_PATTERN)
_NUMBER = re.compile("0|[1-9][0-9]{0,18}")
_DIGEST = re.compile("[0-9a-f]{64}")


def new_writer_id() -> WriterId:
    """Return an id that no other writer has: time-ordered, 80 random bits (the layout of a ULID)."""
    number = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    return WriterId("".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)))


def is_digest(found: object) -> bool:
    """Whether something that was read is a `Digest`."""
    return isinstance(found, str) and _DIGEST.fullmatch(found) is not None


def check_writer_id(text: str) -> WriterId:
    """Return `text` as a writer id, or raise InvalidEventError (code ``bad_writer_id``)."""
    if not _WRITER.fullmatch(text):
        raise InvalidEventError(
            f"a writer id is 26 characters of lower-case Crockford base 32, found {text!r}; "
            "take it from an EventId or from the `writer` column",
            code="bad_writer_id",
        )
    return WriterId(text)


@dataclass(frozen=True, slots=True, order=True)
class EventId:
    """Names one event for ever: its writer and its number (from 0) among that writer's events."""

    writer: WriterId
    sequence: int

    def __str__(self) -> str:
        return f"{self.writer}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> EventId:
        """Read ``<writer>-<sequence>``; raises InvalidEventError (code ``bad_event_id``)."""
        writer, dash, number = text.partition("-")
        if not dash or not _NUMBER.fullmatch(number) or not _WRITER.fullmatch(writer):
            raise InvalidEventError(
                f"an event id is <writer>-<sequence>, found {text!r}; `eventstore events --json` prints them",
                code="bad_event_id",
            )
        return cls(WriterId(writer), int(number))
