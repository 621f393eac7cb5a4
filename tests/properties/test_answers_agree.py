"""Live answers and tables agree, however the log was cut into sealed and unsealed parts between questions."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from store_kit import memory_url, open_store
from tables_kit import h, handle_events

from eventstore import EventStore, TagsDeleted, TagsRecorded
from eventstore.tags import delete_tags, record_tags
from projections import open_tables, refresh
from projections.handle_answers import TableHandles
from projections.tag_answers import TAG_TABLES, TableTags

HASHES = [h(str(number)) for number in range(5)]
ENTITIES = ["x", "y", ""]


def write(store: EventStore, events: list[Any], after: str) -> None:
    """Append events, and let them stay in the tail, become durable, be sealed, or be built into tables."""
    if events:
        store.append(*events)
    if after == "flush":
        store.flush()
    elif after != "stay":
        store.seal()
    if after == "refresh":
        refresh(store, ["handles", *TAG_TABLES])


afterwards = st.sampled_from(["stay", "flush", "seal", "refresh", "refresh"])


@given(st.lists(st.tuples(st.lists(handle_events, max_size=6), afterwards), min_size=1, max_size=4))
@settings(max_examples=12)
def test_live_handles_are_those_of_the_table(chunks: list[tuple[list[Any], str]]) -> None:
    """Asked again after each part, then with the tail and after the last seal, both say the same."""
    with open_store(memory_url()) as store:
        live = store.lookup
        for events, after in chunks:
            write(store, events, after)
            with open_tables(store, ["handles"], fresh="tail") as tables:
                found = [TableHandles(tables).is_valid_handle(one) for one in HASHES]
            assert found == [live.is_valid_handle(one) for one in HASHES]
        for fresh in ("tail", "sealed"):
            with open_tables(store, ["handles"], fresh=fresh) as tables:
                answers = TableHandles(tables)
                for one in HASHES:
                    assert live.is_valid_handle(one) == answers.is_valid_handle(one)
                    assert live.knows_handle(one) == answers.knows_handle(one)
            store.seal()


pairs = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([1, "x"])), min_size=1, max_size=2)
edits = st.tuples(st.sampled_from(["x", "y"]), st.none() | pairs, st.sets(st.integers(0, 20), max_size=2))


def events_of(edits: list[Any]) -> list[TagsRecorded | TagsDeleted]:
    """Return tags and deletions over any tags before them."""
    made: list[Any] = []
    hashes: list[str] = []
    for entity_id, pairs, places in edits:
        over = [hashes[place % len(hashes)] for place in places if hashes]
        event = record_tags("Job", entity_id, pairs, superseded=over) if pairs else delete_tags(over)
        assert event is not None
        hashes += [tag.tag_hash for tag in getattr(event, "tags", ())] or [event.tag_hash]  # type: ignore[union-attr]
        made.append(event)
    return made


@given(st.lists(edits, min_size=1, max_size=14), st.lists(afterwards, min_size=1, max_size=4), st.data())
@settings(max_examples=12)
def test_live_tags_are_those_of_the_table(edits: list[Any], parts: list[str], data: st.DataObject) -> None:
    """Entities asked about early or late, with the tail and after the last seal: both say the same."""
    events = events_of(edits)
    hashes = {tag.tag_hash for event in events for tag in getattr(event, "tags", ())} | set(HASHES)
    size = -(-len(events) // len(parts))
    with open_store(memory_url()) as store:
        live = store.lookup
        for place, after in enumerate(parts):
            chunk = events[place * size : (place + 1) * size]
            write(store, chunk, after)
            with open_tables(store, TAG_TABLES, fresh="tail") as tables:
                for entity_id in data.draw(st.sets(st.sampled_from(ENTITIES))):
                    assert live.current_tags(entity_id) == TableTags(tables).current_tags(entity_id)
        for fresh in ("tail", "sealed"):
            with open_tables(store, TAG_TABLES, fresh=fresh) as tables:
                answers = TableTags(tables)
                assert live.current_tags_of(ENTITIES) == answers.current_tags_of(ENTITIES)
                for one in hashes:
                    assert live.is_superseded(one) == answers.is_superseded(one)
            store.seal()
