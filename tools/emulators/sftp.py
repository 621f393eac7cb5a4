"""An SFTP server over a folder, in threads of this process: paramiko's protocol, our file operations."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paramiko
from paramiko.sftp_attr import SFTPAttributes

__all__ = ["PASSWORD", "USER", "serve_sftp"]

USER = "ada"
PASSWORD = "let me in"  # noqa: S105 - of a server on loopback, for a test


class _Door(paramiko.ServerInterface):
    """Lets in one user, with one password."""

    def check_auth_password(self, username: str, password: str) -> int:
        """Whether they are the right ones."""
        return paramiko.AUTH_SUCCESSFUL if (username, password) == (USER, PASSWORD) else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002 - every channel
        """Open sessions, nothing else."""
        if kind == "session":
            return paramiko.OPEN_SUCCEEDED
        return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


class _Folder(paramiko.SFTPServerInterface):
    """The file operations, below one folder."""

    def __init__(self, server: _Door, root: Path, **_: Any) -> None:
        super().__init__(server)
        self._root = root

    def _at(self, path: str) -> str:
        return f"{self._root}{self.canonicalize(path)}"

    def _do(self, action: Any, *arguments: Any) -> Any:
        try:
            found = action(*arguments)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return paramiko.SFTP_OK if found is None else found

    def list_folder(self, path: str) -> Any:
        """Return what is in a folder, links as links."""
        return self._do(lambda: [_named(entry.name, entry.path) for entry in os.scandir(self._at(path))])

    def stat(self, path: str) -> Any:
        """Return the state of what a path leads to."""
        return self._do(lambda: SFTPAttributes.from_stat(Path(self._at(path)).stat()))

    def lstat(self, path: str) -> Any:
        """Return the state of the path itself."""
        return self._do(lambda: SFTPAttributes.from_stat(os.lstat(self._at(path))))

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> Any:  # noqa: ARG002 - default mode
        """Open a file."""

        def opened() -> paramiko.SFTPHandle:
            descriptor = os.open(self._at(path), flags, 0o666)
            mode = "ab" if flags & os.O_APPEND else "r+b" if flags & os.O_RDWR else None
            stream = os.fdopen(descriptor, mode or ("wb" if flags & os.O_WRONLY else "rb"))
            handle = paramiko.SFTPHandle(flags)
            handle.filename = path
            handle.readfile = handle.writefile = stream
            return handle

        return self._do(opened)

    def remove(self, path: str) -> Any:
        """Delete a file."""
        return self._do(os.remove, self._at(path))

    def rename(self, oldpath: str, newpath: str) -> Any:
        """Rename a file."""
        return self._do(os.rename, self._at(oldpath), self._at(newpath))

    posix_rename = rename

    def mkdir(self, path: str, attr: SFTPAttributes) -> Any:  # noqa: ARG002 - default mode
        """Make a folder."""
        return self._do(os.mkdir, self._at(path))

    def rmdir(self, path: str) -> Any:
        """Delete an empty folder."""
        return self._do(os.rmdir, self._at(path))


def _named(name: str, path: str) -> SFTPAttributes:
    found = SFTPAttributes.from_stat(os.lstat(path))
    found.filename = name
    return found


@contextmanager
def serve_sftp(folder: Path) -> Iterator[str]:
    """Yield the URL of the folder, without user and slash at its end."""
    listener = socket.create_server(("127.0.0.1", 0))
    key = paramiko.ECDSAKey.generate()
    transports: list[paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transports.append(transport)
            transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Folder, folder)
            with suppress(paramiko.SSHException, EOFError):
                transport.start_server(server=_Door())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"sftp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in transports:
            transport.close()
        thread.join(timeout=10)
