"""Local files are hashed as redun does, and notice when the file changes."""

from __future__ import annotations

import os
import pickle

import pytest
import redun.file

from eventstore.errors import InvalidEventError
from eventstore.file import File, LocalFiles, places, register_protocol


@pytest.mark.parametrize("content", [None, "", "text", "\u00e9" * 1000])
@pytest.mark.parametrize("mtime", [0, 1.5, 1_700_000_000.123456, 4_000_000_000])
def test_the_hash_is_that_of_redun(tmp_path, content, mtime):
    """Missing, empty and odd files, with odd times, have the hash that redun gives them."""
    path = tmp_path / "a b.txt"
    if content is not None:
        path.write_text(content)
        os.utime(path, (mtime, mtime))
    assert File(path).hash == redun.file.File(str(path)).hash
    assert File(path).hash == File(path).own_hash


def test_a_folder_and_a_path_through_a_file_are_hashed_as_redun_does(tmp_path):
    """A folder has its own size and time; a path below a file is a missing file."""
    (tmp_path / "file").write_text("x")
    for path in (str(tmp_path), str(tmp_path / "file" / "below")):
        assert File(path).hash == redun.file.File(path).hash


def test_a_relative_path_is_hashed_as_written(tmp_path, monkeypatch):
    """Two spellings of one path are two files, as in redun."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("x")
    assert File("a").hash == redun.file.File("a").hash != File("./a").hash


def test_a_change_makes_it_invalid_until_it_is_looked_at_again(tmp_path):
    """A file is valid while it is as last looked at; refresh() looks again."""
    path = tmp_path / "a"
    path.write_text("1")
    file = File(path)
    before = file.hash
    assert file.is_valid()
    path.write_text("22")
    assert not file.is_valid()
    assert file.hash == before
    file.refresh()
    assert file.is_valid()
    path.unlink()
    assert not file.is_valid()


def test_reading_and_writing(tmp_path):
    """write() makes folders, replaces and looks again; read() gives text or bytes; size() counts bytes."""
    file = File(tmp_path / "x" / "y.txt")
    assert not file.exists()
    assert file.write("h\u00e9").exists()
    assert file.read() == "h\u00e9"
    assert file.read("rb") == "h\u00e9".encode()
    assert file.size() == 3
    assert file.is_valid()
    assert file.write(b"\x00").read("rb") == b"\x00"
    assert os.fspath(file) == file.path == file.file_path


def test_it_is_pickled_with_the_hash_of_its_time(tmp_path):
    """A pickled file remembers how the file was then, so a later change shows."""
    path = tmp_path / "a"
    path.write_text("1")
    data = pickle.dumps(File(path))
    assert pickle.loads(data).is_valid()
    path.write_text("22")
    assert not pickle.loads(data).is_valid()


@pytest.mark.parametrize("path", ["", b"raw"])
def test_a_path_is_text(path):
    """An empty path or one in bytes is refused."""
    with pytest.raises(InvalidEventError) as caught:
        File(path)
    assert caught.value.code == "bad_path"


def test_an_unknown_protocol_is_refused_and_can_be_taught(monkeypatch):
    """A URL of a protocol that is not known says which are; register_protocol() adds one."""
    with pytest.raises(InvalidEventError) as caught:
        File("toy://a")
    assert caught.value.code == "unknown_protocol"

    class Toys(LocalFiles):
        def hash(self, path):
            return "7" * 40

    monkeypatch.setattr(places, "_places", dict(places._places))
    register_protocol("toy", Toys())
    assert File("toy://a").hash == "7" * 40
