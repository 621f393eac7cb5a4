"""Archives of seals: the exact bytes of many seals in one file, so that their number stays small.

An archive is derived and nothing of it is believed: what is read from it has to follow in the chain, like
the seals that it was made of.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from eventstore import layout
from eventstore.codec.compression import compress, decompress
from eventstore.errors import EventStoreError, IntegrityError, NotFoundError
from eventstore.filesystem import Storage
from eventstore.layout import ArchiveName

__all__ = ["Archives", "decode_archive", "encode_archive"]


def encode_archive(lines: Sequence[bytes]) -> bytes:
    """Return the bytes of an archive of seals, each of which is one line."""
    return compress(b"".join(lines))


def decode_archive(path: str, raw: bytes) -> dict[int, bytes]:
    """Return the seals in an archive: the bytes of each by its number.

    Raises
    ------
    IntegrityError
        It is truncated or altered, or does not hold as many seals as its name says (code
        ``archive_damaged``).
    """
    name = layout.parse_archive(path)
    try:
        lines = decompress(raw, where=path).splitlines(keepends=True)
    except IntegrityError as error:
        raise archive_damaged(path, str(error)) from error
    if name is None or len(lines) != name.last - name.first + 1:
        raise archive_damaged(path, f"it holds {len(lines)} seals")
    return dict(enumerate(lines, name.first))


def archive_damaged(path: str, found: str) -> IntegrityError:
    """Build the error for an archive that does not hold what its name says."""
    return IntegrityError(
        f"the archive {path!r} is damaged: {found}; restore the file from a copy, or delete it if the seals "
        "in it still lie beside it, and run `eventstore verify`",
        code="archive_damaged",
        path=path,
    )


class Archives:
    """Reads seals out of a store's archives, and keeps the one that was read last."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._names: list[ArchiveName] = []
        self._last: dict[int, bytes] = {}

    def names(self) -> list[ArchiveName]:
        """Return which archives there are, by a listing, in order."""
        found = (layout.parse_archive(entry.path) for entry in self._storage.files(layout.SEALS))
        return sorted(name for name in found if name is not None)

    def read(self, number: int) -> bytes | None:
        """Return the bytes of a seal, or None if no archive has it.

        Raises
        ------
        IntegrityError
            The only archives that have it are damaged.
        """
        with self._lock:
            if number in self._last:
                return self._last[number]
            failed: EventStoreError | None = None
            for fresh in (False, True):
                if fresh:
                    self._names = self.names()
                # The longest first: it stays when the others go.
                holding = [name for name in self._names if name.first <= number <= name.last]
                for name in sorted(holding, key=lambda name: name.first - name.last):
                    path = layout.archive_path(name.first, name.last)
                    try:
                        self._last = decode_archive(path, self._storage.read(path))
                    except NotFoundError:
                        continue  # a longer one has taken its place
                    except IntegrityError as error:
                        failed = error
                        continue
                    return self._last[number]
            if failed is not None:
                raise failed
            return None
