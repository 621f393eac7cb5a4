"""JSON, the only room with orjson: payloads of users' kinds, seals, the store's own file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any

import orjson

from eventstore.errors import IntegrityError, InvalidEventError
from eventstore.events.envelope import Event

__all__ = ["dump_fields", "dump_json", "dump_model", "load_json"]


def dump_json(value: Any, *, indent: bool = False) -> bytes:
    """Encode `value` as UTF-8 JSON with sorted keys; datetimes as ISO 8601, enums by value.

    Raises
    ------
    InvalidEventError
        JSON has no such thing, such as an integer of more than 64 bits, or NaN (code ``not_json``).
    """
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    try:
        raw = orjson.dumps(value, option=options | orjson.OPT_INDENT_2 if indent else options)
    except orjson.JSONEncodeError as error:
        raise _not_json(error) from error
    # NaN and the infinities become null, and would come back as that.
    if b"null" in raw and not _is_finite(value):
        raise _not_json("a number that is not finite")
    return raw


def dump_fields(value: Any) -> bytes:
    """Encode events' fields as they stand in memory: bytes as base64, models as objects. Keys unsorted.

    Raises like `dump_json`.
    """
    try:
        return orjson.dumps(value, default=_plain)
    except orjson.JSONEncodeError as error:
        raise _not_json(error) from error


def dump_model(event: Event, names: Collection[str]) -> bytes:
    """Encode some fields of an event as `dump_json` does, whatever is inside them; raises like it."""
    chosen = set(names)
    try:
        raw = dump_json(event.model_dump(mode="json", include=chosen))
    except InvalidEventError:
        raise
    except ValueError as error:  # pydantic's, where a field of type Any holds what it does not know
        raise _not_json(error) from error
    if b"null" in raw and not _is_finite(event.model_dump(include=chosen)):
        raise _not_json("a number that is not finite")
    return raw


def _not_json(found: object) -> InvalidEventError:
    return InvalidEventError(
        "text, finite numbers of at most 64 bits, lists and mappings were expected, found what JSON cannot "
        f"hold ({found}); give it as text. Nothing was stored",
        code="not_json",
    )


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    if isinstance(value, Mapping):
        return all(_is_finite(key) and _is_finite(member) for key, member in value.items())
    return not isinstance(value, (list, tuple, set, frozenset)) or all(map(_is_finite, value))


def _plain(value: Any) -> Any:
    return b64encode(value).decode() if isinstance(value, bytes) else value.__dict__


def load_json(raw: bytes | str, *, where: str) -> Any:
    """Decode JSON; raises IntegrityError (code ``bad_json``) that names `where` it came from."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise IntegrityError(
            f"JSON was expected in {where}, found text that does not parse ({error}); "
            "run `eventstore verify`",
            code="bad_json",
            path=where,
        ) from error
