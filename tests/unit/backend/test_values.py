"""Values: what is recorded of one, once; what is inside it; how large it may be; and what comes back."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from backend_kit import TaskValue, describe, events, kinds, one_record, open_backend, some_hash, task
from store_kit import memory_url, one, open_store

from eventstore.backend import JobDescription, LogBackend, ValueTooLargeError
from eventstore.events import ValueRecorded
from eventstore.file import ContentFile, Dir, File, FileSet, IFile
from eventstore.hashing import hash_tagged_bytes


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": [1, (2, None)]}, {1, 2}, b"bytes", 1.5, True])
def test_values_come_back(backend: LogBackend, value: Any) -> None:
    """What is recorded is read as it was, None included; the flag tells it from nothing."""
    assert backend.get_value(backend.record_value(value)) == (value, True)


def test_unknown_value_is_none(backend: LogBackend) -> None:
    """A value that nobody recorded is an empty answer."""
    assert backend.get_value(some_hash("x")) == (None, False)


def test_value_is_recorded_once(backend: LogBackend) -> None:
    """The same value again adds nothing, in this backend and in another on the same store."""
    first = backend.record_value([1, 2])
    assert backend.record_value([1, 2]) == first
    assert open_backend(backend.store).record_value([1, 2]) == first
    assert kinds(backend) == ["value.recorded"]


def test_given_bytes_are_hashed_and_stored(backend: LogBackend) -> None:
    """With bytes at hand, the hash of a plain value is over these, and they are what is stored."""
    data = pickle.dumps([1, 2], protocol=2)
    value_hash = backend.record_value([1, 2], data=data)
    assert value_hash == hash_tagged_bytes("Value", data)
    assert backend.get_value(value_hash) == ([1, 2], True)
    stored = backend.store.lookup.value(value_hash)
    assert stored is not None
    assert stored.data == data


def test_first_writer_of_a_value_stays(backend: LogBackend) -> None:
    """A value that is known keeps the type name that the first writer gave it."""
    recorded = {
        "_version": 1,
        "_type": "Value",
        "value_hash": backend.record_value(7),
        "type": "other.Type",
        "format": "text/plain",
        "data": "",
        "subvalues": [],
        "subtype": None,
    }
    assert backend.put_records([recorded]) == 0
    assert one_record(backend, recorded["value_hash"])["type"] == "builtins.int"


@pytest.mark.parametrize("kind", [File, IFile, ContentFile])
def test_files_have_a_record_of_their_path(backend: LogBackend, tmp_path: Path, kind: type[Any]) -> None:
    """A file of any family is recorded with its path."""
    (tmp_path / "a.txt").write_text("a")
    path = str(tmp_path / "a.txt")
    record = one_record(backend, backend.record_value(kind(path)))
    assert record["subtype"] == {"_type": "File", "path": path}


def test_task_as_a_value_is_recorded_as_a_task(backend: LogBackend) -> None:
    """A task that is recorded as a value becomes a task, once; a job of it adds nothing."""
    value = TaskValue("sort", "def sort(): ...")
    task_hash = backend.record_value(value)
    assert task_hash == value.own_hash
    assert kinds(backend) == ["value.recorded", "task.recorded"]
    backend.record_job_start(JobDescription("job", "run", "parent", describe(value)))
    assert kinds(backend)[2:] == ["job.started"]
    facts = backend.store.lookup.task(task_hash)
    assert facts is not None
    assert (facts.name, facts.namespace, facts.source) == ("sort", "lab", "def sort(): ...")


def test_values_inside_a_value_are_recorded(backend: LogBackend, tmp_path: Path) -> None:
    """Values at any depth, and those inside them, are recorded and linked to the outermost, each once."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    folder = Dir(str(tmp_path))
    file = File(str(tmp_path / "a"))
    outer = [{"folder": folder}, (file, [file]), 1, "text"]
    record = one_record(backend, backend.record_value(outer))
    files = [each.hash for each in folder]
    assert sorted([*files, folder.hash]) == record["subvalues"]
    assert {one_record(backend, each)["type"] for each in files} == {"redun.File"}
    assert one_record(backend, folder.hash)["subtype"] is None


def test_value_inside_has_its_own_links(backend: LogBackend, tmp_path: Path) -> None:
    """A set of files that was first recorded inside a list is linked to its files all the same."""
    (tmp_path / "a").write_text("a")
    files = FileSet(str(tmp_path / "*"))
    backend.record_value([files])
    assert one_record(backend, files.hash)["subvalues"] == [File(str(tmp_path / "a")).hash]


def test_a_value_and_what_is_inside_it_are_one_append(backend: LogBackend, tmp_path: Path) -> None:
    """Values stand before what mentions them, next to each other."""
    (tmp_path / "a").write_text("a")
    backend.record_value([File(str(tmp_path / "a"))])
    recorded = [event for event in events(backend) if isinstance(event, ValueRecorded)]
    assert [event.type_name for event in recorded] == ["redun.File", "builtins.list"]


@pytest.mark.parametrize("inside", [False, True])
def test_too_large_values_are_refused(inside: bool, tmp_path: Path) -> None:
    """More bytes than the limit is an error that names the setting; nothing is recorded, whole or inside."""
    backend = open_backend(max_value_size=200)
    (tmp_path / "a").write_text("a")
    long = str(tmp_path / ("x" * 200))
    with pytest.raises(ValueTooLargeError, match="max_value_size") as caught:
        backend.record_value([File(long)] if inside else "x" * 300)
    assert caught.value.code == "value_too_large"
    assert caught.value.max_value_size == 200
    assert kinds(backend) == []
    assert backend.get_value(backend.record_value("x" * 100)) == ("x" * 100, True)
    backend.close()


def test_limit_of_the_store_is_the_same_error() -> None:
    """A value that the store's own limit refuses is the same error as one that the backend's does."""
    backend = open_backend(open_store(memory_url(), max_value_bytes=100_000))
    with pytest.raises(ValueTooLargeError) as caught:
        backend.record_value(b"x" * 200_000)
    assert caught.value.code == "value_too_large"
    backend.close()


def test_large_values_lie_in_the_value_store(tmp_path: Path) -> None:
    """A long value is no part of its event; when its file is lost, it is no value, and not an error."""
    backend = open_backend(open_store(tmp_path / "store"))
    value_hash = backend.record_value(b"x" * 100_000)
    assert backend.get_value(value_hash) == (b"x" * 100_000, True)
    one(path for path in (tmp_path / "store" / "values").rglob("*") if path.is_file()).unlink()
    again = open_backend(open_store(tmp_path / "store"))
    assert again.get_value(value_hash) == (None, False)
    assert one_record(again, value_hash)["data"] == ""
    again.close()
    backend.close()


def test_value_whose_module_is_gone_is_no_value(backend: LogBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of a module that cannot be imported any more is an empty answer."""
    module = types.ModuleType("gone_module")
    exec("class Thing:\n    pass", module.__dict__)  # noqa: S102 - a module that can go
    monkeypatch.setitem(sys.modules, "gone_module", module)
    value_hash = backend.record_value(module.Thing())
    assert backend.get_value(value_hash)[1]
    monkeypatch.delitem(sys.modules, "gone_module")
    assert backend.get_value(value_hash) == (None, False)


class _Fails:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [TypeError("t"), AttributeError("a"), RuntimeError("r")])
def test_errors_of_serialization_pass(backend: LogBackend, error: Exception) -> None:
    """An object that cannot be pickled raises what pickling raised, and nothing is recorded."""
    with pytest.raises(type(error), match=str(error)):
        backend.record_value(_Fails(error))
    assert kinds(backend) == []


class _FailsToLoad:
    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    raise RuntimeError("cannot be read")


def test_other_errors_of_reading_pass(backend: LogBackend) -> None:
    """An error of unpickling that is not a missing module is raised."""
    value_hash = backend.record_value(_FailsToLoad())
    with pytest.raises(RuntimeError, match="cannot be read"):
        backend.get_value(value_hash)


def test_forgotten_values_are_found_in_the_store(
    backend: LogBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no longer remembered in memory is looked up, and still not recorded twice."""
    monkeypatch.setattr(backend._recorder.known.values, "_most", 2)
    for number in range(10):
        backend.record_value(number)
    assert len(backend._recorder.known.values) <= 4
    backend.record_value(0)
    assert kinds(backend) == ["value.recorded"] * 10


def test_task_without_a_value_is_a_record(backend: LogBackend) -> None:
    """A task of which no value was recorded, as in a plain Python run, is exported as one without bytes."""
    bare = task()._replace(value=None)
    backend.record_job_start(JobDescription("job", "run", "parent", bare))
    record = one_record(backend, bare.task_hash)
    assert (record["_type"], record["data"], record["subtype"]["name"]) == ("Value", "", "count")
