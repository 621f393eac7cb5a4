"""A local file, written once from front to back, and read through a memory map that checks what it touches.

Content in pages of 4 KiB, then the CRC-32 of every page (4 bytes each), then a header (JSON), then a
trailer of fixed length: length of the header (4 bytes), its SHA-256, ``KEYINDEX``. Numbers are little-endian.
The header holds the content's length and the SHA-256 of the page sums, so that no bit is believed
unchecked. What content and header mean is left to `projections.key_index`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import secrets
import struct
import zlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from eventstore import ProjectionError, StorageError

__all__ = ["PARTIAL", "CheckedFile", "IndexDamaged", "PagedWriter", "create_file", "open_file"]

PARTIAL = ".partial"
"""How the name of an unfinished file ends; one that a killed process left behind may be deleted."""

_PAGE_BITS = 12
_PAGE_BYTES = 1 << _PAGE_BITS
_SUM = struct.Struct("<I")
_TRAILER = struct.Struct("<I32s8s")
_MAGIC = b"KEYINDEX"


class IndexDamaged(ProjectionError):  # noqa: N818 - it says what happened; the answer is to build anew
    """An index file is not what was written: set it aside, and build it anew from its table."""

    default_code = "index_damaged"


class PagedWriter:
    """Takes the content of a new file in order, and sums its pages on the way.

    Parameters
    ----------
    file
        Open for writing, at its beginning.
    path
        What errors name.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self._rest = b""
        self._sums = array("I")
        self.position = 0
        """How many bytes of content were written."""

    def write(self, data: bytes) -> None:
        """Write the next bytes of the content."""
        self._put(data)
        self.position += len(data)
        taken = min(-len(self._rest) % _PAGE_BYTES, len(data))
        if taken:
            self._rest += data[:taken]
            if len(self._rest) == _PAGE_BYTES:
                self._sum_rest()
        whole = taken + (len(data) - taken) // _PAGE_BYTES * _PAGE_BYTES
        view = memoryview(data)
        self._sums.extend(zlib.crc32(view[at : at + _PAGE_BYTES]) for at in range(taken, whole, _PAGE_BYTES))
        self._rest += data[whole:]

    def finish(self, header: Mapping[str, Any]) -> None:
        """Write the page sums, the header and the trailer; nothing can follow."""
        if self._rest:
            self._sum_rest()
        sums = struct.pack(f"<{len(self._sums)}I", *self._sums)
        own = {"content_bytes": self.position, "sums_sha256": hashlib.sha256(sums).hexdigest()}
        raw = json.dumps({**header, **own}, sort_keys=True).encode()
        self._put(sums + raw + _TRAILER.pack(len(raw), hashlib.sha256(raw).digest(), _MAGIC))

    def _sum_rest(self) -> None:
        self._sums.append(zlib.crc32(self._rest))
        self._rest = b""

    def _put(self, data: bytes) -> None:
        with _translated("write", self._path):
            self._file.write(data)


@contextlib.contextmanager
def create_file(path: Path) -> Iterator[PagedWriter]:
    """Write a file under another name beside `path`; it takes its name when the block ends without an error.

    After an error nothing is left behind, and `path` is as it was. Nothing is forced to the device: after a
    power loss the file may be damaged, which its reader notices.

    Raises
    ------
    StorageError
        The disk refused (codes ``disk_full``, ``index_refused``).
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    with _translated("make", path):
        file = partial.open("xb")
    try:
        try:
            yield PagedWriter(file, path)
        finally:
            with _translated("write", path):
                file.close()
        with _translated("name", path):
            partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


class CheckedFile:
    """A file of this kind, mapped. Whoever reads a range of `map` calls `check` for it first.

    Threads may share one. The file must stay as it is while it is mapped: set it aside by renaming it.

    Parameters
    ----------
    mapped
        The whole file.
    path
        What errors name.

    Raises
    ------
    IndexDamaged
        Trailer, header or page sums are not those of a whole file.
    """

    def __init__(self, mapped: mmap.mmap, path: Path) -> None:
        self.map = mapped
        self.path = path
        trailer_at = len(mapped) - _TRAILER.size
        header_bytes, digest, magic = _TRAILER.unpack_from(mapped, trailer_at)
        if magic != _MAGIC:
            raise self.damaged("the last bytes of a whole index", repr(magic))
        raw = mapped[max(0, trailer_at - header_bytes) : trailer_at]
        if hashlib.sha256(raw).digest() != digest:
            raise self.damaged("a header with the SHA-256 of its trailer", "another")
        try:
            self.header: dict[str, Any] = json.loads(raw)
            self.content_bytes: int = self.header["content_bytes"]
            self._sums = mapped[self.content_bytes : trailer_at - header_bytes]
            sums_sha256 = self.header["sums_sha256"]
        except (ValueError, KeyError, TypeError) as error:
            raise self.damaged("the header of an index", repr(error)) from error
        pages = -(-self.content_bytes // _PAGE_BYTES)
        if len(self._sums) != pages * _SUM.size or hashlib.sha256(self._sums).hexdigest() != sums_sha256:
            raise self.damaged(f"the sums of {pages} pages, as the header says", "others")
        self._good = bytearray(pages)

    def check(self, start: int, end: int) -> None:
        """Compare the pages of a range of the content with their sums, each page once.

        Raises
        ------
        IndexDamaged
            A page differs, or the range is not in the content.
        """
        good = self._good
        try:
            for page in range(start >> _PAGE_BITS, (end + _PAGE_BYTES - 1) >> _PAGE_BITS):
                if not good[page]:
                    self._check_page(page)
        except IndexError as error:
            raise self.damaged(f"bytes {start} to {end} in the content", f"{self.content_bytes}") from error

    def _check_page(self, page: int) -> None:
        start = page << _PAGE_BITS
        found = zlib.crc32(self.map[start : min(start + _PAGE_BYTES, self.content_bytes)])
        (expected,) = _SUM.unpack_from(self._sums, page * _SUM.size)
        if found != expected:
            raise self.damaged(f"the CRC-32 {expected:08x} of the page at byte {start}", f"{found:08x}")
        self._good[page] = 1

    def damaged(self, expected: str, found: str) -> IndexDamaged:
        """Make the error that says what is wrong with this file."""
        return _damaged(self.path, expected, found)

    def close(self) -> None:
        """Give the memory map back."""
        self.map.close()


def open_file(path: Path) -> CheckedFile | None:
    """Map a file; None if there is none.

    Raises
    ------
    IndexDamaged
        It is not whole, or not a file of this kind.
    StorageError
        The disk refused (code ``index_refused``).
    """
    with _translated("open", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(descriptor).st_size
            if size < _TRAILER.size:
                raise _damaged(path, f"at least {_TRAILER.size} bytes", f"{size}")
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    try:
        return CheckedFile(mapped, path)
    except BaseException:
        mapped.close()
        raise


def _damaged(path: Path, expected: str, found: str) -> IndexDamaged:
    return IndexDamaged(
        f"index {path}: expected {expected}, found {found}. Next: set the file aside, and build it anew",
        path=str(path),
        expected=expected,
        found=found,
    )


@contextlib.contextmanager
def _translated(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room on the disk" if full else "check the folder and its permissions"
        raise StorageError(
            f"could not {verb} the index {path}: {error.strerror or error}. Next: {hint}, then try again",
            code="disk_full" if full else "index_refused",
            path=str(path),
        ) from error
