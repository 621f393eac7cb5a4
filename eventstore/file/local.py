"""Files of this machine: hashed by path, size and time of the last change; written beside, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from hashlib import sha512
from pathlib import Path
from typing import IO, Any

from eventstore.errors import InvalidEventError
from eventstore.file.failures import failure, translated
from eventstore.file.globbing import glob_local, walk_files
from eventstore.file.places import LOCAL, Found, Progress, register_protocol
from eventstore.file.streams import WholeFile, as_text, split_mode
from eventstore.filesystem import TEMPORARY

__all__ = ["CHUNK_BYTES", "LocalFiles", "pump"]

CHUNK_BYTES = 1024 * 1024
_ABSENT = (FileNotFoundError, NotADirectoryError)

# Paths are text here, and these run for every file of a folder: os, not pathlib.


def _hash(path: str, size: int, mtime: str) -> str:
    # hash_struct(["File", "local", path, size, mtime]), spelled out: a folder has many files.
    try:
        raw = path.encode()
    except UnicodeEncodeError as error:
        raise InvalidEventError(
            f"a path in UTF-8 was expected, found {path!r}; rename the file, as its name cannot be recorded",
            code="bad_path",
        ) from error
    packed = b"l4:File5:local%d:%bi%de%d:%be" % (len(raw), raw, size, len(mtime), mtime.encode())
    return sha512(packed).hexdigest()[:40]


class LocalFiles:
    """Files of this machine."""

    def hash(self, path: str) -> str:
        """Return ``H(["File", "local", path, size, text of mtime])``; a missing file is -1 and "-1"."""
        try:
            found = os.stat(path)
        except _ABSENT:
            return _hash(path, -1, "-1")
        except OSError as error:
            raise failure("hash", path, error) from error
        return _hash(path, found.st_size, str(found.st_mtime))

    def found(self, pattern: str) -> Iterator[Found]:
        """Yield the files that a glob pattern matches, folders left out."""
        with translated("list", pattern):
            for path in glob_local(pattern):
                try:
                    found = os.stat(path)
                except _ABSENT:
                    continue
                if stat.S_ISREG(found.st_mode):
                    yield Found(path, _hash(path, found.st_size, str(found.st_mtime)))

    def below(self, path: str) -> Iterator[Found]:
        """Yield the files at any depth in a folder, its path taken literally; none if it is not there."""
        with translated("list", path):
            for name, found in walk_files(path):
                yield Found(name, _hash(name, found.st_size, str(found.st_mtime)))

    def folder_hashes(self, path: str) -> Iterator[str]:
        """Yield what the hash of a folder is made of, in any order."""
        return (found.hash for found in self.below(path))

    def version(self, path: str) -> object:
        """Return something that compares unequal after the file was written; raises FileMissingError."""
        with translated("look at", path):
            found = os.stat(path)
            return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return self._kind(path) is not None

    def is_file(self, path: str) -> bool:
        """Whether there is such a file."""
        kind = self._kind(path)
        return kind is not None and stat.S_ISREG(kind)

    def is_folder(self, path: str) -> bool:
        """Whether there is such a folder."""
        kind = self._kind(path)
        return kind is not None and stat.S_ISDIR(kind)

    def _kind(self, path: str) -> int | None:
        with translated("look for", path):
            try:
                return os.stat(path).st_mode
            except _ABSENT:
                return None

    def size(self, path: str) -> int:
        """Return its size in bytes; raises FileMissingError."""
        with translated("measure", path):
            return os.stat(path).st_size

    def open(
        self, path: str, mode: str, *, done: Callable[[], None] | None = None, **options: Any
    ) -> IO[Any]:
        """Open it as the built-in ``open`` does; a file that is written gets its folder made.

        With mode ``w`` the bytes go to a hidden file beside it that takes its place on closing.
        """
        kind, text = split_mode(mode)
        with translated("open", path):
            if kind != "r" and kind != "r+":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            if kind == "w":
                stream: IO[bytes] = self._beside(path, done or _nothing)
            elif kind in ("a", "x"):
                raw = open(path, f"{kind}b", buffering=0)  # noqa: SIM115 - the caller closes it
                stream = WholeFile(raw, path=path, publish=done or _nothing, discard=done or _nothing)
            else:
                # Read, or changed in place: Python's own stream does.
                if text:
                    options["encoding"] = options.get("encoding") or "utf-8"
                return open(path, mode, **options)
            return as_text(stream, **options) if text else stream

    def _beside(self, path: str, done: Callable[[], None]) -> IO[bytes]:
        target = os.path.realpath(path)
        mode = self._kind(target)
        if mode is not None and not stat.S_ISREG(mode):
            # A pipe, a device, or a folder, which says so.
            return WholeFile(open(path, "wb", buffering=0), path=path, publish=done, discard=_nothing)
        beside = os.path.join(os.path.dirname(target), f"{TEMPORARY}{secrets.token_hex(8)}")
        try:
            raw = open(beside, "xb", buffering=0)  # noqa: SIM115 - the caller closes it
        except PermissionError:
            if mode is None:
                raise
            # The file may be written though its folder may not.
            return WholeFile(open(path, "wb", buffering=0), path=path, publish=done, discard=done)

        def publish() -> None:
            with translated("write", path):
                if mode is not None:
                    os.chmod(beside, stat.S_IMODE(mode))
                os.replace(beside, target)
            done()

        return WholeFile(
            raw, path=path, publish=publish, discard=lambda: Path(beside).unlink(missing_ok=True)
        )

    def store(self, path: str, source: IO[bytes], *, size: int | None, progress: Progress | None) -> None:
        """Write a file whole from what is left in `source`; `size` is what `progress` is told."""
        with translated("write", path), self.open(path, "wb") as target:
            pump(source, target, size=size, progress=progress)

    def copy(self, source: str, target: str) -> bool:  # noqa: ARG002 - see FileSystem
        """Never: here the bytes are at hand anyway."""
        return False

    def touch(self, path: str, times: tuple[float, float] | None) -> None:
        """Make an empty file, or set access and change time of one (None: to now)."""
        with translated("touch", path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
            if times is not None:
                os.utime(path, times)

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is fine."""
        with translated("delete", path):
            Path(path).unlink(missing_ok=True)

    def make_folder(self, path: str) -> None:
        """Make a folder with those above it."""
        with translated("make", path):
            os.makedirs(path, exist_ok=True)

    def remove_folder(self, path: str, *, recursive: bool) -> None:
        """Delete a folder; one that is gone already is fine, one with files needs `recursive`."""
        with translated("delete", path):
            if not os.path.isdir(path):
                return
            if recursive:
                shutil.rmtree(path)
            else:
                os.rmdir(path)


def pump(source: IO[bytes], target: IO[bytes], *, size: int | None, progress: Progress | None) -> int:
    """Copy what is left of one stream into another, and return how many bytes that were."""
    done = 0
    while chunk := source.read(CHUNK_BYTES):
        target.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, size)
    return done


def _nothing() -> None: ...


register_protocol(LOCAL, LocalFiles())
