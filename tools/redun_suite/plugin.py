"""For pytest: our backend in place of redun's; and it notes which tests read through the SQL session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import tools.redun_suite.rebinding  # noqa: F401 - puts our backend in place
from eventstore.redun import EventStoreBackend

_touched = False
_session = EventStoreBackend.session.fget


def _noting(backend: EventStoreBackend) -> Any:
    global _touched
    _touched = True
    return _session(backend)  # type: ignore[misc]


EventStoreBackend.session = property(_noting)  # type: ignore[method-assign,assignment]


@pytest.fixture(autouse=True)
def _note_session(record_property: Any) -> Iterator[None]:
    global _touched
    _touched = False
    yield
    if _touched:
        record_property("session", "used")
