"""Which job is running here: one context variable, so threads and asyncio tasks are kept apart.

A new asyncio task inherits the job that made it; a new thread does not (before Python 3.14), and joins by
`Execution.wrap` or `contextvars.copy_context`.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventstore.workflow.job import Job
    from eventstore.workflow.run import Execution

__all__ = ["current_job", "current_run", "enter", "leave"]

_current: ContextVar[Job | None] = ContextVar("eventstore_job", default=None)

current_job = _current.get


def current_run() -> Execution | None:
    """Return the run that this code is part of, or None."""
    job = _current.get()
    return None if job is None else job.run


def enter(job: Job) -> Token[Job | None]:
    """Make `job` the current one; give the token to `leave`."""
    return _current.set(job)


def leave(token: Token[Job | None]) -> None:
    """Make the job before current again.

    A coroutine that is thrown away may be closed in another context, where there is nothing to undo.
    """
    with contextlib.suppress(ValueError):
        _current.reset(token)
