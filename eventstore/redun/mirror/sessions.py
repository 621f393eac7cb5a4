"""SQLAlchemy on a mirror: sessions whose queries are up to date when they begin, and that refuse to write.

The hook is SQLAlchemy's own for what a session executes: it also sees the loads that attributes cause. The
engine has one for whoever takes a connection without a session.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import redun.backends.db as redun_db
from redun.backends.db import RedunSession
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker

from eventstore.errors import StateError
from eventstore.redun.mirror.database import is_damage

__all__ = ["Sessions"]

_SEEN = "eventstore_seen"
_CALLS = {
    redun_db.Tag: "record_tags, update_tags or delete_tags",
    redun_db.TagEdit: "record_tags, update_tags or delete_tags",
    redun_db.Value: "record_value",
    redun_db.File: "record_value",
    redun_db.Subvalue: "record_value",
    redun_db.Task: "record_value, of the task",
    redun_db.Execution: "record_execution or record_updated_time",
    redun_db.Job: "record_job_start or record_job_end",
    redun_db.CallNode: "record_call_node",
    redun_db.CallEdge: "record_call_node",
    redun_db.Argument: "record_call_node",
    redun_db.ArgumentResult: "record_call_node",
    redun_db.CallSubtreeTask: "record_call_node",
    redun_db.Evaluation: "set_eval_cache",
    redun_db.Handle: "advance_handle or rollback_handle",
    redun_db.HandleEdge: "advance_handle or rollback_handle",
}
"""Which of the backend's methods records what a model shows."""


class Sessions:
    """Engine and sessions of one mirror, made when they are first asked for.

    Parameters
    ----------
    path
        The mirror's file.
    backend
        What sessions call back for values.
    refresh
        Brings the file up to date.
    on_damage
        Told when reading finds the file damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        backend: Any,
        refresh: Callable[[], None],
        on_damage: Callable[[str], None],
    ) -> None:
        self._path = path
        self._backend = backend
        self._refresh = refresh
        self._on_damage = on_damage
        self._lock = threading.RLock()
        self._seen: tuple[str, object] = ("", None)
        self._engine: Engine | None = None
        self._maker: Any = None
        self._main: RedunSession | None = None
        self._open: weakref.WeakSet[RedunSession] = weakref.WeakSet()

    @property
    def engine(self) -> Engine:
        """The engine, on connections that cannot write."""
        return self._ready()[0]

    def _ready(self) -> tuple[Engine, Any]:
        with self._lock:
            if self._engine is None:
                self._engine = create_engine(
                    f"sqlite:///{self._path}", connect_args={"check_same_thread": False, "timeout": 30}
                )
                event.listen(self._engine, "connect", _only_reading)
                event.listen(self._engine, "engine_connect", self._connected)
                event.listen(self._engine, "handle_error", self._failed)
                self._maker = sessionmaker(bind=self._engine, class_=RedunSession, backend=self._backend)
                event.listen(self._maker, "do_orm_execute", self._executing)
                event.listen(self._maker, "before_flush", _refuse_flush)
            return self._engine, self._maker

    @property
    def main(self) -> RedunSession:
        """The one session that is always the same."""
        with self._lock:
            if self._main is None:
                self._main = self.new()
            return self._main

    def new(self) -> RedunSession:
        """Return another session."""
        with self._lock:
            made: RedunSession = self._ready()[1]()
            self._open.add(made)
            return made

    def changed(self, generation: str, version: object) -> None:
        """Take note that the tables have changed, or are in another file by now."""
        with self._lock:
            if self._engine is not None and generation != self._seen[0]:
                self._engine.dispose()
            self._seen = (generation, version)

    def forget(self) -> None:
        """Drop what a fork has copied, without closing the parent's connections."""
        if self._engine is not None:
            self._engine.dispose(close=False)
        self._main = None

    def close(self) -> None:
        """Close all of it."""
        with self._lock:
            for session in list(self._open):
                session.close()
            if self._engine is not None:
                self._engine.dispose()
            self._engine = self._main = None

    # hooks -----------------------------------------------------------------------------------------------

    def _executing(self, state: ORMExecuteState) -> None:
        if state.is_insert or state.is_update or state.is_delete:
            mapper = state.bind_mapper
            raise _read_only([mapper.class_] if mapper is not None else [])
        self._refresh()
        session = state.session
        if state.is_column_load or state.is_relationship_load:
            return  # amid the loading of rows none of them may be put aside
        seen = session.info.get(_SEEN)
        if seen != self._seen:
            if seen is not None and seen[0] != self._seen[0]:
                session.rollback()  # its connection is on a file that is gone
            elif seen is not None:
                session.expire_all()
            session.info[_SEEN] = self._seen

    def _connected(self, _connection: object) -> None:
        self._refresh()

    def _failed(self, context: ExceptionContext) -> None:
        error = context.original_exception
        if not isinstance(error, sqlite3.Error):
            return
        if "readonly database" in str(error):
            raise _read_only([]) from error
        if is_damage(error) and "no such" not in str(error):
            self._on_damage(str(error))


def _only_reading(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA query_only = ON")


def _refuse_flush(session: Session, _context: object, _instances: object) -> None:
    changed = [one for one in session.dirty if session.is_modified(one)]
    touched = [*session.new, *changed, *session.deleted]
    if touched:
        raise _read_only(type(one) for one in touched)


def _read_only(models: Iterable[type]) -> StateError:
    found = sorted({model.__name__ for model in models})
    calls = sorted({_CALLS[model] for model in _CALLS if model.__name__ in found})
    return StateError(
        f"the session shows the log and takes no writes; found one of {', '.join(found) or 'a statement'}. "
        f"Record it through the backend: {'; '.join(calls) or 'its record_... methods'}. Then roll the "
        "session back, to go on reading",
        code="mirror_read_only",
    )
