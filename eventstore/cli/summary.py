"""What `eventstore info` says of a store, gathered without changing it: counts by listing and by seal."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from dataclasses import dataclass, field

from eventstore import layout
from eventstore.codec.schema import FORMAT_VERSION
from eventstore.log.sequence import Head, SealSequence
from eventstore.segment import Segment
from eventstore.store import EventStore

__all__ = ["Summary", "TableState", "summarize"]

_MANIFEST = re.compile(
    rf"{layout.PROJECTIONS}/([a-z0-9_]+)/v([0-9]+)/manifests/([0-9]{{20}})-[0-9]{{6}}\.json"
)


@dataclass(frozen=True, slots=True)
class TableState:
    """The newest snapshot of a projection, and how many sealed events it has not folded."""

    name: str
    version: int
    position: int
    behind: int


@dataclass(slots=True)
class Summary:
    """A store at a glance. Times are those of recording, UTC; sizes in bytes."""

    url: str
    store_id: str
    head: Head
    format: int = FORMAT_VERSION
    segments: int = 0
    segment_bytes: int = 0
    unsealed_segments: int = 0
    unsealed_events: int = 0
    journaled_events: int = 0
    values: int = 0
    value_bytes: int = 0
    first_event_at: dt.datetime | None = None
    last_event_at: dt.datetime | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    tables: list[TableState] = field(default_factory=list)


def summarize(store: EventStore) -> Summary:
    """Look at a store: its seals, its tail, and listings of values and snapshots. No segment is read whole.

    Raises
    ------
    IntegrityError
        The chain of seals is broken, or a journal is damaged.
    """
    # The store's own sequence is not public, so the chain of seals is opened once more.
    sequence = SealSequence(store.storage, store_id=store.store_id, software="", clock=lambda: 0)
    head = store.head()
    found = Summary(url=store.url, store_id=store.store_id, head=head)
    kinds: Counter[str] = Counter()
    times: list[int] = []
    segments: list[Segment] = list(sequence.refresh().segments)
    for segment in segments:
        found.segments += 1
        found.segment_bytes += segment.size_bytes
        times += [segment.recorded_from_us, segment.recorded_to_us]
        for kind in segment.kinds:
            kinds[kind.kind] += kind.count
    unsealed = sequence.unsealed(everywhere=True)
    found.unsealed_segments = len(unsealed)
    ends: dict[str, int] = {}
    for path in unsealed:
        known = sequence.segment(path)
        if known is not None:
            ends[known.writer] = max(known.end_sequence, ends.get(known.writer, 0))
    columns = ["kind", "writer", "sequence", "recorded_at"]
    for batch in store.read(after=head.size - 1, columns=columns, tail=True):
        for row in batch.to_pylist():
            if row["position"] is not None:
                continue  # sealed since we took the head
            if row["sequence"] < ends.get(row["writer"], 0):
                found.unsealed_events += 1
            else:
                found.journaled_events += 1
            kinds[row["kind"]] += 1
            times.append(int(row["recorded_at"].timestamp() * 1e6))
    if times:
        found.first_event_at, found.last_event_at = _time(min(times)), _time(max(times))
    found.kinds = dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    for entry in store.storage.files(layout.VALUES):
        found.values += 1
        found.value_bytes += entry.size_bytes
    found.tables = _tables(store, head.size)
    return found


def _tables(store: EventStore, size: int) -> list[TableState]:
    newest: dict[tuple[str, int], int] = {}
    for entry in store.storage.files(layout.PROJECTIONS):
        match = _MANIFEST.fullmatch(entry.path)
        if match:
            key = match[1], int(match[2])
            newest[key] = max(newest.get(key, 0), int(match[3]))
    return [
        TableState(name, version, position, max(0, size - position))
        for (name, version), position in sorted(newest.items())
    ]


def _time(microseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(microseconds / 1e6, dt.UTC)
