"""What tests of the log share: a store without a timer, events with names, and ways to damage files."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from eventstore import EventStore, ExecutionHeartbeat, ValueRecorded, VerifyReport
from eventstore.codec.rows import Row, fields_of, table_of
from eventstore.events import Event, default_registry
from eventstore.ids import WriterId
from eventstore.segment import SegmentFile, encode_segment

WRITERS = tuple(WriterId(f"{number}123456789abcdefghjkmnpqrs") for number in range(4))
"""Writer ids in order."""
DAY = "2024/05/06"
STORE_ID = "ab" * 16


def open_store(place: Path | str, **options: Any) -> EventStore:
    """Open a store at `place`, made if need be, whose journals lie beside it; nothing happens by time."""
    settings: dict[str, Any] = {"create": True, "flush_seconds": None}
    if isinstance(place, Path):
        settings["state_dir"] = place.parent / f"{place.name}-state"
    return EventStore.open(str(place), **(settings | options))


def memory_url() -> str:
    """The URL of a place in memory that nobody else has."""
    return f"memory://{uuid.uuid4()}"


def beat(name: str = "x") -> ExecutionHeartbeat:
    """A small event that can be told by its name."""
    return ExecutionHeartbeat(execution_id=name)


def beats(*names: str) -> list[ExecutionHeartbeat]:
    """Several of them."""
    return [beat(name) for name in names]


def value(data: bytes, value_hash: str = "ab" * 20) -> ValueRecorded:
    """A value with these bytes."""
    return ValueRecorded(value_hash=value_hash, type_name="bytes", size_bytes=len(data), data=data)


def names(store: EventStore, **asked: Any) -> list[str]:
    """The names of the heartbeats that a read yields."""
    return [event.event.execution_id for event in store.events(**asked)]  # type: ignore[union-attr]


def rows_of(events: Iterable[Event], *, first: int = 0, recorded_us: int = 1_000_000) -> list[Row]:
    """Rows as a writer makes them, all recorded at one time."""
    kinds = [(default_registry.of(event), event) for event in events]
    return [
        Row(kind.kind, kind.version, kind.columns, fields_of(kind, event), sequence, recorded_us)
        for sequence, (kind, event) in enumerate(kinds, first)
    ]


def segment_of(
    events: Sequence[Event],
    *,
    writer: WriterId = WRITERS[0],
    first: int = 0,
    recorded_us: int = 1_000_000,
    store_id: str = STORE_ID,
) -> tuple[SegmentFile, list[bytes]]:
    """A segment of these events, and their hashes."""
    rows = rows_of(events, first=first, recorded_us=recorded_us)
    table = table_of(rows, writer=writer, actor=None, software=None)
    return encode_segment(table, day=DAY, store_id=store_id), table["event_hash"].to_pylist()


def one(paths: Iterable[Path]) -> Path:
    """The only path there is."""
    (path,) = paths
    return path


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1 << bit
    path.write_bytes(raw)


def cut(path: Path, length: int) -> None:
    """Cut a file to a length."""
    os.truncate(path, length)


def found(report: VerifyReport) -> list[tuple[str, str, str]]:
    """The findings of a report: severity, code, path."""
    return [(str(finding.severity), finding.code, finding.path) for finding in report.findings]
