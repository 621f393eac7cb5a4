"""Differences between two executions, recorded by real workflows and made by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kit import memory_url, open_store

from eventstore import (
    EventStore,
    ExecutionStarted,
    InvalidEventError,
    JobEnded,
    JobStarted,
    JobStatus,
    NotFoundError,
    Task,
    task,
)
from projections import EXECUTION_DIFF_TABLES, ExecutionDiff, diff_executions, open_tables
from projections.job_places import place_jobs


@pytest.fixture
def store() -> Iterator[EventStore]:
    """An empty store in memory."""
    with open_store(memory_url()) as opened:
        yield opened


def compared(store: EventStore, first: str, second: str) -> ExecutionDiff:
    """Seal, fold, compare."""
    store.seal()
    with open_tables(store, EXECUTION_DIFF_TABLES, fresh="sealed") as tables:
        return diff_executions(tables, first, second)


def changes(found: ExecutionDiff) -> dict[str, list[str]]:
    """What differs, by path."""
    return dict(found.changed.select("path", "differs").rows())


def paths(frame: pl.DataFrame) -> list[str]:
    """The paths of a frame."""
    return frame["path"].to_list()


# workflows ------------------------------------------------------------------------------------------------


def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


def total(xs: list[int]) -> int:
    """A sum."""
    return sum(xs)


def make_tasks(version: str = "1") -> tuple[Task, Task]:
    """The tasks, the first of them in some version."""
    return task(version=version)(double), task(version="1")(total)


def run(
    store: EventStore, numbers: list[int], *, version: str = "1", cache: bool = False, **options: Any
) -> str:
    """Record one execution that doubles numbers and adds them up."""
    doubled, summed = make_tasks(version)
    with store.execution(cache=cache, **options) as execution:
        summed([doubled(number) for number in numbers])
    return execution.id


def test_the_same_run_twice_differs_in_nothing(store: EventStore) -> None:
    """Every job has its counterpart, though all ids are others."""
    first, second = run(store, [1, 2, 3]), run(store, [1, 2, 3])
    found = compared(store, first, second)
    assert found.same
    assert (found.first["execution_id"], found.second["execution_id"]) == (first, second)
    assert paths(found.pairs) == ["run", "run/double", "run/double[1]", "run/double[2]", "run/total"]
    assert found.counts() == {
        "only_first": 0,
        "only_second": 0,
        "pairs": 5,
        "unchanged": 5,
        "source": 0,
        "arguments": 0,
        "result": 0,
        "status": 0,
        "cached": 0,
    }
    assert set(found.pairs["job_id_first"]).isdisjoint(found.pairs["job_id_second"])


def test_a_changed_argument_is_named_with_what_follows_from_it(store: EventStore) -> None:
    """The call, its result, and the sum differ; the other calls do not."""
    found = compared(store, run(store, [1, 2, 3]), run(store, [1, 5, 3]))
    assert changes(found) == {
        "run/double[1]": ["arguments", "result"],
        "run/total": ["arguments", "result"],
    }
    assert found.arguments.select("path", "argument", "type_name_first").rows() == [
        ("run/double[1]", "0", "builtins.int"),
        ("run/total", "0", "builtins.list"),
    ]
    row = found.arguments.row(0, named=True)
    assert store.lookup.value(row["value_hash_first"]) != store.lookup.value(row["value_hash_second"])
    assert not found.same


def test_a_call_put_in_front_does_not_shift_the_others(store: EventStore) -> None:
    """Calls with equal arguments are matched first; the new one stands alone."""
    found = compared(store, run(store, [1, 2, 3]), run(store, [9, 1, 2, 3]))
    assert changes(found) == {"run/total": ["arguments", "result"]}
    assert (paths(found.only_first), paths(found.only_second)) == ([], ["run/double"])
    assert found.only_second["under_cached"].to_list() == [False]


def test_calls_that_ran_at_once_are_matched_by_their_arguments(store: EventStore) -> None:
    """Whichever began first."""
    found = compared(store, run(store, [1, 2, 3, 4]), run(store, [4, 2, 1, 3]))
    assert changes(found) == {"run/total": ["arguments"]}


def test_a_changed_source_is_shown_once_for_each_task(store: EventStore) -> None:
    """However many calls there are; results that stayed are not told."""
    found = compared(store, run(store, [1, 2]), run(store, [1, 2], version="2"))
    assert changes(found) == {"run/double": ["source"], "run/double[1]": ["source"]}
    (row,) = found.sources.rows(named=True)
    assert row["task_name"] == "double"
    assert (row["task_version_first"], row["task_version_second"]) == ("1", "2")
    assert row["task_hash_first"] != row["task_hash_second"]


def test_use_of_the_cache_is_told(store: EventStore) -> None:
    """Jobs that ran in one execution and were answered in the other differ in status and cache only."""
    found = compared(store, run(store, [1, 2], cache=True), run(store, [1, 2], cache=True))
    assert found.counts()["cached"] == 3
    assert set(map(tuple, changes(found).values())) == {("status", "cached")}


def test_a_job_that_failed_is_told_with_its_status(store: EventStore) -> None:
    """And only in the execution in which it failed."""
    failing = task(version="1")(double)

    def attempt(x: Any) -> str:
        with store.execution() as execution, contextlib.suppress(TypeError):
            failing(x)
        return execution.id

    found = compared(store, attempt(3), attempt(None))
    assert set(changes(found)["run/double"]) >= {"arguments", "result", "status"}
    (row,) = found.changed.filter(path="run/double").rows(named=True)
    assert (row["status_first"], row["status_second"]) == ("DONE", "FAILED")


def test_keyword_arguments_that_are_given_once_only_are_told(store: EventStore) -> None:
    """With null on the side that has none."""

    def shifted(x: int, **more: int) -> int:
        return x + sum(more.values())

    called = task(version="1")(shifted)

    def attempt(**more: int) -> str:
        with store.execution(cache=False) as execution:
            called(1, **more)
        return execution.id

    found = compared(store, attempt(a=1), attempt(a=2, b=3))
    rows = found.arguments.select("argument", pl.col("value_hash_first").is_null()).rows()
    assert rows == [("a", False), ("b", True)]
    assert found.arguments["value_hash_second"].null_count() == 0


def test_threads_change_nothing(store: EventStore) -> None:
    """Two executions that ran at once keep their jobs apart."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda numbers: run(store, numbers), [[1, 2, 3], [1, 2, 3]])
    assert compared(store, first, second).same


# which executions -----------------------------------------------------------------------------------------


def test_executions_are_named_by_the_beginning_of_their_ids(store: EventStore) -> None:
    """If there is one; an id that is the beginning of another is itself."""
    for name in ("ab-1", "ab-12", "cd-1"):
        store.append(ExecutionStarted(execution_id=name))
    found = compared(store, "cd", "ab-1")
    assert (found.first["execution_id"], found.second["execution_id"]) == ("cd-1", "ab-1")
    assert found.counts()["pairs"] == 0
    for asked in ("ab", ""):
        with pytest.raises(InvalidEventError, match="ab-1, ab-12") as ambiguous:
            compared(store, "cd-1", asked)
        assert ambiguous.value.code == "ambiguous_id"
    with pytest.raises(NotFoundError, match="'zz'") as absent:
        compared(store, "zz", "cd-1")
    assert (absent.value.code, absent.value.execution_id) == ("no_such_execution", "zz")


def test_only_rows_of_the_two_executions_are_compared(store: EventStore) -> None:
    """A third one between them changes nothing."""
    first = run(store, [1])
    run(store, [7, 8, 9])
    found = compared(store, first, run(store, [1]))
    assert (found.same, found.pairs.height) == (True, 3)


def test_jobs_without_call_or_task_are_compared_by_what_is_known(store: EventStore) -> None:
    """Running jobs, and tasks that were never recorded: arguments and results are not told."""
    for name, ended in (("one", False), ("two", True)):
        store.append(ExecutionStarted(execution_id=name, job_id=f"{name}-root"))
        job = {"execution_id": name, "task_hash": "a" * 40}
        store.append(JobStarted(job_id=f"{name}-root", **job))
        store.append(JobStarted(job_id=f"{name}-below", parent_id=f"{name}-root", **job))
        if ended:
            store.append(
                JobEnded(job_id=f"{name}-below", parent_id=f"{name}-root", status=JobStatus.DONE, **job)
            )
    found = compared(store, "one", "two")
    assert paths(found.pairs) == ["a" * 40, f"{'a' * 40}/{'a' * 40}"]
    assert changes(found) == {f"{'a' * 40}/{'a' * 40}": ["status"]}


# places in the tree ---------------------------------------------------------------------------------------

Job = tuple[str, str | None, str, str | None, bool]


def jobs_of(*jobs: Job) -> pl.DataFrame:
    """Jobs by id, parent, task, arguments, cached, in order of their first events."""
    schema = {"job_id": pl.String, "parent_id": pl.String, "task_name": pl.String, "args_hash": pl.String}
    frame = pl.DataFrame(list(jobs), schema={**schema, "cached": pl.Boolean}, orient="row")
    others = ("task_hash", "value_hash", "status", "call_hash")
    return frame.with_row_index("position").with_columns(
        pl.lit(None, pl.String).alias(name) for name in others
    )


def places(first: pl.DataFrame, second: pl.DataFrame) -> tuple[list[Any], list[Any], list[Any]]:
    """Pairs of ids, and what is left of each, with paths."""
    pairs, one, two = place_jobs(first, second)
    left = [side.select("path", "job_id", "under_cached").rows() for side in (one, two)]
    return pairs.select("path", "job_id_first", "job_id_second").rows(), *left


def test_roots_are_paired_whatever_they_are_called() -> None:
    """So two runs with other names can be compared."""
    pairs, one, two = places(jobs_of(("a", None, "x", None, False)), jobs_of(("b", None, "y", None, False)))
    assert (pairs, one, two) == ([("x", "a", "b")], [], [])


def test_jobs_below_a_cached_one_are_told_apart() -> None:
    """They are missing on the other side because nothing ran there."""
    first = jobs_of(
        ("r", None, "run", None, False), ("a", "r", "f", "1", False), ("b", "a", "g", "2", False),
        ("c", "b", "h", "3", False), ("d", "r", "k", "4", False),
    )  # fmt: skip
    second = jobs_of(("R", None, "run", None, False), ("A", "R", "f", "1", True))
    pairs, one, two = places(first, second)
    assert pairs == [("run", "r", "R"), ("run/f", "a", "A")]
    assert one == [("run/f/g", "b", True), ("run/f/g/h", "c", True), ("run/k", "d", False)]
    assert two == []


def test_jobs_whose_caller_is_not_there_hang_below_nothing() -> None:
    """And are matched with each other; so are jobs that call each other in a ring."""
    first = jobs_of(("a", "gone", "f", "1", False), ("b", "c", "g", "2", False), ("c", "b", "h", "3", False))
    second = jobs_of(("A", "lost", "f", "1", False), ("B", "C", "g", "2", False), ("C", "B", "h", "3", False))
    pairs, one, two = places(first, second)
    assert pairs == [("f", "a", "A"), ("g", "b", "B"), ("h", "c", "C")]
    assert (one, two) == ([], [])


def test_a_tree_that_is_deeper_than_pythons_stack_is_walked() -> None:
    """A chain of calls as long as you like."""
    chain = [("0", None, "f", None, False), *((str(n), str(n - 1), "f", None, False) for n in range(1, 3000))]
    pairs, one, two = place_jobs(jobs_of(*chain), jobs_of(*chain))
    assert (pairs.height, one.height, two.height) == (3000, 0, 0)


@st.composite
def trees(draw: st.DrawFn) -> pl.DataFrame:
    """Jobs with any callers, also absent ones and rings."""
    count = draw(st.integers(0, 9))
    callers = st.none() | st.integers(-1, 9).map(str)
    return jobs_of(
        *(
            (
                str(number),
                draw(callers),
                draw(st.sampled_from("fg")),
                draw(st.none() | st.sampled_from("12")),
                draw(st.booleans()),
            )
            for number in range(count)
        )
    )


@given(trees(), trees())
def test_every_job_is_placed_once(first: pl.DataFrame, second: pl.DataFrame) -> None:
    """In a pair or alone, whatever the trees; pairs below the roots are calls of one task."""
    pairs, one, two = place_jobs(first, second)
    assert sorted([*pairs["job_id_first"], *one["job_id"]]) == first["job_id"].to_list()
    assert sorted([*pairs["job_id_second"], *two["job_id"]]) == second["job_id"].to_list()
    below = pairs.filter(pl.col("path").str.contains("/"))
    names = dict(second.select("job_id", "task_name").rows())
    assert [names[job_id] for job_id in below["job_id_second"]] == below["task_name"].to_list()


@given(trees())
def test_a_tree_is_like_itself(tree: pl.DataFrame) -> None:
    """Every job is paired with itself where arguments tell calls apart, and none is left."""
    pairs, one, two = place_jobs(tree, tree)
    assert (one.height, two.height) == (0, 0)
    assert pairs["args_hash_first"].to_list() == pairs["args_hash_second"].to_list()
