"""The manifest: what was published is read whole or not at all, and a new one is never taken for the old."""

from __future__ import annotations

from pathlib import Path

from eventstore.index.manifest import (
    MANIFEST,
    Manifest,
    RetiredRun,
    RunEntry,
    open_manifest,
    put_manifest,
    stamp_of,
)


def some_manifest(number: int = 7) -> Manifest:
    """A manifest with something in every field."""
    return Manifest(
        epoch="0123456789abcdef",
        rules={"keep": {"1": "first", "2": "last"}, "records": 1},
        position=number,
        mark="12 digest",
        writers={"a" * 32: 5, "b" * 32: 2},
        runs=(RunEntry("one", 0, 5, 12, 900), RunEntry("two", 5, 7, 2, 300)),
        retired=(RetiredRun("old", 1_767_225_600.25),),
    )


def test_a_manifest_is_read_as_it_was_published(tmp_path: Path) -> None:
    """Every field comes back; without a file there is none."""
    assert open_manifest(tmp_path) is None
    put_manifest(tmp_path, some_manifest())
    opened = open_manifest(tmp_path)
    assert opened is not None
    assert opened.manifest == some_manifest()
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_no_flipped_bit_is_believed(tmp_path: Path) -> None:
    """With any byte changed, or the end cut off, a manifest says nothing but what is wrong."""
    put_manifest(tmp_path, some_manifest())
    whole = (tmp_path / MANIFEST).read_bytes()
    changed = [whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :] for at in range(len(whole))]
    changed += [whole[:at] for at in range(0, len(whole), 7)] + [whole + b"\n", b"\n", b"[]\n"]
    for content in changed:
        (tmp_path / MANIFEST).write_bytes(content)
        opened = open_manifest(tmp_path)
        assert opened is not None
        assert opened.manifest is None
        assert MANIFEST in opened.problem


def test_a_new_manifest_is_never_taken_for_one_that_is_open(tmp_path: Path) -> None:
    """Manifests of one length that follow each other at once have other stamps than the one that is held."""
    put_manifest(tmp_path, some_manifest())
    held = open_manifest(tmp_path)
    assert held is not None
    for number in range(1, 200):
        put_manifest(tmp_path, some_manifest(number % 10))
        status = (tmp_path / MANIFEST).stat()
        assert stamp_of(status) != held.stamp
        assert status.st_ino != held.stamp[0], "its inode is not given away while it is open"
