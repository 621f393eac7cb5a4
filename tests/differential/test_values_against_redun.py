"""Values have the type name, format, bytes and hash of redun; docs/redun.md lists what has not."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import importlib
import inspect
import ipaddress
import operator
import pathlib
import re
import sys
import threading
import typing
import uuid
import zoneinfo
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import redun.file
import redun.handle
import redun.hashing
import redun.value
from hypothesis import given
from hypothesis import strategies as st
from redun.value import get_type_registry

from eventstore import hashing
from eventstore.errors import NotFoundError
from eventstore.file import File
from eventstore.file_cache import FileCache
from eventstore.handle import Handle
from eventstore.pickling import PICKLE_FORMAT
from eventstore.value import UnstorableValueError, Value, ValueType, ValueTypes, default_types, iter_values

oracle = get_type_registry()


class Colour(enum.Enum):
    """A plain enum."""

    RED = 1
    BLUE = "b"


class Flags(enum.Flag):
    """Flags, of which members without a name can be made."""

    ONE = 1
    TWO = 2


class Low(enum.IntEnum):
    """An enum of numbers."""

    ZERO = 0


class Word(enum.StrEnum):
    """An enum of text."""

    A = "a"


class Moment(dt.datetime):
    """A subclass of datetime."""


class Bag(set):
    """A subclass of set."""


class Text(str):  # noqa: SLOT000 - a state is the point
    """A subclass of str, with a state."""


class Number(int):
    """A subclass of int."""


class Row(dict):
    """A subclass of dict."""


class Items(list):
    """A subclass of list."""


Pair = collections.namedtuple("Pair", ["left", "right"])


class Point(typing.NamedTuple):
    """A typed named tuple with a default."""

    x: int
    y: object = None


@dataclasses.dataclass
class Sample:
    """A dataclass that nests, with a default and a field that is no parameter."""

    name: str
    inner: object = None
    items: list = dataclasses.field(default_factory=list)
    length: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """A frozen dataclass with slots."""

    x: int
    y: object = ()


class Plain:
    """A plain class."""

    def __init__(self, x=None):
        self.x = x

    def method(self):
        """A method."""


class Slotted:
    """Slots and a state of its own."""

    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, [2]

    def __getstate__(self):
        return (None, {"a": self.a, "b": self.b})


class Reduced:
    """Says itself how it is made."""

    def __reduce__(self):
        return (Reduced, (), {"made": "again"}, iter([1, 2]), iter([("k", "v")]))

    def append(self, item):
        """Take an item."""

    def extend(self, items):
        """Take items."""

    def __setitem__(self, key, item):
        pass

    def __setstate__(self, state):
        pass


class Registered:
    """Pickled through copyreg."""


copyreg.pickle(Registered, lambda value: (Registered, ()))


class Single:
    """Pickled as the name of a global."""

    def __reduce__(self):
        return "SINGLE"


SINGLE = Single()


class Masked:
    """Claims to be of another class."""

    @property
    def __class__(self):
        return set


class Meta(type):
    """A metaclass."""


class Made(metaclass=Meta):
    """A class of it."""


class OwnError(Exception):
    """An exception with a state."""

    def __init__(self, message, code):
        super().__init__(message, code)
        self.code = code


def double(x):
    """Twice."""
    return 2 * x


def outer(function):
    """A decorator."""
    return function


@outer
@functools.lru_cache
def cached(x):
    """Not a function any more."""
    return x


@outer
def decorated(x):
    """A function under a decorator."""
    return x


async def waits(x):
    """A coroutine function."""
    return x


def inner_function():
    """Makes a local function."""

    def local():
        return 1

    return local


def ring():
    """Recursive structures."""
    items: list[Any] = [1]
    items.append(items)
    table: dict[str, Any] = {"a": items}
    table["self"] = table
    thing = Plain()
    thing.x = (thing, table)
    return [items, table, thing]


def deep(depth):
    """A list in a list in a list."""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


shared = [1, 2]
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
AWKWARD = [
    *(None, True, False, 0, -1, 255, 256, 65536, 2**31, -(2**63), 10**40, -(10**700)),
    *(1.5, 0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324, 1j, complex("nan-0j")),
    *("", "text é \U0001f600", "\ud800", "a\x00b\n", "x" * 300, b"", b"\x00\xff", b"y" * 70_000),
    *(bytearray(), bytearray(b"xy")),
    *([], [1, [2, (3, {"a": None})]], (), (1,), (1, 2, 3, 4), {}, {"b": 1, "a": 2}, {1: {}, (2,): []}),
    *([[], [[], {}], ((),)], [shared, shared], ["same", "same"], deep(50)),
    *(set(), {3, 1, 2}, {"b", "a"}, {(1, "a"), (0, "b")}, {1, 2.5}, Bag({2, 1}), Bag()),
    *(frozenset(), frozenset({1}), [{1}], {"k": {2}}, {frozenset()}),
    *(range(3), slice(1, None, 2), Ellipsis, NotImplemented, iter([1, 2])),
    *(Colour.RED, Colour.BLUE, Low.ZERO, Word.A, Flags.ONE, Flags.ONE | Flags.TWO, [Colour.RED], Colour),
    *(dt.datetime(2026, 1, 2, 3, 4, 5), dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)),
    *(dt.datetime(2026, 7, 1, tzinfo=BERLIN), dt.datetime(2026, 10, 25, 2, 30, fold=1), Moment(2026, 1, 2)),
    *(dt.date(2026, 1, 2), dt.time(1, 2), dt.timedelta(1, 2, 3), dt.timezone(dt.timedelta(hours=2)), BERLIN),
    *(fractions.Fraction(1, 3), decimal.Decimal("1.20"), decimal.Decimal("NaN"), uuid.UUID(int=7)),
    *(pathlib.PurePosixPath("a/b"), re.compile("a+", re.I), ipaddress.ip_address("::1")),
    *(Pair(1, "b"), Point(1), Point(1, [Point(2)]), Sample("a", [Sample("b")]), Frozen(1, (2,))),
    *(
        Text("t"),
        Number(5),
        Row(a=1),
        Items([1]),
        collections.OrderedDict(b=1, a=2),
        collections.Counter("aab"),
    ),
    *(collections.defaultdict(list, {1: [2]}), collections.deque([1, 2], 5), SimpleNamespace(a=1)),
    *(Plain(), Plain(Plain([1])), Slotted(), Reduced(), Registered(), SINGLE, Made()),
    *(ValueError("no", 3), OwnError("m", 5), KeyError(), OSError(2, "gone", "x")),
    *(int, Plain, Made, Meta, type(None), list[int], typing.Any, int | None),
    *(double, decorated, waits, cached, [double], len, operator.itemgetter(1), functools.partial(double, 3)),
    *(Plain().method, str.upper, dict.fromkeys),
    "ceventstore.file\nFile\n",
    {"ceventstore.": b"ceventstore.handle\nHandle\n"},
]
REFUSED = [
    *({1, "a"}, {None, 1}, Bag({1, "a"}), [{1}, threading.Lock()], Plain(threading.Lock())),
    *(inner_function(), (item for item in [1]), sys, sys.stdout, memoryview(b"x"), {}.keys()),
    *([lambda: 1], functools.partial(inner_function()), Masked(), deep(100_000)),
]


def same_as_redun(value):
    """Check that what would be recorded of a value is what redun would record; returns it."""
    found = default_types.describe(value)
    theirs = oracle.get_value(value)
    data = theirs.serialize()
    assert found.data == data
    assert found.type_name == oracle.get_type_name(type(value)) == default_types.type_name(value)
    assert found.format == theirs.get_serialization_format()
    assert found.value_hash == theirs.get_hash(data=data)
    assert default_types.hash(value) == oracle.get_hash(value)
    assert found.file_path is None
    return found


@pytest.mark.filterwarnings("ignore::eventstore.value.UnstableValueWarning")
@pytest.mark.parametrize("value", AWKWARD, ids=lambda value: type(value).__name__)
def test_an_awkward_value_is_recorded_as_redun_does(value):
    """Type name, format, bytes and both ways to ask for the hash are redun's; so is what comes back."""
    found = same_as_redun(value)
    back = default_types.load(found.type_name, found.data, found.format)
    theirs = oracle.deserialize(found.type_name, found.data)
    assert type(back) is type(theirs)
    assert default_types.describe(back).data == oracle.serialize(theirs)
    assert default_types.is_valid(back) == oracle.is_valid_nested(theirs)


@pytest.mark.parametrize("value", ring(), ids=lambda value: type(value).__name__)
def test_what_contains_itself_is_recorded_as_redun_does(value):
    """Recursive structures are pickled alike; here each leaf is met once, redun walks for ever."""
    found = same_as_redun(value)
    back = default_types.load(found.type_name, found.data, value_hash=found.value_hash)
    assert default_types.is_valid(back)
    assert list(default_types.iter_subvalues(back)) == []


def test_a_function_of_a_class_is_recorded_as_redun_does():
    """It is stored under a name that leads nowhere, as redun does, so reading it back is an error."""
    found = same_as_redun(Plain.method)
    assert redun.value.is_unknown_function(oracle.deserialize(found.type_name, found.data))
    with pytest.raises(NotFoundError):
        default_types.load(found.type_name, found.data)


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_redun_refuses_is_refused(value):
    """A value that cannot be pickled, a mixed set, a local function: both raise, ours nothing new."""
    with pytest.raises(Exception) as theirs:
        oracle.get_value(value).get_hash(data=oracle.serialize(value))
    with pytest.raises(Exception) as ours:
        default_types.describe(value)
    if not isinstance(ours.value, UnstorableValueError):
        assert type(ours.value) is type(theirs.value)


numbers = st.integers() | st.floats() | st.complex_numbers() | st.booleans() | st.decimals() | st.fractions()
texts = st.text(st.characters(exclude_categories=())) | st.binary() | st.binary().map(bytearray)
zones = st.none() | st.just(dt.UTC) | st.timezones()
times = (
    st.datetimes(timezones=zones, allow_imaginary=False)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
)
things = st.sampled_from([Colour.RED, Low.ZERO, Flags.ONE | Flags.TWO, double, int, Plain, SINGLE, len])
leaves = st.none() | numbers | texts | times | things
keys = st.integers() | st.text() | st.binary() | st.none() | st.booleans()
values = st.recursive(
    leaves | st.sets(st.integers()) | st.sets(st.text()) | st.frozensets(st.integers()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(Pair, inner, inner)
        | st.builds(Point, st.integers(), inner)
        | st.builds(Sample, st.text(max_size=3), inner, st.lists(inner, max_size=2))
        | st.builds(Frozen, st.integers(), inner)
        | st.builds(Plain, inner)
        | st.builds(Items, st.lists(inner, max_size=3))
        | st.builds(Row, st.dictionaries(keys, inner, max_size=3))
        | st.builds(collections.deque, st.lists(inner, max_size=3))
        | st.builds(OwnError, inner, inner)
        | st.builds(functools.partial, st.just(double), inner)
        | inner.map(lambda item: [item, item])
    ),
    max_leaves=12,
)


@pytest.mark.filterwarnings("ignore::eventstore.value.UnstableValueWarning")
@given(values)
def test_any_nest_of_values_is_recorded_as_redun_does(value):
    """No nest of plain data, times, enums, named tuples, dataclasses and objects differs."""
    found = same_as_redun(value)
    back = default_types.load(found.type_name, found.data, value_hash=found.value_hash)
    assert type(back) is type(value)


@given(
    st.sets(st.integers() | st.floats(allow_nan=False))
    | st.sets(st.text())
    | st.sets(st.tuples(st.text() | st.binary()))
)
def test_a_set_is_hashed_in_sorted_order(value):
    """A set has redun's hash, whatever order it was filled in, or is refused where redun refuses it."""
    try:
        expected = oracle.get_hash(value)
    except TypeError:
        with pytest.raises(UnstorableValueError):
            default_types.hash(value)
        return
    assert default_types.hash(value) == expected
    again = set()
    for member in reversed(list(value)):
        again.add(member)
    assert default_types.hash(again) == expected


@pytest.mark.parametrize("shape", ["alone", "twice", "nested"])
def test_files_and_handles_have_redun_s_bytes_at_any_depth(tmp_path, shape):
    """Files and handles, alone or nested, give redun's bytes and subvalues, and come back as ours."""
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
    subvalues = {default_types.hash(part) for part in default_types.iter_subvalues(ours)}
    assert subvalues == {oracle.get_hash(part) for part in oracle.iter_subvalues(theirs)}
    back = default_types.load(found.type_name, oracle.serialize(theirs), value_hash=found.value_hash)
    assert [type(part) for part in iter_values(back)] == [type(part) for part in iter_values(ours)]
    assert type(oracle.deserialize(found.type_name, found.data)) is type(theirs)


def test_values_inside_containers_are_found_as_redun_finds_them(tmp_path):
    """Lists, tuples, named tuples, dict keys and values, sets and dataclasses are walked alike."""

    def build(file):
        parts = [file(str(tmp_path / str(number))) for number in range(8)]
        nest = [
            parts[0],
            (parts[1], {parts[2]: 1, "k": parts[3]}),
            Sample("x", {parts[4]}),
            Pair(parts[5], 0),
        ]
        return [*nest, Point(1, Sample("y", items=[parts[6]])), Items([parts[7]])]

    found = {part.hash for part in default_types.iter_subvalues(build(File))}
    assert found == {part.hash for part in oracle.iter_subvalues(build(redun.file.File))}
    assert len(found) == 7, "a subclass of list is no container, in both"


@pytest.fixture
def twins(monkeypatch):
    """A module whose class is once ours and once redun's, so that both pickle under one name."""
    module = ModuleType("twin_module")
    monkeypatch.setitem(sys.modules, "twin_module", module)
    made = []

    def define(base, **members):
        module.Reading = type(base)("Reading", (base,), {"__module__": "twin_module", **members})
        made.append(module.Reading)
        return module.Reading

    yield define
    for cls in made:
        if issubclass(cls, redun.value.Value):
            oracle._type_name2value_type.pop(cls.type_name, None)
            oracle._raw2proxy_type.pop(getattr(cls, "type", None), None)


def state_methods():
    """State as a plain dict, which redun wants a class to define."""
    return {
        "__init__": lambda self, x: setattr(self, "x", x),
        "__getstate__": lambda self: {"x": self.x},
        "__setstate__": lambda self, state: self.__dict__.update(state),
    }


def test_a_subclass_of_value_is_recorded_as_redun_does(twins):
    """A user's own Value class has the name, bytes and hash of its twin in redun, and reads it back."""
    ours = ValueTypes().describe(twins(Value, **state_methods())([1, "a"]))
    theirs = twins(redun.value.Value, **state_methods())([1, "a"])
    assert ours.data == oracle.serialize(theirs)
    assert ours.value_hash == oracle.get_hash(theirs)
    assert ours.type_name == oracle.get_type_name(type(theirs)) == "twin_module.Reading"
    cls = twins(Value, **state_methods())
    assert type(ValueTypes().load(ours.type_name, ours.data, value_hash=ours.value_hash)) is cls


def test_a_value_with_its_own_bytes_and_hash_is_recorded_as_redun_does(twins):
    """Own serialization, format, hash and type name are taken over in both."""
    ours = twins(
        Value,
        type_name="lab.Reading",
        format="text/plain",
        own_hash=property(lambda self: hashing.hash_struct(["Reading", self.x])),
        serialize=lambda self: self.x.encode(),
        **state_methods(),
    )("seven")
    theirs = twins(
        redun.value.Value,
        type_name="lab.Reading",
        get_hash=lambda self, data=None: redun.hashing.hash_struct(["Reading", self.x]),
        get_serialization_format=lambda self: "text/plain",
        serialize=lambda self: self.x.encode(),
        **state_methods(),
    )("seven")
    found = ValueTypes().describe(ours)
    assert found.type_name == oracle.get_type_name(type(theirs)) == "lab.Reading"
    assert found.format == oracle.get_serialization_format(theirs)
    assert (found.data, found.value_hash) == (oracle.serialize(theirs), oracle.get_hash(theirs))


class Foreign:
    """A class that somebody else wrote."""

    def __init__(self, x):
        self.x = x


class Derived(Foreign):
    """A subclass of it."""


def test_a_proxy_speaks_for_a_class_and_its_subclasses(twins):
    """A registered type gives the name, bytes and hash of a proxy of redun, found through base classes."""

    class ForeignValues(ValueType):
        def hash(self, value, data=None):
            return hashing.hash_tagged_bytes("Foreign", str(value.x).encode())

        def serialize(self, value):
            return str(value.x).encode()

        def deserialize(self, data):
            return Foreign(int(data))

    types = ValueTypes()
    types.register(Foreign, ForeignValues(f"{__name__}.Foreign"))
    twins(
        redun.value.ProxyValue,
        type=Foreign,
        type_name=f"{__name__}.Foreign",
        get_hash=lambda self, data=None: redun.hashing.hash_tag_bytes(
            "Foreign", str(self.instance.x).encode()
        ),
        serialize=lambda self: str(self.instance.x).encode(),
        deserialize=classmethod(lambda cls, raw_type, data: Foreign(int(data))),
    )
    for value in (Foreign(4), Derived(5)):
        found = types.describe(value)
        assert found.type_name == oracle.get_type_name(type(value))
        assert (found.data, found.value_hash) == (oracle.serialize(value), oracle.get_hash(value))
        assert types.load(found.type_name, found.data).x == oracle.deserialize(found.type_name, found.data).x
    oracle._raw2proxy_type.pop(Derived, None)


def test_values_kept_in_files_are_recorded_as_redun_does(tmp_path, twins):
    """File name, content, recorded bytes and the two hashes, of the path and as an argument, are redun's."""
    folder = str(tmp_path / "kept")
    types = ValueTypes()
    types.register(Foreign, FileCache(folder, f"{__name__}.Foreign"))
    twins(redun.value.FileCache, type=Foreign, type_name=f"{__name__}.Foreign", base_path=folder)
    value = Foreign([1, 2])
    found = types.describe(value)
    (kept,) = pathlib.Path(folder).iterdir()
    content = kept.read_bytes()
    kept.unlink()
    assert found.data == oracle.serialize(value)
    assert kept.read_bytes() == content
    assert found.value_hash == oracle.get_value(value).get_hash(data=found.data)
    assert types.hash(value) == oracle.get_hash(value) != found.value_hash
    assert found.format == oracle.get_serialization_format(value)
    assert types.load(found.type_name, found.data).x == oracle.deserialize(found.type_name, found.data).x


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((bool, text) for text in ("true", "False", "TRUE", "yes", "")),
        *((Colour, text) for text in ("RED", "Colour.BLUE", "Colour.GREEN", "Other.RED", "red")),
        *((Low, text) for text in ("ZERO", "Low.ZERO", "0")),
        *(
            (dt.datetime, text)
            for text in ("2026-01-02", "2026-01-02T03:04:05.5", "2026-01-02 03:04", "soon")
        ),
        *((type(double), text) for text in ("os.path.join", "math.gone", "gone_module.f", "plain")),
        *((int, text) for text in ("3", "-4", "x")),
        *((kind, "a b") for kind in (str, Text, pathlib.PurePosixPath, float)),
    ],
)
def test_arguments_are_parsed_from_text_as_redun_does(kind, text):
    """Text gives the value that redun makes of it, or a ValueError in both."""
    try:
        expected = oracle.parse_arg(kind, text)
    except ValueError:
        with pytest.raises(ValueError):
            default_types.parse_arg(kind, text)
    else:
        found = default_types.parse_arg(kind, text)
        assert (found, type(found)) == (expected, type(expected))


@dataclasses.dataclass
class Kept:
    """A dataclass that remembers how it was made."""

    value: object
    twice: object = dataclasses.field(init=False, default=None)


def test_hooks_around_a_call_reach_what_redun_s_reach(twins):
    """Values at any depth are pre- and postprocessed; what has no hook stays the same object."""
    hooks = {
        "preprocess": lambda self, call: type(self)((self.x, "before", call["n"])),
        "postprocess": lambda self, call: type(self)((self.x, "after", call["n"])),
    }
    from redun.utils import map_nested_value

    def nest(cls):
        kept = Kept(cls(1))
        kept.twice = cls(2)
        kept.note = "stays"
        return {"a": [cls(3), (cls(4), 5)], "k": Pair(cls(6), kept)}

    def told(nested):
        kept = nested["k"].right
        parts = [nested["a"][0], nested["a"][1][0], nested["k"].left, kept.value, kept.twice]
        return [part.x for part in parts], nested["a"][1][1], kept.note

    ours = nest(twins(Value, **state_methods(), **hooks))
    theirs = nest(twins(redun.value.Value, **state_methods(), **hooks))
    for hook in ("preprocess", "postprocess"):
        expected = map_nested_value(lambda leaf, hook=hook: getattr(oracle, hook)(leaf, {"n": 1}), theirs)
        assert told(getattr(default_types, hook)(ours, {"n": 1})) == told(expected)
    plain = [File("x"), {"a": Sample("x")}]
    assert default_types.preprocess(plain, {}) is plain
    assert default_types.postprocess(plain, {}) is plain


# what is different on purpose: each of these is in docs/redun.md --------------------------------------------

anonymous = lambda x: x  # noqa: E731


async def waits_inside(x):
    """A coroutine function with a function inside."""

    def inner():
        return x

    return inner()


def test_a_lambda_of_a_module_is_refused_here():
    """Redun takes a module's lambda, and cannot find it again; here it is refused when it is recorded."""
    theirs = oracle.deserialize("builtins.function", oracle.serialize(anonymous))
    assert redun.value.is_unknown_function(theirs)
    with pytest.raises(UnstorableValueError, match="no name of its own"):
        default_types.describe(anonymous)


def test_a_coroutine_function_is_hashed_whole_here():
    """Redun hashes a coroutine function from its first inner def on, blind to what stands before."""
    assert default_types.hash(waits_inside) != oracle.get_hash(waits_inside)


def test_a_function_that_is_gone_or_changed_is_an_error_here(monkeypatch):
    """Redun gives a stub, or the function as it is now; here reading says that it is another one."""
    found = same_as_redun(double)
    monkeypatch.setattr(sys.modules[__name__], "double", decorated)
    assert oracle.deserialize(found.type_name, found.data) is decorated
    with pytest.raises(NotFoundError) as caught:
        default_types.load(found.type_name, found.data)
    assert caught.value.code == "function_changed"
    monkeypatch.delattr(sys.modules[__name__], "double")
    assert redun.value.is_unknown_function(oracle.deserialize(found.type_name, found.data))
    with pytest.raises(NotFoundError):
        default_types.load(found.type_name, found.data)


def test_times_are_parsed_as_iso_8601_only():
    """Redun guesses with dateutil; here offsets are of `datetime`, and other spellings are refused."""
    theirs = oracle.parse_arg(dt.datetime, "2026-01-02T03:04:05+02:00")
    ours = default_types.parse_arg(dt.datetime, "2026-01-02T03:04:05+02:00")
    assert ours == theirs
    assert default_types.hash(ours) != oracle.get_hash(theirs)
    assert oracle.parse_arg(dt.datetime, "Jan 2 2026")
    with pytest.raises(ValueError, match="ISO 8601"):
        default_types.parse_arg(dt.datetime, "Jan 2 2026")


def test_frozensets_are_walked_here(tmp_path):
    """Redun does not look into frozensets for values; here their members are subvalues too."""
    ours = frozenset({File(str(tmp_path / "a"))})
    assert len(list(default_types.iter_subvalues(ours))) == 1
    assert list(oracle.iter_subvalues(frozenset({redun.file.File(str(tmp_path / "a"))}))) == []


@pytest.mark.parametrize("module", ["redun.value", "redun.hashing"])
def test_every_public_name_of_redun_has_its_line(module):
    """docs/redun.md names each public class, function and method of these modules of redun."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "redun.md").read_text()
    rooms = importlib.import_module(module)
    own = {
        name: member
        for name, member in vars(rooms).items()
        if not name.startswith("_") and getattr(member, "__module__", None) == module
    }
    assert len(own) >= 12
    missing = [name for name in own if f"`{name}`" not in page]
    for name, member in own.items():
        if inspect.isclass(member):
            methods = [
                key for key, item in vars(member).items() if callable(item) or isinstance(item, classmethod)
            ]
            missing += [
                f"{name}.{key}" for key in methods if not key.startswith("_") and f"`{key}`" not in page
            ]
    assert missing == []


def test_formats_are_redun_s():
    """The media type of pickles is the one that redun states."""
    assert redun.value.MIME_TYPE_PICKLE == PICKLE_FORMAT
