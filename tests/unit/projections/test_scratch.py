"""Scratch space: made when it is needed, gone when it is not, and never somebody else's."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from projections.merge import sorted_chunks
from projections.scratch import Scratch

ROWS = pl.DataFrame({"k": range(10), "v": [None, *"abcdefghi"]})

OTHER = """
import os, sys
from pathlib import Path
import polars as pl
from projections.scratch import Scratch
scratch = Scratch(Path(sys.argv[1]))
scratch.write(iter([pl.DataFrame({"k": [1]})]))
print("ready", flush=True)
sys.stdin.readline()
os._exit(0)
"""


@contextmanager
def other_process(parent: Path) -> Iterator[None]:
    """Another process that has scratch files while the block runs, and is then killed."""
    command = [sys.executable, "-c", OTHER, str(parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            process.kill()


def folders(parent: Path) -> list[str]:
    """Return the names of all scratch folders."""
    return sorted(path.name for path in parent.iterdir())


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    """A fold that fits into memory touches no disk."""
    with Scratch(tmp_path / "scratch"):
        assert not (tmp_path / "scratch").exists()


def test_rows_come_back_in_batches_and_files_go_as_they_are_read(tmp_path: Path) -> None:
    """Each file is removed after its last row; batches never span files."""
    with Scratch(tmp_path) as scratch:
        spilled = scratch.write(sorted_chunks(ROWS, 4))
        [folder] = tmp_path.iterdir()
        left, batches = [], []
        for batch in spilled.chunks(3):
            batches.append(batch)
            left.append(len(list(folder.glob("*.parquet"))))
        assert [batch.height for batch in batches] == [3, 1, 3, 1, 2]
        assert left == [3, 3, 2, 2, 1]
        assert pl.concat(batches).equals(ROWS)
        assert list(folder.glob("*.parquet")) == []
    assert folders(tmp_path) == []


def test_close_and_collection_remove_all(tmp_path: Path) -> None:
    """However a scratch space ends, its folder goes; to close it twice is fine."""
    scratch = Scratch(tmp_path)
    scratch.write(iter([ROWS]))
    scratch.storage().put("a/file", b"x")
    assert len(folders(tmp_path)) == 1
    scratch.close()
    scratch.close()
    assert folders(tmp_path) == []
    scratch = Scratch(tmp_path)
    scratch.write(iter([ROWS]))
    del scratch
    gc.collect()
    assert folders(tmp_path) == []


def test_two_in_one_process_leave_each_other_alone(tmp_path: Path) -> None:
    """Each has its folder, and the second does not sweep the first."""
    with Scratch(tmp_path) as one, Scratch(tmp_path) as two:
        first = one.write(iter([ROWS]))
        second = two.write(iter([ROWS]))
        assert len(folders(tmp_path)) == 2
        for spilled in (first, second):
            assert pl.concat(spilled.chunks(100)).equals(ROWS)


def test_what_a_killed_process_left_is_swept_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    """The lock decides: held, the folder stays; not held, the next who needs space removes it."""
    with other_process(tmp_path):
        [theirs] = folders(tmp_path)
        with Scratch(tmp_path) as scratch:
            scratch.write(iter([ROWS]))
            assert theirs in folders(tmp_path)
    assert folders(tmp_path) == [theirs]
    assert (tmp_path / theirs / "00000001.parquet").exists()
    with Scratch(tmp_path) as scratch:
        scratch.write(iter([ROWS]))
        assert theirs not in folders(tmp_path)


def test_what_is_none_of_ours_stays(tmp_path: Path) -> None:
    """Folders without a lock file and plain files are left alone."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").write_text("x")
    with Scratch(tmp_path) as scratch:
        scratch.write(iter([ROWS]))
    assert folders(tmp_path) == ["notes", "readme.txt"]


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_fork_does_not_remove_its_parents(tmp_path: Path) -> None:
    """When a forked copy is closed, the files of the process that made them stay."""
    scratch = Scratch(tmp_path)
    spilled = scratch.write(iter([ROWS]))
    child = os.fork()
    if not child:
        scratch.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert pl.concat(spilled.chunks(100)).equals(ROWS)
    scratch.close()
    assert folders(tmp_path) == []
