"""A backend in memory, and an engine on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from backend_kit import Engine, open_backend

from eventstore.backend import LogBackend


@pytest.fixture
def backend() -> Iterator[LogBackend]:
    """A backend on a store of its own in memory."""
    made = open_backend()
    yield made
    made.close()


@pytest.fixture
def engine(backend: LogBackend) -> Engine:
    """An engine whose execution has not begun."""
    return Engine(backend)
