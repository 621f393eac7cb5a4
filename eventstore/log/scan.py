"""The one room where the log meets polars: the sealed log, and its tail, as a LazyFrame.

Local segments without old versions are scanned by polars itself, some at a time, with filters and columns
pushed down, and come in the order of the log. Everything else goes through the reader batch by batch, with
the same columns and the same order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from eventstore.chain import Snapshot
from eventstore.codec.upcast import needs_upcast
from eventstore.errors import NotFoundError
from eventstore.events.registry import Registry
from eventstore.filesystem import Storage
from eventstore.log.reader import READ_SCHEMA, LogReader, check_question, checked_columns, select_segments
from eventstore.log.sequence import SealSequence
from eventstore.segment import BLOCK_ROWS, Segment, missing

__all__ = ["scan_log"]

_LARGEST_OFFSET = 2**32 - 1


def scan_log(
    storage: Storage,
    sequence: SealSequence,
    reader: LogReader,
    registry: Registry,
    *,
    after: int | None = None,
    until: int | None = None,
    kinds: Collection[str] | None = None,
    columns: Collection[str] | None = None,
    tail: bool = False,
    check: bool = True,
) -> pl.LazyFrame:
    """Return events as a lazy table, ``position`` (Int64) first; parameters as in `LogReader.read`.

    The sequence is taken now: what is sealed later is not in the table, whenever it is collected. With
    `check`, each segment file is compared with its digest before its first use in this process (about a
    second a gigabyte); without, damage inside a page can go unseen, because polars ignores page checksums.
    """
    check_question(kinds=kinds, until=until, tail=tail)
    names = checked_columns(columns)
    now = sequence.refresh()
    end = now.peaks.size if until is None else min(until, now.peaks.size)
    asked = _Question(after, end, kinds, names)
    chosen = asked.segments(now)
    old = any(needs_upcast(registry, kind.kind, kind.version) for segment in chosen for kind in segment.kinds)
    if tail or old or not storage.abilities.local or end > _LARGEST_OFFSET:
        return _through_reader(reader, after, None if tail else end, kinds, names, tail)
    if not chosen:
        return pl.LazyFrame(schema=_schema(names))
    if check:
        for segment in chosen:
            reader.checked.ensure(segment.path)
    return _Scan(storage, reader, asked, now, check=check).frame()


@dataclass(frozen=True, slots=True)
class _Question:
    """Which events, and which columns of them."""

    after: int | None
    until: int
    kinds: Collection[str] | None
    names: list[str]

    def segments(self, now: Snapshot, reached: int | None = None) -> list[Segment]:
        """Return the segments to read, behind the position that was reached."""
        after = self.after if reached is None else reached
        return select_segments(now.segments, after=after, until=self.until, kinds=self.kinds)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is read at once: neighbouring segments of writers, or one block of a compacted segment."""

    segments: list[Segment]
    first: int
    end: int

    def frame(self, storage: Storage, question: _Question, begin: int) -> pl.LazyFrame:
        """Return the events from position `begin` on that are asked for, in any order."""
        sources = [storage.polars_source(segment.path) for segment in self.segments]
        compacted = self.segments[0].is_compacted
        numbered: dict[str, Any] = {"row_index_name": "position", "row_index_offset": self.first}
        frame = pl.scan_parquet(
            sources, glob=False, hive_partitioning=False, cache=False, **({} if compacted else numbered)
        )
        if not compacted:
            frame = frame.with_columns(pl.col("position").cast(pl.Int64))
        if compacted or begin > self.first:
            frame = frame.filter(pl.col("position") >= max(begin, self.first))
        if compacted or question.until < self.end:
            frame = frame.filter(pl.col("position") < min(question.until, self.end))
        if question.kinds is not None:
            # One by one: the statistics of row groups are compared with these, and not with a list.
            one_of = [pl.col("kind") == kind for kind in sorted(question.kinds)]
            frame = frame.filter(pl.any_horizontal(one_of) if one_of else pl.lit(value=False))
        return frame


class _Scan:
    """Reads the pieces of a log in order, and goes on in other files where some were cleaned away."""

    def __init__(
        self, storage: Storage, reader: LogReader, question: _Question, now: Snapshot, *, check: bool
    ) -> None:
        self._storage = storage
        self._reader = reader
        self._question = question
        self._now = now
        self._check = check

    def frame(self) -> pl.LazyFrame:
        """Return the lazy table."""
        return register_io_source(self._batches, schema=_schema(self._question.names), is_pure=True)

    def _batches(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        wanted = self._question.names if with_columns is None else with_columns
        now, reached, left = self._now, self._question.after, n_rows
        while True:
            try:
                for piece in self._pieces(now, reached):
                    begin = 0 if reached is None else reached + 1
                    found = self._read(piece, begin, wanted, predicate, left)
                    if left is not None:
                        left -= found.height
                    reached = piece.end - 1
                    yield found
                    if left == 0:
                        return
            except NotFoundError as error:
                now = self._reader.anew(now, error)
                if self._check:
                    for segment in self._question.segments(now, reached):
                        self._reader.checked.ensure(segment.path)
            else:
                return

    def _pieces(self, now: Snapshot, reached: int | None) -> Iterator[_Piece]:
        run: list[Segment] = []
        for segment in self._question.segments(now, reached):
            first = segment.first_position or 0
            if run and (
                segment.is_compacted
                or run[-1].end_position != first
                or segment.end_position - (run[0].first_position or 0) > BLOCK_ROWS
            ):
                yield _Piece(run, run[0].first_position or 0, run[-1].end_position)
                run = []
            if not segment.is_compacted:
                run.append(segment)
                continue
            begin = 0 if reached is None else reached + 1
            for rows in self._reader.blocks(segment):
                if first < self._question.until and first + rows > begin:
                    yield _Piece([segment], first, first + rows)
                first += rows
        if run:
            yield _Piece(run, run[0].first_position or 0, run[-1].end_position)

    def _read(
        self,
        piece: _Piece,
        begin: int,
        wanted: list[str],
        predicate: pl.Expr | None,
        left: int | None,
    ) -> pl.DataFrame:
        frame = piece.frame(self._storage, self._question, begin)
        if predicate is not None:
            frame = frame.filter(predicate)
        if piece.segments[0].is_compacted:
            frame = frame.select(list(dict.fromkeys([*wanted, "position"]))).sort("position")
        if left is not None:
            frame = frame.head(left)
        try:
            return frame.select(wanted).collect()
        except (OSError, pl.exceptions.PolarsError):
            for segment in piece.segments:
                if not self._storage.exists(segment.path):
                    raise missing(segment.path, self._storage.url) from None
            raise


def _schema(names: list[str]) -> pl.Schema:
    empty = pl.from_arrow(READ_SCHEMA.empty_table().select(names))
    return empty.schema if isinstance(empty, pl.DataFrame) else pl.Schema()


def _through_reader(
    reader: LogReader,
    after: int | None,
    until: int | None,
    kinds: Collection[str] | None,
    names: list[str],
    tail: bool,
) -> pl.LazyFrame:
    def batches(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        _batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        wanted = names if with_columns is None else with_columns
        read: Any = None if predicate is not None else wanted
        for batch in reader.read(after=after, until=until, kinds=kinds, columns=read or names, tail=tail):
            frame = pl.DataFrame(batch)
            if predicate is not None:
                frame = frame.filter(predicate)
            frame = frame.select(wanted)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame
            if left == 0:
                return

    return register_io_source(batches, schema=_schema(names), is_pure=not tail)
