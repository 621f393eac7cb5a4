"""An event-sourced, append-only persistence log for workflows: the front door."""

from eventstore.errors import (
    ConflictError,
    EventStoreError,
    FormatError,
    IntegrityError,
    InvalidEventError,
    NotFoundError,
    ProjectionError,
    StateError,
    StorageError,
)
from eventstore.events import (
    Argument,
    CallContextRecorded,
    CallNodeRecorded,
    EntityType,
    EvaluationCached,
    Event,
    ExecutionHeartbeat,
    ExecutionStarted,
    HandleAdvanced,
    HandleForked,
    HandleRecorded,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    JobStatus,
    RecordedEvent,
    Registry,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
    event_kind,
)
from eventstore.file import Dir, File, FileSet
from eventstore.filesystem import Storage, open_storage
from eventstore.handle import Handle
from eventstore.ids import EventId
from eventstore.log.cleaning import CleanPlan, CleanReport
from eventstore.log.compaction import CompactionGoals, CompactionPlan, CompactionReport
from eventstore.log.levels import Level, Receipt
from eventstore.log.sequence import Head
from eventstore.log.subscription import Checkpoint, HandlerFailure, Subscription, SubscriptionState
from eventstore.log.transfer import TransferPlan, TransferReport
from eventstore.log.verify import Finding, Severity, VerifyReport
from eventstore.store import EventStore
from eventstore.tags import TagEditor
from eventstore.workflow import ErrorValue, Execution, Task, task

__all__ = [
    "Argument",
    "CallContextRecorded",
    "CallNodeRecorded",
    "Checkpoint",
    "CleanPlan",
    "CleanReport",
    "CompactionGoals",
    "CompactionPlan",
    "CompactionReport",
    "ConflictError",
    "Dir",
    "EntityType",
    "ErrorValue",
    "EvaluationCached",
    "Event",
    "EventId",
    "EventStore",
    "EventStoreError",
    "Execution",
    "ExecutionHeartbeat",
    "ExecutionStarted",
    "File",
    "FileSet",
    "Finding",
    "FormatError",
    "Handle",
    "HandleAdvanced",
    "HandleForked",
    "HandleRecorded",
    "HandleRolledBack",
    "HandlerFailure",
    "Head",
    "IntegrityError",
    "InvalidEventError",
    "JobEnded",
    "JobStarted",
    "JobStatus",
    "Level",
    "NotFoundError",
    "ProjectionError",
    "Receipt",
    "RecordedEvent",
    "Registry",
    "Severity",
    "StateError",
    "Storage",
    "StorageError",
    "Subscription",
    "SubscriptionState",
    "Tag",
    "TagEditor",
    "TagsDeleted",
    "TagsRecorded",
    "Task",
    "TaskRecorded",
    "TransferPlan",
    "TransferReport",
    "ValueRecorded",
    "VerifyReport",
    "event_kind",
    "open_storage",
    "task",
]
