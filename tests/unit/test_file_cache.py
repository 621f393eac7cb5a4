"""Values kept in files: written once, checked against their name, and told when they are gone."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from eventstore.errors import IntegrityError, NotFoundError, StateError
from eventstore.file_cache import FileCache
from eventstore.hashing import hash_bytes, hash_tagged_bytes
from eventstore.value import ValueTypes


class Data:
    """A large thing."""

    def __init__(self, content):
        self.content = content

    def __eq__(self, other):
        return self.content == other.content

    __hash__ = None


class JsonCache(FileCache):
    """Kept as JSON."""

    def encode(self, value):
        """Text."""
        return json.dumps(value.content).encode()

    def decode(self, data):
        """From text."""
        return Data(json.loads(data))


@pytest.fixture
def types(tmp_path):
    """Types that keep `Data` in files."""
    types = ValueTypes()
    types.register(Data, FileCache(str(tmp_path / "kept"), "lab.Data"))
    return types


def only_file(folder):
    """The one file in a folder."""
    (path,) = folder.iterdir()
    return path


def test_a_value_is_kept_in_a_file_named_by_its_content(types, tmp_path):
    """What is recorded is the path; the file holds the pickle; the hash is that of the path."""
    found = types.describe(Data([1]))
    path = only_file(tmp_path / "kept")
    assert found.data == str(path).encode()
    assert path.name == hash_bytes(path.read_bytes())
    assert path.read_bytes() == pickle.dumps(Data([1]), protocol=3)
    assert found.value_hash == hash_tagged_bytes("Value", found.data)
    assert types.load("lab.Data", found.data, value_hash=found.value_hash) == Data([1])


def test_an_equal_value_is_not_written_again(types, tmp_path):
    """The file stays as it is; a torn one is written anew."""
    types.describe(Data([1]))
    path = only_file(tmp_path / "kept")
    content, before = path.read_bytes(), path.stat().st_mtime_ns
    types.describe(Data([1]))
    assert only_file(tmp_path / "kept").stat().st_mtime_ns == before
    path.write_bytes(content[:5])
    types.describe(Data([1]))
    assert path.read_bytes() == content


def test_the_hash_alone_writes_nothing(types, tmp_path):
    """Hashing an argument leaves no file."""
    types.hash(Data([1]))
    assert not (tmp_path / "kept").exists()


def test_a_file_that_is_gone_is_an_error(types, tmp_path):
    """A deleted file is told with its path; a cache treats that as a miss."""
    found = types.describe(Data([1]))
    only_file(tmp_path / "kept").unlink()
    with pytest.raises(NotFoundError, match="kept") as caught:
        types.load("lab.Data", found.data)
    assert caught.value.code == "value_file_gone"


@pytest.mark.parametrize("content", [b"", b"\x80\x03N.", b"x" * 100])
def test_a_file_with_other_content_is_never_unpickled(types, tmp_path, content):
    """Content that does not have the digest in the name is refused, as is a name that is no digest."""
    found = types.describe(Data([1]))
    path = only_file(tmp_path / "kept")
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        types.load("lab.Data", found.data)
    assert caught.value.code == "value_file_digest"
    other = Path(tmp_path / "plain")
    other.write_bytes(content)
    with pytest.raises(IntegrityError):
        types.load("lab.Data", str(other).encode())


def test_content_may_be_encoded_otherwise(tmp_path):
    """A subclass says what is in the file."""
    types = ValueTypes()
    types.register(Data, JsonCache(str(tmp_path / "kept"), "lab.Data"))
    found = types.describe(Data({"a": 1}))
    assert only_file(tmp_path / "kept").read_bytes() == b'{"a": 1}'
    assert types.load("lab.Data", found.data) == Data({"a": 1})


def test_without_trust_it_is_not_read(types):
    """What the file holds may be a pickle."""
    found = types.describe(Data([1]))
    with pytest.raises(StateError):
        types.without_pickle().load("lab.Data", found.data)
