"""Recording on a real store, in memory and on disk: what one run leaves, the next one finds."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import redun
from redun.backends.db import RedunBackendDb

from eventstore import EventStore, File, StateError, task
from eventstore.value import Value

calls: list[str] = []


@pytest.fixture(autouse=True)
def _forget():
    calls.clear()


@pytest.fixture(params=["memory", "disk"])
def reopen(request, tmp_path):
    """Opens one and the same store again and again."""
    url = f"memory://{uuid.uuid4()}" if request.param == "memory" else tmp_path / "store"
    return lambda **options: EventStore.open(url, create=True, state_dir=tmp_path / "state", **options)


@task
def count_lines(file):
    """Lines of a file."""
    calls.append("count_lines")
    return len(file.read().splitlines())


@task
def total(counts):
    """A sum."""
    calls.append("total")
    return sum(counts)


@task
def report(paths):
    """Calls below: one for each path, and a sum."""
    return total([count_lines(File(path)) for path in paths])


@task
def large():
    """More bytes than ride inline."""
    calls.append("large")
    return bytes(200_000)


@task
def fail():
    """Fails."""
    raise LookupError("not there")


@task
async def later(x):
    """A coroutine."""
    await asyncio.sleep(0)
    calls.append("later")
    return x


def add_numbers(a, b=3):
    """A function for both."""
    return {"sum": a + b}


def recorded(store, kind):
    """Events of one kind."""
    return [item.event for item in store.events(kinds=[kind], tail=True)]


def test_the_second_run_is_answered_from_the_cache(reopen, tmp_path):
    """A store that is opened again answers for unchanged files, reads the changed one, and verifies."""
    paths = []
    for number in range(3):
        File(tmp_path / f"{number}.txt").write("line\n" * (number + 1))
        paths.append(str(tmp_path / f"{number}.txt"))
    results = []
    for change in (None, None, "one\ntwo\nthree\nfour\n"):
        if change:
            File(paths[0]).write(change)
        calls.clear()
        with reopen() as store, store.execution(args=["report"]):
            results.append((report(paths), sorted(calls)))
    assert results == [(6, ["count_lines"] * 3 + ["total"]), (6, []), (9, ["count_lines", "total"])]
    with reopen() as store:
        assert store.verify().ok
        statuses = [event.status for event in recorded(store, "job.ended")]
        assert statuses.count("CACHED") == 4 + 2
        values = [event.value_hash for event in recorded(store, "value.recorded")]
        assert len(values) == len(set(values))
        (node, *_) = [e for e in recorded(store, "call_node.recorded") if e.task_name == "total"]
        assert len(node.arguments[0].upstreams) == 3


def test_a_large_result_is_read_from_the_value_store(reopen):
    """A result above the inline limit lies under its digest and comes back from there."""
    for _ in range(2):
        with reopen() as store, store.execution():
            assert large() == bytes(200_000)
            (value,) = [e for e in recorded(store, "value.recorded") if e.type_name == "builtins.bytes"]
            assert value.data is None
            assert store.values.has(value.data_digest)
    assert calls == ["large"]


def test_threads_and_coroutines_in_one_run(reopen, tmp_path):
    """A pool and an event loop record into one run; each job has its one end."""
    path = str(tmp_path / "a.txt")
    File(path).write("x\n")

    async def main():
        return await asyncio.gather(*(later(n) for n in range(10)))

    with reopen() as store:
        with store.execution() as run, ThreadPoolExecutor(4) as pool:
            found = list(pool.map(run.wrap(total), [[n, n] for n in range(20)]))
            assert asyncio.run(main()) == list(range(10))
        assert found == [2 * n for n in range(20)]
        started = [event.job_id for event in recorded(store, "job.started")]
        ended = [event.job_id for event in recorded(store, "job.ended")]
        assert len(started) == len(set(started)) == 31
        assert sorted(started) == sorted(ended)


def test_a_failing_run_can_be_read(reopen):
    """Failure, error value and call node are in the log after the exception has gone on."""
    with reopen() as store:
        with pytest.raises(LookupError), store.execution():
            fail()
        assert [event.status for event in recorded(store, "job.ended")] == ["FAILED", "FAILED"]
        nodes = {event.task_name: event for event in recorded(store, "call_node.recorded")}
        assert nodes["run"].children == (nodes["fail"].call_hash,)
        stored = store.lookup.value(nodes["fail"].value_hash)
        assert stored.type_name == "eventstore.ErrorValue"


def test_a_read_only_store_refuses_a_run(reopen):
    """A run on a store that cannot be written does not begin."""
    reopen().close()
    with reopen(read_only=True) as store, pytest.raises(StateError), store.execution():
        calls.append("never")
    assert calls == []


def test_a_call_has_the_ids_that_redun_records(reopen):
    """One call, recorded here and by redun's scheduler, has the same task, value and call hashes."""
    theirs = redun.task(name="add_numbers")(add_numbers)
    ours = task(name="add_numbers")(add_numbers)
    backend = RedunBackendDb(db_uri="sqlite:///:memory:")
    backend.load()
    scheduler = redun.Scheduler(backend=backend)
    scheduler.run(theirs(4))
    (row,) = [
        row
        for row in backend.session.execute(redun.backends.db.CallNode.__table__.select())
        if row.task_name == "add_numbers"
    ]
    with reopen() as store:
        with store.execution():
            ours(4)
        node = recorded(store, "call_node.recorded")[0]
    assert (node.call_hash, node.task_hash, node.args_hash, node.value_hash) == (
        row.call_hash,
        row.task_hash,
        row.args_hash,
        row.value_hash,
    )


def test_a_state_that_is_reached_again_after_a_rollback_is_valid(tmp_path):
    """In the table of handles, a state that was rolled back and reached again is valid."""
    from projections import open_tables, rebuild

    with EventStore.open(tmp_path / "store", create=True) as store:
        with store.execution() as run:
            database = run.handle("db")
            later = run.advance(database.fork("later"))
            run.rollback(database)
            run.advance(later)
        store.seal()
        rebuild(store, ["handles"])
        table = open_tables(store, ["handles"])["handles"].collect()
    assert dict(table.select("handle_hash", "is_valid").iter_rows()) == {
        database.hash: True,
        later.hash: True,
    }


class Stamp(Value):
    """A value that the hooks around a call mark."""

    type_name = "tests.Stamp"

    def __init__(self, marks=()):
        self.marks = tuple(marks)

    def preprocess(self, call):
        """Mark it as handed to a call."""
        return Stamp((*self.marks, "before"))

    def postprocess(self, call):
        """Mark it with the call that it came from."""
        return Stamp((*self.marks, call["pre_call_hash"][:4]))


@task
def fill(database):
    """Brings a handle to its next state."""
    calls.append("fill")
    return database


@task
def pass_on(stamps):
    """Hands a nest of values back."""
    calls.append("pass_on")
    return stamps


def test_a_call_that_gave_a_handle_is_answered_until_it_is_rolled_back(reopen):
    """The cache is believed while the state is valid, in any process; after a rollback the call runs."""
    with reopen() as store:
        with store.execution() as run:
            first = fill(run.handle("db"))
        with store.execution() as run:
            assert fill(run.handle("db")).hash == first.hash
    assert calls == ["fill"]
    with reopen() as store, store.execution() as run:
        database = run.handle("db")
        assert fill(database).hash == first.hash
        run.rollback(database)
        assert calls == ["fill"]
        fill(run.handle("db"))
    assert calls == ["fill", "fill"]


def test_hooks_around_a_call_reach_every_value_in_a_nest(reopen):
    """Arguments are prepared and hashed so, results are finished, and what is neither stays itself."""
    with reopen() as store, store.execution():
        plain = [1, 2]
        assert pass_on(plain) == plain
        (stamp,), other = pass_on([[Stamp()], "other"])
    assert other == "other"
    assert stamp.marks[0] == "before"
    assert len(stamp.marks) == 2


def test_files_on_two_filesystems_make_just_their_own_results_invalid(reopen, tmp_path):
    """One file changes, and only what was made of it runs again; the history says which that was."""
    folder, bucket = tmp_path / "data", f"memory://{uuid.uuid4()}"
    folder.mkdir()
    paths = [f"{folder}/here.txt", f"{bucket}/there.txt", f"{bucket}/other.txt"]
    for number, path in enumerate(paths):
        File(path).write("line\n" * (number + 1))
    with reopen() as store:
        with store.execution():
            assert report(paths) == 6
        calls.clear()
        with store.execution():
            assert report(paths) == 6
        assert calls == []
        File(paths[1]).write("line\n" * 7)
        with store.execution() as run:
            assert report(paths) == 11
        assert calls == ["count_lines", "total"]
        ended = [event.event for event in store.events(kinds=["job.ended"], tail=True)]
    last = [job.status for job in ended if job.execution_id == run.id]
    assert sorted(last) == ["CACHED", "CACHED", "DONE", "DONE", "DONE", "DONE"]
