"""Opening a store for redun, and letting go of it: with the backend, a sub-scheduler, a worker, or at exit.

`multiprocessing` ends its workers without the interpreter's own exit, so its hook is used beside that one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from multiprocessing import util
from typing import Any, cast

from redun.value import TypeRegistry

from eventstore.backend import LogBackend
from eventstore.errors import EventStoreError, NotFoundError
from eventstore.filesystem import open_storage
from eventstore.journal import Durability
from eventstore.redun.config import Settings
from eventstore.redun.types import RedunTypes
from eventstore.store import STATE_VARIABLE, EventStore, software_name
from eventstore.store_file import open_store_file
from eventstore.threads import settle
from eventstore.value_store import RedunValueStore

__all__ = ["OpenStore", "below", "open_for_redun"]

logger = logging.getLogger(__name__)
_FLUSH_ROWS = 50_000
"""Events that are held in memory at most before they become a segment: those of about 5,000 jobs."""
_numbers = itertools.count()
_open: dict[int, OpenStore] = {}
_sharing = threading.RLock()
_stores: dict[tuple[object, ...], _Shared] = {}
_hooked_process: int | None = None
_below: ContextVar[Below | None] = ContextVar("eventstore_redun_below", default=None)


class Below:
    """What a sub-scheduler opens while it runs.

    Parameters
    ----------
    extends
        It extends its parent's run, so it needs its parent's store.
    """

    def __init__(self, *, extends: bool) -> None:
        self.extends = extends
        self.backends: list[Any] = []


@contextlib.contextmanager
def below(*, extends: bool) -> Iterator[None]:
    """Close at the end whatever store a sub-scheduler opens in here; while it extends a run, make none."""
    here = Below(extends=extends)
    token = _below.set(here)
    try:
        yield
    finally:
        _below.reset(token)
        for backend in here.backends:
            backend.close()


class OpenStore:
    """A store that a backend has opened, with what redun needs around it.

    Parameters
    ----------
    log
        The backend without redun's words.
    types
        redun's types.
    shared
        The store, as the backends of this process share it.
    in_memory
        It is nobody else's, and goes with this.
    """

    def __init__(self, log: LogBackend, types: RedunTypes, shared: _Shared, *, in_memory: bool) -> None:
        self.log = log
        self.types = types
        self._shared = shared
        self._in_memory = in_memory
        self._process = os.getpid()
        self._number = next(_numbers)
        _open[self._number] = self

    def close(self) -> None:
        """Let go; the last to do so puts what is open into the store and seals it.

        A failure is logged, since nothing is lost by it. Does nothing in a process that this was forked into.
        """
        if _open.pop(self._number, None) is None or self._process != os.getpid():
            return
        with _sharing:
            self._shared.users -= 1
            if self._shared.users:
                return
            if _stores.get(self._shared.key) is self._shared:
                del _stores[self._shared.key]
        store = self._shared.store
        try:
            if self._in_memory:
                store.abandon()
                for entry in store.storage.files(temporary=True):
                    store.storage.delete(entry.path)
            else:
                store.close()
        except EventStoreError as error:
            logger.warning(
                "what was recorded is in the journal, and is taken over at the next open: %s", error
            )


def open_for_redun(backend: Any, settings: Settings, registry: TypeRegistry, *, create: bool) -> OpenStore:
    """Open the store of `settings` for as long as `backend` lives and is not closed.

    Raises
    ------
    NotFoundError
        There is no store, and none is to be made (code ``store_not_found``).
    """
    settle()  # tasks run in threads, and import what they like
    here = _below.get()
    values = settings.value_store_path
    types = RedunTypes(
        registry,
        max_value_size=settings.max_value_size,
        value_store=RedunValueStore(open_storage(values)) if values is not None else None,
        value_store_min_size=settings.value_store_min_size,
    )
    shared = _share_store(settings, create=create and not (here is not None and here.extends))
    log = LogBackend(
        shared.store,
        types=types,
        max_value_size=settings.max_value_size,
        retries=settings.db_retries,
        retry_seconds=settings.db_retries_backoff,
        retry_most_seconds=settings.db_retries_backoff_max,
        # Nobody else can have recorded anything in a fresh store.
        job_wait_seconds=0.0 if settings.url is None else settings.visible_seconds,
    )
    opened = OpenStore(log, types, shared, in_memory=settings.url is None)
    weakref.finalize(backend, opened.close).atexit = False
    _hook_exit()
    if here is not None:
        here.backends.append(backend)
    return opened


class _Shared:
    """A store that is open in this process, and by how many backends."""

    def __init__(self, key: tuple[object, ...], store: EventStore) -> None:
        self.key = key
        self.store = store
        self.users = 1


def _share_store(settings: Settings, *, create: bool) -> _Shared:
    """Return the store of `settings`, the same for all backends of this process that have them.

    So a sub-scheduler in a thread of its parent's process needs no writer of its own, and both see at once
    what the other records, also in memory.
    """
    if settings.url is None:
        url = f"memory://redun-{uuid.uuid4().hex}"
        store = EventStore.open(url, create=True, flush_seconds=None, auto_seal=False)
        return _Shared((url,), store)
    state = settings.state_dir or os.environ.get(STATE_VARIABLE)
    key = (os.getpid(), settings.url, settings.durability, settings.single_sealer, state)
    with _sharing:
        shared = _stores.get(key)
        if shared is not None and _is_still_there(shared.store):
            shared.users += 1
            return shared
        shared = _stores[key] = _Shared(key, _open_store(settings, settings.url, create=create))
        return shared


def _is_still_there(store: EventStore) -> bool:
    try:
        return open_store_file(store.storage, create=False, software=software_name()) == store.store_id
    except EventStoreError:
        return False


def _open_store(settings: Settings, url: str, *, create: bool) -> EventStore:
    try:
        return EventStore.open(
            url,
            create=create,
            durability=cast(Durability, settings.durability),
            single_sealer=settings.single_sealer,
            auto_compact=settings.auto_compact,
            flush_rows=_FLUSH_ROWS,
            flush_seconds=settings.flush_seconds,
            fresh_seconds=settings.fresh_seconds,
            state_dir=settings.state_dir,
        )
    except NotFoundError as error:
        if error.code != "store_not_found" or create:
            raise
        raise NotFoundError(
            f"the store of the run was expected at {url}, found none there, from process "
            f"{os.getpid()}; a worker needs the same path or URL as the scheduler that started it: use a "
            "folder that both see, or a bucket. To make a new store, use automigrate = True",
            code="store_not_found",
            url=url,
        ) from error


def _hook_exit() -> None:
    """Let what is open be closed when this process ends, be it a worker of multiprocessing or not."""
    global _hooked_process
    if _hooked_process != os.getpid():
        _hooked_process = os.getpid()
        util.Finalize(None, _close_all, exitpriority=100)


def _close_all() -> None:
    for each in list(_open.values()):
        each.close()
