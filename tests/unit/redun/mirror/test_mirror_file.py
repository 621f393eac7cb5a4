"""The mirror's file: what is wrong with it, who folds, and where it is."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mirror_kit import tables, tables_at
from store_kit import memory_url, open_store
from tables_kit import add, at, ended, jobs

from eventstore import EventStore, ExecutionHeartbeat, ExecutionStarted, StateError, StorageError
from eventstore.filesystem import open_storage
from eventstore.redun.mirror import SqlMirror
from eventstore.redun.mirror import mirror as mirror_room
from eventstore.redun.mirror.fold import Fold
from eventstore.redun.mirror.schema import file_name
from eventstore.testing import FaultPlan, FaultyStorage

RUN = ExecutionStarted(execution_id="run", job_id="root", args="[]", occurred_at=at(0))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """A store with a run of ten jobs, sealed."""
    with open_store(tmp_path / "store") as opened:
        add(opened, RUN, *jobs(0, 10), *(ended(number) for number in range(5)))
        yield opened


def count(mirror: SqlMirror) -> int:
    """How many jobs a query finds."""
    from redun.backends.db import Job

    found: int = mirror.session.query(Job).count()
    return found


def test_the_file_is_found_again(store: EventStore) -> None:
    """It lies in the store's local folder, says its versions, and is gone on with, not made anew."""
    first = SqlMirror(store)
    assert count(first) == 10
    assert first.path.is_relative_to(store.local_folder)
    assert first.path.name == file_name() == "redun-3.5-mirror-3.db"
    assert first.path.stat().st_mode & 0o077 == 0
    inode = first.path.stat().st_ino
    first.close()
    add(store, *jobs(10, 12))
    second = SqlMirror(store)
    assert (count(second), second.position) == (12, 18)
    assert second.path.stat().st_ino == inode
    second.close()


@pytest.mark.parametrize(
    "damage",
    ["deleted", "garbage", "cut", "a page", "version", "older", "store", "ahead", "seal", "digest", "table"],
)
def test_a_file_that_is_of_no_use_is_made_anew(
    store: EventStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Deleted, damaged, of another version, store or history: it is made again, and right."""
    first = SqlMirror(store)
    assert count(first) == 10
    first.close()
    path, right = first.path, tables_at(first.path)
    raw = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"x" * 5000)
    elif damage == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    elif damage == "a page":
        db = sqlite3.connect(path)
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'job'").fetchone()
        db.close()
        start = (root - 1) * 4096
        path.write_bytes(raw[:start] + b"\xff" * 4096 + raw[start + 4096 :])
    else:
        change = {
            "version": "UPDATE mirror_state SET version = 99",
            "store": "UPDATE mirror_state SET store_id = 'other'",
            "older": "ALTER TABLE mirror_state DROP COLUMN seal_digest",
            "ahead": "UPDATE mirror_state SET position = 1000",
            "seal": "UPDATE mirror_state SET seal = 1000",
            "digest": "UPDATE mirror_state SET seal_digest = 'abcdef'",
            "table": "DROP TABLE evaluation",
        }[damage]
        db = sqlite3.connect(path)
        with db:
            db.execute(change)
        db.close()
    with caplog.at_level(logging.WARNING):
        second = SqlMirror(store)
        assert count(second) == 10
    second.close()
    assert tables_at(path) == right
    assert [record.levelname for record in caplog.records] == (["WARNING"] if damage != "deleted" else [])


def generation_of(mirror: SqlMirror) -> str:
    """What changes with each file that is made anew."""
    db = sqlite3.connect(mirror.path)
    (found,) = db.execute("SELECT generation FROM mirror_state").fetchone()
    db.close()
    return str(found)


def ids(mirror: SqlMirror) -> set[str]:
    """The jobs that a query finds."""
    from redun.backends.db import Job

    return {job.id for job in mirror.session.query(Job)}


@pytest.mark.parametrize("more", [1, 5, 20])
def test_a_mirror_of_another_history_is_made_anew(tmp_path: Path, more: int) -> None:
    """A log restored from an older copy, also one that is longer by now, shows its own rows and no others."""
    place = tmp_path / "store"
    with open_store(place) as store:
        add(store, RUN, *jobs(0, 3))
    shutil.copytree(place, tmp_path / "copy")
    with open_store(place) as store:
        add(store, *jobs(3, 8))
        lost = SqlMirror(store)
        assert (count(lost), lost.position) == (8, 9)
        lost.close()
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "copy", place)
    with open_store(place) as store:
        add(store, *jobs(100, 100 + more))
        mirror = SqlMirror(store)
        assert mirror.path == lost.path
        assert ids(mirror) == {f"job{number:06d}" for number in (*range(3), *range(100, 100 + more))}
        assert mirror.position == store.head().size
        right = SqlMirror(store, tmp_path / "right.db")
        right.refresh()
        assert tables_at(mirror.path) == tables_at(right.path)
        right.close()
        mirror.close()


def test_a_mirror_of_the_common_past_is_gone_on_with(tmp_path: Path) -> None:
    """What was folded before the copy was made is of the restored log, too, so nothing is made anew."""
    place = tmp_path / "store"
    with open_store(place) as store:
        add(store, RUN, *jobs(0, 3))
        first = SqlMirror(store)
        assert count(first) == 3
        first.close()
        generation = generation_of(first)
    shutil.copytree(place, tmp_path / "copy")
    with open_store(place) as store:
        add(store, *jobs(3, 8))
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "copy", place)
    with open_store(place) as store:
        add(store, *jobs(100, 120))
        mirror = SqlMirror(store)
        assert count(mirror) == 23
        assert generation_of(mirror) == generation
        mirror.close()


def test_what_is_sealed_while_it_looks_has_its_seal(
    store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror names a seal that has all that it has folded, so that the next process believes it."""
    read = store.read
    mirror = SqlMirror(store)
    with open_store(tmp_path / "store") as other:

        def late(**asked: Any) -> Iterator[pa.RecordBatch]:
            monkeypatch.undo()
            add(other, *jobs(10, 12))
            return read(**asked)

        monkeypatch.setattr(store, "read", late)
        assert count(mirror) == 12
    assert (mirror.position, store.head().number) == (18, 2)
    mirror.close()
    generation = generation_of(mirror)
    with open_store(tmp_path / "store") as later:
        again = SqlMirror(later)
        assert count(again) == 12
        assert generation_of(again) == generation
        again.close()


def test_a_process_reads_at_most_one_older_seal(tmp_path: Path) -> None:
    """The one that the mirror names when it is first opened; what a process folded itself it knows."""
    place = tmp_path / "store"
    with open_store(place) as store:
        add(store, RUN, *jobs(0, 3))
        first = SqlMirror(store)
        first.refresh()
        first.close()
        for number in range(3, 6):
            add(store, *jobs(number, number + 1))
    plan = FaultPlan()
    with open_store(place, storage=FaultyStorage(open_storage(place), plan)) as store:
        sealed = store.head().number
        mirror = SqlMirror(store, fresh_seconds=0)
        done = len(plan.trace)
        mirror.refresh()
        assert _old_seals(plan.trace[done:], sealed) == ["read seals/00000000000000000001.json"]
        for number in range(6, 10):
            add(store, *jobs(number, number + 1))
            sealed, done = store.head().number, len(plan.trace)
            mirror.refresh()
            assert _old_seals(plan.trace[done:], sealed) == []
        assert (count(mirror), mirror.position) == (10, 11)
        mirror.close()


def _old_seals(trace: list[str], newest: int) -> list[str]:
    return [one for one in trace if "seals/" in one and int(one[-25:-5]) <= newest]


def test_damage_that_a_query_meets_is_mended_by_the_next(store: EventStore) -> None:
    """The query fails, and the one after it is answered from a new file."""
    from redun.backends.db import Job
    from sqlalchemy.exc import DatabaseError

    mirror = SqlMirror(store, fresh_seconds=60)
    assert count(mirror) == 10
    db = sqlite3.connect(mirror.path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = db.execute(
        "SELECT rootpage FROM sqlite_master WHERE tbl_name = 'job' AND rootpage > 0"
    ).fetchall()
    db.close()
    with mirror.path.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 4096)
    session = mirror.new_session()
    with pytest.raises(DatabaseError):
        session.query(Job).all()
    session.rollback()
    assert len(session.query(Job).all()) == 10
    mirror.close()


def test_a_file_that_goes_while_it_is_open(store: EventStore) -> None:
    """A session whose file is deleted by someone goes on with the new one."""
    from redun.backends.db import Job

    mirror = SqlMirror(store, fresh_seconds=60)
    session = mirror.session
    (job, *_) = session.query(Job).all()
    mirror.path.unlink()
    assert len(session.query(Job).all()) == 10
    assert job.id == "job000000"
    mirror.rebuild()
    assert len(session.query(Job).all()) == 10
    mirror.close()


def test_a_fold_that_dies_goes_on_from_what_it_committed(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of an interrupted transaction is left; the next look folds what is missing."""
    monkeypatch.setattr(mirror_room, "COMMIT_EVENTS", 1)
    add(store, *jobs(10, 20))
    add(store, *jobs(20, 30))
    right = SqlMirror(store, store.local_folder / "right.db")
    right.refresh()
    calls = 0
    whole = Fold.add

    def dies(fold: Fold, batch: object) -> None:
        nonlocal calls
        calls += 1
        whole(fold, batch)  # type: ignore[arg-type]
        if calls == 2:
            raise KeyboardInterrupt

    mirror = SqlMirror(store)
    monkeypatch.setattr(Fold, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        mirror.refresh()
    db = sqlite3.connect(mirror.path)
    assert db.execute("SELECT position, complete FROM mirror_state").fetchone() == (16, 0)
    assert db.execute("SELECT count(*) FROM job").fetchone() == (10,)
    db.close()
    mirror.refresh()
    assert calls == 4
    assert tables_at(mirror.path) == tables_at(right.path)
    mirror.close()
    right.close()


def test_one_folds_and_others_read_what_is_there(store: EventStore, tmp_path: Path) -> None:
    """While another has the turn a reader is not kept waiting, unless it has news of its own."""
    mirror = SqlMirror(store, fresh_seconds=0)
    assert count(mirror) == 10
    with open_store(tmp_path / "store") as other:
        with mirror._file.turn(wait_seconds=0) as mine:
            assert mine
            add(other, *jobs(10, 11))
            assert count(mirror) == 10
        assert count(mirror) == 11
    mirror.close()


def test_two_mirrors_of_one_file(store: EventStore, tmp_path: Path) -> None:
    """Each sees what the other has folded, and what it took off again leaves no trace."""
    with open_store(tmp_path / "store") as other:
        ours, theirs = SqlMirror(store, fresh_seconds=0), SqlMirror(other, fresh_seconds=0)
        assert ours.path == theirs.path
        other.append(*jobs(10, 13), ExecutionHeartbeat(execution_id="run", occurred_at=at(99)))
        assert (count(theirs), count(ours), ours.position) == (13, 13, 16)
        store.append(*jobs(13, 14))
        assert (count(ours), count(theirs), count(ours)) == (14, 14, 14)
        other.seal()
        store.seal()
        assert (count(ours), count(theirs), ours.position) == (14, 14, 21)
        ours.close()
        theirs.close()
    again = SqlMirror(store, store.local_folder / "again.db")
    again.refresh()
    assert tables_at(again.path) == tables_at(ours.path)
    again.close()


def test_settled_is_the_sealed_log_and_stays_it(store: EventStore, tmp_path: Path) -> None:
    """Without the tail, and whatever is folded meanwhile."""
    with open_store(tmp_path / "store") as other:
        other.append(*jobs(10, 12))
        mirror = SqlMirror(store, fresh_seconds=0)
        assert count(mirror) == 12
        with mirror.settled() as (db, state):
            assert (state.position, state.tail) == (16, "")
            before = tables(db)
            assert len(before["job"]) == 10
            add(other, *jobs(12, 15))
            assert count(mirror) == 15
            assert tables(db) == before
        mirror.close()


def test_damage_that_a_settled_reader_meets(store: EventStore) -> None:
    """The error says which file it was, and the next look makes it anew."""
    mirror = SqlMirror(store)
    with pytest.raises(StorageError, match="mirror"), mirror.settled():
        raise sqlite3.DatabaseError("database disk image is malformed")
    inode = mirror.path.stat().st_ino
    assert count(mirror) == 10
    assert mirror.path.stat().st_ino != inode or mirror._damage is None
    mirror.close()


def test_a_store_in_memory_has_a_mirror_of_its_own() -> None:
    """It lies in a temporary folder that goes with it."""
    with open_store(memory_url()) as one, open_store(memory_url()) as two:
        one.append(*jobs(0, 3))
        mirrors = [SqlMirror(one), SqlMirror(two)]
        assert [count(mirror) for mirror in mirrors] == [3, 0]
        for mirror in mirrors:
            mirror.close()
            assert not mirror.path.parent.exists()


def test_a_place_that_cannot_be_written(store: EventStore, tmp_path: Path) -> None:
    """The error says where, and that the log is not touched."""
    (tmp_path / "file").write_text("")
    mirror = SqlMirror(store, tmp_path / "file" / "mirror.db")
    with pytest.raises(StorageError, match="EVENTSTORE_STATE") as caught:
        mirror.refresh()
    assert caught.value.code == "mirror_refused"


def test_a_closed_mirror_says_so(store: EventStore) -> None:
    """Closing twice does nothing."""
    mirror = SqlMirror(store)
    mirror.close()
    mirror.close()
    with pytest.raises(StateError, match="closed"):
        mirror.session  # noqa: B018 - it is a property
