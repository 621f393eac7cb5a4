"""After an import redun goes on where it was: a workflow that ran on its own database is answered whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from import_kit import Conn, RedunPlace, close, differences
from redun import File, Scheduler, task
from redun.config import Config
from redun.scheduler import catch

from eventstore import EventStore
from eventstore.redun import EventStoreBackend

redun_namespace = "imported_cached"
ran: list[str] = []
"""Names of the tasks whose bodies have run."""


@task()
def add(x: int, y: int = 1) -> int:
    """Arithmetic."""
    ran.append("add")
    return x + y


@task()
def long(count: int) -> bytes:
    """A value that goes to the value store."""
    ran.append("long")
    return b"x" * count


@task()
def write(path: str) -> File:
    """A file."""
    ran.append("write")
    made = File(path)
    made.write("text")
    return made


@task()
def read(file: File) -> str:
    """What is in it."""
    ran.append("read")
    return file.read()


@task()
def step(conn: Conn) -> Conn:
    """The next state."""
    ran.append("step")
    return conn


@task()
def fails() -> int:
    """An error."""
    ran.append("fails")
    raise ValueError("bad")


@task()
def instead(error: Exception) -> str:
    """What comes in its place."""
    ran.append("instead")
    return "instead"


@task()
def main(folder: str) -> list[Any]:
    """All of them."""
    ran.append("main")
    numbers = [add(add(number), y=add(2)) for number in range(3)]
    text = read(write(f"{folder}/made.txt"))
    return [numbers, long(2_000), text, step(Conn("c", "uri")), catch(fails(), ValueError, instead)]


@pytest.fixture
def place(tmp_path: Path) -> RedunPlace:
    """A database of redun with one run."""
    place = RedunPlace(tmp_path / "redun", value_store=True)
    scheduler = place.scheduler()
    ran.clear()
    scheduler.run(main(str(tmp_path)))
    close(scheduler.backend)
    assert len(ran) == 13
    return place


@pytest.fixture
def imported(place: RedunPlace, tmp_path: Path) -> str:
    """The URL of a store with the same history."""
    with EventStore.open(tmp_path / "store", create=True) as store:
        place.bring_into(store)
        assert differences(place, store) == []
    ran.clear()
    return str(tmp_path / "store")


def _run(url: str, folder: Path) -> tuple[Any, list[str]]:
    """Run the workflow on our backend; returns its result, and which bodies of tasks ran."""
    ran.clear()
    backend = EventStoreBackend(config={}, db_uri=url)
    scheduler = Scheduler(config=Config({}), backend=backend)
    scheduler.load()
    result = scheduler.run(main(str(folder)))
    backend.close()
    return result, list(ran)


def _run_on_redun(place: RedunPlace, folder: Path) -> list[str]:
    """Run it on redun's own backend; returns which bodies ran."""
    ran.clear()
    scheduler = place.scheduler()
    scheduler.run(main(str(folder)))
    close(scheduler.backend)
    return list(ran)


def test_a_cached_workflow_runs_fully_from_the_cache(
    place: RedunPlace, imported: str, tmp_path: Path
) -> None:
    """No body of a task runs, and the result is the one that redun recorded."""
    result, again = _run(imported, tmp_path)
    assert again == _run_on_redun(place, tmp_path) == []
    assert result[:3] == [[4, 5, 6], b"x" * 2_000, "text"]
    assert result[4] == "instead"


def test_what_changed_since_runs_again(place: RedunPlace, imported: str, tmp_path: Path) -> None:
    """The cache judges as redun's: a file that was altered is made again, and nothing else."""
    (tmp_path / "made.txt").write_text("other text")
    result, again = _run(imported, tmp_path)
    (tmp_path / "made.txt").write_text("other text")
    assert again == _run_on_redun(place, tmp_path)
    assert "write" in again
    assert result[2] == "text"
