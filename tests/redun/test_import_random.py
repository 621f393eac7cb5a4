"""Whatever redun's backend has been told, in any order, an import says the same; and so does the next one."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from import_kit import Conn, RedunPlace, close, differences, misplaced, use_template
from redun.backends.base import TagEntity
from redun.backends.db import (
    Argument,
    ArgumentResult,
    CallEdge,
    CallNode,
    CallSubtreeTask,
    Evaluation,
    Execution,
    Job,
    RedunBackendDb,
    Task,
)

from eventstore import EventStore
from eventstore.hashing import hash_argument, hash_call

small = st.integers(0, 5)
_NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

handle_steps = st.one_of(
    st.tuples(st.just("fork"), small, small),
    st.tuples(st.just("call"), small, small),
    st.tuples(st.just("merge"), st.lists(small, min_size=1, max_size=3), small),
    st.tuples(st.just("roll back"), small),
)
tag_steps = st.one_of(
    st.tuples(
        st.just("tag"), small, st.sampled_from("abc"), st.sampled_from([1, "1", [2.5], None]), st.booleans()
    ),
    st.tuples(st.just("delete"), small, st.sampled_from("abc")),
    st.tuples(st.just("rename"), small, st.sampled_from("abc"), st.sampled_from("abc")),
)
call_steps = st.one_of(
    st.tuples(st.just("call node"), st.lists(small, max_size=3), small),
    st.tuples(st.just("evaluation"), small, small),
    st.tuples(st.just("job"), small, st.sampled_from(["starts", "ends", "is cached"])),
    st.tuples(st.just("heartbeat"), small),
    st.tuples(st.just("value"), st.recursive(st.integers(0, 3), lambda inner: st.lists(inner, max_size=2))),
)
IMPORT = ("import",)


class _Told:
    """redun's backend, and what was said to it so far: the steps take it up by number."""

    def __init__(self, backend: RedunBackendDb) -> None:
        self._backend = backend
        self._handles = [Conn("a", "uri"), Conn("b", "uri")]
        self._edges: set[tuple[str, str]] = set()
        self._calls: list[str] = []
        self._values = [backend.record_value(number) for number in range(6)]
        self._clock = 0
        backend.session.add(Task(hash=self._values[0], name="t", namespace="n", source="def t(): ..."))
        backend.session.commit()

    def tell(self, step: tuple[Any, ...]) -> None:
        """Take one step."""
        getattr(self, "_" + step[0].replace(" ", "_"))(*step[1:])

    # handles

    def _of(self, number: int) -> Any:
        return self._handles[number % len(self._handles)]

    def _fork(self, number: int, key: int) -> None:
        self._advance([self._of(number)], self._of(number).fork(str(key)))

    def _call(self, number: int, call: int) -> None:
        self._advance([self._of(number)], self._of(number).apply_call(f"{call:040x}"))

    def _merge(self, numbers: list[int], child: int) -> None:
        name = self._of(child).__handle__.fullname
        others = {
            self._of(n).get_hash(): self._of(n) for n in numbers if self._of(n).__handle__.fullname == name
        }
        below = self._below(self._of(child).get_hash())
        others = {key: handle for key, handle in others.items() if key not in below}
        if others:
            self._advance(list(others.values()), self._of(child))

    def _below(self, start: str) -> set[str]:
        found = {start}
        for _ in self._edges:
            found |= {child for parent, child in self._edges if parent in found}
        return found

    def _advance(self, parents: list[Any], child: Any) -> None:
        below = self._below(child.get_hash())
        if any(parent.get_hash() in below for parent in parents):
            return  # circles have a test of their own
        self._backend.advance_handle(parents, child)
        self._edges |= {(parent.get_hash(), child.get_hash()) for parent in parents}
        if child.get_hash() not in [handle.get_hash() for handle in self._handles]:
            self._handles.append(child)

    def _roll_back(self, number: int) -> None:
        self._backend.rollback_handle(self._of(number))
        self._backend.session.commit()

    # tags

    def _tag(self, entity: int, key: str, value: Any, update: bool) -> None:
        self._backend.record_tags(TagEntity.Value, self._values[entity], [(key, value)], update=update)

    def _delete(self, entity: int, key: str) -> None:
        self._backend.delete_tags(self._values[entity], [], keys=[key])

    def _rename(self, entity: int, old: str, new: str) -> None:
        self._backend.update_tags(TagEntity.Value, self._values[entity], [old], [(new, "renamed")])

    # calls

    def _value(self, value: Any) -> None:
        self._backend.record_value([value, Conn("inside", "uri")])

    def _call_node(self, children: list[int], result: int) -> None:
        below = [self._calls[child % len(self._calls)] for child in children if self._calls]
        task, args, value = self._values[0], f"{result:040x}", self._values[result]
        call = hash_call(task, args, value, below)
        if call in self._calls:
            return
        session = self._backend.session
        session.add(
            CallNode(
                call_hash=call,
                task_name="n.t",
                task_hash=task,
                args_hash=args,
                value_hash=value,
                timestamp=self._time(),
            )
        )
        session.flush()
        for order, child in enumerate(below):
            session.add(CallEdge(parent_id=call, child_id=child, call_order=order))
        for position, key in ((0, None), (1, None), (None, "z"), (None, "a")):
            arg = hash_argument(call, position=position, key=key, value_hash=value)
            session.add(
                Argument(arg_hash=arg, call_hash=call, value_hash=value, arg_position=position, arg_key=key)
            )
            for child in dict.fromkeys(below):
                session.add(ArgumentResult(arg_hash=arg, result_call_hash=child))
        session.add(CallSubtreeTask(call_hash=call, task_hash=task))
        session.commit()
        self._calls.append(call)

    def _evaluation(self, number: int, result: int) -> None:
        session = self._backend.session
        session.merge(
            Evaluation(
                eval_hash=f"{number:040x}",
                task_hash=self._values[0],
                args_hash=f"{number:040x}",
                value_hash=self._values[result],
            )
        )
        session.commit()

    def _job(self, number: int, what: str) -> None:
        session, key = self._backend.session, f"job-{number}"
        job = session.get(Job, key)
        if job is None:
            session.execute(sa.text("PRAGMA foreign_keys = OFF"))  # each of the two asks for the other
            session.add(Execution(id=f"run-{number}", args='["run"]', job_id=key))
            job = Job(
                id=key, start_time=self._time(), task_hash=self._values[0], execution_id=f"run-{number}"
            )
            session.add(job)
        if what != "starts":
            job.end_time, job.cached = self._time(), what == "is cached"
            job.call_hash = self._calls[number % len(self._calls)] if self._calls else None
        session.commit()

    def _heartbeat(self, number: int) -> None:
        execution = self._backend.session.get(Execution, f"run-{number}")
        if execution is not None:
            execution.updated_time = self._time()
            self._backend.session.commit()

    def _time(self) -> dt.datetime:
        self._clock += 1
        return _NOW + dt.timedelta(seconds=self._clock // 3, microseconds=self._clock % 3)


@pytest.fixture(scope="module", autouse=True)
def _template(tmp_path_factory: pytest.TempPathFactory) -> None:
    use_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for one module; each example makes its own in it."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _agrees(folder: Path, steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as made:
        place = RedunPlace(Path(made))
        backend = place.backend()
        told = _Told(backend)
        with EventStore.open(f"{made}/store", create=True, flush_seconds=None) as store:
            for step in [*steps, IMPORT]:
                if step == IMPORT:
                    place.bring_into(store)
                    assert differences(place, store) == []
                    assert place.bring_into(store).added == {}
                else:
                    told.tell(step)
            assert misplaced(store) == []
        close(backend)


_few = settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_few
@given(steps=st.lists(handle_steps | st.just(IMPORT), max_size=9))
def test_any_history_of_handles_leaves_the_same_states_valid(folder: Path, steps: list[Any]) -> None:
    """Forks, calls, merges and roll-backs, with imports in between."""
    _agrees(folder, steps)


@_few
@given(steps=st.lists(tag_steps | st.just(IMPORT), max_size=8))
def test_any_edits_of_tags_leave_the_same_tags_current(folder: Path, steps: list[Any]) -> None:
    """Tags put, updated, renamed and deleted, with imports in between."""
    _agrees(folder, steps)


@_few
@given(steps=st.lists(call_steps | st.just(IMPORT), max_size=9))
def test_calls_values_and_jobs_are_the_same(folder: Path, steps: list[Any]) -> None:
    """Call graphs, nested values, evaluations that are replaced, jobs that end later, heartbeats."""
    _agrees(folder, steps)


def test_rows_may_lie_in_any_order(folder: Path) -> None:
    """Parents that were inserted before what they mention are imported after it."""
    place = RedunPlace(folder / "shuffled")
    backend = place.backend()
    told = _Told(backend)
    for step in [
        ("call node", [], 1),
        ("call node", [0], 2),
        ("call node", [1, 0, 1], 3),
        ("value", [[1], 2]),
    ]:
        told.tell(step)
    for value in (1, 2, 3):
        told.tell(("tag", 0, "a", value, True))
    told.tell(("fork", 0, 1))
    told.tell(("fork", 2, 1))
    told.tell(("roll back", 0))
    close(backend)
    engine = sa.create_engine(place.url)
    with engine.begin() as connection:
        for table in ("value", "call_node", "tag", "handle"):
            last = connection.execute(sa.text(f"SELECT max(rowid) FROM {table}")).scalar_one()  # noqa: S608
            connection.execute(sa.text(f"UPDATE {table} SET rowid = -rowid"))  # noqa: S608
            assert last > 2
    engine.dispose()
    with EventStore.open(folder / "store", create=True) as store:
        place.bring_into(store)
        assert differences(place, store) == []
        assert misplaced(store) == []


def test_a_circle_of_handles_is_counted_and_imported_once(folder: Path) -> None:
    """A roll-back in the log keeps the state that it begins at; where redun undid it too, that is said."""
    place = RedunPlace(folder / "circle")
    backend = place.backend()
    first = Conn("a", "uri")
    fork = first.fork("f")
    backend.advance_handle([first], fork)
    backend.advance_handle([fork], first)
    backend.rollback_handle(first)
    backend.session.commit()
    close(backend)
    assert [row.is_valid for row in place.rows("SELECT is_valid FROM handle")] == [0, 0]
    with EventStore.open(folder / "store", create=True) as store:
        report = place.bring_into(store)
        assert report.kept_valid == 1
        again = place.bring_into(store)
        assert (again.kept_valid, again.added) == (1, {})
        valid = [store.lookup.is_valid_handle(each) for each in (first.get_hash(), fork.get_hash())]
        assert sorted(valid) == [False, True]
