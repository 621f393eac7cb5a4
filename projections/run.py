"""Runs: what a range of positions made of a table, as immutable Parquet files sorted by key.

The first run of a table holds everything up to its end, finished: its files of role `table` are what people
read by path. Later runs hold the states that newer events gave; who reads joins them. A file is named by its
SHA-256, and is compared with it before its first use.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import polars as pl

from eventstore import Storage
from eventstore.layout import run_folder, run_name
from projections.digest import ContentDigest
from projections.files import check_file, read_source
from projections.projection import Projection

__all__ = ["CHUNK_ROWS", "Place", "Role", "Run", "RunFile", "RunWriter", "read_chunks", "remove_run"]

Role = Literal["state", "table"]

CHUNK_ROWS = 32_768
"""Rows of a row group, and of a batch in which a run is read."""

_FILE_ROWS = 131_072
_MOST_ROWS = 393_216
"""Rows that a writer holds back at most."""
_SLICE_POSITIONS = 4_194_304
"""Rows of a finished table whose positions fall into one range of this length, at least, lie together."""
_MOST_SLICES = 4
"""A table has about so many of these ranges at most: rows of all of them wait at once to fill files."""
_SAMPLE_ROWS = 1_024
_ZSTD_LEVEL = 1
"""Tables are mostly hashes, which a higher level makes slower to write and no smaller."""


class Place(Protocol):
    """What of a store is needed to keep tables."""

    @property
    def storage(self) -> Storage:
        """Where the files are."""

    @property
    def store_id(self) -> str:
        """Which store this is."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """One file of a run."""

    role: Role
    """``table``: finished rows; ``state``: rows to be joined with those of other runs."""
    slice: int
    """Files of one role and slice are sorted by key from the first to the last; slices share no key."""
    sha256: str
    size_bytes: int
    rows: int

    @property
    def name(self) -> str:
        """The file's path in the run's folder."""
        return f"{self.role}/{self.sha256}.parquet"


@dataclass(frozen=True, slots=True)
class Run:
    """What the events `first` to `until` - 1 made of a table; the first run's `first` is 0."""

    first: int
    until: int
    name: str
    """Its folder's name."""
    rows: int
    """Rows of the state."""
    digest: str
    """Content digest of the state, or of the table where the state is the table."""
    table_rows: int | None
    """Rows of the finished table, in the first run."""
    table_digest: str | None
    """Content digest of the finished table, in the first run."""
    files: tuple[RunFile, ...]

    @property
    def is_finished(self) -> bool:
        """Whether it has the table itself: it is the first run."""
        return self.table_digest is not None

    def of_role(self, role: Role) -> list[RunFile]:
        """Return its files of a role, in order; the state is the table where it has no state of its own."""
        files = [file for file in self.files if file.role == role]
        return files if files or role == "table" else self.of_role("table")

    def slices(self, role: Role) -> list[list[RunFile]]:
        """Return its files of a role, those of each slice together."""
        by_slice: dict[int, list[RunFile]] = {}
        for file in self.of_role(role):
            by_slice.setdefault(file.slice, []).append(file)
        return list(by_slice.values())


def read_chunks(
    storage: Storage, recipe: Projection, run: Run, files: Sequence[RunFile]
) -> Iterator[pl.DataFrame]:
    """Yield the rows of sorted files in batches, each file checked before its first row.

    Raises
    ------
    ProjectionError
        A file is missing or damaged.
    """
    folder = run_folder(recipe.name, recipe.version, run.name)
    for file in files:
        path = f"{folder}/{file.name}"
        raw = check_file(storage, recipe, path, sha256=file.sha256, size_bytes=file.size_bytes)
        source = pl.scan_parquet(
            read_source(storage, path, raw), glob=False, hive_partitioning=False, cache=False
        )
        for start in range(0, file.rows, CHUNK_ROWS):
            yield source.slice(start, CHUNK_ROWS).collect(engine="in-memory")


def remove_run(storage: Storage, recipe: Projection, run: Run) -> None:
    """Delete a run's files."""
    folder = run_folder(recipe.name, recipe.version, run.name)
    for file in run.files:
        storage.delete(f"{folder}/{file.name}")


class RunWriter:
    """Writes one run of a table from batches of its state, in key order.

    Parameters
    ----------
    first, until
        The range of positions; a run from 0 on is finished into the table, too.

    Nothing shows what was written until a manifest names it; `discard` removes it.
    """

    def __init__(self, store: Place, recipe: Projection, *, first: int, until: int) -> None:
        self._recipe = recipe
        self._first, self._until = first, until
        self.name = run_name(first, until, dt.datetime.now(dt.UTC), secrets.token_hex(4))
        folder = run_folder(recipe.name, recipe.version, self.name)
        self._table = _Files(store.storage, folder, "table", recipe.schema, recipe.key) if not first else None
        self._state = None
        if self._table is None or recipe.finish is not None:
            self._state = _Files(store.storage, folder, "state", recipe.state_schema, recipe.group)
        self._storage, self._folder = store.storage, folder

    def add(self, state: pl.DataFrame) -> None:
        """Take in the next rows of the state: whole groups of what `Projection.table` finishes together."""
        if self._state is not None:
            self._state.add(state)
        if self._table is not None:
            table = self._recipe.table(state)
            placed = table.schema.get("position") == pl.Int64
            length = max(_SLICE_POSITIONS, -(-self._until // _MOST_SLICES))
            self._table.add(table, slice_positions=length if placed else None)

    def close(self) -> Run:
        """Write what is left and return the run."""
        state, table = self._state, self._table
        kept = state or table
        if kept is None:
            raise AssertionError("a run has a state or a table")
        for files in (table, state):
            if files is not None:
                files.close()
        return Run(
            first=self._first,
            until=self._until,
            name=self.name,
            rows=kept.digest.rows,
            digest=kept.digest.hexdigest(),
            table_rows=table.digest.rows if table else None,
            table_digest=table.digest.hexdigest() if table else None,
            files=(*(table.written if table else ()), *(state.written if state else ())),
        )

    def discard(self) -> None:
        """Delete what was written."""
        for files in (self._table, self._state):
            for file in files.written if files is not None else ():
                self._storage.delete(f"{self._folder}/{file.name}")


class _Files:
    """The files of one role: rows wait, slice by slice, until there are enough for a file."""

    def __init__(
        self, storage: Storage, folder: str, role: Role, schema: pl.Schema, key: Sequence[str]
    ) -> None:
        self._storage, self._folder, self._role, self._schema = storage, folder, role, schema
        self._waiting: dict[int, list[pl.DataFrame]] = {}
        self._rows: dict[int, int] = {}
        self.digest = ContentDigest(schema, key)
        self.written: list[RunFile] = []

    def add(self, frame: pl.DataFrame, *, slice_positions: int | None = None) -> None:
        self.digest.add(frame)
        for number, rows in _by_slice(frame, slice_positions) if slice_positions else [(0, frame)]:
            self._waiting.setdefault(number, []).append(rows)
            self._rows[number] = self._rows.get(number, 0) + rows.height
            if self._rows[number] >= _FILE_ROWS:
                self._write(number)
        if sum(self._rows.values()) > _MOST_ROWS:
            self._write(max(self._rows, key=self._rows.__getitem__))

    def close(self) -> None:
        if not self.written and not any(self._rows.values()):
            self._waiting, self._rows = {0: [self._schema.to_frame()]}, {0: 0}
        while self._waiting:
            self._write(min(self._waiting))
        self.written.sort(key=lambda file: file.slice)  # stable: order within a slice stays

    def _write(self, number: int) -> None:
        frame = pl.concat(self._waiting.pop(number))
        rows = self._rows.pop(number)
        # What is more than full files waits for the next rows, unless there are no full ones.
        rest = rows % _FILE_ROWS if rows > _FILE_ROWS else 0
        if rest:
            self._waiting[number], self._rows[number] = [frame.tail(rest)], rest
        for start in range(0, max(1, rows - rest), _FILE_ROWS):
            part = frame.slice(start, min(_FILE_ROWS, rows - rest - start))
            data = _encoded(part)
            file = RunFile(self._role, number, hashlib.sha256(data).hexdigest(), len(data), part.height)
            self.written.append(file)  # first: a put that says that it failed may have left the file
            self._storage.put(f"{self._folder}/{file.name}", data)


def _encoded(part: pl.DataFrame) -> bytes:
    """Return rows as a Parquet file: what hardly repeats without a dictionary, which would only cost time."""
    dictionary, encodings = [], {}
    for column in part.iter_columns():
        if column.dtype == pl.String and column.head(_SAMPLE_ROWS).n_unique() > _SAMPLE_ROWS // 2:
            encodings[column.name] = "DELTA_LENGTH_BYTE_ARRAY"
        elif column.dtype == pl.Int64 or isinstance(column.dtype, pl.Datetime):
            encodings[column.name] = "DELTA_BINARY_PACKED"
        elif column.dtype == pl.String:
            dictionary.append(column.name)
    buffer = io.BytesIO()
    part.write_parquet(
        buffer,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        row_group_size=CHUNK_ROWS,
        use_pyarrow=True,
        pyarrow_options={"use_dictionary": dictionary, "column_encoding": encodings},
    )
    return buffer.getvalue()


def _by_slice(frame: pl.DataFrame, positions: int) -> Iterator[tuple[int, pl.DataFrame]]:
    if not frame.height:
        return
    numbers = frame["position"].fill_null(0) // positions
    low, high = int(_whole(numbers.min())), int(_whole(numbers.max()))
    if low == high:
        yield low, frame
        return
    for number in numbers.unique().sort():
        yield int(number), frame.filter(numbers == number)


def _whole(number: Any) -> int:
    return int(number)
