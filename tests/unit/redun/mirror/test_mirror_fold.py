"""Which rows of redun's tables events become."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from mirror_kit import batches, empty, folded, rows, tables
from tables_kit import at, h, handle_events, histories

from eventstore import (
    Argument,
    CallNodeRecorded,
    EvaluationCached,
    ExecutionHeartbeat,
    ExecutionStarted,
    HandleAdvanced,
    HandleForked,
    HandleRecorded,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    Tag,
    TagsDeleted,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from eventstore.hashing import hash_argument
from eventstore.index import HandleStates
from eventstore.redun.mirror.fold import Fold
from eventstore.redun.mirror.tail import begin_tail, end_tail, undo_tail

JOB = {"job_id": "j", "execution_id": "e", "task_hash": h("t")}


def call(name: str, *, second: int = 0, **more: object) -> CallNodeRecorded:
    """A call node of this name."""
    said = {"task_hash": h("t"), "task_name": "n.t", "args_hash": h("a"), "value_hash": h("v")} | more
    return CallNodeRecorded(call_hash=h(name), occurred_at=at(second), **said)


def value(name: str, **more: object) -> ValueRecorded:
    """A value of this name."""
    said = {"type_name": "t", "size_bytes": 1, "data": b"x"} | more
    return ValueRecorded(value_hash=h(name), **said)


def tag(name: str, *superseded: str, key: str = "k") -> TagsRecorded:
    """A tag of this name on a job."""
    made = (Tag(tag_hash=h(name), key=key, value="1"),)
    return TagsRecorded(
        entity_type="Job", entity_id="j", tags=made, superseded=[h(one) for one in superseded]
    )


def state(name: str) -> HandleRecorded:
    """A state of a handle."""
    return HandleRecorded(handle_hash=h(name), handle_name="db", value_hash=h(f"value of {name}"))


def step(before: str, after: str) -> HandleAdvanced:
    """One state follows another."""
    return HandleAdvanced(handle_hash=h(after), handle_name="db", parents=[h(before)])


def undone(name: str) -> HandleRolledBack:
    """A rollback to a state."""
    return HandleRolledBack(handle_hash=h(name), handle_name="db")


cut_places = st.lists(st.integers(1, 25), max_size=4)


@given(histories, cut_places)
def test_any_split_gives_the_same_tables(events: list[object], cuts: list[int]) -> None:
    """However the log is cut into batches, the tables are the same."""
    assert tables(folded(events, cuts)) == tables(folded(events, range(len(events))))


@given(histories, st.integers(0, 25), st.integers(0, 25), cut_places)
def test_a_tail_leaves_no_trace(events: list[object], start: int, end: int, cuts: list[int]) -> None:
    """Events that are folded on top and taken off again change nothing, then or later."""
    sealed, tail = events[:start], events[start:end]
    db = folded(sealed)
    before, fold = tables(db), Fold(db)
    for times in (1, 2):
        db.execute("BEGIN")
        begin_tail(db)
        for batch in batches(tail, cuts):
            fold.add(batch)
        end_tail(db)
        db.execute("COMMIT")
        if times == 1:
            assert tables(db) == tables(folded([*sealed, *tail]))
        undo_tail(db)
        assert tables(db) == before
    for batch in batches(events[start:]):
        fold.add(batch)
    assert tables(db) == tables(folded(events))


def test_first_statement_wins() -> None:
    """A task, a value and a call node that are stated again stay as they were."""
    db = folded(
        [
            TaskRecorded(task_hash=h("t"), task_name="a", task_namespace="n", source="one"),
            TaskRecorded(task_hash=h("t"), task_name="b"),
            value("v", file_path="p"),
            value("v", data=b"y", type_name="other"),
            call("c", second=1, arguments=[Argument(position=0, value_hash=h("v"), upstreams=[h("u")])]),
            call("c", second=2, arguments=[Argument(key="k", value_hash=h("w"))], subtree_tasks=[h("s")]),
        ]
    )
    assert rows(db, "SELECT name, namespace, source FROM task") == [("a", "n", "one")]
    assert rows(db, "SELECT type, value FROM value") == [("t", b"x")]
    assert rows(db, "SELECT path FROM file") == [("p",)]
    assert rows(db, "SELECT timestamp FROM call_node") == [("2026-01-31 12:00:01.000000",)]
    argument = hash_argument(h("c"), position=0, value_hash=h("v"))
    assert rows(db, "SELECT arg_hash, arg_position, arg_key FROM argument") == [(argument, 0, None)]
    assert rows(db, "SELECT * FROM argument_result") == [(argument, h("u"))]
    assert rows(db, "SELECT * FROM call_subtree_task") == []


def test_bytes_in_the_value_store_are_a_placeholder() -> None:
    """A large value has no bytes in its row, and beside it stands where they are."""
    db = folded([value("v", data=None, data_digest="ab" * 32, size_bytes=70_000, subvalues=[h("w"), h("w")])])
    assert rows(db, "SELECT value FROM value") == [(b"",)]
    assert rows(db, "SELECT * FROM mirror_value") == [(h("v"), "ab" * 32, 70_000)]
    assert rows(db, "SELECT value_hash, parent_value_hash FROM subvalue") == [(h("w"), h("v"))]


def test_child_calls_are_those_that_are_recorded() -> None:
    """Edges keep call order and repeats; one to a call that is not recorded waits until it is."""
    parent = call("p", children=[h("x"), h("gone"), h("x"), h("late")])
    db = folded([call("x"), parent])
    edges = "SELECT child_id, call_order FROM call_edge ORDER BY call_order"
    assert rows(db, edges) == [(h("x"), 0), (h("x"), 2)]
    Fold(db).add(batches([call("late")])[0])
    assert rows(db, edges) == [(h("x"), 0), (h("x"), 2), (h("late"), 3)]


def test_an_evaluation_keeps_its_newest_value() -> None:
    """A later value replaces the earlier one; task and arguments stay those of the first."""
    said = {"eval_hash": h("e"), "task_hash": h("t"), "args_hash": h("a")}
    db = folded(
        [
            EvaluationCached(**said, value_hash=h("1")),
            EvaluationCached(**said | {"task_hash": h("other")}, value_hash=h("2")),
        ]
    )
    assert rows(db, "SELECT task_hash, value_hash FROM evaluation") == [(h("t"), h("2"))]


def test_jobs_start_and_end() -> None:
    """A job runs until its newest end; one that was never started began when it ended."""
    job = "SELECT start_time, end_time, cached, call_hash FROM job"
    started = JobStarted(**JOB, parent_id="p", occurred_at=at(1))
    assert rows(folded([started]), job) == [("2026-01-31 12:00:01.000000", None, 0, None)]
    ends = [
        JobEnded(**JOB, parent_id="p", status="DONE", occurred_at=at(2)),
        JobEnded(**JOB, parent_id="p", status="CACHED", cached=True, call_hash=h("c"), occurred_at=at(3)),
    ]
    assert rows(folded([started, *ends]), job) == [
        ("2026-01-31 12:00:01.000000", "2026-01-31 12:00:03.000000", 1, h("c"))
    ]
    assert rows(folded(ends), job)[0][0] == "2026-01-31 12:00:02.000000"


def test_an_execution_is_a_row_once_its_root_job_is_known() -> None:
    """Before that it is none, as in redun; its heartbeat is the newest, whatever came first."""
    run = "SELECT id, args, job_id, updated_time FROM execution"
    begun = [
        ExecutionHeartbeat(execution_id="e", occurred_at=at(3)),
        ExecutionStarted(execution_id="e", args="[1]"),
    ]
    assert rows(folded(begun), run) == []
    child = JobStarted(**JOB | {"job_id": "child"}, parent_id="j")
    assert rows(folded([*begun, child]), run) == []
    beat = ExecutionHeartbeat(execution_id="e", occurred_at=at(2))
    whole = [("e", "[1]", "j", "2026-01-31 12:00:03.000000")]
    assert rows(folded([*begun, child, JobStarted(**JOB), beat]), run) == whole
    assert rows(folded([JobStarted(**JOB), *begun]), run) == whole
    assert rows(folded([ExecutionStarted(execution_id="e", job_id="j")]), run) == [("e", "[]", "j", None)]


def test_a_tag_is_current_unless_another_supersedes_it() -> None:
    """Whatever came first; the deletion is itself a tag, of nothing."""
    for events in ([tag("a"), tag("b", "a")], [tag("b", "a"), tag("a")]):
        db = folded(events)
        assert dict(rows(db, "SELECT tag_hash, is_current FROM tag")) == {h("a"): 0, h("b"): 1}
        assert rows(db, "SELECT parent_id, child_id FROM tag_edit") == [(h("a"), h("b"))]
    db = folded([tag("a"), TagsDeleted(tag_hash=h("d"), superseded=[h("a")]), tag("a")])
    assert rows(db, "SELECT entity_type, entity_id, key, value, is_current FROM tag ORDER BY is_current") == [
        ("Job", "j", "k", "1", 0),
        ("Null", "", "", "null", 1),
    ]


def test_a_rollback_reaches_over_valid_states_of_its_name() -> None:
    """What follows becomes invalid, the state itself and what lies behind an invalid state do not."""
    known = [state(name) for name in "abcx"]
    chain = [step("a", "b"), step("b", "c")]

    def valid(*events: object) -> set[str]:
        db = folded([*known, *events])
        found = {hash_ for hash_, ok in rows(db, "SELECT hash, is_valid FROM handle") if ok}
        return {name for name in "abcx" if h(name) in found}

    assert valid(*chain, undone("a")) == {"a", "x"}
    assert valid(*chain, undone("b")) == {"a", "b", "x"}
    assert valid(*chain, undone("a"), state("c"), undone("a")) == {"a", "c", "x"}
    assert valid(*chain, undone("a"), step("b", "c")) == {"a", "b", "c", "x"}
    assert valid(*chain, step("c", "a"), undone("a")) == {"a", "x"}
    assert valid(*chain, HandleRolledBack(handle_hash=h("a"), handle_name="other")) == set("abcx")
    assert valid(undone("nobody")) == set("abcx")


def test_a_state_that_is_only_mentioned_is_a_row() -> None:
    """A fork, an advance and what they follow from are states; what is said of them later is filled in."""
    fork = HandleForked(handle_hash=h("f"), handle_name="db", handle_key="k", parents=[h("a")])
    told = HandleRecorded(handle_hash=h("a"), handle_name="no", handle_key="first", value_hash=h("v"))
    db = folded([fork, step("f", "s")])
    found = "SELECT hash, fullname, key, value_hash FROM handle"
    mentioned = {(h(name), "db", "k" if name == "f" else "", h(name)) for name in "afs"}
    assert set(rows(db, found)) == mentioned
    assert set(rows(db, "SELECT * FROM handle_edge")) == {(h("a"), h("f")), (h("f"), h("s"))}
    again = HandleRecorded(handle_hash=h("a"), handle_name="no", handle_key="second", value_hash=h("w"))
    db = folded([fork, step("f", "s"), told, again])
    assert set(rows(db, found)) == mentioned - {(h("a"), "db", "", h("a"))} | {
        (h("a"), "db", "first", h("v"))
    }


@given(st.lists(handle_events, max_size=25))
def test_states_of_handles_are_those_of_the_index(events: list[object]) -> None:
    """Names, keys and validity are what the store itself answers with, whatever happened in which order."""
    states = HandleStates()
    for event in events:
        states.apply(event.kind, event.model_dump())
    said = (states.get(h(str(n))) for n in range(5))
    expected = {(one.handle_hash, one.name, one.key, one.is_valid) for one in said if one is not None}
    assert set(rows(folded(events), "SELECT hash, fullname, key, is_valid FROM handle")) == expected


def test_an_erased_event_says_nothing() -> None:
    """Rows whose body was erased are passed over."""
    (batch,) = batches([call("c"), tag("t"), state("s"), JobStarted(**JOB), value("v")])
    kept = ("kind", "writer", "sequence")
    for name in batch.schema.names:
        if name not in kept:
            place = batch.schema.get_field_index(name)
            batch = batch.set_column(place, name, pa.nulls(len(batch), batch.schema.field(name).type))
    db = empty()
    Fold(db).add(batch)
    assert all(not found for found in tables(db).values())
