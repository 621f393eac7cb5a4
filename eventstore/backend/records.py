"""Records: what one id stands for, as a plain mapping that another store or redun can take in; and walks.

The fields are those that redun exports. A record names others by id and never holds them.
"""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from eventstore.backend.recorder import Recorder
from eventstore.backend.stated import is_hash
from eventstore.errors import NotFoundError
from eventstore.hashing import hash_argument
from eventstore.index.facts import CallFacts, ExecutionFacts, JobFacts, TagFacts, TaskFacts, ValueFacts
from eventstore.pickling import PICKLE_FORMAT

__all__ = ["RECORD_VERSION", "Entity", "Records"]

RECORD_VERSION = 1
_TASK_TYPE = "redun.Task"
"""Type name in the record of a task of which no value was recorded."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Entity = ExecutionFacts | JobFacts | CallFacts | ValueFacts | TaskFacts | TagFacts


class Records:
    """Finds what ids stand for, and makes records of it.

    Parameters
    ----------
    recorder
        Whose store answers.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def find(self, entity_id: str) -> Entity | None:
        """Return what is recorded under an id; of a task the value, if there is one."""
        lookup = self._recorder.lookup
        if is_hash(entity_id):
            for ask in (lookup.value_facts, lookup.call, lookup.tag, lookup.task):
                found: Entity | None = ask(entity_id)
                if found is not None:
                    return found
        return self._recorder.job(entity_id) or lookup.execution(entity_id)

    def record(self, entity: Entity) -> dict[str, Any]:
        """Return the record of an entity."""
        kind, fields = _MAKERS[type(entity)]
        return {"_version": RECORD_VERSION, "_type": kind, **fields(self, entity)}

    @staticmethod
    def rank(entity: Entity) -> int:
        """Return the place of an entity's type among the types."""
        return list(_MAKERS).index(type(entity))

    # records ---------------------------------------------------------------------------------------------

    def _execution(self, facts: ExecutionFacts) -> dict[str, Any]:
        return {"id": facts.execution_id, "args": facts.args, "job_id": facts.job_id}

    def _job(self, facts: JobFacts) -> dict[str, Any]:
        return {
            "id": facts.job_id,
            "start_time": _time_text(facts.start_us),
            "end_time": None if facts.end_us is None else _time_text(facts.end_us),
            "task_hash": facts.task_hash,
            "cached": facts.is_cached,
            "status": facts.status or "RUNNING",
            "call_hash": facts.call_hash,
            "parent_id": facts.parent_id,
            "children": self.child_jobs(facts.job_id),
            "execution_id": facts.execution_id,
        }

    def child_jobs(self, job_id: str) -> list[str]:
        """Return the jobs that a job called, by start."""
        lookup = self._recorder.lookup
        children = [child for each in lookup.child_jobs(job_id) if (child := lookup.job(each)) is not None]
        return [child.job_id for child in sorted(children, key=lambda child: child.start_us)]

    def _call(self, facts: CallFacts) -> dict[str, Any]:
        arguments = {}
        for each in facts.arguments:
            position, key, value_hash = each["position"], each["key"], each["value_hash"]
            arguments[str(position) if key is None else key] = {
                "arg_hash": hash_argument(facts.call_hash, position=position, key=key, value_hash=value_hash),
                "value_hash": value_hash,
                "upstream": sorted(each["upstreams"]),
            }
        return {
            "call_hash": facts.call_hash,
            "task_name": facts.task_name,
            "task_hash": facts.task_hash,
            "args_hash": facts.args_hash,
            "value_hash": facts.value_hash,
            "timestamp": _time_text(facts.at_us),
            "args": arguments,
            # One that left no record is in the event for its place and the call's hash alone.
            "children": [each for each in facts.children if self._recorder.has_failed(each) is not None],
        }

    def _value(self, facts: ValueFacts) -> dict[str, Any]:
        lookup = self._recorder.lookup
        try:
            stored = lookup.value(facts.value_hash)
        except NotFoundError:
            stored = None  # its bytes are gone from the value store; what is known of it is not
        subtype: dict[str, Any] | None = None
        if facts.file_path is not None:
            subtype = {"_type": "File", "path": facts.file_path}
        elif (task := lookup.task(facts.value_hash)) is not None:
            subtype = _task_subtype(task)
        return {
            "value_hash": facts.value_hash,
            "type": facts.type_name,
            "format": facts.format,
            "data": b64encode(stored.data).decode() if stored is not None else "",
            "subvalues": sorted(facts.subvalues),
            "subtype": subtype,
        }

    def _task(self, facts: TaskFacts) -> dict[str, Any]:
        return {
            "value_hash": facts.task_hash,
            "type": _TASK_TYPE,
            "format": PICKLE_FORMAT,
            "data": "",
            "subvalues": [],
            "subtype": _task_subtype(facts),
        }

    def _tag(self, facts: TagFacts) -> dict[str, Any]:
        return {
            "tag_hash": facts.tag_hash,
            "entity_type": facts.entity_type,
            "entity_id": facts.entity_id,
            "key": facts.key,
            "value": json.loads(facts.value),
            "parents": list(facts.parents),
        }

    # walking ---------------------------------------------------------------------------------------------

    def walk(
        self, root_ids: Iterable[str], owned: Callable[[str], list[str] | None] | None = None
    ) -> Iterator[str]:
        """Yield known ids breadth first, see `Backend.iter_record_ids`; `owned` stands in for the method."""
        ask = owned or self.owned
        seen = dict.fromkeys(root_ids)
        waiting = deque(seen)
        while waiting:
            entity_id = waiting.popleft()
            below = ask(entity_id)
            if below is None:
                continue
            yield entity_id
            for each in below:
                if each not in seen:
                    seen[each] = None
                    waiting.append(each)

    def owned(self, entity_id: str) -> list[str] | None:
        """Return the ids that an entity leads to, its tags last; None if it is unknown."""
        entity = self.find(entity_id)
        if entity is None:
            return None
        lookup = self._recorder.lookup
        below: list[str | None] = []
        if isinstance(entity, ExecutionFacts):
            below.append(entity.job_id)
        elif isinstance(entity, JobFacts):
            below += [entity.task_hash, entity.call_hash, *self.child_jobs(entity.job_id)]
        elif isinstance(entity, CallFacts):
            below += [entity.task_hash, entity.value_hash]
            for argument in entity.arguments:
                below += [argument["value_hash"], *argument["upstreams"]]
            below += entity.children
        elif isinstance(entity, ValueFacts):
            below += entity.subvalues
        elif isinstance(entity, TagFacts):
            below += [*entity.parents, *lookup.superseded_by(entity.tag_hash)]
        below += [tag.tag_hash for tag in lookup.tags_of(entity_id)]
        return [each for each in below if each is not None]


_MAKERS: dict[type[Any], tuple[str, Callable[[Records, Any], dict[str, Any]]]] = {
    ExecutionFacts: ("Execution", Records._execution),
    JobFacts: ("Job", Records._job),
    CallFacts: ("CallNode", Records._call),
    ValueFacts: ("Value", Records._value),
    TaskFacts: ("Value", Records._task),
    TagFacts: ("Tag", Records._tag),
}


def _task_subtype(task: TaskFacts) -> dict[str, Any]:
    return {"_type": "Task", "name": task.name, "namespace": task.namespace, "source": task.source}


def _time_text(at_us: int) -> str:
    return str(_EPOCH + dt.timedelta(microseconds=at_us))
