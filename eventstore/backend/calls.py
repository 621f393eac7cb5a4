"""Evaluations and call nodes: what came out of a call, and of what it was made."""

from __future__ import annotations

import datetime as dt
from typing import Any

from eventstore.backend.descriptions import CallArgument, CallNode
from eventstore.backend.recorder import Batch, Recorder
from eventstore.backend.stated import call_argument, call_node_recorded, evaluation_cached
from eventstore.backend.tagging import Tagging
from eventstore.events import Argument, CallContextRecorded, EntityType
from eventstore.hashing import hash_call
from eventstore.tags import CONTEXT_KEY

__all__ = ["Calls"]


class Calls:
    """Records evaluations and calls.

    Parameters
    ----------
    recorder
        Where events go.
    tagging
        What puts tags on calls.
    """

    def __init__(self, recorder: Recorder, tagging: Tagging) -> None:
        self._recorder = recorder
        self._tagging = tagging

    def evaluation(
        self, eval_hash: str, task_hash: str, args_hash: str, value: Any, value_hash: str | None
    ) -> None:
        """Put a result into the evaluation cache; see `Backend.set_evaluation`."""
        batch = self._recorder.batch()
        if value_hash is None:
            value_hash = batch.value(value)
        else:
            self._recorder.check_value(value_hash)
        batch.add(evaluation_cached(eval_hash, task_hash, args_hash, value_hash))
        batch.append()

    def node(self, call: CallNode, now: dt.datetime) -> str:
        """Record a call; see `Backend.record_call_node`."""
        recorder = self._recorder
        call_hash = hash_call(call.task_hash, call.args_hash, call.result_hash, call.children)
        # Of what the cache was just asked for in vain, the history has no call: nothing to look up.
        unseen = call.task_hash + call.args_hash
        is_new = recorder.known.unseen.get(unseen) is not None
        if (recorder.known.calls.get(call_hash) if is_new else recorder.has_failed(call_hash)) is not None:
            return call_hash
        recorder.check_value(call.result_hash)
        batch = recorder.batch()
        arguments = tuple([_argument(batch, each, is_new) for each in call.arguments])
        children = tuple(call.children)
        if any(recorder.has_failed(each) is None for each in children):
            for task in call.subtree_tasks:
                batch.task(task)
        batch.add(
            call_node_recorded(
                call_hash,
                call.task_hash,
                call.task_name,
                call.args_hash,
                call.result_hash,
                now,
                children=children,
                arguments=arguments,
                subtree_tasks=tuple(sorted({task.task_hash for task in call.subtree_tasks})),
            )
        )
        batch.note(recorder.known.calls, call_hash, bool(recorder.is_error(call.result_hash)))
        batch.append()
        recorder.known.unseen.forget(unseen)
        return call_hash

    def subtree_tasks(self, call_hash: str) -> frozenset[str]:
        """Return the tasks at and below a call."""
        call = self._recorder.lookup.call(call_hash)
        return frozenset(call.subtree_tasks) if call is not None else frozenset()

    def context(self, call_hash: str, context_hash: str | None, context: Any) -> str:
        """Record that a call was made under a context; see `Backend.record_call_context`."""
        batch = self._recorder.batch()
        value_hash = batch.value(context)
        context_hash = context_hash or value_hash
        stated = len(batch.events)
        self._tagging.add(batch, EntityType.CALL_NODE, call_hash, [(CONTEXT_KEY, context_hash)])
        if len(batch.events) > stated:  # or it was said before
            batch.add(
                CallContextRecorded(call_hash=call_hash, context_hash=context_hash, value_hash=value_hash)
            )
        batch.append()
        return context_hash


def _argument(batch: Batch, given: CallArgument, is_new: bool) -> Argument:
    position, key, value, upstreams = given
    unique = tuple(dict.fromkeys(upstreams)) if upstreams else ()
    return call_argument(position, key, batch.value(value, asks=not is_new), unique)
