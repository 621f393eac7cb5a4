"""The part of the machine that records a history on both sides: jobs, values, calls; and asks the caches."""

from __future__ import annotations

import datetime as dt
import pickle
import threading
from contextlib import ExitStack
from typing import Any

from backend_material_kit import ARGS, CONTEXTS, GONE, TASKS, VALUES, Job, registry, some_hash
from backend_pair_kit import MOST_BYTES, START, Clock, Pair
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from redun.expression import SimpleExpression, TaskExpression
from redun.handle import Handle
from redun.task import CacheCheckValid, CacheResult, CacheScope

from eventstore.hashing import hash_eval

places = st.integers(0, 5)
"""Which of what there is, so that operations meet."""
values = st.integers(0, len(VALUES) - 1)
tasks = st.integers(0, len(TASKS) - 1)
arguments = st.integers(0, len(ARGS) - 1)
contexts = st.none() | st.integers(0, len(CONTEXTS) - 1)
task_sets = st.sets(tasks).map(lambda chosen: {TASKS[place].hash for place in chosen})
tag_values = st.sampled_from([1, 1.0, True, None, "é", "x", [1, {"b": 2, "a": None}], {"b": 1, "a": 2}])
tag_pairs = st.lists(st.tuples(st.sampled_from(["env", "user"]), tag_values), max_size=3)
_LOCK = threading.Lock()
EXECUTIONS = ("e0", "e1")


def value_hash_of(value: Any) -> str:
    """The hash of a value."""
    return str(registry.get_hash(value))


class HistoryMachine(RuleBasedStateMachine):
    """Executions, jobs, values, calls, contexts and caches, on stores that have only these."""

    @initialize()
    def begin(self) -> None:
        """Two empty pairs: one is recorded to, the other takes in what the first exports."""
        self.clock = Clock()
        self._patched = ExitStack()
        self._patched.enter_context(self.clock.for_redun())
        self.pair = Pair(self.clock, 0)
        self.other = Pair(self.clock, 1)
        self.pending: set[str] = set()
        self.executions: list[str] = []
        self.jobs: list[Job] = []
        self.recorded: list[str] = []
        """Hashes of values."""
        self.calls: list[str] = []
        self.task_of: dict[str, str] = {}
        """The task of each call."""
        self.errors: set[str] = set()
        """Calls that failed."""
        self.cached: set[tuple[int, int]] = set()
        """Tasks and arguments of calls and evaluations."""
        self.tags: list[str] = []
        # One for each side: recording a handle leaves a mark on it.
        self.handles = [
            (Handle("db"), Handle("db")),
            (Handle("db", namespace="n"), Handle("db", namespace="n")),
        ]
        self.moved: list[str] = []
        """Ids that were moved to the other pair."""

    # helpers ---------------------------------------------------------------------------------------------

    def _now(self) -> None:
        self.clock.step(1_000_007)

    def _at(self, items: list[Any], place: int) -> Any:
        return items[place % len(items)] if items else None

    def _call_at(self, place: int) -> str:
        return self._at(self.calls, place) or some_hash("no call")

    def _entity(self, place: int) -> str:
        return self._at([*EXECUTIONS, *self.calls[:2], *self.recorded[:2], "elsewhere"], place)

    def _record(self, value: Any) -> str:
        value_hash = str(self.pair.both("record_value", value))
        if value_hash not in self.recorded:
            self.recorded.append(value_hash)
        return value_hash

    def ids(self) -> list[str]:
        """All ids that were given out, and some that were not."""
        jobs = [job.id for job in self.jobs]
        task_hashes = [task.hash for task in TASKS]
        known = [*self.executions, *jobs, *self.recorded, *task_hashes, *self.calls, *self.tags]
        return [*dict.fromkeys(known), "unknown", some_hash("unknown")]

    # executions and jobs ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.pending) + len(self.executions) < len(EXECUTIONS))
    @rule(place=st.integers(0, 1))
    def begin_execution(self, place: int) -> None:
        """An execution that is pending until its root job is recorded."""
        self._now()
        execution_id = EXECUTIONS[place]
        if execution_id not in self.executions:
            self.pending.add(execution_id)
            self.pair.both("record_execution", execution_id, ["run", "flow.py", "é"])

    @rule(place=st.integers(0, 2))
    def heartbeat(self, place: int) -> None:
        """An execution is alive, be it pending, recorded or unknown."""
        self._now()
        self.pair.both("record_updated_time", [*EXECUTIONS, "unknown"][place])

    @rule(task=tasks, execution=st.integers(0, 1), parent=st.none() | places, ago=st.none() | places)
    def start_job(self, task: int, execution: int, parent: int | None, ago: int | None) -> None:
        """A root job, or one below another; `ago` says a start time before now."""
        self._now()
        job = self._new_job(task, execution, parent)
        now = None if ago is None else self.clock() - dt.timedelta(seconds=2 * ago, microseconds=1)
        if self._is_refused(job):
            ours, _ = self.pair.both_fail("record_job_start", job, now=now)
            self._not_recorded(job, ours)
            return
        self.pair.ours.record_job_start(job, now=now)
        self.pair.theirs.record_job_start(job, now=now)
        self._recorded_job(job)

    @rule(
        place=places,
        new=st.none() | st.tuples(tasks, st.integers(0, 1), st.none() | places),
        call=st.none() | places,
        cached=st.booleans(),
    )
    def end_job(
        self, place: int, new: tuple[int, int, int | None] | None, call: int | None, cached: bool
    ) -> None:
        """The end of a job that runs, has ended or never started; without a call node it may have failed."""
        self._now()
        job = self._at(self.jobs, place) if new is None else self._new_job(*new)
        if job is None:
            return
        own = [each for each in self.calls if self.task_of[each] == job.task.hash]
        call_hash = None if call is None else self._at(own, call)
        job.was_cached, job.call_hash = cached, call_hash
        has_failed = call_hash in self.errors if call_hash is not None else not cached
        status = "FAILED" if has_failed else None
        if self._is_refused(job):
            ours, _ = self.pair.both_fail("record_job_end", job, status=status)
            self._not_recorded(job, ours)
            return
        self.pair.both("record_job_end", job, status=status)
        if has_failed and call_hash is None:
            self.pair.failed.add(job.id)
        else:
            self.pair.failed.discard(job.id)
        if new is not None:
            self._recorded_job(job)
        self.pair.records([job.id])

    def _new_job(self, task: int, execution: int, parent: int | None) -> Job:
        above = None if parent is None else self._at(self.jobs, parent)
        return Job(f"j{self.clock() - START}", EXECUTIONS[execution], above, TASKS[task])

    def _is_refused(self, job: Job) -> bool:
        is_new = job not in self.jobs
        return is_new and job.parent_job is None and job.execution.id not in self.pending

    def _not_recorded(self, job: Job, error: Exception) -> None:
        """On purpose different: what raises has recorded nothing; redun has recorded the task."""
        assert isinstance(error, LookupError)
        assert self.pair.ours.get_job(job.id) is self.pair.theirs.get_job(job.id) is None
        self._record(job.task)

    def _recorded_job(self, job: Job) -> None:
        self.jobs.append(job)
        if job.parent_job is None:
            self.pending.discard(job.execution.id)
            self.executions.append(job.execution.id)
        self.recorded = list(dict.fromkeys([*self.recorded, job.task.hash]))
        self.pair.both("get_job", job.id)
        self.pair.records([job.execution.id, job.id])

    # values ----------------------------------------------------------------------------------------------

    @rule(place=values)
    def record_value(self, place: int) -> None:
        """Any value, perhaps again."""
        value_hash = self._record(VALUES[place]())
        self.pair.compare_values([value_hash])
        self.pair.records([value_hash])

    @rule(data=st.sampled_from([GONE, pickle.dumps(1, protocol=3), pickle.dumps("y", protocol=3)]))
    def record_bytes(self, data: bytes) -> None:
        """A value whose bytes are given, also such as cannot be read back."""
        value_hash = self.pair.both("record_value", "stands in", data=data)
        self.recorded = list(dict.fromkeys([*self.recorded, value_hash]))
        self.pair.compare_values([value_hash, some_hash("unknown")])

    @rule(value=st.sampled_from([{1, "a"}, "x" * (MOST_BYTES + 1), _LOCK]))
    def refuse_value(self, value: Any) -> None:
        """What cannot be sorted, is too large or cannot be pickled: both raise the same exception."""
        ours, other = self.pair.both_fail("record_value", value)
        assert type(ours) is type(other)

    # calls and caches ------------------------------------------------------------------------------------

    @rule(
        task=tasks,
        args_hash=arguments,
        result=values,
        given=st.lists(st.tuples(values, st.lists(places, max_size=2), st.booleans()), max_size=2),
        named=st.dictionaries(st.sampled_from(["k", "b"]), st.tuples(values, st.booleans()), max_size=2),
        children=st.lists(places, max_size=3),
        unrecorded=st.booleans(),
        below=st.sets(tasks),
    )
    def record_call_node(
        self,
        task: int,
        args_hash: int,
        result: int,
        given: list[tuple[int, list[int], bool]],
        named: dict[str, tuple[int, bool]],
        children: list[int],
        unrecorded: bool,
        below: set[int],
    ) -> None:
        """A call with arguments by position, by keyword and by default, upstreams and children."""
        self._now()
        of = TASKS[task]
        self._record(of)
        result_hash = self._record(VALUES[result]())
        below_hashes = [self._call_at(place) for place in children if self.calls]
        below_hashes += [some_hash("unrecorded")] * unrecorded
        positions = tuple(VALUES[value]() for value, _, _ in given)
        keywords = {key: VALUES[value]() for key, (value, _) in named.items()}
        written = (
            tuple(self._written(value, *how) for value, (_, *how) in zip(positions, given, strict=True)),
            {key: keywords[key] for key, (_, is_default) in named.items() if not is_default},
        )
        tasks_below = [of, *(TASKS[place] for place in below if place != task)]
        call_hash = self.pair.both(
            "record_call_node",
            of.fullname,
            of.hash,
            ARGS[args_hash],
            written,
            (positions, keywords),
            result_hash,
            below_hashes,
            tasks_below,
        )
        if call_hash not in self.calls:
            self.calls.append(call_hash)
        self.task_of[call_hash] = of.hash
        if VALUES[result]().__class__.__name__ == "ErrorValue":
            self.errors.add(call_hash)
        inside = [value_hash_of(each) for each in (*positions, *keywords.values())]
        self.recorded = list(dict.fromkeys([*self.recorded, *inside]))
        self.pair.both("get_subtree_tasks", call_hash)
        self.pair.records([call_hash, *inside])
        self._ask_all(task, args_hash)

    def _written(self, value: Any, upstreams: list[int], is_list: bool) -> Any:
        """An argument as it was written: a value, the call that made it, or an operation on several."""
        calls = []
        for place in upstreams:
            made: Any = TaskExpression("count", (), {})
            made.call_hash = self._at(self.calls, place)
            calls.append(made)
        if not calls:
            return value
        if is_list:
            return [*calls, {"k": calls[0]}]
        return calls[0] if len(calls) == 1 else SimpleExpression("add", tuple(calls), {})

    @rule(call=places, context=st.integers(0, len(CONTEXTS) - 1), known=st.booleans())
    def record_context(self, call: int, context: int, known: bool) -> None:
        """The context of a call. On purpose different: it is a value too, also where its hash is given."""
        of, call_hash = CONTEXTS[context], self._call_at(call)
        context_hash = value_hash_of(of)
        given = context_hash if known else None
        assert self.pair.both("record_call_node_context", call_hash, given, of) == context_hash
        self._record(of)
        self.pair.compare_tags([call_hash])

    @rule(task=tasks, args_hash=arguments, value=values | st.none(), recorded=st.booleans())
    def set_evaluation(self, task: int, args_hash: int, value: int | None, recorded: bool) -> None:
        """A result in the evaluation cache, in the place of the one before; None is one that is gone."""
        of = TASKS[task]
        self._record(of)
        eval_hash = hash_eval(of.hash, ARGS[args_hash])
        if value is None:
            self.record_bytes(GONE)
            result, value_hash = None, self.recorded[self.recorded.index(self._gone_hash())]
        else:
            result = VALUES[value]()
            value_hash = self._record(result) if recorded else None
        self.pair.both("set_eval_cache", eval_hash, of.hash, ARGS[args_hash], result, value_hash)
        if value is not None:
            self.recorded = list(dict.fromkeys([*self.recorded, value_hash_of(result)]))
        self._ask_all(task, args_hash)

    def _gone_hash(self) -> str:
        return str(registry.get_value("stands in").get_hash(data=GONE))

    @rule(
        task=tasks,
        args_hash=arguments,
        execution=st.integers(0, 1),
        current=task_sets,
        scope=st.sampled_from(list(CacheScope)),
        check=st.sampled_from(list(CacheCheckValid)),
        context=contexts,
        allowed=st.none() | st.sets(st.sampled_from(list(CacheResult))),
    )
    def check_cache(
        self,
        task: int,
        args_hash: int,
        execution: int,
        current: set[str],
        scope: CacheScope,
        check: CacheCheckValid,
        context: int | None,
        allowed: set[CacheResult] | None,
    ) -> None:
        """Any question to the caches."""
        context_hash = None if context is None else value_hash_of(CONTEXTS[context])
        of = TASKS[task]
        self.pair.compare_cache(
            of.hash,
            ARGS[args_hash],
            hash_eval(of.hash, ARGS[args_hash]),
            EXECUTIONS[execution],
            current,
            scope,
            check,
            context_hash=context_hash,
            allowed_cache_results=allowed,
        )

    def _ask_all(self, task: int, args_hash: int, pair: Pair | None = None) -> None:
        """Ask for one call in all executions and both ways, and why it is missing."""
        self.cached.add((task, args_hash))
        of, everything = TASKS[task], {each.hash for each in TASKS}
        eval_hash = hash_eval(of.hash, ARGS[args_hash])
        asked = of.hash, ARGS[args_hash], eval_hash
        for execution_id, check, current in (
            (EXECUTIONS[0], CacheCheckValid.FULL, everything),
            (EXECUTIONS[1], CacheCheckValid.SHALLOW, everything),
            ("none", CacheCheckValid.SHALLOW, {of.hash}),
        ):
            (pair or self.pair).compare_cache(*asked, execution_id, current, CacheScope.BACKEND, check)
        (pair or self.pair).explain(of, ARGS[args_hash], in_order=pair is None)

    @rule(task=tasks, args_hash=arguments | st.none())
    def explain_miss(self, task: int, args_hash: int | None) -> None:
        """Why a call is not in the cache."""
        asked = some_hash("unknown") if args_hash is None else ARGS[args_hash]
        self.pair.explain(TASKS[task], asked)
