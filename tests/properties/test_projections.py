"""Laws of projections: how the log is cut does not matter; validity and currency agree with plain models."""

from __future__ import annotations

import datetime as dt
import io
from collections import defaultdict
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from tables_kit import frame_of, handle_events, histories, table_from, tag_events

from eventstore import (
    ExecutionStarted,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    TagsDeleted,
)
from projections import BUILT_IN_TABLES, KeyedProjection, content_digest
from projections.handles import HANDLE_EDGES, HANDLES
from projections.tags import TAG_EDITS, TAGS

_table = st.sampled_from([one for one in BUILT_IN_TABLES if isinstance(one, KeyedProjection)])
_cuts = st.lists(st.integers(0, 25), max_size=5)


@given(events=histories, cuts=_cuts)
def test_any_split_into_batches_folds_to_the_same_table(events: list[Any], cuts: list[int]) -> None:
    """For every built-in table: cutting the log anywhere, as refreshes do, changes no cell and no digest."""
    frame = frame_of(events)
    for one in BUILT_IN_TABLES:
        split = table_from(one, frame, [min(cut, frame.height) for cut in cuts])
        whole = table_from(one, frame)
        assert split.equals(whole), one.name
        assert content_digest(split, one.key) == content_digest(whole, one.key)


@given(events=histories, one=_table, cut=st.integers(0, 25), other=st.integers(0, 25))
def test_partial_states_merge_in_any_grouping(events: list[Any], one: Any, cut: int, other: int) -> None:
    """(A B) C = A (B C) for the states of neighbouring ranges, each folded from nothing."""
    frame = frame_of(events)
    first, second = sorted((min(cut, frame.height), min(other, frame.height)))
    ranges = (frame[:first], frame[first:second], frame[second:])
    a, b, c = (one.partial(one.pick(part)) for part in ranges)
    left = one.table(one.merge([one.merge([a, b]), c]))
    right = one.table(one.merge([a, one.merge([b, c])]))
    assert left.equals(right)
    assert left.equals(table_from(one, frame))


@given(events=histories, one=st.sampled_from(BUILT_IN_TABLES), cut=st.integers(0, 25))
def test_a_state_survives_parquet(events: list[Any], one: Any, cut: int) -> None:
    """A fold that goes on from a saved state comes to the table of one pass."""
    frame = frame_of(events)
    buffer = io.BytesIO()
    one.fold(None, frame.head(cut)).write_parquet(buffer)
    buffer.seek(0)
    resumed = one.fold(pl.read_parquet(buffer), frame.slice(cut))
    assert one.table(resumed).equals(table_from(one, frame))


@given(events=st.lists(handle_events, max_size=30), cut=st.integers(0, 30), other=st.integers(0, 30))
def test_changes_of_neighbouring_ranges_join_in_any_grouping(events: list[Any], cut: int, other: int) -> None:
    """(A B) C = A (B C) for the rows that ranges changed, each folded from the state before it."""
    frame = frame_of(events)
    first, second = sorted((min(cut, frame.height), min(other, frame.height)))
    changes, state = [], None
    for part in (frame[:first], frame[first:second], frame[second:]):
        fold = HANDLES.begin(state)
        fold.add(HANDLES.pick(part))
        changes.append(fold.changes())
        state = fold.state()
    a, b, c = changes
    left = HANDLES.table(HANDLES.merge([HANDLES.merge([a, b]), c]))
    right = HANDLES.table(HANDLES.merge([a, HANDLES.merge([b, c])]))
    assert left.equals(right)
    assert left.equals(table_from(HANDLES, frame))


@given(before=st.lists(handle_events, max_size=20), events=st.lists(handle_events, max_size=4))
def test_what_is_not_among_the_changes_never_changed(before: list[Any], events: list[Any]) -> None:
    """A state that a fold does not name had one row at every position on the way."""
    frame = frame_of([*before, *events])
    state = HANDLES.fold(None, frame.head(len(before)))
    fold = HANDLES.begin(state)
    fold.add(HANDLES.pick(frame.slice(len(before))))
    changed = pl.col("handle_hash").is_in(fold.changes()["handle_hash"].to_list())
    others = [
        HANDLES.table(HANDLES.fold(None, frame.head(end))).filter(~changed)
        for end in range(len(before), frame.height + 1)
    ]
    assert all(one.equals(others[0]) for one in others)


# independent models --------------------------------------------------------------------------------------


@given(events=st.lists(handle_events, max_size=30), cuts=_cuts)
def test_handles_agree_with_a_plain_model(events: list[Any], cuts: list[int]) -> None:
    """Validity and edges are those of sets that follow the rules one sentence at a time."""
    valid: set[str] = set()
    full_name: dict[str, str] = {}
    edges: set[tuple[str, str]] = set()
    for event in events:
        if isinstance(event, HandleRolledBack):
            passable = {one for one in valid if full_name[one] == event.handle_name}
            usable = {(parent, child) for parent, child in edges if parent in passable}
            below: set[str] = set()
            while True:
                more = {child for parent, child in usable if parent in below | {event.handle_hash}}
                if more <= below:
                    break
                below |= more
            valid -= below - {event.handle_hash}
            continue
        parents = getattr(event, "parents", ())
        for one in (*parents, event.handle_hash):
            full_name.setdefault(one, event.handle_name)
            valid.add(one)
        edges |= {(parent, event.handle_hash) for parent in parents}
    if not events:
        return
    frame = frame_of(events)
    handles = table_from(HANDLES, frame, [min(cut, len(events)) for cut in cuts])
    assert dict(handles.select("handle_hash", "handle_name").iter_rows()) == full_name
    assert set(handles.filter("is_valid")["handle_hash"]) == valid
    found = table_from(HANDLE_EDGES, frame)
    assert set(found.select("parent_hash", "child_hash").iter_rows()) == edges
    assert found.height == len(edges)


@given(events=st.lists(tag_events, max_size=20), cuts=_cuts)
def test_tags_agree_with_a_plain_model(events: list[Any], cuts: list[int]) -> None:
    """A tag's first record stays, and it is current if and only if it is no tag's parent."""
    records: dict[str, tuple[Any, ...]] = {}
    children: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if isinstance(event, TagsDeleted):
            made = [(event.tag_hash, ("Null", "", "", "null", event.occurred_at, event.reason))]
        else:
            made = [
                (
                    tag.tag_hash,
                    (
                        str(event.entity_type),
                        event.entity_id,
                        tag.key,
                        tag.value,
                        event.occurred_at,
                        event.reason,
                    ),
                )
                for tag in event.tags
            ]
        for hash_, record in made:
            records.setdefault(hash_, record)
            for parent in event.superseded:
                children[parent].add(hash_)
    if not events:
        return
    frame = frame_of(events)
    tags = table_from(TAGS, frame, [min(cut, len(events)) for cut in cuts])
    columns = ("tag_hash", "entity_type", "entity_id", "key", "value", "occurred_at", "reason")
    found = {row[0]: row[1:] for row in tags.select(columns).iter_rows()}
    assert found == records
    assert set(tags.filter("is_current")["tag_hash"]) == {one for one in records if one not in children}
    edits = table_from(TAG_EDITS, frame).select("parent_hash", "tag_hash")
    assert sorted(edits.iter_rows()) == sorted((old, new) for old, made in children.items() for new in made)


@given(events=histories)
def test_runs_agree_with_a_plain_model(events: list[Any]) -> None:
    """Status, times and call nodes of jobs and executions are those of a loop over the events."""
    starts: dict[str, dt.datetime] = {}
    ends: dict[str, list[Any]] = defaultdict(list)
    roots: dict[str, str | None] = {}
    stated: set[str] = set()
    for event in events:
        if isinstance(event, ExecutionStarted):
            stated.add(event.execution_id)
        if isinstance(event, JobStarted):
            starts.setdefault(event.job_id, event.occurred_at)  # type: ignore[arg-type]
        if isinstance(event, JobEnded):
            ends[event.job_id].append(event)
        if isinstance(event, (JobStarted, JobEnded)) and event.parent_id is None:
            roots.setdefault(event.execution_id, None)
            if isinstance(event, JobEnded):
                roots[event.execution_id] = str(event.status)
    expected = {}
    for job in starts.keys() | ends.keys():
        last = ends[job][-1] if ends[job] else None
        start = starts[job] if job in starts else ends[job][0].occurred_at
        expected[job] = (
            str(last.status) if last else "RUNNING",
            last.cached if last else False,
            last.call_hash if last else None,
            start,
            last.occurred_at if last else None,
        )
    by_name = {one.name: one for one in BUILT_IN_TABLES}
    frame = frame_of(events)
    columns = ("job_id", "status", "cached", "call_hash", "started_at", "ended_at")
    jobs = table_from(by_name["jobs"], frame).select(columns)
    assert {row[0]: row[1:] for row in jobs.iter_rows()} == expected
    statuses = {
        one: "FAILED"
        if one not in roots or roots[one] == "FAILED"
        else "RUNNING"
        if roots[one] is None
        else "DONE"
        for one in stated
    }
    runs = table_from(by_name["executions"], frame).select("execution_id", "status")
    assert dict(runs.iter_rows()) == statuses
