"""Reads give what was asked for, in order, whole or not at all; damage is an error, never a wrong answer."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from store_kit import beat, beats, cut, flip, memory_url, names, one, open_store, value

from eventstore import (
    Event,
    EventStore,
    IntegrityError,
    InvalidEventError,
    NotFoundError,
    Registry,
    event_kind,
)
from eventstore.log.reader import READ_SCHEMA


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    """Seven events in three segments and two seals, of two kinds, and one more that is only journaled."""
    store = open_store(tmp_path / "store", auto_seal=False)
    store.append(*beats("a", "b"), value(b"c"))
    store.flush()
    store.append(*beats("d", "e"))
    store.seal()
    store.append(value(b"f"), beat("g"))
    store.seal()
    store.append(beat("tail"))
    return store


def _positions(store: EventStore, **asked: Any) -> list[int | None]:
    return [place for batch in store.read(**asked) for place in batch.column("position").to_pylist()]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"after": 2}, [3, 4, 5, 6]),
        ({"after": 3}, [4, 5, 6]),
        ({"after": -1, "until": 2}, [0, 1]),
        ({"after": 1, "until": 4}, [2, 3]),
        ({"after": 6}, []),
        ({"after": 99}, []),
        ({"until": 0}, []),
        ({"until": 99}, [0, 1, 2, 3, 4, 5, 6]),
        ({"after": 4, "until": 3}, []),
        ({"kinds": ["value.recorded"]}, [2, 5]),
        ({"kinds": ["value.recorded"], "after": 2}, [5]),
        ({"kinds": ["value.recorded"], "limit": 1}, [2]),
        ({"kinds": ["job.started"]}, []),
        ({"kinds": []}, []),
        ({"limit": 0}, []),
        ({"limit": 4}, [0, 1, 2, 3]),
        ({"limit": 4, "after": 4, "tail": True}, [5, 6, None]),
        ({"tail": True}, [0, 1, 2, 3, 4, 5, 6, None]),
        ({"tail": True, "limit": 7}, [0, 1, 2, 3, 4, 5, 6]),
    ],
    ids=str,
)
def test_a_range_is_half_open_and_exact(
    store: EventStore, asked: dict[str, Any], expected: list[int | None]
) -> None:
    """`after` and `until` are exclusive; kinds, limit and tail combine with them."""
    assert _positions(store, **asked) == expected


def test_batches_have_the_columns_of_the_format(store: EventStore) -> None:
    """`position` comes first; a choice of columns keeps the order of the format."""
    for batch in store.read(tail=True):
        assert batch.schema.equals(READ_SCHEMA)
        assert batch.num_rows > 0
    (first, *_) = store.read(columns=["kind", "execution_id", "sequence"])
    assert first.schema.names == ["position", "kind", "sequence", "execution_id"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"columns": ["kind", "colour"]}, "unknown_column"),
        ({"limit": -1}, "bad_range"),
        ({"kinds": "job.started"}, "bad_kinds"),
        ({"columns": "kind"}, "unknown_column"),
        ({"tail": True, "until": 7}, "bad_range"),
    ],
    ids=str,
)
def test_a_question_that_makes_no_sense_is_refused(
    store: EventStore, asked: dict[str, Any], code: str
) -> None:
    """Instead of an answer that looks like one, and by the call, not by the first batch."""
    calls: list[Any] = [store.read]
    if "columns" not in asked:
        calls.append(store.events)
    if not {"limit", "tail"} & asked.keys():
        calls.append(store.subscribe)
    for call in calls:
        with pytest.raises(InvalidEventError, match="expected") as caught:
            call(**asked)
        assert caught.value.code == code


def test_a_read_keeps_the_log_that_it_began_with(store: EventStore) -> None:
    """What is sealed while batches are taken is not in them."""
    batches = store.read()
    first = next(batches)
    store.append(beat("later"))
    store.seal()
    assert first.num_rows + sum(batch.num_rows for batch in batches) == 7


def test_the_tail_has_no_hash_before_it_is_sealed(store: EventStore) -> None:
    """Whether journaled or durable: after a crash they may be put again, with other salts."""
    with open_store(Path(store.url)) as other:
        rows = pa.Table.from_batches(list(other.read(after=6, tail=True))).to_pylist()
        assert [(row["execution_id"], row["event_hash"], row["salt"]) for row in rows] == [
            ("tail", None, None)
        ]
        store.flush()
        rows = pa.Table.from_batches(list(other.read(after=6, tail=True))).to_pylist()
        assert [(row["position"], row["event_hash"], row["salt"]) for row in rows] == [(None, None, None)]
        store.seal()
        rows = pa.Table.from_batches(list(other.read(after=6, tail=True))).to_pylist()
        assert rows[0]["event_hash"] is not None
        assert rows[0]["salt"] is not None


def test_no_event_is_seen_twice_on_its_way(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushed after the journals were read, or sealed after the listing: it is there once."""
    reader = open_store(Path(store.url), auto_seal=False)
    sequence = reader._sequence
    real = sequence.unsealed

    def flush_first(**options: Any) -> list[str]:
        store.flush()
        found = real(**options)
        store.seal()
        return found

    monkeypatch.setattr(sequence, "unsealed", flush_first)
    assert names(reader, tail=True, kinds=["execution.heartbeat"]) == ["a", "b", "d", "e", "g", "tail"]
    store.append(beat("more"))
    assert names(reader, tail=True, after=6) == ["tail", "more"]


# damage ---------------------------------------------------------------------------------------------------


def _segments(store: EventStore) -> list[Path]:
    return [Path(store.url) / entry.path for entry in store._sequence.refresh().segments]


def test_a_missing_segment_is_an_error_that_names_it(store: EventStore) -> None:
    """What can be read without it can be read."""
    path = _segments(store)[1]
    path.unlink()
    with pytest.raises(NotFoundError) as caught:
        list(store.read())
    assert caught.value.code == "segment_missing"
    assert path.name in str(caught.value)
    assert _positions(store, after=4) == [5, 6]
    assert _positions(store, until=3) == [0, 1, 2]


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_no_flipped_bit_of_a_segment_gives_a_wrong_answer(tmp_path: Path, kind: str) -> None:
    """A store that is opened after the damage refuses to read, wherever the flip is."""
    place: Path | str = tmp_path / "store" if kind == "local" else memory_url()
    with open_store(place) as store:
        store.append(*beats("a", "b", "c"))
    path = store._sequence.refresh().segments[0].path
    raw = store.storage.read(path)
    for offset in range(3, len(raw), 211):
        altered = bytearray(raw)
        altered[offset] ^= 1 << offset % 8
        store.storage.put(path, bytes(altered))
        with open_store(place, read_only=True) as reader, pytest.raises(IntegrityError) as caught:
            list(reader.read())
        assert caught.value.code == "segment_damaged"
        with open_store(place, read_only=True) as reader, pytest.raises(IntegrityError):
            reader.scan().collect()


def test_a_damaged_journal_does_not_stop_the_tail(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """What stands before the damage is read, and what others have journaled; it is logged once."""
    journal = one((Path(store.url).parent).rglob("*.jsonl"))
    for name in ("lost", "more"):
        store.append(beat(name))
    store.abandon()
    (journal.parent / "notes-old.jsonl").write_text("hello\n")
    lines = journal.read_bytes().splitlines(keepends=True)
    flip(journal, len(lines[0]) + len(lines[1]) + 20)
    other = open_store(Path(store.url), read_only=True)
    for _ in range(3):
        assert names(other, tail=True, kinds=["execution.heartbeat"]) == [*"abdeg", "tail"]
        assert other.lookup.evaluation("ff" * 20) is None
    assert caplog.text.count("is damaged near byte") == 1


def test_a_journal_that_is_damaged_in_its_first_line_is_left_out(store: EventStore) -> None:
    """The sealed log and the rest of the tail read on."""
    journal = one((Path(store.url).parent).rglob("*.jsonl"))
    store.append(beat("more"))
    store.abandon()
    flip(journal, 20)
    with open_store(Path(store.url), read_only=True) as reader:
        assert _positions(reader, tail=True) == [0, 1, 2, 3, 4, 5, 6]
        assert reader.lookup.evaluation("ff" * 20) is None


def test_a_journal_of_another_store_is_left_out(store: EventStore, tmp_path: Path) -> None:
    """Someone copied it here: its events belong to another log."""
    other = open_store(tmp_path / "other")
    other.append(beat("theirs"))
    journal = one((tmp_path / "other-state").rglob("*.jsonl"))
    ours = one((tmp_path / "store-state").rglob("*.jsonl"))
    (ours.parent / journal.name).write_bytes(journal.read_bytes())
    with open_store(tmp_path / "store", read_only=True) as reader:
        assert names(reader, tail=True, after=6) == ["tail"]


def test_a_journal_of_a_newer_version_does_not_stop_the_tail(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are for those who can read it."""
    with monkeypatch.context() as newer:
        newer.setattr("eventstore.journal.JOURNAL_VERSION", 2)
        other = open_store(Path(store.url))
        other.append(beat("newer"))
    with open_store(Path(store.url), read_only=True) as reader:
        assert _positions(reader, tail=True) == [0, 1, 2, 3, 4, 5, 6, None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_reads_the_tail_as_a_stranger(store: EventStore) -> None:
    """From the journals, as its copy of the parent's rows goes stale at once."""
    ready, go = os.pipe()
    seen, say = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(ready, 1)
            os.write(say, ",".join(names(store, tail=True, after=6)).encode())
        finally:
            os._exit(0)
    store.append(beat("later"))
    os.write(go, b"x")
    os.waitpid(child, 0)
    assert os.read(seen, 100) == b"tail,later"
    for descriptor in (ready, go, seen, say):
        os.close(descriptor)


def test_an_unsealed_segment_that_is_damaged_is_left_out(
    store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It is nobody's log yet: a warning, and verify reports it as an error."""
    store.flush()
    sealed = {path.name for path in _segments(store)}
    path = one(path for path in Path(store.url).rglob("*.parquet") if path.name not in sealed)
    cut(path, 200)
    with open_store(Path(store.url), read_only=True) as reader:
        assert len(_positions(reader, tail=True)) == 7
        assert "an unsealed segment is left out" in caplog.text
        assert ("segment_damaged", path.name) in [
            (finding.code, Path(finding.path).name) for finding in reader.verify().findings
        ]


# old versions ---------------------------------------------------------------------------------------------


def test_old_rows_are_brought_up_to_date_on_the_way() -> None:
    """Batches and events show today's shape; the hash stays that of what was stored."""
    old, new = Registry(), Registry()

    @event_kind("lab.seen", registry=old)
    class Seen(Event):
        stream: str
        weight: int

    url = memory_url()
    with open_store(url, registry=old) as store:
        store.append(Seen(stream="x", weight=2), beat("other"))
        store.seal()
        hashes = [event.event_hash for event in store.events()]

    @event_kind(
        "lab.seen",
        version=2,
        registry=new,
        upcasters={1: lambda fields: {**fields, "weight": fields["weight"] * 1000, "unit": "g"}},
    )
    class Seen(Event):  # type: ignore[no-redef]
        stream: str
        weight: int
        unit: str

    with open_store(url, registry=new) as store:
        first, second = store.events()
        assert (first.version, first.event) == (
            2,
            Seen(stream="x", weight=2000, unit="g", occurred_at=first.event.occurred_at),
        )  # type: ignore[union-attr,call-arg]
        assert [first.event_hash, second.event_hash] == hashes
        assert store.scan().collect()["version"].to_list() == [2, 1]
        assert store.verify().findings == []


@pytest.mark.parametrize(
    "wrong", [None, 5, {"stream": 5}, {"stream": "x", "weight": {1, 2}}, {"occurred_at": "x"}], ids=str
)
def test_an_upcaster_that_returns_something_else_is_named(wrong: Any) -> None:
    """Kind and version of the step are in the error, whatever the library below would have said."""
    old, new = Registry(), Registry()

    @event_kind("lab.seen", registry=old)
    class Seen(Event):
        stream: str

    url = memory_url()
    with open_store(url, registry=old) as store:
        store.append(Seen(stream="x"))
    new.register(Seen, "lab.seen", version=2, upcasters={1: lambda _: wrong})
    with open_store(url, registry=new) as store:
        with pytest.raises(IntegrityError, match=r"upcaster of lab\.seen from version 1 to 2") as caught:
            list(store.read())
        assert (caught.value.code, caught.value.kind, caught.value.version) == (
            "upcast_failed",
            "lab.seen",
            1,
        )


# following ------------------------------------------------------------------------------------------------


def test_a_subscription_yields_what_is_there_and_what_comes(store: EventStore) -> None:
    """Each position once, in order; a stop ends it."""
    stop = threading.Event()
    seen: list[int] = []
    for batch in store.subscribe(after=2, poll_seconds=0.001, stop=stop):
        seen += batch.column("position").to_pylist()
        if len(seen) < 10:
            store.append(*beats("x", "y"))
            store.seal()
        else:
            stop.set()
    assert seen == list(range(3, 3 + len(seen)))
    assert len(seen) >= 10


def test_a_subscription_that_waits_long_enough_ends(store: EventStore) -> None:
    """After `idle_seconds` without news; with nothing new it yields nothing."""
    assert list(store.subscribe(after=6, poll_seconds=0.001, idle_seconds=0.0)) == []
    kinds = [
        batch.num_rows
        for batch in store.subscribe(kinds=["value.recorded"], poll_seconds=0.001, idle_seconds=0.0)
    ]
    assert sum(kinds) == 2
