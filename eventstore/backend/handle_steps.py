"""Handles: an advance from states to the next, with the values that they are, and a rollback."""

from __future__ import annotations

from collections.abc import Sequence

from eventstore.backend.descriptions import HandleState
from eventstore.backend.recorder import Batch, Recorder
from eventstore.events import HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack

__all__ = ["HandleSteps"]


class HandleSteps:
    """Records what happens to handles.

    Parameters
    ----------
    recorder
        Where events go.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def advance(self, parents: Sequence[HandleState], child: HandleState) -> list[HandleState]:
        """Record that `parents` led to `child`; see `Backend.advance_handle`."""
        batch = self._recorder.batch()
        states: dict[str, HandleState] = {}
        for parent in parents:
            above = None if parent.is_recorded else parent.fork_parent
            while above is not None:
                if above.handle_hash not in states:
                    states[above.handle_hash] = above
                    self._state(batch, above)
                above = above.fork_parent
        for state in (*parents, child):
            if state.handle_hash in states:
                continue
            states[state.handle_hash] = state
            # The step below makes all valid that it names: only what is unknown is described.
            if not parents or self._recorder.lookup.handle(state.handle_hash) is None:
                self._state(batch, state)
        before = tuple(dict.fromkeys(parent.handle_hash for parent in parents))
        origin = child.fork_parent
        if origin is not None and before == (origin.handle_hash,):
            batch.add(
                HandleForked(
                    handle_hash=child.handle_hash,
                    handle_name=child.name,
                    handle_key=child.key,
                    parents=before,
                )
            )
        elif before:
            batch.add(HandleAdvanced(handle_hash=child.handle_hash, handle_name=child.name, parents=before))
        batch.append()
        return list(states.values())

    def roll_back(self, handle: HandleState) -> None:
        """Record that what followed from a state is no longer true; nothing follows from an unknown one."""
        if self._recorder.lookup.handle(handle.handle_hash) is None:
            return
        batch = self._recorder.batch()
        batch.add(HandleRolledBack(handle_hash=handle.handle_hash, handle_name=handle.name))
        batch.append()

    @staticmethod
    def _state(batch: Batch, state: HandleState) -> None:
        value_hash = batch.value(state.value)
        batch.add(
            HandleRecorded(
                handle_hash=state.handle_hash,
                handle_name=state.name,
                handle_key=state.key,
                value_hash=value_hash,
            )
        )
