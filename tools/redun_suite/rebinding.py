"""Importing this puts our backend in place of redun's in this process, also for URLs of SQLite.

Workers import it too: it is named as the home of the task that starts a sub-scheduler.
"""

from __future__ import annotations

import importlib
import pkgutil

from redun.task import get_task_registry

import eventstore.redun
from eventstore.redun.choosing import teach_redun
from eventstore.redun.subruns import ROOT_TASK

__all__: list[str] = []

teach_redun(lambda db_uri: not db_uri.startswith("postgresql"))
_root_task = get_task_registry().get(ROOT_TASK)
assert _root_task is not None
_root_task.func.__module__ = __name__

# redun's tests forget modules that were first imported during a test; ours must stay the same objects.
for _room in pkgutil.walk_packages(eventstore.__path__, "eventstore."):
    if not _room.name.startswith("eventstore.cli") and not _room.name.endswith("__main__"):
        importlib.import_module(_room.name)
