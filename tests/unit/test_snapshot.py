"""A snapshot of the sequence never says what the chain does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from chain_kit import START, adding, compacted, compacting, follow, part

from eventstore import FormatError, IntegrityError, layout
from eventstore.chain import SealedSegments, Snapshot
from eventstore.segment import Segment
from eventstore.snapshot import decode_snapshot, encode_snapshot

ONE = follow(START, adding(START, part("abc"), part("de", writer=1), part("f", first=3)))
SECOND = adding(ONE, part("g", first=4), part("hi", writer=2))
LAST, _ = SECOND.encode()
SNAPSHOT = follow(ONE, SECOND)
SNAPSHOT_PATH = layout.snapshot_path(2)


def _facts(snapshot: Snapshot) -> tuple[Any, ...]:
    return (
        snapshot.number,
        snapshot.digest,
        snapshot.store_id,
        snapshot.peaks.size,
        snapshot.peaks.peaks,
        snapshot.entries,
        snapshot.sealed_at,
        list(snapshot.segments),
        dict(snapshot.writers),
    )


def test_a_snapshot_is_read_as_it_was_written() -> None:
    """All that the seals said is in it."""
    read = decode_snapshot(SNAPSHOT_PATH, encode_snapshot(SNAPSHOT), LAST, SECOND)
    assert _facts(read) == _facts(SNAPSHOT)


def test_a_snapshot_after_compaction_holds_only_what_is_there() -> None:
    """Many writers in one segment, and their ends, come back; what was replaced is not in it."""
    seal = compacting(SNAPSHOT, compacted(SNAPSHOT, 0, 4))
    digest, _ = seal.encode()
    now = follow(SNAPSHOT, seal)
    read = decode_snapshot(layout.snapshot_path(3), encode_snapshot(now), digest, seal)
    assert _facts(read) == _facts(now)
    assert len(read.segments) == 2
    assert dict(read.writers) == dict(SNAPSHOT.writers)


def _forged(change: Callable[[list[Segment]], object]) -> bytes:
    """A snapshot of other segments."""
    segments = list(SNAPSHOT.segments)
    change(segments)
    return encode_snapshot(replace(SNAPSHOT, segments=SealedSegments().then(segments)))


@pytest.mark.parametrize(
    "raw",
    [
        encode_snapshot(START),
        encode_snapshot(replace(SNAPSHOT, store_id="cd" * 16)),
        encode_snapshot(replace(SNAPSHOT, number=3)),
        _forged(lambda s: s.pop()),
        _forged(lambda s: s.append(s[0])),
        _forged(lambda s: s.reverse()),
        _forged(lambda s: s.insert(0, replace(s.pop(0), path=s[0].path))),
        _forged(lambda s: s.insert(0, replace(s.pop(0), count=4))),
        _forged(lambda s: s.insert(0, replace(s.pop(0), kinds=()))),
        _forged(lambda s: s.insert(0, replace(s.pop(0), writers=s[1].writers))),
    ],
    ids=[
        "empty",
        "store",
        "number",
        "less",
        "more",
        "order",
        "path",
        "count",
        "kinds",
        "writers",
    ],
)
def test_a_crafted_snapshot_is_damage(raw: bytes) -> None:
    """Whole in itself does not help: it must reproduce the entries of its seal."""
    with pytest.raises(IntegrityError) as caught:
        decode_snapshot(SNAPSHOT_PATH, raw, LAST, SECOND)
    assert caught.value.code == "snapshot_damaged"
    assert caught.value.path == SNAPSHOT_PATH


def test_no_flipped_bit_of_a_snapshot_changes_what_it_says() -> None:
    """A flip is found, or it does not matter: Parquet's own checksums would leave out its footer."""
    raw = encode_snapshot(SNAPSHOT)
    refused = 0
    for offset in range(0, len(raw), 5):
        altered = bytearray(raw)
        altered[offset] ^= 1 << offset % 8
        try:
            read = decode_snapshot(SNAPSHOT_PATH, bytes(altered), LAST, SECOND)
        except (IntegrityError, FormatError):
            refused += 1
        else:
            assert _facts(read) == _facts(SNAPSHOT), offset
    assert refused > len(raw) // 20


@pytest.mark.parametrize("length", [0, 1, 500, -1])
def test_a_truncated_snapshot_is_damage(length: int) -> None:
    """The message says that the seals serve without it."""
    with pytest.raises(IntegrityError, match="delete it, the seals serve without it") as caught:
        decode_snapshot(SNAPSHOT_PATH, encode_snapshot(SNAPSHOT)[:length], LAST, SECOND)
    assert caught.value.code == "snapshot_damaged"


def test_a_snapshot_of_a_newer_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says to upgrade."""
    with monkeypatch.context() as newer:
        newer.setattr("eventstore.snapshot.FORMAT_VERSION", 2)
        raw = encode_snapshot(SNAPSHOT)
    with pytest.raises(FormatError, match="found 2; upgrade") as caught:
        decode_snapshot(SNAPSHOT_PATH, raw, LAST, SECOND)
    assert caught.value.code == "newer_format"
