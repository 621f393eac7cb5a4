"""Frames: what goes in comes out, and what was touched does not."""

from __future__ import annotations

import threading

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from eventstore.codec.compression import compress, decompress
from eventstore.errors import IntegrityError

DATA = bytes(range(256)) * 40


@given(st.binary(max_size=3000), st.sampled_from([1, 3, 9]))
def test_bytes_come_back(data: bytes, level: int) -> None:
    """decompress(compress(x)) = x at any level, also for no bytes at all."""
    assert decompress(compress(data, level=level), where="here") == data


def test_a_frame_states_its_size_and_carries_a_checksum() -> None:
    """Readers without our code can allocate and check: both are in the frame's header."""
    header = zstandard.get_frame_parameters(compress(DATA))
    assert header.content_size == len(DATA)
    assert header.has_checksum


@pytest.mark.parametrize("cut", [0, 1, 4, 20, -5, -1])
def test_a_truncated_frame_is_an_integrity_error(cut: int) -> None:
    """A frame that ends early never gives bytes; the error names the place."""
    with pytest.raises(IntegrityError) as caught:
        decompress(compress(DATA)[:cut], where="values/ab/cd.zst")
    assert (caught.value.code, caught.value.path) == ("bad_frame", "values/ab/cd.zst")
    assert "values/ab/cd.zst" in str(caught.value)


def test_no_altered_frame_gives_other_bytes() -> None:
    """One flipped bit anywhere is an error or leaves the content as it was, never another content."""
    frame = compress(DATA)
    refused = 0
    for place in range(len(frame)):
        altered = frame[:place] + bytes([frame[place] ^ 0x10]) + frame[place + 1 :]
        try:
            assert decompress(altered, where="here") == DATA
        except IntegrityError:
            refused += 1
    assert refused > len(frame) * 0.9


@pytest.mark.parametrize("extra", [b"x", compress(b"more")])
def test_bytes_behind_the_frame_are_an_error(extra: bytes) -> None:
    """A file is one frame: nothing rides behind it."""
    with pytest.raises(IntegrityError):
        decompress(compress(DATA) + extra, where="here")


def test_what_is_no_frame_is_an_integrity_error() -> None:
    """Plain bytes are refused, and so is a frame that hides its size."""
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(DATA)
    for frame in (b"", b"plain text", hidden):
        with pytest.raises(IntegrityError):
            decompress(frame, where="here")


def test_a_frame_that_claims_more_than_memory_is_an_integrity_error() -> None:
    """A header that states 4 EiB is damage like any other, not a MemoryError."""
    frame = b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + b"\x09\x00\x00x"
    with pytest.raises(IntegrityError, match="does not fit into memory"):
        decompress(frame, where="here")


def test_threads_do_not_share_a_compressor() -> None:
    """Sixteen threads that compress at once all give frames that come back."""
    results: list[bool] = []

    def work(number: int) -> None:
        data = bytes([number]) * 50_000
        results.append(all(decompress(compress(data), where="here") == data for _ in range(20)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 16
