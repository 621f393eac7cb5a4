"""An FTP server over a folder, in a thread of this process."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["serve_ftp"]


@contextmanager
def serve_ftp(folder: Path) -> Iterator[str]:
    """Yield the URL of the folder, without a slash at its end; anybody may write."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of asyncore's age, and that anybody may write
        from pyftpdlib.authorizers import DummyAuthorizer
        from pyftpdlib.handlers import FTPHandler
        from pyftpdlib.ioloop import IOLoop
        from pyftpdlib.servers import ThreadedFTPServer

        authorizer = DummyAuthorizer()
        authorizer.add_anonymous(str(folder), perm="elradfmwMT")
    logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)

    class Handler(FTPHandler):
        """One connection."""

    Handler.authorizer = authorizer
    # A loop of its own: on the one that servers share otherwise, another server's thread would meet the
    # socket before it listens, and close it.
    server = ThreadedFTPServer(("127.0.0.1", 0), Handler, ioloop=IOLoop())
    thread = threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.05, "handle_exit": False})
    thread.start()
    try:
        yield f"ftp://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.close_all()
        thread.join(timeout=10)
