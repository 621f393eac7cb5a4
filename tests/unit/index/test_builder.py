"""Making runs of the log: ranges, turns and merges, and beginning again where the runs were lost."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_kit import open_store
from tables_kit import h, jobs

from eventstore import EventStore, HandleAdvanced, HandleRecorded, HandleRolledBack, ValueRecorded
from eventstore.errors import ConflictError, StorageError
from eventstore.index import builder
from eventstore.index.builder import build_runs
from eventstore.index.families import KEEP
from eventstore.index.runs import IndexDamagedError, IndexRuns


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """A store with 30 jobs, sealed five at a time, and nothing indexed."""
    with open_store(tmp_path / "store", auto_seal=False) as opened:
        for first in range(0, 30, 5):
            opened.append(*jobs(first, first + 5))
            opened.seal()
        yield opened


@pytest.fixture
def runs(store: EventStore, tmp_path: Path) -> Iterator[IndexRuns]:
    """Runs of it, apart from those that it has itself."""
    with another(tmp_path) as opened:
        yield opened


@contextlib.contextmanager
def another(tmp_path: Path) -> Iterator[IndexRuns]:
    """The same, as another process opens them."""
    opened = IndexRuns(tmp_path / "runs", keep={int(family): keep for family, keep in KEEP.items()})
    try:
        yield opened
    finally:
        opened.close()


def build(store: EventStore, runs: IndexRuns, **more: Any) -> None:
    """Bring the runs up to date."""
    build_runs(store._reader, store._sequence, runs, **more)


def fails(times: int, error: Exception, then: Callable[..., Any]) -> Callable[..., Any]:
    """Return what raises so many times, and then does what it should."""
    left = iter(range(times))

    def call(*args: Any, **more: Any) -> Any:
        if next(left, None) is not None:
            raise error
        return then(*args, **more)

    return call


def test_a_run_is_made_of_each_range(
    store: EventStore, runs: IndexRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They follow one another, and none waits for more than it should."""
    monkeypatch.setattr(builder, "_RANGE_EVENTS", 10)
    monkeypatch.setattr(runs, "merge_if_due", lambda: False)
    build(store, runs)
    assert [(run.start, run.until) for run in runs.runs] == [(0, 10), (10, 20), (20, 30)]
    assert (runs.position, list(runs.writers.values())) == (30, [30])


def test_a_run_has_no_more_bytes_than_fit(
    store: EventStore, runs: IndexRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large values make ranges short, whatever the number of events."""
    values = [
        ValueRecorded(
            value_hash=h(str(number)), type_name="bytes", size_bytes=5000, data=bytes([number]) * 5000
        )
        for number in range(4)
    ]
    for value in values:
        store.append(value)
        store.seal()
    monkeypatch.setattr(builder, "_RANGE_BYTES", 9_000)
    monkeypatch.setattr("eventstore.index.log_events._ROWS", 1)
    monkeypatch.setattr(runs, "merge_if_due", lambda: False)
    build(store, runs)
    assert [run.until for run in runs.runs] == [32, 34]


def test_runs_are_merged_once_and_after_the_turn(
    store: EventStore, runs: IndexRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process can add meanwhile, and a first build of many ranges writes each record twice."""
    monkeypatch.setattr(builder, "_RANGE_EVENTS", 5)
    merge, seen = runs.merge_if_due, []

    def noted() -> bool:
        with another(tmp_path) as other, other.turn() as free:
            seen.append((free, len(runs.runs)))
        return merge()

    monkeypatch.setattr(runs, "merge_if_due", noted)
    build(store, runs)
    assert seen == [(True, 6)]
    assert [(run.start, run.until) for run in runs.runs] == [(0, 30)]


def test_a_merge_that_the_disk_refuses_is_left_to_a_later_one(
    store: EventStore, runs: IndexRuns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was added counts all the same."""
    full = StorageError("no room was left", code="disk_full")
    monkeypatch.setattr(runs, "merge_if_due", fails(1, full, runs.merge_if_due))
    with caplog.at_level(logging.WARNING, builder.__name__):
        build(store, runs)
    assert runs.position == 30
    assert [record.getMessage() for record in caplog.records] == [
        f"runs of the history index in {runs.folder} were not merged: no room was left"
    ]


def test_a_disk_that_refuses_a_run_is_told(
    store: EventStore, runs: IndexRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made before stays."""
    monkeypatch.setattr(builder, "_RANGE_EVENTS", 10)
    real = runs.add
    full = StorageError("no room was left", code="disk_full")

    def add(*args: Any, until: int, **more: Any) -> None:
        if until > 10:
            raise full
        real(*args, until=until, **more)

    monkeypatch.setattr(runs, "add", add)
    with pytest.raises(StorageError, match="no room"):
        build(store, runs)
    assert runs.position == 10


@pytest.mark.parametrize("method", ["add", "merge_if_due"])
@pytest.mark.parametrize(
    "error",
    [ConflictError("moved", code="index_moved"), IndexDamagedError("damaged")],
    ids=["moved", "damaged"],
)
def test_a_build_begins_again_twice(
    store: EventStore, runs: IndexRuns, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    """Where runs were set aside or are damaged it looks where they are then; the third time it gives up."""
    monkeypatch.setattr(runs, method, fails(2, error, getattr(runs, method)))
    build(store, runs)
    assert runs.position == 30
    monkeypatch.setattr(runs, method, fails(3, error, getattr(runs, method)))
    store.append(*jobs(30, 35))
    store.seal()
    with pytest.raises(type(error)):
        build(store, runs)


def test_a_conflict_of_another_kind_is_told_at_once(
    store: EventStore, runs: IndexRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To begin again helps only where the runs have moved."""
    monkeypatch.setattr(runs, "add", fails(1, ConflictError("other", code="other"), runs.add))
    with pytest.raises(ConflictError, match="other"):
        build(store, runs)


def test_runs_that_are_set_aside_while_one_is_made_are_made_anew(
    store: EventStore, runs: IndexRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that meets damage says so from its thread; what was read before is not added."""
    build(store, runs)
    store.append(*jobs(30, 35))
    store.seal()
    real, read = store._reader.read, []

    def reading(**asked: Any) -> Any:
        read.append(asked["after"])
        if len(read) == 1:
            asking = threading.Thread(target=runs.reset, args=("a test",))
            asking.start()
            asking.join()
        return real(**asked)

    monkeypatch.setattr(store._reader, "read", reading)
    build(store, runs)
    with another(tmp_path) as other:
        assert (read, runs.position, other.position) == ([29, -1], 35, 35)


def test_handles_go_on_where_the_runs_end(
    store: EventStore, runs: IndexRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback in a later range reaches the states of earlier ones."""
    events = [
        HandleRecorded(handle_hash=h("1"), handle_name="db", handle_key="", value_hash=h("1")),
        HandleAdvanced(handle_hash=h("2"), handle_name="db", parents=(h("1"),)),
        HandleAdvanced(handle_hash=h("3"), handle_name="db", parents=(h("2"),)),
        HandleRolledBack(handle_hash=h("1"), handle_name="db"),
    ]
    for event in events:
        store.append(event)
        store.seal()
    monkeypatch.setattr(builder, "_RANGE_EVENTS", 1)
    build(store, runs)
    state, children = builder._handles_in(runs)
    found = [state(h(name)) for name in "1234"]
    assert [each and each.is_valid for each in found] == [True, False, False, None]
    assert children(h("2")) == [h("3")]


def test_the_runs_lie_beside_the_journals(store: EventStore) -> None:
    """A machine takes turns with itself alone, also where a home folder is shared."""
    store.lookup.evaluation(h("1"))
    found = store.lookup._log.runs
    assert found is not None
    assert store._folder is not None
    assert found.folder == store._folder.path.parent / "index"
