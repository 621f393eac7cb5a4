"""Rows that are in no segment yet: this process' own from memory, those of others from their journals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eventstore.codec.rows import Row
from eventstore.errors import EventStoreError, FormatError
from eventstore.journal import JournalContent, read_journal
from eventstore.journal_folder import JournalFolder

__all__ = ["Journaled", "JournaledRows"]

logger = logging.getLogger(__name__)

Journaled = tuple[str, Sequence[Row], Mapping[str, Any]]
"""A writer, its rows that are in no segment yet, and the header of their journal."""


class JournaledRows:
    """Reads what is journaled on this machine, going on where it stopped.

    Parameters
    ----------
    store_id
        Journals that say another one are not ours, and left out.
    folder
        Journals of this machine's writers; None reads no journals.
    own_rows
        The rows that this process' writer has in no segment yet.
    """

    def __init__(
        self, store_id: str, *, folder: JournalFolder | None, own_rows: Callable[[], Journaled | None]
    ) -> None:
        self._store_id = store_id
        self._folder = folder
        self._own_rows = own_rows
        self._lock = threading.Lock()
        self._journals: dict[Path, JournalContent] = {}
        self._damaged: dict[Path, tuple[int, int]] = {}

    def read(self) -> list[Journaled]:
        """Rows that are in no segment: of this process from memory, of others from their journals.

        Of a damaged journal only what stands before the damage, or nothing; it is logged once. Its events
        are in no log yet, and whoever writes on this machine must not be stopped by them.
        """
        own = self._own_rows()
        found = [own] if own is not None and own[1] else []
        if self._folder is None:
            return found
        with self._lock:
            contents = {}
            for path in self._folder.journals():
                if own is not None and path.name.startswith(own[0]):
                    continue
                content = self._journal(path)
                if content is not None and content.header.get("store_id", self._store_id) == self._store_id:
                    contents[path] = content
                    found.append((content.header["writer"], list(content.rows), content.header))
            self._journals = contents
        return found

    def _journal(self, path: Path) -> JournalContent | None:
        known, damage = self._journals.get(path), self._damaged.get(path)
        if damage is not None and damage == _mark(path):
            return known
        content = None
        try:
            content = read_journal(path, known, good_prefix=True)
            found: EventStoreError | None = content.damage if content else None
        except FormatError as error:
            found = error
        if found is None:
            self._damaged.pop(path, None)
            return content
        if damage is None:
            logger.error("the tail is read without what a journal holds behind its damage: %s", found)
        self._damaged[path] = _mark(path)
        return content


def _mark(path: Path) -> tuple[int, int]:
    """Size and time of a file, which tell whether to read it again; zeros if it is gone."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_size, about.st_mtime_ns
