"""Hashes of redun's task expressions: a workflow's every call is one, and redun takes longer over them."""

from __future__ import annotations

from typing import Any

from redun.expression import TaskExpression
from redun.utils import pickle_dumps
from redun.value import ProxyValue, get_type_registry

from eventstore.hashing import hash_arguments, hash_bytes, hash_struct, hash_tagged_bytes

__all__ = ["hash_of_expression"]

_NO_OPTIONS = hash_bytes(pickle_dumps({}))


def hash_of_expression(expression: TaskExpression[Any]) -> str:
    """Return what ``expression.get_hash()`` does, and leave it there for redun, which would make it again.

    The formula is ``H(["TaskExpression", task name, arguments hash, raw digest of pickled options])``. With
    options to export there is more to it, and redun is asked.
    """
    if expression._hash is None and not expression._export_options:
        options = expression._options
        expression._hash = hash_struct(
            [
                "TaskExpression",
                expression.task_name,
                hash_arguments(
                    [_hash_of(each) for each in expression.args],
                    {name: _hash_of(each) for name, each in expression.kwargs.items()},
                ),
                hash_bytes(pickle_dumps(options)) if options else _NO_OPTIONS,
            ]
        )
    return expression.get_hash()


def _hash_of(value: Any) -> str:
    # The registry says who speaks for a value: a user may have put a class of their own there, even for text.
    speaker = get_type_registry().get_value(value)
    if speaker.__class__ is ProxyValue:
        return hash_tagged_bytes("Value", speaker.serialize())
    if speaker.__class__ is TaskExpression:
        return hash_of_expression(speaker)
    found: str = speaker.get_hash()
    return found
