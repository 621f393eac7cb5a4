"""A checked file: pages of other sizes are read as they were written, and each by the size in its header."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import zlib
from pathlib import Path

import pytest

from eventstore.checked_file import IndexDamagedError, create_file, open_file


@pytest.mark.parametrize("page_bits", [4, 12, 13])
@pytest.mark.parametrize("grouped", [False, True])
def test_content_is_checked_by_the_pages_it_was_written_in(
    tmp_path: Path, page_bits: int, grouped: bool
) -> None:
    """However content was cut into writes, all of it is checked, and one wrong byte is found in its page."""
    rng = random.Random(page_bits)
    pieces = [rng.randbytes(rng.choice([0, 1, 15, 17, 5_000, 30_000])) for _ in range(30)]
    path = tmp_path / "file"
    with create_file(path, page_bits=page_bits, grouped=grouped) as file:
        for number, piece in enumerate(pieces):
            file.write(memoryview(piece) if number % 2 else piece)
        file.finish({"what": "test"})
    content = b"".join(pieces)
    opened = open_file(path)
    assert opened is not None
    assert (opened.content_bytes, opened.header["page_bits"]) == (len(content), page_bits)
    opened.check(0, len(content))
    assert opened.map[: len(content)] == content
    opened.close()

    place = rng.randrange(len(content))
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.unlink()
    path.write_bytes(damaged)
    opened = open_file(path)
    assert opened is not None
    page = place >> page_bits << page_bits
    opened.check(0, page)
    opened.check(min(page + (1 << page_bits), len(content)), len(content))
    with pytest.raises(IndexDamagedError, match=f"byte {page}"):
        opened.check(place, place + 1)
    opened.close()


def test_grouped_sums_are_checked_too(tmp_path: Path) -> None:
    """A page that was changed together with its sum, or a sum alone, is noticed by the sum of the group."""
    content = random.Random(1).randbytes(3_000 << 4)
    path = tmp_path / "file"
    with create_file(path, page_bits=4, grouped=True) as file:
        file.write(content)
        file.finish({})
    whole = path.read_bytes()
    for page in (0, 1_023, 1_024, 2_999):
        for fit in (False, True):
            damaged = bytearray(whole)
            other = bytes(16) if fit else content[page * 16 : page * 16 + 16]
            damaged[page * 16 : page * 16 + 16] = other
            at = len(content) + 4 * page
            damaged[at : at + 4] = struct.pack("<I", zlib.crc32(bytes(16)))
            path.unlink()
            path.write_bytes(damaged)
            opened = open_file(path)
            assert opened is not None
            group = page >> 10 << 10
            opened.check(0, group << 4)
            with pytest.raises(IndexDamagedError, match="page sums"):
                opened.check(page << 4, (page << 4) + 1)
            opened.close()


def test_a_file_that_does_not_say_its_pages_has_those_of_4_kib(tmp_path: Path) -> None:
    """Without `page_bits` in the header, as earlier versions wrote it, a page has 4 KiB."""
    content = random.Random(1).randbytes(10_000)
    sums = struct.pack("<3I", *(zlib.crc32(content[at : at + 4096]) for at in range(0, 10_000, 4096)))
    said = {"content_bytes": 10_000, "sums_sha256": hashlib.sha256(sums).hexdigest()}
    header = json.dumps(said).encode()
    trailer = struct.pack("<I32s8s", len(header), hashlib.sha256(header).digest(), b"KEYINDEX")
    (tmp_path / "file").write_bytes(content + sums + header + trailer)
    opened = open_file(tmp_path / "file")
    assert opened is not None
    opened.check(0, 10_000)
    with pytest.raises(IndexDamagedError):
        opened.check(10_000, 12_289)
    opened.close()


def test_a_file_without_content_has_no_pages(tmp_path: Path) -> None:
    """Nothing can be checked in a file of no content; one that is absent is None."""
    with create_file(tmp_path / "file") as file:
        file.finish({})
    opened = open_file(tmp_path / "file")
    assert opened is not None
    opened.check(0, 0)
    with pytest.raises(IndexDamagedError):
        opened.check(0, 1)
    opened.close()
    assert open_file(tmp_path / "absent") is None
