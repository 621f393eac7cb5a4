"""What other processes of this machine have journaled since the last look, at no cost where nobody has."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

from eventstore.codec.rows import Row
from eventstore.errors import EventStoreError
from eventstore.journal import JOURNAL_NAME, JournalContent, read_journal
from eventstore.journal_folder import JournalFolder

__all__ = ["PeerJournals"]

logger = logging.getLogger(__name__)
_UNHEARD_SECONDS = 1.0
"""Journals are looked at so often although nobody rang."""
_SETTLED_SECONDS = 0.05
"""A folder that was changed so lately may change again without a new time of change: clocks tick coarsely."""


class _Peer:
    __slots__ = ("content", "size", "taken")

    def __init__(self) -> None:
        self.content: JournalContent | None = None
        self.size = -1
        self.taken = 0


class PeerJournals:
    """Follows the journals of all writers of this machine but one.

    Parameters
    ----------
    store_id
        Journals that say another one are left out.
    own
        Id of the writer of this process, once it has one.
    """

    def __init__(self, folder: JournalFolder, *, store_id: str, own: Callable[[], str | None]) -> None:
        self._folder = folder
        self._path = str(folder.path)
        self._look_at = -math.inf
        self._store_id = store_id
        self._own = own
        self._changed_at = self._listed_at = -1
        self._peers: dict[str, _Peer] = {}

    def poll(self) -> tuple[list[tuple[str, list[Row]]], bool]:
        """Return the rows that are new, by writer, and whether a journal may have become a segment."""
        ringer = self._folder.ringer
        now = time.monotonic()
        # Asked first: what rings from here on is heard the next time.
        if ringer is not None and not ringer.has_rung() and now < self._look_at:
            return [], False
        self._look_at = now + _UNHEARD_SECONDS
        gone = self._list()
        found = []
        for path, peer in self._peers.items():
            try:
                size = os.stat(path).st_size  # noqa: PTH116 - on every question
            except OSError:
                self._changed_at = -1  # it went just now: the next look finds its segment
                continue
            if size != peer.size and (rows := self._read(path, peer)):
                found.append((peer.content.header["writer"] if peer.content else "", rows))
            peer.size = size
        return found, gone

    def forget(self) -> None:
        """Hand everything over again."""
        self._peers, self._changed_at, self._look_at = {}, -1, -math.inf

    def _list(self) -> bool:
        """Look for journals that came or went; True if one may have gone."""
        try:
            changed_at = os.stat(self._path).st_mtime_ns  # noqa: PTH116 - on every question
        except OSError:
            self._listed_at = max(self._listed_at, 0)  # there is none yet
            return False
        if changed_at == self._changed_at:
            return False
        settled = time.time_ns() - changed_at > _SETTLED_SECONDS * 1e9
        own, now = self._own(), {}
        with contextlib.suppress(OSError):
            for name in os.listdir(self._path):  # noqa: PTH208 - names alone, and often
                if JOURNAL_NAME.fullmatch(name) and not (own and name.startswith(own)):
                    path = f"{self._path}/{name}"
                    now[path] = self._peers.get(path) or _Peer()
        # One may have come and gone between two looks: any change of the folder may mean that.
        gone = changed_at != self._listed_at and self._listed_at >= 0
        self._peers, self._listed_at = now, changed_at
        self._changed_at = changed_at if settled else -1
        return gone

    def _read(self, path: str, peer: _Peer) -> list[Row]:
        try:
            content = read_journal(Path(path), peer.content, good_prefix=True)
        except EventStoreError as error:
            logger.warning("a journal of another process is left out: %s", error)
            return []
        if content is None or content.header.get("store_id", self._store_id) != self._store_id:
            return []
        if content is not peer.content:
            peer.taken = 0  # cut back or damaged, and read anew; what comes again is passed over
        peer.content = content
        rows = content.rows[peer.taken :]
        # What was handed over need not be held: only how many there were is asked for.
        content.rows[peer.taken :] = [None] * len(rows)  # type: ignore[list-item]
        peer.taken = len(content.rows)
        return rows
