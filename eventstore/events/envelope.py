"""What every event has: the base model, the field types it is built from, and its recorded form.

Input is validated once, here at the door: an event object that exists is well formed. Bad input raises
`InvalidEventError`, which names field, expectation, finding and next step for every fault it found.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from eventstore.errors import InvalidEventError
from eventstore.ids import EventId, Position

__all__ = [
    "MAX_TEXT",
    "DataDigest",
    "EntityId",
    "Event",
    "FieldFault",
    "Hash",
    "Hashes",
    "Int32",
    "Int64",
    "Name",
    "Record",
    "RecordedEvent",
    "Text",
    "Time",
    "parse_json_text",
]

MAX_TEXT = 16 * 1024 * 1024
"""Most characters of a source text or a payload."""

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
"""An entity id: 40 lower-case hex characters (REDUN ids, see docs/format.md)."""

DataDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""The name of bytes in the value store: 64 lower-case hex characters."""

Hashes = Annotated[tuple[Hash, ...], Field(strict=False)]
"""Entity ids in order; any sequence is accepted."""

EntityId = Annotated[str, StringConstraints(min_length=1, max_length=512)]
"""An id that is not a hash: of an execution, a job, a stream."""

Name = Annotated[str, StringConstraints(max_length=4096)]
"""A short text: a name, a key, a version, a path, a media type."""

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
"""A long text: source code, JSON."""


def _utc(moment: dt.datetime) -> dt.datetime:
    # Text forms of a time round its offset to minutes; history has zones with seconds.
    return moment if moment.tzinfo is dt.UTC else moment.astimezone(dt.UTC)


Time = Annotated[
    AwareDatetime,
    Field(ge=dt.datetime.min.replace(tzinfo=dt.UTC), le=dt.datetime.max.replace(tzinfo=dt.UTC)),
    AfterValidator(_utc),
]
"""A moment given with a timezone, in the years 1 to 9999 of UTC; kept as UTC in whole microseconds."""

Int32 = Annotated[int, Field(ge=0, le=(1 << 31) - 1)]
"""A count or place that fits a column of 32 bits."""

Int64 = Annotated[int, Field(ge=0, le=(1 << 63) - 1)]
"""A size that fits a column of 64 bits."""


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One fault of one field: `code` is stable, the rest is for a person."""

    field: str
    code: str
    expected: str
    found: str


class Record(BaseModel):
    """A frozen, strict model whose constructor raises our error instead of pydantic's."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        val_json_bytes="base64",
        ser_json_bytes="base64",
        hide_input_in_errors=True,
        allow_inf_nan=False,  # JSON has neither: they would come back as null
    )

    def __init__(self, /, **data: Any) -> None:
        try:
            self.__pydantic_validator__.validate_python(data, self_instance=self)
        except ValidationError as error:
            raise invalid_event(type(self), error) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with the fields of `update` in place of its own; unlike pydantic's, validated."""
        copy = super().model_copy(deep=deep)
        return type(self)(**{**copy.__dict__, **update}) if update else copy

    # Nested models are then validated in place, and their faults reported with those of the whole.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


class Event(Record):
    """A fact in the past tense, complete and frozen, before it has a place in the log.

    Raises
    ------
    InvalidEventError
        From the constructor, when a field is missing, unknown, of the wrong type or out of range; its
        ``faults`` are `FieldFault`s and its ``code`` is that of the first.
    """

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1

    occurred_at: Time | None = None
    """When the fact happened, by the caller's clock; None means when it was recorded."""
    actor: Name | None = None
    """Who did it; None takes the store's."""
    reason: Text | None = None
    """Why, where someone says so."""

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read an event from the JSON object of its fields; bytes are base64, times are ISO 8601."""
        try:
            return cls.__pydantic_validator__.validate_json(text)  # type: ignore[no-any-return]
        except ValidationError as error:
            raise invalid_event(cls, error) from None


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event with its place: what the log adds to the fact.

    `position` is None in the unsealed tail. `event` is the typed event, or the plain mapping of its
    columns when its kind is not registered in this process, its body was erased, or its model has
    grown stricter than what was recorded.
    """

    id: EventId
    position: Position | None
    kind: str
    version: int
    recorded_at: dt.datetime
    software: str | None
    event_hash: bytes
    event: Event | Mapping[str, Any]


_HASH_LENGTHS = {r"^[0-9a-f]{40}$": 40, r"^[0-9a-f]{64}$": 64}


def invalid_event(model: type[BaseModel], error: ValidationError) -> InvalidEventError:
    """Translate pydantic's report into ours, without echoing more of the input than a glimpse."""
    faults = []
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # the items that are missing have faults of their own
        place = ".".join(str(part) for part in item["loc"]) or "event"
        faults.append(FieldFault(place, *_describe(item)))
    kind = getattr(model, "kind", "") or model.__name__
    lines = "; ".join(f"{f.field}: expected {f.expected}, found {f.found}" for f in faults)
    return InvalidEventError(
        f"{kind}: {lines}. Correct the input and append again; nothing was stored",
        code=faults[0].code if faults else "invalid_event",
        kind=kind,
        field=faults[0].field if faults else None,
        faults=tuple(faults),
    )


def glimpse(value: Any, limit: int = 60) -> str:
    """A short printable form of bad input: its type and its first characters."""
    if isinstance(value, (bytes, bytearray, dict, list, tuple)):
        return f"{type(value).__name__} of length {len(value)}"
    try:
        text = repr(value)
    except Exception as error:
        text = f"an object whose repr raises {type(error).__name__}"
    return text if len(text) <= limit else f"{text[:limit]}... ({type(value).__name__})"


def _describe(item: Any) -> tuple[str, str, str]:
    """Return (code, expected, found) of one of pydantic's error records."""
    value, context = item["input"], item.get("ctx", {})
    match item["type"]:
        case "string_pattern_mismatch" if context.get("pattern") in _HASH_LENGTHS:
            length = _HASH_LENGTHS[context["pattern"]]
            expected = f"a hash of {length} lower-case hex characters"
            if "/" in value or "\\" in value:
                return "path_as_hash", f"{expected}, not a path", glimpse(value)
            if len(value) != length:
                return "hash_length", expected, f"{len(value)} characters: {glimpse(value)}"
            return "bad_hash", expected, glimpse(value)
        case "timezone_aware":
            return (
                "naive_time",
                "a time with a timezone, such as datetime.now(timezone.utc)",
                f"a naive time {glimpse(str(value))}",
            )
        case "missing":
            return "missing_field", "a value", "nothing"
        case "extra_forbidden":
            return "unknown_field", "no field of this name", glimpse(value)
        case "string_too_long" | "bytes_too_long":
            limit = context.get("max_length")
            return "too_long", f"at most {limit} characters", f"{len(value)}"
        case "string_too_short":
            return "too_short", f"at least {context.get('min_length')} characters", glimpse(value)
        case "too_long":
            return "too_long", f"at most {context.get('max_length')} items", glimpse(value)
        case "too_short":
            return "too_short", f"at least {context.get('min_length')} items", glimpse(value)
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            return "out_of_range", _expectation(item), glimpse(value)
        case "string_unicode":
            return "bad_text", "text that UTF-8 can encode (no lone surrogates)", glimpse(value)
        case "value_error":
            return "bad_value", str(context.get("error", item["msg"])), glimpse(value)
        case "enum" | "literal_error":
            return "bad_value", f"one of {context.get('expected')}", glimpse(value)
        case "json_invalid":
            return "bad_json", "a JSON object", str(context.get("error", item["msg"]))
        case str() as kind if kind.endswith(("_type", "_parsing")):
            found, name = glimpse(value), type(value).__name__
            return "wrong_type", _expectation(item), found if name in found else f"{name} {found}"
        case _:
            return "bad_value", _expectation(item), glimpse(value)


def _expectation(item: Any) -> str:
    return str(item["msg"]).removeprefix("Input should be ")


def parse_json_text(text: str) -> Any:
    """Parse JSON in a field of text; raises ValueError also where it is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
