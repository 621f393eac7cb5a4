"""What happens to handles, as events: an advance from states to the next, a merge, a rollback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from eventstore.errors import InvalidEventError
from eventstore.events import Event, HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack
from eventstore.handle.handle import Handle

__all__ = ["Advance", "advance_handle", "merge_handles", "rollback_handle"]


@dataclass(frozen=True, slots=True)
class Advance:
    """An advance that is about to be recorded.

    Append the values of `handles`, then `events`; when they are stored, call `mark_recorded`.
    """

    handles: tuple[Handle, ...]
    """The states that the events speak of, each once."""
    events: tuple[Event, ...]
    """What to append, in this order."""

    def mark_recorded(self) -> None:
        """Note on the handles that the history has them, so that their forks are not looked up again."""
        for handle in self.handles:
            handle.__handle__.is_recorded = True


def advance_handle(
    parents: Iterable[Handle], child: Handle, *, knows: Callable[[str], bool] = lambda _: False
) -> Advance:
    """Say that `parents` led to `child`: all of them are valid from then on.

    The states that a parent was forked from are recorded, too, and with that valid, if the parent is not
    recorded yet; no edges lead from one to the next.

    Parameters
    ----------
    parents
        The states before; none only records `child`.
    knows
        Whether the history has a state with this hash: it is then not described again.
    """
    befores = list(parents)
    handles: dict[int, Handle] = {}
    events: dict[str, Event] = {}
    for parent in befores:
        if parent.__handle__.is_recorded:
            continue
        above = parent.__handle__.fork_parent
        while above is not None:
            handles[id(above)] = above
            events[above.hash] = _recorded(above)
            above = above.__handle__.fork_parent
    for handle in (child, *befores):
        handles[id(handle)] = handle
        if handle.hash not in events and not (befores and knows(handle.hash)):
            events[handle.hash] = _recorded(handle)
    hashes = tuple(dict.fromkeys(parent.hash for parent in befores))
    made: list[Event] = list(events.values())
    origin = child.__handle__.fork_parent
    if origin is not None and hashes == (origin.hash,):
        made.append(
            HandleForked(
                handle_hash=child.hash, handle_name=child.fullname, handle_key=child.key, parents=hashes
            )
        )
    elif hashes:
        made.append(HandleAdvanced(handle_hash=child.hash, handle_name=child.fullname, parents=hashes))
    return Advance(tuple(handles.values()), tuple(made))


def merge_handles(
    handles: Sequence[Handle], *, knows: Callable[[str], bool] = lambda _: False
) -> tuple[Handle, Advance]:
    """Make one state of several: the others lead to the first, which is returned.

    Raises
    ------
    InvalidEventError
        There is none (code ``no_handles``), or their names differ (``different_handles``).
    """
    if not handles:
        raise InvalidEventError(
            "handles to merge were expected, found none; give one or more", code="no_handles"
        )
    names = sorted({handle.__handle__.name for handle in handles})
    if len(names) > 1:
        raise InvalidEventError(
            f"states of one handle were expected, found those of {', '.join(names)}; merge each on its own",
            code="different_handles",
            names=tuple(names),
        )
    return handles[0], advance_handle(handles[1:], handles[0], knows=knows)


def rollback_handle(handle: Handle, *, reason: str | None = None) -> HandleRolledBack:
    """Say that what followed from `handle` is no longer true; of a state that is unknown nothing follows."""
    return HandleRolledBack(handle_hash=handle.hash, handle_name=handle.fullname, reason=reason)


def _recorded(handle: Handle) -> HandleRecorded:
    return HandleRecorded(
        handle_hash=handle.hash, handle_name=handle.fullname, handle_key=handle.key, value_hash=handle.hash
    )
