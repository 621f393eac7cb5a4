"""Sessions on a mirror: what queries see, what rows give, and that nothing can be written."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from redun.backends.base import TagEntity
from redun.backends.db import Execution, Job, PreviewValue, Tag, Value
from sqlalchemy import text, update
from store_kit import open_store
from tables_kit import at, ended, h, jobs

from eventstore import EventStore, ExecutionStarted, StateError, ValueRecorded
from eventstore.redun.mirror import SqlMirror
from eventstore.redun.mirror import mirror as mirror_room

RUN = ExecutionStarted(execution_id="run", job_id="root", args='["x"]', occurred_at=at(0))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """A store with a run of three jobs, nothing sealed."""
    with open_store(tmp_path / "store", inline_limit=100) as opened:
        opened.append(RUN, *jobs(0, 3))
        yield opened


@pytest.fixture
def mirror(store: EventStore) -> Iterator[SqlMirror]:
    """Its mirror; others are looked at once in a minute."""
    made = SqlMirror(store, fresh_seconds=60)
    yield made
    made.close()


def value(name: str, what: object) -> ValueRecorded:
    """A pickled value."""
    data = pickle.dumps(what, protocol=3)
    type_name = f"builtins.{type(what).__name__}"
    return ValueRecorded(value_hash=h(name), type_name=type_name, size_bytes=len(data), data=data)


def test_a_query_sees_what_was_appended_before_it(store: EventStore, mirror: SqlMirror) -> None:
    """At once, through the one session that was taken at the start, sealed or not."""
    session = mirror.session
    assert session is mirror.session
    for number in range(3, 6):
        store.append(*jobs(number, number + 1))
        assert session.query(Job).count() == number + 1
        assert session.execute(text("SELECT count(*) FROM job")).scalar() == number + 1
        with mirror.engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM job").scalar() == number + 1
    store.seal()
    assert session.query(Job).count() == 6


def test_rows_at_hand_are_loaded_again(store: EventStore, mirror: SqlMirror) -> None:
    """After a query that found news, whatever it asked for; also what hangs on them."""
    session = mirror.session
    job = session.get(Job, "job000000")
    run = session.get(Execution, "run")
    assert (job.status, len(run.jobs)) == ("RUNNING", 3)
    store.append(ended(0), *jobs(3, 4))
    assert session.query(Job).count() == 4
    assert (job.end_time, len(run.jobs)) == (at(0), 4)
    store.append(ended(1))
    other = session.get(Job, "job000001")
    assert other.end_time is None
    session.query(Tag).all()
    assert other.end_time == at(1)


def test_what_others_have_recorded_is_seen(store: EventStore, tmp_path: Path) -> None:
    """Before it is sealed too, and no more often than was asked for."""
    mirror = SqlMirror(store, fresh_seconds=0)
    session = mirror.session
    with open_store(tmp_path / "store") as other:
        for number in range(3, 6):
            other.append(*jobs(number, number + 1))
            assert session.query(Job).count() == number + 1
        mirror._look_at = float("inf")
        other.append(*jobs(6, 7))
        assert session.query(Job).count() == 6
        mirror._look_at = 0.0
        other.close()
        assert session.query(Job).count() == 7
    mirror.close()


def test_much_that_is_our_own_is_put_into_a_segment(
    store: EventStore, mirror: SqlMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few events are not, or each query would make a small file."""
    monkeypatch.setattr(mirror_room, "FLUSH_EVENTS", 6)
    mirror.refresh()
    assert store.head().size == 0
    store.append(*jobs(3, 6))
    assert mirror.session.query(Job).count() == 6
    assert (store.head().size, mirror.position) == (7, 7)


@pytest.mark.parametrize("way", ["add", "change", "delete", "query", "core", "text", "engine"])
def test_nothing_can_be_written(mirror: SqlMirror, way: str) -> None:
    """Whichever way it is tried; the error says what to call, and the session can be used again."""
    session = mirror.session
    job = session.query(Job).first()
    with pytest.raises(StateError) as caught:  # noqa: PT012 - the ways differ
        if way == "add":
            session.add(Tag(tag_hash="x", entity_type=TagEntity.Job, entity_id="j", key="k", value=1))
            session.commit()
        elif way == "change":
            job.cached = True
            session.commit()
        elif way == "delete":
            session.delete(job)
            session.flush()
        elif way == "query":
            session.query(Job).update({Job.cached: True}, synchronize_session=False)
        elif way == "core":
            session.execute(update(Tag).values(is_current=False))
        elif way == "text":
            session.execute(text("DELETE FROM job"))
        else:
            with mirror.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE job")
    assert caught.value.code == "mirror_read_only"
    calls = {"add": "delete_tags", "core": "delete_tags", "text": "record_", "engine": "record_"}
    assert calls.get(way, "record_job_end") in str(caught.value)
    session.rollback()
    assert [row.cached for row in session.query(Job)] == [False] * 3


def test_an_empty_commit_is_no_write(mirror: SqlMirror) -> None:
    """Redun's own tools commit and close now and then."""
    mirror.session.commit()
    mirror.session.close()
    assert mirror.session.query(Job).count() == 3


def test_values_come_from_row_and_value_store(store: EventStore, mirror: SqlMirror) -> None:
    """Small ones are in the row, large ones in the store's own files; without their file they are gone."""
    large = list(range(500))
    store.append(value("small", 7), value("large", large))
    rows = {one: mirror.session.get(Value, h(one)) for one in ("small", "large")}
    assert [rows[one].in_value_store for one in rows] == [False, True]
    assert [rows[one].value_parsed for one in rows] == [7, large]
    assert rows["large"].preview == large
    assert mirror.values._get_value_size(rows["large"]) == len(pickle.dumps(large, protocol=3))
    for path in (Path(store.url) / "values").rglob("*.zst"):
        path.unlink()
    assert mirror.values._get_value(rows["large"]) == (None, False)
    with pytest.warns(UserWarning, match="missing"):
        assert isinstance(rows["large"].preview, PreviewValue)


def test_a_value_of_no_bytes_is_one(store: EventStore, mirror: SqlMirror) -> None:
    """It is not taken for one that lies elsewhere."""
    store.append(
        ValueRecorded(value_hash=h("none"), type_name="b", format="text/plain", size_bytes=0, data=b"")
    )
    row = mirror.session.get(Value, h("none"))
    assert mirror.values._get_value_data(row) == (b"", True)
    assert mirror.values._get_value_size(row) == 0


def test_a_store_that_never_unpickles_gives_no_values(store: EventStore, tmp_path: Path) -> None:
    """Redun then shows type and size; nothing is loaded, not even for a preview."""
    store.append(value("v", Bomb()))
    store.seal()
    with open_store(tmp_path / "store", trust_pickle=False, read_only=True) as careful:
        mirror = SqlMirror(careful)
        row = mirror.session.query(Value).one()
        with pytest.warns(UserWarning, match="missing"):
            assert isinstance(row.preview, PreviewValue)
        assert row.value_parsed is None
        mirror.close()


class Bomb:
    """Fails when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_explode, ())


def _explode() -> None:
    raise AssertionError("a value was unpickled")


def test_sessions_of_several_threads_and_the_backend_of_each(store: EventStore) -> None:
    """Each session is its own, and gives the backend that it was made for."""
    backend = object()
    mirror = SqlMirror(store, backend=backend)
    one, two = mirror.new_session(), mirror.new_session()
    assert one is not two
    assert one.backend is two.backend is backend
    assert one.query(Job).count() == two.query(Job).count() == 3
    mirror.close()


def test_a_fork_goes_on_with_connections_of_its_own(store: EventStore, mirror: SqlMirror) -> None:
    """The child reads through the mirror it has inherited, and the parent's keeps working."""
    assert mirror.session.query(Job).count() == 3
    store.seal()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(mirror.session.query(Job).count()))
    process.start()
    assert queue.get(timeout=20) == 3
    process.join()
    store.append(*jobs(3, 4))
    assert mirror.session.query(Job).count() == 4
