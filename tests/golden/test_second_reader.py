"""A reader with nothing but docs/format.md, pyarrow and hashlib: the package is not imported here."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HEADER = ("kind", "version", "writer", "sequence", "recorded_at")
NOT_BODY = {*HEADER, "event_hash", "salt", "body_digest"}

MAKE = """
import hashlib, sys
from eventstore import *
from eventstore.events import Registry
h = lambda text: hashlib.sha1(text.encode()).hexdigest()
with EventStore.open(sys.argv[1], create=True, actor="ada", flush_seconds=None) as store:
    for n in range(90):
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
    """The digest of all lists of segments, one list further."""
    text = json.dumps(segments, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(before.encode() + text.encode()).hexdigest()


def test_page_and_parquet_reader_suffice(tmp_path: Path) -> None:
    """Someone with only the page lists all events in order and recomputes every seal's root."""
    root = tmp_path / "store"
    subprocess.run([sys.executable, "-c", MAKE, str(root)], check=True)
    leaves: list[bytes] = []
    kinds: list[str] = []
    previous = entries = "0" * 64
    told: dict[int, str] = {}
    seals = sorted(path for path in (root / "seals").glob("*.json"))
    assert len(seals) == 91
    for number, path in enumerate(seals, 1):
        line = path.read_bytes()
        body = line[len(b'{"digest":"') + 64 + len(b'","seal":') : -len(b"}\n")]
        seal = json.loads(body)
        assert json.loads(line)["digest"] == hashlib.sha256(body).hexdigest()
        assert (seal["number"], seal["previous"], path.name) == (number, previous, f"{number:020d}.json")
        previous = json.loads(line)["digest"]
        entries = told[number] = entries_after(entries, seal["segments"])
        assert seal["entries"] == entries
        for segment in seal["segments"]:
            raw = (root / segment["path"]).read_bytes()
            assert segment["path"].endswith(f"{hashlib.sha256(raw).hexdigest()}.parquet")
            rows = pq.read_table(pa.BufferReader(raw)).to_pylist()
            assert segment["first_position"] == len(leaves)
            assert [row["sequence"] for row in rows] == list(
                range(segment["first_sequence"], segment["first_sequence"] + segment["count"])
            )
            for row in rows:
                assert event_hash(row) == row["event_hash"]
                leaves.append(row["event_hash"])
                kinds.append(row["kind"])
        assert seal["size"] == len(leaves)
        assert seal["root"] == tree(leaves).hex()
    assert len(kinds) == 90 * 5 + 1
    assert kinds[:5] == ["job.started", "value.recorded", "call_node.recorded", "tags.recorded", "job.ended"]
    snapshot = pq.ParquetFile(root / "seals" / "snapshot-00000000000000000064.parquet")
    meta = json.loads(snapshot.schema_arrow.metadata[b"eventstore"])
    store_id = json.loads((root / "store.json").read_bytes())["store_id"]
    assert meta == {"format": 1, "number": 64, "store_id": store_id}
    groups: list[list[dict[str, Any]]] = [[] for _ in range(64)]
    for row in snapshot.read().to_pylist():
        groups[row.pop("seal") - 1].append({**row, "kinds": json.loads(row["kinds"])})
    entries = "0" * 64
    for group in groups:
        entries = entries_after(entries, group)
    assert entries == told[64]
