"""A reader with nothing but docs/format.md, pyarrow, DuckDB and hashlib: the package is not imported here."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HEADER = ("kind", "version", "writer", "sequence", "recorded_at")
NOT_BODY = {*HEADER, "position", "event_hash", "salt", "body_digest"}

MAKE = """
import datetime, hashlib, sys, time
from eventstore import *
from eventstore.events import Registry
h = lambda text: hashlib.sha1(text.encode()).hexdigest()
later = 0
clock = lambda: time.time_ns() // 1000 + later
with EventStore.open(sys.argv[1], create=True, actor="ada", flush_seconds=None, clock=clock) as store:
    for n in range(140):
        if n == 70:
            store.compact(goals=CompactionGoals(events=300, block_rows=64))
        job = f"job-{n}"
        store.append(
            JobStarted(job_id=job, execution_id="run-\u00fc", task_hash=h("task")),
            ValueRecorded(value_hash=h(job), type_name="builtins.bytes", size_bytes=n, data=b"x" * n),
            CallNodeRecorded(
                call_hash=h(f"call {n}"), task_hash=h("task"), task_name="demo.task", args_hash=h("args"),
                value_hash=h(job), children=[h("a"), h("b")] * (n % 2),
                arguments=[
                    Argument(position=0, value_hash=h("x"), upstreams=[h("a")]),
                    Argument(key="gr\u00f6\u00dfe", value_hash=h("y")),
                ],
            ),
            TagsRecorded(entity_type="Job", entity_id=job, tags=[Tag(tag_hash=h("t"), key="k", value="3")]),
            JobEnded(job_id=job, execution_id="run-\u00fc", task_hash=h("task"), status="DONE", reason="why"),
        )
        store.flush()
    store.append(ValueRecorded(value_hash=h("big"), type_name="x", size_bytes=70000, data=b"z" * 70000))
    store.compact(goals=CompactionGoals(events=300, block_rows=64))
    later = 3 * 3600 * 10**6
    store.clean(grace=datetime.timedelta(0))
"""


def bencode(value: Any) -> bytes:
    """Encode by BEP 3, with the page's rules for booleans, times and nulls."""
    if isinstance(value, bool):
        return b"i%de" % value
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, datetime):
        since = value - datetime(1970, 1, 1, tzinfo=UTC)
        return bencode((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    if isinstance(value, list):
        return b"l%be" % b"".join(map(bencode, value))
    entries = sorted((name.encode(), item) for name, item in value.items() if item is not None)
    return b"d%be" % b"".join(bencode(name) + bencode(item) for name, item in entries)


def event_hash(row: dict[str, Any]) -> bytes:
    """Recompute an event's hash from its columns."""
    body = bencode({name: value for name, value in row.items() if name not in NOT_BODY})
    digest = hashlib.sha256(b"\x02" + row["salt"] + body).digest()
    header = bencode({"body_digest": digest, **{name: row[name] for name in HEADER}})
    return hashlib.sha256(b"\x00" + header).digest()


def tree(leaves: list[bytes]) -> bytes:
    """Compute the root of RFC 6962, 2.1, as it is written there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def entries_after(before: str, segments: list[dict[str, Any]]) -> str:
    """The digest of a list of segments, some segments further."""
    for segment in segments:
        text = json.dumps(segment, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        before = hashlib.sha256(before.encode() + text.encode()).hexdigest()
    return before


def seal_lines(folder: Path) -> list[bytes]:
    """The lines of all seals in order of their numbers, from their own files or from archives."""
    lines: dict[int, bytes] = {}
    for path in folder.glob("archive-*.jsonl.zst"):
        first, last = (int(number) for number in path.name[len("archive-") :].partition(".")[0].split("-"))
        found = pa.input_stream(str(path), compression="zstd").read().splitlines(keepends=True)
        assert len(found) == last - first + 1
        lines |= dict(enumerate(found, first))
    for path in folder.glob("*.json"):
        number = int(path.name.partition(".")[0])
        assert lines.get(number) in (None, path.read_bytes())
        lines[number] = path.read_bytes()
    assert sorted(lines) == list(range(1, len(lines) + 1))
    return [lines[number] for number in sorted(lines)]


def rows_in_order(root: Path, segment: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a segment in the order of the log, its bytes checked against its name."""
    raw = (root / segment["path"]).read_bytes()
    assert segment["path"].endswith(f"{hashlib.sha256(raw).hexdigest()}.parquet")
    rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(raw)).to_pylist()
    if segment["path"].startswith("compacted/"):
        rows.sort(key=lambda row: row["position"])
        end = segment["first_position"] + segment["count"]
        assert [row["position"] for row in rows] == list(range(segment["first_position"], end))
        name = f"compacted/{segment['first_position']:020d}-{end:020d}-"
        assert segment["path"].startswith(name)
    return rows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a history of compactions: files and seals that were replaced are gone."""
    root = tmp_path_factory.mktemp("second") / "store"
    state = root.parent / "state"
    subprocess.run(
        [sys.executable, "-c", MAKE, str(root)], check=True, env=os.environ | {"EVENTSTORE_STATE": str(state)}
    )
    return root


def test_page_and_parquet_reader_suffice(root: Path) -> None:
    """Someone with only the page lists all events in order and recomputes every seal's root."""
    lines = seal_lines(root / "seals")
    assert len(list((root / "seals").glob("archive-*"))) == 1
    assert len(list((root / "seals").glob("[0-9]*.json"))) < len(lines)
    present: list[dict[str, Any]] = []
    previous, before = "0" * 64, ""
    told: dict[int, str] = {}
    roots: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        body = line[len(b'{"digest":"') + 64 + len(b'","seal":') : -len(b"}\n")]
        seal = json.loads(body)
        assert json.loads(line)["digest"] == hashlib.sha256(body).hexdigest()
        assert (seal["number"], seal["previous"]) == (number, previous)
        assert seal["sealed_at"] >= before
        previous, before = json.loads(line)["digest"], seal["sealed_at"]
        assert not (seal["segments"] and seal["compacted"])
        for segment in seal["compacted"]:
            first, end = segment["first_position"], segment["first_position"] + segment["count"]
            places = [n for n, one in enumerate(present) if first <= one["first_position"] < end]
            assert sum(present[n]["count"] for n in places) == segment["count"]
            present[places[0] : places[-1] + 1] = [segment]
        present += seal["segments"]
        told[number] = entries_after("0" * 64, present)
        assert seal["entries"] == told[number]
        assert roots.setdefault(seal["size"], seal["root"]) == seal["root"]
    leaves: list[bytes] = []
    kinds: list[str] = []
    for segment in present:
        ends = {writer: (first, count) for writer, first, count in segment["writers"]}
        for row in rows_in_order(root, segment):
            expected, left = ends[row["writer"]]
            assert row["sequence"] == expected
            ends[row["writer"]] = expected + 1, left - 1
            assert event_hash(row) == row["event_hash"]
            leaves.append(row["event_hash"])
            kinds.append(row["kind"])
        assert {left for _, left in ends.values()} == {0}
    for size, root_of_seal in roots.items():
        assert tree(leaves[:size]).hex() == root_of_seal
    assert len(kinds) == 140 * 5 + 1
    assert kinds[:5] == ["job.started", "value.recorded", "call_node.recorded", "tags.recorded", "job.ended"]
    snapshot = pq.ParquetFile(root / "seals" / "snapshot-00000000000000000128.parquet")
    meta = json.loads(snapshot.schema_arrow.metadata[b"eventstore"])
    store_id = json.loads((root / "store.json").read_bytes())["store_id"]
    assert meta == {"format": 1, "number": 128, "store_id": store_id}
    listed = [
        {**row, "kinds": json.loads(row["kinds"]), "writers": json.loads(row["writers"])}
        for row in snapshot.read().to_pylist()
    ]
    assert entries_after("0" * 64, listed) == told[128]


def test_compacted_files_are_laid_out_as_the_page_says(root: Path) -> None:
    """Blocks of consecutive positions; row groups of one kind, in order, with statistics that tell."""
    files = sorted((root / "compacted").glob("*.parquet"))
    assert len(files) >= 3
    for path in files:
        file = pq.ParquetFile(path)
        footer = json.loads(file.metadata.metadata[b"eventstore"])
        assert file.schema_arrow.names[0] == "position"
        group, position = 0, footer["first_position"]
        for rows in footer["blocks"]:
            seen = 0
            last: tuple[str, int] = ("", -1)
            while seen < rows:
                about = file.metadata.row_group(group)
                stats = {
                    about.column(n).path_in_schema: about.column(n).statistics
                    for n in range(about.num_columns)
                }
                table = file.read_row_group(group, columns=["position", "kind"])
                places, kinds = table["position"].to_pylist(), set(table["kind"].to_pylist())
                assert kinds == {stats["kind"].min} == {stats["kind"].max}
                assert places == sorted(places)
                assert (stats["position"].min, stats["position"].max) == (places[0], places[-1])
                assert position <= places[0] <= places[-1] < position + rows
                assert last < (stats["kind"].min, places[0])
                last = (stats["kind"].min, places[-1])
                assert stats["recorded_at"].has_min_max
                seen, group = seen + about.num_rows, group + 1
            assert seen == rows <= 64
            position += rows
        assert (position, group) == (footer["end_position"], file.num_row_groups)


def test_duckdb_reads_compacted_files_by_path(root: Path) -> None:
    """The page's own advice: the files by a pattern, in the order of their positions."""
    files = duckdb.read_parquet(f"{root}/compacted/*.parquet")
    found = files.aggregate("kind, count(*), min(position)", "kind").order("kind").fetchall()
    assert [row[0] for row in found] == [
        "call_node.recorded",
        "job.ended",
        "job.started",
        "tags.recorded",
        "value.recorded",
    ]
    names = [path.name.split("-") for path in (root / "compacted").glob("*.parquet")]
    assert sum(row[1] for row in found) == sum(int(end) - int(first) for first, end, _ in names)
    assert files.filter("position = 5").project("job_id").fetchall() == [("job-1",)]
