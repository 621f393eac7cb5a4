"""What is asked of the backend in error, or in vain, as redun's scheduler and its users meet it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import workflow_kit as kit
from redun import Scheduler
from redun.backends.base import TagEntity
from redun.config import Config
from redun.task import CacheCheckValid, CacheResult, CacheScope

from eventstore import EventStore
from eventstore.errors import EventStoreError, FormatError, InvalidEventError, NotFoundError, StorageError
from eventstore.filesystem import FsspecStorage
from eventstore.redun import EventStoreBackend


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[EventStoreBackend]:
    """Return a backend with a little history."""
    made = kit.make_scheduler(str(tmp_path / "store"), flush_seconds="0.1", fresh_seconds="0.1")
    made.run(kit.leaf(1), execution_id="known")
    yield made.backend
    made.backend.close()


def ids(backend: EventStoreBackend) -> list[str]:
    """Return the ids of all events, in order."""
    return [str(event.id) for event in backend.log.store.events(tail=True)]


def refused(db_uri: str) -> EventStoreError:
    """Return what a scheduler on this URL is told at its first breath."""
    with pytest.raises(EventStoreError) as caught:
        Scheduler(config=Config({"backend": {"db_uri": db_uri, "db_retries": "0"}})).load()
    return caught.value


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:9/store", "http://127.0.0.1:9/store"])
def test_server_that_does_not_answer(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the URL and the cause, and no file is made in its place."""
    monkeypatch.chdir(tmp_path)
    error = refused(url)
    assert isinstance(error, StorageError)
    assert url in str(error)
    assert "refused" in str(error) or "connect" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_place_where_no_store_can_be(tmp_path: Path) -> None:
    """A path below a file is no folder; the file stays as it is."""
    (tmp_path / "file").write_text("mine")
    error = refused(str(tmp_path / "file" / "store"))
    assert isinstance(error, StorageError)
    assert str(tmp_path / "file" / "store") in str(error)
    assert (tmp_path / "file").read_text() == "mine"


def test_store_of_a_newer_format(tmp_path: Path) -> None:
    """It is not opened, not written, and the error says which format it has."""
    EventStore.open(tmp_path / "store", create=True).close()
    made = json.loads((tmp_path / "store" / "store.json").read_text())
    (tmp_path / "store" / "store.json").write_text(json.dumps(made | {"format": 99}))
    error = refused(str(tmp_path / "store"))
    assert isinstance(error, FormatError)
    assert error.code == "newer_format"
    assert "99" in str(error)


class _Job:
    """What a backend reads of a job."""

    was_cached = False
    parent_job = None

    def __init__(self, call_hash: str | None = None) -> None:
        self.id = "a job"
        self.execution = type("Execution", (), {"id": "an execution"})()
        self.task = kit.leaf
        self.call_hash = call_hash


def test_job_end_of_an_unknown_execution(backend: EventStoreBackend) -> None:
    """Nothing is recorded, and the backend goes on."""
    before = ids(backend)
    with pytest.raises(NotFoundError, match="record_execution") as caught:
        backend.record_job_end(_Job())
    assert caught.value.code == "unknown_execution"
    assert backend.get_job("a job") is None
    assert ids(backend) == before
    backend.record_execution("an execution", [])
    backend.record_job_end(_Job())
    assert backend.get_job("a job") == {
        "job_id": "a job",
        "parent_id": None,
        "execution_id": "an execution",
    }


NO_HASHES = ["", "no hash", "Z" * 40, "a" * 39, "../" + "a" * 37, "é" * 40]


@pytest.mark.parametrize("text", NO_HASHES)
def test_questions_with_what_is_no_hash(backend: EventStoreBackend, text: str) -> None:
    """Nothing is known under it: an empty answer, not an error."""
    assert backend.get_value(text) == (None, False)
    assert backend.get_subtree_tasks(text) == set()
    assert list(backend.get_records([text])) == []
    assert list(backend.iter_record_ids([text])) == []
    assert backend.get_tags([text]) == {}
    answer = backend.check_cache(
        text, text, text, "known", set(), CacheScope.BACKEND, CacheCheckValid.SHALLOW
    )
    assert answer == (None, None, CacheResult.MISS)
    assert backend.explain_cache_miss(kit.leaf, text)["reason"] == "new_args"  # type: ignore[index]


@pytest.mark.parametrize("text", NO_HASHES)
def test_records_of_what_is_no_hash(backend: EventStoreBackend, text: str) -> None:
    """It is refused with a code, whatever would mention it, and nothing of the call is recorded."""
    good = "a" * 40
    value_hash = backend.record_value(7)
    before = ids(backend)
    nothing: Any = ((), {})
    for attempt in (
        lambda: backend.set_eval_cache(text, good, good, "new value"),
        lambda: backend.set_eval_cache(good, text, good, "new value"),
        lambda: backend.record_call_node("t", text, good, nothing, (("new value",), {}), value_hash, [], []),
        lambda: backend.record_tags(TagEntity.Job, "j", [("k", 1)], parents=[text]),
        lambda: backend.put_records([_value_record(text)]),
    ):
        with pytest.raises(InvalidEventError) as caught:
            attempt()
        assert caught.value.code in {"bad_hash", "hash_length", "path_as_hash"}
    assert ids(backend) == before
    assert backend.get_value(backend.record_value("new value")) == ("new value", True)


def _value_record(value_hash: str) -> dict[str, Any]:
    return {
        "_version": 1,
        "_type": "Value",
        "value_hash": value_hash,
        "type": "builtins.int",
        "format": "application/python-pickle",
        "data": "",
        "subvalues": [],
        "subtype": None,
    }


def test_storage_that_fails_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is asked again as configured, then the error is raised; the next question is answered."""
    url = str(tmp_path / "store")
    first = kit.make_scheduler(url, state_dir=str(tmp_path / "one"))
    value_hash = first.backend.record_value("x" * 100_000)  # its bytes lie in a file of their own
    first.backend.close()
    options = {"db_retries": "2", "db_retries_backoff": "0", "state_dir": str(tmp_path / "two")}
    backend = kit.make_scheduler(url, **options).backend
    errors: list[StorageError] = []
    read = FsspecStorage.read

    def reading(storage: FsspecStorage, *args: Any, **kwargs: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return read(storage, *args, **kwargs)

    monkeypatch.setattr(FsspecStorage, "read", reading)
    errors += [StorageError("busy", transient=True)] * 2
    assert backend.get_value(value_hash)[1]
    assert errors == []
    errors += [StorageError("busy", transient=True)] * 3
    with pytest.raises(StorageError, match="busy"):
        backend.get_value(value_hash)
    assert errors == []
    assert backend.get_value(value_hash)[1]
    backend.close()
