"""A seal is a link that cannot be altered unseen, and a snapshot never says what the chain does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from store_kit import STORE_ID, WRITERS, beats, segment_of

from eventstore import FormatError, IntegrityError, layout
from eventstore.seal import (
    GENESIS,
    Chain,
    Seal,
    SealedSegments,
    Snapshot,
    decode_seal,
    decode_snapshot,
    encode_snapshot,
    entries_digest,
)
from eventstore.segment import Segment

START = Snapshot(STORE_ID)


def _seal(
    after: Snapshot, *parts: tuple[Segment, list[bytes]], place: Callable[[Segment], Segment] | None = None
) -> Seal:
    peaks, placed = after.peaks.copy(), []
    for segment, hashes in parts:
        at = replace(segment, first_position=peaks.size)
        placed.append(place(at) if place else at)
        peaks.extend(hashes)
    return Seal(
        number=after.number + 1,
        previous=after.digest,
        store_id=STORE_ID,
        sealed_at="2024-05-06T07:08:09+00:00",
        software="test",
        segments=tuple(placed),
        size=peaks.size,
        peaks=peaks.peaks,
        root=peaks.root(),
        entries=entries_digest(after.entries, placed),
    )


def _part(names: str, *, writer: int = 0, first: int = 0) -> tuple[Segment, list[bytes]]:
    file, hashes = segment_of(beats(*names), writer=WRITERS[writer], first=first)
    return file.segment, hashes


PARTS = (_part("abc"), _part("de", writer=1))
SEAL = _seal(START, *PARTS)
DIGEST, RAW = SEAL.encode()
PATH = layout.seal_path(1)


def _crafted(**changes: Any) -> bytes:
    """A seal with other fields and a digest that fits them."""
    body = json.dumps(json.loads(RAW)["seal"] | changes, sort_keys=True, separators=(",", ":")).encode()
    return b'{"digest":"%b","seal":%b}\n' % (hashlib.sha256(body).hexdigest().encode(), body)


def test_a_seal_is_read_as_it_was_written() -> None:
    """Digest, fields and segments come back."""
    assert decode_seal(PATH, RAW) == (DIGEST, SEAL)
    assert json.loads(RAW)["digest"] == DIGEST


def test_no_flipped_bit_of_a_seal_passes() -> None:
    """Every bit of the file is covered by frame or digest."""
    for offset in range(len(RAW)):
        altered = bytearray(RAW)
        altered[offset] ^= 1 << offset % 8
        with pytest.raises(IntegrityError) as caught:
            decode_seal(PATH, bytes(altered))
        assert caught.value.code == "seal_damaged"
        assert caught.value.path == PATH


@pytest.mark.parametrize("length", [0, 1, 50, 100, len(RAW) - 1])
def test_a_truncated_seal_is_damage(length: int) -> None:
    """The message says how many bytes there are, and what to do."""
    with pytest.raises(IntegrityError, match=f"its {length} bytes .*restore the file") as caught:
        decode_seal(PATH, RAW[:length])
    assert caught.value.code == "seal_damaged"


def test_a_seal_of_a_newer_format_is_refused() -> None:
    """The message says to upgrade."""
    with pytest.raises(FormatError, match=r"found format 2; upgrade") as caught:
        decode_seal(PATH, _crafted(format=2))
    assert caught.value.code == "newer_format"


@pytest.mark.parametrize(
    "changes",
    [
        {"number": 2},
        {"number": None},
        {"root": "00" * 32},
        {"root": "xx"},
        {"peaks": []},
        {"size": 4},
        {"size": "5"},
        {"size": None},
        {"segments": None},
        {"segments": [{}]},
        {"segments": [5]},
        {"segments": [{"path": "../../etc/passwd"}]},
        {"sealed_at": "yesterday"},
        {"sealed_at": 5},
    ],
    ids=str,
)
def test_a_crafted_seal_with_a_wrong_field_is_damage(changes: dict[str, Any]) -> None:
    """A digest that fits does not make a field right, and no other exception comes out."""
    with pytest.raises(IntegrityError) as caught:
        decode_seal(PATH, _crafted(**changes))
    assert caught.value.code == "seal_damaged"


def test_a_seal_that_is_no_object_is_damage() -> None:
    """Nor does a list pass."""
    raw = b'{"digest":"%b","seal":[]}\n' % hashlib.sha256(b"[]").hexdigest().encode()
    with pytest.raises(IntegrityError) as caught:
        decode_seal(PATH, raw)
    assert caught.value.code == "seal_damaged"


def test_the_sequence_grows_link_by_link() -> None:
    """Segments, writers' ends, size and digest follow from the seals."""
    one = START.then([(DIGEST, SEAL)])
    second = _seal(one, _part("f", first=3))
    two = one.then([(second.encode()[0], second)])
    assert _facts(two) == _facts(START.then([(DIGEST, SEAL), (second.encode()[0], second)]))
    assert (two.number, two.peaks.size) == (2, 6)
    assert two.writers == {WRITERS[0]: 4, WRITERS[1]: 2}
    assert [segment.first_position for segment in two.segments] == [0, 3, 5]


@pytest.mark.parametrize(
    "seal",
    [
        replace(SEAL, number=2),
        replace(SEAL, previous="f" * 64),
        replace(SEAL, store_id="cd" * 16),
        replace(SEAL, size=6),
        replace(SEAL, segments=SEAL.segments[::-1]),
        replace(SEAL, segments=SEAL.segments[:1]),
        replace(SEAL, entries=GENESIS),
        _seal(START, _part("abc", first=1)),
        _seal(START, PARTS[0], PARTS[0]),
        _seal(START, PARTS[0], place=lambda segment: replace(segment, first_position=1)),
    ],
    ids=[
        "number",
        "previous",
        "store",
        "size",
        "order",
        "missing",
        "entries",
        "gap in sequences",
        "repeat",
        "gap in positions",
    ],
)
def test_a_seal_that_does_not_follow_is_damage(seal: Seal) -> None:
    """Number, chain, store, positions, sequences and entries are all checked, and nothing is taken over."""
    chain = Chain(STORE_ID)
    with pytest.raises(IntegrityError) as caught:
        chain.follow(seal.encode()[0], seal)
    assert caught.value.code == "seal_damaged"
    assert (chain.number, chain.peaks.size, chain.writers) == (0, 0, {})
    with pytest.raises(IntegrityError):
        START.then([(seal.encode()[0], seal)])


def test_entries_are_the_digest_of_all_segment_lists() -> None:
    """As the format says: the text before, then the JSON of `segments` as it stands in the seal."""
    second = _seal(START.then([(DIGEST, SEAL)]), _part("f", first=3))
    before = "0" * 64
    for seal in (SEAL, second):
        body = seal.encode()[1]
        said = body[body.index(b'"segments":') + len(b'"segments":') : body.index(b',"size":', -400)]
        before = hashlib.sha256(before.encode() + said).hexdigest()
        assert seal.entries == before


def test_what_has_grown_is_not_seen_by_who_holds_less() -> None:
    """One list serves all that grew from one another, and two ways to go on do not meet."""
    first, second, third = (_part("x", first=number)[0] for number in range(3))
    none = SealedSegments()
    one = none.then([[first]])
    two = one.then([[second], []])
    other = one.then([[third]])
    assert [list(one), list(two), list(other)] == [[first], [first, second], [first, third]]
    assert [len(none), len(one), len(two)] == [0, 1, 2]
    assert (two[-1], two[1:], two[::-1], one[:5]) == (second, [second], [second, first], [first])
    assert [list(group) for group in two.by_seal()] == [[first], [second], []]
    with pytest.raises(IndexError):
        one[1]
    assert two._segments is one._segments


# snapshots ------------------------------------------------------------------------------------------------

SECOND = _seal(START.then([(DIGEST, SEAL)]), _part("f", first=3), _part("gh", writer=2))
LAST, _ = SECOND.encode()
SNAPSHOT = START.then([(DIGEST, SEAL), (LAST, SECOND)])
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
        list(map(list, snapshot.segments.by_seal())),
        dict(snapshot.writers),
    )


def test_a_snapshot_is_read_as_it_was_written() -> None:
    """All that the seals said is in it."""
    read = decode_snapshot(SNAPSHOT_PATH, encode_snapshot(SNAPSHOT), LAST, SECOND)
    assert _facts(read) == _facts(SNAPSHOT)


def _forged(change: Callable[[list[Segment]], object], first: int = 2) -> bytes:
    """A snapshot of other segments, of which the first seal has so many."""
    segments = list(SNAPSHOT.segments)
    change(segments)
    crafted = SealedSegments().then([segments[:first], segments[first:]])
    return encode_snapshot(replace(SNAPSHOT, segments=crafted))


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
        _forged(lambda s: None, 1),
        _forged(lambda s: None, 4),
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
        "other seals",
        "one seal",
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
        newer.setattr("eventstore.seal.FORMAT_VERSION", 2)
        raw = encode_snapshot(SNAPSHOT)
    with pytest.raises(FormatError, match="found 2; upgrade") as caught:
        decode_snapshot(SNAPSHOT_PATH, raw, LAST, SECOND)
    assert caught.value.code == "newer_format"
