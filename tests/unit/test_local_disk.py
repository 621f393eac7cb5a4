"""The disk of this machine beside fsspec's local filesystem: the same paths, the same facts of files."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from eventstore.filesystem import open_storage
from eventstore.filesystem.local import LocalDisk, local_folder

FACTS = ("name", "type", "size", "mtime")


FILE = "file://"
"""A scheme before an absolute path."""


@pytest.mark.parametrize(
    "text",
    [
        "/data/store",
        "/data/store/",
        "/data/a b/ü#x?y=1",
        "/data/link/../store",
        "store",
        "./store",
        "../store",
        ".",
        "~",
        "~/store",
        "~nobody-of-this-name/store",
        f"{FILE}/data/store",
        "file:/data/store",
        "file://store",
        "local:///data/store",
        "files/store",
    ],
)
def test_a_path_names_the_folder_that_fsspec_takes_it_for(text: str) -> None:
    """Relative ones begin at the working folder, ``~`` is the home; there are two protocols for it."""
    filesystem, root = fsspec.core.url_to_fs(text)
    assert isinstance(filesystem, LocalFileSystem)
    folder = local_folder(text)
    assert folder is not None
    assert folder.rstrip("/") == os.path.join(Path.cwd(), root).rstrip("/")  # noqa: PTH118 - keeps ".."


@pytest.mark.parametrize(
    "text", ["s3://bucket/x", "memory://x", f"simplecache::{FILE}/x", "https://h/file:x", "dir::x"]
)
def test_what_lies_elsewhere_is_no_folder_of_this_machine(text: str) -> None:
    """Other protocols, and those that are put before another place, are left to fsspec."""
    assert local_folder(text) is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one of each kind of entry."""
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "file").write_bytes(b"12345")
    (folder / "empty").touch()
    (folder / "to-file").symlink_to("file")
    (folder / "to-folder").symlink_to("inner")
    (folder / "to-nothing").symlink_to("gone")
    os.mkfifo(folder / "pipe")
    return folder


def test_a_listing_says_what_fsspec_says(folder: Path) -> None:
    """Names, types, sizes and times agree for files, folders and all links, and for a file that is listed."""
    for path in (folder, folder / "file", folder / "inner"):
        ours = LocalDisk().ls(str(path), detail=True)
        theirs = LocalFileSystem().ls(str(path), detail=True)
        assert _told(ours) == _told(theirs)


def _told(infos: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return sorted(tuple(info[fact] for fact in FACTS) for info in infos)


@pytest.mark.parametrize("name", ["file", "inner", "to-file", "to-folder", "pipe"])
def test_of_a_link_what_it_leads_to_is_known(folder: Path, name: str) -> None:
    """Type, size and time of one path agree with fsspec's."""
    ours, theirs = (each.info(str(folder / name)) for each in (LocalDisk(), LocalFileSystem()))
    assert _told([ours]) == _told([theirs])


@pytest.mark.parametrize("name", ["gone", "to-nothing"])
def test_what_is_not_there_is_not_found(folder: Path, name: str) -> None:
    """A link to nothing is missing like a name that nobody has."""
    for ask in (LocalDisk().info, LocalDisk().cat_file):
        with pytest.raises(FileNotFoundError):
            ask(str(folder / name))


def test_a_file_that_goes_while_a_folder_is_listed_is_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing does not fail because another process deletes."""
    real = os.scandir

    def scandir(path: str) -> AbstractContextManager[list[os.DirEntry[str]]]:
        entries = list(real(path))
        (folder / "file").unlink()
        return nullcontext(entries)

    monkeypatch.setattr(os, "scandir", scandir)
    listed = {Path(info["name"]).name for info in LocalDisk().ls(str(folder), detail=True)}
    assert listed == {"empty", "inner", "pipe", "to-file", "to-folder", "to-nothing"}


def test_a_relative_store_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the working folder does not move a storage that is open."""
    monkeypatch.chdir(tmp_path)
    storage = open_storage("store")
    storage.put("a", b"x")
    monkeypatch.chdir("/")
    assert storage.read("a") == b"x"
    assert storage.local_path("a") == tmp_path / "store" / "a"
