"""One sequence of calls for the machine that has each of them in a place where it matters."""

from __future__ import annotations

from typing import Any

from backend_material_kit import TASKS, VALUES
from redun.backends.base import TagEntity
from redun.task import CacheCheckValid, CacheScope


class _NoShuffle:
    """Stands for hypothesis where a rule draws in its middle."""

    def draw(self, _strategy: object) -> int:
        """Return 0, or no."""
        return 0


def tell(machine: Any, how: str) -> None:
    """Make the calls; `how` says what becomes of our store in between."""
    full, shallow = CacheCheckValid.FULL, CacheCheckValid.SHALLOW
    for place in (0, 1):
        machine.begin_execution(place)
        machine.heartbeat(place)
        machine.start_job(task=0, execution=place, parent=None, ago=None)
    machine.start_job(task=0, execution=0, parent=None, ago=None)  # a second root
    for place in range(len(VALUES)):
        machine.record_value(place)
    given = [(7, [], False), (1, [0, 1], True), (0, [0], False), (4, [1, 0], False)]
    for result, children in ((4, []), (14, [0]), (7, [0, 1, 0]), (0, [2])):
        for task in (0, 1):
            machine.record_call_node(
                task=task,
                args_hash=0,
                result=result,
                given=given,
                named={"k": (8, False), "b": (2, True)},
                children=children,
                unrecorded=result == 0,
                below={1, 3} if result == 0 else {0},
            )
    for place in (0, 2, 4):  # one of each task, and of another result
        machine.record_context(call=place, context=place % 4 // 2, known=bool(place))
    machine.settle(how)
    for call in (0, 1, 2):
        machine.end_job(place=0, new=(0, 0, 0), call=call, cached=call == 2)
    machine.start_job(task=0, execution=0, parent=1, ago=5)
    machine.end_job(place=5, new=None, call=3, cached=False)
    machine.end_job(place=3, new=None, call=None, cached=False)
    machine.end_job(place=4, new=None, call=None, cached=False)
    machine.end_job(place=4, new=None, call=0, cached=True)
    machine.end_job(place=0, new=(1, 1, None), call=None, cached=False)  # an execution that has its root
    for value, recorded in ((0, True), (1, False), (None, False), (9, True)):
        machine.set_evaluation(task=2, args_hash=1, value=value, recorded=recorded)
    machine.heartbeat(0)
    everything = {task.hash for task in TASKS}
    for task, args_hash in ((0, 0), (1, 0), (2, 1), (3, 0)):
        for current in (everything, {TASKS[task].hash}, set()):
            for scope, check in (("BACKEND", full), ("BACKEND", shallow), ("CSE", full), ("NONE", shallow)):
                for context in (None, 0, 1):
                    machine.check_cache(task, args_hash, 0, current, CacheScope[scope], check, context, None)
        machine.explain_miss(task, args_hash)
        machine.explain_miss(task, None)
    for entity in range(6):
        machine.record_tags(TagEntity.Job, entity, [("env", 1), ("user", {"b": 1}), ("env", 1.0)], [], "")
        machine.record_tags(TagEntity.Value, entity, [("env", "x")], [entity], "")
        machine.record_tags(TagEntity.Job, entity, [("env", 2), ("env", 3)], [entity], "update")
        machine.record_tags(TagEntity.Job, entity, [("env", 1), ("env", 2)], [], "new")
        machine.update_tags(TagEntity.Job, entity, ["env"], [("stage", "é"), ("user", None)])
        machine.delete_tags(entity, [("user", None)], ["stage"] if entity % 2 else [])
    machine.settle(how)
    machine.record_tags(TagEntity.Task, 0, [("env", 1)], [3], "new")
    machine.delete_tags(2, [], ["redun.context"])
    machine.check_cache(0, 0, 0, everything, CacheScope.BACKEND, shallow, 0, None)
    for place, key in ((0, "k"), (2, "l"), (3, None), (4, "k")):
        machine.make_handle(place, key)
    machine.advance_handle([3], 4)  # a fork of a fork, of which nothing is recorded
    machine.same_handles_are_valid()
    machine.advance_handle([4, 1], 5)
    machine.roll_back(3)
    machine.same_handles_are_valid()
    machine.advance_handle([3], 4)
    machine.advance_handle([], 5)
    machine.settle(how)
    machine.roll_back(4)
    machine.same_handles_are_valid()
    machine.read_handle_back(4)
    for roots in ([0], [1, 0], [2, 5], None):
        if roots is not None:
            machine.walk(roots, in_order=len(roots) == 1)
        machine.move(roots, _NoShuffle())
