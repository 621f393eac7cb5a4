"""Files on any fsspec filesystem: hashed by size, read in ranges, and written whole or not at all.

Connections are made when first needed, one set for each thread and process. Nothing is cached: listings and
states are those of now. What a protocol does otherwise is in `stores`.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import IO, Any, ClassVar

from eventstore.errors import InvalidEventError, StorageError
from eventstore.file.failures import is_missing, missing_file, shown, translated
from eventstore.file.local import CHUNK_BYTES
from eventstore.file.places import Found, Progress
from eventstore.file.streams import WholeFile, as_text, split_mode
from eventstore.filesystem import TEMPORARY, mask_url
from eventstore.hashing import hash_struct

__all__ = ["RemoteFiles"]

_WHOLE_BYTES = 8 * 1024 * 1024
"""What is not larger is put by one request, and kept in memory until then."""
_PARTS = re.compile(r"([^:]+)://([^/]*)(.*)", re.DOTALL)

Info = Mapping[str, Any]


class RemoteFiles:
    """Files of one protocol; the hash is that of path and size.

    Parameters
    ----------
    protocol
        As in the paths, and as fsspec knows it.
    options
        For the filesystem of fsspec: endpoint, credentials, timeouts.
    """

    extra: ClassVar[str | None] = None
    """The extra of this package that brings what the protocol needs."""
    by_host: ClassVar[bool] = False
    """The first part of a path is a host to connect to, and not the beginning of a name."""
    uncached: ClassVar[Mapping[str, Any]] = {"use_listings_cache": False}
    beside: ClassVar[bool] = False
    """A file that is written would be seen half: write it under another name, then rename it."""
    folders: ClassVar[bool] = False
    """Folders exist by themselves, and must be made before a file in them."""
    listed: ClassVar[Mapping[str, Any]] = {}
    """Options of a listing."""

    def __init__(self, protocol: str, **options: Any) -> None:
        self.protocol = protocol
        self._options = {**self.uncached, **options}
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_again, (type(self), self.protocol, self._options))

    # where ---------------------------------------------------------------------------------------------

    def _parts(self, path: str) -> tuple[str, str]:
        """Return the host (empty without one) and the filesystem's own name of a path."""
        match = _PARTS.fullmatch(path)
        if match is None:
            raise InvalidEventError(
                f"a URL of {self.protocol}:// was expected, found {path!r}", code="bad_path"
            )
        host, rest = match[2], match[3]
        return (host, rest or "/") if self.by_host else ("", f"{host}{rest}")

    def _url(self, path: str, name: str) -> str:
        """Return the path, written as `path` is, of what the filesystem calls `name`."""
        if self.by_host:
            return f"{self.protocol}://{self._parts(path)[0]}/{name.lstrip('/')}"
        return f"{self.protocol}://{name}"

    def _at(self, path: str) -> tuple[Any, str]:
        """Return the filesystem, connected, and its own name for `path`."""
        host, name = self._parts(path)
        if getattr(self._local, "process", None) != os.getpid():
            self._local.process, self._local.connected = os.getpid(), {}
        connected = self._local.connected
        if host not in connected or not self._alive(connected[host]):
            connected[host] = self._connect(host)
        return connected[host], name

    def _alive(self, filesystem: Any) -> bool:  # noqa: ARG002 - for places that have one connection
        return True

    def _connect(self, host: str) -> Any:
        import fsspec  # asyncio and ssl come with it: only for who has such files

        try:
            made = fsspec.get_filesystem_class(self.protocol)
        except ImportError as error:
            hint = f"pip install 'eventstore[{self.extra}]'" if self.extra else mask_url(str(error))
            raise StorageError(
                f"files of {self.protocol}:// need a package that is not installed: {hint}",
                code="missing_package",
                protocol=self.protocol,
                extra=self.extra,
            ) from error
        found = made._get_kwargs_from_urls(f"{self.protocol}://{host}/x") if host else {}
        return made(**{**found, **self._options})

    # looking -------------------------------------------------------------------------------------------

    def _info(self, path: str) -> Info | None:
        """Return what the filesystem says of a file or folder, or None where there is none."""
        filesystem, name = self._at(path)
        try:
            found: Info = filesystem.info(name)
        except Exception as error:
            if is_missing(error):
                return None
            raise
        return found

    def _present(self, path: str, verb: str) -> Info:
        info = self._info(path)
        if info is None:
            raise missing_file(verb, path)
        return info

    def _hash_of(self, path: str, info: Info | None) -> str:
        size = -1 if info is None else info["size"]
        return hash_struct(["File", "fsspec", path, str(size)])

    def _says_enough(self, info: Info) -> bool:
        """Whether an entry of a listing has all that a hash is made of."""
        return info.get("size") is not None

    def hash(self, path: str) -> str:
        """Return ``H(["File", "fsspec", path, text of size])``; a missing file is -1."""
        with translated("hash", path):
            return self._hash_of(path, self._info(path))

    def found(self, pattern: str) -> Iterator[Found]:
        """Yield the files that a glob pattern matches, folders left out; fsspec's own rules for patterns."""
        with translated("list", pattern):
            filesystem, name = self._at(pattern)
            try:
                entries = filesystem.glob(name, detail=True, **self.listed)
            except Exception as error:
                if not is_missing(error):
                    raise
                return
            yield from self._files((self._url(pattern, each), info) for each, info in entries.items())

    def below(self, path: str) -> Iterator[Found]:
        """Yield the files at any depth in a folder, its path taken literally; none if it is not there."""
        with translated("list", path):
            filesystem, name = self._at(path)
            try:
                entries = filesystem.find(name, detail=True, **self.listed)
            except Exception as error:
                if not is_missing(error):
                    raise
                return
            inside = f"{name.rstrip('/')}/"
            spelled = f"{path.rstrip('/')}/"
            yield from self._files(
                (f"{spelled}{each[len(inside) :]}", info)
                for each, info in entries.items()
                if each.startswith(inside)
            )

    def _files(self, entries: Iterable[tuple[str, Info]]) -> Iterator[Found]:
        for path, listed in entries:
            info = listed
            if self.beside and path.rpartition("/")[2].startswith(TEMPORARY):
                continue  # half of a file, of a writer that died or is at it
            if info.get("type") == "link":
                info = self._info(path) or info
            if info.get("type") == "file":
                yield Found(path, self._hash_of(path, info) if self._says_enough(info) else self.hash(path))

    def folder_hashes(self, path: str) -> Iterator[str]:
        """Yield what the hash of a folder is made of, in any order."""
        return (found.hash for found in self.below(path))

    def version(self, path: str) -> object:
        """Return size and what else the place says of a file's content; raises FileMissingError."""
        with translated("look at", path):
            info = self._present(path, "look at")
            names = ("size", "ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "mtime", "modify")
            return tuple(str(info.get(name)) for name in (*names, "created", "generation"))

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        with translated("look for", path):
            return self._info(path) is not None

    def is_file(self, path: str) -> bool:
        """Whether there is such a file."""
        with translated("look for", path):
            info = self._info(path)
            return info is not None and info["type"] == "file"

    def is_folder(self, path: str) -> bool:
        """Whether there is such a folder."""
        with translated("look for", path):
            info = self._info(path)
            return info is not None and info["type"] == "directory"

    def size(self, path: str) -> int:
        """Return its size in bytes; raises FileMissingError."""
        with translated("measure", path):
            size = self._present(path, "measure")["size"]
            if size is None:
                raise StorageError(
                    f"measure {shown(path)!r} failed: the server does not say how long it is; read it",
                    code="no_size",
                    path=shown(path),
                )
            return int(size)

    # reading and writing ---------------------------------------------------------------------------------

    def open(
        self, path: str, mode: str, *, done: Callable[[], None] | None = None, **options: Any
    ) -> IO[Any]:
        """Open it as the built-in ``open`` does, for reading, or for writing it whole.

        What is written is kept here until it is closed, in memory or beyond 8 MiB in a temporary file. With
        ``a`` the file is read first, and put again.
        """
        kind, text = split_mode(mode)
        if "+" in kind:
            raise InvalidEventError(
                f"a file of {self.protocol}:// is read or written whole, found mode {mode!r}: copy it to a "
                "local file to change it in place",
                code="bad_mode",
            )
        wrapping = {name: options.pop(name) for name in ("encoding", "errors", "newline") if name in options}
        with translated("open", path):
            stream = self._reader(path, **options) if kind == "r" else self._writer(path, kind, done)
            return as_text(stream, **wrapping) if text else stream

    def _reader(self, path: str, **options: Any) -> IO[bytes]:
        filesystem, name = self._at(path)
        stream: IO[bytes] = filesystem.open(name, "rb", **options)
        return stream

    def _writer(self, path: str, kind: str, done: Callable[[], None] | None) -> IO[bytes]:
        if kind == "x" and self.exists(path):
            raise FileExistsError(f"{shown(path)} is there already")
        kept = tempfile.SpooledTemporaryFile(max_size=_WHOLE_BYTES)  # noqa: SIM115 - its stream closes it
        if kind == "a" and self.exists(path):
            with self._reader(path) as before:
                while chunk := before.read(CHUNK_BYTES):
                    kept.write(chunk)

        def publish() -> None:
            kept.seek(0)
            self.store(path, kept, size=None, progress=None)
            if done is not None:
                done()

        return WholeFile(kept, path=path, publish=publish, discard=lambda: None)

    def store(self, path: str, source: IO[bytes], *, size: int | None, progress: Progress | None) -> None:
        """Write a file whole from what is left in `source`; `size` is what `progress` is told."""
        with translated("write", path):
            filesystem, name = self._at(path)
            if self.folders:
                filesystem.makedirs(name.rpartition("/")[0] or "/", exist_ok=True)
            if not self.beside:
                self._put(filesystem, name, source, size, progress)
                return
            beside = f"{name.rpartition('/')[0]}/{TEMPORARY}{secrets.token_hex(8)}"
            try:
                self._put(filesystem, beside, source, size, progress)
                filesystem.mv(beside, name)
            except BaseException:
                with suppress(Exception):
                    filesystem.rm_file(beside)
                raise

    def _put(
        self, filesystem: Any, name: str, source: IO[bytes], size: int | None, progress: Progress | None
    ) -> None:
        first = _read_up_to(source, _WHOLE_BYTES + 1)
        if len(first) <= _WHOLE_BYTES:
            filesystem.pipe_file(name, first)
            if progress is not None:
                progress(len(first), size)
            return
        stream = self._sink(filesystem, name)
        done = 0
        try:
            chunk = first
            while chunk:
                stream.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, size)
                chunk = source.read(CHUNK_BYTES)
        except BaseException:
            _abandon(stream)
            raise
        stream.close()

    def _sink(self, filesystem: Any, name: str) -> Any:
        return filesystem.open(name, "wb")

    def copy(self, source: str, target: str) -> bool:
        """Copy a file within this place without moving its bytes through here; False if it cannot."""
        if self.folders or self._parts(source)[0] != self._parts(target)[0]:
            return False
        with translated("copy", source):
            filesystem, name = self._at(source)
            try:
                filesystem.cp_file(name, self._at(target)[1])
            except NotImplementedError:
                return False
        return True

    def touch(self, path: str, times: tuple[float, float] | None) -> None:
        """Make an empty file, or put one again as it is; times cannot be set here."""
        if times is not None:
            raise InvalidEventError(
                f"a touch without times was expected, as {self.protocol}:// sets its own; found {times}",
                code="no_times",
            )
        self.open(path, "ab").close()

    def remove(self, path: str) -> None:
        """Delete a file; one that is gone already is fine."""
        with translated("delete", path):
            filesystem, name = self._at(path)
            try:
                filesystem.rm_file(name)
            except Exception as error:
                if is_missing(error) or self._info(path) is None:
                    return
                raise

    def make_folder(self, path: str) -> None:
        """Make a folder with those above it; an object store has none, and needs none."""
        if self.folders:
            with translated("make", path):
                filesystem, name = self._at(path)
                filesystem.makedirs(name.rstrip("/"), exist_ok=True)

    def remove_folder(self, path: str, *, recursive: bool) -> None:
        """Delete a folder; one that is gone already is fine, one with files needs `recursive`."""
        with translated("delete", path):
            if self._info(path) is None:
                return
            filesystem, name = self._at(path)
            if not recursive and next(self.below(path), None) is not None:
                raise StorageError(
                    f"an empty folder was expected at {shown(path)!r}, found files; "
                    "rmdir(recursive=True) deletes them too",
                    code="folder_not_empty",
                    path=shown(path),
                )
            if recursive:
                filesystem.rm(name.rstrip("/"), recursive=True)
            elif self.folders:
                filesystem.rmdir(name.rstrip("/"))


def _again(kind: type[RemoteFiles], protocol: str, options: Mapping[str, Any]) -> RemoteFiles:
    return kind(protocol, **options)


def _read_up_to(source: IO[bytes], count: int) -> bytes:
    parts = io.BytesIO()
    while parts.tell() < count and (chunk := source.read(count - parts.tell())):
        parts.write(chunk)
    return parts.getvalue()


def _abandon(stream: Any) -> None:
    """Throw away what was sent so far: closing the stream would publish it."""
    with suppress(Exception):
        stream.discard()
    with suppress(Exception):
        stream.closed = True
