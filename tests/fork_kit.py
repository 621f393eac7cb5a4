"""Children of tests, made by forking: they end by themselves, are killed, or say where they stand still."""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from collections.abc import Callable

__all__ = ["forked", "status_of"]

STILL_SECONDS = 120.0
"""A child that lives so long stands still: it shows where all its threads are, and ends with 1."""


def forked(action: Callable[[], object]) -> int:
    """Do it in a forked child, which exits with 0 unless it raises; returns the child's process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        faulthandler.dump_traceback_later(STILL_SECONDS, exit=True, file=sys.__stderr__)
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def status_of(child: int) -> int:
    """Wait for a child; returns how it ended: what it exited with, or a signal's number, negative."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
