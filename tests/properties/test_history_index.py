"""The index says the same of any history, wherever its records are: in memory, in runs, or partly in each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from columns_kit import batch_of, by_columns, one_by_one
from hypothesis import given, settings
from hypothesis import strategies as st
from store_kit import memory_url, open_store
from tables_kit import erased, frame_of, h, handle_events, histories, tag_events

from eventstore import EventStore, JobStarted, TagsDeleted
from eventstore.index import HistoryIndex
from eventstore.index.builder import build_runs

HASHES = [h(str(number)) for number in range(5)]
IDS = ["x", "y", "z"]
WORDS = ["", "one", "two"]


def sensible(events: list[Any]) -> list[Any]:
    """The same with hashes of their own for delete tags: a hash never stands for a tag and a deletion."""
    return [
        event.model_copy(update={"tag_hash": h(f"deletion {event.tag_hash}")})
        if isinstance(event, TagsDeleted)
        else event
        for event in events
    ]


def answers(index: HistoryIndex) -> dict[str, Any]:
    """All that can be asked of the few names that histories have."""
    found: dict[str, Any] = {}
    for name in HASHES:
        for ask in (
            index.evaluation,
            index.value,
            index.value_facts,
            index.task,
            index.call,
            index.newest_call_of_task,
            index.tag,
            index.is_superseded,
            index.superseded_by,
            index.handle,
        ):
            found[f"{ask.__name__} {name}"] = ask(name)
        for other in HASHES:
            found[f"calls_of {name} {other}"] = index.calls_of(name, other)
        for word in WORDS:
            found[f"newest {name} {word}"] = index.newest_call_with_args(word, name)
        for each in IDS:
            jobs = found[f"ended {each} {name}"] = index.jobs_that_ended_with(each, name)
            one = index.job_that_ended_with(each, name)
            assert one in jobs if jobs else one is None
    for each in IDS:
        for question in (index.job, index.child_jobs, index.execution, index.tags_of, index.current_tags):
            found[f"{question.__name__} {each}"] = question(each)
    return plain(found)


def plain(value: Any) -> Any:
    """The same with lists for tuples, as JSON gives them back."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def expected(events: list[Any]) -> dict[str, Any]:
    """What an index says that has all of the history in memory."""
    with open_store(memory_url(), auto_seal=False) as store:
        store.append(*events)
        return answers(store.lookup)


def same(index: HistoryIndex, wanted: dict[str, Any]) -> None:
    """Assert that the index answers so, showing only what differs."""
    found = answers(index)
    assert {key: (found[key], wanted[key]) for key in wanted if found[key] != wanted[key]} == {}


def _index_all(store: EventStore) -> None:
    runs = store.lookup._log.runs
    assert runs is not None
    build_runs(store._reader, store._sequence, runs)


STEPS: dict[str, Callable[[EventStore], object]] = {
    "flush": lambda store: store.flush(),
    "seal": lambda store: store.seal(),
    "index": _index_all,
    "ask": lambda store: store.lookup.evaluation(h("0")),
    "compact": lambda store: store.compact(),
}


@given(
    pieces=st.lists(st.tuples(histories, st.lists(st.sampled_from(sorted(STEPS)), max_size=3)), max_size=5),
    asks_first=st.booleans(),
)
@settings(max_examples=20)
def test_answers_do_not_depend_on_where_records_are(
    pieces: list[tuple[list[Any], list[str]]], asks_first: bool
) -> None:
    """The writer, another process and a later one say what a history that was never sealed says."""
    pieces = [(sensible(history), steps) for history, steps in pieces]
    events = [event for history, _ in pieces for event in history]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "store"
        with open_store(place, auto_seal=False) as store, open_store(place, auto_seal=False) as other:
            other.lookup._log.fresh_seconds = other.lookup._log.look_seconds = 0.0
            store.lookup._log.fresh_seconds = 0.0
            if asks_first:
                answers(store.lookup)
                answers(other.lookup)
            for history, steps in pieces:
                store.append(*history)
                for step in steps:
                    if step == "index" and store.lookup._log.runs is None:
                        store.lookup.evaluation(h("0"))
                    STEPS[step](store)
            if events:
                wanted = expected(events)
                same(store.lookup, wanted)
                same(other.lookup, wanted)
        if events:
            with open_store(place) as later:
                same(later.lookup, wanted)
                later.seal()
                _index_all(later)
                same(later.lookup, wanted)


@given(history=histories, cuts=st.sets(st.integers(1, 24)), without=st.sets(st.integers(0, 24), max_size=3))
@settings(max_examples=60)
def test_columns_make_the_records_that_the_builders_make(
    history: list[Any], cuts: set[int], without: set[int]
) -> None:
    """Of any events, of which some were erased, in batches of any size, each alone or several at once."""
    frame = frame_of(history)
    for position in without:
        frame = erased(frame, position)
    bounds = sorted({0, frame.height} | {cut for cut in cuts if cut < frame.height})
    batches = [batch_of(frame.slice(start, end - start)) for start, end in pairwise(bounds)]
    wanted = one_by_one(*batches)
    assert by_columns(*batches) == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventstore.index.log_events._ROWS", 1)
        assert by_columns(*batches) == wanted


@pytest.mark.parametrize("kinds", [handle_events, tag_events], ids=["handles", "tags"])
@given(data=st.data())
@settings(max_examples=15)
def test_what_depends_on_order_does_so_across_runs(kinds: Any, data: st.DataObject) -> None:
    """One run for each few events, and a merge, say the same as one pass."""
    events = sensible(data.draw(st.lists(kinds, min_size=2, max_size=20)))
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(Path(folder) / "store", auto_seal=False) as store,
    ):
        store.lookup.evaluation(h("0"))
        for start in range(0, len(events), 3):
            store.append(*events[start : start + 3])
            store.seal()
            _index_all(store)
        store.lookup._log.fresh_seconds = 0.0
        same(store.lookup, expected(events))


def test_a_new_process_reads_only_what_is_behind_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history below is not read again, however long it is."""
    events = [job(number) for number in range(30)]
    with open_store(tmp_path / "store") as store:
        store.append(*events)
        store.seal()
        store.lookup.evaluation(h("0"))
        _index_all(store)
    with open_store(tmp_path / "store") as later:
        read: list[Any] = []
        real = later._reader.read
        monkeypatch.setattr(later._reader, "read", lambda **asked: read.append(asked) or real(**asked))
        assert later.lookup.job("job-7") is not None
        assert not read


def job(number: int) -> JobStarted:
    """A job that started."""
    return JobStarted(job_id=f"job-{number}", execution_id="x", task_hash=h("0"))


def test_runs_of_another_chain_are_not_believed(tmp_path: Path) -> None:
    """A store that was restored from a copy and went on otherwise gets an index of its own history."""
    place = tmp_path / "store"
    with open_store(place) as store:
        store.append(job(1))
        store.seal()
    shutil.copytree(place, tmp_path / "copy")
    with open_store(place) as store:
        store.append(job(2))
        store.seal()
        assert store.lookup.job("job-2") is not None
        _index_all(store)
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "copy", place)
    with open_store(place) as store:
        assert store.lookup.job("job-2") is None
        store.append(job(3))
        store.seal()
        store.lookup._log.fresh_seconds = 0.0
        assert store.lookup.job("job-2") is None
        assert store.lookup.job("job-1") is not None
        assert store.lookup.job("job-3") is not None


def test_a_damaged_run_is_made_again(tmp_path: Path) -> None:
    """Whatever byte it is, the answer is that of the log."""
    with open_store(tmp_path / "store") as store:
        store.append(*(job(number) for number in range(200)))
        store.seal()
        store.lookup.evaluation(h("0"))
        _index_all(store)
        runs = store.lookup._log.runs
        assert runs is not None
        folder = runs.folder
    path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda one: one.stat().st_size)
    raw = bytearray(path.read_bytes())
    for place in range(0, len(raw), 97):
        raw[place] ^= 0x55
    path.write_bytes(raw)
    with open_store(tmp_path / "store") as store:
        for number in range(200):
            found = store.lookup.job(f"job-{number}")
            assert found is not None
            assert found.job_id == f"job-{number}"
        assert store.lookup.job("job-200") is None
