"""Tags on both sides: what is current after any sequence of edits, hashes, and text as people type it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redun.tags
import sqlalchemy.exc
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from redun.backends.base import TagEntity
from redun.backends.db import RedunBackendDb
from redun.backends.db import Tag as TheirTag
from redun.backends.db import TagEdit as TheirEdit
from tables_kit import frame_of, table_from

from eventstore import tags as our_tags
from eventstore.errors import InvalidEventError
from eventstore.events import Event
from eventstore.tags import (
    ANY_VALUE,
    CurrentTag,
    TagEditor,
    format_tag,
    format_tag_value,
    parse_tag_or_key,
    parse_tag_value,
    record_tags,
)
from projections.tags import TAG_EDITS, TAGS

_runs = itertools.count()
_backends: list[RedunBackendDb] = []


def backend() -> RedunBackendDb:
    """Return redun's own backend, in memory, made once."""
    if not _backends:
        _backends.append(RedunBackendDb(db_uri="sqlite:///:memory:"))
        _backends[0].load()
    return _backends[0]


class Model:
    """Whose answers are the sentence "a tag is current if no tag supersedes it", over a list of events."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def is_superseded(self, tag_hash: str) -> bool:
        """Whether some event supersedes it."""
        return any(tag_hash in event.superseded for event in self.events)

    def current_tags(self, entity_id: str) -> list[CurrentTag]:
        """The tags of the entity that no event supersedes; of equal ones the first."""
        found: dict[str, CurrentTag] = {}
        for event in self.events:
            for tag in getattr(event, "tags", ()):
                if event.entity_id == entity_id:
                    row = CurrentTag(tag.tag_hash, event.entity_type.value, entity_id, tag.key, tag.value)
                    found.setdefault(tag.tag_hash, row)
        return sorted(
            (tag for tag in found.values() if not self.is_superseded(tag.tag_hash)),
            key=lambda tag: (tag.key, tag.value, tag.tag_hash),
        )


keys = st.sampled_from(["a", "b"])
values = st.sampled_from([1, 1.0, "x", {"b": 1, "a": 2}, True])
pairs = st.lists(st.tuples(keys, values), min_size=1, max_size=2, unique_by=lambda pair: json.dumps(pair))
kinds = st.sampled_from([TagEntity.Job, TagEntity.Value])


class TagMachine(RuleBasedStateMachine):
    """Any sequence of edits of two entities."""

    @initialize()
    def begin(self) -> None:
        """Take entities that no other run has."""
        self.entities = [f"entity{next(_runs)}" for _ in range(2)]
        backend().session.rollback()  # what failed before is not to fail this
        self.model = Model()
        self.editor = TagEditor(self.model)

    def _append(self, events: list[Any]) -> None:
        self.model.events += events

    @rule(which=st.integers(0, 1), kind=kinds, pairs=pairs, mode=st.sampled_from(["", "new", "update"]))
    def record(self, which: int, kind: TagEntity, pairs: list[tuple[str, Any]], mode: str) -> None:
        """Tags beside those that are there, made current again, or in place of those with the same keys."""
        asked = {mode: True} if mode else {}
        theirs = backend().record_tags(kind, self.entities[which], pairs, **asked)
        made = self.editor.record(kind.name, self.entities[which], pairs, **asked)
        self._append(made)
        recorded = [tag.tag_hash for event in made for tag in event.tags]
        assert [row[0] for row in theirs] == recorded[: len(theirs)]

    @rule(
        which=st.integers(0, 1),
        kind=kinds,
        pairs=pairs,
        places=st.sets(st.integers(0, 9), min_size=1, max_size=2),
    )
    def record_over(
        self, which: int, kind: TagEntity, pairs: list[tuple[str, Any]], places: set[int]
    ) -> None:
        """Tags over others that are named by hash, current or not, of either entity."""
        # In order of recording, as hashes are others in each run.
        made = (tag.tag_hash for event in self.model.events for tag in getattr(event, "tags", ()))
        hashes = list(dict.fromkeys(made))
        assume(hashes)
        over = sorted({hashes[place % len(hashes)] for place in places})
        theirs = backend().record_tags(kind, self.entities[which], pairs, parents=over)
        made = self.editor.record(kind.name, self.entities[which], pairs, superseded=over)
        self._append(made)
        assert [row[0] for row in theirs] == [tag.tag_hash for event in made for tag in event.tags]

    @rule(which=st.integers(0, 1), kind=kinds, old=st.sets(keys), pairs=st.just([]) | pairs)
    def update(self, which: int, kind: TagEntity, old: set[str], pairs: list[tuple[str, Any]]) -> None:
        """Tags in place of those with the old keys, perhaps none of either."""
        theirs = backend().update_tags(kind, self.entities[which], sorted(old), pairs)
        made = self.editor.update(kind.name, self.entities[which], old, pairs)
        self._append(made)
        assert [row[0] for row in theirs] == [tag.tag_hash for event in made for tag in event.tags]

    @rule(which=st.integers(0, 1), old=keys, new=keys)
    def rename(self, which: int, old: str, new: str) -> None:
        """Values under one key go under another one, as redun does it with an update."""
        assume(old != new)
        found = self.model.current_tags(self.entities[which])
        moved = {tag.value: (new, tag.content) for tag in found if tag.key == old}  # redun takes a pair once
        backend().update_tags(TagEntity.Job, self.entities[which], [old], moved.values())
        self._append(self.editor.rename("Job", self.entities[which], old, new))

    @rule(
        which=st.integers(0, 1),
        place=st.none() | st.integers(0, 9),
        other=values,
        gone=st.sets(keys, max_size=1),
    )
    def delete(self, which: int, place: int | None, other: Any, gone: set[str]) -> None:
        """By a pair that may be current, or by key; without a match redun makes a deletion of nothing."""
        found = self.model.current_tags(self.entities[which])
        pairs = (
            [("a", other)] if place is None else [(tag.key, tag.content) for tag in found[place : place + 1]]
        )
        assume(pairs or gone)
        theirs = backend().delete_tags(self.entities[which], pairs, sorted(gone))
        made = self.editor.delete(self.entities[which], pairs, keys=gone)
        self._append([made] if made else [])
        assert theirs[0][0] == (made or our_tags.delete_tags([])).tag_hash

    @invariant()
    def same_tags_are_current(self) -> None:
        """Hash by hash, with type, key and value."""
        for entity_id in getattr(self, "entities", ()):
            theirs = backend().session.query(TheirTag).filter_by(entity_id=entity_id, is_current=True)
            assert self.model.current_tags(entity_id) == sorted(
                (
                    CurrentTag(
                        tag.tag_hash,
                        tag.entity_type.name,
                        entity_id,
                        tag.key,
                        our_tags.canonical_value("", tag.value),
                    )
                    for tag in theirs
                ),
                key=lambda tag: (tag.key, tag.value, tag.tag_hash),
            )

    def teardown(self) -> None:
        """The tables agree: every tag, which are current, and every edit."""
        events: list[Event] = self.model.events if hasattr(self, "model") else []
        if not events:
            return
        frame = frame_of(events)
        table = table_from(TAGS, frame, [len(events) // 2])
        for entity_id in self.entities:
            found = table.filter(pl.col("entity_id") == entity_id, "is_current").sort(
                "key", "value", "tag_hash"
            )
            rows = found.select(CurrentTag._fields).iter_rows()
            assert [CurrentTag(*row) for row in rows] == self.model.current_tags(entity_id)
        edits = table_from(TAG_EDITS, frame).select("parent_hash", "tag_hash").rows()
        hashes = set(table["tag_hash"])
        theirs = backend().session.query(TheirEdit).filter(TheirEdit.child_id.in_(hashes))
        assert set(edits) == {(edit.parent_id, edit.child_id) for edit in theirs}


TestTagMachine = TagMachine.TestCase
TestTagMachine.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)


def edited(pairs: list[tuple[str, Any]]) -> tuple[str, TagEditor, Model]:
    """Return an entity with these tags on both sides, and who edits it here."""
    entity_id, model = f"entity{next(_runs)}", Model()
    editor = TagEditor(model)
    model.events += editor.record("Job", entity_id, pairs)
    backend().record_tags(TagEntity.Job, entity_id, pairs)
    return entity_id, editor, model


def test_a_tag_comes_back_below_its_last_self() -> None:
    """Deleted and made current three times, by ``new`` and by ``update``: the same tag on both sides."""
    entity_id, editor, model = edited([("a", 1)])
    for asked in ({"new": True}, {"update": True}, {"new": True}):
        backend().delete_tags(entity_id, [], ["a"])
        model.events.append(editor.delete(entity_id, keys=["a"]))
        backend().record_tags(TagEntity.Job, entity_id, [("a", 1)], **asked)
        model.events += editor.record("Job", entity_id, [("a", 1)], **asked)
        (tag,) = model.current_tags(entity_id)
        (theirs,) = backend().session.query(TheirTag).filter_by(entity_id=entity_id, is_current=True)
        assert tag.tag_hash == theirs.tag_hash


def test_equal_pairs_count_once() -> None:
    """Redun fails on its unique key; here they are one tag."""
    entity_id, editor, model = edited([])
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        backend().record_tags(TagEntity.Job, entity_id, [("a", 1), ("a", 1)])
    backend().session.rollback()
    model.events += editor.record("Job", entity_id, [("a", 1), ("a", 1)])
    assert len(model.current_tags(entity_id)) == 1


def test_an_iterator_of_pairs_updates_here() -> None:
    """Redun reads it twice, so it deletes and adds nothing."""
    entity_id, editor, model = edited([("a", 1)])
    backend().record_tags(TagEntity.Job, entity_id, iter([("a", 2)]), update=True)
    assert backend().get_tags([entity_id]) == {}
    model.events += editor.record("Job", entity_id, iter([("a", 2)]), update=True)
    assert [tag.content for tag in model.current_tags(entity_id)] == [2]


def test_null_is_deleted_as_any_value_here() -> None:
    """Redun finds no tag whose value is None."""
    entity_id, editor, _ = edited([("a", None)])
    backend().delete_tags(entity_id, [("a", None)])
    assert list(backend().get_tags([entity_id])) == [entity_id]
    assert editor.delete(entity_id, {"a": None}) is not None


@pytest.mark.filterwarnings("ignore:Invoking or_")
def test_a_deletion_names_what_it_takes_off() -> None:
    """Of neither pairs nor keys redun makes all tags, here that is an error."""
    entity_id, editor, _ = edited([("a", 1)])
    with pytest.raises(InvalidEventError):
        editor.delete(entity_id)
    backend().delete_tags(entity_id, [])
    assert backend().get_tags([entity_id]) == {}


# text ----------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
typed = (
    st.text(max_size=8)
    | st.from_regex(r"[-+]?[0-9_.]{1,6}(e[0-9]{1,3})?")
    | st.sampled_from(["true", "null", "[1, 2]", '"3"', "[1", "nan", "inf", "1_0"])
)


def test_hashes_are_those_that_redun_records() -> None:
    """Tags of any JSON value have the hashes that redun's backend gives them."""
    pairs = [("team", "x"), ("n", 10), ("n", 10.0), ("deep", {"b": [1, None], "a": "\u00e9"}), ("none", None)]
    theirs = backend().record_tags(TagEntity.Execution, "run-1", pairs)
    ours = record_tags("Execution", "run-1", pairs)
    assert ours is not None
    assert [tag.tag_hash for tag in ours.tags] == [tag_hash for tag_hash, *_ in theirs]


@given(typed)
def test_typed_values_mean_what_redun_takes_them_for(text: str) -> None:
    """A typed value is read as redun reads it, but for numbers that JSON does not have."""
    try:
        expected = redun.tags.parse_tag_value(text)
    except ValueError:
        with pytest.raises(InvalidEventError):
            parse_tag_value(text)
        return
    if isinstance(expected, float) and not math.isfinite(expected):
        expected = text
    found = parse_tag_value(text)
    assert found == expected
    assert type(found) is type(expected)


@given(st.text(max_size=3), st.booleans(), typed)
def test_typed_pairs_and_keys_are_read_as_redun_reads_them(key: str, with_value: bool, value: str) -> None:
    """The key ends at the first equals sign; a key alone means any value; what redun refuses is refused."""
    text = f"{key}={value}" if with_value else key
    try:
        expected = redun.tags.parse_tag_key_value(text, value_required=False)
    except ValueError:
        with pytest.raises(InvalidEventError):
            parse_tag_or_key(text)
        return
    found = parse_tag_or_key(text)
    assert found[0] == expected[0]
    assert (found[1] is ANY_VALUE) == (expected[1] is redun.tags.ANY_VALUE)


@given(json_values)
@example("nan")
@example("[x")
@example("two\nlines")
def test_values_are_shown_as_redun_shows_them(value: Any) -> None:
    """Text is bare where it reads back as that text, else JSON; what redun cannot show reads back, too."""
    assert parse_tag_value(format_tag_value(value)) == value
    if isinstance(value, str) and (not value.isprintable() or _differs(value)):
        return
    assert format_tag_value(value) == redun.tags.format_tag_value(value)


def _differs(text: str) -> bool:
    """Whether redun cannot show the text, or reads it as a number that JSON does not have."""
    try:
        read = redun.tags.parse_tag_value(text)
    except ValueError:
        return True
    return isinstance(read, float) and not math.isfinite(read)


@given(st.text(min_size=1, max_size=70), json_values, st.integers(3, 60))
def test_pairs_are_cut_as_redun_cuts_them(key: str, value: Any, length: int) -> None:
    """Key and value are cut each on its own, with dots at the end."""
    shown = format_tag_value(value)
    expected = f"{redun.utils.trim_string(key, length)}={redun.utils.trim_string(shown, length)}"
    assert format_tag(key, value, max_length=length) == expected


def test_every_public_name_of_redun_has_its_line() -> None:
    """docs/redun.md names each public class, function, method and constant of the module."""
    page = (Path(__file__).parents[2] / "docs" / "redun.md").read_text()
    module = redun.tags
    names = [name for name, member in vars(module).items() if _is_own(module, name, member)]
    assert len(names) >= 11
    assert [name for name in names if f"`{name}`" not in page] == []


def _is_own(module: Any, name: str, member: Any) -> bool:
    return not name.startswith("_") and (
        name.isupper() or getattr(member, "__module__", "") == module.__name__
    )
