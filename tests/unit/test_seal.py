"""A seal is a link that cannot be altered unseen."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from chain_kit import START, adding, compacted, compacting, follow, part
from store_kit import WRITERS

from eventstore import FormatError, IntegrityError, layout
from eventstore.seal import decode_seal

PARTS = (part("abc"), part("de", writer=1))
SEAL = adding(START, *PARTS)
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
        {"sealed_at": "2024-05-06T07:08:09"},
        {"compacted": None},
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


def test_a_seal_that_compacts_is_read_as_it_was_written() -> None:
    """Its compacted segments come back, and are no segments that it adds."""
    now = follow(START, SEAL)
    seal = compacting(now, compacted(now, 0, 2))
    digest, raw = seal.encode()
    assert decode_seal(layout.seal_path(2), raw) == (digest, seal)
    body = json.loads(raw)["seal"]
    assert (body["segments"], len(body["compacted"])) == ([], 1)
    said = body["compacted"][0]
    assert [run[1:] for run in said["writers"]] == [[0, 3], [0, 2]]
    crossed = body | {"segments": body["compacted"], "compacted": []}
    text = json.dumps(crossed, sort_keys=True, separators=(",", ":")).encode()
    framed = b'{"digest":"%b","seal":%b}\n' % (hashlib.sha256(text).hexdigest().encode(), text)
    with pytest.raises(IntegrityError, match="no such segment's path"):
        decode_seal(layout.seal_path(2), framed)


def test_a_writers_segment_by_two_writers_is_damage() -> None:
    """Only compaction brings writers together."""
    known = json.loads(RAW)["seal"]["segments"]
    known[0]["writers"] = [[WRITERS[0], 0, 2], [WRITERS[1], 0, 1]]
    with pytest.raises(IntegrityError, match="by one writer, and the seal names 2"):
        decode_seal(PATH, _crafted(segments=known))
