"""`TableReader`: what redun's commands and queries ask of a backend beyond the contract: tables in SQL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from redun.backends.db import RedunBackendDb
from redun.value import TypeRegistry

from eventstore.errors import NotFoundError, StateError
from eventstore.redun.opening import OpenStore
from eventstore.redun.types import IN_VALUE_STORE

__all__ = ["TableReader"]


class TableReader:
    """A backend's reading side in SQL: a mirror of its log, made when it is first asked for."""

    type_registry: TypeRegistry
    _opening: threading.RLock
    _mirror: Any = None

    def _loaded(self) -> OpenStore:
        raise NotImplementedError

    @property
    def session(self) -> Any:
        """A session of SQLAlchemy on redun's own tables, made of the log; each query is up to date.

        It refuses to write: what is to be recorded goes through the backend's methods.
        """
        return self._mirrored().session

    @property
    def engine(self) -> Any:
        """SQLAlchemy's engine on the same tables."""
        return self._mirrored().engine

    @contextlib.contextmanager
    def with_session(self) -> Iterator[Any]:
        """Hold the session alone, as redun's own backend lets one."""
        with self._opening:
            yield self.session

    def get_child_record_ids(self, model_ids: Iterable[tuple[Any, str]]) -> Iterable[tuple[str, Any, str]]:
        """Yield name, model and id of what each row owns, as redun walks its tables."""
        edges: Iterable[tuple[str, Any, str]] = RedunBackendDb.get_child_record_ids(self, model_ids)
        return edges

    def _mirrored(self) -> Any:
        from eventstore.redun.mirror import SqlMirror  # only tools need it, and it takes a moment

        with self._opening:
            if self._mirror is None:
                self._mirror = SqlMirror(self._loaded().log.store, types=self.type_registry, backend=self)
            return self._mirror

    # redun's rows call back for their values by these names ----------------------------------------------

    def _get_value_data(self, value_row: Any) -> tuple[bytes, bool]:
        data, is_there = self._mirrored().values._get_value_data(value_row)
        if is_there and value_row.format.endswith(IN_VALUE_STORE):
            try:
                data = self._loaded().types.bytes_of(data)
            except (NotFoundError, StateError):
                return b"", False
        return data, is_there

    def _get_value_size(self, value_row: Any) -> int:
        if value_row.format.endswith(IN_VALUE_STORE):
            data, is_there = self._get_value_data(value_row)
            return len(data) if is_there else -1
        size: int = self._mirrored().values._get_value_size(value_row)
        return size

    def _get_value(self, value_row: Any) -> tuple[Any, bool]:
        data, is_there = self._get_value_data(value_row)
        return self._deserialize_value(value_row.type, data) if is_there else (None, False)

    def _deserialize_value(self, type_name: str, data: bytes) -> tuple[Any, bool]:
        found: tuple[Any, bool] = self._mirrored().values._deserialize_value(type_name, data)
        return found
