"""How processes of one machine tell each other that a journal grew: a page of shared memory, and no calls.

A file of 256 numbers is mapped by all of them. Each writer owns one and changes it when it has journaled, so
a reader sees with one comparison whether anyone but itself has. Nothing is lost with the file: whoever hears
nothing looks at the journals anyway, now and then.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
import struct
import threading
from pathlib import Path
from typing import ClassVar

__all__ = ["Bell", "Ringer"]

logger = logging.getLogger(__name__)
_NUMBER = struct.Struct("<Q")
_WIDTH = _NUMBER.size
_NUMBERS = 256
_BYTES = _NUMBERS * _WIDTH
_SHARED = _NUMBERS - 1
"""The number of all writers that found none of their own; nobody takes a change of it for its own."""


class Bell:
    """The mapped file of one folder, in this process; see `Bell.of`."""

    # One for each file: closing any descriptor of a file lets go of all its locks in this process.
    _known: ClassVar[dict[str, Bell]] = {}
    # Taken again by its own thread where the garbage collector closes a store amid a call.
    _lock: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._descriptor).st_size < _BYTES:
                os.ftruncate(self._descriptor, _BYTES)
            self.page = mmap.mmap(self._descriptor, _BYTES)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._inode = os.fstat(self._descriptor).st_ino
        self._taken: set[int] = set()

    @classmethod
    def of(cls, path: Path) -> Bell | None:
        """Return the bell at `path`, made if there is none; None where the disk refuses."""
        with cls._lock:
            known = cls._known.get(str(path))
            with contextlib.suppress(OSError):
                if known is not None and path.stat().st_ino == known._inode:
                    return known
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                made = cls._known[str(path)] = Bell(path)
            except (OSError, ValueError) as error:
                logger.debug("journals are looked at instead of listened for: %s", error)
                return None
            return made

    def ringer(self) -> Ringer:
        """Return what rings for one writer; its number is its own while this process lives."""
        with self._lock:
            for number in range(_SHARED):
                if number in self._taken:
                    continue
                try:
                    fcntl.lockf(
                        self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _WIDTH, number * _WIDTH, os.SEEK_SET
                    )
                except OSError:
                    continue
                self._taken.add(number)
                return Ringer(self, number)
            return Ringer(self, _SHARED)

    def give_back(self, number: int) -> None:
        """Let another writer have the number."""
        with self._lock:
            if number in self._taken:
                self._taken.discard(number)
                with contextlib.suppress(OSError):
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _WIDTH, number * _WIDTH, os.SEEK_SET)

    @classmethod
    def forget(cls) -> None:
        """Drop what a fork has copied: the locks are the parent's, and so are the numbers."""
        cls._known = {}
        cls._lock = threading.RLock()


os.register_at_fork(after_in_child=Bell.forget)


class Ringer:
    """Rings for one writer, and listens for all others. Ringing is not safe to share by threads."""

    def __init__(self, bell: Bell, number: int) -> None:
        self._bell = bell
        self._page = bell.page
        self._number = number
        self._place = number * _WIDTH
        self._value = secrets.randbits(63)
        self._heard = bytearray(_BYTES)

    def ring(self) -> None:
        """Say that something was journaled, or went from a journal to a segment."""
        # From anywhere on: who takes over a number must not repeat what its last owner said.
        self._value = (self._value + 1) & 0xFFFFFFFFFFFFFFFF
        _NUMBER.pack_into(self._page, self._place, self._value)
        if self._number != _SHARED:
            _NUMBER.pack_into(self._heard, self._place, self._value)

    def has_rung(self) -> bool:
        """Whether anyone else has rung since this was asked last; at first, yes."""
        page = self._page[:]
        if page == self._heard:
            return False
        self._heard[:] = page
        return True

    def close(self) -> None:
        """Give the number back."""
        self._bell.give_back(self._number)
