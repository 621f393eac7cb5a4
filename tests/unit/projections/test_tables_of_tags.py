"""The tables of tags, from their events by hand: what is current, and what replaced what."""

from __future__ import annotations

from typing import Any

from tables_kit import at, h, rows_of

from eventstore import Tag, TagsDeleted, TagsRecorded
from projections.tags import TAG_EDITS, TAGS


def tagged(*names: str, over: tuple[str, ...] = (), second: int = 1, **more: Any) -> TagsRecorded:
    """Return the record of tags, each its own key, over others."""
    more.setdefault("entity_type", "Job")
    more.setdefault("entity_id", "j")
    tags = tuple(Tag(tag_hash=h(name), key=name, value=f'"{name}"') for name in names)
    return TagsRecorded(tags=tags, superseded=tuple(h(one) for one in over), occurred_at=at(second), **more)


def deleted(name: str, *over: str) -> TagsDeleted:
    """Return a deletion of tags."""
    return TagsDeleted(tag_hash=h(name), superseded=tuple(h(one) for one in over), occurred_at=at(9))


def current(*events: TagsRecorded | TagsDeleted) -> set[str]:
    """Return the keys of current tags."""
    return {row["key"] for row in rows_of(TAGS, *events) if row["is_current"] and row["key"]}


def test_a_tag_says_entity_key_and_value() -> None:
    """One row for each tag of an event, with who and why."""
    rows = rows_of(TAGS, tagged("a", "b", actor="eve", reason="review"))
    assert {row["key"] for row in rows} == {"a", "b"}
    assert next(row for row in rows if row["key"] == "a") == {
        "tag_hash": h("a"),
        "position": 0,
        "entity_type": "Job",
        "entity_id": "j",
        "key": "a",
        "value": '"a"',
        "is_current": True,
        "occurred_at": at(1),
        "actor": "eve",
        "reason": "review",
    }


def test_a_superseded_tag_is_not_current() -> None:
    """An edit leaves the old tag in the table, no longer current."""
    assert current(tagged("a", "b"), tagged("c", over=("a",))) == {"b", "c"}


def test_the_order_of_tag_and_edit_does_not_matter() -> None:
    """A tag that an earlier event superseded is not current from its first record on."""
    assert current(tagged("c", over=("a",)), tagged("a")) == {"c"}


def test_recording_again_does_not_make_current_again() -> None:
    """A deleted tag stays deleted when it is recorded once more, and keeps its first record."""
    events = [tagged("a"), deleted("gone", "a"), tagged("a", second=5, entity_type="Task", reason="late")]
    row = next(row for row in rows_of(TAGS, *events) if row["tag_hash"] == h("a"))
    assert (row["is_current"], row["entity_type"], row["reason"]) == (False, "Job", None)
    assert (row["position"], row["occurred_at"]) == (0, at(1))


def test_a_deletion_is_a_tag_of_nothing() -> None:
    """A delete tag has type Null, no entity, no key, JSON null, and is itself current."""
    row = next(
        row for row in rows_of(TAGS, tagged("a"), deleted("gone", "a")) if row["tag_hash"] == h("gone")
    )
    assert (row["entity_type"], row["entity_id"], row["key"], row["value"]) == ("Null", "", "", "null")
    assert (row["is_current"], row["position"]) == (True, 1)


def test_a_tag_that_is_only_superseded_has_no_row() -> None:
    """A tag known by reference alone, as after a partial import, is not in the table."""
    assert [row["key"] for row in rows_of(TAGS, tagged("b", over=("a",)))] == ["b"]


def test_edits_pair_each_new_tag_with_each_old_one() -> None:
    """Two tags over two others are four edits; a deletion is an edit as well."""
    rows = rows_of(TAG_EDITS, tagged("c", "d", over=("a", "b"), reason="typo"), deleted("gone", "c"))
    pairs = {(row["parent_hash"], row["tag_hash"]): row["position"] for row in rows}
    expected = {(h(old), h(new)): 0 for old in "ab" for new in "cd"} | {(h("c"), h("gone")): 1}
    assert pairs == expected
    assert {row["reason"] for row in rows if row["position"] == 0} == {"typo"}
