"""Events from lines of JSON: all lines are checked before the first event is stored.

The lines are spooled while they are checked, in memory up to 16 MB and then in a temporary file, so that
what is stored is what was checked and standard input need not be read twice.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from eventstore.errors import InvalidEventError
from eventstore.events import Event, Registry

__all__ = ["MOST_REPORTED", "BadLine", "Intake", "event_of_line"]

MOST_REPORTED = 10
"""Bad lines that an error names; the rest are counted."""
_SPOOL_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event: its number from 1, a stable code, and what is wrong with it."""

    number: int
    code: str
    message: str


class Intake:
    """Lines that are all good events; a context manager that lets go of the spooled copy.

    Parameters
    ----------
    lines
        JSON Lines in UTF-8; blank ones are passed over.
    registry
        The kinds that are known.

    Raises
    ------
    InvalidEventError
        A line is no event (code ``bad_lines``); its ``lines`` name the first `MOST_REPORTED`.
    """

    def __init__(self, lines: Iterable[bytes], *, registry: Registry) -> None:
        self._registry = registry
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self.count = 0
        """How many events there are."""
        try:
            self._check(lines)
        except BaseException:
            self._spool.close()
            raise

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._spool.close()

    def _check(self, lines: Iterable[bytes]) -> None:
        bad: list[BadLine] = []
        bad_count = 0
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            self.count += 1
            try:
                event_of_line(line, self._registry)
            except InvalidEventError as error:
                bad_count += 1
                if bad_count <= MOST_REPORTED:
                    bad.append(BadLine(number, error.code, error.message))
            if not bad_count:
                self._spool.write(b"%d " % number + line.strip() + b"\n")
        if bad_count:
            raise _refusal(bad, bad_count, self.count)

    def batches(self, size: int) -> Iterator[list[tuple[int, Event]]]:
        """Yield the events with their line numbers, `size` at a time."""
        self._spool.seek(0)
        events = (
            (int(number), event_of_line(line, self._registry))
            for number, _, line in (spooled.partition(b" ") for spooled in self._spool)
        )
        while batch := list(islice(events, size)):
            yield batch


def _refusal(bad: list[BadLine], bad_count: int, count: int) -> InvalidEventError:
    more = [f"... and {bad_count - len(bad)} more"] if bad_count > len(bad) else []
    report = "\n".join([f"  line {one.number}: {one.message} [{one.code}]" for one in bad] + more)
    return InvalidEventError(
        f"{bad_count} of {count} lines {'is' if bad_count == 1 else 'are'} not an event; nothing was stored\n"
        f"{report}",
        code="bad_lines",
        lines=tuple(bad),
    )


def event_of_line(line: bytes, registry: Registry) -> Event:
    """Read one event: a JSON object with ``kind`` and the kind's fields; bytes are base64, times ISO 8601.

    Raises
    ------
    InvalidEventError
        It is no JSON object (``bad_json``), names no kind (``missing_kind``) or an unknown one
        (``unknown_kind``), or a field is wrong (the field's code).
    """
    try:
        found = json.loads(line.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InvalidEventError(f"JSON was expected, found {error}", code="bad_json") from None
    if not isinstance(found, dict):
        raise InvalidEventError(f"a JSON object was expected, found {type(found).__name__}", code="bad_json")
    kind = found.pop("kind", None)
    if not isinstance(kind, str):
        raise InvalidEventError(
            'a JSON object with "kind" was expected, such as {"kind": "execution.started", ...}',
            code="missing_kind",
        )
    event_type = registry.get(kind)
    if event_type is None:
        own = sorted(one.kind for one in registry if not one.built_in)
        raise InvalidEventError(
            f"the kind {kind!r} is not registered; known besides the built-in kinds: "
            f"{', '.join(own) or 'none'}. --module NAME imports the module that registers it",
            code="unknown_kind",
        )
    try:
        return event_type.model.from_json(json.dumps(found))
    except InvalidEventError as error:
        faults = "; ".join(f"{one.field}: expected {one.expected}, found {one.found}" for one in error.faults)
        raise InvalidEventError(f"{kind}: {faults}", code=error.code) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} twice in one object")
    return made
