"""Times of a database: SQLite gives UTC without saying so, PostgreSQL gives times with an offset."""

from __future__ import annotations

import datetime as dt
from typing import overload

__all__ = ["microseconds", "utc"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@overload
def utc(moment: dt.datetime) -> dt.datetime: ...
@overload
def utc(moment: None) -> None: ...
def utc(moment: dt.datetime | None) -> dt.datetime | None:
    """Return a time of the database with its timezone, UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def microseconds(moment: dt.datetime | None) -> int | None:
    """Return a time of the database in microseconds of Unix time."""
    return None if moment is None else (utc(moment) - _EPOCH) // dt.timedelta(microseconds=1)
