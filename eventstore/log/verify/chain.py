"""Verification of the chain: every seal from the first on, out of files and archives, and its snapshots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from eventstore import layout
from eventstore.chain import Chain
from eventstore.errors import EventStoreError, NotFoundError
from eventstore.ids import Digest
from eventstore.layout import ArchiveName
from eventstore.log.archive import archive_damaged, decode_archive
from eventstore.log.sequence import Head
from eventstore.log.verify.report import Inspection
from eventstore.merkle import EMPTY_ROOT
from eventstore.seal import GENESIS, Seal, decode_seal, seal_damaged
from eventstore.snapshot import decode_snapshot

__all__ = ["ChainCheck", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """A seal that added events: its number, and the tree after it."""

    number: int
    size: int
    root: bytes


class ChainCheck:
    """Walks the chain, and keeps what the rest of a verification has to know of it."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection
        self._storage = inspection.storage
        self.chain = Chain(inspection.store_id)
        self.whole = True
        """Whether every seal that is there follows."""
        self.steps: list[Step] = []
        self.replaced: set[str] = set()
        """Segments, compacted ones too, that seals have replaced."""
        self._lines: list[bytes] = []
        """SHA-256 of each seal's bytes, from number 1 on."""
        self._archive: tuple[ArchiveName, Mapping[int, bytes]] | None = None

    # the chain -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Follow every link; stops at the first that does not follow, which is found."""
        numbers, archives = self._names()
        try:
            for number, raw in self._links(numbers, archives):
                self._follow(number, raw)
        except EventStoreError as error:
            self.whole = False
            self._inspection.found(error, position=self.chain.peaks.size)
        for name in archives:
            self._check_archive(name)

    def _names(self) -> tuple[set[int], list[ArchiveName]]:
        paths = [entry.path for entry in self._storage.files(layout.SEALS)]
        numbers = {number for path in paths if (number := layout.parse_seal(path)) is not None}
        return numbers, sorted(name for path in paths if (name := layout.parse_archive(path)) is not None)

    def _links(self, numbers: set[int], archives: list[ArchiveName]) -> Iterator[tuple[int, bytes]]:
        number = 1
        while True:
            raw = self._raw(number, archives, own=number in numbers)
            if raw is None:
                break
            yield number, raw
            number += 1
        later = [layout.seal_path(other) for other in sorted(numbers) if other > number]
        later += [layout.archive_path(name.first, name.last) for name in archives if name.last > number]
        if later:
            raise seal_damaged(layout.seal_path(number), f"it is not there, and {later[0]!r} is")

    def _raw(self, number: int, archives: list[ArchiveName], *, own: bool) -> bytes | None:
        if own:
            try:
                return self._inspection.read(layout.seal_path(number))
            except NotFoundError:
                pass  # cleaned away since the listing
        if self._archive is not None and number in self._archive[1]:
            return self._archive[1][number]
        for name in archives:
            if name.first <= number <= name.last:
                path = layout.archive_path(name.first, name.last)
                try:
                    lines = decode_archive(path, self._inspection.read(path))
                except EventStoreError:
                    continue  # is found by `_check_archive`
                self._archive = name, lines
                return lines[number]
        return None

    def _follow(self, number: int, raw: bytes) -> None:
        before = self.chain.segments
        digest, seal = decode_seal(layout.seal_path(number), raw)
        self.chain.follow(digest, seal)
        self._lines.append(hashlib.sha256(raw).digest())
        report = self._inspection.report
        report.seals += 1
        report.size, report.root = seal.size, seal.root
        if seal.compacted:
            for compacted in seal.compacted:
                run = before.run(compacted.first_position or 0, compacted.end_position)
                self.replaced.update(segment.path for segment in before[run])
        else:
            self.steps.append(Step(number, seal.size, seal.root))

    def _check_archive(self, name: ArchiveName) -> None:
        """Compare an archive with the seals that were followed, from wherever these were read."""
        path = layout.archive_path(name.first, name.last)
        try:
            lines = decode_archive(path, self._inspection.read(path))
            for number, line in lines.items():
                if number <= len(self._lines) and hashlib.sha256(line).digest() != self._lines[number - 1]:
                    raise archive_damaged(path, f"what it holds as number {number} is another seal")
        except NotFoundError:
            return  # a longer one took its place since the listing
        except EventStoreError as error:
            self._inspection.found(error)
        self._inspection.report.archives += 1

    def seal(self, number: int) -> Seal:
        """Read a seal again that was followed."""
        return self._again(number)[1]

    def head_at(self, number: int) -> Head | None:
        """Return where the log ended with seal `number`; None if no such seal was followed."""
        if number > self.chain.number:
            return None
        if not number:
            return Head(0, 0, GENESIS, EMPTY_ROOT)
        digest, seal = self._again(number)
        return Head(seal.size, number, digest, seal.root)

    def _again(self, number: int) -> tuple[Digest, Seal]:
        found = self._raw(number, self._names()[1], own=True)
        if found is None:
            raise seal_damaged(layout.seal_path(number), "it was there, and is not any more")
        return decode_seal(layout.seal_path(number), found)

    # what is derived from it -----------------------------------------------------------------------------

    def check_snapshots(self) -> None:
        """Compare snapshots with their seals; where the chain is whole, none goes beyond its end."""
        for entry in self._storage.files(layout.SEALS):
            number = layout.parse_snapshot(entry.path)
            if number is None:
                continue
            path = layout.seal_path(number)
            try:
                raw = self._inspection.read(entry.path)
                if number <= self.chain.number:
                    line = self._raw(number, self._names()[1], own=True)
                    if line is not None:
                        decode_snapshot(entry.path, raw, *decode_seal(path, line))
                elif self.whole and not self._storage.exists(path):
                    raise seal_damaged(path, f"it is not there, and {entry.path!r} sums it up")
            except NotFoundError:
                continue  # only the last two are kept, and someone has just written the next
            except EventStoreError as error:
                self._inspection.found(error)
            self._inspection.report.snapshots += 1

    def check_table(self, position: int, path: str) -> None:
        """Where the chain is whole, no table has folded events beyond its end."""
        size = self._inspection.report.size
        if self.whole and position > size:
            self._inspection.found(
                seal_damaged(
                    layout.seal_path(self.chain.number + 1),
                    f"it is not there, and {path!r} stands at position {position}, beyond the {size} events "
                    "that are sealed",
                ),
                position=size,
            )
