"""`@task`: a plain function that is recorded, and answered from the cache, when it is called inside a run."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar, overload

from eventstore.errors import InvalidEventError
from eventstore.tags import Pairs, record_tags
from eventstore.value import Value, source_of
from eventstore.workflow.arguments import Defaults
from eventstore.workflow.call import Call, begin_call
from eventstore.workflow.context import current_job, enter, leave
from eventstore.workflow.identity import Identity, check_name
from eventstore.workflow.job import Job

__all__ = ["Task", "task"]

P = ParamSpec("P")
R = TypeVar("R")


class Task(Value, Generic[P, R]):
    """A function with an identity; made by `task`. Outside of a run, calling it calls the function.

    As an argument of another task it is named by its own hash, and stored as where to find it.

    Attributes
    ----------
    function
        The function itself: calling it records nothing.
    """

    type_name: ClassVar[str] = "eventstore.Task"

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        namespace: str = "",
        version: str | None = None,
        cache: bool | None = None,
        tags: Pairs = (),
    ) -> None:
        self.function = function
        functools.update_wrapper(self, function)
        self.__qualname__ = function.__qualname__
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidEventError(
                f"a function that returns its result was expected, found the generator {self.__qualname__}: "
                "return a list instead",
                code="generator_task",
                task=self.__qualname__,
            )
        self._name = name or function.__name__
        self._namespace = namespace
        self._version = version
        self._tags = tuple(tags.items() if isinstance(tags, Mapping) else tags)
        check_name(self._name, namespace)
        record_tags("Task", "", self._tags)  # bad tags are told here, not at the first call
        self._identity: Identity | None = None
        self._defaults = Defaults(function)
        self.is_async = inspect.iscoroutinefunction(function)
        if cache is None:
            # What a closure holds is in no hash, so another one would be taken for this one.
            cache = version is not None or not getattr(function, "__closure__", None)
        self.caches = cache
        try:
            # Read now: a file that is edited later is not what runs.
            self._source: str | None = source_of(function)
        except (OSError, TypeError):
            self._source = None

    def __repr__(self) -> str:
        return f"<task {self.fullname}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_find_task, (self.__module__, self.__qualname__, self.identity.hash))

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function; inside a run, record it and let the cache answer."""
        job = current_job()
        if job is None:
            return self.function(*args, **kwargs)
        if self.is_async:
            return self._evaluate_async(job, args, kwargs)  # type: ignore[return-value]
        return self._evaluate(job, args, kwargs)

    @property
    def fullname(self) -> str:
        """Name with namespace."""
        return f"{self._namespace}.{self._name}" if self._namespace else self._name

    @property
    def identity(self) -> Identity:
        """Name, source or version, and hash; raises InvalidEventError (code ``no_source``)."""
        if self._identity is None:
            self._identity = Identity.of_source(
                self._name, self._namespace, self._source, self._version, self._tags
            )
        return self._identity

    @property
    def own_hash(self) -> str:
        """The task's hash."""
        return self.identity.hash

    def _begin(self, parent: Job, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return begin_call(parent, self.identity, self._defaults, args, kwargs, caches=self.caches)

    def _evaluate(self, parent: Job, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        call = self._begin(parent, args, kwargs)
        if not isinstance(call, Call):
            return call.value  # type: ignore[no-any-return]
        token = enter(call.job)
        try:
            result = self.function(*call.positional, **call.keyword)
        except BaseException as error:
            leave(token)
            call.fail(error)
            raise
        leave(token)
        return self._finish(call, result)  # type: ignore[no-any-return]

    async def _evaluate_async(self, parent: Job, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = self._begin(parent, args, kwargs)
        if not isinstance(call, Call):
            return call.value
        token = enter(call.job)
        try:
            result = await self.function(*call.positional, **call.keyword)  # type: ignore[misc]
        except BaseException as error:
            leave(token)
            call.fail(error)
            raise
        leave(token)
        return self._finish(call, result)

    @staticmethod
    def _finish(call: Call, result: Any) -> Any:
        try:
            return call.finish(result)
        except InvalidEventError as error:
            call.fail(error)
            raise


def _find_task(module: str, qualname: str, task_hash: str) -> Any:
    """Return the task that was pickled; raises LookupError where it is gone or reads otherwise by now."""
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, Task) or found.identity.hash != task_hash:
        raise LookupError(f"{module}.{qualname} is not the task that was recorded")
    return found


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    namespace: str = "",
    version: str | None = None,
    cache: bool | None = None,
    tags: Pairs = (),
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function, plain or ``async``, a task: recorded and cached when it is called inside a run.

    Parameters
    ----------
    name
        What it is called; None takes the function's name.
    namespace
        Put before the name with a dot.
    version
        Stands for the source in the task's hash: change it when results change. None hashes the source.
        What the function calls is in neither: make it a task too, or give a version.
    cache
        Whether results are kept and used again; None means yes, but not for a function that closes over
        variables and has no version. A call that called other tasks, or made jobs, is never kept: it
        runs again, and what it calls is answered from the cache.
    tags
        Put on the task: a mapping, or pairs.

    Raises
    ------
    InvalidEventError
        The name is no identifier (``bad_task_name``; a lambda needs ``name``), the function is a generator
        (``generator_task``), or a tag is bad (``bad_tag_key``, ``bad_tag_value``).
    """
    if function is None:
        return lambda decorated: Task(decorated, **options)
    return Task(function, **options)
