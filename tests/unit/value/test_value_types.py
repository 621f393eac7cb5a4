"""The registry: who speaks for a value, what is checked when it is read back, and what is refused."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import fractions
import pickle
import sys
from types import ModuleType

import pytest

from eventstore.errors import IntegrityError, InvalidEventError, NotFoundError, StateError
from eventstore.file import File
from eventstore.pickling import PICKLE_FORMAT, dump_pickle
from eventstore.value import UnstorableValueError, Value, ValueType, ValueTypes, default_types


class Colour(enum.Enum):
    """An enum."""

    RED = 1


class Moment(dt.datetime):
    """A subclass of datetime."""


@dataclasses.dataclass
class Sample:
    """A dataclass."""

    name: str


def double(x):
    """Twice."""
    return 2 * x


def triple(x):
    """Three times."""
    return 3 * x


anonymous = lambda x: x  # noqa: E731


class Rounded(ValueType):
    """Fractions as the text of the nearest integer."""

    format = "text/plain"

    def serialize(self, value):
        """The text."""
        return str(round(value)).encode()

    def hash(self, value, data=None):
        """Always the same."""
        return "0" * 40

    def hash_of_bytes(self, data):
        """The same."""
        return "0" * 40

    def deserialize(self, data):
        """The number."""
        return int(data)

    def is_valid(self, value):
        """Unless it is zero."""
        return value != 0

    def preprocess(self, value, call):
        """Add what the call says."""
        return value + call["more"]


class Ratio(fractions.Fraction):
    """A subclass."""


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
    assert ValueTypes().load("lab.Reading", b"7", "text/plain", value_hash=found.value_hash).number == 7
    assert ValueTypes().parse_arg(Reading, "8").number == "8"
    with pytest.raises(NotFoundError) as caught:
        ValueTypes().load("lab.Reading", b"7")
    assert caught.value.code == "unknown_format"
    assert ValueTypes().type_name(Unnamed()) == f"{__name__}.Unnamed"


def test_a_registered_type_speaks_for_subclasses():
    """register() lets one type speak for a foreign class and what is derived from it, in all it is asked."""
    types = ValueTypes()
    assert types.type_name(Ratio(1, 2)) == f"{__name__}.Ratio"
    types.register(fractions.Fraction, Rounded("lab.Fraction"))
    assert types.describe(Ratio(7, 2)) == ("0" * 40, "lab.Fraction", "text/plain", b"4", None)
    assert types.load("lab.Fraction", b"4", "text/plain", value_hash="0" * 40) == 4
    assert types.is_valid([Ratio(1, 2)])
    assert not types.is_valid({"a": (Ratio(0), 1)})
    assert types.preprocess([Ratio(1, 2), "x"], {"more": 1}) == [Ratio(3, 2), "x"]
    assert types.parse_arg(Ratio, "3/4") == Ratio(3, 4)


def test_a_type_may_decline_a_subclass():
    """Where a type does not speak for a subclass, that is what it would be without."""

    class Only(Rounded):
        def speaks_for(self, kind):
            return kind is fractions.Fraction

    types = ValueTypes()
    types.register(fractions.Fraction, Only("lab.Fraction"))
    assert types.type_name(fractions.Fraction(1)) == "lab.Fraction"
    assert types.type_name(Ratio(1)) == f"{__name__}.Ratio"


def test_a_class_redefined_is_read_as_its_last_definition():
    """The last subclass of Value of a name reads what is stored under it."""

    def define():
        class Again(Value):
            type_name = "lab.Again"
            format = "text/plain"

            @classmethod
            def deserialize(cls, data):
                return cls

        return Again

    define()
    last = define()
    assert ValueTypes().load("lab.Again", b"", "text/plain") is last


def test_an_unknown_type_name_means_a_plain_pickle():
    """Bytes under a type name that nobody knows are unpickled, and their hash is not second-guessed."""
    data = pickle.dumps([1], protocol=3)
    assert default_types.load("gone.Class", data) == [1]
    assert default_types.load("gone.Class", data, value_hash="f" * 40) == [1]
    assert default_types.load("no dots", data) == [1]


def test_a_type_whose_module_is_gone_is_named(monkeypatch):
    """A class of a module that is gone, or gone from its module, is an error that names it."""
    module = ModuleType("gone_module")
    module.Gone = type("Gone", (), {"__module__": "gone_module", "__qualname__": "Gone"})
    monkeypatch.setitem(sys.modules, "gone_module", module)
    data = dump_pickle([module.Gone()])
    del module.Gone
    for _ in range(2):
        with pytest.raises(NotFoundError, match=r"gone_module\.Gone was expected") as caught:
            default_types.load("builtins.list", data)
        assert (caught.value.code, caught.value.type_name) == ("type_gone", "gone_module.Gone")
        monkeypatch.delitem(sys.modules, "gone_module", raising=False)


def test_a_type_in_a_module_that_was_not_imported_yet_is_found(tmp_path, monkeypatch):
    """A type with a format of its own is found by its name, importing its module; not without trust."""
    (tmp_path / "lab_types.py").write_text(
        "from eventstore.value import Value\n"
        "class Reading(Value):\n"
        "    format = 'text/plain'\n"
        "    deserialize = classmethod(lambda cls, data: data.decode())\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotFoundError):
        default_types.without_pickle().load("lab_types.Reading", b"x", "text/plain")
    assert "lab_types" not in sys.modules
    assert default_types.load("lab_types.Reading", b"x", "text/plain") == "x"
    assert default_types.without_pickle().load("lab_types.Reading", b"x", "text/plain") == "x"
    monkeypatch.delitem(sys.modules, "lab_types")


@pytest.mark.parametrize(
    "value", [[1, "a"], Sample("x"), {1, 2}, double, Colour.RED, Moment(2026, 1, 1), None, File("missing")]
)
def test_bytes_that_are_not_those_of_the_hash_are_an_error(value):
    """What is read under a hash has that hash, and bytes of another value are refused."""
    found = default_types.describe(value)
    args = (found.type_name, found.data, found.format)
    back = default_types.load(*args, value_hash=found.value_hash)
    assert default_types.describe(back).value_hash == found.value_hash
    if isinstance(value, File):
        return  # its hash is in its bytes; the next test is of those that are hashed
    with pytest.raises(IntegrityError, match=found.value_hash) as caught:
        default_types.load(*args, value_hash="f" * 40)
    assert caught.value.code == "value_hash"


ran: list[int] = []


def note():
    """Says that it ran."""
    ran.append(1)
    return []


def test_bytes_are_checked_before_they_are_unpickled():
    """A pickle under the hash of another value is refused before anything in it runs."""
    ran.clear()
    good = default_types.describe([1])
    hostile = f"\x80\x03c{__name__}\nnote\n)R.".encode("latin-1")
    with pytest.raises(IntegrityError):
        default_types.load("builtins.list", hostile, value_hash=good.value_hash)
    assert ran == []
    default_types.load("builtins.list", hostile)
    assert ran == [1], "unchecked, it would have run"


def test_without_trust_nothing_is_unpickled():
    """Types without pickle refuse every pickle by a StateError, and read what is in other formats."""
    careful = default_types.without_pickle()
    for value in ([1], {1}, double, File("missing"), Colour.RED):
        found = careful.describe(value)
        assert found == default_types.describe(value)
        with pytest.raises(StateError, match="trust_pickle") as caught:
            careful.load(found.type_name, found.data, found.format)
        assert caught.value.code == "pickle_not_trusted"
    with pytest.raises(StateError):
        careful.load("gone.Class", dump_pickle(1))
    with pytest.raises(NotFoundError):
        careful.load("builtins.list", dump_pickle(1), "text/plain")
    types = ValueTypes()
    careful = types.without_pickle()
    types.register(fractions.Fraction, Rounded("lab.Fraction"))
    assert careful.load("lab.Fraction", b"4", "text/plain") == 4


def test_a_name_of_a_lazy_module_imports_nothing_without_trust(monkeypatch):
    """Looking for a type does not ask a module for attributes that it would have to import."""
    module = ModuleType("lazy_module")
    asked = []
    module.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    with pytest.raises(NotFoundError):
        default_types.without_pickle().load("lazy_module.Thing", b"", "text/plain")
    assert asked == []


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({1, "a"}, "unsortable_set"),
        (anonymous, "local_function"),
        (lambda: None, "local_function"),
    ],
)
def test_what_has_no_stable_hash_is_refused(value, code):
    """Mixed sets and functions that no name leads to have errors of their own, which survive pickling."""
    for ask in (default_types.describe, default_types.hash):
        with pytest.raises(UnstorableValueError) as caught:
            ask(value)
        assert caught.value.code == code
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.code, str(again)) == (code, str(caught.value))


def test_a_function_without_source_is_refused():
    """A function made by exec has no source to tell its versions apart."""
    space = {"__name__": "nowhere"}
    exec("def made(x):\n    return x", space)  # noqa: S102 - the point of the test
    with pytest.raises(UnstorableValueError) as caught:
        default_types.describe(space["made"])
    assert caught.value.code == "no_function_source"


def test_a_function_is_read_back_only_while_it_is_the_same(monkeypatch):
    """A stored function is found again while its source is the same; else the error says which it is."""
    found = default_types.describe(double)
    assert default_types.load(found.type_name, found.data, value_hash=found.value_hash) is double
    monkeypatch.setattr(sys.modules[__name__], "double", triple)
    with pytest.raises(NotFoundError, match="reads otherwise") as caught:
        default_types.load(found.type_name, found.data)
    assert caught.value.code == "function_changed"
    gone = found.data.replace(__name__.encode(), b"gone_" + __name__.encode()[5:])
    with pytest.raises(NotFoundError, match="no module") as caught:
        default_types.load(found.type_name, gone)
    assert caught.value.code == "type_gone"


@pytest.mark.parametrize(
    ("kind", "text"),
    [(bool, "yes"), (Colour, "GREEN"), (dt.datetime, "soon"), (type(double), "gone_module.f")],
)
def test_text_that_stands_for_no_value_is_an_error(kind, text):
    """An argument that cannot be parsed says what was expected and what was found."""
    with pytest.raises(InvalidEventError, match=repr(text)) as caught:
        default_types.parse_arg(kind, text)
    assert caught.value.code == "bad_argument"


def test_a_subclass_of_datetime_parses_to_itself():
    """A time is made by the class that is asked for."""
    assert type(default_types.parse_arg(Moment, "2026-01-02T03:04:05Z")) is Moment


def test_recorded_data_names_redun_s_format():
    """Plain values are pickles, and say so."""
    assert default_types.describe([1]).format == PICKLE_FORMAT
    assert default_types.describe([1]).data == pickle.dumps([1], protocol=3)
