"""An Azure blob server: Azurite, a program for node, in a process of its own.

pip cannot bring it; ``python -m tools.emulators`` installs it by npm into this environment.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ACCOUNT", "AZURITE", "connection_string", "install", "start_azure", "why_not"]

VERSION = "3.37.0"
AZURITE = Path(sys.prefix) / "azurite"
"""Where it is installed."""
ACCOUNT = "devstoreaccount1"
# The key that every Azurite has, published with it.
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_MAIN = AZURITE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
_START_SECONDS = 60


def why_not() -> str | None:
    """Return why Azurite cannot be started here, or None."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not _MAIN.exists():
        return "Azurite is not installed: python -m tools.emulators"
    return None


_INSTALL_SECONDS = 180


def install() -> int:
    """Install Azurite by npm unless it is there; returns npm's exit code, or 1 if it takes too long."""
    npm = shutil.which("npm")
    if npm is None:
        print("npm is not installed", file=sys.stderr)
        return 1
    if _MAIN.exists():
        return 0
    options = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel", "error")
    command = [npm, "install", "--prefix", str(AZURITE), *options, f"azurite@{VERSION}"]
    try:
        return subprocess.run(command, check=False, timeout=_INSTALL_SECONDS).returncode
    except subprocess.TimeoutExpired:
        shutil.rmtree(AZURITE, ignore_errors=True)
        return 1


def connection_string(port: int) -> str:
    """Return what a client needs to know."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
    )


@contextmanager
def start_azure() -> Iterator[Callable[[], str]]:
    """Start an empty server; yields what waits until it listens and returns the connection string."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = ("--blobHost", "127.0.0.1", "--blobPort", str(port))
    options = ("--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry")
    process = subprocess.Popen(
        [str(shutil.which("node")), str(_MAIN), *where, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ready() -> str:
        _wait_for(port, process)
        return connection_string(port)

    try:
        yield ready
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"Azurite did not listen on port {port} within {_START_SECONDS} s")
