"""The task that starts a sub-scheduler, as redun has it, but at home in this module.

Executors import a task's module before they run the task, in whichever process, container or machine that is.
So whoever starts a sub-scheduler has imported this package first, and with it redun knows store URLs there.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from redun import scheduler as _scheduler  # noqa: F401 - registers the task
from redun.task import Task, get_task_registry

from eventstore.redun.opening import below

__all__ = ["ROOT_TASK", "start_sub_schedulers_here"]

ROOT_TASK = "redun.subrun_root_task"


def start_sub_schedulers_here() -> None:
    """Put our task in the place of redun's; same name, version and hash, so cached results stay valid."""
    registry = get_task_registry()  # type: ignore[no-untyped-call]
    original = registry.get(ROOT_TASK)
    if original is None or original.func.__module__ == __name__:
        return
    registry.add(
        Task(
            _closing(original.func),
            name=original.name,
            namespace=original.namespace,
            version=original.version,
            source=original.source,
            task_options_base=original.get_task_options(),
        )
    )


def _closing(run: Any) -> Any:
    @wraps(run)
    def run_below(*args: Any, **kwargs: Any) -> Any:
        with below(extends=not kwargs.get("new_execution", False)):
            return run(*args, **kwargs)

    run_below.__module__ = __name__
    return run_below
