"""A Google Cloud Storage server, in a thread of this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["serve_google"]


@contextmanager
def serve_google(bucket: str) -> Iterator[str]:
    """Yield the endpoint of a server with one empty bucket, which asks for no credentials.

    gcsfs must be imported with ``GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false``: else it asks another service what
    kind of bucket it has.
    """
    from gcp_storage_emulator.server import create_server

    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=bucket)
    server.start()
    # A client that asks two things at once hangs up on the slower answer.
    server._api._httpd.handle_error = lambda *_: None
    try:
        host, port = server._api._httpd.socket.getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.stop()
