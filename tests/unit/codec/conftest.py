"""Random rows of every kind, wilder than the event models allow, for tests of what is done in bulk."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from eventstore.codec.rows import Row
from eventstore.codec.schema import SCHEMA
from eventstore.events.registry import AUDIT_FIELDS, Registry

USERS_KINDS = {
    "lab.sample_measured": ("job_id", "stream", "payload"),
    "lab.plate_moved": ("payload",),
    "lab.nothing_said": (),
}
_TEXTS = ("", "a", "0" * 40, "naïve", "日本語", "\x00\n", "é" * 300, "😀", '{"a":[1,2]}')
_ZONES = (dt.UTC, dt.timezone(dt.timedelta(hours=-9, minutes=30)))


@pytest.fixture
def random_rows() -> Callable[..., list[Row]]:
    """A maker of `count` rows from a seed; a field is None in `missing` of all cases."""
    return _random_rows


def _random_rows(count: int, *, seed: int, missing: float = 0.3, kinds: int | None = None) -> list[Row]:
    rng = random.Random(seed)
    columns = {event_type.kind: event_type.columns for event_type in Registry()} | USERS_KINDS
    names = sorted(columns)[:kinds]
    rows = []
    for sequence in range(count):
        kind = rng.choice(names)
        fields = {}
        for name in (*columns[kind], *AUDIT_FIELDS):
            value = None if rng.random() < missing else _value(rng, SCHEMA.field(name).type)
            if value is not None or rng.random() < 0.5:
                fields[name] = value
        recorded_us = rng.randrange(-(10**15), 2 * 10**15)
        rows.append(Row(kind, rng.randrange(1, 12), columns[kind], fields, sequence, recorded_us))
    return rows


def _value(rng: random.Random, kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind):
        moment = dt.datetime(1969, 12, 31, tzinfo=rng.choice(_ZONES))
        moment += dt.timedelta(microseconds=rng.randrange(10**15))
        return rng.choice([moment, rng.randrange(-(10**14), 10**15)])
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_int64(kind):
        return rng.choice([0, -1, 10, 2**62, rng.randrange(10**6)])
    if pa.types.is_int32(kind):
        return rng.choice([0, 9, 10, 2**31 - 1])
    if pa.types.is_binary(kind):
        return rng.randbytes(rng.choice([0, 1, 9, 10, 99, 100, 1001]))
    if pa.types.is_list(kind):
        return tuple(_value(rng, kind.value_type) for _ in range(rng.choice([0, 0, 1, 2, 12])))
    if pa.types.is_struct(kind):
        members = {member.name: _value(rng, member.type) for member in kind}
        return {name: None if rng.random() < 0.3 else value for name, value in members.items()}
    return rng.choice(_TEXTS)
