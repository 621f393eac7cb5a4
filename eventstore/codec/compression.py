"""zstd, the only room with zstandard: large values are kept as one frame each."""

from __future__ import annotations

import threading

import zstandard

from eventstore.errors import IntegrityError

__all__ = ["DEFAULT_LEVEL", "compress", "decompress"]

DEFAULT_LEVEL = 3
_local = threading.local()


def compress(data: bytes, *, level: int = DEFAULT_LEVEL) -> bytes:
    """Return `data` as one zstd frame that states its content size and carries a checksum."""
    compressors = _local.__dict__.setdefault("compressors", {})
    if level not in compressors:
        compressors[level] = zstandard.ZstdCompressor(level=level, write_checksum=True)
    return compressors[level].compress(data)  # type: ignore[no-any-return]


def decompress(frame: bytes, *, where: str) -> bytes:
    """Return the content of one zstd frame.

    Raises
    ------
    IntegrityError
        `frame` is truncated, altered or no zstd frame (code ``bad_frame``); names `where`.
    """
    try:
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except (zstandard.ZstdError, MemoryError) as error:
        # A header may claim any size: one that no memory holds is damage as well.
        found = str(error) or "the size it states does not fit into memory"
        raise IntegrityError(
            f"one whole zstd frame was expected in {where}, found {len(frame)} bytes that do not "
            f"decompress ({found}); restore the file or run `eventstore verify`",
            code="bad_frame",
            path=where,
        ) from error
