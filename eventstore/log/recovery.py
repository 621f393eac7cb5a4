"""What dead writers of this machine left in journals becomes segments, under their own ids and numbers."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from eventstore import layout
from eventstore.errors import FormatError, IntegrityError
from eventstore.filesystem import Storage
from eventstore.ids import WriterId
from eventstore.journal import JournalContent, JournalFolder, read_journal
from eventstore.log.sequence import SealSequence
from eventstore.log.writer import Author, encode_rows, put_segment
from eventstore.segment import SegmentFile

__all__ = ["recover_dead_writers"]

logger = logging.getLogger(__name__)


def recover_dead_writers(
    storage: Storage, folder: JournalFolder, sequence: SealSequence, *, clock: Callable[[], int]
) -> int:
    """Make journaled events of dead writers durable, and return how many there were.

    The writer's lock is held meanwhile, so nobody does it twice. A journal that is damaged stays where it
    is, with its lock file, and is logged as an error: raising would lock everyone out of the store.
    """
    recovered = 0
    for writer, lock in folder.dead_writers():
        whole = False
        try:
            for path in folder.journals(writer):
                content = read_journal(path)
                if content is not None:
                    made = _recover_journal(storage, content, clock=clock)
                    if made is not None:
                        sequence.offer(made[0].segment, made[1])
                    recovered += len(content.rows)
                folder.remove(path)
            whole = True
        except (IntegrityError, FormatError) as error:
            logger.error("%s", error)  # noqa: TRY400 - the message says all; the place in code does not help
        finally:
            lock.release(remove=whole)
    return recovered


def _recover_journal(
    storage: Storage, content: JournalContent, *, clock: Callable[[], int]
) -> tuple[SegmentFile, list[bytes]] | None:
    """Make the events of a dead writer's journal durable; None if they are so already, or there are none.

    A flush notes the segment's name in the journal before it puts it: if that file is there, the crash
    came between put and removal.
    """
    if not content.rows:
        return None
    if content.segment_path is not None and storage.exists(content.segment_path):
        return None
    header = content.header
    author = Author(header["store_id"], header["actor"], header["software"])
    day = layout.segment_day(dt.datetime.fromtimestamp(clock() / 1e6, dt.UTC))
    file, hashes = encode_rows(content.rows, WriterId(header["writer"]), author, day)
    put_segment(storage, file)
    return file, hashes
