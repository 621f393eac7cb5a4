"""JSON, the only room with orjson: payloads of users' kinds, seals, the store's own file."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson

from eventstore.errors import IntegrityError, InvalidEventError

__all__ = ["dump_fields", "dump_json", "load_json"]


def dump_json(value: Any, *, indent: bool = False) -> bytes:
    """Encode `value` as UTF-8 JSON with sorted keys; datetimes as ISO 8601, enums by value.

    Raises
    ------
    InvalidEventError
        JSON has no such thing, such as an integer of more than 64 bits (code ``not_json``).
    """
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    try:
        return orjson.dumps(value, option=options | orjson.OPT_INDENT_2 if indent else options)
    except orjson.JSONEncodeError as error:
        raise InvalidEventError(
            f"text, numbers of at most 64 bits, lists and mappings were expected, found what JSON cannot "
            f"hold ({error}); give it as text. Nothing was stored",
            code="not_json",
        ) from error


def dump_fields(value: Any) -> bytes:
    """Encode events' fields as they stand in memory: bytes as base64, models as objects. Keys unsorted."""
    return orjson.dumps(value, default=_plain)


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
