"""However appends are split into writers, segments and seals, they read back as they were appended."""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from pathlib import Path

import polars as pl
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventstore import Event, EventStore
from eventstore.testing import stored_form
from eventstore.testing.strategies import REGISTRY, batches, events

STEPS = st.lists(
    st.tuples(st.integers(0, 2), batches(most=3), st.sampled_from(["", "", "flush", "seal"])),
    min_size=1,
    max_size=6,
)


def _naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\x01" + _naive_root(leaves[:half]) + _naive_root(leaves[half:])).digest()


def _open(url: str, **options: object) -> EventStore:
    return EventStore.open(url, create=True, registry=REGISTRY, flush_seconds=None, **options)  # type: ignore[arg-type]


@settings(max_examples=15)
@given(steps=STEPS, auto_seal=st.booleans(), flush_rows=st.sampled_from([1, 2, 3, 100]))
def test_any_split_reads_back_as_it_was_appended(
    steps: list[tuple[int, list[Event], str]], auto_seal: bool, flush_rows: int
) -> None:
    """Per writer in order, positions dense, and events, read and scan tell the same."""
    url = f"memory://{uuid.uuid4()}"
    stores = [_open(url, auto_seal=auto_seal, flush_rows=flush_rows) for _ in range(3)]
    appended: dict[str, list[Event]] = defaultdict(list)
    for number, batch, then in steps:
        receipt = stores[number].append(*batch)
        appended[str(receipt.first.writer)] += batch
        if then:
            getattr(stores[number], then)()
    for store in stores:
        store.close()
    with _open(url) as store:
        head = store.seal()
        found = list(store.events())
        assert [event.position for event in found] == list(range(sum(map(len, appended.values()))))
        assert head.size == len(found)
        for writer, own in appended.items():
            read = [event for event in found if event.id.writer == writer]
            assert [event.id.sequence for event in read] == list(range(len(own)))
            for event, recorded in zip(own, read, strict=True):
                assert recorded.event == stored_form(
                    event, recorded_us=round(recorded.recorded_at.timestamp() * 1_000_000)
                )
        assert head.root == _naive_root([event.event_hash for event in found])
        table = pa.Table.from_batches(list(store.read()))
        frame = store.scan().collect()
        assert frame.equals(pl.DataFrame(table))
        assert table["event_hash"].to_pylist() == [event.event_hash for event in found]
        assert store.verify().findings == []


@settings(max_examples=10)
@given(batch=st.lists(events(), min_size=1, max_size=6), cuts=st.sets(st.integers(0, 5)))
@example(batch=[], cuts=set())
def test_a_journal_gives_back_what_memory_would_have_stored(
    tmp_path_factory: object, batch: list[Event], cuts: set[int]
) -> None:
    """Events that went through a journal and a recovery are those that a flush would have stored."""
    folder = Path(tmp_path_factory.mktemp("journal"))  # type: ignore[attr-defined]
    store = _open(str(folder / "store"), state_dir=folder / "state", actor="someone", inline_limit=8)
    for number, event in enumerate(batch):
        store.append(event)
        if number in cuts:
            store.flush()
    store.abandon()
    with _open(str(folder / "store"), state_dir=folder / "state") as store:
        read = list(store.events())
        assert len(read) == len(batch)
        for event, recorded in zip(batch, read, strict=True):
            assert recorded.event == stored_form(
                event,
                recorded_us=round(recorded.recorded_at.timestamp() * 1_000_000),
                actor="someone",
                inline_limit=8,
            )
        assert store.verify().findings == []


@settings(max_examples=25)
@given(
    rows=st.lists(events("execution.heartbeat"), min_size=8, max_size=8),
    after=st.none() | st.integers(-1, 10),
    until=st.none() | st.integers(0, 10),
    columns=st.none() | st.sets(st.sampled_from(["kind", "sequence", "execution_id", "actor"])),
)
def test_read_and_scan_answer_the_same(
    tmp_path_factory: object,
    rows: list[Event],
    after: int | None,
    until: int | None,
    columns: set[str] | None,
) -> None:
    """Native scans and the reader agree on rows, columns and order for any range."""
    folder = Path(tmp_path_factory.mktemp("scan"))  # type: ignore[attr-defined]
    with _open(str(folder / "store"), state_dir=folder / "state", flush_rows=3) as store:
        for row in rows:
            store.append(row)
        store.seal()
        frame = store.scan(after=after, until=until, columns=columns).collect()
        read = list(store.read(after=after, until=until, columns=columns))
        assert frame.columns[0] == "position"
        if read:
            assert frame.equals(pl.DataFrame(pa.Table.from_batches(read)))
        else:
            assert frame.is_empty()
