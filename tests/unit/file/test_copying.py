"""Copies between places, by the library, by the command and by the shell commands that are rendered."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys

import pytest

from eventstore.errors import InvalidEventError
from eventstore.file import ContentStagingDir, Dir, File, StagingDir, StagingFile, copy_by_path, render_copy
from eventstore.file.__main__ import main


def test_from_any_place_to_any_other(place, memory_files, tmp_path):
    """A file goes from here to there, to memory, and back, whole, with its progress."""
    there = File(tmp_path / "a").write("content").copy_to(File(f"{place}/b"))
    elsewhere = there.copy_to(File(f"{memory_files}/c/d"))
    told = []
    back = elsewhere.copy_to(File(tmp_path / "e" / "f"), progress=lambda *step: told.append(step))
    assert back.read() == "content"
    assert back.is_valid()
    assert told == [(7, 7)]


def test_within_one_place(place):
    """A copy has the content, also over a file that is there, and on itself."""
    file = File(f"{place}/a").write("content")
    copy = File(f"{place}/x/b").write("before")
    assert file.copy_to(copy, skip_if_exists=True).read() == "before"
    assert file.copy_to(copy).read() == "content"
    assert copy.is_valid()
    assert file.copy_to(File(f"{place}/a")).read() == "content"


def test_copying_what_is_not_there(place, tmp_path):
    """The error names the source; the target stays as it was."""
    target = File(tmp_path / "t").write("before")
    with pytest.raises(FileNotFoundError, match="none"):
        File(f"{place}/none").copy_to(target)
    with pytest.raises(FileNotFoundError, match="none"):
        File(f"{place}/none").copy_to(File(f"{place}/new"))
    assert target.read() == "before"
    assert not File(f"{place}/new").exists()


def run(command: str, data: bytes = b"") -> bytes:
    """Run a shell command as a script would, with our Python under the name that it has there."""
    text = command.replace("python3", shlex.quote(sys.executable), 1)
    return subprocess.run(["/bin/sh", "-c", text], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("name", ["plain", "with blank", "quote'\"s", "-rf", "$(touch x)", "line\nend", "*"])
def test_rendered_commands_copy(tmp_path, monkeypatch, name):
    """Every name, however odd, is copied to, from and through the shell, and nothing else happens."""
    monkeypatch.chdir(tmp_path)
    File(f"{tmp_path}/{name}").write("content")
    run(render_copy(name, f"{name}-2"))
    assert run(render_copy(f"{name}-2", None)) == b"content"
    run(render_copy(None, f"{name}-3"), b"through")
    assert File(f"{tmp_path}/{name}-3").read() == "through"
    assert len(Dir(tmp_path).files()) == 3


def test_rendered_commands_copy_from_servers(http_files, web_folder, tmp_path):
    """Where no command of the protocol's own exists, this package's copies."""
    (web_folder / "a b").write_text("content")
    command = render_copy(f"{http_files}/a b", f"{tmp_path}/x y")
    assert command.startswith("python3 -m eventstore.file copy ")
    run(command)
    assert (tmp_path / "x y").read_text() == "content"


def test_folders_are_rendered_too(tmp_path):
    """A folder of this machine is copied with all that is in it."""
    Dir(tmp_path / "a").file("b/c").write("content")
    run(Dir(tmp_path / "a").shell_copy_to(f"{tmp_path}/d"))
    assert Dir(tmp_path / "d").file("b/c").read() == "content"


def test_the_command(tmp_path, memory_files, capsys, monkeypatch):
    """``python -m eventstore.file copy`` copies files, folders and streams; an error is one line and 1."""
    Dir(tmp_path / "a").file("b").write("content")
    assert main(["copy", f"{tmp_path}/a/b", f"{memory_files}/m/b"]) == 0
    assert main(["copy", "--recursive", f"{memory_files}/m", f"{tmp_path}/c"]) == 0
    assert (tmp_path / "c" / "b").read_text() == "content"
    assert main(["copy", f"{tmp_path}/none", "-"]) == 1
    said = capsys.readouterr().err
    assert "no such file" in said
    assert said.count("\n") == 1
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from a stream")))
    copy_by_path(None, f"{tmp_path}/s")
    assert (tmp_path / "s").read_bytes() == b"from a stream"


def test_nothing_to_copy_is_refused():
    """No path at all, or a folder and a stream, is an error with a code of its own."""
    for arguments, recursive, code in (
        ((None, None), False, "no_path"),
        (("a", None), True, "no_stream_of_folder"),
        ((None, "a"), True, "no_stream_of_folder"),
    ):
        with pytest.raises(InvalidEventError) as caught:
            render_copy(*arguments, recursive=recursive)
        assert caught.value.code == code
    with pytest.raises(InvalidEventError) as caught:
        copy_by_path("a", None, recursive=True)
    assert caught.value.code == "no_stream_of_folder"


# staging -------------------------------------------------------------------------------------------------


def test_a_file_is_staged_and_back(place, tmp_path, monkeypatch):
    """The local copy has the content; what a program makes of it goes back."""
    monkeypatch.chdir(tmp_path)
    remote = File(f"{place}/data.txt").write("in")
    staging = remote.stage()
    assert staging.local.path == "data.txt"
    assert remote.stage("work/").local.path == "work/data.txt"
    assert staging.stage().read() == "in"
    staging.local.write("out")
    assert staging.unstage().read() == "out"
    assert remote.stage("other").render_stage() == render_copy(remote.path, "other")
    assert remote.stage("other").render_unstage() == render_copy("other", remote.path)


def test_a_folder_is_staged_and_back(place, tmp_path):
    """So with all its files."""
    remote = Dir(f"{place}/d")
    remote.file("a/b").write("in")
    staging = remote.stage(f"{tmp_path}/here")
    assert staging.stage().file("a/b").read() == "in"
    staging.local.file("c").write("out")
    assert staging.unstage().file("c").read() == "out"
    assert staging.render_stage() == render_copy(remote.path, f"{tmp_path}/here", recursive=True)


def test_what_is_here_already_is_not_staged(tmp_path):
    """With one path for both there is nothing to copy, and no command."""
    file, folder = StagingFile(f"{tmp_path}/a", f"{tmp_path}/a"), StagingDir(f"{tmp_path}", f"{tmp_path}")
    for staging in (file, folder):
        assert (staging.stage(), staging.unstage()) == (staging.local, staging.remote)
        assert (staging.render_stage(), staging.render_unstage()) == ("", "")


def test_two_paths_are_no_argument():
    """A command line's text does not say both."""
    with pytest.raises(InvalidEventError) as caught:
        ContentStagingDir.parse_arg("a")
    assert caught.value.code == "no_parsing"
