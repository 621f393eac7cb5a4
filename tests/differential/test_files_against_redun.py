"""Files have redun's hashes, type names and bytes, wherever they lie; what differs on purpose is here too."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redun.file
from hypothesis import given, settings
from hypothesis import strategies as st
from places_kit import place_named, places
from redun.value import get_type_registry

import eventstore.file
from eventstore.file import File, FileSet, place_of
from eventstore.file.globbing import glob_local
from eventstore.pickling import load_pickle
from eventstore.value import default_types
from tools.emulators import azure

oracle = get_type_registry()
TREE = {
    "a.txt": b"a",
    "empty": b"",
    "b/c.txt": b"sea",
    "b/d/e.txt": b"deep" * 100,
    "with blank/\u00fcn\u00ef.txt": b"x",
    "plus+&=%.txt": b"y",
}
LOCAL_ONLY = {"new\nline": b"n", "[a].txt": b"z", "sp?r*": b"s", ".hidden": b"h", "b/.hidden/f": b"h"}
SINGLE = ["File", "IFile", "ContentFile"]
MANY = ["FileSet", "IFileSet", "ContentFileSet"]
FOLDERS = ["Dir", "IDir", "ContentDir"]
STAGED_FILES = ["StagingFile", "IStagingFile", "ContentStagingFile"]
STAGED_FOLDERS = ["StagingDir", "IStagingDir", "ContentStagingDir"]


def both(name: str, *arguments: Any) -> tuple[Any, Any]:
    """The same value of ours and of redun."""
    return getattr(eventstore.file, name)(*arguments), getattr(redun.file, name)(*arguments)


def assert_same(ours: Any, theirs: Any) -> None:
    """Hash, type name, bytes and format agree, and each reads the other's bytes as its own."""
    found = default_types.describe(ours)
    assert found.value_hash == oracle.get_hash(theirs)
    assert found.type_name == oracle.get_type_name(type(theirs))
    assert found.data == oracle.serialize(theirs)
    assert found.format == oracle.get_serialization_format(theirs)
    assert type(load_pickle(oracle.serialize(theirs))) is type(ours)
    assert type(pickle.loads(found.data)) is type(theirs)


@pytest.fixture(scope="module")
def redun_reaches(azure_ahead: object) -> Iterator[Callable[[str], None]]:
    """Give redun the connections that we have, where it has no option for them."""

    def reach(url: str) -> None:
        protocol = url.partition(":")[0]
        theirs = redun.file.get_filesystem(protocol)
        if protocol == "az":
            patch.setattr(theirs._local, "pid", os.getpid())
            patch.setattr(
                theirs._local, "file_systems", {azure.ACCOUNT: place_of(url)._at(url)[0]}, raising=False
            )
        elif protocol in ("gs", "ftp"):
            patch.setattr(theirs, "_fs", place_of(url)._at(url)[0])

    with pytest.MonkeyPatch.context() as patch:
        yield reach


@pytest.fixture(scope="module", params=places("local", "s3", "gs", "az"))
def tree(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    redun_reaches: Callable[[str], None],
) -> str:
    """A folder with the files of TREE, in one place after the other."""
    root = place_named(request.param, request, tmp_path_factory.mktemp("tree"))
    local = request.param == "local"
    for name, content in {**TREE, **(LOCAL_ONLY if local else {})}.items():
        File(f"{root}/{name}").write(content)
    if not local:
        redun_reaches(root)
    return root


@pytest.mark.parametrize("kind", SINGLE)
def test_files_are_those_of_redun(tree: str, kind: str) -> None:
    """Every file, of every family, has redun's hash, name and bytes; a missing one too, but by content."""
    for name in TREE:
        assert_same(*both(kind, f"{tree}/{name}"))
    if kind != "ContentFile":
        assert_same(*both(kind, f"{tree}/nothing/here"))


@pytest.mark.parametrize("kind", MANY)
@pytest.mark.parametrize("pattern", ["*", "b/*", "**", "**/*.txt", "none*"])
def test_file_sets_are_those_of_redun(tree: str, kind: str, pattern: str) -> None:
    """A pattern finds the same files, with the same hash of the whole."""
    if kind != "FileSet" and pattern not in ("b/*", "none*") and "://" in tree:
        return
    ours, theirs = both(kind, f"{tree}/{pattern}")
    assert sorted(file.path for file in ours) == sorted(file.path for file in theirs)
    assert_same(ours, theirs)
    assert {type(file).__name__ for file in ours} == {type(file).__name__ for file in theirs}


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("name", ["", "/b", "/with blank/", "/nothing"])
def test_folders_are_those_of_redun(tree: str, kind: str, name: str) -> None:
    """A folder has the same files and the same hash, also one that is not there."""
    ours, theirs = both(kind, tree + name)
    assert sorted(file.path for file in ours) == sorted(file.path for file in theirs)
    assert_same(ours, theirs)
    assert sorted(file.hash for file in ours.iter_subvalues()) == sorted(
        file.hash for file in theirs.iter_subvalues()
    )


@pytest.mark.parametrize("kind", [*STAGED_FILES, *STAGED_FOLDERS])
def test_staging_is_that_of_redun(tree: str, kind: str) -> None:
    """A staged file or folder has redun's hash, name and bytes, and stages to the same class."""
    name = "b" if kind.endswith("Dir") else "a.txt"
    ours, theirs = both(kind, "here", f"{tree}/{name}")
    if kind != "ContentStagingFile":
        assert_same(ours, theirs)
    assert ours.own_hash == theirs.get_hash()
    family = kind.replace("Staging", "")
    assert type(both(family, f"{tree}/{name}")[0].stage("here")) is type(ours)


def test_what_one_writes_the_other_reads(tree: str) -> None:
    """Written, copied, listed and removed by either, a file is the same to both; a missing one to neither."""
    root = f"{tree}-both"
    ours, theirs = both("File", f"{root}/x/ours")
    ours.write(b"ours" * 1000)
    assert theirs.read("rb") == ours.read("rb") == b"ours" * 1000
    assert theirs.size() == ours.size() == 4000
    theirs = redun.file.File(f"{root}/x/theirs")
    theirs.write("theirs")
    again = File(theirs.path)
    assert (again.read(), again.hash) == ("theirs", theirs.hash)
    copy = again.copy_to(File(f"{root}/y/copy"))
    assert redun.file.File(copy.path).read() == "theirs"
    assert copy.write("more", mode="a").read() == "theirsmore"
    assert len(eventstore.file.Dir(root).files()) == len(redun.file.Dir(root).files()) == 3
    theirs.remove()
    assert not again.exists()
    assert not again.is_valid()
    with pytest.raises(FileNotFoundError):
        again.read()
    eventstore.file.Dir(root).rmdir(recursive=True)
    assert redun.file.Dir(root).files() == []


@pytest.mark.emulator
def test_a_data_set_is_that_of_redun(s3_files: str) -> None:
    """The shards' names give the same hash and bytes, with and without folders below; on S3, as in redun."""
    tree = f"{s3_files}/{os.urandom(4).hex()}"
    for name in ("x=1/a.parquet", "x=2/b.parquet", "c.parquet", "note.md"):
        File(f"{tree}/set/{name}").write(b"rows")
    for recurse in (True, False):
        ours = eventstore.file.ShardedDataset(f"{tree}/set/", recurse=recurse)
        theirs = redun.file.ShardedS3Dataset(f"{tree}/set/", recurse=recurse)
        assert ours.filenames == theirs.filenames
        assert len(ours.filenames) == (3 if recurse else 1)
        assert theirs.hash == ours.hash
        assert_same(ours, theirs)


def test_the_siblings_of_a_folder_on_s3_are_in_its_hash(s3_files: str) -> None:
    """As in redun, keys that begin alike are in the hash of a folder on S3, though not among its files."""
    root = f"{s3_files}/{os.urandom(4).hex()}"
    for name in ("dir/a", "dirX/b", "dir"):
        File(f"{root}/{name}").write(name)
    ours, theirs = both("Dir", f"{root}/dir")
    assert_same(ours, theirs)
    assert [file.path for file in ours] == [f"{root}/dir/a"]


@pytest.mark.emulator
def test_http_files_are_those_of_redun(http_files: str, web_folder: Path) -> None:
    """Sizes over HTTP, of files that are there and not, and of what a page links to."""
    (web_folder / "data").mkdir()
    for name in ("a.txt", "b.bin"):
        (web_folder / "data" / name).write_bytes(name.encode() * 7)
    for name in ("data/a.txt", "data/b.bin", "data/none"):
        assert_same(*both("File", f"{http_files}/{name}"))
    assert_same(*both("ContentFile", f"{http_files}/data/a.txt"))
    for pattern in ("data/*.txt", "data/*"):
        ours, theirs = both("FileSet", f"{http_files}/{pattern}")
        assert len(ours.files()) == len(theirs.files()) > 0
        assert_same(ours, theirs)
    ours, theirs = both("Dir", f"{http_files}/data")
    assert len(ours.files()) == 2
    assert_same(ours, theirs)


@pytest.mark.emulator
def test_ftp_files_are_those_of_redun(ftp_files: str, redun_reaches: Callable[[str], None]) -> None:
    """Sizes over FTP, of files that are there and not."""
    root = f"{ftp_files}/{os.urandom(4).hex()}"
    for name, content in TREE.items():
        File(f"{root}/{name}").write(content)
    redun_reaches(root)
    for name in (*TREE, "none"):
        assert_same(*both("File", f"{root}/{name}"))


names = st.sampled_from(["a", "b", "ab", ".h", "a.b", "[", "a b"])
parts = st.sampled_from(["*", "**", "a*", "?", "[ab]*", ".*", "a", "b", "[!a]", "*.b", "[[]"])


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders with odd names, hidden ones, and links to files, folders and nothing."""
    root = tmp_path_factory.mktemp("forest")
    for first in ("a", "b", ".h", "a.b", "["):
        for second in ("a", "ab", ".h", "a b"):
            (root / first / second).mkdir(parents=True)
            for third in ("a", "a.b", ".h"):
                (root / first / second / third).write_text(first + second + third)
    (root / "link").symlink_to(root / "b" / "a")
    (root / "a" / "file").symlink_to(root / "b" / "a" / "a")
    (root / "a" / "broken").symlink_to(root / "nowhere")
    return root


@settings(max_examples=150)
@given(found=st.lists(parts, min_size=1, max_size=4), slash=st.booleans())
def test_patterns_match_as_in_redun(forest: Path, found: list[str], slash: bool) -> None:
    """Any pattern finds the same paths as redun's, as often, and a set of them has the same hash."""
    pattern = f"{forest}/{'/'.join(found)}{'/' if slash else ''}"
    # Where ** stands behind a file, glob has the file once more, with a slash: there is nothing of that name.
    theirs = [path for path in redun.file.glob_file(pattern) if os.path.lexists(path)]
    assert sorted(glob_local(pattern)) == sorted(theirs)
    assert FileSet(pattern).hash == redun.file.FileSet(pattern).hash


def test_relative_paths_are_those_of_redun(forest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path stays as it was written, with its dots, and is hashed so."""
    monkeypatch.chdir(forest / "a")
    for pattern in ("*", "**", "../b/**", "./*/a", "../*/ab/*"):
        assert sorted(glob_local(pattern)) == sorted(redun.file.glob_file(pattern))
        assert FileSet(pattern).hash == redun.file.FileSet(pattern).hash
    for path in (".", "..", "../b", "ab", "ab/", "./ab//"):
        assert_same(*both("Dir", path))


# what differs, on purpose --------------------------------------------------------------------------------


def test_a_folder_is_taken_literally(tmp_path: Path) -> None:
    """A folder whose name looks like a pattern has its own files; redun takes those of another."""
    for name in ("x[1]", "x1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    ours, theirs = both("Dir", f"{tmp_path}/x[1]")
    assert [file.path for file in ours] == [f"{tmp_path}/x[1]/f"]
    assert [file.path for file in theirs] == [f"{tmp_path}/x1/f"]
    assert ours.hash != theirs.hash


SHELL = [
    ("a", "b c"),
    ("a", None),
    (None, "b c"),
    ("s3://b/k", "x y"),
    ("x y", "s3://b/k"),
    ("s3://b/k", "s3://b/l"),
    ("s3://b/k", None),
    (None, "s3://b/k"),
    ("gs://b/k", "x"),
    ("x", "gs://b/k"),
    ("gs://b/k", None),
    (None, "gs://b/k"),
    ("http://h/k", "x"),
    ("x", "az://c@a.blob.core.windows.net/k"),
    ("az://c@a.blob.core.windows.net/k", None),
    ("http://h/k", "s3://b/k"),
]


@pytest.mark.parametrize(("source", "target"), SHELL)
@pytest.mark.parametrize("recursive", [False, True])
def test_shell_commands_are_those_of_redun(source: str | None, target: str | None, recursive: bool) -> None:
    """The text is the same; where redun calls itself, we call ourselves."""
    if recursive and (source is None or target is None):
        return
    theirs = redun.file.get_filesystem(url=source or target).shell_copy(source, target, recursive=recursive)
    ours = eventstore.file.render_copy(source, target, recursive=recursive)
    assert ours == theirs.replace("redun fs cp", "python3 -m eventstore.file copy")


@pytest.mark.parametrize(("source", "target"), [("gs://b/k/f", "x"), ("x", "gs://b/k/f"), ("gs://b/f", None)])
@pytest.mark.parametrize("recursive", [False, True])
def test_mounted_buckets_are_copied_as_in_redun(source: str, target: str | None, recursive: bool) -> None:
    """The same paths below /mnt/disks, and the same commands; redun forgets -r when it stages a folder in."""
    if recursive and (target is None or source.startswith("gs:")):
        return
    place = redun.file.get_filesystem(url="gs://x")
    theirs = place.shell_copy(source, target, recursive=recursive, as_mount=True)
    assert eventstore.file.render_copy(source, target, recursive=recursive, as_mount=True) == theirs
