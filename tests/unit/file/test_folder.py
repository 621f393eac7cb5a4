"""Folders and sets as values: what is inside, what is refused, and the classes that go together."""

from __future__ import annotations

import pytest

from eventstore.errors import InvalidEventError
from eventstore.file import (
    ContentDir,
    ContentFile,
    ContentFileSet,
    ContentStagingFile,
    Dir,
    File,
    FileSet,
    IDir,
    IFile,
    IFileSet,
    IStagingDir,
)
from eventstore.value import default_types


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "s3://b/x", "a/b/../../..", "a\0b"])
def test_a_path_that_leads_out_of_a_folder_is_refused(tmp_path, path):
    """An absolute path, a URL or dots that lead out are an error, and nothing is touched."""
    with pytest.raises(InvalidEventError) as caught:
        Dir(tmp_path / "d").file(path)
    assert (caught.value.code, caught.value.path) == ("outside_folder", path)
    assert list(tmp_path.iterdir()) == []


def test_dots_inside_of_a_folder_are_kept(tmp_path):
    """A path that stays inside is taken as it is written."""
    assert Dir(tmp_path).file("a/../b").path == f"{tmp_path}/a/../b"


def test_names_of_a_listing_cannot_lead_out(memory_files, tmp_path):
    """A folder whose listing has a name with dots is not copied over what lies beside the target."""
    folder = Dir(f"{memory_files}/evil")
    place = folder.filesystem._at(folder.path)[0]
    place.store[f"{folder.filesystem._at(folder.path)[1]}/../../../x"] = None
    from fsspec.implementations.memory import MemoryFile

    name = f"{folder.filesystem._at(folder.path)[1]}/../../../x"
    place.store[name] = MemoryFile(place, name, b"evil")
    try:
        with pytest.raises(InvalidEventError) as caught:
            folder.copy_to(Dir(tmp_path / "a" / "b"))
        assert caught.value.code == "outside_folder"
        assert list(tmp_path.rglob("x")) == []
    finally:
        del place.store[name]


@pytest.mark.parametrize("path", ["", "/", "//", "s3://", b"x", "a\0b"])
def test_what_names_no_folder_is_refused(path):
    """The root of a place is no folder to be hashed."""
    with pytest.raises(InvalidEventError) as caught:
        Dir(path)
    assert caught.value.code == "bad_path"


def test_families_stay_together(tmp_path):
    """Folders and sets hold files of their family, which stage as their family does."""
    (tmp_path / "a").write_text("x")
    for folder, pattern, kind in (
        (Dir, FileSet, File),
        (IDir, IFileSet, IFile),
        (ContentDir, ContentFileSet, ContentFile),
    ):
        assert [type(file) for file in folder(tmp_path)] == [kind]
        assert [type(file) for file in pattern(f"{tmp_path}/*")] == [kind]
        assert type(folder(tmp_path).file("a")) is kind
    assert type(ContentDir(tmp_path).files()[0].stage()) is ContentStagingFile
    assert type(IDir(tmp_path).stage()) is IStagingDir


def test_by_name_is_always_valid(tmp_path):
    """Files that come, change and go do not matter to the family by name."""
    values = [IFile(tmp_path / "a"), IFileSet(f"{tmp_path}/*"), IDir(tmp_path)]
    before = [value.hash for value in values]
    (tmp_path / "a").write_text("x")
    assert all(value.is_valid() for value in values)
    for value in values:
        value.refresh()
    assert [value.hash for value in values] == before


def test_a_set_changes_with_its_files(tmp_path):
    """A file that comes, changes or goes makes a set and a folder invalid until they are looked at."""
    file = tmp_path / "a.t"
    for value in (FileSet(f"{tmp_path}/*.t"), Dir(tmp_path), ContentFileSet(f"{tmp_path}/*.t")):
        _ = value.hash
        for change in (lambda: file.write_text("1"), lambda: file.write_text("22"), file.unlink):
            assert value.is_valid()
            change()
            assert not value.is_valid()
            value.refresh()


def test_the_files_of_a_set_are_those_of_its_hash(tmp_path):
    """Subvalues are the files as the hash saw them, and are recorded as such."""
    (tmp_path / "a").write_text("1")
    files = FileSet(f"{tmp_path}/*")
    _ = files.hash
    (tmp_path / "b").write_text("2")
    assert [value.file_path for value in files.iter_subvalues()] == [f"{tmp_path}/a"]
    assert default_types.describe(files).type_name == "redun.FileSet"


def test_copying_a_folder(tmp_path):
    """All its files go, at any depth; files that are there can be left as they are."""
    for name in ("a", "b/c"):
        Dir(tmp_path / "from").file(name).write(name)
    target = Dir(tmp_path / "to")
    target.file("a").write("kept")
    assert Dir(tmp_path / "from").copy_to(target, skip_if_exists=True) is target
    assert (target.file("a").read(), target.file("b/c").read()) == ("kept", "b/c")
    told = []
    Dir(tmp_path / "from").copy_to(target, progress=lambda done, size: told.append((done, size)))
    assert target.file("a").read() == "a"
    assert sorted(told) == [(1, 1), (3, 3)]
    assert target.is_valid()
    assert target.rel_path(target.file("b/c").path) == "b/c"


def test_arguments_of_a_command_line_are_paths():
    """A path on a command line is a file, a folder or a set, by the type that is asked for."""
    assert File.parse_arg("a").path == "a"
    assert Dir.parse_arg("a/").path == "a"
    assert FileSet.parse_arg("a/*").pattern == "a/*"
