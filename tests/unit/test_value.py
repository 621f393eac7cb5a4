"""Values have redun's type names, bytes and hashes; what cannot be named soundly is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import fractions
import pickle
import sys
from types import ModuleType

import pytest
import redun.file
import redun.handle
from hypothesis import given
from hypothesis import strategies as st
from redun.value import get_type_registry

from eventstore.file import File
from eventstore.handle import Handle
from eventstore.pickling import dump_pickle, load_pickle
from eventstore.value import Value, ValueTypes, default_types, iter_values, source_of

oracle = get_type_registry()


class Colour(enum.Enum):
    """A plain enum."""

    RED = 1


class Level(enum.IntEnum):
    """An enum of numbers."""

    LOW = 0


class Moment(dt.datetime):
    """A subclass of datetime."""


class Bag(set):
    """A subclass of set."""


Pair = collections.namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Sample:
    """A dataclass that nests."""

    name: str
    inner: object = None


def double(x):
    """Twice."""
    return 2 * x


def outer_with_decorator(function):
    """A decorator."""
    return function


@outer_with_decorator
def decorated(x):
    """A function under a decorator."""
    return x


async def waits(x):
    """A coroutine function with a function inside."""

    def inner():
        return x

    return inner()


anonymous = lambda x: x  # noqa: E731

AWKWARD = [
    None,
    True,
    0,
    -1,
    10**40,
    1.5,
    float("inf"),
    "",
    "text \u00e9 \U0001f600",
    "\ud800",
    b"",
    b"\x00\xff",
    [],
    [1, [2, (3, {"a": None})]],
    (),
    {},
    {"b": 1, "a": 2},
    set(),
    {3, 1, 2},
    {"b", "a"},
    Bag({2, 1}),
    frozenset({1}),
    [{1}],
    range(3),
    Colour.RED,
    Level.LOW,
    dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    Moment(2026, 1, 2),
    dt.date(2026, 1, 2),
    fractions.Fraction(1, 3),
    Pair(1, "b"),
    Sample("a", [Sample("b")]),
    ValueError("no", 3),
    int,
    double,
    decorated,
    [double],
    "ceventstore.file\nFile\n",
    {"ceventstore.": b"ceventstore.handle\nHandle\n"},
]


@pytest.mark.parametrize("value", AWKWARD, ids=lambda value: type(value).__name__)
def test_name_bytes_and_hash_are_those_of_redun(value):
    """An awkward value has the type name, the bytes and the hash that redun gives it, and reads back."""
    found = default_types.describe(value)
    assert found.type_name == oracle.get_type_name(type(value))
    assert found.data == oracle.serialize(value)
    assert found.value_hash == oracle.get_hash(value)
    assert found.format == oracle.get_serialization_format(value)
    back = default_types.load(found.type_name, found.data)
    assert back == value or isinstance(value, ValueError)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_data_is_hashed_as_redun_does(value):
    """Any nest of plain data has redun's hash and comes back equal."""
    found = default_types.describe(value)
    assert found.value_hash == oracle.get_hash(value) == default_types.hash(value)
    assert default_types.load(found.type_name, found.data) == value


@given(st.sets(st.integers() | st.floats(allow_nan=False)) | st.sets(st.text()))
def test_sets_are_hashed_in_sorted_order(value):
    """A set has redun's hash, whatever order it was filled in."""
    assert default_types.hash(value) == oracle.get_hash(value)
    again = set()
    for member in reversed(list(value)):
        again.add(member)
    assert default_types.hash(value) == default_types.hash(again)


def test_an_unsortable_set_is_refused():
    """A set whose members have no order raises TypeError, as in redun."""
    with pytest.raises(TypeError):
        default_types.describe({1, "a"})


@pytest.mark.parametrize("shape", ["alone", "twice", "nested"])
def test_files_and_handles_have_the_bytes_of_redun_at_any_depth(tmp_path, shape):
    """Files and handles, alone or nested, give byte for byte what redun pickles, and come back as ours."""
    path = str(tmp_path / "a.txt")

    def build(file_class, handle_class):
        file, handle = file_class(path), handle_class("db", 1, namespace="ns", x="y").fork("k")
        return {
            "alone": file,
            "twice": [file, file, handle],
            "nested": {"a": [(file, handle)], "text ceventstore.file\nFile\n": file_class(path)},
        }[shape]

    ours, theirs = build(File, Handle), build(redun.file.File, redun.handle.Handle)
    found = default_types.describe(ours)
    assert found.data == oracle.serialize(theirs)
    assert found.value_hash == oracle.get_hash(theirs)
    assert found.type_name == oracle.get_type_name(type(theirs))
    assert [type(part) for part in iter_values(load_pickle(oracle.serialize(theirs)))] == [
        type(part) for part in iter_values(ours)
    ]
    assert isinstance(pickle.loads(found.data), type(theirs))


def test_text_that_looks_like_a_class_is_left_alone():
    """Only names of classes are renamed in a pickle, never the same characters inside a string."""
    text = "ceventstore.file\nFile\n"
    value = [text, File("missing"), text.encode(), text * 2]
    back = load_pickle(dump_pickle(value))
    assert back[0] == text
    assert back[2:] == [text.encode(), text * 2]
    assert isinstance(back[1], File)


def test_a_function_without_a_name_of_its_own_is_refused():
    """Lambdas and inner functions raise TypeError: two of them could be taken for each other."""
    with pytest.raises(TypeError, match="no name of its own"):
        default_types.describe(anonymous)
    with pytest.raises(TypeError, match="no name of its own"):
        default_types.describe(lambda: None)


def test_a_function_that_has_changed_is_not_read_back(monkeypatch):
    """A stored function is found again only while its source is the same."""
    found = default_types.describe(double)
    assert default_types.load(found.type_name, found.data) is double
    monkeypatch.setattr(sys.modules[__name__], "double", decorated)
    with pytest.raises(LookupError):
        default_types.load(found.type_name, found.data)


def test_source_begins_at_def_and_coroutines_are_taken_whole():
    """Decorators are cut off; a coroutine's source keeps its head though it has an inner def."""
    assert source_of(decorated).startswith("def decorated")
    assert source_of(waits).startswith("async def waits")


def test_own_values_speak_for_themselves():
    """A subclass of Value gives its own name, bytes and hash, and reads back by its name."""

    class Reading(Value):
        type_name = "lab.Reading"
        format = "text/plain"

        def __init__(self, number):
            self.number = number

        def serialize(self):
            return str(self.number).encode()

        @classmethod
        def deserialize(cls, data):
            return cls(int(data))

    class Unnamed(Value):
        pass

    found = ValueTypes().describe(Reading(7))
    assert (found.type_name, found.format, found.data) == ("lab.Reading", "text/plain", b"7")
    assert ValueTypes().load("lab.Reading", b"7", "text/plain").number == 7
    with pytest.raises(LookupError):
        ValueTypes().load("lab.Reading", b"7")
    assert ValueTypes().type_name(Unnamed()) == f"{__name__}.Unnamed"


def test_a_registered_type_speaks_for_subclasses():
    """register() lets one type speak for a foreign class and what is derived from it."""

    class Rounded:
        format = "text/plain"

        def name(self, kind):
            return "lab.Fraction"

        def serialize(self, value):
            return str(round(value)).encode()

        def hash(self, value, data):
            return "0" * 40

        def deserialize(self, data):
            return int(data)

    class Ratio(fractions.Fraction):
        pass

    types = ValueTypes()
    assert types.type_name(Ratio(1, 2)) == f"{__name__}.Ratio"
    types.register(fractions.Fraction, Rounded())
    found = types.describe(Ratio(7, 2))
    assert found == ("0" * 40, "lab.Fraction", "text/plain", b"4", None)
    assert types.load("lab.Fraction", b"4", "text/plain") == 4


def test_an_unknown_type_name_means_a_plain_pickle():
    """Bytes under a type name that nobody knows are unpickled; a missing module raises ImportError."""
    assert default_types.load("gone.Class", pickle.dumps([1], protocol=3)) == [1]
    module = ModuleType("gone_module")
    module.Gone = type("Gone", (), {"__module__": "gone_module", "__qualname__": "Gone"})
    sys.modules["gone_module"] = module
    try:
        data = dump_pickle(module.Gone())
    finally:
        del sys.modules["gone_module"]
    with pytest.raises(ImportError):
        default_types.load("gone_module.Gone", data)


def test_iter_values_meets_every_container_once():
    """Values are found in lists, tuples, sets, dicts, dataclasses and cycles, in order."""
    files = [File(f"f{i}") for i in range(6)]
    ring: list[object] = [files[5]]
    ring.append(ring)
    nest = [files[0], (files[1], {files[2]: 1}), Sample("x", frozenset({files[3]})), Pair(files[4], 0), ring]
    assert list(iter_values(nest)) == files
