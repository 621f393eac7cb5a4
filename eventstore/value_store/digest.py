"""The name of stored bytes: their BLAKE3, 256 bits. The only room with blake3."""

from __future__ import annotations

import hashlib

from blake3 import blake3

from eventstore.ids import Digest

__all__ = ["data_digest", "is_of_data"]


def data_digest(data: bytes) -> Digest:
    """Return the BLAKE3 of `data` in its default form: 32 bytes, as 64 lower-case hex characters.

    Source: O'Connor, Aumasson, Neves, Wilcox-O'Hearn, "BLAKE3: one function, fast everywhere", 2020.
    """
    return Digest(blake3(data).hexdigest())


def is_of_data(digest: str, data: bytes) -> bool:
    """Whether `digest` is the name of `data`: its BLAKE3, or its SHA-256, which names had before that."""
    return blake3(data).hexdigest() == digest or hashlib.sha256(data).hexdigest() == digest
