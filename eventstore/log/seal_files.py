"""The files of the chain: seals by number, the archives of old ones, snapshots of the sequence.

Finding the head takes no listing. Which seals may become archives only, so that this stays true, is said by
`stays`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from eventstore import layout
from eventstore.chain import Snapshot
from eventstore.errors import FormatError, IntegrityError, NotFoundError, StorageError
from eventstore.filesystem import Storage
from eventstore.ids import Digest
from eventstore.log.archive import Archives
from eventstore.seal import Seal, decode_seal, seal_damaged
from eventstore.snapshot import decode_snapshot, encode_snapshot

__all__ = ["SealFiles", "missing_seal", "stays", "witness"]

logger = logging.getLogger(__name__)
_PROBES = (2, 4, 10)
"""How far behind the last seal to look for others, which would show that one between is gone."""


def stays(head: int) -> set[int]:
    """Return the numbers of seals before `head` that the search for any later head may ask for.

    They are the powers of two from 2 on, and the leading binary digits of the head with zeros after them.
    """
    digits = {head >> shift << shift for shift in range(head.bit_length())}
    return digits | {1 << shift for shift in range(1, head.bit_length())}


def witness(number: int) -> int:
    """Return the odd number at or before `number`: its seal has a file while all after it have one."""
    return number if number % 2 else number - 1


class SealFiles:
    """Reads and writes the chain's files in one store."""

    def __init__(self, storage: Storage, *, store_id: str) -> None:
        self._storage = storage
        self._store_id = store_id
        self.archives = Archives(storage)

    def exists(self, number: int) -> bool:
        """Whether the seal has its own file."""
        return self._storage.exists(layout.seal_path(number))

    def read(self, number: int, *, archived: bool = True) -> tuple[Digest, Seal] | None:
        """Return a seal and its digest, from its file or else from an archive; None if it is in none.

        Raises
        ------
        IntegrityError
            It is damaged.
        """
        raw = self.raw(number, archived=archived)
        return None if raw is None else decode_seal(layout.seal_path(number), raw)

    def raw(self, number: int, *, archived: bool = True) -> bytes | None:
        """Return the bytes of a seal, as `read` finds them."""
        try:
            return self._storage.read(layout.seal_path(number))
        except NotFoundError:
            return self.archives.read(number) if archived else None

    def links(self, number: int, *, archived: bool = False) -> Iterator[tuple[Digest, Seal]]:
        """Yield the seals after `number`, as far as there are any."""
        while (found := self.read(number + 1, archived=archived)) is not None:
            yield found
            number += 1

    def is_end(self, number: int) -> bool:
        """Whether the chain ends with `number`, whose next seal has no file: it may be in an archive only.

        Files of archived seals go in order, and of those before the head none with an odd number `stays`: so
        while such a one is there, nothing after it has gone.
        """
        return self.exists(witness(number)) if number else not self.exists(2)

    def newest(self) -> int:
        """Find the last seal by asking for names: numbers are dense, so its binary digits can be asked for.

        Raises
        ------
        IntegrityError
            One is missing before the last.
        """
        low = int(self.exists(1))
        if self.exists(2):
            low = 2
            while self.exists(2 * low):
                low *= 2
            digit = low // 2
            while digit:
                if self.exists(low + digit):
                    low += digit
                digit //= 2
        # A seal that is gone must not pass for the end: the next one would contradict those behind it.
        for step in _PROBES:
            if self.exists(low + step) and not self.exists(low + 1):
                raise missing_seal(low + 1, self._storage.url)
        return low

    def open(self, newest: int) -> Snapshot:
        """Return the newest snapshot that agrees with the chain; without one, the empty sequence."""
        number = newest - newest % layout.SNAPSHOT_EVERY
        while number > 0:
            snapshot = self.snapshot(number)
            if snapshot is not None:
                return snapshot
            number -= layout.SNAPSHOT_EVERY
        return Snapshot(self._store_id)

    def snapshot(self, number: int) -> Snapshot | None:
        """Return the snapshot up to a seal; None if there is none, or it is damaged, which is logged."""
        path = layout.snapshot_path(number)
        try:
            raw = self._storage.read(path)
        except NotFoundError:
            return None
        found = self.read(number)
        if found is None:
            raise missing_seal(number, self._storage.url)
        try:
            snapshot = decode_snapshot(path, raw, *found)
        except (IntegrityError, FormatError) as error:
            logger.warning("%s", error)
            return None
        return snapshot if snapshot.store_id == self._store_id else None

    def write_snapshot(self, now: Snapshot) -> None:
        """Write the snapshot up to `now`, and delete those before the last two; a refusal is only logged."""
        try:
            self._storage.put(layout.snapshot_path(now.number), encode_snapshot(now))
        except StorageError as error:
            logger.warning("the seal stands, its snapshot was not written: %s", error)
            return
        # The one before serves whoever is opening now; what is older has no use.
        old = now.number - 2 * layout.SNAPSHOT_EVERY
        try:
            while old > 0 and self._storage.exists(layout.snapshot_path(old)):
                self._storage.delete(layout.snapshot_path(old))
                old -= layout.SNAPSHOT_EVERY
        except StorageError as error:
            logger.warning("an old snapshot was not deleted, which does no harm: %s", error)

    def newest_name(self) -> int:
        """Return the highest number of a seal in a listing of all names."""
        entries = self._storage.files(layout.SEALS)
        return max((layout.parse_seal(entry.path) or 0 for entry in entries), default=0)

    def put(self, seal: Seal, *, plainly: bool) -> Digest | None:
        """Put a seal if its number is free and returns its digest; None if it is taken.

        Parameters
        ----------
        plainly
            Without an atomic put-if-absent: nobody else seals.
        """
        digest, raw = seal.encode()
        path = layout.seal_path(seal.number)
        if plainly:
            if self._storage.exists(path):
                return None
            self._storage.put(path, raw)
        elif not self._storage.create(path, raw):
            return None
        return digest


def missing_seal(number: int, url: str) -> IntegrityError:
    """Build the error for a seal that is neither in its file nor in an archive."""
    return seal_damaged(layout.seal_path(number), f"it is not there, in {url}")
