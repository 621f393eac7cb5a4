"""Immutable Parquet segments: a writer's own and compacted ones, written whole, read back checked."""

from eventstore.segment.compacted import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    CompactedEncoder,
    laid_out,
    read_blocks,
    read_compacted,
)
from eventstore.segment.facts import KindCount, Segment, SegmentFile, WriterRun, combined
from eventstore.segment.opening import check_bytes, damaged, digest_in, missing, store_id_in
from eventstore.segment.own import count_kinds, describe, encode_segment, read_segment
from eventstore.segment.placed import read_placed

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_ROWS",
    "CompactedEncoder",
    "KindCount",
    "Segment",
    "SegmentFile",
    "WriterRun",
    "check_bytes",
    "combined",
    "count_kinds",
    "damaged",
    "describe",
    "digest_in",
    "encode_segment",
    "laid_out",
    "missing",
    "read_blocks",
    "read_compacted",
    "read_placed",
    "read_segment",
    "store_id_in",
]
