"""Pickles carry redun's names for classes of ours, and only these are changed."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import pytest

from eventstore.errors import NotFoundError
from eventstore.file import File
from eventstore.handle import Handle
from eventstore.pickling import dump_pickle, load_pickle, under_stored_names

PACKAGES = Path(__file__).parents[2]


def test_text_that_looks_like_a_class_is_left_alone():
    """Only names of classes are renamed in a pickle, never the same characters inside a string."""
    text = "ceventstore.file\nFile\n"
    value = [text, File("missing"), text.encode(), text * 2]
    back = load_pickle(dump_pickle(value))
    assert back[0] == text
    assert back[2:] == [text.encode(), text * 2]
    assert isinstance(back[1], File)


def test_classes_themselves_are_renamed():
    """A class as a value is stored under redun's name too, and read back as ours."""
    assert (
        dump_pickle([File, Handle])
        == b"\x80\x03]q\x00(credun.file\nFile\nq\x01credun.handle\nHandle\nq\x02e."
    )
    assert load_pickle(dump_pickle([File, Handle])) == [File, Handle]


def test_a_pickle_without_our_classes_is_not_copied():
    """Nothing is walked or copied where no class of ours can be."""
    data = pickle.dumps([1, "a", {"b": 2.5}], protocol=3)
    assert under_stored_names(data) is data


def test_a_class_that_cannot_be_imported_names_what_is_missing(tmp_path, monkeypatch):
    """A module that is there and needs one that is not says which; a class that is gone says that."""
    (tmp_path / "needs_more.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotFoundError, match="not_installed_here") as caught:
        load_pickle(b"\x80\x03cneeds_more\nThing\n.")
    assert caught.value.code == "type_gone"
    with pytest.raises(NotFoundError, match="attribute 'Gone'") as caught:
        load_pickle(b"\x80\x03ccollections\nGone\n.")
    assert (caught.value.code, caught.value.type_name) == ("type_gone", "collections.Gone")


def unpicklers(tree):
    """What a module calls or imports that unpickles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.name in ("load_pickle", "Unpickler"))
            if node.module in ("pickle", "marshal", "shelve", "dill", "cloudpickle"):
                yield node.module
        elif isinstance(node, ast.Attribute) and node.attr in ("load", "loads", "Unpickler", "_Unpickler"):
            if isinstance(node.value, ast.Name) and node.value.id in ("pickle", "marshal", "cloudpickle"):
                yield node.attr
        elif isinstance(node, ast.Attribute) and node.attr in ("load_pickle", "read_pickle"):
            yield node.attr


def test_only_reading_a_value_unpickles():
    """No other room names an unpickler: listings, queries, previews and verification cannot run code."""
    named = set()
    for package in ("eventstore", "projections"):
        for path in (PACKAGES / package).rglob("*.py"):
            text = path.read_text()
            if ("pickle" in text or "marshal" in text) and any(unpicklers(ast.parse(text))):
                named.add(path.relative_to(PACKAGES).as_posix())
    allowed = {
        "eventstore/pickling.py",
        "eventstore/value/__init__.py",
        "eventstore/value/contract.py",
        "eventstore/value/function.py",
        "eventstore/file_cache.py",
        "eventstore/workflow/failure.py",
    }
    assert named == allowed
