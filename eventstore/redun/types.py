"""`RedunTypes`: redun's own type registry, as a backend asks for types. What redun hashes stays its business.

With redun's setting `value_store_path`, the bytes of larger values lie in redun's value store, once, and the
event holds where: its media type then ends with `IN_VALUE_STORE`, and its bytes are the path below the root.
"""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

from redun.backends.db import RedunDatabaseError
from redun.expression import TaskExpression
from redun.file import File
from redun.task import Task
from redun.value import InvalidValueError, ProxyValue, TypeRegistry, get_type_registry

from eventstore.backend import TaskDescription
from eventstore.errors import NotFoundError, StateError
from eventstore.hashing import hash_struct, hash_tagged_bytes
from eventstore.pickling import PICKLE_FORMAT
from eventstore.redun.expressions import hash_of_expression
from eventstore.value import Described, is_plain
from eventstore.value_store import RedunValueStore

__all__ = ["IN_VALUE_STORE", "RedunTypes", "describe_task", "value_store_path"]

IN_VALUE_STORE = "; in=redun-value-store"
"""End of the media type of a value whose bytes lie in redun's value store."""
is_hash = re.compile("[0-9a-f]{40}").fullmatch
_PLAIN = {f"builtins.{each.__name__}": each for each in (bytes, complex, dict, float, int, list, str, tuple)}
"""Types that redun has no class of its own for, by name."""
_MOST_PUT = 50_000
"""So many hashes of values that are in the value store are remembered."""


def describe_task(task: Any) -> TaskDescription:
    """Return what is recorded of a task of redun; the task itself is the value."""
    return TaskDescription(task.hash, task.name, task.namespace or "", task.source, task.version, task)


def value_store_path(value_hash: str) -> str:
    """Return where redun's value store has a value, below its root."""
    return f"{value_hash[:2]}/{value_hash[2:]}"


class RedunTypes:
    """Speaks for values of redun, by the registry that redun's scheduler uses; a `Types` of the backend.

    Parameters
    ----------
    registry
        None means redun's global one.
    max_value_size
        Most bytes of a value.
    value_store
        Where larger values go; None keeps all of them in the event store.
    value_store_min_size
        From this size on, counted as Python counts the size of a bytes object: 33 more than its length.
    """

    def __init__(
        self,
        registry: TypeRegistry | None = None,
        *,
        max_value_size: int,
        value_store: RedunValueStore | None = None,
        value_store_min_size: int = 1024,
    ) -> None:
        self._registry = registry or get_type_registry()
        self._max_value_size = max_value_size
        self._value_store = value_store
        self._value_store_min_size = value_store_min_size
        self._put: dict[str, None] = {}

    def describe(self, value: Any, *, data: bytes | None = None) -> Described:
        """Return hash, type name, media type, bytes and path of `value`; see `Types.describe`.

        Raises
        ------
        redun.backends.db.RedunDatabaseError
            The value has more than `max_value_size` bytes.
        """
        speaker = self._registry.get_value(value)
        if data is None:
            data = speaker.serialize()
        if len(data) > self._max_value_size:
            raise too_large(type(value).__name__, len(data), self._max_value_size)
        if speaker.__class__ is ProxyValue:
            # Most values are plain: what redun would come to, in a third of the time.
            kind = value.__class__
            type_name, path = f"{kind.__module__}.{kind.__name__}", None
            value_hash, media_type = hash_tagged_bytes("Value", data), PICKLE_FORMAT
        elif speaker.__class__ is TaskExpression:
            type_name, path = str(speaker.type_name), None
            value_hash, media_type = hash_of_expression(speaker), PICKLE_FORMAT
        else:
            type_name, path = str(speaker.type_name), value.path if isinstance(value, File) else None
            value_hash, media_type = _proper(speaker.get_hash(data=data)), speaker.get_serialization_format()
        if self._value_store is not None and sys.getsizeof(data) >= self._value_store_min_size:
            self._keep(self._value_store, value_hash, data)
            media_type += IN_VALUE_STORE
            data = value_store_path(value_hash).encode()
        return Described(value_hash, type_name, media_type, data, path)

    def load(self, type_name: str, data: bytes, media_type: str) -> Any:
        """Return the value of these bytes; see `Types.load`.

        Raises
        ------
        NotFoundError
            The module or the file that the value needs is gone (code ``type_gone``), or its bytes are not
            in the value store (``value_missing``).
        StateError
            The bytes lie in redun's value store, and none is configured (``no_value_store``).
        """
        if media_type.endswith(IN_VALUE_STORE):
            data = self.bytes_of(data)
        try:
            plain = _PLAIN.get(type_name)
            if plain is not None:
                # What the registry would do, without importing the module of builtins each time.
                speaker: Any = self._registry.get_type(plain)
                return speaker.deserialize(plain, data)
            return self._registry.deserialize(type_name, data)
        except (InvalidValueError, ModuleNotFoundError) as error:
            raise NotFoundError(
                f"what a {type_name} needs was expected, found that it is gone ({error}); restore its module "
                "or file, or let the task run again",
                code="type_gone",
                type_name=type_name,
            ) from error

    def bytes_of(self, path: bytes) -> bytes:
        """Return the bytes of a value of which the event store has the path in redun's value store."""
        where = path.decode("ascii", "replace")
        if self._value_store is None:
            raise StateError(
                f"the value {where!r} lies in redun's value store, and none was found in the configuration; "
                "set value_store_path in [backend] to where it was when the value was recorded",
                code="no_value_store",
                path=where,
            )
        return self._value_store.get(where.replace("/", ""))

    def whole_record(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record with the bytes that lie in redun's value store, which another store may not see.

        Where their file is gone, there are none. StateError (``no_value_store``) as in `bytes_of`.
        """
        media_type = record.get("format")
        if media_type is None or not media_type.endswith(IN_VALUE_STORE):
            return record
        try:
            data = self.bytes_of(b64decode(record["data"]))
        except NotFoundError:
            data = b""
        plain = media_type.removesuffix(IN_VALUE_STORE)
        return {**record, "format": plain, "data": b64encode(data).decode()}

    def iter_subvalues(self, value: Any) -> Iterator[Any]:
        """Yield the values inside `value`, with those inside them."""
        speaker = self._registry.get_value(value)
        if speaker.__class__ is ProxyValue and is_plain(value):
            return iter(())
        found: Iterator[Any] = speaker.iter_subvalues()
        return found

    def task_of(self, value: Any) -> TaskDescription | None:
        """Return what is known of `value` if it is a task; else None."""
        return describe_task(value) if isinstance(value, Task) else None

    def _keep(self, store: RedunValueStore, value_hash: str, data: bytes) -> None:
        if value_hash in self._put:
            return
        store.put(value_hash, data)
        self._put[value_hash] = None
        if len(self._put) > _MOST_PUT:
            del self._put[next(iter(self._put))]


def too_large(type_name: str, size_bytes: int, limit: int) -> Exception:
    """Return redun's own error for a value of too many bytes."""
    error: Exception = RedunDatabaseError(
        f"a value of at most {limit:,} bytes was expected, found a {type_name} of {size_bytes:,}; raise "
        "`max_value_size` in [backend], and consider a value store (`value_store_path`). Nothing was recorded"
    )
    return error


def _proper(value_hash: str) -> str:
    """Return a value's hash; in place of a text that is none, as a class of a user's may give, one of it."""
    return value_hash if is_hash(value_hash) else hash_struct(["redun.Value", value_hash])
