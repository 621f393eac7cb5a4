"""A local file, written once from front to back, and read through a memory map that checks what it touches.

Content in pages, then the CRC-32 of every page (4 bytes each), then a header (JSON), then a trailer of fixed
length: length of the header (4 bytes), its SHA-256, ``KEYINDEX``. Numbers are little-endian. The header holds
the content's length, the pages' (12 bits unless it says otherwise) and the SHA-256 of the page sums, so that
no bit is believed unchecked. In a file of grouped sums, which opens quickly however large it is, the page
sums are followed by the CRC-32 of every 1,024 of them, and the header has the SHA-256 of those instead. What
content and header mean is left to the rooms that write such files.
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

from eventstore.errors import ProjectionError, StorageError

__all__ = [
    "PARTIAL",
    "CheckedFile",
    "IndexDamagedError",
    "PagedWriter",
    "create_file",
    "open_file",
    "translated",
]

PARTIAL = ".partial"
"""How the name of an unfinished file ends; one that a killed process left behind may be deleted."""

_PAGE_BITS = 12
_GROUP_BITS = 10
_SUM = struct.Struct("<I")
_TRAILER = struct.Struct("<I32s8s")
_MAGIC = b"KEYINDEX"


class IndexDamagedError(ProjectionError):
    """An index file is not what was written: set it aside, and build it anew from its table or the log."""

    default_code = "index_damaged"


class PagedWriter:
    """Takes the content of a new file in order, and sums its pages on the way.

    Parameters
    ----------
    file
        Open for writing, at its beginning.
    path
        What errors name.
    page_bits
        Binary logarithm of a page's length.
    grouped
        Whether sums are grouped.
    """

    def __init__(
        self, file: IO[bytes], path: Path, *, page_bits: int = _PAGE_BITS, grouped: bool = False
    ) -> None:
        self._file = file
        self._path = path
        self._page_bits = page_bits
        self._grouped = grouped
        self._rest = b""
        self._sums = array("I")
        self.position = 0
        """How many bytes of content were written."""

    def write(self, data: bytes | memoryview) -> None:
        """Write the next bytes of the content."""
        self._put(data)
        self.position += len(data)
        page = 1 << self._page_bits
        taken = min(-len(self._rest) % page, len(data))
        if taken:
            self._rest += data[:taken]
            if len(self._rest) == page:
                self._sum_rest()
        whole = taken + (len(data) - taken) // page * page
        view = memoryview(data)
        self._sums.extend(zlib.crc32(view[at : at + page]) for at in range(taken, whole, page))
        self._rest += data[whole:]

    def finish(self, header: Mapping[str, Any]) -> None:
        """Write the page sums, the header and the trailer; nothing can follow."""
        if self._rest:
            self._sum_rest()
        sums = struct.pack(f"<{len(self._sums)}I", *self._sums)
        own: dict[str, Any] = {"content_bytes": self.position, "page_bits": self._page_bits}
        if self._grouped:
            own["group_bits"] = _GROUP_BITS
            step = _SUM.size << _GROUP_BITS
            groups = [zlib.crc32(sums[at : at + step]) for at in range(0, len(sums), step)]
            self._put(sums)
            sums = struct.pack(f"<{len(groups)}I", *groups)
        own["sums_sha256"] = hashlib.sha256(sums).hexdigest()
        raw = json.dumps({**header, **own}, sort_keys=True).encode()
        self._put(sums + raw + _TRAILER.pack(len(raw), hashlib.sha256(raw).digest(), _MAGIC))

    def _sum_rest(self) -> None:
        self._sums.append(zlib.crc32(self._rest))
        self._rest = b""

    def _put(self, data: bytes | memoryview) -> None:
        with translated("write", self._path):
            self._file.write(data)


@contextlib.contextmanager
def create_file(path: Path, *, page_bits: int = _PAGE_BITS, grouped: bool = False) -> Iterator[PagedWriter]:
    """Write a file under another name beside `path`; it takes its name when the block ends without an error.

    After an error nothing is left behind, and `path` is as it was. Nothing is forced to the device: after a
    power loss the file may be damaged, which its reader notices.

    Raises
    ------
    StorageError
        The disk refused (codes ``disk_full``, ``index_refused``).
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    with translated("make", path):
        file = partial.open("xb")
    try:
        try:
            yield PagedWriter(file, path, page_bits=page_bits, grouped=grouped)
        finally:
            with translated("write", path):
                file.close()
        with translated("name", path):
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
    IndexDamagedError
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
            self._page_bits: int = self.header.get("page_bits", _PAGE_BITS)
            self._page_bytes = 1 << self._page_bits
            self._group_bits: int | None = self.header.get("group_bits")
            pages = -(-self.content_bytes // self._page_bytes)
            groups = 0 if self._group_bits is None else -(-pages >> self._group_bits)
            sums_sha256 = self.header["sums_sha256"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.damaged("the header of an index", repr(error)) from error
        # Without groups the page sums themselves are those that the header answers for.
        top = mapped[self.content_bytes + (_SUM.size * pages if groups else 0) : trailer_at - header_bytes]
        if len(top) != _SUM.size * (groups or pages) or hashlib.sha256(top).hexdigest() != sums_sha256:
            raise self.damaged(f"the sums of {pages} pages, as the header says", "others")
        self._top = top
        self._pages = pages
        self._good = bytearray(pages)
        self._good_groups = bytearray(groups)

    def check(self, start: int, end: int) -> None:
        """Compare the pages of a range of the content with their sums, each page once.

        Raises
        ------
        IndexDamagedError
            A page differs, or the range is not in the content.
        """
        good, bits = self._good, self._page_bits
        try:
            for page in range(start >> bits, (end + self._page_bytes - 1) >> bits):
                if not good[page]:
                    self._check_page(page)
        except IndexError as error:
            raise self.damaged(f"bytes {start} to {end} in the content", f"{self.content_bytes}") from error

    def _check_page(self, page: int) -> None:
        start = page << self._page_bits
        found = zlib.crc32(self.map[start : min(start + self._page_bytes, self.content_bytes)])
        expected = self._sum(page)
        if found != expected:
            raise self.damaged(f"the CRC-32 {expected:08x} of the page at byte {start}", f"{found:08x}")
        self._good[page] = 1

    def _sum(self, page: int) -> int:
        """Return the sum of a page, checked."""
        bits = self._group_bits
        if bits is None:
            return int(_SUM.unpack_from(self._top, _SUM.size * page)[0])
        group = page >> bits
        if not self._good_groups[group]:
            first, end = group << bits, min((group + 1) << bits, self._pages)
            found = zlib.crc32(self.map[self.content_bytes + 4 * first : self.content_bytes + 4 * end])
            (expected,) = _SUM.unpack_from(self._top, _SUM.size * group)
            if found != expected:
                raise self.damaged(f"the CRC-32 {expected:08x} of page sums {first} to {end}", f"{found:08x}")
            self._good_groups[group] = 1
        return int(_SUM.unpack_from(self.map, self.content_bytes + _SUM.size * page)[0])

    def damaged(self, expected: str, found: str) -> IndexDamagedError:
        """Make the error that says what is wrong with this file."""
        return _damaged(self.path, expected, found)

    def close(self) -> None:
        """Give the memory map back."""
        self.map.close()


def open_file(path: Path) -> CheckedFile | None:
    """Map a file; None if there is none.

    Raises
    ------
    IndexDamagedError
        It is not whole, or not a file of this kind.
    StorageError
        The disk refused (code ``index_refused``).
    """
    with translated("open", path):
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


def _damaged(path: Path, expected: str, found: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"index {path}: expected {expected}, found {found}. Next: set the file aside, and build it anew",
        path=str(path),
        expected=expected,
        found=found,
    )


@contextlib.contextmanager
def translated(verb: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into the StorageError of an index."""
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
