"""Threads of our own, and what must be imported before there is a second one.

pyarrow imports pandas, where that is installed, when the first Python value becomes a column, and holds a
lock of its own meanwhile. A thread that does so, and another that is amid an import which needs pyarrow, wait
for each other for ever: Python cannot see it, as one of the locks is not its own. So it is done before a
thread starts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache

import pyarrow as pa

__all__ = ["settle", "start_thread"]


@cache
def settle() -> None:
    """Let pyarrow import what it will; called before work is given to other threads."""
    pa.array([0])


def start_thread(work: Callable[..., object], *args: object, name: str) -> threading.Thread:
    """Start a thread that does not keep the interpreter from ending.

    Raises
    ------
    RuntimeError
        There are no more threads, or the interpreter is about to end.
    """
    settle()
    thread = threading.Thread(target=work, args=args, name=name, daemon=True)
    thread.start()
    return thread
