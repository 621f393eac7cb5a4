"""An HTTP server over a folder, in a thread of this process, that can be told to refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["serve_web"]


class _Quiet(SimpleHTTPRequestHandler):
    """Answers from the folder; a path that begins with a number of three digits is refused with it."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def send_head(self) -> Any:
        """Refuse, or answer as the standard server does."""
        first = self.path.split("/")[1]
        if len(first) == 3 and first.isdigit():
            self.send_error(int(first))
            return None
        return super().send_head()


@contextmanager
def serve_web(folder: Path) -> Iterator[str]:
    """Yield the URL of the folder, without a slash at its end; ``<url>/403/x`` is refused with 403."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
