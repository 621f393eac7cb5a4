"""The table of handles as runs: a refresh writes the states that changed, and reads come to the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from store_kit import flip, open_store
from tables_kit import ALL, Noted, add, assert_tables, expected, file_of, frame_of, h, jobs, shrink

from eventstore import (
    EventStore,
    HandleAdvanced,
    HandleForked,
    HandleRecorded,
    HandleRolledBack,
    ProjectionError,
)
from projections import (
    Snapshot,
    content_digest,
    find_snapshot,
    open_tables,
    rebuild,
    refresh,
    reproduce,
)
from projections.deltas import ChangesDelta, delta_of
from projections.fold import fold_events
from projections.handles import HANDLES, HandlesProjection
from projections.projection import text
from projections.tables import INDEXES

CHAINS = 100
"""So many handles, each of three states: base, fork, and what came of it."""


def recorded(name: str, full: str = "db") -> HandleRecorded:
    """Return the record of a state."""
    return HandleRecorded(handle_hash=h(name), handle_name=full, value_hash=h(f"value of {name}"))


def advanced(child: str, *parents: str, full: str = "db") -> HandleAdvanced:
    """Return an advance from parents to a child."""
    return HandleAdvanced(handle_hash=h(child), handle_name=full, parents=tuple(map(h, parents)))


def forked(child: str, parent: str) -> HandleForked:
    """Return a fork of a parent."""
    return HandleForked(handle_hash=h(child), handle_name="db", handle_key=child, parents=(h(parent),))


def rolled_back(name: str) -> HandleRolledBack:
    """Return a rollback to a state."""
    return HandleRolledBack(handle_hash=h(name), handle_name="db")


def chains(first: int, end: int) -> Iterator[Any]:
    """Yield what makes the chains with these numbers known: base -> fork -> after."""
    for number in range(first, end):
        yield recorded(f"base {number}")
        yield forked(f"fork {number}", f"base {number}")
        yield advanced(f"after {number}", f"fork {number}")


@pytest.fixture
def place(tmp_path: Path) -> Noted:
    """A store in memory with many handles, built; what is done to its storage is written down."""
    made = Noted(tmp_path / "state")
    add(made.store, *chains(0, CHAINS))
    rebuild(made.store, ["handles"])
    made.forget()
    return made


def sizes(snapshot: Snapshot) -> list[int]:
    """Return the rows of a snapshot's runs."""
    return [run.rows for run in snapshot.manifest.runs]


def newest_run(snapshot: Snapshot) -> set[str]:
    """Return of which states the newest run has rows."""
    states = snapshot.scan(snapshot.manifest.runs[-1], "state").collect()["handle_hash"].to_list()
    assert len(set(states)) == len(states)
    return set(states)


def assert_handles(store: EventStore) -> None:
    """The table is one fold over the log, however it is read, and has the digest of a rebuild of nothing."""
    tables = open_tables(store, ["handles"])
    assert_tables(store, tables)
    table = expected(store, HANDLES, tables.position)
    assert tables.views["handles"].content() == (table.height, content_digest(table, HANDLES.key))
    assert tables.lookup_many("handles", table["handle_hash"].to_list()) == table.to_dicts()


# what is written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "changed"),
    [
        ([recorded("base 7"), recorded("after 7")], {"after 7"}),
        ([forked("new", "base 7")], {"base 7", "new"}),
        ([advanced("new", "after 7", "after 8")], {"after 7", "after 8", "new"}),
        ([advanced("fork 8", "base 7")], {"base 7"}),
        ([advanced("new", full="other"), advanced("base 7", "new", full="other")], {"new"}),
        ([rolled_back("base 7")], {"fork 7", "after 7"}),
        ([rolled_back("fork 7"), recorded("base 7")], {"after 7"}),
        ([rolled_back("base 7"), advanced("after 7", "fork 7")], {"fork 7", "after 7"}),
        ([forked("new", "base 7"), rolled_back("base 7")], {"base 7", "fork 7", "after 7", "new"}),
    ],
    ids=["value", "fork", "merge", "edge", "names", "rollback", "leaf", "again", "both"],
)
def test_a_refresh_writes_the_states_that_changed(place: Noted, events: list[Any], changed: set[str]) -> None:
    """Of many states those that events changed are written, whole, and the first run stays as it is."""
    add(place.store, *events)
    made = refresh(place.store, ["handles"])["handles"]
    assert sizes(made) == [3 * CHAINS, len(changed)]
    assert newest_run(made) == {h(name) for name in changed}
    [file] = place.noted("put")
    assert f"/runs/{made.manifest.runs[1].name}/state/" in file
    assert_handles(place.store)
    assert [one.ok for one in reproduce(place.store, ["handles"])] == [True]
    digest = refresh(place.store, ["handles"], merge="all")["handles"].digest
    assert digest == rebuild(place.store, ["handles"])["handles"].digest


@pytest.mark.parametrize(
    "events",
    [
        [recorded("base 7")],
        [advanced("after 7", "fork 7")],
        [rolled_back("after 7")],
        [rolled_back("nowhere")],
        list(chains(0, CHAINS)),
    ],
    ids=["record", "advance", "leaf", "unknown", "all"],
)
def test_what_changes_nothing_writes_no_run(place: Noted, events: list[Any]) -> None:
    """States that are mentioned again are what they were, unless that is news: only the position moves."""
    add(place.store, *events)
    made = refresh(place.store, ["handles"])["handles"]
    assert sizes(made) == [3 * CHAINS]
    assert made.position == 3 * CHAINS + len(events)
    assert place.noted("put") == []
    assert_handles(place.store)


def test_the_state_is_read_for_events_of_handles_alone(place: Noted) -> None:
    """A refresh without such events reads manifests only; with one it reads the state, which is checked."""

    def read() -> set[str]:
        paths = place.noted("read", "open", "polars_source")
        return {path.split("/")[4] for path in paths if "/manifests/" not in path}

    add(place.store, *jobs(0, 3))
    store = place.open()
    place.forget()
    refresh(store, ["handles"])
    assert read() == set()
    add(place.store, recorded("new"))
    store = place.open()
    place.forget()
    made = refresh(store, ["handles"])["handles"]
    assert read() == {made.manifest.runs[0].name}


def test_runs_are_merged_by_size(place: Noted) -> None:
    """Over many refreshes the number of runs stays small, and each row is written a few times in all."""
    rounds, rows_written = 25, 0
    for number in range(CHAINS, CHAINS + rounds):
        add(place.store, *chains(number, number + 1), rolled_back(f"base {number - 50}"))
        place.forget()
        made = refresh(place.store, ["handles"])["handles"]
        assert all(larger >= 4 * smaller for larger, smaller in pairwise(sizes(made)))
        wrote = {path.split("/")[4] for path in place.noted("put")}
        rows_written += sum(run.rows for run in made.manifest.runs if run.name in wrote)
    assert rows_written <= (3 * CHAINS + 5 * rounds) * (2 + math.log(rounds, 4))
    assert_handles(place.store)


# what a fold finds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_a_rollback_reaches_through_all_runs_and_batches(
    place: Noted, monkeypatch: pytest.MonkeyPatch, batch_rows: int
) -> None:
    """Below one state: what several runs know, what they know anew, and what came in the batches before."""
    monkeypatch.setattr("projections.builder._TIER", 0)
    monkeypatch.setitem(fold_events.__kwdefaults__, "batch_rows", batch_rows)
    add(place.store, advanced("one", "after 7"))
    refresh(place.store, ["handles"])
    add(place.store, rolled_back("after 7"), advanced("two", "one"))
    refresh(place.store, ["handles"])
    add(place.store, advanced("strange", full="other"), advanced("strange", "two"))
    assert sizes(refresh(place.store, ["handles"])["handles"]) == [3 * CHAINS, 2, 2, 2]
    add(
        place.store,
        advanced("below", "strange", full="other"),  # not reached: by another name
        advanced("three", "two"),
        *jobs(0, 2),
        advanced("four", "three"),
        rolled_back("base 7"),
        advanced("five", "two"),
        rolled_back("fork 7"),  # which is not valid: nothing below it changes
    )
    made = refresh(place.store, ["handles"])["handles"]
    assert sizes(made)[:-1] == [3 * CHAINS, 2, 2, 2]
    reached = {"fork 7", "after 7", "one", "two", "three", "four", "strange"}
    assert newest_run(made) == {h(name) for name in reached | {"below", "five"}}
    handles = open_tables(place.store, ["handles"])["handles"]
    valid = set(handles.filter("is_valid").collect()["handle_hash"])
    assert not valid & {h(name) for name in reached - {"two"}}
    assert valid >= {h(name) for name in ("base 7", "two", "below", "five")}
    assert_handles(place.store)


def test_changes_are_those_since_the_fold_began() -> None:
    """A fold says what it changed of a given state, also what it changed back; the state has the rest."""
    before = HANDLES.fold(None, frame_of(chains(0, 3)))
    fold = HANDLES.begin(before)
    assert fold.changes().equals(HANDLES.state_schema.to_frame())
    fold.add(HANDLES.pick(frame_of([rolled_back("base 1"), *chains(1, 2)], first=9)))
    assert set(fold.changes()["handle_hash"]) == {h("fork 1"), h("after 1")}
    assert fold.changes()["position"].to_list() == [4, 5]
    assert fold.state().sort("handle_hash").equals(before.sort("handle_hash"))


def test_a_delta_reads_the_state_once_and_says_its_rows_at_any_time() -> None:
    """Nothing is read before the first events; what is asked between batches does not stay as it was."""
    before, reads = HANDLES.fold(None, frame_of(chains(0, 3))), []

    def read() -> pl.DataFrame:
        reads.append(before)
        return before

    delta = delta_of(HANDLES, read, 9)
    assert isinstance(delta, ChangesDelta)
    assert (delta.rows, delta.empty, delta.sequences(), reads) == (0, True, [], [])
    for number, rows in ((0, 2), (2, 4)):
        delta.add(HANDLES.pick(frame_of([rolled_back(f"base {number}")], first=9 + number)))
        assert (delta.rows, delta.empty, len(reads)) == (rows, False, 1)
        assert delta.frame()["handle_hash"].is_sorted()


def test_rows_that_are_not_whole_are_refused() -> None:
    """Of each column of the state the last cell counts, so a recipe that says otherwise is malformed."""
    state = {**(HANDLES.state or {}), "handle_name": text("full name", "first")}
    with pytest.raises(ProjectionError, match="'last'") as got:
        HandlesProjection(**{**vars(HANDLES), "state": state})
    assert got.value.code == "bad_projection"
    with pytest.raises(ProjectionError) as got:
        HandlesProjection(**{**vars(HANDLES), "first_event_of": ("handle_hash",)})
    assert got.value.code == "bad_projection"


# what readers find ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("small", [False, True])
def test_every_position_is_the_fold_of_what_is_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    """Between runs, at their ends, and where a refresh changed something and changed it back."""
    monkeypatch.setattr("projections.builder._TIER", 0)
    if small:
        shrink(monkeypatch)
    with open_store(tmp_path / "store") as store:
        for events in (
            chains(0, 3),
            [rolled_back("base 1"), recorded("fork 1"), recorded("after 1")],
            [recorded("base 1"), recorded("fork 1")],
            [rolled_back("base 2"), advanced("new", "base 2")],
            [rolled_back("after 0"), recorded("base 0")],
            [advanced("after 2", "fork 2")],
        ):
            add(store, *events)
            made = refresh(store, ["handles"])["handles"]
        assert [(run.first, run.until) for run in made.manifest.runs] == [(0, 9), (9, 12), (14, 16), (18, 19)]
        for position in range(store.head().size + 1):
            with open_tables(store, ["handles"], at=position) as tables:
                assert_tables(store, tables, position)
                table = expected(store, HANDLES, position)
                found = tables.lookup_many("handles", table["handle_hash"].to_list())
                assert found == table.to_dicts(), position


def test_one_state_is_looked_up_whether_it_changed_or_not(place: Noted) -> None:
    """What runs say of a state counts by the newest; the first run's state is not indexed for it."""
    add(place.store, rolled_back("base 7"), forked("new", "base 7"))
    refresh(place.store, ["handles"])
    with open_tables(place.store, ["handles"]) as tables:
        assert len(tables.views["handles"].parts) == 2
        found = tables.lookup_many("handles", [h(one) for one in ("base 8", "fork 7", "new", "nowhere")])
        assert [one and (one["position"], one["is_valid"], one["handle_key"]) for one in found] == [
            (24, True, ""),
            (22, False, "fork 7"),
            (301, True, "new"),
            None,
        ]
    indexed = sorted(
        path.name.split("-")[-2] for path in (place.store.local_folder / INDEXES).rglob("*.index")
    )
    assert indexed == ["state", "table"]


def test_the_tail_is_folded_behind_the_runs(place: Noted) -> None:
    """Unsealed events change states of the runs for this reader, and no file."""
    add(place.store, advanced("one", "after 7"))
    before = refresh(place.store, ["handles"])["handles"]
    place.store.append(advanced("two", "one"), rolled_back("base 7"), recorded("one"))
    place.forget()
    with open_tables(place.store, ["handles"], fresh="tail") as tables:
        table = tables["handles"]
        names = ("base 7", "fork 7", "after 7", "one", "two")
        found = {one: tables.lookup("handles", h(one)) for one in names}
        assert [one for one in names if (found[one] or {})["is_valid"]] == ["base 7", "one"]
        assert table.filter(~pl.col("is_valid")).collect().height == 3
        assert table.select(pl.len()).collect().item() == 3 * CHAINS + 2
    assert place.noted("put", "create") == []
    assert find_snapshot(place.store, HANDLES) == before


def test_a_damaged_run_is_found_when_the_state_is_needed(tmp_path: Path) -> None:
    """The table is built anew from the log, and its refresh goes on."""
    with open_store(tmp_path / "store") as store:
        add(store, *chains(0, 20))
        rebuild(store, registry=ALL)
        add(store, advanced("one", "after 7"))
        made = refresh(store, registry=ALL)["handles"]
        flip(file_of(store, made, 1), 40)
        add(store, *jobs(0, 1))
        assert sizes(refresh(store, registry=ALL)["handles"]) == [60, 2]
        add(store, rolled_back("base 7"))
        assert sizes(refresh(store, registry=ALL)["handles"]) == [61]
        assert_tables(store, open_tables(store, registry=ALL))
