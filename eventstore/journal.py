"""The journal of one writer on this machine: what it acknowledged before a segment took it.

Plain text, one line for each append: a CRC-32 in hex, a blank, a JSON object, a newline. A last line that
is not whole was torn by a crash and was never acknowledged; a wrong CRC before the last line is damage. See
docs/format.md, section "Journal".
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from eventstore.codec.payload import dump_fields, dump_json, load_json
from eventstore.codec.rows import Row
from eventstore.codec.schema import BODY_COLUMNS, SCHEMA
from eventstore.errors import FormatError, IntegrityError, InvalidEventError, StateError
from eventstore.ids import WRITER_PATTERN
from eventstore.local_files import LocalFiles, refused, translated

__all__ = ["Durability", "Journal", "JournalContent", "read_journal"]

logger = logging.getLogger(__name__)
JOURNAL_VERSION = 1
MAX_LINE_BYTES = 1 << 30
"""Longest line: whoever recovers it holds it in memory several times over."""
JOURNAL_NAME = re.compile(rf"({WRITER_PATTERN})-([0-9]{{12,}})\.jsonl")
Durability = Literal["process", "fsync"]
"""``process`` survives a killed process; ``fsync`` also survives power loss."""


class Journal:
    """One journal file, open for appending. It serves one segment and is removed with it.

    Parameters
    ----------
    path
        A new file; one that is there is what a failed attempt left, and is replaced.
    header
        What the first line says: store, writer, first sequence, actor, software.

    Raises
    ------
    StorageError
        The disk refused (code ``disk_full``, ...); nothing of it is left, if the disk lets us remove it.
    """

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any],
        *,
        durability: Durability,
        files: LocalFiles,
    ) -> None:
        self.path = path
        self._files = files
        self._sync = durability == "fsync"
        self._length = 0
        self._resting = False
        self.broken = False
        """A line could be neither written nor cut off: nothing may follow it."""
        with translated("make", path):
            try:
                self._descriptor = files.create(path)
            except FileExistsError:
                files.remove(path)
                self._descriptor = files.create(path)
        try:
            self._line(dump_json({"journal": JOURNAL_VERSION, **header}))
            if self._sync:
                with translated("make", path):
                    files.sync_folder(path.parent)
        except BaseException:
            self.close()
            with contextlib.suppress(OSError):
                files.remove(path)
            raise

    def append(self, rows: Sequence[Row]) -> int:
        """Write one line with all `rows`, which have consecutive sequences; returns its length in bytes.

        Raises
        ------
        InvalidEventError
            The line would be longer than `MAX_LINE_BYTES` (code ``batch_too_large``).
        StorageError
            The disk refused (code ``disk_full``, ...); the file is as it was before.
        """
        body = dump_fields(
            {
                "sequence": rows[0].sequence,
                "recorded_us": rows[0].recorded_us,
                "events": [(row.kind, row.version, row.fields) for row in rows],
            }
        )
        if len(body) > MAX_LINE_BYTES:
            raise InvalidEventError(
                f"at most {MAX_LINE_BYTES:,} bytes were expected in one append, found {len(body):,} in "
                f"{len(rows):,} events; append them in smaller batches. Nothing was stored",
                code="batch_too_large",
            )
        return self._line(body)

    def intend(self, segment_path: str) -> None:
        """Note under which name the rows are about to be put, for whoever recovers this journal."""
        if self._resting and self._descriptor < 0:
            with translated("reopen", self.path):
                self._descriptor = self._files.reopen(self.path)
        self._line(dump_json({"segment": segment_path}))

    def rest(self) -> None:
        """Close the file until `intend` is called again: rows that wait for a segment need no descriptor."""
        self._resting = True
        self.close()

    def close(self) -> None:
        """Close the file and keep it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                os.close(descriptor)
            except OSError as error:
                # The descriptor is gone all the same, and nobody asked for anything that could fail.
                logger.warning("closing the journal %s failed: %s", self.path.name, error)

    def remove(self) -> None:
        """Close and delete the file: its rows are in a segment."""
        self.close()
        with translated("remove", self.path):
            self._files.remove(self.path)

    def _line(self, body: bytes) -> int:
        if self.broken or self._descriptor < 0:
            raise StateError(
                f"the journal {self.path.name} is closed or could not be repaired after a failed "
                "write; flush, then append again: what was acknowledged is kept",
                code="journal_closed",
            )
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        try:
            done = self._files.write(self._descriptor, line)
            while done < len(line):
                done += self._files.write(self._descriptor, line[done:])
            if self._sync:
                self._files.sync(self._descriptor)
            # Inside: after an interrupt right here the line is either counted or cut off.
            self._length += len(line)
        except BaseException as error:
            # Also where someone interrupts us: half a line in the middle would spoil all that follow.
            self._undo()
            if isinstance(error, OSError):
                raise refused("write", self.path, error) from error
            raise
        return len(line)

    def _undo(self) -> None:
        self.broken = True
        with contextlib.suppress(OSError):
            self._files.truncate(self._descriptor, self._length)
            self.broken = False


@dataclass(slots=True)
class JournalContent:
    """What a journal file holds.

    `torn_bytes` at its end were never acknowledged; `torn_line` says that they end like a whole line, as
    after a power cut. `damage` is what stands behind the rows, where only the good beginning was asked for.
    """

    path: Path
    header: Mapping[str, Any]
    rows: list[Row] = field(default_factory=list)
    segment_path: str | None = None
    torn_bytes: int = 0
    torn_line: bool = False
    length: int = 0
    damage: IntegrityError | None = None


def read_journal(
    path: Path, known: JournalContent | None = None, *, good_prefix: bool = False
) -> JournalContent | None:
    """Read a journal file; None if it is gone, or was torn before its first line was whole.

    Parameters
    ----------
    known
        What an earlier call returned for this file: only what was added since is read, into the same
        object.
    good_prefix
        Return what stands before the damage, and the error as `damage`, instead of raising it. If the first
        line is damaged, the header has only the writer and first sequence that the file's name says.

    Raises
    ------
    IntegrityError
        A line before the last has the wrong CRC, or one does not follow the one before (code
        ``journal_damaged``).
    FormatError
        Written by a newer version.
    StorageError
        The file cannot be read.
    """
    start = known.length if known else 0
    try:
        with path.open("rb") as stream:
            shrunk = os.fstat(stream.fileno()).st_size < start
            stream.seek(start)
            raw = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused("read", path, error) from error
    if known is not None and good_prefix and (shrunk or known.damage is not None):
        # A writer cuts back a line that failed: what was read of it does not count then.
        return read_journal(path, good_prefix=True)
    try:
        return _read_lines(path, known, raw)
    except _DamagedError as found:
        if not good_prefix:
            raise found.error from found.__cause__
        if known is not None:
            return read_journal(path, good_prefix=True)
        content = found.content
        if content is None:
            content = JournalContent(path, _header_by_name(path))
        content.damage = found.error
        return content


class _DamagedError(Exception):
    """Carries what was read before the damage, and the error to raise."""

    def __init__(self, error: IntegrityError, content: JournalContent | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.content = content


def _read_lines(path: Path, content: JournalContent | None, raw: bytes) -> JournalContent | None:
    *lines, rest = raw.split(b"\n")
    torn = len(rest)
    for number, line in enumerate(lines, 1):
        offset = content.length if content else 0
        if not _is_whole(line):
            if number == len(lines) and not rest:
                # Pages reach the device in any order: a power cut can leave the newline and not the middle.
                torn = len(line) + 1
                break
            raise _DamagedError(_damaged(path, offset, "the line there has the wrong CRC-32"), content)
        try:
            record = load_json(line[9:], where=path.name)
            if content is None:
                content = JournalContent(path, _header(path, record))
            else:
                _take(path, offset, content, record)
        except IntegrityError as error:
            raise _DamagedError(error, content) from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            damage = _damaged(path, offset, f"the line there is no record of a journal ({error!r})")
            raise _DamagedError(damage, content) from error
        content.length = offset + len(line) + 1
    if content is not None:
        content.torn_bytes = torn
        content.torn_line = torn > len(rest)
    return content


def _take(path: Path, offset: int, content: JournalContent, record: Mapping[str, Any]) -> None:
    if "segment" in record:
        content.segment_path = record["segment"]
        return
    place = record["sequence"] - content.header["first_sequence"]
    if not 0 <= place <= len(content.rows):
        expected = content.header["first_sequence"] + len(content.rows)
        raise _damaged(path, offset, f"event {record['sequence']} where {expected} belongs")
    # A number that comes again: its first line was interrupted before it was acknowledged.
    content.rows[place:] = list(_rows(record))


def _header(path: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
    if record.get("journal") != JOURNAL_VERSION:
        raise FormatError(
            f"a journal of version {JOURNAL_VERSION} was expected in {path.name}, found "
            f"{record.get('journal')!r}; recover it with the version of eventstore that wrote it",
            code="newer_format",
            path=path.name,
        )
    return record


def _header_by_name(path: Path) -> Mapping[str, Any]:
    match = JOURNAL_NAME.fullmatch(path.name)
    return {"writer": match[1], "first_sequence": int(match[2])} if match else {"writer": ""}


def _is_whole(line: bytes) -> bool:
    crc, blank, body = line[:8], line[8:9], line[9:]
    try:
        return blank == b" " and int(crc, 16) == zlib.crc32(body)
    except ValueError:
        return False


def _damaged(path: Path, offset: int, found: str) -> IntegrityError:
    return IntegrityError(
        f"the journal {path.name} is damaged near byte {offset}: {found}. What stands before it is taken "
        "over when the store is opened for writing. Keep the file, take the good lines behind the damage "
        "over by hand with `eventstore append`, then move it away",
        code="journal_damaged",
        path=str(path.name),
        offset=offset,
    )


def _rows(record: Mapping[str, Any]) -> Iterator[Row]:
    for place, (kind, version, fields) in enumerate(record["events"]):
        typed = {
            name: _typed(value, SCHEMA.field(name).type)
            for name, value in fields.items()
            if value is not None
        }
        columns = tuple(name for name in BODY_COLUMNS if name in typed)
        yield Row(kind, version, columns, typed, record["sequence"] + place, record["recorded_us"])


def _typed(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_binary(kind):
        return b64decode(value)
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    return value
