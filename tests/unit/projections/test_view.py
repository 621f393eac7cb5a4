"""Reading a table of several runs: it is the table, as a lazy frame, in batches and by key, and it prunes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from store_kit import memory_url, open_store
from tables_kit import ALL, assert_tables, at, expected, h, jobs, shrink

from eventstore import (
    Argument,
    CallNodeRecorded,
    EventStore,
    ExecutionStarted,
    HandleAdvanced,
    HandleRolledBack,
    JobEnded,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from projections import open_tables, rebuild, refresh
from projections.view import View


def call(name: str, *children: str, second: int) -> CallNodeRecorded:
    """Return the record of a call with children and an argument."""
    return CallNodeRecorded(
        call_hash=h(name),
        task_hash=h("task"),
        task_name=name,
        args_hash=h("args"),
        value_hash=h("v"),
        children=tuple(map(h, children)),
        arguments=(Argument(position=0, value_hash=h("v"), upstreams=tuple(map(h, children))),),
        occurred_at=at(second),
    )


def ended(number: int, status: str = "DONE", parent: str | None = "root") -> JobEnded:
    """Return the end of a job."""
    job = {"job_id": f"job{number:06}", "execution_id": "run", "task_hash": h("task"), "parent_id": parent}
    return JobEnded(status=status, cached=status == "CACHED", occurred_at=at(number), **job)


def old() -> list[Any]:
    """Events that the first run holds."""
    return [
        ExecutionStarted(execution_id="run", occurred_at=at(0)),
        *jobs(0, 12),
        ended(2, parent=None),
        call("one", "x", second=1),
        call("two", "x", "y", second=2),
        TaskRecorded(task_hash=h("task"), task_name="weigh"),
        ValueRecorded(value_hash=h("v"), type_name="int", size_bytes=1, data=b"1", subvalues=(h("w"),)),
        TagsRecorded(entity_type="Job", entity_id="a", tags=(Tag(tag_hash=h("t"), key="k", value="1"),)),
        HandleAdvanced(handle_hash=h("b"), handle_name="db", parents=(h("a"),)),
    ]


def new() -> list[Any]:
    """Events of newer runs: they change rows of the first, repeat what was stated, and add."""
    return [
        ended(1, "FAILED"),
        call("one", "z", "x", second=3),
        call("three", "x", second=3),
        TagsDeleted(tag_hash=h("d"), superseded=(h("t"),)),
        HandleRolledBack(handle_hash=h("a"), handle_name="db"),
        ended(3, "CACHED"),
        *jobs(5, 6, "another"),
        ended(1),
        ended(0, "FAILED", parent=None),
        ValueRecorded(value_hash=h("v"), type_name="int", size_bytes=1, data=b"1", subvalues=(h("u"),)),
        TagsRecorded(
            entity_type="Job",
            entity_id="a",
            tags=(Tag(tag_hash=h("e"), key="k", value="2"),),
            superseded=(h("d"),),
        ),
        *jobs(12, 13),
    ]


def fill(store: EventStore) -> None:
    """Give the tables of an empty store a first run and several newer ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("projections.builder._TIER", 0)
        store.append(*old())
        store.seal()
        rebuild(store, registry=ALL)
        for start in range(0, len(new()), 4):
            store.append(*new()[start : start + 4])
            store.seal()
            refresh(store, registry=ALL)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that is filled once, to be copied."""
    folder = tmp_path_factory.mktemp("filled") / "store"
    with open_store(folder) as store:
        fill(store)
    return folder


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Iterator[EventStore]:
    """A store whose tables have a first run and several newer ones."""
    shutil.copytree(filled, tmp_path / "store [1]")
    with open_store(tmp_path / "store [1]") as store:
        yield store


def views(store: EventStore) -> dict[str, View]:
    """Return what is behind all tables as they were built last."""
    return dict(open_tables(store, registry=ALL).views)


def test_a_table_of_runs_is_the_table(store: EventStore) -> None:
    """For every recipe: first run, newer runs and what was folded for the reader come to one fold's rows."""
    assert max(len(view.parts) for view in views(store).values()) == 4
    assert_tables(store, open_tables(store, registry=ALL))
    store.append(*jobs(13, 15), ended(13), call("two", "z", second=9))
    store.seal()
    assert_tables(store, open_tables(store, fresh="sealed", registry=ALL))


def test_so_it_is_where_files_have_no_paths() -> None:
    """In memory, as on remote storage, files are read through the storage."""
    with open_store(memory_url()) as store:
        fill(store)
        assert_tables(store, open_tables(store, registry=ALL))
        assert_tables(store, open_tables(store, registry=ALL, at=25))


def test_it_is_the_same_by_the_streaming_engine(store: EventStore) -> None:
    """A lazy frame may be collected by any engine: rows that are kept as first or last stay those."""
    for name, view in views(store).items():
        recipe = ALL.get(name)
        found = view.frame().collect(engine="streaming").sort(recipe.key)
        assert found.equals(expected(store, recipe)), name


def test_batches_are_the_table_in_order_of_the_key(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch by batch the table comes sorted, whole, and with the digest that a rebuild gives it."""
    shrink(monkeypatch)
    found = {}
    for name, view in views(store).items():
        table = pl.concat([view.recipe.schema.to_frame(), *view.batches()])
        assert table.equals(expected(store, ALL.get(name))), name
        found[name] = view.content()
    made = rebuild(store, registry=ALL)
    assert found == {name: (one.rows, one.digest) for name, one in made.items()}


def test_rows_by_their_first_key_columns(store: EventStore) -> None:
    """Chosen rows are those of the table, for one key, several, and keys that are not there."""
    for name, view in views(store).items():
        recipe = ALL.get(name)
        table = expected(store, recipe)
        for by in {recipe.key, recipe.key[:1]}:
            every = table.select(by).unique()
            for keys in (every, every.head(1), every.tail(2), every.clear()):
                found = view.select(keys).sort(recipe.key)
                assert found.equals(table.join(keys, on=list(by), how="semi")), name


def test_a_row_that_was_dropped_is_not_found_by_its_key(store: EventStore) -> None:
    """What a later record of a stated thing says is dropped whole, also when just that is asked for."""
    view = views(store)["call_edges"]
    keys = pl.DataFrame({"call_hash": [h("one"), h("one")], "index": [0, 1]})
    assert view.select(keys)["index"].to_list() == [0]


def test_nothing_has_no_rows(tmp_path: Path) -> None:
    """A table of a store in which nothing happened has no rows, however it is asked."""
    with open_store(tmp_path / "store") as store:
        tables = open_tables(store, fresh="sealed", registry=ALL)
        for name in tables:
            recipe = ALL.get(name)
            assert tables[name].collect().equals(recipe.schema.to_frame())
            assert [row for batch in tables.views[name].batches() for row in batch.rows()] == []
            keys = pl.DataFrame(schema={recipe.key[0]: recipe.schema[recipe.key[0]]})
            assert tables.views[name].select(keys).height == 0


def test_a_file_is_not_looked_at_before_its_table_is(store: EventStore) -> None:
    """A lazy frame that is filtered, selected and joined gives what the whole table would."""
    tables = open_tables(store, registry=ALL)
    found = (
        tables["jobs"]
        .filter(pl.col("status") != "RUNNING")
        .join(tables["executions"], on="execution_id")
        .select("job_id", "status", pl.col("status_right").alias("run"))
        .sort("job_id")
        .collect()
    )
    statuses = ["FAILED", "DONE", "DONE", "CACHED"]
    assert found.rows() == [(f"job{number:06}", one, "FAILED") for number, one in enumerate(statuses)]


# pruning -------------------------------------------------------------------------------------------------


def garble(path: Path, start: int, end: int) -> None:
    """Overwrite bytes of a file that was checked, so that it looks as if it had not changed since."""
    about = path.stat()
    raw = bytearray(path.read_bytes())
    raw[start:end] = os.urandom(end - start)
    path.write_bytes(raw)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize("newer", [False, True])
def test_a_predicate_on_the_key_reads_the_row_groups_that_may_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: bool
) -> None:
    """Row groups whose statistics rule the key out are not read: their bytes may be anything."""
    monkeypatch.setattr("projections.run.CHUNK_ROWS", 100)
    with open_store(tmp_path / "store") as store:
        store.append(*jobs(0, 1000))
        store.seal()
        rebuild(store, ["jobs", "tasks"])
        if newer:
            store.append(*jobs(1000, 1010), ended(950))
            store.seal()
            refresh(store, ["jobs"])
        tables = open_tables(store, ["jobs"])
        whole = tables["jobs"].collect()
        assert whole.height == 1000 + 10 * newer
        [_, run], *_ = tables.views["jobs"].parts
        for file in run.files:
            path = store.storage.local_path(f"projections/jobs/v1/runs/{run.name}/{file.name}")
            assert path is not None
            # Of ten groups of rows, sorted by key, the first three are garbled.
            garble(path, 4, path.stat().st_size // 4)
        with pytest.raises(Exception, match=r"."):
            tables["jobs"].collect()
        for number in (700, 950):
            found = tables["jobs"].filter(job_id=f"job{number:06}").collect()
            assert found.equals(whole.filter(job_id=f"job{number:06}"))
            assert found.height == 1
        ranges = tables["jobs"].filter(pl.col("job_id").is_between(pl.lit("job000600"), pl.lit("job000620")))
        assert ranges.collect().height == 21
