"""The tables of tasks and calls, from their events by hand."""

from __future__ import annotations

from typing import Any

from tables_kit import at, h, rows_of

from eventstore import Argument, CallContextRecorded, CallNodeRecorded, TaskRecorded
from projections.calls import ARGUMENT_UPSTREAMS, ARGUMENTS, CALL_EDGES, CALL_NODES, CONTEXTS
from projections.tasks import TASKS


def call(name: str = "call", second: int = 1, **more: Any) -> CallNodeRecorded:
    """Return the record of a call node."""
    base = {
        "call_hash": h(name),
        "task_hash": h("task"),
        "task_name": "lab.weigh",
        "args_hash": h("args"),
        "value_hash": h("result"),
    }
    return CallNodeRecorded(occurred_at=at(second), **{**base, **more})


ARGS = (
    Argument(position=0, value_hash=h("a"), upstreams=(h("up1"), h("up2"))),
    Argument(position=1, value_hash=h("b")),
    Argument(key="k", value_hash=h("c"), upstreams=(h("up1"),)),
)


def test_the_first_record_of_a_task_stays() -> None:
    """A task that is recorded again keeps its first source and time."""
    events = [
        TaskRecorded(
            task_hash=h("t"), task_name="weigh", task_namespace="lab", source="one", occurred_at=at(1)
        ),
        TaskRecorded(
            task_hash=h("t"), task_name="weigh", task_namespace="lab", source="two", occurred_at=at(2)
        ),
    ]
    assert rows_of(TASKS, *events) == [
        {
            "task_hash": h("t"),
            "position": 0,
            "full_name": "lab.weigh",
            "task_name": "weigh",
            "task_namespace": "lab",
            "source": "one",
            "task_version": None,
            "occurred_at": at(1),
        }
    ]


def test_a_task_without_namespace_has_its_name_as_full_name() -> None:
    """No dot is put before a name without namespace."""
    [row] = rows_of(TASKS, TaskRecorded(task_hash=h("t"), task_name="weigh", task_version="2"))
    assert (row["full_name"], row["task_namespace"], row["task_version"]) == ("weigh", "", "2")


def test_a_call_node_keeps_its_first_timestamp() -> None:
    """The same call hash again changes nothing, not even the time."""
    tasks = (h("task"), h("other"))
    assert rows_of(CALL_NODES, call(second=1, subtree_tasks=tasks), call(second=2)) == [
        {
            "call_hash": h("call"),
            "position": 0,
            "task_hash": h("task"),
            "task_name": "lab.weigh",
            "args_hash": h("args"),
            "value_hash": h("result"),
            "occurred_at": at(1),
            "subtree_tasks": list(tasks),
        }
    ]


def test_children_stay_in_call_order_with_repeats() -> None:
    """A child that was called twice has two edges, numbered in call order."""
    rows = rows_of(CALL_EDGES, call(children=(h("x"), h("y"), h("x"))), call("leaf"))
    assert [(row["call_hash"], row["index"], row["child_hash"], row["position"]) for row in rows] == [
        (h("call"), 0, h("x"), 0),
        (h("call"), 1, h("y"), 0),
        (h("call"), 2, h("x"), 0),
    ]


def test_a_call_that_is_stated_again_adds_no_children_or_arguments() -> None:
    """Only the first event of a call node counts, even if a later one says more."""
    again = call(children=(h("x"), h("y")), arguments=ARGS)
    first = call(children=(h("z"),), arguments=ARGS[1:2])
    assert [row["child_hash"] for row in rows_of(CALL_EDGES, first, again)] == [h("z")]
    assert [row["value_hash"] for row in rows_of(ARGUMENTS, first, again)] == [h("b")]


def test_arguments_have_a_position_or_a_key() -> None:
    """Arguments keep their recorded order; each says its place or its keyword."""
    rows = rows_of(ARGUMENTS, call(arguments=ARGS))
    assert rows == [
        {
            "call_hash": h("call"),
            "index": index,
            "position": 0,
            "argument_position": place,
            "argument_key": key,
            "value_hash": h(value),
        }
        for index, (place, key, value) in enumerate([(0, None, "a"), (1, None, "b"), (None, "k", "c")])
    ]


def test_upstreams_belong_to_their_argument_in_order() -> None:
    """Each upstream call is a row under its argument; an argument without any has none."""
    rows = rows_of(ARGUMENT_UPSTREAMS, call(arguments=ARGS))
    assert [(row["index"], row["upstream_index"], row["upstream_hash"]) for row in rows] == [
        (0, 0, h("up1")),
        (0, 1, h("up2")),
        (2, 0, h("up1")),
    ]


def test_a_call_may_have_several_contexts() -> None:
    """Contexts of a call stand side by side; a value that is recorded later is filled in."""
    events = [
        CallContextRecorded(call_hash=h("call"), context_hash=h("c1"), occurred_at=at(1)),
        CallContextRecorded(call_hash=h("call"), context_hash=h("c2"), occurred_at=at(2)),
        CallContextRecorded(call_hash=h("call"), context_hash=h("c1"), value_hash=h("v"), occurred_at=at(3)),
    ]
    rows = {row["context_hash"]: row for row in rows_of(CONTEXTS, *events)}
    assert set(rows) == {h("c1"), h("c2")}
    one = rows[h("c1")]
    assert (one["value_hash"], one["position"], one["occurred_at"]) == (h("v"), 0, at(1))
    assert rows[h("c2")]["value_hash"] is None
