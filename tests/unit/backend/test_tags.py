"""Tags: many values a key, edits that supersede, deletions that last, and which are current."""

from __future__ import annotations

import json
from typing import Any

import pytest
from backend_kit import Engine, kinds, one_record, open_backend, some_hash

from eventstore.backend import LogBackend
from eventstore.errors import InvalidEventError
from eventstore.hashing import hash_tag
from eventstore.tags import ANY_VALUE


def current(backend: LogBackend, entity_id: str) -> list[tuple[str, Any]]:
    """The current tags of an entity as pairs."""
    return [(tag.key, json.loads(tag.value)) for tag in backend.get_tags([entity_id]).get(entity_id, [])]


def test_a_key_has_many_values(backend: LogBackend) -> None:
    """Tags with one key stand side by side, in one call or in several."""
    backend.record_tags("Job", "job", [("env", "prod"), ("env", "test")])
    backend.record_tags("Job", "job", {"env": "dev", "user": {"name": "amy"}})
    assert current(backend, "job") == [
        ("env", "dev"),
        ("env", "prod"),
        ("env", "test"),
        ("user", {"name": "amy"}),
    ]


@pytest.mark.parametrize("entity_type", ["Execution", "Job", "CallNode", "Task", "Value", "Null"])
def test_anything_is_tagged_and_need_not_exist(backend: LogBackend, entity_type: str) -> None:
    """Each type of entity takes tags, whether it is recorded or not."""
    (tag,) = backend.record_tags(entity_type, "nobody", [("k", 1)])
    assert tag.entity_type == entity_type
    assert backend.get_tags(["nobody", "other"]) == {"nobody": [tag]}


def test_tag_has_the_hash_that_redun_gives_it(backend: LogBackend) -> None:
    """The hash is made of entity, key, canonical value and parents."""
    parents = sorted([some_hash("b"), some_hash("a")])
    (first,) = backend.record_tags("Job", "job", [("k", {"b": 1, "a": 2})])
    (second,) = backend.record_tags("Job", "job", [("k", 1)], parents=reversed(parents))
    assert first.tag_hash == hash_tag("job", "k", {"a": 2, "b": 1})
    assert second.tag_hash == hash_tag("job", "k", 1, parents)
    assert list(second.parents) == parents


def test_values_are_compared_as_json(backend: LogBackend) -> None:
    """10 and 10.0 are two values, and so are 1 and true; the order of keys plays no part."""
    backend.record_tags("Job", "job", [("k", 10), ("k", 10.0), ("k", 1), ("k", True)])
    backend.record_tags("Job", "job", [("m", {"a": 1, "b": 2}), ("m", {"b": 2, "a": 1})])
    assert sorted(map(repr, current(backend, "job"))) == sorted(
        map(repr, [("k", 1), ("k", 10), ("k", 10.0), ("k", True), ("m", {"a": 1, "b": 2})])
    )


def test_nothing_to_record_is_nothing(backend: LogBackend) -> None:
    """Without pairs nothing is recorded, and nothing returned."""
    assert backend.record_tags("Job", "job", []) == []
    assert backend.record_tags("Job", "job", [], update=True) == []
    assert kinds(backend) == []


@pytest.mark.parametrize("update", [False, True])
def test_pairs_may_be_an_iterator(backend: LogBackend, update: bool) -> None:
    """Pairs that can be read only once are all recorded, also when they replace others."""
    backend.record_tags("Job", "job", [("a", 0)])
    made = backend.record_tags("Job", "job", iter([("a", 1), ("b", 2)]), update=update)
    assert [tag.key for tag in made] == ["a", "b"]
    assert current(backend, "job") == ([] if update else [("a", 0)]) + [("a", 1), ("b", 2)]


def test_recording_again_changes_nothing(backend: LogBackend) -> None:
    """The scheduler says tags twice: they are recorded once and returned both times."""
    first = backend.record_tags("Job", "job", [("a", 1), ("a", 1)])
    assert backend.record_tags("Job", "job", [("a", 1)]) == first
    assert len(first) == 1
    assert kinds(backend) == ["tags.recorded"]


def test_first_entity_type_of_a_tag_stays(backend: LogBackend) -> None:
    """The type is no part of a tag's identity: the same tag under another type is the first."""
    first = backend.record_tags("Job", "id", [("a", 1)])
    assert backend.record_tags("Execution", "id", [("a", 1)]) == first
    fresh = open_backend(backend.store)
    fresh.record_tags("Execution", "id", [("a", 1)])
    assert backend.get_tags(["id"]) == {"id": first}


def test_update_replaces_the_keys(backend: LogBackend) -> None:
    """With update the current tags of the given keys are superseded, others stay."""
    (old,) = backend.record_tags("Job", "job", [("env", "prod")])
    backend.record_tags("Job", "job", [("user", "amy")])
    (new,) = backend.record_tags("Job", "job", [("env", "test")], update=True)
    assert list(new.parents) == [old.tag_hash]
    assert current(backend, "job") == [("env", "test"), ("user", "amy")]


def test_update_with_an_explicit_parent_that_is_found_too(backend: LogBackend) -> None:
    """A parent that is named and found by its key is one parent."""
    (old,) = backend.record_tags("Job", "job", [("env", "prod")])
    (new,) = backend.record_tags("Job", "job", [("env", "test")], parents=[old.tag_hash], update=True)
    assert list(new.parents) == [old.tag_hash]


def test_parents_are_no_longer_current(backend: LogBackend) -> None:
    """A tag is current if and only if it is no tag's parent, whichever was recorded first."""
    late = hash_tag("job", "late", 1)
    backend.record_tags("Job", "job", [("now", 1)], parents=[late])
    backend.record_tags("Job", "job", [("late", 1)])
    assert current(backend, "job") == [("now", 1)]


def test_superseded_tag_stays_so_unless_it_is_new(backend: LogBackend) -> None:
    """Recording a superseded pair again does nothing; with `new` it stands over its last self."""
    (first,) = backend.record_tags("Job", "job", [("env", "prod")])
    backend.record_tags("Job", "job", [("env", "test")], update=True)
    backend.record_tags("Job", "job", [("env", "prod")])
    assert current(backend, "job") == [("env", "test")]
    (again,) = backend.record_tags("Job", "job", [("env", "prod")], new=True)
    assert list(again.parents) == [first.tag_hash]
    assert current(backend, "job") == [("env", "prod"), ("env", "test")]


def test_new_goes_down_to_a_fresh_leaf(backend: LogBackend) -> None:
    """A pair that went and came several times supersedes each of its selves in turn."""
    pair = [("env", "prod")]
    (first,) = backend.record_tags("Job", "job", pair)
    backend.delete_tags("job", pair)
    (second,) = backend.record_tags("Job", "job", pair, new=True)
    backend.delete_tags("job", pair)
    (third,) = backend.record_tags("Job", "job", pair, new=True)
    assert list(second.parents) == [first.tag_hash]
    assert list(third.parents) == [second.tag_hash]
    assert current(backend, "job") == pair


def test_update_implies_new(backend: LogBackend) -> None:
    """Switching a key back to an old value makes that value current."""
    for value in ("prod", "test", "prod"):
        backend.record_tags("Job", "job", [("env", value)], update=True)
    assert current(backend, "job") == [("env", "prod")]


def test_update_tags_can_rename_a_key(backend: LogBackend) -> None:
    """New pairs stand in place of all current ones with the old keys."""
    backend.record_tags("Job", "job", [("a", 1), ("a", 2), ("b", 3), ("c", 4)])
    (made,) = backend.update_tags("Job", "job", ["a", "b"], [("d", 5)])
    assert len(made.parents) == 3
    assert current(backend, "job") == [("c", 4), ("d", 5)]
    assert backend.get_tags(["job"])["job"][1] == made


def test_delete_by_pair_and_by_key(backend: LogBackend) -> None:
    """Pairs take off what they name, keys all of their values; others stay."""
    backend.record_tags("Job", "job", [("a", 1), ("a", 2), ("b", 3), ("b", 4), ("c", None), ("d", 0)])
    backend.delete_tags("job", [("a", 1), ("c", None)], keys=["b"])
    assert current(backend, "job") == [("a", 2), ("d", 0)]
    backend.delete_tags("job", [("a", ANY_VALUE)])
    assert current(backend, "job") == [("d", 0)]


def test_deletion_is_one_tag(backend: LogBackend) -> None:
    """A deletion is a tag without entity and key over all that it takes off, and itself current."""
    made = backend.record_tags("Job", "job", [("a", 1), ("b", 2)])
    (deletion,) = backend.delete_tags("job", keys=iter(["a", "b"]))
    parents = sorted(tag.tag_hash for tag in made)
    assert deletion.tag_hash == hash_tag("", "", None, parents)
    assert deletion[1:5] == ("Null", "", "", "null")
    assert list(deletion.parents) == parents
    assert backend.get_tags([""]) == {"": [deletion]}


def test_deleted_tag_stays_deleted(backend: LogBackend) -> None:
    """Recording a deleted pair again does not bring it back."""
    backend.record_tags("Job", "job", [("a", 1)])
    backend.delete_tags("job", keys=["a"])
    backend.record_tags("Job", "job", [("a", 1)])
    assert backend.get_tags(["job"]) == {}


def test_nothing_to_delete_is_nothing(backend: LogBackend) -> None:
    """A deletion that finds nothing records nothing; one that names nothing is an error."""
    assert backend.delete_tags("job", [("a", 1)]) == []
    backend.record_tags("Job", "job", [("a", 1)])
    with pytest.raises(InvalidEventError) as caught:
        backend.delete_tags("job")
    assert caught.value.code == "no_tags_named"
    assert current(backend, "job") == [("a", 1)]


@pytest.mark.parametrize(
    ("entity_type", "pairs", "code"),
    [
        ("Job", [("", 1)], "bad_tag_key"),
        ("Job", [(1, 1)], "bad_tag_key"),
        ("Job", [("a", object())], "bad_tag_value"),
        ("Job", [("a", float("nan"))], "bad_tag_value"),
        ("Sample", [("a", 1)], "unknown_entity_type"),
    ],
)
@pytest.mark.parametrize("new", [False, True])
def test_bad_tags_are_refused_whole(
    backend: LogBackend, entity_type: str, pairs: list[Any], code: str, new: bool
) -> None:
    """A bad tag is refused with those beside it."""
    with pytest.raises(InvalidEventError) as caught:
        backend.record_tags(entity_type, "job", [("fine", 1), *pairs], new=new)
    assert caught.value.code == code
    assert kinds(backend) == []


def test_long_and_foreign_texts_are_tags(backend: LogBackend) -> None:
    """Keys and values of any script and of any length come back."""
    pairs = [("straße", "grün"), ("k", "x" * 10_000)]
    backend.record_tags("Value", some_hash("x"), pairs)
    assert current(backend, some_hash("x")) == [("k", "x" * 10_000), ("straße", "grün")]


def test_tags_of_several_entities(engine: Engine) -> None:
    """Entities without tags are absent from the answer."""
    backend = engine.backend
    backend.record_tags("Job", "a", [("k", 1)])
    backend.record_tags("Job", "b", [("k", 2)])
    backend.delete_tags("b", keys=["k"])
    assert list(backend.get_tags(iter(["a", "b", "c", "a"]))) == ["a"]
    assert one_record(backend, hash_tag("a", "k", 1))["value"] == 1
