"""Call nodes: arguments and their upstreams, children that are recorded, tasks below, contexts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from backend_kit import Engine, events, hashes, kinds, one_record, open_backend, some_hash, task

from eventstore.backend import CacheKind, CallArgument, CallNode, LogBackend
from eventstore.errors import InvalidEventError, NotFoundError
from eventstore.events import CallContextRecorded
from eventstore.hashing import hash_argument, hash_call
from eventstore.value import default_types


def test_call_is_recorded_with_its_arguments(engine: Engine) -> None:
    """A call says task, arguments hash, result and time, and each argument by position or key."""
    done = engine.call("r", args=[1, "two"], kwargs={"key": [3]})
    record = one_record(engine.backend, done.call_hash)
    assert record["task_name"] == "lab.count"
    assert record["task_hash"] == task().task_hash
    assert record["args_hash"] == done.args_hash
    assert record["value_hash"] == default_types.hash("r")
    assert list(record["args"]) == ["0", "1", "key"]
    for name, value in (("0", 1), ("1", "two"), ("key", [3])):
        value_hash = default_types.hash(value)
        place: Any = {"position": int(name)} if name.isdigit() else {"key": name}
        assert record["args"][name] == {
            "arg_hash": hash_argument(done.call_hash, value_hash=value_hash, **place),
            "value_hash": value_hash,
            "upstream": [],
        }
        assert engine.backend.get_value(value_hash) == (value, True)


def test_upstreams_of_arguments_are_recorded(engine: Engine) -> None:
    """Calls whose results went into an argument are kept with it, each once."""
    first, second = engine.call(1, args=["a"]), engine.call(2, args=["b"])
    both = [second.call_hash, first.call_hash, second.call_hash]
    done = engine.call(3, args=[1, 9], kwargs={"key": 2}, upstreams={0: both, "key": [second.call_hash]})
    arguments = one_record(engine.backend, done.call_hash)["args"]
    assert arguments["0"]["upstream"] == sorted([first.call_hash, second.call_hash])
    assert arguments["1"]["upstream"] == []
    assert arguments["key"]["upstream"] == [second.call_hash]


def test_known_call_stays_as_it_is(engine: Engine) -> None:
    """A call that is recorded again changes nothing: its time is that of the first."""
    done = engine.call("r", args=[1])
    record = one_record(engine.backend, done.call_hash)
    assert engine.call("r", args=[1]).call_hash == done.call_hash
    again = Engine(open_backend(engine.backend.store))
    assert again.call("r", args=[1]).call_hash == done.call_hash
    assert one_record(engine.backend, done.call_hash) == record
    assert kinds(engine.backend).count("call_node.recorded") == 1


def test_children_keep_order_and_repeats(engine: Engine) -> None:
    """Children stand in call order, repeats included; their order does not enter the hash."""
    one, two = engine.call(1, args=["a"]).call_hash, engine.call(2, args=["b"]).call_hash
    done = engine.call("r", children=[two, one, two])
    assert one_record(engine.backend, done.call_hash)["children"] == [two, one, two]
    assert done.call_hash == hash_call(task().task_hash, done.args_hash, done.value_hash, [one, two, two])


def test_only_recorded_children_become_children(engine: Engine) -> None:
    """A child without record enters the hash and is no child; the tasks below are then recorded here."""
    known, unknown = engine.call(1, args=["a"]).call_hash, some_hash("unrecorded")
    below = task("unseen")
    done = engine.call("r", children=[unknown, known], below=[below])
    assert one_record(engine.backend, done.call_hash)["children"] == [known]
    assert done.call_hash == hash_call(task().task_hash, done.args_hash, done.value_hash, [known, unknown])
    assert one_record(engine.backend, below.task_hash)["subtype"]["name"] == "unseen"


def test_tasks_below_are_recorded_by_their_own_jobs(engine: Engine) -> None:
    """With all children recorded, the tasks of the subtree are named and not recorded again."""
    child = engine.call(1, args=["a"]).call_hash
    engine.call("r", children=[child], below=[task("unseen")])
    assert list(engine.backend.get_records([task("unseen").task_hash])) == []


def test_subtree_tasks(engine: Engine) -> None:
    """The tasks at and below a call come back as a set, one that was given twice once."""
    below = task("below")
    done = engine.call("r", below=[below, below, task()])
    assert engine.backend.subtree_tasks(done.call_hash) == {task().task_hash, below.task_hash}
    assert engine.backend.subtree_tasks(some_hash("x")) == frozenset()


def test_result_must_be_recorded(backend: LogBackend) -> None:
    """A call never points at a result that is not recorded, and nothing of it is kept."""
    node = CallNode("lab.count", task().task_hash, hashes(task())[0], [], some_hash("x"))
    with pytest.raises(NotFoundError) as caught:
        backend.record_call_node(node)
    assert caught.value.code == "unknown_value"
    assert kinds(backend) == []


def test_call_is_one_append(backend: LogBackend) -> None:
    """Arguments and call are one append: a bad argument leaves nothing behind."""
    result = backend.record_value("r")
    good, bad = CallArgument(0, None, "a"), CallArgument(0, "both", "b")
    node = CallNode("lab.count", task().task_hash, hashes(task())[0], [good, bad], result)
    with pytest.raises(InvalidEventError):
        backend.record_call_node(node)
    assert kinds(backend) == ["value.recorded"]
    backend.record_call_node(node._replace(arguments=[good]))
    assert kinds(backend) == ["value.recorded", "value.recorded", "call_node.recorded"]


class Counting:
    """Counts the questions to a store's index by name."""

    def __init__(self, backend: LogBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        for name in ("call", "calls_of", "evaluation", "has_value", "job", "task", "value", "value_facts"):
            monkeypatch.setattr(backend.store.lookup, name, self._counted(name, backend))

    def _counted(self, name: str, backend: LogBackend) -> Any:
        ask = getattr(backend.store.lookup, name)

        def count(*args: Any, **options: Any) -> Any:
            self.asked.append(name)
            return ask(*args, **options)

        return count


def test_new_call_asks_the_store_for_its_result_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a miss, a call with plain arguments is recorded without looking up what cannot be there."""
    engine.start()
    engine.call("warm", args=["up"])
    counting = Counting(engine.backend, monkeypatch)
    assert engine.ask(args=[1, "two"]).kind is CacheKind.MISS
    engine.call("r", args=[1, "two"])
    assert counting.asked == ["calls_of", "evaluation", "has_value"]


def test_new_call_is_recorded_once_in_its_execution(engine: Engine) -> None:
    """Two jobs that missed the cache and come to the same call record it once, and its arguments too."""
    engine.start()
    for _ in range(2):
        engine.ask(args=[1])
    calls = {engine.call("r", args=[1]).call_hash for _ in range(2)}
    assert len(calls) == 1
    assert kinds(engine.backend).count("call_node.recorded") == 1
    assert kinds(engine.backend).count("value.recorded") == 3  # the task, the argument, the result


def test_call_that_another_backend_recorded_meanwhile_stays(engine: Engine) -> None:
    """If two backends miss the same call and both record it, the first record counts."""
    second = Engine(open_backend(engine.backend.store))
    assert engine.ask(args=[1]).kind is second.ask(args=[1]).kind is CacheKind.MISS
    first = one_record(engine.backend, engine.call("r", args=[1]).call_hash)
    assert one_record(engine.backend, second.call("r", args=[1]).call_hash) == first


# contexts ------------------------------------------------------------------------------------------------


def test_context_is_a_tag_on_the_call(engine: Engine) -> None:
    """A context is put on its call as a tag, once, and the context itself is recorded as a value."""
    backend = engine.backend
    done = engine.call("r")
    context = {"project": "apples"}
    context_hash = default_types.hash(context)
    for _ in range(2):
        assert backend.record_call_context(done.call_hash, context_hash, context) == context_hash
    (tag,) = backend.get_tags([done.call_hash])[done.call_hash]
    assert (tag.entity_type, tag.key, json.loads(tag.value)) == ("CallNode", "redun.context", context_hash)
    assert backend.get_value(context_hash) == (context, True)
    (event,) = [event for event in events(backend) if isinstance(event, CallContextRecorded)]
    assert (event.call_hash, event.value_hash) == (done.call_hash, context_hash)


def test_context_without_hash_is_hashed(engine: Engine) -> None:
    """Without a hash the context's own is taken and returned."""
    done = engine.call("r")
    context_hash = engine.backend.record_call_context(done.call_hash, None, {"a": 1})
    assert context_hash == default_types.hash({"a": 1})
    assert [tag.key for tag in engine.backend.get_tags([done.call_hash])[done.call_hash]] == ["redun.context"]
