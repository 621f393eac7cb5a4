"""The one room where the log meets polars: the sealed log, and its tail, as a LazyFrame.

Local segments without old versions are scanned natively; everything else goes through the reader batch by
batch, with the same columns and the same order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from eventstore.codec.upcast import needs_upcast
from eventstore.events.registry import Registry
from eventstore.filesystem import Storage
from eventstore.log.reader import READ_SCHEMA, LogReader, check_question, checked_columns, select_segments
from eventstore.log.sequence import SealSequence
from eventstore.segment import Segment

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
    chosen = select_segments(now.segments, after=after, until=end, kinds=kinds)
    old = any(needs_upcast(registry, kind.kind, kind.version) for segment in chosen for kind in segment.kinds)
    if tail or old or not storage.abilities.local or end > _LARGEST_OFFSET:
        return _through_reader(reader, after, None if tail else end, kinds, names, tail)
    if not chosen:
        return _empty(names)
    if check:
        for segment in chosen:
            reader.checked.ensure(segment.path)
    frames = [_native(storage, run) for run in _runs(chosen)]
    frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical", rechunk=False)
    if after is not None and (chosen[0].first_position or 0) <= after:
        frame = frame.filter(pl.col("position") > after)
    if chosen[-1].end_position > end:
        frame = frame.filter(pl.col("position") < end)
    if kinds is not None:
        frame = frame.filter(pl.col("kind").is_in(sorted(kinds)))
    return frame.select(names)


def _runs(segments: list[Segment]) -> Iterator[list[Segment]]:
    """Split into runs without gaps, each of which one scan can number."""
    run: list[Segment] = []
    for segment in segments:
        if run and run[-1].end_position != segment.first_position:
            yield run
            run = []
        run.append(segment)
    yield run


def _native(storage: Storage, run: list[Segment]) -> pl.LazyFrame:
    return pl.scan_parquet(
        [storage.polars_source(segment.path) for segment in run],
        row_index_name="position",
        row_index_offset=run[0].first_position or 0,
        glob=False,
        hive_partitioning=False,
        cache=False,
    ).with_columns(pl.col("position").cast(pl.Int64))


def _schema(names: list[str]) -> pl.Schema:
    empty = pl.from_arrow(READ_SCHEMA.empty_table().select(names))
    return empty.schema if isinstance(empty, pl.DataFrame) else pl.Schema()


def _empty(names: list[str]) -> pl.LazyFrame:
    return pl.LazyFrame(schema=_schema(names))


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
