"""Arguments of a call of redun as the backend records them, with the calls whose results went into each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redun.expression import Expression, SchedulerExpression, TaskExpression
from redun.utils import iter_nested_value

from eventstore.backend import CallArgument
from eventstore.value import is_plain

__all__ = ["call_arguments", "upstream_calls"]


def call_arguments(
    given: tuple[Sequence[Any], Mapping[str, Any]], evaluated: tuple[Sequence[Any], Mapping[str, Any]]
) -> list[CallArgument]:
    """Return the arguments of a call: positional ones, then keywords by name, then defaults.

    Parameters
    ----------
    given
        Positional and keyword arguments as the call was written: perhaps expressions.
    evaluated
        The same, computed, and with the defaults among the keywords.
    """
    positions, keywords = evaluated
    written_positions, written_keywords = given
    pairs = zip(written_positions, positions, strict=False)
    arguments = [
        CallArgument(place, None, value, upstream_calls(written))
        for place, (written, value) in enumerate(pairs)
    ]
    if keywords:
        named = sorted(key for key in keywords if key in written_keywords)
        arguments += [
            CallArgument(None, key, keywords[key], upstream_calls(written_keywords[key])) for key in named
        ]
        arguments += [
            CallArgument(None, key, value, upstream_calls(value))
            for key, value in keywords.items()
            if key not in written_keywords
        ]
    return arguments


def upstream_calls(written: Any) -> Sequence[str]:
    """Return the calls whose results an argument was made of, by what it was before it was computed."""
    if is_plain(written):
        return ()
    return tuple(dict.fromkeys(_iter_upstream_calls(written)))


def _iter_upstream_calls(written: Any) -> Iterator[str]:
    waiting = [written]
    while waiting:
        for each in iter_nested_value(waiting.pop()):
            if isinstance(each, TaskExpression) and not isinstance(each, SchedulerExpression):
                if each.call_hash:  # one that was not evaluated has none
                    yield each.call_hash
            elif isinstance(each, Expression):
                waiting.append(each._upstreams)
