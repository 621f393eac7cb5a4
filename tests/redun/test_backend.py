"""Opening, closing, limits and faults of the backend itself."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import workflow_kit as kit
from redun import Scheduler
from redun.backends.base import RedunBackend
from redun.backends.db import RedunBackendDb, RedunDatabaseError
from redun.handle import Handle

from eventstore.errors import FormatError, NotFoundError, StateError, StorageError
from eventstore.redun import EventStoreBackend
from eventstore.redun.types import IN_VALUE_STORE
from eventstore.store import EventStore


def loaded(**options: Any) -> EventStoreBackend:
    """Return a loaded backend."""
    backend = EventStoreBackend(**options)
    backend.load()
    return backend


def test_is_a_backend_for_redun() -> None:
    """It is a backend of redun, and passes where redun's commands ask for one with a session."""
    backend = EventStoreBackend()
    assert isinstance(backend, RedunBackend)
    assert isinstance(backend, RedunBackendDb)
    assert not isinstance(backend, Scheduler)


def test_memory_stores_are_separate() -> None:
    """Each backend in memory has a store of its own, which a second load keeps."""
    one, two = loaded(), loaded(db_uri="sqlite:///:memory:")
    value_hash = one.record_value("only here")
    one.load()
    assert one.get_value(value_hash) == ("only here", True)
    assert two.get_value(value_hash) == (None, False)


def test_second_load_is_harmless(scheduler: Scheduler) -> None:
    """Loading again keeps store and session."""
    log, session = scheduler.backend.log, scheduler.backend.session
    scheduler.load(migrate=True)
    assert scheduler.backend.log is log
    assert scheduler.backend.session is session


def test_before_load_and_after_close(tmp_path: Path) -> None:
    """Without a loaded store each call says what to do; a closed backend can be loaded again."""
    backend = EventStoreBackend(db_uri=str(tmp_path / "store"))
    with pytest.raises(StateError, match="load") as caught:
        backend.record_value(1)
    assert caught.value.code == "not_loaded"
    with pytest.raises(StateError):
        _ = backend.session
    backend.load()
    value_hash = backend.record_value(1)
    backend.close()
    backend.close()
    with pytest.raises(StateError):
        backend.get_value(value_hash)
    backend.load()
    assert backend.get_value(value_hash) == (1, True)
    backend.close()


def test_no_store_to_make(tmp_path: Path) -> None:
    """With automigrate off a missing store is an error, and nothing is made; `migrate` overrules it."""
    place = tmp_path / "store"
    config = {"db_uri": str(place), "automigrate": "False"}
    with pytest.raises(NotFoundError, match="expected at") as caught:
        loaded(config=config)
    assert caught.value.code == "store_not_found"
    assert not place.exists()
    backend = EventStoreBackend(config)
    backend.load(migrate=True)
    assert place.is_dir()
    backend.close()


def test_no_store_of_ours(tmp_path: Path) -> None:
    """A database file, or a folder of other things, is no store."""
    (tmp_path / "redun.db").write_bytes(b"SQLite format 3\x00" + bytes(100))
    with pytest.raises((FormatError, StorageError)):
        loaded(db_uri=f"sqlite:///{tmp_path}/redun.db")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "store.json").write_text("[]")
    with pytest.raises(FormatError) as caught:
        loaded(db_uri=str(tmp_path / "folder"))
    assert caught.value.code == "not_a_store"


def test_a_store_file_that_says_something_else(tmp_path: Path) -> None:
    """A folder whose store.json lacks what makes it one is no store, and stays as it is."""
    place = tmp_path / "store.json"
    place.write_text('{"format":"eventstore","format_version":99,"store_id":"x"}')
    with pytest.raises(FormatError) as caught:
        loaded(db_uri=str(tmp_path))
    assert caught.value.code == "not_a_store"
    assert [each.name for each in tmp_path.iterdir()] == [place.name]


def test_newer_store(tmp_path: Path) -> None:
    """A store of a newer format is refused, and nothing in it is changed."""
    loaded(db_uri=str(tmp_path / "store")).close()
    place = tmp_path / "store" / "store.json"
    about = json.loads(place.read_text())
    newer = json.dumps({**about, "format": about["format"] + 1})
    place.write_text(newer)
    with pytest.raises(FormatError, match=f"found format {about['format'] + 1}; upgrade") as caught:
        loaded(db_uri=str(tmp_path / "store"))
    assert caught.value.code == "newer_format"
    assert place.read_text() == newer


def test_unreachable_store() -> None:
    """A URL that nobody serves is a clear error."""
    with pytest.raises(StorageError) as caught:
        loaded(db_uri="nowhere://bucket/store")
    assert caught.value.code == "unknown_protocol"


def test_max_value_size() -> None:
    """A value above the limit is redun's own error; nothing is stored, and the backend goes on."""
    backend = loaded(config={"max_value_size": 100})
    with pytest.raises(RedunDatabaseError, match=r"max_value_size.*value_store_path"):
        backend.record_value("J" * 10_000)
    assert list(backend.log.store.events(tail=True)) == []
    assert backend.get_value(backend.record_value("J")) == ("J", True)


def test_unserializable_value() -> None:
    """Errors of serialization pass through as they are."""
    backend = loaded()
    with pytest.raises((TypeError, AttributeError)):
        backend.record_value({1, "a"})


def test_gone_module() -> None:
    """A value whose module is gone is no value."""
    backend = loaded()
    data = b"\x80\x03cno_such_module\nThing\nq\x00)\x81q\x01."
    value_hash = backend.record_value("stand-in", data=data)
    assert backend.get_value(value_hash) == (None, False)


class TestValueStore:
    """redun's value store, by its own settings."""

    def test_larger_values(self, tmp_path: Path) -> None:
        """From the limit on a value lies there in redun's layout, once, and nowhere else."""
        config = {"db_uri": str(tmp_path / "store"), "value_store_path": str(tmp_path / "values")}
        backend = loaded(config=config)
        small, large = b"x" * 900, b"y" * 100_000
        small_hash, large_hash = backend.record_value(small), backend.record_value(large)
        files = [each for each in (tmp_path / "values").rglob("*") if each.is_file()]
        assert files == [tmp_path / "values" / large_hash[:2] / large_hash[2:]]
        assert large in files[0].read_bytes()
        assert backend.get_value(small_hash) == (small, True)
        assert backend.get_value(large_hash) == (large, True)
        backend.close()
        stored = sum(each.stat().st_size for each in (tmp_path / "store").rglob("*") if each.is_file())
        assert stored < 20_000
        stated = {event.event.value_hash: event.event for event in EventStore.open(config["db_uri"]).events()}
        assert stated[large_hash].format.endswith(IN_VALUE_STORE)
        assert stated[large_hash].data.decode() == f"{large_hash[:2]}/{large_hash[2:]}"

    @pytest.mark.parametrize(("length", "files"), [(990, 0), (991, 1)])
    def test_where_it_begins(self, tmp_path: Path, length: int, files: int) -> None:
        """The limit counts what Python says a bytes object takes: 33 bytes more than its length."""
        backend = loaded(config={"value_store_path": str(tmp_path)})
        data = b"\x80\x03X" + (length - 8).to_bytes(4, "little") + b"z" * (length - 8) + b"."
        backend.record_value("z" * (length - 8), data=data)
        assert sum(each.is_file() for each in tmp_path.rglob("*")) == files

    def test_lost_file(self, tmp_path: Path) -> None:
        """A value whose file is gone is no value: its task runs again."""
        config = {"value_store_path": str(tmp_path), "value_store_min_size": "0"}
        backend = loaded(config=config)
        value_hash = backend.record_value("gone")
        (tmp_path / value_hash[:2] / value_hash[2:]).unlink()
        assert backend.get_value(value_hash) == (None, False)

    def test_none_configured(self, tmp_path: Path) -> None:
        """Without the setting such a value is an error that names it, never a wrong value."""
        store = str(tmp_path / "store")
        config = {"db_uri": store, "value_store_path": str(tmp_path / "v"), "value_store_min_size": "0"}
        first = loaded(config=config)
        value_hash = first.record_value("kept")
        first.close()
        second = loaded(db_uri=store)
        with pytest.raises(StateError, match="value_store_path"):
            second.get_value(value_hash)
        second.close()

    def test_preview(self, tmp_path: Path) -> None:
        """Rows show size and value of what lies in the value store."""
        from redun.backends.db import Value

        backend = loaded(config={"value_store_path": str(tmp_path), "value_store_min_size": "0"})
        value_hash = backend.record_value("shown")
        row = backend.session.get(Value, value_hash)
        assert row.preview == row.value_parsed == "shown"
        assert backend._get_value_size(row) == len((tmp_path / value_hash[:2] / value_hash[2:]).read_bytes())


class TestFaults:
    """Storage that fails while something is recorded."""

    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> list[StorageError]:
        """Return errors that the next appends raise, the first first."""
        errors: list[StorageError] = []
        append = EventStore.append

        def raising(store: EventStore, *events: Any) -> Any:
            if errors:
                raise errors.pop(0)
            return append(store, *events)

        monkeypatch.setattr(EventStore, "append", raising)
        return errors

    def test_transient_errors(self, failing: list[StorageError]) -> None:
        """A transient error is tried again as often as `db_retries` says."""
        backend = loaded(config={"db_retries": "2", "db_retries_backoff": "0"})
        failing += [StorageError("busy", transient=True), StorageError("busy", transient=True)]
        assert backend.get_value(backend.record_value("kept")) == ("kept", True)
        assert failing == []

    def test_lasting_errors(self, failing: list[StorageError]) -> None:
        """After that it is raised, a lasting one at once; nothing was recorded, and the next call works."""
        backend = loaded(config={"db_retries": "1", "db_retries_backoff": "0"})
        failing += [StorageError("busy", transient=True)] * 2
        with pytest.raises(StorageError, match="busy"):
            backend.record_value("kept")
        failing += [StorageError("full")]
        with pytest.raises(StorageError, match="full"):
            backend.record_value("kept")
        value_hash = backend.record_value("kept")
        assert backend.get_value(value_hash) == ("kept", True)
        assert len(list(backend.log.store.events(tail=True))) == 1

    def test_workflow_fails(self, scheduler: Scheduler, failing: list[StorageError]) -> None:
        """A workflow that cannot record ends with the error, and the scheduler is usable afterwards."""
        failing += [StorageError("full")]
        with pytest.raises(StorageError, match="full"):
            scheduler.run(kit.tree(1))
        failing.clear()
        assert scheduler.run(kit.tree(1)) == [2, 3]


def test_unknown_parent_job_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A job that is not there is waited for as long as another machine's may take; not in memory."""
    backend = loaded(
        config={"db_uri": str(tmp_path / "store"), "flush_seconds": "0.2", "fresh_seconds": "0.2"}
    )
    pauses: list[float] = []
    monkeypatch.setattr(backend.log, "_sleep", pauses.append)
    assert backend.get_job("nobody") is None
    assert sum(pauses) == pytest.approx(0.4)
    backend.close()
    in_memory = loaded()
    monkeypatch.setattr(in_memory.log, "_sleep", pauses.append)
    assert in_memory.get_job("nobody") is None
    assert len(pauses) == 2


def test_fork_chain_is_recorded() -> None:
    """All states of a chain of forks are recorded, and their handles know it."""
    backend = loaded()
    first = Handle("h", namespace="n")
    second = first.fork("a")
    third = second.fork("b")
    backend.advance_handle([second], third)
    assert [each.__handle__.is_recorded for each in (first, second, third)] == [True, True, True]
    assert all(backend.is_valid_handle(each) for each in (first, second, third))
    backend.rollback_handle(second)
    assert [backend.is_valid_handle(each) for each in (first, second, third)] == [True, True, False]
    assert not backend.is_valid_handle(Handle("other", namespace="n"))


PROGRAM = """
    import sys, logging
    sys.path.insert(0, {kit!r})
    import workflow_kit as kit
    logging.getLogger("redun").setLevel(logging.ERROR)
    scheduler = kit.make_scheduler({url!r})
    print(scheduler.run(kit.tree(1)))
"""


def test_exit_flushes(tmp_path: Path) -> None:
    """A program that never closes its scheduler leaves its events sealed and no journal."""
    url = str(tmp_path / "store")
    program = textwrap.dedent(PROGRAM.format(kit=str(Path(__file__).parent), url=url))
    state = tmp_path / "state"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "EVENTSTORE_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[2, 3]\n", done.stderr
    assert not [each for each in state.rglob("*.journal") if each.stat().st_size]
    with EventStore.open(url, read_only=True, state_dir=tmp_path / "elsewhere") as store:
        assert store.head().size == sum(1 for _ in store.events())
        assert "job.ended" in {event.event.kind for event in store.events()}


def test_backends_share_a_store(tmp_path: Path) -> None:
    """Backends of one place and process share its store, in memory too; it closes with the last of them."""
    for place in (str(tmp_path / "store"), "memory://shared-by-two"):
        one, two = loaded(db_uri=place), loaded(db_uri=place)
        assert one.log.store is two.log.store
        value_hash = one.record_value("seen")
        one.close()
        assert two.get_value(value_hash) == ("seen", True)
        store = two.log.store
        two.close()
        with pytest.raises(StateError):
            store.flush()


def test_place_made_anew(tmp_path: Path) -> None:
    """A store that was replaced behind a backend's back is not taken for the old one."""
    place = tmp_path / "store"
    old = loaded(db_uri=str(place))
    value_hash = old.record_value("old")
    shutil.rmtree(place)
    new = loaded(db_uri=str(place))
    assert new.get_value(value_hash) == (None, False)
    assert new.log.store.store_id != old.log.store.store_id
    new.close()
    old.log.store.abandon()


def test_forked_child_leaves_the_store_alone(tmp_path: Path) -> None:
    """A fork's copy of a backend closes nothing when the child ends or lets go."""
    backend = loaded(db_uri=str(tmp_path / "store"))
    value_hash = backend.record_value("parent's")
    child = multiprocessing.get_context("fork").Process(target=backend.close)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert backend.get_value(value_hash) == ("parent's", True)
    backend.record_value("more")
    backend.close()
    with EventStore.open(tmp_path / "store", read_only=True) as store:
        assert store.head().size == 2


def test_dropped_backend_flushes(tmp_path: Path) -> None:
    """A backend that is dropped unclosed puts what it recorded into the store."""
    url = str(tmp_path / "store")
    backend = loaded(db_uri=url)
    value_hash = backend.record_value("kept")
    del backend
    with EventStore.open(url, read_only=True) as store:
        assert [event.event.value_hash for event in store.events()] == [value_hash]
