"""Records taken in: each that is new becomes the events that it stands for, whatever came before it."""

from __future__ import annotations

import datetime as dt
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from eventstore.backend.recorder import Batch, Recorder
from eventstore.backend.records import RECORD_VERSION
from eventstore.errors import FormatError, InvalidEventError
from eventstore.events import (
    Argument,
    CallNodeRecorded,
    EntityType,
    ExecutionStarted,
    JobEnded,
    JobStarted,
    JobStatus,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.tags import canonical_value

__all__ = ["Intake"]

_MOST_RECORDS = 500
_MOST_BYTES = 16 * 1024 * 1024
"""Of the data of values, in base64: an append holds all its events in memory."""

Fields = Mapping[str, Any]


class Intake:
    """Makes events of records.

    Parameters
    ----------
    recorder
        Where events go.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @staticmethod
    def parts(records: Iterable[Fields]) -> Iterator[list[Fields]]:
        """Cut records into parts that are appended as one."""
        left = iter(records)
        while part := list(islice(left, 1)):
            size = 0
            while len(part) < _MOST_RECORDS and size < _MOST_BYTES:
                size += len(part[-1].get("data") or "")
                more = next(left, None)
                if more is None:
                    break
                part.append(more)
            yield part

    def put(self, records: Sequence[Fields]) -> int:
        """Append what is new in `records`, and return how many of them it is; all or none."""
        batch = self._recorder.batch()
        seen: set[tuple[str, str]] = set()
        starts = {each.get("id"): each.get("start_time") for each in records if each.get("_type") == "Job"}
        count = 0
        for record in records:
            kind = _kind_of(record)
            key = (kind, str(_given(record, _KEYS[kind])))
            if key in seen:
                continue
            seen.add(key)
            try:
                count += _TAKERS[kind](self, batch, record, starts)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                if isinstance(error, InvalidEventError):
                    raise
                raise InvalidEventError(
                    f"a {kind} record was expected under {key[1]}, found one that is not whole: {error!r}; "
                    "export it again. Nothing of these records was stored",
                    code="bad_record",
                    record_id=key[1],
                ) from error
        batch.append()
        return count

    def _execution(self, batch: Batch, record: Fields, starts: Mapping[Any, Any]) -> bool:
        if self._recorder.lookup.execution(record["id"]) is not None:
            return False
        batch.add(
            ExecutionStarted(
                execution_id=record["id"],
                job_id=record["job_id"],
                args=record["args"],
                # A record does not say when an execution began: when its root job did, if that is near.
                occurred_at=_time(starts.get(record["job_id"])),
            )
        )
        return True

    def _job(self, batch: Batch, record: Fields, _starts: Mapping[Any, Any]) -> bool:
        known = self._recorder.lookup.job(record["id"])
        ids = {
            "job_id": record["id"],
            "execution_id": record["execution_id"],
            "parent_id": record["parent_id"],
            "task_hash": record["task_hash"],
        }
        if known is None:
            batch.add(JobStarted(**ids, occurred_at=_time(record["start_time"])))
        # A job that was imported while it ran is ended by the record of its end.
        if record["end_time"] is not None and (known is None or known.end_us is None):
            cached, call_hash = bool(record["cached"]), record["call_hash"]
            batch.add(
                JobEnded(
                    **ids,
                    occurred_at=_time(record["end_time"]),
                    status=self._status(record, cached, call_hash),
                    cached=cached,
                    call_hash=call_hash,
                )
            )
        return known is None

    def _status(self, record: Fields, cached: bool, call_hash: str | None) -> JobStatus:
        has_failed = record.get("status") == "FAILED"
        if not has_failed and call_hash is not None:
            has_failed = bool(self._recorder.has_failed(call_hash))
        if has_failed:
            return JobStatus.FAILED
        return JobStatus.CACHED if cached else JobStatus.DONE

    def _call(self, batch: Batch, record: Fields, _starts: Mapping[Any, Any]) -> bool:
        if self._recorder.lookup.call(record["call_hash"]) is not None:
            return False
        arguments = [
            Argument(
                position=int(name) if name.isdigit() else None,
                key=None if name.isdigit() else name,
                value_hash=given["value_hash"],
                upstreams=given["upstream"],
            )
            for name, given in record["args"].items()
        ]
        # Positional ones first, in order, as they are recorded.
        arguments.sort(key=lambda each: (each.position is None, each.position or 0))
        batch.add(
            CallNodeRecorded(
                call_hash=record["call_hash"],
                task_hash=record["task_hash"],
                task_name=record["task_name"],
                args_hash=record["args_hash"],
                value_hash=record["value_hash"],
                occurred_at=_time(record["timestamp"]),
                children=record["children"],
                arguments=tuple(arguments),
            )
        )
        return True

    def _value(self, batch: Batch, record: Fields, _starts: Mapping[Any, Any]) -> bool:
        value_hash = record["value_hash"]
        if self._recorder.lookup.has_value(value_hash):
            return False
        data = b64decode(record["data"], validate=True)
        subtype = record["subtype"] or {}
        is_file = subtype.get("_type") == "File"
        batch.add(
            ValueRecorded(
                value_hash=value_hash,
                type_name=record["type"],
                format=record["format"],
                size_bytes=len(data),
                data=data,
                subvalues=record["subvalues"],
                file_path=subtype["path"] if is_file else None,
            )
        )
        if subtype.get("_type") == "Task" and self._recorder.lookup.task(value_hash) is None:
            batch.add(
                TaskRecorded(
                    task_hash=value_hash,
                    task_name=subtype["name"],
                    task_namespace=subtype["namespace"] or "",
                    source=subtype["source"],
                )
            )
        return True

    def _tag(self, batch: Batch, record: Fields, _starts: Mapping[Any, Any]) -> bool:
        tag_hash = record["tag_hash"]
        if self._recorder.lookup.tag(tag_hash) is not None:
            return False
        parents = tuple(sorted(record["parents"]))
        if not record["entity_id"] and not record["key"]:
            batch.add(TagsDeleted(tag_hash=tag_hash, superseded=parents))
            return True
        text = canonical_value(record["key"], record["value"])
        batch.add(
            TagsRecorded(
                entity_type=EntityType(record["entity_type"]),
                entity_id=record["entity_id"],
                tags=(Tag(tag_hash=tag_hash, key=record["key"], value=text),),
                superseded=parents,
            )
        )
        return True


_TAKERS: Mapping[str, Callable[[Intake, Batch, Fields, Mapping[Any, Any]], bool]] = {
    "CallNode": Intake._call,
    "Execution": Intake._execution,
    "Job": Intake._job,
    "Tag": Intake._tag,
    "Value": Intake._value,
}
_KEYS = {
    "CallNode": "call_hash",
    "Execution": "id",
    "Job": "id",
    "Tag": "tag_hash",
    "Value": "value_hash",
}


def _kind_of(record: Fields) -> str:
    kind = record.get("_type")
    if kind not in _TAKERS:
        raise FormatError(
            f"a record of the type {', '.join(_TAKERS)} was expected, found {kind!r}; export it again. "
            "Nothing of these records was stored",
            code="record_type",
            record_type=kind,
        )
    version = record.get("_version")
    if version != RECORD_VERSION:
        raise FormatError(
            f"a {kind} record of version {RECORD_VERSION} was expected, found {version!r}; use the version "
            "of this package that wrote it. Nothing of these records was stored",
            code="record_version",
            record_version=version,
        )
    return str(kind)


def _given(record: Fields, name: str) -> Any:
    try:
        return record[name]
    except KeyError:
        raise InvalidEventError(
            f"a {record['_type']} record with {name!r} was expected, found none; export it again. Nothing "
            "of these records was stored",
            code="bad_record",
            field=name,
        ) from None


def _time(text: str | None) -> dt.datetime | None:
    """Return the moment of an ISO 8601 text; one without a timezone is of UTC."""
    if text is None:
        return None
    moment = dt.datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
