"""What dead writers of this machine left in journals becomes segments, under their own ids and numbers.

A journal is removed only when a whole segment holds its events. What cannot be taken over is put aside and
kept; one writer's trouble never stops the recovery of the others.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator
from functools import cache

from eventstore import layout
from eventstore.errors import EventStoreError, IntegrityError, NotFoundError, StorageError
from eventstore.filesystem import Storage
from eventstore.ids import WriterId
from eventstore.journal import JournalContent, read_journal
from eventstore.journal_folder import JournalFolder, Lock, boot_id
from eventstore.layout import SegmentName
from eventstore.log.sequence import SealSequence
from eventstore.log.writer import Author, encode_rows, put_segment
from eventstore.segment import Segment, describe
from eventstore.store_file import open_store_file

__all__ = ["recover_dead_writers"]

logger = logging.getLogger(__name__)

QUIET_SECONDS = 3600.0
"""How long a writer of another host name must have been silent before a free lock is believed: a shared
folder need not share its locks, and a writer that lives flushes far more often."""


def recover_dead_writers(
    storage: Storage, folder: JournalFolder, sequence: SealSequence, *, clock: Callable[[], int]
) -> int:
    """Make journaled events of dead writers durable, and return how many there were.

    The writer's lock is held meanwhile, so nobody does it twice. Of a damaged journal the good beginning is
    taken over, and the file is renamed and kept. What else goes wrong with one writer is logged as an error
    and its journals stay: raising would lock everyone out of the store. Writers under other host names are
    recovered too, if they shared our kernel or have been silent for `QUIET_SECONDS`.

    Raises
    ------
    StorageError
        The storage refused; journals stay for the next attempt.
    """
    work = _Recovery(storage, sequence, clock)
    recovered = sum(_recover_writer(work, folder, writer, lock) for writer, lock in folder.dead_writers())
    for sibling in folder.siblings():
        try:
            recovered += _recover_sibling(work, sibling)
        except StorageError as error:
            logger.warning("what was journaled under the host name %s waits: %s", sibling.host, error)
    return recovered


def _recover_writer(work: _Recovery, folder: JournalFolder, writer: WriterId, lock: Lock) -> int:
    whole = False
    try:
        recovered = work.recover(folder, writer)
        whole = True
    except StorageError:
        raise
    except EventStoreError as error:
        logger.error("%s", error)  # noqa: TRY400 - the message says all; the place in code does not help
        return 0
    except Exception:
        logger.exception("the journals of the writer %s were not taken over and are kept", writer)
        return 0
    finally:
        lock.release(remove=whole)
    return recovered


def _recover_sibling(work: _Recovery, folder: JournalFolder) -> int:
    recovered = 0
    for writer, lock in folder.dead_writers():
        sure = False
        try:
            sure = _is_surely_dead(folder, writer)
        finally:
            if not sure:
                lock.release(remove=False)
        if sure:
            recovered += _recover_writer(work, folder, writer, lock)
        elif folder.journals(writer):
            logger.warning(
                "a writer left journals under the host name %s, and nobody holds its lock: they are taken "
                "over at the first opening after %d quiet minutes (%s)",
                folder.host,
                QUIET_SECONDS // 60,
                folder.path,
            )
    if recovered:
        logger.warning("took over %d events journaled under the host name %s", recovered, folder.host)
    return recovered


def _is_surely_dead(folder: JournalFolder, writer: WriterId) -> bool:
    """Whether the free lock of a writer under another host name can be believed."""
    boot = boot_id()
    for path in folder.journals(writer):
        content = read_journal(path, good_prefix=True)
        if boot is not None and content is not None and content.header.get("boot") == boot:
            return True
    return time.time() - folder.touched_at(writer) >= QUIET_SECONDS


class _Recovery:
    """One round of recovery: what it needs of the store is read once, and only if there is work."""

    def __init__(self, storage: Storage, sequence: SealSequence, clock: Callable[[], int]) -> None:
        self._storage = storage
        self._sequence = sequence
        self._clock = clock
        self._store_id = cache(lambda: open_store_file(storage, create=False, software=""))
        self._folders = cache(storage.folders)
        self._names = cache(self._list)

    def recover(self, folder: JournalFolder, writer: WriterId) -> int:
        """Take over all journals of one dead writer; returns how many events they had."""
        recovered = 0
        journals = folder.journals(writer)
        for path in journals:
            content = read_journal(path, good_prefix=True)
            if content is None:
                folder.remove(path)
                continue
            unclear = self._take_over(writer, content, [folder.first_sequence(other) for other in journals])
            recovered += len(content.rows)
            if content.damage is not None:
                logger.error("%s", content.damage)
                folder.put_aside(path, "damaged")
            elif content.torn_line or unclear:
                # Most likely never acknowledged; where that cannot be told, the bytes are kept.
                kept = folder.put_aside(path, "torn")
                logger.warning(
                    "the end of the journal %s is no whole line; it is kept as %s", path, kept.name
                )
            else:
                folder.remove(path)
        return recovered

    def _take_over(self, writer: WriterId, content: JournalContent, starts: list[int]) -> bool:
        """Make the rows durable; returns whether some of them are beyond a segment of the writer's own.

        Rows of a line that was refused and could not be cut off stand in the journal, too: their numbers
        were given again, so the next segment or journal says where this one ends. A whole segment that is
        there says it as well, and is never put again in another extent.
        """
        if not content.rows:
            return False
        header, rows = content.header, content.rows
        first = header["first_sequence"]
        if (header["store_id"], header["writer"]) != (self._store_id(), writer):
            raise IntegrityError(
                f"a journal of {writer} in the store {self._store_id()} was expected in {content.path}, "
                f"found one of {header['writer']} in {header['store_id']}; move it away",
                code="other_store",
                path=content.path.name,
            )
        intended = self._whole(content.segment_path) if content.segment_path else None
        if intended is not None and intended[0].count == len(rows):
            self._sequence.offer(*intended)
            return False
        names = [name for name in self._names(self._day(rows[0].recorded_us)) if name.writer == writer]
        following = [start for start in (*starts, *(name.first_sequence for name in names)) if start > first]
        del rows[min(following, default=rows[-1].sequence + 1) - first :]
        there = (self._whole(name.path) for name in names if name.first_sequence == first)
        known = max((item for item in there if item), key=lambda item: item[0].count, default=None)
        if known is not None:
            self._sequence.offer(*known)
            return known[0].count < len(rows)
        if rows and rows[-1].sequence < self._sequence.sealed_end(writer):
            return False  # their segment was compacted, and cleaned away since
        author = Author(header["store_id"], header["actor"], header["software"])
        file, hashes = encode_rows(rows, writer, author, self._day(self._clock()))
        put_segment(self._storage, file)
        self._sequence.offer(file.segment, hashes)
        return False

    def _whole(self, path: str) -> tuple[Segment, list[bytes]] | None:
        """What a segment holds; None if it is not there, or its bytes are not what its name says."""
        try:
            return describe(self._storage, path, store_id=self._store_id())
        except NotFoundError:
            return None
        except StorageError:
            raise
        except EventStoreError as error:
            logger.warning("the events of a journal are put again: %s", error)
            return None

    def _list(self, recorded_day: str) -> list[SegmentName]:
        """Names of the segments of that day and later ones; a clock may have been put back a little."""
        day = dt.datetime.strptime(recorded_day, "%Y/%m/%d").replace(tzinfo=dt.UTC) - dt.timedelta(days=1)
        return [
            name
            for folder in self._days(f"{layout.SEGMENTS}/{layout.segment_day(day)}")
            for entry in self._storage.files(folder)
            if (name := layout.parse_segment(entry.path)) is not None
        ]

    def _days(self, start: str) -> Iterator[str]:
        for year in self._folders(layout.SEGMENTS):
            for month in self._folders(year) if year >= start[: len(year)] else ():
                if month >= start[: len(month)]:
                    yield from (day for day in self._folders(month) if day >= start)

    @staticmethod
    def _day(microseconds: int) -> str:
        return layout.segment_day(dt.datetime.fromtimestamp(microseconds / 1e6, dt.UTC))
