"""Files of this machine: links, modes, refusals and loops; what a folder and a pattern leave out."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventstore.errors import FilePermissionError, InvalidEventError, StorageError
from eventstore.file import ContentFile, Dir, File, FileSet, local
from eventstore.file.globbing import glob_local
from eventstore.hashing import hash_struct

NOBODY = 65534


@contextmanager
def without_rights() -> Iterator[None]:
    """Be somebody whom file modes stop, also where the tests are run by root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anybody may enter, with a file and a folder that nobody may read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "closed").mkdir()
    (folder / "closed" / "a").write_text("x")
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0)
    (folder / "closed").chmod(0)
    yield folder
    (folder / "closed").chmod(0o700)
    shutil.rmtree(folder)


def test_a_refusal_is_the_builtin_error_too(open_folder):
    """What may not be read, written, listed or looked at is PermissionError with the path, never a hash."""
    acts = {
        f"{open_folder}/secret": lambda path: File(path).read(),
        f"{open_folder}/new": lambda path: File(path).write("x"),
        f"{open_folder}/closed/a": lambda path: File(path).hash,
        f"{open_folder}/closed": lambda path: Dir(path).hash,
        f"{open_folder}/*/a": lambda path: FileSet(path).hash,
        f"{open_folder}/closed/b": lambda path: Dir(path).mkdir(),
    }
    for path, act in acts.items():
        with without_rights(), pytest.raises(PermissionError) as caught:
            act(path)
        assert isinstance(caught.value, FilePermissionError)
        assert (caught.value.code, caught.value.path) == ("no_permission", path)
    assert sorted(entry.name for entry in open_folder.iterdir()) == ["closed", "secret"]


def test_a_file_may_be_written_where_its_folder_may_not(open_folder):
    """Then it is written in place, as there is no beside."""
    file = open_folder / "ours"
    file.write_text("before")
    file.chmod(0o666)
    with without_rights():
        File(file).write("after")
    assert file.read_text() == "after"


@pytest.fixture
def looped(tmp_path: Path) -> Path:
    """A folder with a link to itself further down."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_text("x")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    return tmp_path


@pytest.mark.parametrize("make", [Dir, lambda r: FileSet(f"{r}/**"), lambda r: FileSet(f"{r}/**/f")])
def test_a_loop_of_links_is_an_error(looped, make):
    """The files below it have no end of names; without the link it is a folder like any other."""
    with pytest.raises(StorageError, match="lead back") as caught:
        _ = make(str(looped)).hash
    assert caught.value.code == "symlink_loop"
    (looped / "a" / "b" / "up").unlink()
    assert make(str(looped)).is_valid()


def test_two_links_that_lead_to_each_other_are_a_loop(tmp_path):
    """Also where neither leads to a folder that really is above it."""
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").symlink_to(tmp_path / other)
    with pytest.raises(StorageError) as caught:
        _ = Dir(tmp_path).hash
    assert caught.value.code == "symlink_loop"


def test_a_link_to_itself_is_an_error_and_makes_a_file_invalid(tmp_path):
    """A file that becomes such a link is no longer what it was."""
    path = tmp_path / "a"
    path.write_text("x")
    file = File(path)
    assert file.is_valid()
    path.unlink()
    path.symlink_to(path)
    assert not file.is_valid()
    for act in (file.refresh, file.read, lambda: Dir(tmp_path).hash):
        with pytest.raises(StorageError) as caught:
            act()
        assert caught.value.code == "symlink_loop"


def test_links_are_followed_and_broken_ones_left_out(tmp_path):
    """Two links to one folder are no loop; its files are there under both names."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_text("x")
    (tmp_path / "one").symlink_to("real")
    (tmp_path / "two").symlink_to(tmp_path / "real")
    (tmp_path / "file").symlink_to("real/f")
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = [file.path.removeprefix(f"{tmp_path}/") for file in Dir(tmp_path)]
    assert sorted(found) == ["file", "one/f", "real/f", "two/f"]
    assert sorted(found) == sorted(f.path.removeprefix(f"{tmp_path}/") for f in FileSet(f"{tmp_path}/**"))


def test_a_folder_is_listed_once_and_each_file_looked_at_once(tmp_path, monkeypatch):
    """The hash of a folder costs one listing of each folder and one look at each file; its files no more."""
    for name in range(50):
        (tmp_path / str(name % 5)).mkdir(exist_ok=True)
        (tmp_path / str(name % 5) / str(name)).write_text("x")
    looks, lists = [], []
    stat_, scandir = os.stat, os.scandir
    monkeypatch.setattr(os, "stat", lambda path, **options: looks.append(path) or stat_(path, **options))
    monkeypatch.setattr(os, "scandir", lambda path: lists.append(path) or scandir(path))
    folder = Dir(tmp_path)
    _ = folder.hash
    assert (len(looks), len(lists)) == (50, 6)
    hashes = [file.hash for file in folder.iter_subvalues()]
    assert (len(hashes), len(looks), len(lists)) == (50, 100, 12)


def test_what_is_written_through_a_link_goes_to_its_target(tmp_path):
    """The link stays a link, the target keeps its mode, and other names of it keep the old content."""
    target = tmp_path / "target"
    target.write_text("before")
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    File(tmp_path / "link").write("after")
    assert (tmp_path / "link").is_symlink()
    assert target.read_text() == "after"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_pipe_is_written_as_it_is(tmp_path):
    """What is no regular file is not replaced by one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    File(pipe).write("through")
    reader.join(timeout=10)
    assert got == ["through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_is_not_a_file(tmp_path):
    """Opening one says so; writing one leaves nothing behind."""
    for mode in ("r", "w", "wb", "a"):
        with pytest.raises(StorageError) as caught:
            File(tmp_path).open(mode)
        assert caught.value.code == "is_a_folder"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    """When the last bytes cannot be written, the file before stays, and nothing is left over."""
    file = File(tmp_path / "a").write("before")

    class Full(local.WholeFile):
        def flush(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(local, "WholeFile", Full)
    with pytest.raises(StorageError) as caught:
        file.write("after")
    assert (caught.value.code, caught.value.path) == ("disk_full", file.path)
    assert (tmp_path / "a").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_killed_writer_leaves_the_file_before(tmp_path):
    """Half of what it wrote is in a hidden file that no pattern finds."""
    file = File(tmp_path / "a").write("before")
    child = os.fork()
    if child == 0:
        with file.open("w") as stream:
            stream.write("half")
            stream.flush()
            os._exit(0)
    os.waitpid(child, 0)
    assert file.read() == "before"
    assert file.is_valid()
    assert [each.path for each in Dir(tmp_path)] == [file.path]
    left = [path for path in tmp_path.iterdir() if path.name != "a"]
    assert [path.read_text() for path in left] == ["half"]
    assert left[0].name.startswith(".tmp-")


def test_changing_in_place(tmp_path):
    """Mode ``r+`` changes the file itself, and closing looks at it again."""
    file = File(tmp_path / "a").write("abc")
    with file.open("r+") as stream:
        stream.seek(1)
        stream.write("X")
    assert file.read() == "aXc"


def test_text_is_utf_8_unless_said_otherwise(tmp_path):
    """Whatever the machine's own encoding is."""
    file = File(tmp_path / "a").write("\u00e9")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xa9"
    file.write("\u00e9", encoding="latin-1")
    assert (tmp_path / "a").read_bytes() == b"\xe9"
    assert file.read(encoding="latin-1") == "\u00e9"
    with pytest.raises(UnicodeDecodeError):
        file.read()
    with pytest.raises(ValueError, match="text mode"):
        file.open("rb", encoding="latin-1")


def test_touch_sets_times(tmp_path):
    """Access and change time, also of a file that it makes; the hash is that of then."""
    file = File(tmp_path / "x" / "a")
    file.touch((1.5, 2.5))
    assert (tmp_path / "x" / "a").stat().st_mtime == 2.5
    assert file.hash == hash_struct(["File", "local", file.path, 0, "2.5"])


@pytest.mark.parametrize("name", ["a\nb", "[a]*?", "a:b", "sample:1.txt", "~", "$HOME", " ", "a\\b"])
def test_odd_local_names(tmp_path, name):
    """Line ends, glob characters, colons and shell characters are part of the name."""
    file = File(f"{tmp_path}/{name}").write(name)
    assert [each.path for each in Dir(tmp_path)] == [file.path]
    assert file.read() == name
    assert file.is_valid()


def test_a_relative_name_with_a_colon_is_local(tmp_path, monkeypatch):
    """Only ``name://`` is a protocol."""
    monkeypatch.chdir(tmp_path)
    assert File("sample:1").write("x").is_valid()
    assert [path.name for path in tmp_path.iterdir()] == ["sample:1"]


def test_a_name_that_cannot_be_recorded_is_refused(tmp_path):
    """A name that is no UTF-8 has no hash, alone or in a folder."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(path).write_text("x")
    for value in (File(path), Dir(tmp_path)):
        with pytest.raises(InvalidEventError) as caught:
            _ = value.hash
        assert caught.value.code == "bad_path"


def test_hidden_files_are_found_by_patterns_that_name_the_dot(tmp_path):
    """Others leave them out, and so do folders."""
    for name in (".a", "b", ".c/d"):
        File(tmp_path / name).write("x")
    assert [file.basename() for file in Dir(tmp_path)] == ["b"]
    assert list(glob_local(f"{tmp_path}/.a*")) == [f"{tmp_path}/.a"]
    assert list(glob_local(f"{tmp_path}/.c/*")) == [f"{tmp_path}/.c/d"]


def test_a_file_that_grows_while_it_is_hashed_has_no_hash(tmp_path, monkeypatch):
    """A real writer in between: appended bytes change its version."""
    path = tmp_path / "a"
    path.write_bytes(b"x" * 10)
    plain = local.LocalFiles.open

    def open_then_append(self, at, mode, **options):
        stream = plain(self, at, mode, **options)
        with path.open("ab") as writer:
            writer.write(b"y")
        return stream

    monkeypatch.setattr(local.LocalFiles, "open", open_then_append)
    with pytest.raises(StorageError) as caught:
        _ = ContentFile(path).hash
    assert caught.value.code == "changed_while_hashed"
