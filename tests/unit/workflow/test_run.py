"""Runs: one root job, explicit jobs, tags, handles, heartbeats; and what is refused."""

from __future__ import annotations

import json
import sys

import pytest

from eventstore.errors import InvalidEventError, StateError
from eventstore.events import (
    CallNodeRecorded,
    EvaluationCached,
    ExecutionHeartbeat,
    ExecutionStarted,
    HandleAdvanced,
    HandleForked,
    HandleRecorded,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    TagsDeleted,
    TagsRecorded,
    ValueRecorded,
)
from eventstore.handle import Handle
from eventstore.hashing import hash_tag
from eventstore.value import default_types
from eventstore.workflow import Execution, current_run, task


@task
def double(x):
    """Twice."""
    return 2 * x


@task
def touch(database, x):
    """Hands its handle on."""
    return database


def nodes(store):
    """Call nodes by task."""
    return {node.task_name: node for node in store.of(CallNodeRecorded)}


def test_a_run_begins_with_one_append_and_ends_with_one(store):
    """Execution, tags, root task and root job are one batch; call node and end another."""
    with store.execution(args=["main.py", 3], tags={"project": "demo"}) as run:
        assert current_run() is run
        run.result("done")
    assert current_run() is None
    assert store.kinds() == [
        ["value.recorded"] * 2 + ["execution.started", "tags.recorded", "task.recorded", "job.started"],
        ["value.recorded", "call_node.recorded", "job.ended"],
    ]
    (started,) = store.of(ExecutionStarted)
    assert (started.execution_id, started.job_id) == (run.id, run.root_job_id)
    assert json.loads(started.args) == ["main.py", 3]
    (job,) = store.of(JobStarted)
    assert (job.job_id, job.parent_id, job.execution_id) == (run.root_job_id, None, run.id)
    (node,) = store.of(CallNodeRecorded)
    assert node.value_hash == default_types.hash("done")
    assert [argument.value_hash for argument in node.arguments] == [
        default_types.hash("main.py"),
        default_types.hash(3),
    ]
    (end,) = store.of(JobEnded)
    assert (end.status, end.call_hash) == ("DONE", node.call_hash)


def test_an_exception_fails_the_run_and_goes_on(store):
    """What leaves the block is recorded as the root job's result and raised."""
    with pytest.raises(ZeroDivisionError), store.execution():
        _ = 1 / 0
    assert store.of(JobEnded)[-1].status == "FAILED"
    (error,) = [event for event in store.of(ValueRecorded) if event.type_name == "eventstore.ErrorValue"]
    assert "1 / 0" in default_types.load(error.type_name, error.data).text


@pytest.mark.parametrize(("code", "status"), [(None, "DONE"), (0, "DONE"), (1, "FAILED"), ("no", "FAILED")])
def test_leaving_by_sys_exit(store, code, status):
    """sys.exit() after work well done is no failure; with a code it is."""
    with pytest.raises(SystemExit), store.execution():
        sys.exit(code)
    assert store.of(JobEnded)[-1].status == status


def test_an_explicit_job(store):
    """A block is a job below the current one, with arguments, result, tags and calls below; never cached."""
    with store.execution() as run:
        with run.job("load", namespace="etl") as job:
            assert job.argument("n", 5) == 5
            job.argument("n", 6)
            with run.job("inner"):
                double(1)
            tag_hash = job.tag("rows", 10)
            assert job.result([1, 2]) == [1, 2]
        double([1, 2])
    found = nodes(store)
    load = found["etl.load"]
    assert [(a.key, a.value_hash) for a in load.arguments] == [("n", default_types.hash(6))]
    assert load.value_hash == default_types.hash([1, 2])
    assert load.children == (found["inner"].call_hash,)
    assert found["double"].arguments[0].upstreams == (load.call_hash,)
    started = {event.job_id: event for event in store.of(JobStarted)}
    assert started[job.id].parent_id == run.root_job_id
    assert [event.parent_id for event in store.of(JobStarted)].count(job.id) == 1
    (tags,) = store.of(TagsRecorded)
    assert (tags.entity_type, tags.entity_id, tags.tags[0].tag_hash) == ("Job", job.id, tag_hash)
    assert load.task_hash not in {event.task_hash for event in store.of(EvaluationCached)}


def test_a_failed_block_and_a_result_that_cannot_be_pickled(store):
    """A block fails by an exception or by its result, and the exception goes on."""
    with store.execution() as run:
        with pytest.raises(KeyError), run.job("one"):
            raise KeyError("x")
        with pytest.raises(InvalidEventError) as caught, run.job("two") as job:
            job.result(lambda: 1)
        assert caught.value.what == "the result of two"
        with run.job("three") as job, pytest.raises(InvalidEventError) as caught:
            job.argument("f", lambda: 1)
        assert caught.value.what == "argument 'f' of three"
    assert [event.status for event in store.of(JobEnded)] == ["FAILED", "FAILED", "DONE", "DONE"]


def test_a_run_cannot_be_used_before_or_after(store):
    """Every method and every task call outside of the block's time is a StateError, and records nothing."""
    run = store.execution()
    uses = [
        lambda: run.job("x"),
        lambda: run.tag("k", 1),
        lambda: run.untag("0" * 40),
        lambda: run.tag_value(1, "k"),
        lambda: run.handle("db"),
        lambda: run.rollback(Handle("db")),
        lambda: run.heartbeat(),
        lambda: run.result(1),
        lambda: run.wrap(double),
    ]
    for use in uses:
        with pytest.raises(StateError):
            use()
    assert store.batches == []
    with run:
        joined = run.wrap(double)
        with run.job("x") as job:
            pass
    count = len(store.batches)
    for use in (
        *uses,
        lambda: joined(1),
        lambda: run.__enter__(),
        lambda: job.tag("k"),
        lambda: job.result(1),
    ):
        with pytest.raises(StateError):
            use()
    assert len(store.batches) == count


def test_a_job_block_is_used_once(store):
    """A block that has ended cannot begin again."""
    with store.execution() as run:
        block = run.job("x")
        with block:
            pass
        with pytest.raises(StateError) as caught:
            block.__enter__()
    assert caught.value.code == "job_not_open"


def test_runs_do_not_nest(store):
    """A run inside a run is refused with a hint, and the outer run goes on."""
    with store.execution():
        with pytest.raises(StateError, match=r"run\.job") as caught, store.execution():
            pass
        assert caught.value.code == "nested_execution"
        assert double(1) == 2
    assert len(store.of(ExecutionStarted)) == 1


@pytest.mark.parametrize("args", [[object()], [float("nan")], [b"x"]])
def test_arguments_of_a_run_are_json(store, args):
    """What JSON cannot say is refused before anything is recorded."""
    with pytest.raises(InvalidEventError) as caught:
        store.execution(args=args)
    assert caught.value.code == "bad_args"
    assert store.batches == []


def test_a_refused_begin_leaves_no_run(store):
    """If the first append fails, the context is free and the run cannot be used."""
    store.closed = True
    run = store.execution()
    with pytest.raises(StateError), run:
        pass
    assert current_run() is None
    store.closed = False
    with pytest.raises(StateError):
        run.tag("k")
    assert store.batches == []


def test_tags_are_put_edited_and_taken_off(store):
    """A tag supersedes the hashes that are given; a deletion does so without a new tag."""
    with store.execution() as run:
        first = run.tag("stage", "raw")
        second = run.tag("stage", "clean", supersede=[first], reason="typo")
        run.untag(second)
        run.untag()
        on_value = run.tag_value([1], "seen", True)
        assert run.tag_entity("Value", "0" * 40, {}) == []
    one, two, three = store.of(TagsRecorded)
    assert first == hash_tag(run.id, "stage", "raw")
    assert two.superseded == (first,)
    assert two.reason == "typo"
    assert two.tags[0].tag_hash == second == hash_tag(run.id, "stage", "clean", [first])
    (deleted,) = store.of(TagsDeleted)
    assert deleted.superseded == (second,)
    assert (three.entity_type, three.entity_id) == ("Value", default_types.hash([1]))
    assert three.tags[0].tag_hash == on_value
    assert one.superseded == ()


def test_heartbeats_come_with_jobs_when_they_are_due(store):
    """Jobs carry a heartbeat at most so often; one can be asked for at any time."""
    now = [0.0]
    with store.execution(heartbeat_seconds=20, clock=lambda: now[0]) as run:
        for _ in range(3):
            double(1)
        assert store.of(ExecutionHeartbeat) == []
        now[0] = 21
        double(2)
        double(3)
        assert [event.execution_id for event in store.of(ExecutionHeartbeat)] == [run.id]
        run.heartbeat()
        now[0] = 42
        double(1)
    assert len(store.of(ExecutionHeartbeat)) == 3


def test_handles_are_recorded_with_the_states_that_led_to_them(store):
    """The states that led to a handle are stated once, oldest first; itself whenever it is reached.

    A rollback, here or elsewhere, may have made a known state invalid: being reached makes it valid again.
    """
    with store.execution() as run:
        first = len(store.batches)
        database = run.handle("db", 1, namespace="ns", user="me")
        state = database.fork("a").apply_call("1" * 40).fork("b")
        run.advance(state)
        run.advance(state)
        run.rollback(database, reason="wrong file")
        assert store.kinds(first) == [
            ["value.recorded", "handle.recorded"],
            [
                "value.recorded",
                "handle.forked",
                "value.recorded",
                "handle.advanced",
                "value.recorded",
                "handle.forked",
            ],
            ["handle.forked"],
            ["handle.recorded"],
            ["handle.rolled_back"],
        ]
    recorded, again = store.of(HandleRecorded)
    assert (recorded.handle_hash, recorded.handle_name) == (database.hash, "ns.db")
    assert again == recorded
    fork, last, repeated = store.of(HandleForked)
    assert repeated == last
    assert (fork.handle_key, fork.parents) == ("a", (database.hash,))
    (advanced,) = store.of(HandleAdvanced)
    assert advanced.parents == (fork.handle_hash,)
    assert (last.parents, last.handle_hash) == ((advanced.handle_hash,), state.hash)
    (back,) = store.of(HandleRolledBack)
    assert (back.handle_hash, back.reason) == (database.hash, "wrong file")


def test_a_handle_is_forked_for_a_call_and_advanced_by_its_result(store):
    """As in redun: forks are numbered by use, rolled back before the run, and results carry the eval hash."""
    with store.execution() as run:
        database = run.handle("db")
        one = touch(database, 1)
        two = touch(database, 2)
        three = touch(two, 1)
    forks = store.of(HandleForked)
    assert [fork.handle_key for fork in forks] == ["1", "2", "1"]
    assert [fork.handle_hash for fork in forks[:2]] == [database.fork("1").hash, database.fork("2").hash]
    assert [back.handle_hash for back in store.of(HandleRolledBack)] == [fork.handle_hash for fork in forks]
    evaluations = [event.eval_hash for event in store.of(EvaluationCached)]
    assert [one.hash, two.hash, three.hash] == [
        fork_parent.apply_call(eval_hash).hash
        for fork_parent, eval_hash in zip((database, database, two), evaluations, strict=True)
    ]
    advanced = store.of(HandleAdvanced)
    assert [event.handle_hash for event in advanced] == [one.hash, two.hash, three.hash]
    assert [event.parents for event in advanced] == [(fork.handle_hash,) for fork in forks]


def test_a_cached_handle_is_never_used(store):
    """Whether a handle was rolled back is not known here, so a call that returned one runs again."""
    with store.execution() as run:
        touch(run.handle("db"), 1)
    with store.execution() as run:
        touch(run.handle("db"), 1)
    assert {event.status for event in store.of(JobEnded)} == {"DONE"}


def test_what_a_store_knows_is_shared_by_its_runs(store):
    """Tasks, values and call nodes are stated once for each open store."""
    for _ in range(2):
        with Execution(store):
            double(3)
    hashes = [event.value_hash for event in store.of(ValueRecorded)]
    assert len(hashes) == len(set(hashes))
    assert store.kinds().count(["task.recorded", "job.started"]) == 0
    calls = [event.call_hash for event in store.of(CallNodeRecorded)]
    assert len(calls) == len(set(calls))
