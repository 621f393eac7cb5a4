"""The three caches: their order, scopes, contexts, recency, current tasks; and why a call is in none."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from backend_kit import (
    START,
    Engine,
    Failure,
    hashes,
    kinds,
    open_backend,
    some_hash,
    task,
)
from store_kit import memory_url, open_store

from eventstore.backend import CacheAnswer, CacheCheck, CacheKind, CacheMiss, CacheScope, LogBackend
from eventstore.errors import NotFoundError

MISS = CacheAnswer(None, None, CacheKind.MISS)
SHALLOW = CacheCheck.SHALLOW


@pytest.fixture
def other(backend: LogBackend) -> Engine:
    """An execution beside the first, on the same backend."""
    made = Engine(backend)
    made.start()
    return made


# the order -----------------------------------------------------------------------------------------------


def test_execution_answers_before_calls_before_evaluations(engine: Engine, other: Engine) -> None:
    """A job of the same execution comes first, then a whole call, then a single evaluation."""
    done = engine.call("r", args=[1])
    assert engine.ask(args=[1], check=SHALLOW) == CacheAnswer("r", done.call_hash, CacheKind.EXECUTION)
    assert other.ask(args=[1], check=SHALLOW) == CacheAnswer("r", done.call_hash, CacheKind.CALL)
    assert other.ask(args=[1]) == CacheAnswer("r", None, CacheKind.EVALUATION)
    assert other.ask(args=[2], check=SHALLOW) == MISS


@pytest.mark.parametrize(
    ("scope", "own", "others"),
    [
        (CacheScope.NONE, CacheKind.MISS, CacheKind.MISS),
        (CacheScope.EXECUTION, CacheKind.EXECUTION, CacheKind.MISS),
        (CacheScope.STORE, CacheKind.EXECUTION, CacheKind.CALL),
    ],
)
def test_scopes(engine: Engine, other: Engine, scope: CacheScope, own: CacheKind, others: CacheKind) -> None:
    """Nothing answers in scope NONE, in EXECUTION only its own jobs, in STORE all."""
    engine.call("r", args=[1])
    assert engine.ask(args=[1], scope=scope, check=SHALLOW).kind is own
    assert other.ask(args=[1], scope=scope, check=SHALLOW).kind is others


@pytest.mark.parametrize(
    ("allowed", "own", "others"),
    [
        (None, CacheKind.EXECUTION, CacheKind.CALL),
        ({CacheKind.EXECUTION, CacheKind.CALL}, CacheKind.EXECUTION, CacheKind.CALL),
        ({CacheKind.CALL, CacheKind.EVALUATION}, CacheKind.CALL, CacheKind.CALL),
        ({CacheKind.EVALUATION}, CacheKind.EVALUATION, CacheKind.EVALUATION),
        (set(), CacheKind.MISS, CacheKind.MISS),
    ],
)
def test_only_allowed_caches_answer(
    engine: Engine, other: Engine, allowed: Any, own: CacheKind, others: CacheKind
) -> None:
    """A cache that is not allowed is passed over, and the next one is asked."""
    engine.call("r", args=[1])
    assert engine.ask(args=[1], check=SHALLOW, allowed=allowed).kind is own
    assert other.ask(args=[1], check=SHALLOW, allowed=allowed).kind is others


def test_result_that_cannot_be_read_is_passed_over(
    backend: LogBackend, engine: Engine, other: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the value of a call is gone, the evaluation answers, without naming the call."""
    engine.call("the call's", args=[1], evaluates=False)
    args_hash, eval_hash = hashes(task(), [1])
    backend.set_evaluation(eval_hash, task().task_hash, args_hash, "the evaluation's")
    load = backend.types.load

    def forget(type_name: str, data: bytes, media_type: str) -> Any:
        value = load(type_name, data, media_type)
        if value == "the call's":
            raise NotFoundError("gone", code="type_gone")
        return value

    monkeypatch.setattr(backend.types, "load", forget)
    expected = CacheAnswer("the evaluation's", None, CacheKind.EVALUATION)
    assert engine.ask(args=[1], check=SHALLOW) == expected
    assert other.ask(args=[1], check=SHALLOW) == expected


def test_pickles_that_are_not_trusted_are_a_miss() -> None:
    """Where nothing may be unpickled, a call runs again rather than taking a pickled result."""
    url = memory_url()
    trusting = open_backend(open_store(url))
    Engine(trusting).call("r", args=[1])
    trusting.close()
    careful = open_backend(open_store(url, trust_pickle=False))
    assert Engine(careful).ask(args=[1], check=SHALLOW) == MISS
    careful.close()


# within an execution -------------------------------------------------------------------------------------


def test_job_that_started_last_answers(engine: Engine) -> None:
    """Of several jobs with the call, the one that started last counts, whichever was recorded last."""
    engine.start()
    engine.call("late", args=[1], now=START + dt.timedelta(days=2))
    engine.call("early", args=[1], now=START + dt.timedelta(days=1))
    assert engine.ask(args=[1]).value == "late"


def test_of_the_jobs_with_one_call_the_one_that_started_last_counts(engine: Engine) -> None:
    """Also if another of them ended after it, and a job with another call started between the two."""
    engine.start()
    for result, day in (("a", 3), ("b", 2), ("a", 1)):
        engine.call(result, args=[1], now=START + dt.timedelta(days=day))
    assert engine.ask(args=[1]).value == "a"


def test_a_job_that_ended_again_answers_with_its_last_call_only(backend: LogBackend, engine: Engine) -> None:
    """The call that it ended with before is answered by another job, as long as there is one."""
    engine.start()
    jobs = [engine.call("a", args=[1]).job for _ in range(2)]
    other = engine.call("b", args=[2])
    for job, kind in zip(reversed(jobs), (CacheKind.EXECUTION, CacheKind.EVALUATION), strict=True):
        backend.record_job_end(job._replace(call_hash=other.call_hash))
        assert engine.ask(args=[1]).kind is kind


def test_running_jobs_do_not_answer(backend: LogBackend, engine: Engine) -> None:
    """A job without an end, or with an end and no call, answers nothing."""
    engine.start()
    args_hash, _ = hashes(task(), [])
    backend.record_job_start(engine.job(task()))
    ended = engine.job(task())
    backend.record_job_end(ended)
    assert engine.ask() == MISS
    assert backend.explain_cache_miss(task().full_name, task().task_hash, args_hash).reason == "new_call"


def test_errors_are_replayed_within_an_execution(engine: Engine, other: Engine) -> None:
    """An error answers in its execution and as a whole call; no evaluation holds one."""
    failed = engine.call(Failure("broken"), args=[1])
    expected = CacheAnswer(Failure("broken"), failed.call_hash, CacheKind.EXECUTION)
    assert engine.ask(args=[1]) == expected
    assert other.ask(args=[1], check=SHALLOW).kind is CacheKind.CALL
    assert other.ask(args=[1]) == MISS


def test_job_of_another_task_does_not_answer(engine: Engine) -> None:
    """The same arguments under another task are another call."""
    engine.call("r", of=task("one"), args=[1])
    assert engine.ask(of=task("two"), args=[1], check=SHALLOW) == MISS


# whole calls ---------------------------------------------------------------------------------------------


def test_all_tasks_below_must_be_current(engine: Engine, other: Engine) -> None:
    """A call answers only while every task at and below it is one that the engine has now."""
    main, below = task("main"), task("below")
    engine.call("r", of=main, below=[below], evaluates=False)
    assert other.ask(of=main, current=[main, below], check=SHALLOW).kind is CacheKind.CALL
    changed = task("below", "def below(): changed")
    assert other.ask(of=main, current=[main, changed], check=SHALLOW) == MISS


def test_whole_calls_need_a_shallow_check(engine: Engine, other: Engine) -> None:
    """A full check never takes a call as a whole."""
    engine.call("r", evaluates=False)
    assert other.ask(check=CacheCheck.FULL) == MISS


def test_newest_current_call_answers(engine: Engine, other: Engine) -> None:
    """Of the calls whose tasks are current, the one that was first recorded last counts."""
    main, old, new = task("main"), task("below", "old"), task("below", "new")
    engine.call("old", of=main, below=[old], evaluates=False)
    engine.call("new", of=main, below=[new], evaluates=False)
    assert other.ask(of=main, current=[main, old, new], check=SHALLOW).value == "new"
    assert other.ask(of=main, current=[main, old], check=SHALLOW).value == "old"


def test_recency_is_that_of_the_first_record(engine: Engine, other: Engine) -> None:
    """Results A, B, A: the evaluation holds A, and the newest call is B."""
    for result in ("a", "b", "a"):
        engine.call(result, args=[1])
    assert other.ask(args=[1]).value == "a"
    assert other.ask(args=[1], check=SHALLOW).value == "b"


def test_imported_calls_are_always_current(engine: Engine) -> None:
    """A call that was imported has no tasks below it, so none of them can be out of date."""
    done = engine.call("r", evaluates=False)
    elsewhere = open_backend()
    elsewhere.put_records(engine.backend.get_records(engine.backend.iter_record_ids([done.call_hash])))
    answer = Engine(elsewhere).ask(current=[], check=SHALLOW)
    assert answer == CacheAnswer("r", done.call_hash, CacheKind.CALL)
    elsewhere.close()


# contexts ------------------------------------------------------------------------------------------------


def test_context_restricts_jobs_and_calls(engine: Engine, other: Engine) -> None:
    """With a context only calls made under it answer, in the execution and as a whole."""
    one, two = some_hash("one"), some_hash("two")
    engine.call("under one", args=[1], context_hash=one, evaluates=False)
    for asked in (engine, other):
        assert asked.ask(args=[1], check=SHALLOW, context_hash=one).value == "under one"
        assert asked.ask(args=[1], check=SHALLOW, context_hash=two) == MISS


def test_call_without_context_is_not_restricted(engine: Engine) -> None:
    """A call without a context is answered by one that was made under some."""
    engine.call("r", args=[1], context_hash=some_hash("one"))
    assert engine.ask(args=[1]).kind is CacheKind.EXECUTION


def test_call_under_several_contexts_answers_each(engine: Engine) -> None:
    """A call that was reached under two contexts answers under both."""
    one, two = some_hash("one"), some_hash("two")
    for context in (one, two):
        engine.call("r", args=[1], context_hash=context)
    assert engine.ask(args=[1], context_hash=one).kind is CacheKind.EXECUTION
    assert engine.ask(args=[1], context_hash=two).kind is CacheKind.EXECUTION


def test_context_holds_after_its_tag_was_taken_off(backend: LogBackend, engine: Engine) -> None:
    """Whether the tag of the context is current plays no part."""
    one = some_hash("one")
    done = engine.call("r", args=[1], context_hash=one)
    backend.delete_tags(done.call_hash, keys=["redun.context"])
    assert backend.get_tags([done.call_hash]) == {}
    assert engine.ask(args=[1], context_hash=one).kind is CacheKind.EXECUTION


def test_evaluations_know_no_context(engine: Engine, other: Engine) -> None:
    """An evaluation answers under any context."""
    engine.call("r", args=[1], context_hash=some_hash("one"))
    assert other.ask(args=[1], context_hash=some_hash("two")).kind is CacheKind.EVALUATION


# evaluations ---------------------------------------------------------------------------------------------


def test_later_evaluation_replaces(backend: LogBackend, engine: Engine) -> None:
    """The cache holds what was put last, given as an object or by its hash."""
    engine.start()
    args_hash, eval_hash = hashes(task(), [1])
    backend.set_evaluation(eval_hash, task().task_hash, args_hash, "first")
    assert engine.ask(args=[1]).value == "first"
    backend.set_evaluation(
        eval_hash, task().task_hash, args_hash, None, value_hash=backend.record_value("2nd")
    )
    assert engine.ask(args=[1]).value == "2nd"
    backend.set_evaluation(eval_hash, task().task_hash, args_hash, None)
    assert engine.ask(args=[1]) == CacheAnswer(None, None, CacheKind.EVALUATION)


def test_evaluation_records_its_value_with_it(backend: LogBackend) -> None:
    """Value and entry are one append, so neither is there without the other."""
    args_hash, eval_hash = hashes(task(), [])
    backend.set_evaluation(eval_hash, task().task_hash, args_hash, "r")
    assert kinds(backend) == ["value.recorded", "evaluation.cached"]


def test_evaluation_of_an_unknown_value_is_refused(backend: LogBackend) -> None:
    """An entry never points at a value that is not recorded."""
    args_hash, eval_hash = hashes(task(), [])
    with pytest.raises(NotFoundError) as caught:
        backend.set_evaluation(eval_hash, task().task_hash, args_hash, None, value_hash=some_hash("x"))
    assert caught.value.code == "unknown_value"
    assert kinds(backend) == []


# why not -------------------------------------------------------------------------------------------------


def test_a_miss_is_explained_by_the_closest_call(backend: LogBackend, engine: Engine) -> None:
    """First the newest call of the name with these arguments, then the newest of the task, then nothing."""
    old, new = task("count", "old"), task("count", "new")
    first = engine.call("r", of=old, args=[1])
    args_1, args_2 = hashes(new, [1])[0], hashes(new, [2])[0]
    explain = backend.explain_cache_miss
    assert explain("lab.count", new.task_hash, args_1) == CacheMiss(
        "new_task", first.call_hash, old.task_hash, args_1
    )
    assert explain("lab.count", old.task_hash, args_2) == CacheMiss(
        "new_args", first.call_hash, old.task_hash, args_1
    )
    assert explain("lab.count", new.task_hash, args_2) == CacheMiss("new_call")
    assert explain("other.count", new.task_hash, args_1) == CacheMiss("new_call")


def test_a_miss_names_the_newest_call(backend: LogBackend, engine: Engine) -> None:
    """Of several calls that are as close, the newest is named."""
    old, newer, newest = (task("count", source) for source in ("1", "2", "3"))
    engine.call("r", of=old, args=[1])
    second = engine.call("r", of=newer, args=[1])
    third = engine.call("r", of=newer, args=[5])
    explain = backend.explain_cache_miss
    args = hashes(task(), [1])[0]
    assert explain("lab.count", newest.task_hash, args).call_hash == second.call_hash
    assert explain("lab.count", newer.task_hash, some_hash("x")).call_hash == third.call_hash
