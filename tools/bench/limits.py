"""What cannot be beaten: bare writes, hashing, Parquet and SQLite, over the same bytes and rows."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eventstore.codec.schema import BODY_COLUMNS
from eventstore.hashing import bencode

__all__ = ["bare_create", "bare_hashes", "bare_parquet", "bare_sqlite", "bare_writes", "hash_inputs"]


def bare_writes(path: Path, lines: Sequence[bytes], *, sync: bool = False) -> float:
    """Append each line by one ``os.write``, each forced to the device if `sync`; returns seconds."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    write, force = os.write, os.fdatasync
    started = time.perf_counter()
    for line in lines:
        write(descriptor, line)
        if sync:
            force(descriptor)
    seconds = time.perf_counter() - started
    os.close(descriptor)
    path.unlink()
    return seconds


def bare_sqlite(
    path: Path, rows: Sequence[tuple[object, ...]], *, batch: int, synchronous: str = "OFF"
) -> float:
    """Insert rows of (kind, time, entity, body), `batch` of them a transaction; returns seconds.

    One table, a primary key and write-ahead logging: the least that a database does for the same rows.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute(
        "CREATE TABLE event "
        "(sequence INTEGER PRIMARY KEY, kind TEXT, recorded INTEGER, entity TEXT, body BLOB)"
    )
    statement = "INSERT INTO event (kind, recorded, entity, body) VALUES (?, ?, ?, ?)"
    started = time.perf_counter()
    for first in range(0, len(rows), batch):
        if batch == 1:
            connection.execute(statement, rows[first])
        else:
            connection.execute("BEGIN")
            connection.executemany(statement, rows[first : first + batch])
            connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return seconds


def hash_inputs(table: pa.Table) -> list[int]:
    """How many bytes the bodies of a table's rows are, one by one."""
    sizes = []
    for row in table.select(BODY_COLUMNS).to_pylist():
        sizes.append(17 + len(bencode(_plain(row))))
    return sizes


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(item) for name, item in value.items() if item is not None}
        case list():
            return [_plain(item) for item in value]
        case dt.datetime():
            return int(value.timestamp() * 1e6)
        case bool():
            return int(value)
    return value


def bare_hashes(bodies: Sequence[int], nodes: int | None = None) -> float:
    """SHA-256 of a body and a header (190 bytes) for each length, and of tree nodes (65 bytes).

    Returns the seconds. `nodes` is the number of tree nodes; None means one a body.
    """
    noise = os.urandom(70_000)
    inputs = [noise[: min(length, 70_000)] for length in bodies]
    inputs += [noise[place % 1000 : place % 1000 + 190] for place in range(len(bodies))]
    inputs += [noise[place % 1000 : place % 1000 + 65] for place in range(nodes or len(bodies))]
    sha256 = hashlib.sha256
    started = time.perf_counter()
    for raw in inputs:
        sha256(raw).digest()
    return time.perf_counter() - started


def bare_create(path: Path, data: bytes) -> None:
    """Make a file whole and exclusively, in the one sound way: temporary file, sync, link, sync."""
    temporary = path.with_name(f".{path.name}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, data)
    os.fsync(descriptor)
    os.close(descriptor)
    os.link(temporary, path)
    temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def bare_parquet(table: pa.Table) -> float:
    """Encode the same columns with pyarrow's defaults and zstd; returns seconds."""
    started = time.perf_counter()
    pq.write_table(table, pa.BufferOutputStream(), compression="zstd", compression_level=3)
    return time.perf_counter() - started
