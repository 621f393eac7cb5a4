"""`Handle`: one state of a named thing, and who is asked whether it is valid."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from eventstore.errors import InvalidEventError
from eventstore.hashing import hash_struct
from eventstore.pickling import stores_as
from eventstore.value import Value, default_types

__all__ = ["Handle", "HandleAnswers", "HandleInfo", "handles_answered_by"]


class HandleAnswers(Protocol):
    """Whoever knows the events of a store well enough to say which states are valid."""

    def is_valid_handle(self, handle_hash: str) -> bool:
        """Whether the state is recorded, and not rolled back since it was last mentioned."""


_answers: ContextVar[HandleAnswers | None] = ContextVar("eventstore_handle_answers", default=None)


@contextmanager
def handles_answered_by(answers: HandleAnswers) -> Iterator[None]:
    """Let `answers` say which handles are valid, in this block of this thread or asyncio task."""
    token = _answers.set(answers)
    try:
        yield
    finally:
        _answers.reset(token)


@dataclass(slots=True, kw_only=True)
class HandleInfo:
    """What tells one state from all others, as ``handle.__handle__``."""

    name: str
    """Name of the thing, without namespace."""
    namespace: str = ""
    """Put before the name with a dot, unless it is empty."""
    args: tuple[Any, ...] = ()
    """Positional arguments that the first state was made with."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments that the first state was made with."""
    class_name: str
    """Type name of its class when it was made."""
    call_hash: str = ""
    """Eval hash of the call, or hash of the state it was forked from; empty for a first state."""
    key: str = ""
    """What tells a fork from its siblings; else empty."""
    hash: str = ""
    """The state's hash; computed unless given."""
    parent: Handle | None = None
    """The state before, in this process; None for a first state and one that was read back."""
    forked: bool = False
    """Whether it was forked from `parent`, rather than reached by a call."""
    is_recorded: bool = False
    """Whether a history is known to have it. A state that was read back came from one."""

    def __post_init__(self) -> None:
        self.hash = self.hash or self._computed_hash()

    @property
    def fullname(self) -> str:
        """Name with namespace: what all states of one thing share."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def fork_parent(self) -> Handle | None:
        """The state it was forked from, in this process."""
        return self.parent if self.forked else None

    def stored(self) -> dict[str, Any]:
        """Return what is pickled."""
        names = ("name", "namespace", "args", "kwargs", "class_name", "call_hash", "key", "hash")
        return {name: getattr(self, name) for name in names}

    def _computed_hash(self) -> str:
        if self.call_hash:
            return hash_struct(["Handle", self.fullname, "call_hash", self.key, self.call_hash])
        positional = [default_types.hash(value) for value in self.args]
        keyword = {name: default_types.hash(value) for name, value in self.kwargs.items()}
        return hash_struct(["Handle", self.fullname, "init", self.key, positional, keyword])


_FACTS = ("args", "call_hash", "kwargs", "name", "namespace")
"""Read from `HandleInfo` where neither the subclass nor its instance has such an attribute."""


@stores_as("redun.handle.Handle")
class Handle(Value):
    """One state of a named thing.

    A subclass may open the thing in its own ``__init__``, which is called with the same arguments, also when
    a state is read back: what it keeps as ``self.instance`` answers for all attributes that the handle itself
    lacks. The names `fullname`, `hash`, `key`, `parent` and `forked` are taken.

    Parameters
    ----------
    name
        Its name; with `namespace` it tells all states of one thing from those of another.
    args, kwargs
        What the thing is opened with; they enter the hash of the first state.
    namespace
        Put before the name with a dot; None takes the variable ``redun_namespace`` of the module that defines
        the class, if there is one.

    Raises
    ------
    InvalidEventError
        The name is missing, empty or no text (``bad_handle_name``).
    """

    type_name: ClassVar[str] = "redun.Handle"
    __handle__: HandleInfo

    def __new__(  # noqa: D102 - documented on the class
        cls, name: str | None = None, *args: Any, namespace: str | None = None, **kwargs: Any
    ) -> Self:
        handle = super().__new__(cls)
        if name is not None:  # unpickling gives none: the state comes later
            if namespace is None:
                namespace = getattr(sys.modules.get(cls.__module__), "redun_namespace", None) or ""
            handle.__dict__["__handle__"] = HandleInfo(
                name=_checked(name),
                namespace=namespace,
                args=args,
                kwargs=kwargs,
                class_name=cls.type_name,
            )
        return handle

    def __init__(self, name: str | None = None, *_args: Any, **_kwargs: Any) -> None:
        _checked(name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fullname!r}, hash={self.hash[:8]})"

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "__handle__":
            raise _bad_name(None)  # a subclass let itself be made without one
        # Special methods are the handle's own: else a deep copy would be one of the instance.
        if not (attribute.startswith("__") and attribute.endswith("__")):
            instance = self.__dict__.get("instance")
            if instance is not None and (attribute not in _FACTS or hasattr(instance, attribute)):
                return getattr(instance, attribute)
            if attribute in _FACTS:
                return getattr(self.__handle__, attribute)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")

    def __getstate__(self) -> dict[str, Any]:
        return self.__handle__.stored()

    def __setstate__(self, state: dict[str, Any]) -> None:
        known = {**state, "namespace": state["namespace"] or ""}
        self.__dict__["__handle__"] = HandleInfo(**known, is_recorded=True)
        type(self).__init__(self, state["name"], *state["args"], **state["kwargs"])

    # what it is ------------------------------------------------------------------------------------------

    @property
    def fullname(self) -> str:
        """Name with namespace."""
        return self.__handle__.fullname

    @property
    def hash(self) -> str:
        """The state's hash."""
        return self.__handle__.hash

    @property
    def key(self) -> str:
        """What tells a fork from its siblings; else empty."""
        return self.__handle__.key

    @property
    def parent(self) -> Self | None:
        """The state before, in this process."""
        return self.__handle__.parent  # type: ignore[return-value]  # states of one thing share their class

    @property
    def forked(self) -> bool:
        """Whether it was forked from `parent`, rather than reached by a call."""
        return self.__handle__.forked

    @property
    def own_hash(self) -> str:
        """The state's hash, which is the value's id."""
        return self.hash

    def is_valid(self, answers: HandleAnswers | None = None) -> bool:
        """Whether its class is still called as when it was stored, and its state is valid.

        Parameters
        ----------
        answers
            Whom to ask; None asks whom `handles_answered_by` named. Without either nobody knows of rollbacks,
            so the answer is False: to make the state anew is always right.
        """
        answers = answers or _answers.get()
        if answers is None or self.__handle__.class_name != self.type_name:
            return False
        return answers.is_valid_handle(self.hash)

    # what follows from it --------------------------------------------------------------------------------

    def fork(self, key: str) -> Self:
        """Return a state for one branch of the work; `key` tells it from its siblings."""
        return self._next(call_hash=self.hash, key=key, forked=True)

    def apply_call(self, call_hash: str) -> Self:
        """Return the state that a call, named by its eval hash, led to."""
        return self._next(call_hash=call_hash, key="", forked=False)

    def preprocess(self, call: Mapping[str, Any]) -> Self:
        """Return the fork that a task is handed; ``call["call_order"]`` counts the uses in the parent job."""
        return self.fork(self.key or str(call["call_order"]))

    def postprocess(self, call: Mapping[str, Any]) -> Self:
        """Return the state that a task returned; ``call["pre_call_hash"]`` is the call's eval hash."""
        return self.apply_call(call["pre_call_hash"])

    def _next(self, *, call_hash: str, key: str, forked: bool) -> Self:
        now = self.__handle__
        state = Value.__new__(type(self))
        # The subclass's own attributes go along, and the instance with them: it is still open.
        state.__dict__.update(self.__dict__)
        state.__dict__["__handle__"] = HandleInfo(
            name=now.name,
            namespace=now.namespace,
            args=now.args,
            kwargs=now.kwargs,
            class_name=type(self).type_name,
            call_hash=call_hash,
            key=key,
            parent=self,
            forked=forked,
        )
        return state


def _checked(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise _bad_name(name)
    return name


def _bad_name(name: Any) -> InvalidEventError:
    return InvalidEventError(
        f"the name of a handle was expected, found {name!r}; give it a text as its first argument",
        code="bad_handle_name",
    )
