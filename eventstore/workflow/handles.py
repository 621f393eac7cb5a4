"""Handles in a run: stating how a state came about, back to the last one that the history knows."""

from __future__ import annotations

from eventstore.events import HandleAdvanced, HandleForked, HandleRecorded
from eventstore.handle import Handle
from eventstore.workflow.recording import Batch, Recorder

__all__ = ["state_handle"]


def state_handle(batch: Batch, recorder: Recorder, handle: Handle) -> None:
    """State `handle`, and before it the states that led to it and were not stated yet, oldest first.

    `handle` itself is stated again even if it is known: a rollback may have made it invalid since, here or
    in another process, and being reached again makes it valid.
    """
    chain: list[Handle] = []
    state: Handle | None = handle
    fresh = batch.first(f"handle {handle.hash}")
    while state is not None and fresh:
        chain.append(state)
        state = state.parent
        fresh = state is not None and batch.once(f"handle {state.hash}")
    for state in reversed(chain):
        described = recorder.describe(state, f"the handle {state.fullname}")
        batch.value(state, described)
        if state.parent is None:
            batch.add(
                HandleRecorded(
                    handle_hash=state.hash,
                    handle_name=state.fullname,
                    handle_key=state.key,
                    value_hash=described.value_hash,
                )
            )
        elif state.forked:
            batch.add(
                HandleForked(
                    handle_hash=state.hash,
                    handle_name=state.fullname,
                    handle_key=state.key,
                    parents=(state.parent.hash,),
                )
            )
        else:
            batch.add(
                HandleAdvanced(
                    handle_hash=state.hash, handle_name=state.fullname, parents=(state.parent.hash,)
                )
            )
