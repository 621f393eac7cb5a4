"""What cannot be recorded soundly is named down to the part that is to blame."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import threading
import warnings

import pytest

from eventstore.errors import InvalidEventError
from eventstore.pickling import dump_pickle
from eventstore.value import UnstableValueWarning, ValueTypes, default_types, find_unstable, not_picklable

counter = itertools.count()
Pair = collections.namedtuple("Pair", ["left", "right"])


class Restless:
    """Pickles differently each time."""

    def __getstate__(self):
        return {"seen": next(counter)}


class Holder:
    """Holds something."""

    def __init__(self, inside=None):
        self.inside = inside


class Slotted:
    """Holds something in a slot."""

    __slots__ = ("inside",)

    def __init__(self, inside):
        self.inside = inside

    def __getstate__(self):
        return (None, {"inside": self.inside})


@dataclasses.dataclass
class Sample:
    """A dataclass."""

    inside: object = None


class OpaqueError(Exception):
    """An exception."""


class Shy:
    """Has no repr."""

    def __repr__(self):
        raise RuntimeError("hush")


PLACES = [
    (lambda x: x, ""),
    (lambda x: [1, x], "[1]"),
    (lambda x: {"a": (x, 2)}, "['a'][0]"),
    (lambda x: Holder({"k": [x]}), ".inside['k'][0]"),
    (lambda x: Slotted(x), ".inside"),
    (lambda x: Sample(x), ".inside"),
    (lambda x: Pair(1, x), ".right"),
    (lambda x: {x: 1}, " key <"),
    (lambda x: collections.deque([1, x]), "[1]"),
    (lambda x: collections.OrderedDict(k=x), "['k']"),
    (lambda x: OpaqueError("m", x), " argument 1"),
    (lambda x: {Shy(): [x]}, "[Shy][0]"),
]


@pytest.mark.parametrize(("around", "path"), PLACES)
def test_the_part_that_does_not_pickle_is_named(around, path):
    """The error tells the innermost part that fails, by the path that leads to it."""
    value = around(threading.Lock())
    with pytest.raises(TypeError) as failed:
        dump_pickle(value)
    error = not_picklable("argument 0 of f", value, failed.value)
    assert isinstance(error, InvalidEventError)
    assert (error.code, error.reason, error.what) == ("not_picklable", "pickle", "argument 0 of f")
    assert error.part.startswith(path)
    assert error.part in str(error)
    assert "lock" in str(error)


@pytest.mark.parametrize(("around", "path"), PLACES)
def test_the_part_that_differs_each_time_is_named(around, path):
    """A value that pickles differently each time gives a warning with the path to what differs."""
    value = around(Restless())
    assert find_unstable(value).startswith(f"value{path}")
    with pytest.warns(UnstableValueWarning, match="pickles differently each time"):
        ValueTypes().describe(value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([{"a", "b"}], r"value\[0\] is a set"),
        ({"k": Holder(frozenset({"a", "b"}))}, r"value\['k'\]\.inside is a frozenset"),
        (frozenset({"a", "b"}), "value is a frozenset"),
    ],
)
def test_a_set_whose_order_differs_between_processes_is_named(value, told):
    """Sets of text below the top pickle differently in each process, which a cache never finds again."""
    with pytest.warns(UnstableValueWarning, match=told):
        ValueTypes().describe(value)


@pytest.mark.parametrize(
    "value",
    [
        {"a", "b"},
        [{1, 2}],
        [{"a"}],
        frozenset({1, 2.5}),
        [frozenset()],
        Holder([1]),
        "a\nb",
        OpaqueError("x"),
    ],
)
def test_what_is_stable_gives_no_warning(value):
    """Sets of numbers, sets at the top, which are sorted, and plain objects are recorded in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ValueTypes().describe(value)
    assert find_unstable(value) is None


def test_looking_at_a_value_does_not_change_it():
    """An exception, whose pickle changes when its attributes are looked at, is recorded as it is."""
    error = OpaqueError("m", [1])
    before = dump_pickle(error)
    find_unstable([error])
    assert not_picklable("it", [error, threading.Lock()], TypeError("x")).part == "[1]"
    assert dump_pickle(error) == before == default_types.describe(error).data


def test_values_are_looked_at_ever_more_rarely():
    """Of a type, the 1st, 2nd, 4th, 8th, ... value is looked at, so that looking costs little in the end."""
    types = ValueTypes()
    told = 0
    for _ in range(64):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            types.describe(Restless())
        told += len(caught)
    assert told == 7


def test_recursive_values_are_looked_at_once():
    """Cycles end, and what is wrong inside of one is found."""
    ring = [1]
    ring.append({"k": ring})
    assert find_unstable(ring) is None
    ring.append(Restless())
    assert find_unstable(ring).startswith("value")
    ring[2] = threading.Lock()
    assert not_picklable("it", ring, TypeError("x")).part


def test_a_huge_value_is_not_searched_for_ever():
    """The search stops after so many parts, and the error says at least what failed."""
    error = not_picklable("it", [list(range(20_000)), threading.Lock()], TypeError("no locks"))
    assert "no locks" in str(error)
    assert error.part == "[1]"
    error = not_picklable("it", [*range(20_000), threading.Lock()], TypeError("no locks"))
    assert error.part == ""
