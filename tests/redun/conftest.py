"""What tests of the redun adapter share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from redun import Scheduler
from workflow_kit import make_scheduler

import eventstore.redun  # noqa: F401 - teaches redun


@pytest.fixture(autouse=True)
def quiet_redun() -> Iterator[None]:
    """Redun says on standard error what every job does."""
    logger = logging.getLogger("redun")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    """Return a scheduler on a store of the test's own."""
    made = make_scheduler(str(tmp_path / "store"))
    yield made
    made.backend.close()
