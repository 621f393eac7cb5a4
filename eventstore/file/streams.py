"""Streams of files that are written whole: what was written is published on closing, or thrown away.

A ``with`` block that fails publishes nothing; so does a stream whose last bytes cannot be written.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, cast

from eventstore.file.failures import translated

__all__ = ["WholeFile", "as_text", "split_mode", "writing"]


class WholeFile(io.BufferedWriter):
    """A binary stream over `raw` that calls `publish` when it is closed, or `discard` if that failed.

    Parameters
    ----------
    path
        What errors on closing name.
    publish
        Called with all bytes flushed into `raw`, which is still open.
    discard
        Called instead where the ``with`` block raised, or where flushing or publishing did.
    """

    def __init__(
        self, raw: Any, *, path: str, publish: Callable[[], None], discard: Callable[[], None]
    ) -> None:
        super().__init__(raw)
        self._path = path
        self._publish = publish
        self._discard = discard
        self._given_up = False

    def give_up(self) -> None:
        """Publish nothing on closing."""
        self._given_up = True

    def close(self) -> None:
        """Publish what was written, or throw it away; a second time does nothing."""
        if self.closed:
            return
        try:
            if not self._given_up:
                with translated("write", self._path):
                    self.flush()
                    self._publish()
        except BaseException:
            self._given_up = True
            raise
        finally:
            if self._given_up:
                self._discard()
            self._let_go()

    def _let_go(self) -> None:
        # Closing flushes again, and what is thrown away may not fit anywhere.
        try:
            super().close()
        except (OSError, ValueError):
            if not self._given_up:
                raise
        finally:
            self._publish = self._discard = _nothing

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.give_up()
        self.close()


class _WholeText(io.TextIOWrapper):
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and isinstance(self.buffer, WholeFile):
            self.buffer.give_up()
        self.close()


def _nothing() -> None: ...


def split_mode(mode: str) -> tuple[str, bool]:
    """Return what a mode does (``r``, ``w``, ``a``, ``x``, with ``+`` if both) and whether it is for text."""
    kind = mode.replace("b", "").replace("t", "")
    if kind not in ("r", "w", "a", "x", "r+", "w+", "a+", "x+") or ("b" in mode and "t" in mode):
        raise ValueError(f"a mode of open() was expected, such as 'r' or 'wb', found {mode!r}")
    return kind, "b" not in mode


def writing(mode: str) -> bool:
    """Whether a mode changes the file."""
    return any(letter in mode for letter in "wax+")


def as_text(
    stream: IO[bytes],
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> IO[str]:
    """Wrap a binary stream for text; UTF-8 unless another encoding is given."""
    return _WholeText(cast(Any, stream), encoding or "utf-8", errors, newline)
