"""The lazy table tells what the reader tells: natively where it can, through the reader where it must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from store_kit import beats, flip, memory_url, open_store, value

from eventstore import EventStore, IntegrityError, InvalidEventError, NotFoundError, StorageError


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> EventStore:
    """Seven events in three segments, and one in the tail."""
    store = open_store(tmp_path / "store" if request.param == "local" else memory_url(), auto_seal=False)
    for batch in ([*beats("a", "b"), value(b"c")], beats("d", "e"), [value(b"f"), *beats("g")]):
        store.append(*batch)
        store.seal()
    store.append(*beats("tail"))
    return store


ASKED = [
    {},
    {"after": 2},
    {"after": 3, "until": 6},
    {"until": 0},
    {"kinds": ["value.recorded"]},
    {"kinds": ["job.started"]},
    {"columns": ["kind", "sequence"]},
    {"tail": True},
    {"tail": True, "after": 4, "kinds": ["execution.heartbeat"], "columns": ["execution_id"]},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_scan_answers_as_read_does(store: EventStore, asked: dict[str, Any]) -> None:
    """Rows, columns, order and types."""
    frame = store.scan(**asked).collect()
    batches = list(store.read(**asked))
    assert frame.columns[0] == "position"
    assert frame.schema["position"] == pl.Int64
    if batches:
        assert frame.equals(pl.DataFrame(pa.Table.from_batches(batches)))
        assert frame.schema == pl.DataFrame(pa.Table.from_batches(batches)).schema
    else:
        assert frame.height == 0
        assert frame.schema["kind"] == pl.String


def test_polars_may_ask_for_less(store: EventStore) -> None:
    """Filters, columns and limits that are pushed down change nothing."""
    lazy = store.scan()
    for tail in (False, True):
        lazy = store.scan(tail=tail)
        assert lazy.select("position").head(2).collect()["position"].to_list() == [0, 1]
        beats_only = lazy.filter(pl.col("kind") == "execution.heartbeat")
        assert beats_only.select(pl.len()).collect().item() == 5 + tail
        assert beats_only.head(3).select("execution_id").collect().to_series().to_list() == ["a", "b", "d"]
        assert lazy.filter(pl.col("position") > 4).select("position").collect().height == 2
        assert lazy.select(pl.col("position").max()).collect().item() == 6


def test_a_scan_keeps_the_log_that_it_was_made_of(store: EventStore) -> None:
    """What is sealed before it is collected is not in it, as often as it is collected."""
    lazy = store.scan()
    store.seal()
    assert lazy.collect().height == 7
    assert lazy.collect().height == 7
    assert store.scan().collect().height == 8


def test_an_empty_log_is_an_empty_table(tmp_path: Path) -> None:
    """With all columns and their types."""
    with open_store(tmp_path / "store") as store:
        frame = store.scan().collect()
        assert frame.height == 0
        assert frame.columns[:3] == ["position", "kind", "version"]
        assert store.scan(columns=["actor"]).collect().columns == ["position", "actor"]


def test_an_unknown_column_is_refused_at_once(store: EventStore) -> None:
    """Not only when it is collected."""
    with pytest.raises(InvalidEventError) as caught:
        store.scan(columns=["colour"])
    assert caught.value.code == "unknown_column"


def test_an_end_and_the_tail_are_refused_together(store: EventStore) -> None:
    """As in `read`: events of the tail have no position that could be before the end."""
    with pytest.raises(InvalidEventError) as caught:
        store.scan(until=3, tail=True)
    assert caught.value.code == "bad_range"


def test_a_segment_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    """Too many open files, or no permission, say nothing of its content."""
    with open_store(tmp_path / "store") as store:
        store.append(*beats("a"))
    path = tmp_path / "store" / store._sequence.refresh().segments[0].path
    path.unlink()
    path.mkdir()
    with open_store(tmp_path / "store", read_only=True) as reader:
        for call in (reader.scan, lambda: list(reader.read())):
            with pytest.raises(StorageError):
                call()


def test_a_missing_or_damaged_segment_is_our_error(tmp_path: Path) -> None:
    """Before polars reads anything; unless the check is declined."""
    with open_store(tmp_path / "store") as store:
        store.append(*beats("a"))
    path = tmp_path / "store" / store._sequence.refresh().segments[0].path
    flip(path, 50)
    with open_store(tmp_path / "store", read_only=True) as reader:
        with pytest.raises(IntegrityError) as damaged:
            reader.scan()
        assert damaged.value.code == "segment_damaged"
        assert reader.scan(check=False) is not None
        path.unlink()
        with pytest.raises(NotFoundError) as missing:
            reader.scan()
        assert missing.value.code == "segment_missing"
