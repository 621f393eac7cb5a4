"""The arguments of one call: hashed as they were given, with defaults, and ready to be recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from eventstore.events import Argument
from eventstore.hashing import hash_arguments
from eventstore.value import Described
from eventstore.workflow.job import Job
from eventstore.workflow.recording import Batch, Recorder

__all__ = ["Arguments", "Defaults", "Given"]


class Given(NamedTuple):
    """One argument: by position or by key, and what is recorded of it."""

    position: int | None
    key: str | None
    value: Any
    described: Described


class Defaults:
    """The parameters of a function that have a default: looked up once, not with each call."""

    __slots__ = ("_parameters",)

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            parameters = ()  # type: ignore[assignment]
        self._parameters = [
            (place, parameter.name, parameter.default)
            for place, parameter in enumerate(parameters)
            if parameter.default is not parameter.empty
        ]

    def missing(self, count: int, keyword: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield name and default of what a call with `count` positional arguments does not give."""
        for place, name, default in self._parameters:
            if place >= count and name not in keyword:
                yield name, default


class Arguments:
    """The arguments of one call, described: positional ones, keywords in sorted order, then defaults.

    The hash is redun's, so ``f(1)`` and ``f(x=1)`` are two different calls.
    """

    __slots__ = ("given", "hash")

    def __init__(self, given: list[Given]) -> None:
        self.given = given
        self.hash = hash_arguments(
            [item.described.value_hash for item in given if item.key is None],
            {item.key: item.described.value_hash for item in given if item.key is not None},
        )

    @classmethod
    def of_call(
        cls,
        recorder: Recorder,
        name: str,
        positional: tuple[Any, ...],
        keyword: Mapping[str, Any],
        defaults: Defaults,
    ) -> Arguments:
        """Describe the arguments of a call of the task `name`.

        Raises
        ------
        InvalidEventError
            One cannot be pickled (``not_picklable``); the message says which.
        """
        given = [
            Given(place, None, value, recorder.describe(value, f"argument {place} of {name}"))
            for place, value in enumerate(positional)
        ]
        named = [(key, keyword[key]) for key in sorted(keyword)]
        named += defaults.missing(len(positional), keyword)
        for key, value in named:
            given.append(Given(None, key, value, recorder.describe(value, f"argument {key!r} of {name}")))
        return cls(given)

    def state(self, batch: Batch) -> None:
        """State the values of all arguments."""
        for item in self.given:
            batch.value(item.value, item.described)

    def records(self, job: Job | None) -> tuple[Argument, ...]:
        """Return the arguments as a call node has them; `job`, the caller, knows where they came from."""
        return tuple(
            Argument(
                position=item.position,
                key=item.key,
                value_hash=item.described.value_hash,
                upstreams=job.origins_of(item.value, item.described.value_hash) if job else (),
            )
            for item in self.given
        )
