"""The vocabulary: every built-in kind of event, and the registry that knows the user's own."""

from eventstore.events.call import Argument, CallContextRecorded, CallNodeRecorded
from eventstore.events.envelope import Event, FieldFault, RecordedEvent
from eventstore.events.execution import ExecutionHeartbeat, ExecutionStarted
from eventstore.events.handle import HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack
from eventstore.events.job import JobEnded, JobStarted, JobStatus
from eventstore.events.registry import (
    BUILT_IN,
    EventType,
    Registry,
    Upcaster,
    default_registry,
    event_kind,
)
from eventstore.events.tag import EntityType, Tag, TagsDeleted, TagsRecorded
from eventstore.events.task import TaskRecorded
from eventstore.events.value import EvaluationCached, ValueRecorded

__all__ = [
    "BUILT_IN",
    "Argument",
    "CallContextRecorded",
    "CallNodeRecorded",
    "EntityType",
    "EvaluationCached",
    "Event",
    "EventType",
    "ExecutionHeartbeat",
    "ExecutionStarted",
    "FieldFault",
    "HandleAdvanced",
    "HandleForked",
    "HandleRecorded",
    "HandleRolledBack",
    "JobEnded",
    "JobStarted",
    "JobStatus",
    "RecordedEvent",
    "Registry",
    "Tag",
    "TagsDeleted",
    "TagsRecorded",
    "TaskRecorded",
    "Upcaster",
    "ValueRecorded",
    "default_registry",
    "event_kind",
]
