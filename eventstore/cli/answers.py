"""Answers of a query: a table for people, or CSV, JSON lines and Parquet for programs, batch by batch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import polars as pl

from eventstore.cli import render
from eventstore.cli.sql import cleaned

__all__ = ["show_table", "write"]

_BATCH_ROWS = 50_000


@contextlib.contextmanager
def _asked() -> Iterator[None]:
    """Turn what polars finds wrong with a query while it runs into our error."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise cleaned(error) from error


def show_table(frame: pl.LazyFrame, *, limit: int) -> None:
    """Print at most `limit` rows (0: all) as a table, and say on stderr if there are more."""
    with _asked():
        found = (frame.head(limit + 1) if limit else frame).collect()
    shown = found.head(limit) if limit else found
    right = [name for name, dtype in found.schema.items() if dtype.is_numeric()]
    render.table(found.columns, shown.iter_rows(), right=right)
    if found.height > shown.height:
        render.note(f"these are the first {limit} rows; --limit 0 shows all, --output FILE writes them")
    elif not found.height:
        render.note("no rows")


def write(frame: pl.LazyFrame, form: str, path: Path | None) -> int:
    """Write all rows as ``csv``, ``json`` or ``parquet`` to a file or to stdout; returns how many.

    A file appears whole or not at all. CSV knows no nested columns and no bytes: those are written as JSON
    and as base64.
    """
    if path is None:
        sys.stdout.flush()
        return _write(frame, form, sys.stdout.buffer)
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("wb") as target:
            rows = _write(frame, form, target)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return rows


def _write(frame: pl.LazyFrame, form: str, target: IO[bytes]) -> int:
    with _asked():
        if form == "parquet":
            found = frame.collect()
            found.write_parquet(target)
            return found.height
        rows = 0
        if form == "csv":
            _flat(frame.collect_schema().to_frame()).write_csv(target)
        for batch in frame.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
            rows += batch.height
            if form == "csv":
                _flat(batch).write_csv(target, include_header=False)
            else:
                target.writelines(
                    f"{render.json_text(row)}\n".encode() for row in batch.iter_rows(named=True)
                )
        target.flush()
        return rows


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    def as_text(value: Any) -> str | None:
        return value if value is None or isinstance(value, str) else render.json_text(value)

    made = []
    for column in frame:
        dtype = column.dtype
        if dtype == pl.Binary:
            column = column.bin.encode("base64")
        elif dtype.is_nested():
            values = [as_text(render.plain(value)) for value in column]
            column = pl.Series(column.name, values, pl.String)
        elif isinstance(dtype, pl.Datetime):
            text = column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
            column = text + "Z" if dtype.time_zone else text
        made.append(column)
    return pl.DataFrame(made)
