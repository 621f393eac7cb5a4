"""A PostgreSQL server of the tests' own, on a Unix socket; none where PostgreSQL is not installed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PostgresMissing", "postgres_server"]


class PostgresMissing(Exception):  # noqa: N818 - it is no fault
    """There is no PostgreSQL here; the message says what to install."""


def _program(name: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        raise PostgresMissing(f"{name} was not found: install PostgreSQL (apt-get install postgresql)")
    return found


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server and give a URL in which ``{}`` stands for the name of a database that is there.

    Raises
    ------
    PostgresMissing
        The server or its driver is not installed.
    """
    initdb, server, createdb = _program("initdb"), _program("postgres"), _program("createdb")
    try:
        import psycopg2
    except ImportError as error:
        raise PostgresMissing("the driver psycopg2 was not found: pip install psycopg2-binary") from error
    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    as_user = {"user": user} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        if as_user:
            folder.chmod(0o755)
            shutil.chown(folder, user)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **as_user}
        data = str(folder / "data")
        made = [initdb, "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, **quiet)  # type: ignore[call-overload]
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", "fsync=off"]
        started = [server, "-D", data, *(word for one in settings for word in ("-c", one))]
        process = subprocess.Popen(started, **quiet)  # type: ignore[call-overload]
        try:
            for _ in range(300):
                try:
                    psycopg2.connect(host=str(folder), user="tests", dbname="postgres").close()
                    break
                except psycopg2.OperationalError:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.1)
            for database in ("one", "two", "three"):
                call = [createdb, "-h", str(folder), "-U", "tests", database]
                subprocess.run(call, check=True, **quiet)  # type: ignore[call-overload]
            yield f"postgresql+psycopg2://tests@/{{}}?host={folder}"
        finally:
            process.send_signal(signal.SIGINT)  # a fast stop: it does not wait for its clients
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)  # at once; nothing of it is needed again
                process.wait(30)
