"""Previews show what a value is and run nothing, however hostile its bytes are; they are short and quick."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import pickle
import pickletools
import struct
import sys
import time
import tracemalloc

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.file import File
from eventstore.pickling import dump_pickle
from eventstore.preview import preview_pickle, preview_value
from eventstore.preview.opcodes import MOST_STEPS
from eventstore.value import ValueTypes

Pair = collections.namedtuple("Pair", ["left", "right"])


class Colour(enum.Enum):
    """An enum."""

    RED = 1


class Plain:
    """A class."""

    def __init__(self, **state):
        self.__dict__.update(state)


class Slotted:
    """Slots."""

    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def proto(*parts: bytes) -> bytes:
    """A pickle of protocol 3 of these opcodes."""
    return b"\x80\x03" + b"".join(parts)


def text(value: str) -> bytes:
    """The opcode for text."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


HERE = __name__
SHOWN = [
    (None, "None"),
    ([1, -2, 2**40, True, 1.5, float("nan")], "[1, -2, 1099511627776, True, 1.5, nan]"),
    ({"a": (1,), (): []}, "{'a': (1,), (): []}"),
    ((1, 2, 3, 4), "(1, 2, 3, 4)"),
    ({1, 2}, "{1, 2}"),
    (frozenset({"a"}), "frozenset({'a'})"),
    (b"\x00a", "b'\\x00a'"),
    ("é\n\x1b[31m\u202e", "'é\\n\\x1b[31m\\u202e'"),
    (Colour.RED, f"{HERE}.Colour(1)"),
    (Pair(1, [2]), f"{HERE}.Pair(1, [2])"),
    (Plain(name="x", inner=Plain()), f"{HERE}.Plain(name='x', inner={HERE}.Plain())"),
    (Plain(**{"no name": 1}), f"{HERE}.Plain('no name': 1)"),
    (decimal.Decimal("1.20"), "decimal.Decimal('1.20')"),
    (dt.datetime(2026, 1, 2, 3, 4, 5), "datetime.datetime(2026-01-02T03:04:05)"),
    (dt.date(2026, 1, 2), "datetime.date(2026-01-02)"),
    (ValueError("no", 3), "ValueError('no', 3)"),
    (collections.OrderedDict(a=1), "collections.OrderedDict(items={'a': 1})"),
    (len, "len"),
    (int, "int"),
]


@pytest.mark.parametrize(("value", "shown"), SHOWN, ids=lambda value: type(value).__name__)
def test_a_pickle_is_shown_as_python_would(value, shown):
    """Containers, numbers, text, and what would be made by whom, in one line without control characters."""
    found = preview_pickle(dump_pickle(value))
    assert found.text == shown
    assert found.whole


@pytest.mark.parametrize("version", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value", [[1, "a", {"k": (1, 2.5, None)}, [True, False]], Plain(a=[1]), {1}, Colour.RED, 10**30, "é" * 5]
)
def test_every_protocol_is_read(value, version):
    """Pickles that were not written here, of older and newer protocols, are shown too."""
    found = preview_pickle(pickle.dumps(value, version))
    assert "damaged" not in found.text
    assert found.text


def test_a_class_with_slots_shows_them():
    """State that is not a plain dict is shown by name as well."""
    assert preview_pickle(pickle.dumps(Slotted([1]), 3)).text == f"{HERE}.Slotted(a=[1])"


def test_classes_that_are_named_are_told_and_not_imported():
    """The names of a pickle are listed; their modules are not even looked for."""
    found = preview_pickle(proto(b"cnot_there_at_all\nThing\n", b")R."))
    assert found == ("not_there_at_all.Thing()", ("not_there_at_all.Thing",), True)
    assert preview_pickle(dump_pickle(File("missing"))).names == ("redun.file.File",)


HOSTILE = {
    "calls": proto(b"cos\nsystem\n", text("touch hacked"), b"\x85R."),
    "builds": proto(b"cbuiltins\nobject\n)\x81", b"}", text("__class__"), b"cos\nsystem\n", b"sb."),
    "calls by instance": b"(S'touch hacked'\nios\nsystem\n.",
    "calls by object": b"(cos\nsystem\nS'touch hacked'\no.",
    "calls by text": b"\x80\x04" + text("os") + text("system") + b"\x93" + text("touch hacked") + b"\x85R.",
    "a named state": proto(b"cbuiltins\nprint\n", b")R", text("x"), b"b."),
    "persistent": b"Phacked\n.",
    "persistent from the stack": proto(text("hacked"), b"Q."),
    "an extension": proto(b"\x82\x01."),
    "a large extension": proto(b"\x84\xff\xff\xff\x7f."),
    "a buffer": b"\x80\x05\x97.",
    "much announced text": proto(b"X\xff\xff\xff\xff", b"a."),
    "much announced bytes": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "a much announced bytearray": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.",
    "a long integer announced": proto(b"\x8b\xff\xff\xff\x7f."),
    "a large frame": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "a far place in the memo": proto(b"Nr\xff\xff\xff\xff", b"0j\xff\xff\xff\xff."),
    "a far line in the memo": b"Np4294967295\n0g4294967295\n.",
    "an absurd line in the memo": b"Np" + b"9" * 4000 + b"\n.",
    "many digits": b"I" + b"9" * 4000 + b"\n.",
    "a line without end": b"I" + b"9" * 1_000_000,
    "a deep nest": proto(b"(" * 1_000_000),
    "deep lists": proto(b"]" * 100_000 + b"a" * 99_999 + b"."),
    "deep tuples": proto(b")" + b"\x85" * 1_000_000 + b"."),
    "deep calls": proto(b"cos\nsystem\n" + b")R" * 500_000 + b"."),
    "a list in itself": proto(b"]q\x00h\x00a."),
    "a dict in itself": proto(b"}q\x00", text("k"), b"h\x00s."),
    "a call of itself": proto(b"cos\nsystem\n", b")Rq\x00h\x00b."),
    "a nested bomb": proto(
        b"]q\x00", *(b"(" + bytes([104, n]) * 20 + bytes([108, 113, n + 1]) for n in range(200)), b"."
    ),
    "many copies": proto(text("x" * 100), b"2" * 1_000_000, b"."),
    "many names": proto(b"".join(b"cm%d\nn\n0" % number for number in range(10_000)), b"N."),
    "endless": proto(b"N0" * 1_000_000, b"."),
    "an empty stack": proto(b"."),
    "a pop from nothing": proto(b"0."),
    "items without a list": proto(b"NNa."),
    "odd items of a dict": proto(b"}(Nu."),
    "a mark as a value": proto(b"(."),
    "a state for a number": proto(b"K\x01}b."),
    "no opcode": proto(b"\xff."),
    "a name that is no text": b"\x80\x04K\x01K\x02\x93.",
    "no class": b"(o.",
    "nothing": b"",
    "only a beginning": b"\x80",
    "control characters": proto(b"c\x1b[2J\rx\nname\x07\n", b"."),
    "a long name": proto(b"c" + b"m" * 3000 + b"\nn\n."),
    "a keyword that is none": proto(b"cm\nn\n", b")R}", text("a)\x1b[31m"), b"Nsb."),
    "a lone surrogate": proto(text("\ud800"), b"."),
    "no UTF-8": proto(b"X\x02\x00\x00\x00\xff\xfe."),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pickle_is_shown_quickly_and_does_nothing(data, tmp_path, monkeypatch):
    """No import, no call, no file, little memory, little time, a short printable line; never an exception."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    events = []
    watching = [True]
    sys.addaudithook(lambda event, args: events.append(event) if watching[0] else None)
    tracemalloc.start()
    started = time.process_time()
    try:
        found = preview_pickle(data, limit=300)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        watching[0] = False
        tracemalloc.stop()
    assert time.process_time() - started < 2
    assert peak < 16_000_000
    assert len(found.text) <= 300
    assert found.text.isprintable()
    assert found.text
    assert len(found.names) <= 100
    assert set(sys.modules) == before
    assert list(tmp_path.iterdir()) == []
    assert [
        event
        for event in events
        if event.split(".")[0] in ("import", "os", "open", "subprocess", "pickle", "exec")
    ] == []


def test_every_opcode_is_known():
    """Each opcode of the newest protocol is either read or told as damage; none is overlooked."""
    for info in pickletools.opcodes:
        found = preview_pickle(b"\x80\x05" + b"](" + info.code.encode("latin-1") + b"\x00" * 20 + b"\n1\n.")
        assert "does not occur" not in found.text, info.name


@given(st.binary(max_size=200), st.integers(0, 120))
def test_any_bytes_are_shown_within_the_limit(data, limit):
    """Whatever the bytes, there is a printable text of at most the asked length."""
    for raw in (data, b"\x80\x03](" + data):
        found = preview_pickle(raw, limit=limit)
        assert len(found.text) <= limit
        assert found.text.isprintable()


CODES = [
    *(b"(", b"N", b"K\x01", b"]", b")", b"}", b"\x8f", b"a", b"e", b"u", b"s", b"t", b"l", b"d", b"."),
    *(b"\x85", b"\x86", b"\x87", b"2", b"0", b"1", b"q\x00", b"h\x00", b"\x94", b"R", b"\x81", b"\x92"),
    *(b"b", b"o", b"cm\nn\n", b"im\nn\n", b"Q", b"\x93", b"\x90", b"\x91", b"\x88", text("a")),
]
opcodes = st.sampled_from(CODES)


@given(st.lists(opcodes, max_size=40))
def test_any_sequence_of_opcodes_is_shown(codes):
    """Opcodes in any order, as no pickler writes them, neither fail nor grow."""
    found = preview_pickle(proto(*codes), limit=100)
    assert len(found.text) <= 100
    assert found.text.isprintable()


@given(st.data())
def test_a_damaged_pickle_is_shown_as_far_as_it_goes(data):
    """A pickle that breaks off, or has other bytes somewhere, is shown; one that breaks off is not whole."""
    whole = dump_pickle({"name": ["x", 1, 2.5], "file": File("missing"), "pair": Pair(1, {2, 3})})
    cut = data.draw(st.integers(0, len(whole) - 1))
    found = preview_pickle(whole[:cut])
    assert not found.whole
    assert "damaged" in found.text
    broken = bytearray(whole)
    broken[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert preview_pickle(bytes(broken)).text.isprintable()


@pytest.mark.parametrize(
    ("value", "begins"),
    [
        (list(range(1_000_000)), "[0, 1, 2,"),
        (tuple(range(1_000_000)), "(0, 1, 2,"),
        ({n: [n] for n in range(200_000)}, "{0: [0], 1: [1]"),
        ([[n] * 3 for n in range(100_000)], "[[0, 0, 0], [1"),
        (Plain(a=list(range(100_000))), f"{HERE}.Plain(a=[0, 1"),
        (set(range(100_000)), "{0, 1"),
        ("y" * 10_000_000, "'yyyy"),
        (b"y" * 10_000_000, "b'yyyy"),
        (10**10_000, "<int of"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_large_value_is_shown_by_its_beginning(value, begins):
    """Large containers and long text are cut, said to be cut, and read no further than needed."""
    data = dump_pickle(value)
    started = time.process_time()
    found = preview_pickle(data)
    assert time.process_time() - started < 1
    assert found.text.startswith(begins)
    assert not found.whole
    assert len(found.text) <= 200


def test_reading_stops_where_it_says():
    """A value of fewer opcodes than the limit is read to its end; text tells nothing of a later part."""
    data = dump_pickle([0] * (MOST_STEPS // 2))
    assert preview_pickle(data, limit=10**6).whole
    assert not preview_pickle(dump_pickle([0] * MOST_STEPS), limit=10**6).whole


def test_other_formats_are_told_without_pickle():
    """Tables and arrays by columns, dtype and shape; text as text; anything else by its type and size."""
    types = ValueTypes()
    types.use_tables("polars", "numpy")
    table = types.describe(pl.DataFrame({"a\x1b": [1, 2], "b": ["x", "y"]}))
    assert preview_value(table.data, table.format).text == "<table of 2 rows: a\\x1b: int64, b: large_string>"
    array = types.describe(np.zeros((2, 3)))
    assert preview_value(array.data, array.format).text == "<array of float64 with shape (2, 3)>"
    assert preview_value(b"one\ntwo", "text/plain") == ("'one\\ntwo'", (), True)
    assert preview_value(b"{}", "application/json").text == "'{}'"
    assert preview_value(b"\x00" * 1000, "image/png\n").text.startswith("<image/png\\n: b'\\x00")
    for damaged in (table.format, array.format):
        found = preview_value(b"\x80\x03N.", damaged)
        assert "damaged" in found.text
        assert not found.whole
    assert preview_value(dump_pickle([1])).text == "[1]"


@given(
    st.binary(max_size=300),
    st.sampled_from(["text/plain", "application/json", "a/b", "x" * 500]),
    st.integers(0, 90),
)
def test_other_formats_are_short_and_printable(data, media_type, limit):
    """Whatever the media type and the bytes, the text is printable and no longer than asked."""
    found = preview_value(data, media_type, limit=limit)
    assert len(found.text) <= limit
    assert found.text.isprintable()
