"""Recording from plain Python: tasks, runs and explicit jobs, without a workflow engine."""

from eventstore.workflow.block import JobBlock
from eventstore.workflow.context import current_run
from eventstore.workflow.failure import ErrorValue
from eventstore.workflow.recording import Recording
from eventstore.workflow.run import Execution
from eventstore.workflow.task import Task, task

__all__ = ["ErrorValue", "Execution", "JobBlock", "Recording", "Task", "current_run", "task"]
