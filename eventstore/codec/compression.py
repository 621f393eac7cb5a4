"""zstd, the only room with zstandard: large values as one frame each, small alike ones with a dictionary."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence

import zstandard

from eventstore.errors import IntegrityError, InvalidEventError

__all__ = ["DEFAULT_LEVEL", "Dictionary", "compress", "decompress", "dictionary_of", "train_dictionary"]

DEFAULT_LEVEL = 3
_local = threading.local()
_MAGIC = b"\x37\xa4\x30\xec"


class Dictionary:
    """A trained zstd dictionary: what many small values have in common.

    Parameters
    ----------
    data
        As zstd trains and reads it, its number inside.

    Raises
    ------
    IntegrityError
        `data` is no dictionary (code ``bad_dictionary``).
    """

    def __init__(self, data: bytes) -> None:
        if not data.startswith(_MAGIC):
            raise IntegrityError(
                f"a zstd dictionary was expected, found {len(data)} other bytes; restore it from a copy",
                code="bad_dictionary",
            )
        self.data = data
        self.digest = hashlib.sha256(data).hexdigest()
        self.zstd = zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_FULLDICT)
        self.number: int = self.zstd.dict_id()


def train_dictionary(samples: Sequence[bytes], *, size_bytes: int) -> Dictionary:
    """Return a dictionary of at most `size_bytes` made from values that are alike.

    Raises
    ------
    InvalidEventError
        There are too few samples, or they have too little in common (code ``bad_samples``).
    """
    try:
        return Dictionary(zstandard.train_dictionary(size_bytes, list(samples)).as_bytes())
    except (zstandard.ZstdError, ValueError) as error:
        raise InvalidEventError(
            f"a hundred or more values that are alike were expected, found {len(samples)} of "
            f"{sum(map(len, samples))} bytes, from which zstd makes no dictionary ({error}); give more",
            code="bad_samples",
        ) from error


def compress(data: bytes, *, level: int = DEFAULT_LEVEL, dictionary: Dictionary | None = None) -> bytes:
    """Return `data` as one zstd frame that states its content size and carries a checksum."""
    compressors = _local.__dict__.setdefault("compressors", {})
    key = (level, dictionary and dictionary.digest)
    if key not in compressors:
        compressors[key] = zstandard.ZstdCompressor(
            level=level, write_checksum=True, dict_data=dictionary.zstd if dictionary else None
        )
    return compressors[key].compress(data)  # type: ignore[no-any-return]


def dictionary_of(frame: bytes) -> int:
    """The number of the dictionary that a frame needs; 0 for none, and for what is no frame."""
    try:
        return zstandard.get_frame_parameters(frame).dict_id
    except zstandard.ZstdError:
        return 0


def decompress(frame: bytes, *, where: str, dictionary: Dictionary | None = None) -> bytes:
    """Return the content of one zstd frame.

    Raises
    ------
    IntegrityError
        `frame` is truncated, altered or no zstd frame (code ``bad_frame``); names `where`.
    """
    decompressors = _local.__dict__.setdefault("decompressors", {})
    key = dictionary and dictionary.digest
    if key not in decompressors:
        decompressors[key] = zstandard.ZstdDecompressor(dict_data=dictionary.zstd if dictionary else None)
    try:
        return decompressors[key].decompress(frame, allow_extra_data=False)  # type: ignore[no-any-return]
    except (zstandard.ZstdError, MemoryError) as error:
        # A header may claim any size: one that no memory holds is damage as well.
        found = str(error) or "the size it states does not fit into memory"
        raise IntegrityError(
            f"one whole zstd frame was expected in {where}, found {len(frame)} bytes that do not "
            f"decompress ({found}); restore the file or run `eventstore verify`",
            code="bad_frame",
            path=where,
        ) from error
