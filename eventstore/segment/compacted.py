"""A compacted segment: many segments' events in one file, laid out so that kind, time and position prune.

Rows lie in blocks of consecutive positions; inside a block they are sorted by kind, then by position, and no
row group spans two kinds or two blocks. A column `position`, first, says where each event stands.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Iterator, Sequence
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eventstore import layout
from eventstore.codec.schema import DICTIONARY_COLUMNS, FORMAT_VERSION, POSITION, SCHEMA
from eventstore.filesystem import Storage
from eventstore.ids import Digest
from eventstore.segment.facts import Segment, SegmentFile, combined
from eventstore.segment.opening import META, damaged, opened, other_store, raw_hashes, with_nulls
from eventstore.segment.own import ROW_GROUP_BYTES, ROW_GROUP_ROWS

__all__ = ["BLOCK_BYTES", "BLOCK_ROWS", "CompactedEncoder", "laid_out", "read_blocks", "read_compacted"]

BLOCK_ROWS = 262_144
"""Most rows of a block: what a reader puts back in order at once."""
BLOCK_BYTES = 64 * 1024 * 1024
"""Uncompressed bytes beyond which a block ends, if it has as few rows as that."""
_PAGE_BYTES = 8 * 1024 * 1024
"""A page of small values that compresses well against each other; small ones cost a fifth of the file."""

_SCHEMA = pa.schema([POSITION, *SCHEMA])
_INTEGERS = ("position", "sequence", "recorded_at", "occurred_at", "size_bytes")
_TEXTS = frozenset({"args", "data", "file_path", "payload", "reason", "source"})
"""Columns of any text or bytes; all others that are not repeated hold ids."""
_STATISTICS = ("position", "kind", "writer", "recorded_at", "occurred_at", "execution_id")


@cache  # and not a constant: to write even an empty table imports pandas, where that is installed
def _encodings() -> dict[str, str]:
    """Differences for integers; lengths apart from characters for ids, which then take half a byte each."""
    leaves = pq.ParquetFile(pa.BufferReader(_empty())).schema
    encodings = dict.fromkeys(_INTEGERS, "DELTA_BINARY_PACKED")
    for number in range(len(leaves)):
        leaf = leaves.column(number)
        top = leaf.path.partition(".")[0]
        if leaf.physical_type == "BYTE_ARRAY" and top not in _TEXTS and top not in DICTIONARY_COLUMNS:
            encodings[leaf.path] = "DELTA_LENGTH_BYTE_ARRAY"
    return encodings


def _empty() -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(_SCHEMA.empty_table(), sink)
    return sink.getvalue()


class CompactedEncoder:
    """Encodes one compacted segment in memory, block by block.

    Parameters
    ----------
    store_id
        The store that it belongs to; the footer names it.
    """

    def __init__(self, store_id: str) -> None:
        self._store_id = store_id
        self._sink = pa.BufferOutputStream()
        self._blocks: list[int] = []
        self._digest = hashlib.sha256()
        self._writer = pq.ParquetWriter(
            self._sink,
            _SCHEMA,
            compression="zstd",
            compression_level=3,
            use_dictionary=list(DICTIONARY_COLUMNS),
            column_encoding=_encodings(),
            data_page_size=_PAGE_BYTES,
            write_statistics=list(_STATISTICS),
            write_page_checksum=True,
            store_schema=True,
        )

    @property
    def size_bytes(self) -> int:
        """Bytes so far."""
        return int(self._sink.tell())

    def add(self, block: pa.Table, rows: pa.Table | None = None) -> None:
        """Add a block: consecutive positions in order, ``position`` first, at least one row.

        Parameters
        ----------
        rows
            The same as `laid_out` returns them, where that is at hand.
        """
        for raw in raw_hashes(block["event_hash"]):
            self._digest.update(raw)
        if rows is None:
            rows = laid_out(block)
        start = 0
        for end in pc.run_end_encode(rows["kind"].chunk(0)).run_ends.to_pylist():
            group = rows.slice(start, end - start)
            most = group.num_rows * ROW_GROUP_BYTES // max(1, group.nbytes)
            self._writer.write_table(group, row_group_size=max(1, min(ROW_GROUP_ROWS, most)))
            start = end
        self._blocks.append(block.num_rows)

    def finish(self, originals: Sequence[Segment]) -> SegmentFile:
        """Return the file that takes the place of `originals`."""
        known = combined(originals, path="", digest=Digest(""), size_bytes=0)
        first, end = known.first_position or 0, known.end_position
        meta = {
            "blocks": self._blocks,
            "end_position": end,
            "events_digest": self._digest.hexdigest(),
            "first_position": first,
            "format": FORMAT_VERSION,
            # No two attempts share a name, so whoever fails may delete its own file.
            "nonce": secrets.token_hex(8),
            "store_id": self._store_id,
            "writers": [[run.writer, run.first_sequence, run.count] for run in known.writers],
        }
        self._writer.add_key_value_metadata({META: json.dumps(meta, separators=(",", ":")).encode()})
        self._writer.close()
        data = self._sink.getvalue().to_pybytes()
        digest = Digest(hashlib.sha256(data).hexdigest())
        path = layout.compacted_path(first, end, digest)
        return SegmentFile(combined(originals, path=path, digest=digest, size_bytes=len(data)), data)


def laid_out(block: pa.Table) -> pa.Table:
    """Return the rows of a block as a file has them: by kind, then by position."""
    return _in_order(block, pc.sort_indices(block, [("kind", "ascending"), ("position", "ascending")]))


def _in_order(table: pa.Table, order: pa.Array) -> pa.Table:
    """Return the rows in this order, each column in one piece."""
    # Column by column, so that only one of them is there twice more than it must be.
    columns = [pa.concat_arrays(table.column(n).chunks).take(order) for n in range(table.num_columns)]
    return pa.table(columns, schema=table.schema)


def read_compacted(
    storage: Storage,
    path: str,
    *,
    columns: Sequence[str] | None = None,
    kinds: Collection[str] | None = None,
    start: int = 0,
    end: int | None = None,
    raw: bytes | None = None,
    store_id: str | None = None,
) -> Iterator[pa.Table]:
    """Yield a compacted segment by blocks, rows in order of position, ``position`` first.

    Parameters
    ----------
    columns
        Those to read besides ``position``; None reads all.
    kinds
        Row groups of other kinds are not read.
    start, end
        Blocks without a position in this half-open range are not read; the others are not cut.
    raw
        The file's bytes, where they are at hand; else only what is needed is fetched.
    store_id
        The store that the footer has to name; None takes any.

    Raises
    ------
    NotFoundError, IntegrityError, FormatError
        As `read_segment`.
    """
    name = layout.parse_compacted(path)
    with opened(storage, path, raw, ranged=True) as (file, footer):
        if name is None or (name.first_position, name.end_position) != (
            footer["first_position"],
            footer["end_position"],
        ):
            raise damaged(path, "its footer names other positions than its name")
        if store_id is not None and footer.get("store_id") != store_id:
            raise other_store(path, store_id, footer.get("store_id"))
        if file.schema_arrow.field(0) != POSITION:
            raise damaged(path, "its first column is not the position")
        if sum(footer["blocks"]) != name.end_position - name.first_position:
            raise damaged(path, f"it holds {sum(footer['blocks'])} events")
        asked = list(dict.fromkeys(columns if columns is not None else SCHEMA.names))
        there = [name for name in asked if name in file.schema_arrow.names]
        first = int(name.first_position)
        for rows, groups in _groups(path, file, footer["blocks"]):
            after = first + rows
            if after > start and (end is None or first < end):
                wanted = [group for group, kind in groups if kinds is None or kind in kinds]
                if wanted:
                    table = file.read_row_groups(wanted, columns=["position", *there])
                    if len(wanted) > 1:
                        table = _in_order(table, pc.sort_indices(table["position"]))
                    yield with_nulls(table, ["position", *asked])
            first = after


def read_blocks(storage: Storage, path: str) -> tuple[int, ...]:
    """Return how many rows each block of a compacted segment has; raises like `read_compacted`."""
    with opened(storage, path, ranged=True) as (_, footer):
        return tuple(int(rows) for rows in footer["blocks"])


def _groups(
    path: str, file: pq.ParquetFile, blocks: Sequence[int]
) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Yield for each block its rows, and its row groups with the kind of each."""
    meta, group = file.metadata, 0
    place = file.schema_arrow.names.index("kind")
    for rows in blocks:
        groups: list[tuple[int, str]] = []
        left = rows
        while left > 0 and group < meta.num_row_groups:
            about = meta.row_group(group)
            column = about.column(place)
            kinds = column.statistics
            if column.path_in_schema != "kind" or kinds is None or kinds.min != kinds.max:
                raise damaged(path, f"its row group {group} does not say of which kind it is")
            groups.append((group, kinds.min))
            left -= about.num_rows
            group += 1
        if left != 0:
            raise damaged(path, "its row groups are not those of its blocks")
        yield rows, groups
    if group != meta.num_row_groups:
        raise damaged(path, "its row groups are not those of its blocks")
