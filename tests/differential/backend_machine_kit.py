"""Any sequence of calls of redun's contract, on both sides; what each answers is compared after each step."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import redun.backends.db as redun_db
from backend_history_kit import EXECUTIONS, HistoryMachine, places, tag_pairs
from backend_material_kit import some_hash
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from redun.backends.base import TagEntity
from redun.handle import Handle

kinds = st.sampled_from([each for each in TagEntity if each is not TagEntity.Null])


class BackendMachine(HistoryMachine):
    """Also tags, handles and records, and a second pair that takes in what the first exports."""

    def teardown(self) -> None:
        """At the end everything is compared, once as it is and once from our log alone."""
        if not hasattr(self, "pair"):
            return
        try:
            self.compare_all()
            self.pair.reopen(elsewhere=True)
            self.compare_all()
        finally:
            self.pair.close()
            self.other.close()
            self._patched.close()

    # tags ------------------------------------------------------------------------------------------------

    @rule(
        kind=kinds,
        entity=places,
        pairs=tag_pairs,
        parents=st.lists(places, max_size=2),
        how=st.sampled_from(["", "", "update", "new"]),
    )
    def record_tags(
        self, kind: TagEntity, entity: int, pairs: list[tuple[str, Any]], parents: list[int], how: str
    ) -> None:
        """Tags on anything, perhaps in the place of any others."""
        replaced = list({self._at(self.tags, place) for place in parents if self.tags})
        entity_id = self._entity(entity)
        options = {how: True} if how else {}
        made = self.pair.record_tags(kind, entity_id, pairs, parents=replaced, **options)
        self._tagged(entity_id, made)

    @rule(
        kind=kinds, entity=places, old=st.sampled_from([["env"], ["env", "user"], ["none"]]), pairs=tag_pairs
    )
    def update_tags(self, kind: TagEntity, entity: int, old: list[str], pairs: list[tuple[str, Any]]) -> None:
        """Tags in the place of all with the old keys, which renames them."""
        entity_id = self._entity(entity)
        once = list({(key, repr(value)): (key, value) for key, value in pairs}.values())
        made = self.pair.both("update_tags", kind, entity_id, old, once)
        self._tagged(entity_id, [each[0] for each in made])

    @rule(
        entity=places,
        pairs=tag_pairs,
        keys=st.sampled_from([[], ["env"], ["user", "none"], ["redun.context"]]),
    )
    def delete_tags(self, entity: int, pairs: list[tuple[str, Any]], keys: list[str]) -> None:
        """Tags taken off by pair or by key."""
        if pairs or keys:
            entity_id = self._entity(entity)
            self._tagged(entity_id, self.pair.delete_tags(entity_id, pairs, keys))

    def _tagged(self, entity_id: str, tag_hashes: list[str]) -> None:
        self.tags = list(dict.fromkeys([*self.tags, *tag_hashes]))
        self.pair.compare_tags([entity_id, "", "elsewhere"])
        self.pair.records(tag_hashes)

    # handles ---------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.handles) < 6)
    @rule(place=places, key=st.sampled_from([None, "k", "l"]))
    def make_handle(self, place: int, key: str | None) -> None:
        """A fork, or what a call made of a state; not recorded yet."""
        before = self._at(self.handles, place)
        made = [each.fork(key) if key else each.apply_call(some_hash("call")) for each in before]
        self.handles.append((made[0], made[1]))

    @rule(place=places)
    def read_handle_back(self, place: int) -> None:
        """The same state in another process, which does not know what it was forked from."""
        place %= len(self.handles)
        ours, other = (pickle.loads(pickle.dumps(each, protocol=3)) for each in self.handles[place])
        self.handles[place] = ours, other

    @rule(before=st.lists(places, max_size=2, unique=True), after=places)
    def advance_handle(self, before: list[int], after: int) -> None:
        """None, one or two states lead to another."""
        chosen = list({place % len(self.handles): self._at(self.handles, place) for place in before}.values())
        child = self._at(self.handles, after)
        self.pair.ours.advance_handle([ours for ours, _ in chosen], child[0])
        self.pair.theirs.advance_handle([other for _, other in chosen], child[1])
        self._handles_agree([*chosen, child])

    @rule(place=places)
    def roll_back(self, place: int) -> None:
        """What follows from a state becomes invalid.

        On purpose different: it is recorded at once, and never makes the state itself invalid.
        """
        ours, other = self._at(self.handles, place)
        before = self.pair.theirs.is_valid_handle(other)
        self.pair.ours.rollback_handle(ours)
        self.pair.theirs.rollback_handle(other)
        self.pair.theirs.session.commit()
        if before and not self.pair.theirs.is_valid_handle(other):
            self.pair.theirs.advance_handle([], pickle.loads(pickle.dumps(other, protocol=3)))

    def _handles_agree(self, touched: list[tuple[Handle, Handle]]) -> None:
        hashes = []
        for ours, other in touched:
            assert ours.__handle__.is_recorded is other.__handle__.is_recorded is True
            hashes.append(ours.__handle__.hash)
        self.recorded = list(dict.fromkeys([*self.recorded, *hashes]))
        self.pair.compare_values(hashes)

    @invariant()
    def same_handles_are_valid(self) -> None:
        """Of all states there are, the same are valid."""
        if hasattr(self, "pair"):
            for ours, other in self.handles:
                valid = self.pair.theirs.is_valid_handle(other)
                assert self.pair.ours.is_valid_handle(ours) is bool(valid)

    # records ---------------------------------------------------------------------------------------------

    @rule(roots=st.lists(places, max_size=3), in_order=st.booleans())
    def walk(self, roots: list[int], in_order: bool) -> None:
        """What some ids own, as ids and as records, in order with repeats, or by type."""
        chosen = [self._at(self.ids(), 3 * place) for place in roots]
        found = self.pair.walk(chosen)
        self.pair.records([*chosen, *found[:60], *chosen] if in_order else found[:60], in_order=in_order)

    @rule(roots=st.none() | st.lists(places, min_size=1, max_size=2), data=st.data())
    def move(self, roots: list[int] | None, data: st.DataObject) -> None:
        """Some or all goes to the other pair: ours to redun's, redun's to ours, in any order."""
        chosen = self.ids() if roots is None else [self._at(self.ids(), 3 * place) for place in roots]
        ids = self.pair.walk(chosen)
        ids = [*ids[len(ids) // 2 :], *ids[: len(ids) // 2]] if data.draw(st.booleans()) else ids
        ours = list(self.pair.ours.get_records(ids))
        other = list(self.pair.theirs.get_records(ids))
        repeated = data.draw(st.integers(0, 2))
        self.other.put_records(ours + ours[:repeated], other + other[:repeated])
        self.moved = list(dict.fromkeys([*self.moved, *ids]))
        self.other.records(ids)

    # the store -------------------------------------------------------------------------------------------

    @rule(how=st.sampled_from(["flush", "seal", "reopen", "elsewhere"]))
    def settle(self, how: str) -> None:
        """Ours goes from the journal to the store, into the index, or is opened anew."""
        if how in {"flush", "seal"}:
            getattr(self.pair.ours.log.store, how)()
        else:
            self.pair.reopen(elsewhere=how == "elsewhere")
            # What is pending is in memory, and goes with it.
            self.pair.theirs._executions.clear()
            self.pending.clear()

    def compare_all(self) -> None:
        """Every answer there is."""
        ids = self.ids()
        self.pair.records(ids)
        self.pair.compare_values(self.recorded)
        self.pair.compare_tags([*ids, "elsewhere", ""])
        self.pair.walk(ids)
        self.other.records(self.moved)
        self.other.compare_values(self.recorded)
        self.other.compare_tags([*self.moved, "elsewhere", ""])
        for call_hash in self.calls:
            self.pair.both("get_subtree_tasks", call_hash)
            self.other.both("get_subtree_tasks", call_hash)
        for job in self.jobs:
            self.pair.both("get_job", job.id)
            self.other.both("get_job", job.id)
        for task, args_hash in sorted(self.cached):
            self._ask_all(task, args_hash)
            self._ask_all(task, args_hash, self.other)
        self._compare_executions()
        self.same_handles_are_valid()

    def _compare_executions(self) -> None:
        """Heartbeat and status, which redun's contract has no question for."""
        for execution_id in EXECUTIONS:
            row = self.pair.theirs.session.get(redun_db.Execution, execution_id)
            state = self.pair.ours.log.get_execution(execution_id)
            assert (row is None) == (state is None)
            if row is None or state is None:
                continue
            beat = row.updated_time
            at = (
                None
                if beat is None
                else (beat - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
            )
            assert (state.job_id, state.args, state.updated_us) == (row.job_id, row.args, at)
            status = "FAILED" if row.job_id in self.pair.failed else row.status
            assert state.status == status
