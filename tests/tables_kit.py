"""What tests of tables share: any events, recipes of users, and what a table of them should be."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from store_kit import memory_url, open_store

from eventstore import (
    Argument,
    CallContextRecorded,
    CallNodeRecorded,
    EvaluationCached,
    EventStore,
    ExecutionHeartbeat,
    ExecutionStarted,
    HandleAdvanced,
    HandleForked,
    HandleRecorded,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.codec.rows import Row, fields_of, table_of
from eventstore.events import Event, Registry, default_registry
from eventstore.events.registry import AUDIT_FIELDS
from eventstore.filesystem import open_storage
from eventstore.testing import FaultPlan, FaultyStorage
from projections import (
    BUILT_IN_TABLES,
    Column,
    GeneralProjection,
    KeyedProjection,
    Projection,
    ProjectionRegistry,
    Snapshot,
    Tables,
    moment,
    text,
    whole,
)
from projections.fold import fold_events

_WRITER = "0" * 26


def h(name: str) -> str:
    """Return a hash of 40 hex characters that stands for `name`."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def at(second: int) -> dt.datetime:
    """Return a moment, counted in seconds from one that all tests share."""
    return dt.datetime(2026, 1, 31, 12, 0, tzinfo=dt.UTC) + dt.timedelta(seconds=second)


def frame_of(events: Iterable[Event], *, first: int = 0, registry: Registry | None = None) -> pl.DataFrame:
    """Return events as the log would give them, at positions from `first` on."""
    rows = []
    for number, event in enumerate(events):
        kind = (registry or default_registry).of(event)
        columns = (*kind.columns, *AUDIT_FIELDS)
        rows.append(Row(kind.kind, kind.version, columns, fields_of(kind, event), number, number))
    table = table_of(rows, writer=_WRITER, actor="ada", software="test 1")
    frame = pl.DataFrame(table)
    return frame.insert_column(0, pl.Series("position", range(first, first + len(rows)), pl.Int64))


def erased(frame: pl.DataFrame, position: int) -> pl.DataFrame:
    """Return events with the body of one of them erased: its kind and position stay."""
    kept = ("position", "kind", "version", "writer", "sequence", "recorded_at", "event_hash")
    return frame.with_columns(
        pl.when(pl.col("position") != position).then(pl.col(name)).alias(name)
        for name in frame.columns
        if name not in kept
    )


def table_from(projection: Projection, frame: pl.DataFrame, cuts: Sequence[int] = ()) -> pl.DataFrame:
    """Fold a frame of events that is cut before each of `cuts`, with the state saved at each cut."""
    state = None
    bounds = [0, *sorted(cuts), frame.height]
    for start, end in pairwise(bounds):
        state = projection.fold(state, frame.slice(start, end - start))
    assert state is not None
    return projection.table(state)


def rows_of(projection: Projection, *events: Event) -> list[dict[str, Any]]:
    """Return the table of these events, a mapping for each row, sorted by the key."""
    return table_from(projection, frame_of(events)).to_dicts()


# any events ----------------------------------------------------------------------------------------------

# Few names, so that events meet: first records, repeats, ends without starts, edits of edits.
_hash = st.sampled_from([h(str(n)) for n in range(5)])
_hashes = st.lists(_hash, max_size=3).map(tuple)
_some_hash = st.none() | _hash
_id = st.sampled_from(["x", "y", "z"])
_time = st.integers(0, 50).map(at)
_name = st.sampled_from(["db", "fs"])
_word = st.sampled_from(["", "one", "two"])
_json = st.sampled_from(['"a"', "1", "null"])
_list = st.sampled_from(["[]", '["a"]'])
_one_hash = _hash.map(lambda one: (one,))


def _event(model: Any, **fields: Any) -> st.SearchStrategy[Any]:
    return st.builds(model, occurred_at=_time, **fields)


_arguments = st.lists(
    st.builds(Argument, position=st.integers(0, 3), value_hash=_hash, upstreams=_hashes)
    | st.builds(Argument, key=_word, value_hash=_hash, upstreams=_hashes),
    max_size=3,
).map(tuple)
_tags = st.lists(
    st.builds(Tag, tag_hash=_hash, key=st.sampled_from("ab"), value=_json), min_size=1, max_size=2
).map(tuple)
_job = {"job_id": _id, "execution_id": _id, "parent_id": st.none() | _id, "task_hash": _hash}


def _end(status: str, **fields: Any) -> JobEnded:
    return JobEnded(status=status, cached=status == "CACHED", **fields)


tag_events = _event(
    TagsRecorded,
    entity_type=st.sampled_from(["Job", "Task"]),
    entity_id=_id,
    tags=_tags,
    superseded=_hashes,
    reason=st.none() | _word,
) | _event(TagsDeleted, tag_hash=_hash, superseded=_hashes)

handle_events = (
    _event(HandleRecorded, handle_hash=_hash, handle_name=_name, handle_key=_word, value_hash=_hash)
    | _event(HandleAdvanced, handle_hash=_hash, handle_name=_name, parents=_hashes)
    | _event(
        HandleForked,
        handle_hash=_hash,
        handle_name=_name,
        handle_key=_word,
        parents=_one_hash,
    )
    | _event(HandleRolledBack, handle_hash=_hash, handle_name=_name)
)

any_events = st.one_of(
    _event(ExecutionStarted, execution_id=_id, job_id=st.none() | _id, args=_list),
    _event(ExecutionHeartbeat, execution_id=_id),
    _event(JobStarted, **_job),
    _event(_end, status=st.sampled_from(["DONE", "CACHED", "FAILED"]), call_hash=_some_hash, **_job),
    _event(TaskRecorded, task_hash=_hash, task_name=_word, task_namespace=_word, source=st.none() | _word),
    _event(
        CallNodeRecorded,
        call_hash=_hash,
        task_hash=_hash,
        task_name=_word,
        args_hash=_hash,
        value_hash=_hash,
        children=_hashes,
        arguments=_arguments,
        subtree_tasks=_hashes,
    ),
    _event(CallContextRecorded, call_hash=_hash, context_hash=_hash, value_hash=_some_hash),
    _event(
        ValueRecorded,
        value_hash=_hash,
        type_name=_word,
        size_bytes=st.just(1),
        data=st.just(b"x"),
        subvalues=_hashes,
        file_path=st.none() | _word,
    ),
    _event(EvaluationCached, eval_hash=_hash, task_hash=_hash, args_hash=_hash, value_hash=_hash),
    tag_events,
    handle_events,
)
histories = st.lists(any_events, min_size=1, max_size=25)


# recipes of users ----------------------------------------------------------------------------------------


def _user(name: str, kinds: tuple[str, ...], inputs: tuple[str, ...], **more: Any) -> KeyedProjection:
    return KeyedProjection(name=name, version=1, doc="A user's.", kinds=kinds, inputs=inputs, **more)


def _kinds_step(state: pl.DataFrame | None, events: pl.DataFrame) -> pl.DataFrame:
    new = events.group_by("kind").agg(pl.col("position").min(), n=pl.len().cast(pl.Int64))
    both = new if state is None else pl.concat([state.select(new.columns), new])
    return both.group_by("kind").agg(pl.col("position").min(), pl.col("n").sum())


def _newest_step(state: pl.DataFrame | None, events: pl.DataFrame) -> pl.DataFrame:
    newest = events.tail(1).select("position", job="job_id", when="occurred_at", seen=pl.lit(0, pl.Int64))
    seen = events.height + (0 if state is None else state["seen"][0])
    return newest.with_columns(seen=pl.lit(seen, pl.Int64))


USERS: tuple[Projection, ...] = (
    _user(
        "pairs",
        ("job.started", "job.ended"),
        ("execution_id", "parent_id", "occurred_at", "job_id", "status"),
        # `parent_id` may be null: such rows are dropped.
        key=("execution_id", "parent_id"),
        columns={
            "execution_id": text("an execution"),
            "parent_id": text("a calling job"),
            "first_at": moment("earliest", "min"),
            "last_at": moment("latest", "max"),
            "first_job": text("first job"),
            "last_job": text("last job", "last"),
            "status": text("last status", "last_non_null"),
            "ended": Column(pl.Boolean, "whether one ended", "any"),
        },
        rows=lambda events: events.select(
            "execution_id",
            "position",
            "parent_id",
            "status",
            first_at="occurred_at",
            last_at="occurred_at",
            first_job="job_id",
            last_job="job_id",
            ended=pl.col("kind") == "job.ended",
        ),
    ),
    _user(
        "moments",
        ("job.ended",),
        ("cached", "occurred_at", "job_id"),
        key=("cached", "occurred_at"),
        columns={
            "cached": Column(pl.Boolean, "cached"),
            "occurred_at": moment("when"),
            "job_id": text("job"),
        },
        rows=lambda events: events.drop("kind"),
    ),
    _user(
        "busy",
        ("job.started",),
        ("execution_id", "job_id", "task_hash"),
        key=("execution_id",),
        columns={
            "execution_id": text("an execution"),
            "position": whole("its first job"),
            "jobs": whole("how many jobs it has"),
            "tasks": Column(pl.List(pl.String), "tasks of its jobs"),
        },
        state={
            "execution_id": text("an execution"),
            "job_id": text("a job"),
            "position": whole("first event"),
            "task_hash": text("task", "last"),
        },
        state_key=("execution_id", "job_id"),
        finish=lambda state: state.group_by("execution_id").agg(
            pl.col("position").min(),
            jobs=pl.len().cast(pl.Int64),
            tasks=pl.col("task_hash").unique().sort(),
        ),
        rows=lambda events: events.drop("kind"),
    ),
    _user(
        "places",
        ("call_node.recorded",),
        ("call_hash", "children", "task_name"),
        key=("task_name", "index"),
        columns={
            "task_name": text("stated once"),
            "index": Column(pl.UInt8, "a number"),
            "position": whole("first event"),
            "child": text("a child call"),
        },
        first_event_of=("task_name",),
        rows=lambda events: (
            events.filter(pl.col("children").list.len() > 0)
            .select(
                "task_name",
                "position",
                index=pl.int_ranges(0, pl.col("children").list.len(), dtype=pl.UInt8),
                child="children",
            )
            .explode("index", "child")
        ),
    ),
    GeneralProjection(
        name="kinds",
        version=1,
        doc="One kind.",
        kinds=("job.started", "job.ended", "tags.recorded"),
        inputs=(),
        key=("kind",),
        columns={"kind": text("kind"), "position": whole("first event"), "n": whole("how many")},
        step=_kinds_step,
    ),
    GeneralProjection(
        name="newest",
        version=1,
        doc="The newest end of a job.",
        kinds=("job.ended",),
        inputs=("job_id", "occurred_at"),
        key=("job",),
        columns={"job": text("job"), "position": whole("its end"), "when": moment("when")},
        state={
            "position": whole("newest end"),
            "job": text("job"),
            "when": moment("when"),
            "seen": whole("ends so far"),
        },
        finish=lambda state: state.drop("seen"),
        step=_newest_step,
    ),
)
"""Recipes that use what the built-in ones do not: null keys, keys of several types, general steps."""

ALL = ProjectionRegistry([*BUILT_IN_TABLES, *USERS])
"""Every recipe that tests of the engine run through it."""


# what tables should be -----------------------------------------------------------------------------------


def expected(store: EventStore, recipe: Projection, until: int | None = None) -> pl.DataFrame:
    """Return a table by one fold over the sealed log up to a position, without the engine."""
    return table_from(recipe, store.scan(until=until).collect())


def assert_tables(store: EventStore, tables: Tables, until: int | None = None) -> None:
    """Each table that was opened is, row for row, what one fold makes of the events before its position."""
    events = store.scan(until=until).collect()
    for name, position in tables.positions.items():
        assert until is None or position == until
        recipe = tables.views[name].recipe
        found = tables[name].collect().sort(recipe.key)
        assert_frame_equal(found, table_from(recipe, events.head(position)), check_exact=True)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything small that is large by default, so that a small history takes every path."""
    for name, small in (
        ("deltas.CHUNK_ROWS", 1),
        ("deltas._MERGE_ROWS", 3),
        ("deltas.SPILL_ROWS", 2),
        ("scratch.SPILL_ROWS", 2),
        ("run.CHUNK_ROWS", 2),
        ("run._FILE_ROWS", 3),
        ("run._MOST_ROWS", 8),
        ("run._SLICE_POSITIONS", 5),
        ("view.CHUNK_ROWS", 2),
        ("asof._MEMORY_ROWS", 0),
    ):
        monkeypatch.setattr(f"projections.{name}", small)
    monkeypatch.setitem(fold_events.__kwdefaults__, "batch_rows", 4)


class Noted:
    """A store that writes down what is done to its storage, and fails when its plan says so.

    In memory all reading goes through the storage, so `plan.trace` has everything.
    """

    def __init__(self, state: Path, url: str | None = None) -> None:
        self.plan = FaultPlan()
        self.url = url or memory_url()
        self.state = state
        self.store = self.open()

    def open(self, *, faulty: bool = True) -> EventStore:
        """Open the store, whose faults are those of `plan`, or without any."""
        inside = open_storage(self.url)
        storage = FaultyStorage(inside, self.plan) if faulty else inside
        return open_store(self.url, storage=storage, state_dir=self.state)

    def noted(self, *operations: str, under: str = "projections") -> list[str]:
        """Return the paths below a folder on which one of the operations was done since `forget`."""
        found = (line.partition(" ") for line in self.plan.trace)
        return [path for name, _, path in found if name in operations and path.startswith(under)]

    def forget(self) -> None:
        """Begin to write down anew."""
        self.plan.trace.clear()


def jobs(first: int, end: int, execution: str = "run") -> Iterator[JobStarted]:
    """Yield starts of jobs with these numbers."""
    for number in range(first, end):
        job = {"job_id": f"job{number:06}", "execution_id": execution, "task_hash": h("task")}
        yield JobStarted(parent_id="root", occurred_at=at(number), **job)


def ended(number: int) -> JobEnded:
    """Return the end of a job."""
    return JobEnded(
        job_id=f"job{number:06}",
        execution_id="run",
        status="DONE",
        task_hash=h("task"),
        occurred_at=at(number),
    )


def add(store: EventStore, *events: Any) -> None:
    """Append and seal."""
    store.append(*events)
    store.seal()


def file_of(store: EventStore, snapshot: Snapshot, number: int) -> Path:
    """Return a file of a run, by the run's number."""
    path = next(snapshot.files(snapshot.manifest.runs[number]))[0]
    found = store.storage.local_path(path)
    assert found is not None
    return found
