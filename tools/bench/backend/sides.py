"""The sides that are measured: our backend, redun's own on a SQLite file, and backends that cost nothing.

Importing this makes redun's log quiet.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from redun.backends.base import RedunBackend
from redun.backends.db import RedunBackendDb
from redun.task import CacheResult

from eventstore.redun import EventStoreBackend

__all__ = ["PEER", "Nothing", "Remembering", "ours", "theirs"]

PEER = "redun on SQLite"
"""The peer, as reports name it."""

logging.getLogger("redun").setLevel(logging.WARNING)


@contextlib.contextmanager
def ours(folder: Path | str, state: Path | str, **settings: str) -> Iterator[EventStoreBackend]:
    """Open our backend on a folder, which becomes a store if it is none; closed at the end.

    Parameters
    ----------
    state
        Where journals and the index go.
    settings
        More keys of redun's section ``[backend]``.
    """
    backend = EventStoreBackend({"db_uri": str(folder), "state_dir": str(state), **settings})
    backend.load()
    try:
        yield backend
    finally:
        backend.close()


@contextlib.contextmanager
def theirs(path: Path | str) -> Iterator[RedunBackendDb]:
    """Open redun's backend on a SQLite file, which is made if there is none; closed at the end."""
    backend = RedunBackendDb(db_uri=f"sqlite:///{path}")
    backend.load()
    try:
        yield backend
    finally:
        assert backend.session is not None
        assert backend.engine is not None
        backend.session.close()
        backend.engine.dispose()


_ANSWERS = {
    "check_cache": (None, None, CacheResult.MISS),
    "get_value": (None, False),
    "get_subtree_tasks": frozenset(),
    "record_value": "0" * 40,
    "record_call_node": "0" * 40,
}


def _answering(answer: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: answer


Nothing: type[Any] = type(
    "Nothing",
    (RedunBackend,),
    {name: _answering(_ANSWERS.get(name)) for name in RedunBackend.__abstractmethods__},
)
"""A backend that keeps nothing, so each call is a miss: what redun's scheduler costs by itself."""


class Remembering(Nothing):  # type: ignore[misc]
    """A backend that keeps results in a dictionary, so each call that comes again is a hit."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, Any] = {}

    def check_cache(self, _task: str, _args: str, eval_hash: str, *_rest: Any, **_more: Any) -> Any:
        """Return what was kept."""
        if eval_hash in self._found:
            return self._found[eval_hash], None, CacheResult.SINGLE
        return None, None, CacheResult.MISS

    def set_eval_cache(self, eval_hash: str, _task: str, _args: str, value: Any, **_more: Any) -> None:
        """Keep a result."""
        self._found[eval_hash] = value
