"""redun's own backend and ours give the same answers to the same calls, but for what is listed.

The list is in docs/redun.md, "Where the backend differs": each line of it is shown here on both sides.
"""

from __future__ import annotations

import datetime as dt
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from backend_machine_kit import BackendMachine
from backend_material_kit import ARGS, CONTEXTS, GONE, TASKS, VALUES, Job, registry, some_hash
from backend_pair_kit import Plain, plain
from backend_story_kit import tell
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from redun import File
from redun.backends.base import RedunBackend, TagEntity
from redun.backends.db import RedunBackendDb, RedunDatabaseError
from redun.file import Dir
from redun.handle import Handle
from redun.task import CacheCheckValid, CacheScope
from redun.value import Value

from eventstore.errors import FormatError, InvalidEventError, NotFoundError
from eventstore.hashing import hash_eval
from eventstore.redun import EventStoreBackend

ARGS_HASH, TASK = ARGS[0], TASKS[0]
EVAL_HASH = hash_eval(TASK.hash, ARGS_HASH)


def _run(examples: int, steps: int) -> None:
    quiet = list(HealthCheck)
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=quiet
    )
    run_state_machine_as_test(BackendMachine, settings=chosen)


def test_any_calls_have_the_same_answers() -> None:
    """A few sequences of calls; each answer is compared after each step, and all of them at the end."""
    _run(8, 35)


@pytest.mark.parametrize("how", ["seal", "elsewhere"])
def test_all_calls_once_have_the_same_answers(how: str) -> None:
    """One sequence that has every call in a place where it matters, whatever chance leaves out."""
    machine = BackendMachine()
    machine.begin()
    try:
        tell(machine, how)
        machine.same_handles_are_valid()
    finally:
        machine.teardown()


@pytest.mark.soak
def test_any_calls_have_the_same_answers_for_long() -> None:
    """Many, and longer ones; EVENTSTORE_SOAK_SECONDS says for about how long."""
    _run(int(float(os.environ.get("EVENTSTORE_SOAK_SECONDS", "300"))), 50)


# what is different on purpose ----------------------------------------------------------------------------


@pytest.fixture
def ours() -> Iterator[EventStoreBackend]:
    """Our backend, on a store in memory."""
    made = EventStoreBackend()
    made.load()
    yield made
    made.close()


@pytest.fixture
def redun() -> Iterator[Plain]:
    """Redun's backend, as it is."""
    plain().wipe()
    yield plain()
    plain().session.rollback()


def start(backend: RedunBackend, execution_id: str = "e") -> Job:
    """Begin an execution, and return its root job."""
    job = Job(f"root of {execution_id}", execution_id, None, TASK)
    backend.record_execution(execution_id, [])
    backend.record_job_start(job)
    return job


def call(backend: RedunBackend, result_hash: str, *, children: Any = (), tasks: Any = (TASK,)) -> str:
    """Record a call of the task."""
    backend.record_value(TASK)
    nothing: Any = ((), {})
    return backend.record_call_node(
        TASK.fullname, TASK.hash, ARGS_HASH, nothing, nothing, result_hash, list(children), list(tasks)
    )


def ask(backend: RedunBackend, check: CacheCheckValid = CacheCheckValid.SHALLOW) -> Any:
    """Ask the caches for it, from another execution."""
    current = {task.hash for task in TASKS}
    return backend.check_cache(TASK.hash, ARGS_HASH, EVAL_HASH, "another", current, CacheScope.BACKEND, check)


def record(backend: RedunBackend, entity_id: str) -> dict[str, Any]:
    """The record of an id."""
    (found,) = backend.get_records([entity_id])
    return found


def test_job_that_failed_before_it_had_a_call(ours: EventStoreBackend, redun: Plain) -> None:
    """It has failed; in redun it is done."""
    for backend, status in ((ours, "FAILED"), (redun, "DONE")):
        job = start(backend)
        backend.record_job_end(job, status="FAILED")
        assert record(backend, job.id)["status"] == status


def test_call_whose_value_is_gone(ours: EventStoreBackend, redun: Plain) -> None:
    """Where the evaluation answers instead, no call is named; redun names the one whose value it is not."""
    for backend in (ours, redun):
        gone = backend.record_value("stands in", data=GONE)
        call_hash = call(backend, gone)
        backend.set_eval_cache(EVAL_HASH, TASK.hash, ARGS_HASH, 5)
        value, named, kind = ask(backend)
        assert (value, kind.name) == (5, "SINGLE")
        assert named == (None if backend is ours else call_hash)


def test_calls_that_were_imported_out_of_order(ours: EventStoreBackend, redun: Plain) -> None:
    """A miss is explained by the call recorded last, and in redun by the one with the latest time."""
    for backend in (ours, redun):
        result = backend.record_value(1)
        first, second = call(backend, result), call(backend, backend.record_value(2))
        found = [record(backend, each) for each in (first, second)]
        for each, moment in zip(found, ("2031-01-01", "2030-01-01"), strict=True):
            each["call_hash"] = f"{moment[3]}{each['call_hash'][1:]}"
            each["timestamp"] = f"{moment} 00:00:00.000000+00:00"
        backend.put_records(found)
        why = backend.explain_cache_miss(TASK, ARGS_HASH)
        assert why is not None
        assert why["call_hash"] == found[1 if backend is ours else 0]["call_hash"]


def test_parts_of_a_part(ours: EventStoreBackend, redun: Plain, tmp_path: Path) -> None:
    """A folder that was first recorded inside a list links to its files; in redun it never will."""
    (tmp_path / "a").write_text("a")
    folder = Dir(str(tmp_path))
    (file,) = folder
    for backend, links in ((ours, [file.hash]), (redun, [])):
        backend.record_value([folder])
        backend.record_value(folder)
        assert record(backend, folder.hash)["subvalues"] == links


class Heavy(Value):
    """A small value with a large one inside, which it does not pickle."""

    type_name = "pair_kit.Heavy"

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        pass

    def iter_subvalues(self) -> Iterator[Any]:
        """Yield the large one."""
        yield Blob()


class Blob(Value):
    """A large value."""

    type_name = "pair_kit.Blob"

    def __getstate__(self) -> dict[str, Any]:
        return {"text": "x" * 5_000}

    def __setstate__(self, state: dict[str, Any]) -> None:
        pass


def test_limits_of_what_is_inside(tmp_path: Path) -> None:
    """A part goes to the value store as a whole does, and is refused where it is too large; not in redun."""
    for make, files in ((EventStoreBackend, 1), (RedunBackendDb, 0)):
        values = tmp_path / make.__name__
        values.mkdir()
        backend = make(config={"value_store_path": str(values)}, db_uri="sqlite:///:memory:")
        backend.load()
        backend.record_value(Heavy())
        assert sum(each.is_file() for each in values.rglob("*")) == files
        limited = make(config={"max_value_size": 4_000}, db_uri="sqlite:///:memory:")
        limited.load()
        if make is RedunBackendDb:
            assert limited.get_value(limited.record_value(Heavy()))[1]
        else:
            with pytest.raises(RedunDatabaseError):
                limited.record_value(Heavy())
            assert limited.get_value(registry.get_hash(Heavy())) == (None, False)


class Empty(Value):
    """A value without bytes."""

    type_name = "pair_kit.Empty"

    def serialize(self) -> bytes:
        """Return nothing."""
        return b""

    def get_hash(self, data: bytes | None = None) -> str:
        """Return a hash of its own."""
        return some_hash("empty")

    def get_serialization_format(self) -> str:
        """Name another format than pickle's."""
        return "text/plain"

    @classmethod
    def deserialize(cls, raw_type: Any, data: bytes) -> Empty:
        """Return the value of nothing."""
        return cls()


def test_value_without_bytes(ours: EventStoreBackend, redun: Plain) -> None:
    """It comes back, unless it claims to be a pickle; redun looks for its bytes in the value store."""
    found, is_there = ours.get_value(ours.record_value(Empty()))
    assert (type(found), is_there) == (Empty, True)
    assert ours.get_value(ours.record_value("x", data=b"")) == (None, False)
    for value_hash in (redun.record_value(Empty()), redun.record_value("x", data=b"")):
        with pytest.raises(AssertionError):
            redun.get_value(value_hash)


def test_contexts_are_values(ours: EventStoreBackend, redun: Plain) -> None:
    """The context of a call can be read; redun has its hash only."""
    (context, *_), context_hash = CONTEXTS, registry.get_hash(CONTEXTS[0])
    for backend in (ours, redun):
        call_hash = call(backend, backend.record_value(1))
        assert backend.record_call_node_context(call_hash, context_hash, context) == context_hash
    assert ours.get_value(context_hash) == (context, True)
    assert redun.get_value(context_hash) == (None, False)


def test_what_comes_twice(ours: EventStoreBackend, redun: Plain) -> None:
    """Equal tags, a task twice, a parent that is named and found, an iterator: once is meant."""
    (first, *_), _ = ours.record_tags(TagEntity.Job, "j", [("k", 1), ("k", 1), ("l", 2)])
    (second, *_), *_ = ours.record_tags(TagEntity.Job, "j", iter([("k", 2)]), parents=[first], update=True)
    assert sorted(ours.get_tags(["j"])["j"].items()) == [("k", 2), ("l", 2)]
    call_hash = call(ours, ours.record_value(1), tasks=[TASK, TASK])
    assert ours.get_subtree_tasks(call_hash) == {TASK.hash}

    with pytest.raises(sa.exc.IntegrityError):
        redun.record_tags(TagEntity.Job, "j", [("k", 1), ("k", 1)])
    redun.session.rollback()
    ((found, *_),) = redun.record_tags(TagEntity.Job, "j", [("k", 1)])
    assert found == first
    assert redun.record_tags(TagEntity.Job, "j", iter([("k", 2)]), update=True) == []
    ((found, *_),) = redun.record_tags(TagEntity.Job, "j", [("k", 2)])
    with pytest.raises(sa.exc.IntegrityError):
        redun.record_tags(TagEntity.Job, "j", [("k", 3)], parents=[found], update=True)
    redun.session.rollback()
    with pytest.raises(sa.exc.IntegrityError):
        call(redun, redun.record_value(1), tasks=[TASK, TASK])
    assert second != first


def test_tags_made_current_again_are_returned(ours: EventStoreBackend, redun: Plain) -> None:
    """With `new`, a tag that was replaced is made anew, and returned; redun makes it too."""
    for backend, count in ((ours, 1), (redun, 0)):
        backend.record_tags(TagEntity.Job, "j", [("k", 1)])
        backend.record_tags(TagEntity.Job, "j", [("k", 2)], update=True)
        assert len(backend.record_tags(TagEntity.Job, "j", [("k", 1)], new=True)) == count
        assert sorted(backend.get_tags(["j"])["j"].items()) == [("k", 1), ("k", 2)]


@pytest.mark.filterwarnings("ignore:Invoking or_")  # of redun
def test_deletions(ours: EventStoreBackend, redun: Plain) -> None:
    """Nothing found records nothing, nothing named is an error, and None is a value like others."""
    assert ours.delete_tags("j", [("k", 1)]) == []
    assert len(redun.delete_tags("j", [("k", 1)])) == 1
    for backend in (ours, redun):
        backend.record_tags(TagEntity.Job, "j", [("k", None), ("l", 1)])
        backend.delete_tags("j", [("k", None)])
    assert dict(ours.get_tags(["j"])["j"].items()) == {"l": 1}
    assert dict(redun.get_tags(["j"])["j"].items()) == {"k": None, "l": 1}
    with pytest.raises(InvalidEventError) as caught:
        ours.delete_tags("j", [])
    assert caught.value.code == "no_tags_named"
    redun.delete_tags("j", [])
    assert redun.get_tags(["j"]) == {}


def test_rollbacks(ours: EventStoreBackend, redun: Plain) -> None:
    """A rollback is recorded at once, and a circle does not make the state itself invalid."""
    for backend in (ours, redun):
        first = Handle("db")
        second = first.apply_call(some_hash("call"))
        backend.advance_handle([first], second)
        backend.rollback_handle(first)
        assert not backend.is_valid_handle(second)
    redun.session.rollback()
    assert redun.is_valid_handle(second)
    for backend in (ours, redun):
        one, two = Handle("circle"), Handle("circle", 2)
        backend.advance_handle([one], two)
        backend.advance_handle([two], one)
        backend.rollback_handle(one)
        assert bool(backend.is_valid_handle(one)) == (backend is ours)
        assert not backend.is_valid_handle(two)


@pytest.mark.parametrize("call", ["record_job_start", "record_job_end"])
def test_root_job_of_an_unknown_execution(ours: EventStoreBackend, redun: Plain, call: str) -> None:
    """Neither takes it, nor a second root job; what raises has recorded nothing, where redun has the task."""
    for backend, error in ((ours, NotFoundError), (redun, KeyError)):
        with pytest.raises(error) as caught:
            getattr(backend, call)(Job("j", "nowhere", None, TASKS[1]))
        start(backend)
        with pytest.raises(error):
            getattr(backend, call)(Job("j", "e", None, TASKS[1]))
        assert isinstance(caught.value, LookupError)
        assert backend.get_value(TASKS[1].hash)[1] == (backend is redun)
        assert backend.get_job("j") is None


def test_job_that_starts_again(ours: EventStoreBackend, redun: Plain) -> None:
    """It keeps its first start; redun fails."""
    for backend in (ours, redun):
        job = Job("j", "e", start(backend), TASK)
        backend.record_job_start(job)
        before = record(backend, "j")
        if backend is ours:
            backend.record_job_start(job)
        else:
            with pytest.raises(sa.exc.IntegrityError):
                backend.record_job_start(job)
            redun.session.rollback()
        assert record(backend, "j") == before


def test_result_that_is_not_recorded(ours: EventStoreBackend) -> None:
    """It cannot be cached, nor be the result of a call; redun's database refuses it by its foreign keys."""
    unknown = some_hash("unknown")
    with pytest.raises(NotFoundError) as caught:
        call(ours, unknown)
    assert caught.value.code == "unknown_value"
    with pytest.raises(NotFoundError):
        ours.set_eval_cache(EVAL_HASH, TASK.hash, ARGS_HASH, None, unknown)
    strict = RedunBackendDb(db_uri="sqlite:///:memory:")
    strict.load()
    start(strict)  # from here on the database checks
    with pytest.raises(sa.exc.IntegrityError):
        call(strict, unknown)
    strict.session.rollback()
    # Its first failure shows as another: the row that it looks for is not there.
    with pytest.raises((sa.exc.IntegrityError, AttributeError)):
        strict.set_eval_cache(EVAL_HASH, TASK.hash, ARGS_HASH, None, unknown)


def test_what_is_refused(ours: EventStoreBackend, redun: Plain) -> None:
    """No hash, a naive time, arguments that JSON cannot say: one error, and nothing is recorded."""
    job = start(ours)
    before = list(ours.log.store.events(tail=True))
    naive = dt.datetime(2026, 1, 1)
    for refused in (
        lambda: ours.record_job_end(job, now=naive),
        lambda: ours.record_execution("f", [object()]),
        lambda: ours.set_eval_cache("no hash", TASK.hash, ARGS_HASH, 7),
        lambda: ours.record_call_node("count", "no hash", ARGS_HASH, ((), {}), ((), {}), TASK.hash, [], []),
    ):
        with pytest.raises(InvalidEventError):
            refused()
    assert list(ours.log.store.events(tail=True)) == before
    redun.set_eval_cache("no hash", TASK.hash, ARGS_HASH, 7)
    assert redun.get_eval_cache("no hash") == (7, True)
    with pytest.raises(TypeError):
        redun.record_execution("f", [object()])
    job = start(redun)
    with pytest.raises(Exception, match=r"timezone|tz"):
        redun.record_job_end(job, now=naive)


def test_children_of_a_job(ours: EventStoreBackend, redun: Plain) -> None:
    """A job's record has all of them; redun's those that are asked for with it."""
    for backend, children in ((ours, ["child"]), (redun, [])):
        root = start(backend)
        backend.record_job_start(Job("child", "e", root, TASK))
        assert record(backend, root.id)["children"] == children
        assert next(iter(backend.get_records([root.id, "child"])))["children"] == ["child"]


def test_walks_name_what_is_recorded(ours: EventStoreBackend, redun: Plain) -> None:
    """Redun names the call of a job that runs: None."""
    for backend in (ours, redun):
        root = start(backend)
        assert (None in set(backend.iter_record_ids([root.id]))) == (backend is redun)


def test_data_of_a_large_value(ours: EventStoreBackend, redun: Plain, tmp_path: Path) -> None:
    """It is in the record, wherever its bytes lie; redun's record of a value in the value store is empty."""
    text = "x" * 2_000
    for make in (EventStoreBackend, RedunBackendDb):
        config = {"value_store_path": str(tmp_path / make.__name__)}
        backend = make(config=config, db_uri="sqlite:///:memory:")
        backend.load()
        found = record(backend, backend.record_value(text))
        for other in (ours, redun):
            other.put_records([found])
        if make is EventStoreBackend:
            assert ours.get_value(found["value_hash"]) == redun.get_value(found["value_hash"]) == (text, True)
            plain().wipe()
        else:
            assert found["data"] == ""


def test_import_of_a_job_that_ran(ours: EventStoreBackend, redun: Plain) -> None:
    """A later import ends it; in redun it runs forever. It is not new, so not counted."""
    source = EventStoreBackend()
    source.load()
    root = start(source)
    early = list(source.get_records(source.iter_record_ids(["e"])))
    source.record_job_end(root)
    late = list(source.get_records(source.iter_record_ids(["e"])))
    for backend, status in ((ours, "DONE"), (redun, "RUNNING")):
        assert backend.put_records(early) == len(early)
        assert backend.put_records(late) == 0
        assert record(backend, root.id)["status"] == status


def test_wrong_records(ours: EventStoreBackend, redun: Plain) -> None:
    """Another version or type is a FormatError; redun says AssertionError and KeyError."""
    value_hash = ours.record_value(1)
    good = record(ours, value_hash)
    for wrong, code, error in (
        ({**good, "_version": 2, "value_hash": some_hash("2")}, "record_version", AssertionError),
        ({**good, "_type": "Thing"}, "record_type", KeyError),
    ):
        with pytest.raises(FormatError) as caught:
            ours.put_records([wrong])
        assert caught.value.code == code
        with pytest.raises(error):
            redun.put_records([wrong])
        redun.session.rollback()


def test_values_come_from_one_pool() -> None:
    """Each value of the machine is made anew with one hash, or its comparisons would mean nothing."""
    assert all(registry.get_hash(make()) == registry.get_hash(make()) for make in VALUES)
    assert len({registry.get_hash(make()) for make in VALUES}) == len(VALUES)
    assert isinstance(VALUES[6](), File)
    assert pickle.dumps(VALUES[7](), protocol=3)
