"""What each protocol does in its own way: hash, extra, spelling of paths, how a file appears whole."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

from eventstore.errors import InvalidEventError, StorageError
from eventstore.file.failures import shown, translated
from eventstore.file.local import CHUNK_BYTES
from eventstore.file.places import Progress, register_protocol
from eventstore.file.remote import Info, RemoteFiles
from eventstore.hashing import hash_struct

__all__ = ["AzureFiles", "FtpFiles", "GoogleFiles", "HttpFiles", "MemoryFiles", "S3Files", "SftpFiles"]


class S3Files(RemoteFiles):
    """S3: hashed by ETag, with its quotes; a missing file and a folder have an empty one."""

    extra = "s3"

    def _hash_of(self, path: str, info: Info | None) -> str:
        tag = info["ETag"] if info is not None and info["type"] == "file" else ""
        return hash_struct(["File", "s3", path, tag])

    def _says_enough(self, info: Info) -> bool:
        return "ETag" in info

    def folder_hashes(self, path: str) -> Iterator[str]:
        """Yield the hash of every object whose key begins with the folder's, as redun does.

        That takes in the objects of a sibling whose name begins alike: a change there is taken for one here.
        """
        with translated("list", path):
            filesystem, name = self._at(path)
            bucket, _, prefix = name.partition("/")
            more: dict[str, str] = {}
            while True:
                page = filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
                for item in page.get("Contents", ()):
                    yield hash_struct(["File", "s3", f"s3://{bucket}/{item['Key']}", item["ETag"]])
                if not page.get("IsTruncated"):
                    return
                more = {"ContinuationToken": page["NextContinuationToken"]}


class GoogleFiles(RemoteFiles):
    """Google Cloud Storage: hashed by size, as redun does; where that is too little, use `ContentFile`."""

    extra = "gcs"


_IDLE_SECONDS = 20.0
_ACCOUNT = re.compile(r"([^@/]+)@([^/]+)")


class AzureFiles(RemoteFiles):
    """Azure blobs: hashed by ETag.

    Paths are ``az://container@account.blob.core.windows.net/path``, as redun has them, or
    ``az://container/path`` with the account in the options or the environment.
    """

    extra = "azure"

    def _parts(self, path: str) -> tuple[str, str]:
        _, name = super()._parts(path)
        place, slash, rest = name.partition("/")
        match = _ACCOUNT.fullmatch(place)
        return (match[2], f"{match[1]}{slash}{rest}") if match else ("", name)

    def _url(self, path: str, name: str) -> str:
        host = self._parts(path)[0]
        container, slash, rest = name.partition("/")
        return f"{self.protocol}://{container}{'@' + host if host else ''}{slash}{rest}"

    def _hash_of(self, path: str, info: Info | None) -> str:
        return hash_struct(["File", "az", path, "" if info is None else info.get("etag") or ""])

    def _says_enough(self, info: Info) -> bool:
        return "etag" in info


class HttpFiles(RemoteFiles):
    """HTTP: hashed by size; folders are what links on a page of the server say. Read only."""

    extra = "http"

    def _parts(self, path: str) -> tuple[str, str]:
        return "", path

    def _url(self, path: str, name: str) -> str:  # noqa: ARG002 - its names are URLs
        return name

    def _writer(self, path: str, kind: str, done: Callable[[], None] | None) -> IO[bytes]:  # noqa: ARG002
        raise self._read_only("write", path)

    def store(self, path: str, source: IO[bytes], *, size: int | None, progress: Progress | None) -> None:  # noqa: ARG002
        """Never: HTTP is read only here."""
        raise self._read_only("write", path)

    def copy(self, source: str, target: str) -> bool:  # noqa: ARG002 - see FileSystem
        """Never: HTTP is read only here."""
        raise self._read_only("write", target)

    def remove(self, path: str) -> None:
        """Never: HTTP is read only here."""
        raise self._read_only("delete", path)

    def make_folder(self, path: str) -> None:
        """Never: HTTP is read only here."""
        raise self._read_only("make", path)

    def remove_folder(self, path: str, *, recursive: bool) -> None:  # noqa: ARG002 - see FileSystem
        """Never: HTTP is read only here."""
        raise self._read_only("delete", path)

    def _read_only(self, verb: str, path: str) -> StorageError:
        named = shown(path)
        return StorageError(
            f"{verb} {named!r} failed: files of {self.protocol}:// are read only; copy it elsewhere",
            code="read_only",
            path=named,
        )


class _OnServers(RemoteFiles):
    """A server with folders, where a rename makes a whole file appear at once."""

    by_host = True
    beside = True
    folders = True
    # Else fsspec leaves out what it may not list, as if it were empty.
    listed = {"on_error": "raise"}

    def _parts(self, path: str) -> tuple[str, str]:
        host, name = super()._parts(path)
        if any(part == ".." for part in name.split("/")) or "\n" in name or "\r" in name:
            # FTP's commands are lines.
            raise InvalidEventError(
                f"a path without '..' and line ends was expected, found {shown(path)!r}", code="bad_path"
            )
        return host, name

    def _alive(self, filesystem: Any) -> bool:
        # Servers hang up on who is idle; asking each time would double the requests.
        now = time.monotonic()
        idle, self._local.used = now - getattr(self._local, "used", now), now
        if idle < _IDLE_SECONDS:
            return True
        try:
            self._ask(filesystem)
        except Exception:
            return False
        return True

    def _ask(self, filesystem: Any) -> None:
        """Say something to the server that needs an answer."""
        raise NotImplementedError

    def _info(self, path: str) -> Info | None:
        try:
            return super()._info(path)
        except Exception:
            # A connection that broke meanwhile: a new one decides.
            self._local.connected = {}
            return super()._info(path)


class FtpFiles(_OnServers):
    """FTP: hashed by size."""

    def _ask(self, filesystem: Any) -> None:
        filesystem.ftp.voidcmd("NOOP")


class SftpFiles(_OnServers):
    """SFTP: hashed by size and time of the last change; redun does not know it.

    A server whose key is not known is trusted, unless the option ``host_key_policy="reject"`` is given.
    """

    extra = "sftp"
    uncached = {"skip_instance_cache": True}  # else a broken connection would come back

    def _ask(self, filesystem: Any) -> None:
        filesystem.ftp.normalize(".")

    def _hash_of(self, path: str, info: Info | None) -> str:
        if info is None:
            return hash_struct(["File", "sftp", path, -1, "-1"])
        return hash_struct(["File", "sftp", path, info["size"], str(info["mtime"].timestamp())])

    def _sink(self, filesystem: Any, name: str) -> Any:
        stream = super()._sink(filesystem, name)
        stream.set_pipelined(True)  # do not wait for the answer to each 32 KB; closing waits for all
        return stream


class MemoryFiles(RemoteFiles):
    """Files in this process's memory: hashed by size and time of writing, which redun does not know."""

    uncached = {}

    def _parts(self, path: str) -> tuple[str, str]:
        return "", f"/{super()._parts(path)[1].strip('/')}"

    def _url(self, path: str, name: str) -> str:  # noqa: ARG002 - there is one memory
        return f"{self.protocol}://{name.lstrip('/')}"

    def _hash_of(self, path: str, info: Info | None) -> str:
        if info is None:
            return hash_struct(["File", "memory", path, -1, "-1"])
        made = info.get("created", 0.0)
        made = made.timestamp() if hasattr(made, "timestamp") else made
        return hash_struct(["File", "memory", path, info["size"], str(made)])

    def _reader(self, path: str, **options: Any) -> IO[bytes]:  # noqa: ARG002 - nothing to choose
        # fsspec hands out the file itself, and its place in it to all readers.
        filesystem, name = self._at(path)
        return io.BytesIO(filesystem.cat_file(name))

    def _put(
        self, filesystem: Any, name: str, source: IO[bytes], size: int | None, progress: Progress | None
    ) -> None:
        data = b"".join(iter(lambda: source.read(CHUNK_BYTES), b""))
        filesystem.pipe_file(name, data)
        if progress is not None:
            progress(len(data), size)


register_protocol("s3", partial(S3Files, "s3"))
register_protocol("gs", partial(GoogleFiles, "gs"))
register_protocol("gcs", partial(GoogleFiles, "gcs"))
for _name in ("az", "abfs", "abfss"):
    register_protocol(_name, partial(AzureFiles, _name))
for _name in ("http", "https"):
    register_protocol(_name, partial(HttpFiles, _name))
register_protocol("ftp", partial(FtpFiles, "ftp"))
for _name in ("sftp", "ssh"):
    register_protocol(_name, partial(SftpFiles, _name))
register_protocol("memory", partial(MemoryFiles, "memory"))
