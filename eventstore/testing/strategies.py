"""Hypothesis strategies for events of every built-in kind and of a user's own: small, and awkward.

Texts hold any characters that UTF-8 can encode, lists are often empty, numbers go to their limits, times lie
centuries apart. All events are valid: what is drawn here a store must take and give back as it was.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from hypothesis import strategies as st

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
    Registry,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.hashing import canonical_json

__all__ = ["REGISTRY", "BatchMeasured", "batches", "events", "hashes", "json_values", "texts", "times"]

REGISTRY = Registry()
"""The built-in kinds and `BatchMeasured`."""


class BatchMeasured(Event):
    """A user's own kind, with shared columns and fields of all shapes that JSON can hold."""

    job_id: str | None = None
    """A shared column."""
    stream: str
    """Another one."""
    count: int = 0
    """Up to 64 bits."""
    level: float = 0.0
    """Any finite number."""
    labels: list[str] = []
    """May be empty."""
    nested: dict[str, Any] = {}
    """JSON in JSON."""


REGISTRY.register(BatchMeasured, "kit.batch_measured")


def texts(*, least: int = 0, most: int = 12) -> st.SearchStrategy[str]:
    """Any text that UTF-8 can encode: no lone surrogates."""
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)


def hashes() -> st.SearchStrategy[str]:
    """Entity ids: sometimes the same ones again, sometimes new."""
    few = st.sampled_from(["0" * 40, "f" * 40, "0123456789" * 4])
    return few | st.binary(min_size=20, max_size=20).map(bytes.hex)


def times() -> st.SearchStrategy[dt.datetime]:
    """Moments with a timezone, from antiquity to the far future."""
    zones = st.sampled_from(
        [dt.UTC, dt.timezone(dt.timedelta(hours=14)), dt.timezone(dt.timedelta(hours=-9.5))]
    )
    return st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=zones)


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON holds and gives back as it was."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(1 << 63), (1 << 63) - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts()
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(), inner, max_size=3),
        max_leaves=5,
    )


_ids = texts(least=1)
_hash_lists = st.lists(hashes(), max_size=3).map(tuple)
_int32 = st.integers(0, 9) | st.just((1 << 31) - 1)
_int64 = st.integers(0, 9) | st.just((1 << 63) - 1)


def _built(model: type[Event], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    return st.builds(
        model,
        **fields,
        actor=st.none() | texts(),
        reason=st.none() | texts(),
        occurred_at=st.none() | times(),
    )


def _arguments() -> st.SearchStrategy[tuple[Argument, ...]]:
    by_position = st.builds(Argument, position=_int32, value_hash=hashes(), upstreams=_hash_lists)
    by_key = st.builds(Argument, key=texts(), value_hash=hashes(), upstreams=_hash_lists)
    return st.lists(by_position | by_key, max_size=3).map(tuple)


def _tags() -> st.SearchStrategy[tuple[Tag, ...]]:
    tag = st.builds(Tag, tag_hash=hashes(), key=texts(least=1), value=json_values().map(canonical_json))
    return st.lists(tag, min_size=1, max_size=3).map(tuple)


def _values() -> st.SearchStrategy[Event]:
    def made(data: bytes) -> st.SearchStrategy[Event]:
        return _built(
            ValueRecorded,
            value_hash=hashes(),
            type_name=texts(),
            format=texts(),
            size_bytes=st.just(len(data)),
            data=st.just(data),
            subvalues=_hash_lists,
            file_path=st.none() | texts(),
        )

    return st.binary(max_size=40).flatmap(made)


def _ends() -> st.SearchStrategy[Event]:
    def made(status: JobStatus) -> st.SearchStrategy[Event]:
        free = st.booleans() if status is JobStatus.FAILED else st.just(status is JobStatus.CACHED)
        return _built(
            JobEnded,
            job_id=_ids,
            execution_id=_ids,
            parent_id=st.none() | _ids,
            task_hash=hashes(),
            status=st.just(status),
            cached=free,
            call_hash=st.none() | hashes(),
        )

    return st.sampled_from(JobStatus).flatmap(made)


def _of_every_kind() -> dict[str, st.SearchStrategy[Event]]:
    made: list[tuple[type[Event], st.SearchStrategy[Event]]] = [
        (
            CallNodeRecorded,
            _built(
                CallNodeRecorded,
                call_hash=hashes(),
                task_hash=hashes(),
                task_name=texts(),
                args_hash=hashes(),
                value_hash=hashes(),
                children=_hash_lists,
                arguments=_arguments(),
                subtree_tasks=_hash_lists,
            ),
        ),
        (
            CallContextRecorded,
            _built(
                CallContextRecorded,
                call_hash=hashes(),
                context_hash=hashes(),
                value_hash=st.none() | hashes(),
            ),
        ),
        (
            EvaluationCached,
            _built(
                EvaluationCached,
                eval_hash=hashes(),
                task_hash=hashes(),
                args_hash=hashes(),
                value_hash=hashes(),
            ),
        ),
        (ExecutionHeartbeat, _built(ExecutionHeartbeat, execution_id=_ids)),
        (
            ExecutionStarted,
            _built(
                ExecutionStarted,
                execution_id=_ids,
                job_id=st.none() | _ids,
                args=st.lists(json_values(), max_size=2).map(canonical_json),
            ),
        ),
        (
            HandleRecorded,
            _built(
                HandleRecorded,
                handle_hash=hashes(),
                handle_name=texts(),
                handle_key=texts(),
                value_hash=hashes(),
            ),
        ),
        (
            HandleAdvanced,
            _built(HandleAdvanced, handle_hash=hashes(), handle_name=texts(), parents=_hash_lists),
        ),
        (
            HandleForked,
            _built(
                HandleForked,
                handle_hash=hashes(),
                handle_name=texts(),
                handle_key=texts(),
                parents=hashes().map(lambda parent: (parent,)),
            ),
        ),
        (HandleRolledBack, _built(HandleRolledBack, handle_hash=hashes(), handle_name=texts())),
        (
            JobStarted,
            _built(
                JobStarted,
                job_id=_ids,
                execution_id=_ids,
                parent_id=st.none() | _ids,
                task_hash=hashes(),
            ),
        ),
        (JobEnded, _ends()),
        (TagsDeleted, _built(TagsDeleted, tag_hash=hashes(), superseded=_hash_lists)),
        (
            TagsRecorded,
            _built(
                TagsRecorded,
                entity_type=st.sampled_from(EntityType),
                entity_id=texts(),
                tags=_tags(),
                superseded=_hash_lists,
            ),
        ),
        (
            TaskRecorded,
            _built(
                TaskRecorded,
                task_hash=hashes(),
                task_name=texts(),
                task_namespace=texts(),
                source=st.none() | texts(most=40),
                task_version=st.none() | texts(),
            ),
        ),
        (ValueRecorded, _values()),
        (
            BatchMeasured,
            _built(
                BatchMeasured,
                job_id=st.none() | texts(),
                stream=texts(),
                count=st.integers(-(1 << 63), (1 << 63) - 1),
                level=st.floats(allow_nan=False, allow_infinity=False),
                labels=st.lists(texts(), max_size=3),
                nested=st.dictionaries(texts(), json_values(), max_size=3),
            ),
        ),
    ]
    return {model.kind: strategy for model, strategy in made}


_KINDS = _of_every_kind()


def events(*kinds: str) -> st.SearchStrategy[Event]:
    """Events of the given kinds, or of all that `REGISTRY` knows."""
    return st.one_of([_KINDS[kind] for kind in kinds or sorted(_KINDS)])


def batches(*kinds: str, most: int = 4) -> st.SearchStrategy[list[Event]]:
    """One to `most` events, to be appended at once."""
    return st.lists(events(*kinds), min_size=1, max_size=most)
