"""Task calls: a plain function outside of a run; inside one recorded, cached and hashed as in redun."""

from __future__ import annotations

import pytest
import redun
import redun.scheduler
import redun.value
from redun.hashing import hash_eval

from eventstore import value as value_module
from eventstore.errors import InvalidEventError, StateError
from eventstore.events import (
    CallNodeRecorded,
    EvaluationCached,
    JobEnded,
    JobStarted,
    JobStatus,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.file import File
from eventstore.value import default_types
from eventstore.value_store import data_digest
from eventstore.workflow import ErrorValue, Task, current_run, task

calls: list[object] = []


@pytest.fixture(autouse=True)
def _forget():
    calls.clear()


@task
def add(a, b=2, *, c=3):
    """Add."""
    calls.append(("add", a, b, c))
    return a + b + c


@task(namespace="demo.sub", version="7", tags={"team": "x"})
def versioned(x):
    """Has a version."""
    return x


@task
def outer(x):
    """Two calls below."""
    calls.append("outer")
    return add(add(x), 1)


@task
def count(file):
    """Reads a file."""
    calls.append("count")
    return len(file.read())


@task
def make(path):
    """Returns a file inside a dict."""
    calls.append("make")
    return {"files": [File(path).write("made")]}


@task(cache=False)
def roll():
    """Never cached."""
    calls.append("roll")
    return 4


@task
def big(n):
    """Many bytes."""
    return b"x" * n


@task
def fail(x):
    """Fails."""
    calls.append("fail")
    raise ValueError(f"no {x}")


def node_of(store, name):
    """The one call node of a task."""
    (node,) = [node for node in store.of(CallNodeRecorded) if node.task_name == name]
    return node


def test_outside_of_a_run_a_task_is_its_function(store):
    """A call without a run calls the function; name, doc and signature are the function's."""
    assert add(1, c=0) == 3
    assert add.__name__ == "add"
    assert add.__doc__ == "Add."
    assert isinstance(add, Task)
    assert store.batches == []


def test_a_miss_is_two_appends_and_a_hit_is_one(store):
    """Values, task and start come first; result, cache entry, node and end second; a hit states two."""
    with store.execution() as run:
        first = len(store.batches)
        assert add(1) == add(1) == 6
        assert store.kinds(first) == [
            ["value.recorded"] * 3 + ["task.recorded", "job.started"],
            ["value.recorded", "evaluation.cached", "call_node.recorded", "job.ended"],
            ["job.started", "job.ended"],
        ]
        done, cached = store.of(JobEnded)
        assert (done.status, done.cached, cached.status, cached.cached) == ("DONE", False, "CACHED", True)
        assert done.call_hash == cached.call_hash == node_of(store, "add").call_hash
        assert {job.parent_id for job in store.of(JobStarted)} == {run.root_job_id, None}
    assert calls == [("add", 1, 2, 3)]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"c": 5, "b": 4}), ((1, 2), {"c": 9})],
)
def test_hashes_of_task_arguments_and_evaluation_are_those_of_redun(store, args, kwargs):
    """Task, arguments (with defaults) and evaluation hash as redun's scheduler does, for each way to call."""
    theirs = redun.task()(add.function)
    with store.execution():
        add(*args, **kwargs)
    (cached,) = store.of(EvaluationCached)
    args2, kwargs2 = redun.scheduler.set_arg_defaults(theirs, args, kwargs)
    expected = hash_eval(redun.value.get_type_registry(), theirs.hash, args2, kwargs2)
    assert cached.task_hash == theirs.hash
    assert (cached.eval_hash, cached.args_hash) == expected
    node = node_of(store, "add")
    places = [(argument.position, argument.key) for argument in node.arguments]
    given = [(place, None) for place in range(len(args))] + [(None, key) for key in sorted(kwargs)]
    assert places[: len(given)] == given
    assert {key for _, key in places[len(given) :]} == {"a", "b", "c"} - set(kwargs) - set("abc"[: len(args)])


def test_a_version_stands_for_the_source(store):
    """A versioned task has redun's hash of name and version; task and tags are stated once."""
    with store.execution():
        versioned(1)
        versioned(2)
    (recorded,) = [event for event in store.of(TaskRecorded) if event.task_name == "versioned"]
    theirs = redun.task(name="versioned", namespace="demo.sub", version="7")(versioned.function)
    assert recorded.task_hash == theirs.hash
    assert (recorded.task_namespace, recorded.task_version) == ("demo.sub", "7")
    assert "def versioned" in recorded.source
    (tags,) = store.of(TagsRecorded)
    assert (tags.entity_type, tags.entity_id, tags.tags[0].key) == ("Task", recorded.task_hash, "team")


def test_call_nodes_form_the_tree(store):
    """A caller's node lists its calls in order and all tasks below; the hash is redun's formula."""
    with store.execution():
        assert outer(1) == 10
    first, second = [node for node in store.of(CallNodeRecorded) if node.task_name == "add"]
    node = node_of(store, "outer")
    assert node.children == (first.call_hash, second.call_hash)
    assert node.subtree_tasks == tuple(sorted({add.identity.hash, outer.identity.hash}))
    root = node_of(store, "run")
    assert root.children == (node.call_hash,)
    from redun.hashing import hash_call_node

    assert node.call_hash == hash_call_node(
        node.task_hash, node.args_hash, node.value_hash, list(node.children)
    )
    assert second.arguments[0].upstreams == (first.call_hash,)


def test_a_call_with_calls_below_runs_again_and_those_are_cached(store):
    """Only a call that called nothing enters the cache, so a changed task below is always noticed."""
    for _ in range(2):
        with store.execution():
            outer(1)
    assert calls.count("outer") == 2
    assert len(calls) == 4
    assert {event.task_hash for event in store.of(EvaluationCached)} == {add.identity.hash}
    assert [event.status for event in store.of(JobEnded)].count(JobStatus.CACHED) == 2
    assert len([node for node in store.of(CallNodeRecorded) if node.task_name == "outer"]) == 1


def test_a_call_with_a_job_in_it_is_not_kept(store):
    """What a block records would be lost if its task were answered from the cache."""

    @task(version="1")
    def stepwise():
        with current_run().job("step"):
            calls.append("step")

    with store.execution():
        stepwise()
        stepwise()
    assert calls == ["step", "step"]
    assert store.of(EvaluationCached) == []


def test_a_changed_file_is_read_again(store, tmp_path):
    """A file argument is looked at with each call, even through one File object."""
    file = File(tmp_path / "a")
    file.write("one")
    with store.execution():
        assert (count(file), count(file)) == (3, 3)
        (tmp_path / "a").write_text("three")
        assert count(file) == 5
    assert calls == ["count", "count"]


def test_a_cached_file_that_changed_is_a_miss(store, tmp_path):
    """A result that holds a file, at any depth, is used only while the file is as it was."""
    path = str(tmp_path / "a")
    with store.execution():
        make(path)
        make(path)
        assert calls == ["make"]
        (tmp_path / "a").write_text("something else")
        assert make(path)["files"][0].read() == "made"
    assert calls == ["make", "make"]
    (recorded,) = [v for v in store.of(ValueRecorded) if v.type_name == "builtins.dict"][:1]
    (file,) = [v for v in store.of(ValueRecorded) if v.value_hash == recorded.subvalues[0]]
    assert (file.type_name, file.file_path) == ("redun.File", path)


def test_a_value_inside_comes_before_what_holds_it(store, tmp_path):
    """Nothing that is stored points at something missing, at any point of the log."""
    with store.execution(args=["x"]):
        make(str(tmp_path / "a"))
        outer(1)
    known: set[str] = set()
    for event in store.all_events:
        if isinstance(event, ValueRecorded):
            assert set(event.subvalues) <= known
            known.add(event.value_hash)
        elif isinstance(event, TaskRecorded):
            known.add(event.task_hash)
        elif isinstance(event, JobStarted):
            assert event.task_hash in known
            assert event.parent_id is None or event.parent_id in known
            known.add(event.job_id)
        elif isinstance(event, CallNodeRecorded):
            assert {event.value_hash, event.task_hash, *event.children} <= known
            assert {argument.value_hash for argument in event.arguments} <= known
            known.add(event.call_hash)
        elif isinstance(event, EvaluationCached):
            assert event.value_hash in known


def test_cache_false_neither_asks_nor_answers(store):
    """A task or a run with cache=False runs each time and leaves nothing in the cache."""
    with store.execution():
        roll()
        roll()
    with store.execution(cache=False):
        add(1)
        add(1)
    assert len(calls) == 4
    assert store.of(EvaluationCached) == []


def test_a_closure_is_cached_only_under_a_version(store):
    """What a closure holds is in no hash, so without a version it runs each time."""

    def build(n, **options):
        @task(**options)
        def shifted(x):
            calls.append(n)
            return x + n

        return shifted

    with store.execution():
        assert [build(1)(1), build(2)(1)] == [2, 3]
        assert [build(1, version="1")(1), build(1, version="1")(1)] == [2, 2]
        assert [build(5, version="5")(1), build(5, cache=True)(1), build(6, cache=True)(1)] == [6, 6, 6]
    assert calls == [1, 2, 1, 5, 5]


def test_large_values_go_to_the_value_store(store):
    """Bytes above the inline limit are put by content, and are read back on a hit."""
    with store.execution():
        assert big(100_000) == big(100_000) == b"x" * 100_000
    (recorded,) = [event for event in store.of(ValueRecorded) if event.type_name == "builtins.bytes"]
    assert recorded.data is None
    data = store.values.stored[recorded.data_digest]
    assert recorded.size_bytes == len(data)
    assert data_digest(data) == recorded.data_digest
    assert store.of(JobEnded)[1].status == "CACHED"


def test_a_failure_is_recorded_and_goes_on(store):
    """The exception propagates; an error value with its traceback, the node and a failed job are recorded."""
    with store.execution(), pytest.raises(ValueError, match="no 1"):
        fail(1)
    node = node_of(store, "fail")
    (error,) = [event for event in store.of(ValueRecorded) if event.value_hash == node.value_hash]
    assert error.type_name == "eventstore.ErrorValue"
    stored = default_types.load(error.type_name, error.data)
    assert isinstance(stored, ErrorValue)
    assert repr(stored.error) == "ValueError('no 1')"
    assert 'raise ValueError(f"no {x}")' in stored.text
    assert "_evaluate" not in stored.text
    failed = store.of(JobEnded)[0]
    assert (failed.status, failed.cached, failed.call_hash) == ("FAILED", False, node.call_hash)
    assert store.of(JobEnded)[-1].status == "DONE"


def test_a_failure_is_not_cached_and_a_caller_may_go_on(store):
    """A failed call runs again; a caller that catches is DONE and has the failed call among its children."""

    @task(version="1")
    def careful(x):
        for _ in range(2):
            try:
                fail(x)
            except ValueError:
                continue
        return "fine"

    with store.execution():
        assert careful(1) == "fine"
    assert calls == ["fail", "fail"]
    assert store.of(EvaluationCached) == []
    assert node_of(store, "careful").children == (node_of(store, "fail").call_hash,) * 2


class StubbornError(Exception):
    """An exception that cannot be pickled."""

    def __reduce__(self):
        raise TypeError("never")


class MuteError(StubbornError):
    """One whose repr fails too."""

    def __repr__(self):
        raise RuntimeError("hush")


@pytest.mark.parametrize(
    ("kind", "told"), [(StubbornError, "StubbornError('why')"), (MuteError, "MuteError (its repr fails)")]
)
def test_an_exception_that_cannot_be_pickled_is_recorded_by_its_repr(store, kind, told):
    """A stand-in takes the place of the exception in the history, never for the caller."""

    @task(version="1")
    def stubborn():
        raise kind("why")

    with store.execution(), pytest.raises(kind):
        stubborn()
    node = node_of(store, "stubborn")
    (error,) = [event for event in store.of(ValueRecorded) if event.value_hash == node.value_hash]
    assert str(default_types.load(error.type_name, error.data).error) == told


def test_an_argument_that_cannot_be_pickled_is_named(store):
    """The call is refused with the argument's place or name, and records nothing."""
    with store.execution():
        before = len(store.batches)
        for call, what in (
            (lambda: add(lambda: 1), "argument 0 of add"),
            (lambda: add(1, c=(x for x in [])), "argument 'c' of add"),
            (lambda: add({1, "a"}), "argument 0 of add"),
        ):
            with pytest.raises(InvalidEventError) as caught:
                call()
            assert caught.value.code == "not_picklable"
            assert caught.value.what == what
        assert len(store.batches) == before
    assert calls == []


def test_a_result_that_cannot_be_pickled_fails_the_job(store):
    """The caller gets the error that names the result; the job is recorded as failed."""

    @task(version="1")
    def hand_out():
        return lambda: 1

    with store.execution(), pytest.raises(InvalidEventError) as caught:
        hand_out()
    assert (caught.value.code, caught.value.what) == ("not_picklable", "the result of hand_out")
    assert store.of(JobEnded)[0].status == "FAILED"


def test_a_task_without_source_needs_a_version(store):
    """A function made by exec is refused inside a run until it has a version; outside it just runs."""
    space = {"task": task}
    code = "def f(x): return x\nbare = task(f)\ngiven = task(version='1')(f)"
    exec(code, space)  # noqa: S102 - what a prompt does
    assert space["bare"](1) == 1
    with store.execution():
        with pytest.raises(InvalidEventError, match="version=") as caught:
            space["bare"](1)
        assert caught.value.code == "no_source"
        assert space["given"](1) == 1
        with pytest.raises(InvalidEventError) as caught:
            apply(space["bare"], 1)
        assert caught.value.code == "no_source"


@pytest.mark.parametrize(
    ("decorate", "code"),
    [
        (lambda: task(lambda x: x), "bad_task_name"),
        (lambda: task(name="a b")(add.function), "bad_task_name"),
        (lambda: task(namespace=".x")(add.function), "bad_task_name"),
        (lambda: task(tags={"k": object()})(add.function), "bad_tag_value"),
        (lambda: task(tags=[("", 1)])(add.function), "bad_tag_key"),
    ],
)
def test_bad_options_are_told_where_the_task_is_made(decorate, code):
    """Names and tags are checked by the decorator."""
    with pytest.raises(InvalidEventError) as caught:
        decorate()
    assert caught.value.code == code


def test_a_version_is_text(store):
    """A version of another type is refused by name when the task is first recorded."""
    with store.execution(), pytest.raises(InvalidEventError) as caught:
        task(version=2)(add.function)(1)
    assert caught.value.code == "bad_task_version"


def test_a_generator_is_no_task():
    """A function that yields has no result to record."""
    with pytest.raises(InvalidEventError) as caught:

        @task
        def numbers():
            yield 1

    assert caught.value.code == "generator_task"


def test_a_method_can_be_a_task(store):
    """The object that a method belongs to is its first argument."""
    with store.execution():
        assert Scale(3).by(2) == Scale(3).by(2) == 6
    assert calls == [3]


class Scale:
    """Something with a method that is a task."""

    def __init__(self, factor):
        self.factor = factor

    @task
    def by(self, x):
        """A method that is a task."""
        calls.append(self.factor)
        return self.factor * x


@task
def apply(function, x):
    """Takes a function or a task."""
    return function(x)


def test_a_task_is_a_value(store):
    """A task as an argument is named by its hash, and reads back as itself while it is the same."""
    with store.execution():
        assert apply(versioned, 3) == 3
    node = node_of(store, "apply")
    assert node.arguments[0].value_hash == versioned.identity.hash
    (recorded,) = [event for event in store.of(ValueRecorded) if event.type_name == "eventstore.Task"]
    assert default_types.load(recorded.type_name, recorded.data) is versioned
    with pytest.raises(LookupError):
        default_types.load(recorded.type_name, recorded.data.replace(b"versioned", b"vanished_"))


def test_a_cache_entry_that_cannot_be_read_is_a_miss(store):
    """Bytes that no longer unpickle, a missing value and a foreign expression make the task run again."""
    with store.execution():
        add(1)
        (entry,) = store.of(EvaluationCached)

        def answer(type_name, data, media_type="application/python-pickle"):
            from eventstore.index import StoredValue

            store.lookup.value = lambda value_hash: StoredValue(type_name, media_type, data)

        expression = redun.task()(versioned.function)(1)
        for type_name, data in (
            ("builtins.int", b"broken"),
            ("gone.Class", b"\x80\x03cgone_module\nGone\nq\x00."),
            ("redun.TaskExpression", value_module.dump_pickle(expression)),
            ("builtins.list", value_module.dump_pickle([expression])),
            ("eventstore.ErrorValue", value_module.dump_pickle((ValueError("x"), ""))),
        ):
            answer(type_name, data)
            assert add(1) == 6
        answer("lab.Thing", value_module.dump_pickle(5), "text/plain")
        assert add(1) == 6
        store.lookup.value = lambda value_hash: None
        assert add(1) == 6
    assert len(calls) == 8
    assert entry.value_hash == store.of(EvaluationCached)[-1].value_hash


def test_nothing_is_unpickled_but_a_cached_value(store):
    """A run without hits reads no pickle back."""

    class Refusing(value_module.ValueTypes):
        def load(self, type_name, data, media_type=""):
            raise AssertionError("unpickled")

    with store.execution(types=Refusing(), args=["a"], cache=False):
        outer(1)
        with pytest.raises(ValueError, match="no"):
            fail(1)


def test_a_store_that_refuses_leaves_the_callers_error_alone(store):
    """If the failure cannot be recorded, the caller's own exception goes on, with a note of it."""

    @task(version="1")
    def closing():
        store.closed = True
        raise KeyError("mine")

    with pytest.raises(KeyError) as caught, store.execution():
        closing()
    assert "could not be recorded" in "".join(caught.value.__notes__)


def test_a_closed_store_is_told_to_the_caller(store):
    """Recording on a closed store raises its StateError before the function runs."""
    with pytest.raises(StateError), store.execution():  # noqa: PT012 - the run's end is refused too
        store.closed = True
        add(1)
    assert calls == []
