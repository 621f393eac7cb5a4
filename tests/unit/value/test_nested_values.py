"""Containers are walked and rebuilt whole: each member once, in order, at any depth."""

from __future__ import annotations

import collections
import dataclasses

import pytest

from eventstore.file import File
from eventstore.value import iter_leaves, iter_values, map_leaves

Pair = collections.namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Sample:
    """A dataclass that nests."""

    name: str
    inner: object = None


@dataclasses.dataclass(frozen=True)
class Derived:
    """A field that the constructor does not take."""

    x: object
    y: object = dataclasses.field(init=False, default=0)


def test_iter_values_meets_every_container_once():
    """Values are found in lists, tuples, sets, dicts, dataclasses and cycles, in order."""
    files = [File(f"f{i}") for i in range(6)]
    ring: list[object] = [files[5]]
    ring.append(ring)
    nest = [files[0], (files[1], {files[2]: 1}), Sample("x", frozenset({files[3]})), Pair(files[4], 0), ring]
    assert list(iter_values(nest)) == files


def test_leaves_are_neither_containers_nor_plain():
    """Numbers, text and None are passed over; other objects are leaves."""
    thing = object()
    assert list(iter_leaves([1, "a", None, {"k": (thing, 2.5)}, b"x"])) == [thing]


def test_a_dataclass_whose_field_is_missing_has_none_there():
    """A field that was deleted is met as None, and walking goes on."""
    sample = Sample("x", File("f"))
    del sample.name
    assert [file.path for file in iter_values(sample)] == ["f"]


def test_map_leaves_rebuilds_every_container():
    """The function sees the members that are no containers; kinds of containers stay."""
    derived = Derived(1)
    object.__setattr__(derived, "y", [2])
    object.__setattr__(derived, "note", "kept")
    nest = {1: [2, (3, {4}), frozenset({5})], "k": Pair(6, Sample("n", 7)), "d": derived}
    mapped = map_leaves(lambda leaf: leaf * 2, nest)
    assert mapped == {
        2: [4, (6, {8}), frozenset({10})],
        "kk": Pair(12, Sample("nn", 14)),
        "dd": mapped["dd"],
    }
    assert (mapped["dd"].x, mapped["dd"].y, mapped["dd"].note) == (2, [4], "kept")
    assert derived.y == [2], "what was given is left alone"


def test_map_leaves_refuses_what_contains_itself():
    """A copy of a cycle cannot be made; that is an error and not a hang."""
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(RecursionError):
        map_leaves(lambda leaf: leaf, ring)
