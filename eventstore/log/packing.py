"""Packing of old seals into archives, so that their number stays small, and which of them stay as files.

Packing adds files and removes none; `eventstore.log.cleaning` removes what is packed.
"""

from __future__ import annotations

from eventstore import layout
from eventstore.filesystem import Storage
from eventstore.ids import Digest
from eventstore.layout import ArchiveName
from eventstore.log.archive import archive_damaged, decode_archive, encode_archive
from eventstore.log.seal_files import SealFiles, missing_seal
from eventstore.log.tiers import merges
from eventstore.seal import decode_seal, seal_damaged

__all__ = ["MOST_SEALS", "archives_in_use", "first_kept", "pack"]

MOST_SEALS = 16_384
"""Most seals of an archive."""
LEAST_SEALS = 32
"""Fewest seals that are worth an archive."""


def first_kept(storage: Storage, files: SealFiles, head: int) -> int:
    """Return the number from which on all seals stay as files: that of the last snapshot but one.

    Both have to be whole: whoever opens the store then needs no archive. 1 where there are no two.
    """
    numbers = [layout.parse_snapshot(entry.path) or 0 for entry in storage.files(layout.SEALS)]
    whole = 0
    for number in sorted(numbers, reverse=True):
        if 0 < number <= head and files.snapshot(number) is not None:
            whole += 1
            if whole == 2:
                return number
    return 1


def archives_in_use(names: list[ArchiveName]) -> list[ArchiveName]:
    """Return the archives that hold the seals from the first on without a gap, as few of them as may be."""
    used: list[ArchiveName] = []
    while True:
        first = used[-1].last + 1 if used else 1
        following = [name for name in names if name.first == first]
        if not following:
            return used
        used.append(max(following))


def pack(storage: Storage, files: SealFiles, head: int) -> int:
    """Put seals that need not stay as files into archives; returns how many were not in one before.

    Archives are merged as segments are, so each seal is written a bounded number of times. Every archive is
    read back and compared with what went into it.

    Raises
    ------
    IntegrityError
        A seal is damaged or missing, or an archive did not read back (code ``archive_damaged``).
    StorageError
        Storage refused; what was packed serves.
    """
    used = archives_in_use(files.archives.names())
    covered = used[-1].last if used else 0
    end = first_kept(storage, files, head)
    if end - 1 - covered < LEAST_SEALS:
        return 0
    starts = range(covered + 1, end, MOST_SEALS)
    items = used + [ArchiveName(start, min(start + MOST_SEALS, end) - 1) for start in starts]
    shares = [(name.last - name.first + 1) / MOST_SEALS for name in items]
    groups = merges(shares, least=2)
    merged = {place for group in groups for place in range(group.start, group.stop)}
    groups += [slice(place, place + 1) for place in range(len(used), len(items)) if place not in merged]
    for group in sorted(groups, key=lambda group: group.start):
        _write(storage, files, ArchiveName(items[group.start].first, items[group.stop - 1].last))
    return end - 1 - covered


def _write(storage: Storage, files: SealFiles, name: ArchiveName) -> None:
    lines: list[bytes] = []
    before: Digest | None = None
    for number in range(name.first, name.last + 1):
        line = files.raw(number)
        if line is None:
            raise missing_seal(number, storage.url)
        digest, seal = decode_seal(layout.seal_path(number), line)
        if before is not None and seal.previous != before:
            raise seal_damaged(layout.seal_path(number), f"it follows {seal.previous}, not {before}")
        before = digest
        lines.append(line)
    path = layout.archive_path(name.first, name.last)
    storage.put(path, encode_archive(lines))
    if list(decode_archive(path, storage.read(path)).values()) != lines:
        raise archive_damaged(path, "it does not hold what was put into it")
