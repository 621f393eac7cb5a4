"""Edits of current tags: what each one supersedes. That redun agrees is in tests/differential."""

from __future__ import annotations

from typing import Any

import pytest
from store_kit import open_store

from eventstore.errors import InvalidEventError
from eventstore.events import EntityType
from eventstore.tags import ANY_VALUE, TagEditor


class Desk:
    """A store, its tags, and who edits them."""

    def __init__(self, place: Any) -> None:
        self.store = open_store(place)
        self.live = self.store.lookup
        self.editor = TagEditor(self.live)

    def put(self, events: Any) -> None:
        """Append what an edit gave."""
        self.store.append(*(events if isinstance(events, list) else [events]))

    def tags(self, entity_id: str = "j") -> list[tuple[str, Any]]:
        """The pairs that are current."""
        return [(tag.key, tag.content) for tag in self.live.current_tags(entity_id)]


@pytest.fixture
def desk(tmp_path: Any) -> Any:
    """An empty store."""
    desk = Desk(tmp_path / "store")
    yield desk
    desk.store.close()


def test_keys_have_several_values_until_one_update_replaces_them(desk: Desk) -> None:
    """Recording adds beside what is there; updating replaces all values of the keys that it names."""
    desk.put(desk.editor.record("Job", "j", [("k", 1), ("k", 2), ("other", 0)]))
    desk.put(desk.editor.record("Job", "j", {"k": 3}))
    assert desk.tags() == [("k", 1), ("k", 2), ("k", 3), ("other", 0)]
    (event,) = desk.editor.record(EntityType.JOB, "j", {"k": 4}, update=True, reason="typo")
    assert (len(event.superseded), event.reason) == (3, "typo")
    desk.put(event)
    assert desk.tags() == [("k", 4), ("other", 0)]


def test_pairs_may_be_an_iterator(desk: Desk) -> None:
    """Pairs that can be read once only are read once, also where their keys are looked up first."""
    desk.put(desk.editor.record("Job", "j", {"k": 1}))
    desk.put(desk.editor.record("Job", "j", iter([("k", 2)]), update=True))
    assert desk.tags() == [("k", 2)]


def test_a_deleted_tag_comes_back_only_when_asked(desk: Desk) -> None:
    """Recording again changes nothing; ``new`` puts it over its last self, however often it went."""
    for _ in range(3):
        desk.put(desk.editor.record("Job", "j", {"k": 1}, new=True))
        assert desk.tags() == [("k", 1)]
        desk.put(desk.editor.delete("j", keys=["k"]))
        assert desk.tags() == []
        desk.put(desk.editor.record("Job", "j", {"k": 1}))
        assert desk.tags() == []


def test_of_several_pairs_each_is_made_current(desk: Desk) -> None:
    """One that was deleted and one that is new: both are current afterwards, and nothing else."""
    desk.put(desk.editor.record("Job", "j", {"a": 1}))
    desk.put(desk.editor.delete("j", {"a": 1}))
    made = desk.editor.record("Job", "j", {"a": 1, "b": 2}, new=True)
    assert [[tag.key for tag in event.tags] for event in made] == [["b"], ["a"]]
    desk.put(made)
    assert desk.tags() == [("a", 1), ("b", 2)]


def test_a_key_is_renamed_with_its_values(desk: Desk) -> None:
    """All values go under the new key; other entities keep theirs; a key that is not there is no edit."""
    desk.put(desk.editor.record("Job", "j", [("old", 1), ("old", 2)]))
    desk.put(desk.editor.record("Job", "other", {"old": 1}))
    desk.put(desk.editor.rename("Job", "j", "old", "new"))
    assert desk.tags() == [("new", 1), ("new", 2)]
    assert desk.tags("other") == [("old", 1)]
    assert desk.editor.rename("Job", "j", "missing", "new2") == []


def test_tags_are_deleted_by_pair_by_key_and_by_any_value(desk: Desk) -> None:
    """Only what fits goes; a deletion of nothing is no event; values are compared by canonical JSON."""
    desk.put(
        desk.editor.record("Job", "j", [("a", 1), ("a", 1.0), ("b", None), ("c", 3), ("d", {"x": 1, "y": 2})])
    )
    desk.put(desk.editor.delete("j", [("a", 1), ("b", None), ("d", {"y": 2, "x": 1})], reason="cleaning"))
    assert desk.tags() == [("a", 1.0), ("c", 3)]
    assert desk.editor.delete("j", {"a": 1}) is None
    assert desk.editor.delete("j", keys=["b", "d"]) is None
    desk.put(desk.editor.delete("j", [("a", ANY_VALUE)], keys=iter(["c"])))
    assert desk.tags() == []


def test_bad_edits_are_refused(desk: Desk) -> None:
    """Each has a code of its own, and nothing is made."""
    edit = desk.editor
    for code, ask in (
        ("no_tags_named", lambda: edit.delete("j")),
        ("same_tag_key", lambda: edit.rename("Job", "j", "a", "a")),
        ("bad_tag_key", lambda: edit.rename("Job", "j", "a", "")),
        ("bad_tag_key", lambda: edit.delete("j", keys=[""])),
        ("bad_tag_key", lambda: edit.delete("j", keys="ab")),
        ("bad_tag_key", lambda: edit.record("Job", "j", {"": 1}, update=True)),
        ("bad_tag_value", lambda: edit.delete("j", {"a": {1, 2}})),
        ("bad_tag_value", lambda: edit.update("Job", "j", ["a"], {"b": b""})),
        ("unknown_entity_type", lambda: edit.rename("Planet", "j", "a", "b")),
        ("unknown_entity_type", lambda: edit.record("Planet", "j", {"a": 1}, new=True)),
    ):
        with pytest.raises(InvalidEventError) as caught:
            ask()
        assert caught.value.code == code
