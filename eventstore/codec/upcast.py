"""Old events in today's shape: the steps from version n to n + 1, applied on reading, never to storage."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from eventstore.codec.payload import dump_json, load_json
from eventstore.codec.schema import BODY_COLUMNS
from eventstore.errors import IntegrityError
from eventstore.events.registry import AUDIT_FIELDS, EventType, Registry

__all__ = ["needs_upcast", "upcast_fields", "upcast_table"]


def upcast_fields(event_type: EventType, version: int, fields: dict[str, Any]) -> dict[str, Any]:
    """Bring the fields of one event from `version` to the version of `event_type`.

    Raises
    ------
    IntegrityError
        A step failed on stored data, or returned no mapping (code ``upcast_failed``).
    """
    for step in range(version, event_type.version):
        try:
            fields = event_type.upcasters[step](dict(fields))
        except Exception as error:
            raise _failed(event_type, step, f"raised {type(error).__name__}: {error}") from error
        if not isinstance(fields, dict):
            raise _failed(event_type, step, f"returned {type(fields).__name__} instead of a dict of fields")
    return fields


def _failed(event_type: EventType, step: int, found: str) -> IntegrityError:
    return IntegrityError(
        f"the upcaster of {event_type.kind} from version {step} to {step + 1} {found}; "
        "correct it, stored events stay as they are",
        code="upcast_failed",
        kind=event_type.kind,
        version=step,
    )


def needs_upcast(registry: Registry, kind: str, version: int) -> bool:
    """Whether rows of `kind` at `version` are older than what this process knows."""
    known = registry.get(kind)
    return known is not None and version < known.version


def upcast_table(table: pa.Table, registry: Registry) -> pa.Table:
    """Bring the rows of a table with all columns to today's versions, row by row where it is needed.

    The event hash stays that of the stored event: what is upcast is a view. Raises like `upcast_fields`.
    """
    kinds, versions = table["kind"].to_pylist(), table["version"].to_pylist()
    old = [
        place
        for place, (kind, version) in enumerate(zip(kinds, versions, strict=True))
        if needs_upcast(registry, kind, version)
    ]
    if not old:
        return table
    rows = table.to_pylist()
    for place in old:
        event_type = registry.get(kinds[place])
        if event_type is None or rows[place]["body_digest"] is not None:
            continue
        rows[place].update(_columns(event_type, versions[place], rows[place], table.schema))
        rows[place]["version"] = event_type.version
    return pa.Table.from_pylist(rows, schema=table.schema)


def _columns(event_type: EventType, version: int, row: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    fields = {name: row[name] for name in BODY_COLUMNS if row[name] is not None}
    software = fields.pop("software", None)
    payload = fields.pop("payload", None)
    if payload is not None:
        fields.update(load_json(payload, where="payload"))
    fields = upcast_fields(event_type, version, fields)
    columns: dict[str, Any] = dict.fromkeys(BODY_COLUMNS)
    columns["software"] = software
    own = {*event_type.columns, *AUDIT_FIELDS} - {"payload"}
    try:
        for name in own & fields.keys():
            columns[name] = fields[name]
            # Here, where it is known whose value it is; Arrow would only say that the table has a wrong one.
            pa.scalar(fields[name], schema.field(name).type)
        if not event_type.built_in:
            rest = {name: value for name, value in fields.items() if name not in own}
            columns["payload"] = dump_json(rest).decode()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        step = event_type.version - 1
        raise _failed(event_type, step, f"returned what cannot be stored: {error}") from error
    return columns
