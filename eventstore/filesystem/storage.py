"""`FsspecStorage`: a folder on this machine, in an object store, on a server or in memory, as a `Storage`."""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from eventstore.errors import EventStoreError, NotFoundError, StorageError
from eventstore.filesystem.contract import TEMPORARY, Abilities, Entry
from eventstore.filesystem.failures import answer, mask_url, storage_error
from eventstore.filesystem.local import LocalDisk, local_folder, make_folder, sync_folder

__all__ = ["FsspecStorage", "open_storage"]

_CONDITIONAL = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""Protocols whose filesystems turn ``mode="create"`` into one conditional request."""
_UNCACHED = _CONDITIONAL | {"http", "https"}
"""Protocols whose filesystems would answer listings from a cache; others may not know the option."""
_memory_lock = threading.RLock()
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
"""How filesystems say that they have no hard links (FAT, some network mounts)."""


def open_storage(url: str | os.PathLike[str], **options: Any) -> FsspecStorage:
    """Open the folder at `url` (a path or any fsspec URL); nothing is made or read yet.

    Raises
    ------
    StorageError
        No filesystem for this protocol (code ``unknown_protocol``), or its package is not installed
        (code ``missing_package``), or the server does not answer (``transient``).
    """
    text = os.fspath(url)
    protocol = text.partition("://")[0] if "://" in text else "file"
    if protocol in _UNCACHED:
        options.setdefault("use_listings_cache", False)
    try:
        root = local_folder(text)
        filesystem: Any = LocalDisk()
        if root is None:
            filesystem, root = _filesystem_of(text, options)
    except ValueError as error:
        raise StorageError(
            f"a path or a URL of a known protocol was expected, found {mask_url(text)!r} "
            f"({mask_url(str(error))}); see fsspec's list of protocols",
            code="unknown_protocol",
            url=mask_url(text),
        ) from None
    except ImportError as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(protocol, "azure")
        hint = f"pip install 'eventstore[{extra}]'" if protocol in _CONDITIONAL else mask_url(str(error))
        raise StorageError(
            f"the filesystem for {protocol}:// needs a package that is not installed: {hint}",
            code="missing_package",
            url=mask_url(text),
        ) from None
    except Exception as error:
        # Some filesystems connect when they are made.
        if not isinstance(error, OSError) and type(error).__module__ == "builtins":
            raise
        raise storage_error("open", "/", mask_url(text), error) from None
    return FsspecStorage(filesystem, root, url=mask_url(text), protocol=protocol)


def _filesystem_of(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    import fsspec  # asyncio and ssl come with it, and a folder of this machine needs none of them

    filesystem, root = fsspec.core.url_to_fs(url, **options)
    return filesystem, root


class FsspecStorage:
    """A `Storage` over a filesystem of fsspec, or over `LocalDisk`.

    Local files are written beside their place, flushed to disk, and linked or renamed into it; ``create``
    uses ``link``, which is exclusive where fsspec's own modes are not. In memory a lock does the same.
    S3, Google and Azure get a conditional request.
    """

    def __init__(self, filesystem: Any, root: str, *, url: str, protocol: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._url = url
        self._conditional = protocol in _CONDITIONAL
        self._local = isinstance(filesystem, LocalDisk)
        self._memory = protocol == "memory"
        self._abilities = Abilities(
            atomic_create=self._local or self._memory or protocol in _CONDITIONAL,
            local=self._local,
            shared=not self._memory,
        )

    def __repr__(self) -> str:
        return f"FsspecStorage({self._url!r})"

    @property
    def url(self) -> str:  # noqa: D102 - see Storage
        return self._url

    @property
    def abilities(self) -> Abilities:  # noqa: D102 - see Storage
        return self._abilities

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    @contextlib.contextmanager
    def _translated(self, verb: str, path: str) -> Iterator[None]:
        # In memory, listing while another thread writes or deletes trips over its own dictionary.
        lock = _memory_lock if self._memory else contextlib.nullcontext()
        try:
            with lock:
                yield
        except EventStoreError:
            raise
        except FileNotFoundError as error:
            if verb in ("write", "create"):
                raise storage_error(verb, path, self._url, error) from error
            raise NotFoundError(
                f"{verb} {path!r} in {self._url}: there is no such file; "
                "`eventstore verify` says what else is missing",
                code="file_not_found",
                path=path,
            ) from error
        except Exception as error:
            # Clients of object stores have errors of their own; what Python raises itself is a bug.
            if not isinstance(error, OSError) and type(error).__module__ == "builtins":
                raise
            raise storage_error(verb, path, self._url, error) from error

    def read(self, path: str) -> bytes:  # noqa: D102 - see Storage
        with self._translated("read", path):
            return bytes(self._fs.cat_file(self._full(path)))

    def open(self, path: str) -> IO[bytes]:  # noqa: D102 - see Storage
        with self._translated("open", path):
            stream: IO[bytes] = self._fs.open(self._full(path), "rb")
            return stream

    def put(self, path: str, data: bytes) -> None:  # noqa: D102 - see Storage
        with self._translated("write", path):
            if self._local:
                self._put_local(Path(self._full(path)), data, exclusive=False)
            else:
                self._fs.pipe_file(self._full(path), data)

    def create(self, path: str, data: bytes) -> bool:  # noqa: D102 - see Storage
        if not self._abilities.atomic_create:
            raise self._no_atomic_create(path)
        with self._translated("create", path):
            if self._local:
                return self._put_local(Path(self._full(path)), data, exclusive=True)
            if self._memory:
                if self._fs.exists(self._full(path)):
                    return False
                self._fs.pipe_file(self._full(path), data)
                return True
            return self._create_conditional(path, data)

    def _no_atomic_create(self, path: str) -> StorageError:
        return StorageError(
            f"putting {path!r} only if absent is not atomic on {self._url}; give one process the "
            "task of sealing: EventStore.open(..., single_sealer=True)",
            code="no_atomic_create",
            path=path,
            url=self._url,
        )

    def _create_conditional(self, path: str, data: bytes) -> bool:
        try:
            self._fs.pipe_file(self._full(path), data, mode="create")
        except OSError as error:
            if not isinstance(error, FileExistsError) and answer(error) != "PreconditionFailed":
                raise
            # A lost reply makes a retry meet our own file: then the bytes are ours.
            return bytes(self._fs.cat_file(self._full(path))) == data
        return True

    def _put_local(self, target: Path, data: bytes, *, exclusive: bool) -> bool:
        make_folder(target.parent)
        beside = target.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
        try:
            with beside.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if exclusive:
                try:
                    os.link(beside, target)
                except FileExistsError:
                    return False
                except OSError as error:
                    if error.errno in _NO_LINKS:
                        self._abilities = replace(self._abilities, atomic_create=False)
                        raise self._no_atomic_create(target.name) from error
                    raise
            else:
                beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        sync_folder(target.parent)
        return True

    def exists(self, path: str) -> bool:  # noqa: D102 - see Storage
        with self._translated("look for", path):
            # Neither is_file nor fsspec's isfile: for them a passing fault means that there is no file.
            try:
                if self._local:
                    return stat.S_ISREG(Path(self._full(path)).stat().st_mode)
                return bool(self._fs.info(self._full(path))["type"] == "file")
            except (FileNotFoundError, NotADirectoryError):
                return False

    def size(self, path: str) -> int:  # noqa: D102 - see Storage
        with self._translated("measure", path):
            return int(self._fs.info(self._full(path))["size"])

    def files(self, folder: str = "", *, temporary: bool = False) -> list[Entry]:  # noqa: D102 - see Storage
        with self._translated("list", folder):
            start = len(self._root) + 1
            entries = [
                Entry(name[start:], int(info.get("size") or 0), _modified_at(info))
                for name, info in self._below(self._full(folder))
                if temporary or not name.rpartition("/")[2].startswith(TEMPORARY)
            ]
        return sorted(entries, key=lambda entry: entry.path)

    def _below(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if self._conditional:
            # One flat listing; it has no folders to fail on.
            with contextlib.suppress(FileNotFoundError):
                yield from self._fs.find(folder, detail=True, withdirs=False).items()
            return
        # Not fsspec's find: that leaves out a folder which it cannot read, as if it were empty.
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            try:
                found = self._fs.ls(here, detail=True)
            except FileNotFoundError:
                continue  # never made, or deleted since its parent was listed
            for info in found:
                name = info["name"].rstrip("/")
                if info["type"] != "directory":
                    yield name, info
                elif name != here:
                    waiting.append(name)

    def folders(self, folder: str) -> list[str]:  # noqa: D102 - see Storage
        with self._translated("list", folder):
            try:
                found = self._fs.ls(self._full(folder), detail=True)
            except FileNotFoundError:
                return []
        start = len(self._root) + 1
        return sorted(info["name"].rstrip("/")[start:] for info in found if info["type"] == "directory")

    def delete(self, path: str) -> None:  # noqa: D102 - see Storage
        with self._translated("delete", path), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._full(path))

    def local_path(self, path: str) -> Path | None:  # noqa: D102 - see Storage
        return Path(self._full(path)) if self._local else None

    def polars_source(self, path: str) -> Any:  # noqa: D102 - see Storage
        return self._full(path) if self._local else self.read(path)


_MODIFIED = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
"""How filesystems call the time of a file's content in a listing."""


def _modified_at(info: Mapping[str, Any]) -> float | None:
    for name in _MODIFIED:
        match info.get(name):
            case int() | float() as seconds:
                return float(seconds)
            case dt.datetime() as moment:
                return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
            case str() as text:
                with contextlib.suppress(ValueError):
                    return dt.datetime.fromisoformat(text).timestamp()
    return None
