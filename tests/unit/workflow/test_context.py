"""Threads and asyncio tasks keep their jobs apart, and join a run when they are told to."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventstore.errors import StateError
from eventstore.events import CallNodeRecorded, EvaluationCached, JobEnded, JobStarted, TaskRecorded
from eventstore.workflow import current_run, task


@task
def leaf(x):
    """Calls nothing."""
    return x


@task(version="1")
def branch(x):
    """Calls two leaves."""
    return [leaf((x, 0)), leaf((x, 1))]


@task
async def soon(x):
    """A coroutine that calls nothing."""
    await asyncio.sleep(0)
    return x


@task
async def async_branch(x):
    """A coroutine with two calls below."""
    first = await soon((x, 0))
    await asyncio.sleep(0)
    return [first, await soon((x, 1))]


@task
async def refuse():
    """A coroutine that fails."""
    await asyncio.sleep(0)
    raise ValueError("async")


def tree(store):
    """Names of the tasks on the way from each job up to the root, counted."""
    names = {event.task_hash: event.task_name for event in store.of(TaskRecorded)}
    jobs = {event.job_id: event for event in store.of(JobStarted)}
    ways = []
    for job in jobs.values():
        way = []
        while job is not None:
            way.append(names[job.task_hash])
            job = jobs.get(job.parent_id)
        ways.append("/".join(reversed(way)))
    return sorted(ways)


def test_a_thread_pool_joins_by_wrap(store):
    """Calls in wrapped threads are below the job that wrapped, each with its own calls below."""
    with store.execution() as run, ThreadPoolExecutor(4) as pool:
        work = run.wrap(branch)
        assert list(pool.map(work, range(8))) == [[(n, 0), (n, 1)] for n in range(8)]
    assert tree(store) == ["run"] + ["run/branch"] * 8 + ["run/branch/leaf"] * 16
    for node in store.of(CallNodeRecorded):
        if node.task_name == "branch":
            assert len(node.children) == 2
    root = store.of(CallNodeRecorded)[-1]
    assert len(root.children) == 8


def test_wrap_joins_the_job_that_is_current(store):
    """Inside a task, wrapped work is below that task; copy_context does the same."""

    @task(version="1")
    def spread():
        run = current_run()
        threads = [
            threading.Thread(target=run.wrap(leaf), args=(1,)),
            threading.Thread(target=contextvars.copy_context().run, args=(leaf, 2)),
        ]
        for thread in threads:
            thread.start()
            thread.join()

    with store.execution():
        spread()
    assert tree(store) == ["run", "run/spread", "run/spread/leaf", "run/spread/leaf"]


def test_another_thread_is_outside_and_may_have_a_run_of_its_own(store):
    """A bare thread knows nothing of the run: calls are plain, and its own run is no nested one."""
    seen = []

    def elsewhere():
        seen.append((current_run(), leaf(1)))
        with store.execution(name="other"):
            leaf(2)

    with store.execution():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert seen == [(None, 1)]
    assert tree(store) == ["other", "other/leaf", "run"]


def test_asyncio_tasks_are_kept_apart(store):
    """Interleaved coroutines have their own calls below them, and results from the cache the second time."""

    async def main():
        return await asyncio.gather(*(async_branch(n) for n in range(5)))

    for _ in range(2):
        with store.execution():
            assert asyncio.run(main()) == [[(n, 0), (n, 1)] for n in range(5)]
    expected = ["run"] + ["run/async_branch"] * 5 + ["run/async_branch/soon"] * 10
    assert tree(store) == sorted(expected * 2)
    assert len(store.of(EvaluationCached)) == 10
    assert [event.status for event in store.of(JobEnded)].count("CACHED") == 10
    nodes = [node for node in store.of(CallNodeRecorded) if node.task_name == "async_branch"]
    by_call = {node.call_hash: node for node in store.of(CallNodeRecorded)}
    for node in nodes:
        first, second = (by_call[call].arguments[0].value_hash for call in node.children)
        assert first != second


def test_children_are_in_the_order_in_which_they_began(store):
    """A call that began first and ended last is still the first child."""

    @task(version="1")
    async def wait(x, event):
        if x == 0:
            await gates[event].wait()
        else:
            gates[event].set()
        return x

    gates = {}

    async def main():
        gates["a"] = asyncio.Event()
        await asyncio.gather(wait(0, "a"), wait(1, "a"))

    with store.execution():
        asyncio.run(main())
    second, first, root = store.of(CallNodeRecorded)
    assert root.children == (first.call_hash, second.call_hash)


def test_an_async_task_outside_of_a_run_is_its_function(store):
    """Without a run the coroutine is the function's own."""
    assert asyncio.run(soon(3)) == 3
    assert store.batches == []


def test_async_failure_and_cancellation_are_recorded(store):
    """A coroutine that raises, or is cancelled, leaves a failed job; the error propagates."""

    @task(version="1")
    async def forever():
        await asyncio.Event().wait()

    async def main():
        with pytest.raises(ValueError, match="async"):
            await refuse()
        waiting = asyncio.create_task(forever())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with store.execution():
        asyncio.run(main())
    assert [event.status for event in store.of(JobEnded)] == ["FAILED", "FAILED", "DONE"]


def test_wrap_takes_coroutine_functions(store):
    """A wrapped coroutine function joins while it runs, not only while it is made."""

    async def work():
        return await soon(1), leaf(2)

    with store.execution() as run:
        joined = run.wrap(work)
        thread = threading.Thread(target=lambda: asyncio.run(joined()))
        thread.start()
        thread.join()
    assert tree(store) == ["run", "run/leaf", "run/soon"]


def test_a_coroutine_that_is_thrown_away_is_a_failed_job(store):
    """Closing a coroutine half-way, from anywhere, records the end and disturbs nobody."""
    with store.execution():
        coroutine = soon(1)
        contextvars.copy_context().run(coroutine.send, None)
        coroutine.close()
        assert current_run() is not None
        assert leaf(1) == 1
    assert [event.status for event in store.of(JobEnded)] == ["FAILED", "DONE", "DONE"]


def test_a_thread_that_outlives_the_run_is_told(store):
    """A task called after the run has ended, from a context that still names it, is a StateError."""
    with store.execution():
        context = contextvars.copy_context()
    with pytest.raises(StateError) as caught:
        context.run(leaf, 1)
    assert caught.value.code == "run_not_active"
