"""The rule by which an argument is traced to the calls that it came from."""

from __future__ import annotations

import pytest

from eventstore.file import File
from eventstore.value import default_types
from eventstore.workflow import origins
from eventstore.workflow.origins import Origins


def noted(*results):
    """Origins that saw these results, of calls "0", "1", ..."""
    made = Origins()
    for number, result in enumerate(results):
        made.note(result, default_types.hash(result), 10, str(number))
    return made


def of(made, value):
    """The call hashes that a value came from."""
    return made.of(value, default_types.hash(value))


class Thing:
    """An object that only identity tells from an equal one."""

    def __init__(self, name):
        self.name = name


def test_an_equal_value_comes_from_the_latest_call_that_returned_it():
    """The whole argument decides first, by value hash; a later equal result takes over."""
    made = noted([1, 2], 7, [1, 2])
    assert of(made, [1, 2]) == ("2",)
    assert of(made, 7) == ("1",)
    assert of(made, [9]) == ()


@pytest.mark.parametrize("value", [None, True, False, "", b"", [], (), {}, set()])
def test_what_is_everywhere_says_nothing(value):
    """None, booleans and empty things have no origin, alone or as members."""
    made = noted(value, [value, 5])
    assert of(made, value) == ()
    assert of(made, [value]) == ()


def test_members_are_traced_one_by_one():
    """Gathered results and taken-apart results are found: numbers and text by value, the rest by identity."""
    thing, other = Thing("a"), Thing("b")
    inner = [1, 2]
    made = noted(3, "text", thing, inner, {"k": 4.5, "j": other})
    assert of(made, [3, "text", 3]) == ("0", "1")
    assert of(made, (inner, thing)) == ("3", "2")
    assert of(made, other) == ("4",)
    assert of(made, 4.5) == ("4",)
    assert of(made, [Thing("a")]) == ()
    assert of(made, [[1, 2]]) == ()
    assert of(made, [3.0]) == ()


def test_files_are_traced_by_their_hash(tmp_path):
    """A file that was returned is found again while it is the same, through another object too."""
    path = tmp_path / "a"
    path.write_text("1")
    made = noted([File(path)])
    assert of(made, File(path)) == ("0",)
    path.write_text("22")
    assert of(made, File(path)) == ()


def test_memory_is_bounded(monkeypatch):
    """The oldest results are forgotten: by number, and by bytes where objects are held."""
    monkeypatch.setattr(origins, "_MOST_RESULTS", 2)
    made = noted(*[Thing(n) for n in range(3)])
    assert len(made._calls) == len(made._held) == len(made._members) == 2
    monkeypatch.setattr(origins, "_MOST_BYTES", 15)
    first, second, huge = [1], [2], [3]
    made = Origins()
    made.note(first, "f", 10, "0")
    made.note(second, "s", 10, "1")
    made.note(huge, "h", 100, "2")
    assert made.of([first], "x") == ()
    assert made.of([second], "x") == ("1",)
    assert made.of([huge], "x") == ()
    assert made.of(huge, "h") == ("2",)


def test_a_forgotten_result_does_not_take_a_newer_one_with_it(monkeypatch):
    """When an old result is forgotten, an equal newer one keeps its place."""
    monkeypatch.setattr(origins, "_MOST_BYTES", 25)
    made = Origins()
    for call_hash in "012":
        made.note(7, "v", 10, call_hash)
    assert made.of([7], "x") == ("2",)


def test_wide_containers_are_traced_as_a_whole_only(monkeypatch):
    """More members than the limit are not looked at one by one."""
    monkeypatch.setattr(origins, "_MOST_MEMBERS", 2)
    made = noted(5, [6, 7, 8])
    assert of(made, [5, 1, 1]) == ()
    assert of(made, 6) == ()
    assert of(made, [6, 7, 8]) == ("1",)
    assert of(made, [5, 1]) == ("0",)
