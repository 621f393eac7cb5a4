"""Which kinds of events exist: the built-in ones and the user's own, by stable kind string.

A user's kind is a pydantic model registered under a string. Its fields whose names are shared id columns
(`SHARED_COLUMNS`) become those columns; all others become one JSON payload.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from eventstore.errors import InvalidEventError
from eventstore.events.call import CallContextRecorded, CallNodeRecorded
from eventstore.events.envelope import Event, Time
from eventstore.events.execution import ExecutionHeartbeat, ExecutionStarted
from eventstore.events.handle import HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack
from eventstore.events.job import JobEnded, JobStarted
from eventstore.events.tag import TagsDeleted, TagsRecorded
from eventstore.events.task import TaskRecorded
from eventstore.events.value import EvaluationCached, ValueRecorded

__all__ = [
    "AUDIT_FIELDS",
    "BUILT_IN",
    "SHARED_COLUMNS",
    "EventType",
    "Registry",
    "Upcaster",
    "default_registry",
    "event_kind",
]

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""A pure step from version n to n + 1 of one kind: the fields as they were to the fields as they are."""

BUILT_IN: tuple[type[Event], ...] = (
    CallContextRecorded,
    CallNodeRecorded,
    EvaluationCached,
    ExecutionHeartbeat,
    ExecutionStarted,
    HandleAdvanced,
    HandleForked,
    HandleRecorded,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)

AUDIT_FIELDS = ("actor", "occurred_at", "reason")

SHARED_COLUMNS = ("call_hash", "execution_id", "job_id", "stream", "task_hash", "value_hash")
"""Columns that a user's kind fills by giving a field this name; their values are text or None."""

_KIND = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_RESERVED = frozenset(model.kind.partition(".")[0] for model in BUILT_IN) | {"store", "event"}

Model = TypeVar("Model", bound=type[Event])


@dataclass(frozen=True, slots=True)
class EventType:
    """One kind: its model today, and the steps that bring older versions up to it.

    `columns` are the body columns that the kind fills, without the audit columns that all kinds share.
    """

    kind: str
    version: int
    model: type[Event]
    columns: tuple[str, ...]
    built_in: bool
    upcasters: Mapping[int, Upcaster] = field(default_factory=dict)


class Registry:
    """Kinds by name. A new registry knows the built-in kinds and nothing else."""

    def __init__(self) -> None:
        self._types: dict[str, EventType] = {}
        for model in BUILT_IN:
            own = tuple(sorted(set(model.model_fields) - set(AUDIT_FIELDS)))
            self._types[model.kind] = EventType(model.kind, model.version, model, own, True)

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._types.values())

    def __contains__(self, kind: str) -> bool:
        return kind in self._types

    def register(
        self,
        model: type[Event],
        kind: str,
        *,
        version: int = 1,
        upcasters: Mapping[int, Upcaster] | None = None,
    ) -> EventType:
        """Make a user's kind known.

        Parameters
        ----------
        model
            A subclass of `Event`; `kind` and `version` are set on it.
        kind
            Lower-case words joined by dots, such as ``lab.sample_measured``; never the first word of a
            built-in kind. It is stored, so it outlives the class's name.
        version
            The schema version that the model describes, from 1.
        upcasters
            For each older version n, the step from n to n + 1 over the event's own fields.

        Raises
        ------
        InvalidEventError
            The kind is malformed (``bad_kind``), reserved (``reserved_kind``) or taken by another model
            (``kind_taken``), a step between versions is missing (``missing_upcaster``), or the model has
            a field that could be stored but not read back as it was (``bad_field``).
        """
        steps = dict(upcasters or {})
        if not _KIND.fullmatch(kind):
            raise InvalidEventError(
                f"a kind is lower-case words joined by dots, such as lab.sample_measured; found {kind!r}",
                code="bad_kind",
                kind=kind,
            )
        if kind.partition(".")[0] in _RESERVED:
            raise InvalidEventError(
                f"kinds that begin with {kind.partition('.')[0]!r} belong to the built-in events; "
                f"found {kind!r}: choose another first word",
                code="reserved_kind",
                kind=kind,
            )
        if version < 1 or set(steps) != set(range(1, version)):
            raise InvalidEventError(
                f"{kind} version {version} needs one upcaster for each of the versions "
                f"{list(range(1, version))}, found {sorted(steps)}",
                code="missing_upcaster",
                kind=kind,
            )
        known = self._types.get(kind)
        if known is not None and known.model.__qualname__ != model.__qualname__:
            raise InvalidEventError(
                f"{kind} is registered for {known.model.__qualname__} already; choose another kind "
                f"for {model.__qualname__}",
                code="kind_taken",
                kind=kind,
            )
        for name, fault in _field_faults(model):
            raise InvalidEventError(
                f"{kind}: the field {name!r} of {model.__qualname__} {fault}; change the model, then "
                "register it again",
                code="bad_field",
                kind=kind,
                field=name,
            )
        shared = tuple(name for name in SHARED_COLUMNS if name in model.model_fields)
        model.kind, model.version = kind, version
        event_type = EventType(kind, version, model, (*shared, "payload"), False, steps)
        self._types[kind] = event_type
        return event_type

    def get(self, kind: str) -> EventType | None:
        """The type called `kind`; None if it is not registered in this process."""
        return self._types.get(kind)

    def of(self, event: Event) -> EventType:
        """Return the type of an event that is about to be stored.

        Raises
        ------
        InvalidEventError
            Its kind is not registered, or is registered for another model (code ``unknown_kind``).
        """
        event_type = self._types.get(event.kind)
        if event_type is None or event_type.model is not type(event):
            raise self.unknown(event.kind or type(event).__name__)
        return event_type

    def unknown(self, kind: str) -> InvalidEventError:
        """The error that says that `kind` is not registered, for the caller to raise."""
        return InvalidEventError(
            f"a registered kind was expected ({', '.join(sorted(self._types))}), found {kind!r}; "
            "register its model with @event_kind, in this process, before appending",
            code="unknown_kind",
            kind=kind,
        )


def _field_faults(model: type[Event]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a user's model that would be stored, but lost or changed when they are read."""
    if model.model_config.get("extra") == "allow":
        yield "extra", "is not declared (extra='allow'), so it would not be stored"
    by_name = model.model_config.get("validate_by_name") or model.model_config.get("populate_by_name")
    for name, info in model.model_fields.items():
        if name in ("kind", "version"):
            yield name, "has the name of what every event says of itself"
        if name in (*SHARED_COLUMNS, "actor", "reason") and not _is_text(info.annotation):
            yield name, "fills the column of this name, so it must be text or None"
        if name == "occurred_at" and not _is_time(info):
            yield (
                name,
                "fills the column of this name, so it must be declared as Event declares it, or not at all",
            )
        if info.exclude:
            yield name, "is excluded from what is stored"
        if info.validation_alias is not None and not by_name:
            yield name, "has an alias, but is stored by name: set validate_by_name=True"


def _is_time(info: FieldInfo) -> bool:
    """Whether a field is declared as `Event.occurred_at` is, or is the same and required."""
    optional, required = Event.model_fields["occurred_at"], FieldInfo.from_annotation(Time)
    declared = (info.annotation, info.metadata)
    return declared in [(same.annotation, same.metadata) for same in (optional, required)]


def _is_text(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_text(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(_is_text(part) for part in get_args(annotation))
    if origin is Literal:
        return all(part is None or isinstance(part, str) for part in get_args(annotation))
    annotation = getattr(annotation, "__supertype__", annotation)
    return isinstance(annotation, type) and issubclass(annotation, (str, NoneType))


default_registry = Registry()
"""The registry that stores use unless they are given one."""


def event_kind(
    kind: str,
    *,
    version: int = 1,
    upcasters: Mapping[int, Upcaster] | None = None,
    registry: Registry | None = None,
) -> Callable[[Model], Model]:
    """Register the decorated `Event` model as `kind`; the parameters are those of `Registry.register`."""

    def decorate(model: Model) -> Model:
        (registry or default_registry).register(model, kind, version=version, upcasters=upcasters)
        return model

    return decorate
