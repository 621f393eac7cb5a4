"""Values that cannot be recorded soundly: errors and warnings that name the part which is to blame.

Looking for that part pickles the members of a value one by one, so it is done only once something is wrong,
and stops after `_MOST_PARTS` of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from eventstore.errors import InvalidEventError
from eventstore.pickling import PICKLE_PROTOCOL, dump_pickle

__all__ = ["UnstableValueWarning", "UnstorableValueError", "find_unstable", "not_picklable"]

_MOST_PARTS = 10_000
_NUMBERS = (bool, int, float, complex)


class UnstorableValueError(TypeError):
    """A value of a kind that has no stable hash or form. Recording makes an InvalidEventError of it.

    Parameters
    ----------
    message
        What was expected, what was found, and the next step.
    code
        Stable: ``unsortable_set``, ``local_function``, ``no_function_source``, ``unstorable_table``,
        ``unstorable_array``.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (str(self), self.code))


def _rebuild(message: str, code: str) -> UnstorableValueError:
    return UnstorableValueError(message, code=code)


class UnstableValueWarning(UserWarning):
    """A value pickles differently each time or in each process, so a cache will not find it again."""


def not_picklable(what: str, value: Any, error: BaseException) -> InvalidEventError:
    """Return the error (code ``not_picklable``) that says which part of a call cannot be recorded, and why.

    Its fact ``reason`` is the code of an `UnstorableValueError`, or ``pickle``; ``part`` is the path to the
    innermost part of `value` that does not pickle.
    """
    reason = error.code if isinstance(error, UnstorableValueError) else "pickle"
    part = _deepest(value, lambda item: _pickles(item) is None) if reason == "pickle" else ""
    return InvalidEventError(
        f"{what} was expected to be something that can be pickled, found {type(value).__name__}: "
        f"{type(error).__name__}: {error}{f' (at {part})' if part else ''}. Give plain data, a File, or an "
        "object whose class is defined at the top of a module; nothing was stored",
        code="not_picklable",
        what=what,
        type_name=type(value).__name__,
        reason=reason,
        part=part,
    )


def find_unstable(value: Any) -> str | None:
    """Say which part of `value` pickles differently each time, or in each process; None if none was found.

    The second is told by what it is: a set, below the top, of other things than numbers, whose order depends
    on the seed that each process has for the hashes of text.
    """
    first = _pickles(value)
    if first is not None and first != _pickles(value):
        part = _deepest(value, lambda item: (data := _pickles(item)) is not None and data != _pickles(item))
        return f"value{part} pickles differently each time"
    for path, item in _walk(value):
        if isinstance(item, (set, frozenset)) and (path or not isinstance(item, set)) and _is_seeded(item):
            return f"value{path} is a {type(item).__name__} whose order differs between processes"
    return None


def _is_seeded(members: set[Any] | frozenset[Any]) -> bool:
    return len(members) > 1 and not all(isinstance(member, _NUMBERS) for member in members)


def _pickles(value: Any) -> bytes | None:
    try:
        return dump_pickle(value)
    except Exception:  # pickling runs the user's own code
        return None


def _deepest(value: Any, to_blame: Callable[[Any], bool]) -> str:
    """Return the path to the innermost part that `to_blame` holds for; it holds for `value`."""
    path, left = "", _MOST_PARTS
    seen = {id(value)}
    while True:
        for step, item in _parts(value):
            left -= 1
            if left < 0:
                return path
            if id(item) not in seen and to_blame(item):
                seen.add(id(item))
                path, value = path + step, item
                break
        else:
            return path


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    stack, seen = [("", value)], {id(value)}
    while stack and len(seen) < _MOST_PARTS:
        path, item = stack.pop()
        yield path, item
        for step, part in _parts(item):
            if id(part) not in seen:
                seen.add(id(part))
                stack.append((path + step, part))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what `value` consists of, as pickling takes it apart, each with the step that leads to it."""
    if value is None or isinstance(value, (str, bytes, bytearray, type, FunctionType, *_NUMBERS)):
        return
    kind = type(value)
    if kind is dict:
        for key, item in list(value.items()):
            yield f" key {_short(key)}", key
            yield f"[{_short(key)}]", item
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from ((f".{name}", item) for name, item in zip(value._fields, value, strict=False))
    elif kind is list or kind is tuple:
        yield from ((f"[{place}]", item) for place, item in enumerate(value))
    elif kind is set or kind is frozenset:
        yield from ((f"{{{_short(item)}}}", item) for item in list(value))
    else:
        yield from _state(value)


def _state(value: Any) -> Iterator[tuple[str, Any]]:
    # Never through __dict__: merely looking at that of an exception changes how the exception pickles.
    try:
        reduced = value.__reduce_ex__(PICKLE_PROTOCOL)
    except Exception:  # the user's own code
        return
    if not isinstance(reduced, tuple):
        return
    _, arguments, *more = reduced
    yield from ((f" argument {place}", item) for place, item in enumerate(arguments))
    states, items, pairs = (*more, None, None, None)[:3]
    for state in states if isinstance(states, tuple) else (states,):
        if isinstance(state, dict):
            yield from ((f".{name}", item) for name, item in list(state.items()))
        elif state is not None:
            yield " state", state
    yield from ((f"[{place}]", item) for place, item in enumerate(items or ()))
    yield from ((f"[{_short(key)}]", item) for key, item in pairs or ())


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a repr is the user's own code
        text = type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."
