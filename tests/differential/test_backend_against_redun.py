"""redun's own backend and ours give the same answers to the same calls, but for what is listed."""

from __future__ import annotations

import os

import pytest
from backend_machine_kit import BackendMachine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test


def test_any_calls_have_the_same_answers() -> None:
    """A few dozen sequences of calls; each answer is compared after each step, and all at the end."""
    run_state_machine_as_test(
        BackendMachine,
        settings=settings(
            max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
