"""Handles: named states of something outside, such as a database, that calls lead from one to the next.

A handle holds no state of the outside, only a hash that says how it came about. It never changes: a fork or a
call gives a new one that remembers which it came from, until it is stored. What happens to handles becomes
events; which states are valid is for whoever reads these to answer.
"""

from eventstore.handle.handle import Handle, HandleAnswers, HandleInfo, handles_answered_by
from eventstore.handle.steps import Advance, advance_handle, merge_handles, rollback_handle

__all__ = [
    "Advance",
    "Handle",
    "HandleAnswers",
    "HandleInfo",
    "advance_handle",
    "handles_answered_by",
    "merge_handles",
    "rollback_handle",
]
