"""Questions about tags: what stands now, what has a tag, and how the tags of an entity came to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from store_kit import memory_url, open_store
from tables_kit import at

from eventstore import EventStore, InvalidEventError
from eventstore.tags import TagEditor
from projections import Tables, open_tables
from projections.tag_answers import TAG_TABLES, TableTags, current_tags, tag_history, tagged_entities


@pytest.fixture
def store() -> Iterator[EventStore]:
    """Tags of a job that were edited, renamed and deleted, each a second after the one before."""
    with open_store(memory_url()) as store:
        edit, second = TagEditor(store.lookup), 0

        def put(events: Any, actor: str = "ada") -> None:
            nonlocal second
            for event in events if isinstance(events, list) else [events]:
                store.append(event.model_copy(update={"occurred_at": at(second), "actor": actor}))
            second += 1

        put(edit.record("Job", "j", [("state", "draft"), ("n", 1), ("n", 1.0)]))
        put(edit.record("Job", "j", {"state": "final"}, update=True, reason="done"), "eve")
        put(edit.rename("Job", "j", "state", "status"))
        put(edit.delete("j", {"n": 1}, reason="wrong"), "eve")
        put(edit.record("Task", "t", {"n": 1}))
        store.seal()
        yield store


@pytest.fixture
def tables(store: EventStore) -> Iterator[Tables]:
    """Its tables."""
    with open_tables(store, TAG_TABLES, fresh="sealed") as tables:
        yield tables


def test_current_tags_are_those_that_nothing_replaced(tables: Tables) -> None:
    """Of all entities or some; the deletion, a tag of no entity, only where it is asked for."""
    columns = ("entity_id", "key", "value")
    assert current_tags(tables).select(columns).collect().rows() == [
        ("j", "n", "1.0"),
        ("j", "status", '"final"'),
        ("t", "n", "1"),
    ]
    assert current_tags(tables, ["t", "nobody"]).select(columns).collect().rows() == [("t", "n", "1")]
    assert current_tags(tables, [""]).collect().is_empty()
    assert current_tags(tables, [""], deletions=True).select(columns).collect().rows() == [("", "", "null")]


def test_entities_are_found_by_tag(tables: Tables) -> None:
    """By key, or by key and value as canonical JSON; a replaced tag finds nothing."""
    assert tagged_entities(tables, "n").collect().rows() == [("Job", "j", "1.0"), ("Task", "t", "1")]
    assert tagged_entities(tables, "n", 1).collect().rows() == [("Task", "t", "1")]
    assert tagged_entities(tables, "status", "final").collect().height == 1
    assert tagged_entities(tables, "state").collect().is_empty()
    with pytest.raises(InvalidEventError) as caught:
        tagged_entities(tables, "n", {1, 2})
    assert caught.value.code == "bad_tag_value"


def test_history_says_what_became_of_each_tag(tables: Tables) -> None:
    """Each tag in order, with when, by whom and why it was replaced, by what, or that it was deleted."""
    rows = tag_history(tables, "j").collect().rows(named=True)
    hashes = {(row["key"], row["value"]): row["tag_hash"] for row in rows}
    found = [
        (
            row["key"],
            row["value"],
            row["is_current"],
            row["replaced_by"],
            row["replaced_reason"],
            row["deleted"],
        )
        for row in rows
    ]
    assert found == [
        ("n", "1", False, "eve", "wrong", True),
        ("n", "1.0", True, None, None, None),
        ("state", '"draft"', False, "eve", "done", False),
        ("state", '"final"', False, "ada", None, False),
        ("status", '"final"', True, None, None, None),
    ]
    by_key = {(row["key"], row["value"]): row for row in rows}
    assert by_key["state", '"draft"']["replacements"] == [hashes["state", '"final"']]
    assert by_key["state", '"draft"']["replaced_at"] == at(1)
    assert by_key["state", '"final"']["replacements"] == [hashes["status", '"final"']]
    assert by_key["n", "1"]["replacements"] == []
    assert by_key["n", "1.0"]["replacements"] is None
    keys = tag_history(tables, "j", key="state").collect()["value"].to_list()
    assert keys == ['"draft"', '"final"']
    assert tag_history(tables, "nobody").collect().is_empty()


def test_tables_answer_for_edits(tables: Tables, store: EventStore) -> None:
    """An editor over tables makes the same events as one over live answers, as nothing came since."""
    answers, live = TableTags(tables), store.lookup
    assert answers.current_tags_of(["j", "t", ""]) == live.current_tags_of(["j", "t", ""])
    for one in (TagEditor(answers), TagEditor(live)):
        (event,) = one.record("Job", "j", {"n": 1}, new=True)
        assert len(event.superseded) == 1
    assert TagEditor(answers).rename("Job", "j", "n", "m") == TagEditor(live).rename("Job", "j", "n", "m")
    assert not answers.is_superseded("0" * 40)
