"""What every place does: one promise a test, in a folder, in memory, on S3, FTP and SFTP."""

from __future__ import annotations

import io
import os
import pickle
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from eventstore.errors import FileMissingError, FilePermissionError, InvalidEventError, StorageError
from eventstore.file import ContentFile, Dir, File, FileSet, place_of, places, register_protocol
from eventstore.file import remote as remote_room
from eventstore.file.remote import RemoteFiles
from eventstore.filesystem import TEMPORARY

LARGE = os.urandom(300_000)


def names_in(folder: str) -> list[str]:
    """Every name in a folder, hidden leftovers of writing included."""
    filesystem = place_of(folder)
    if isinstance(filesystem, RemoteFiles):
        connected, name = filesystem._at(folder)
        return sorted(each.rpartition("/")[2] for each in connected.find(name))
    return sorted(name for _, _, names in os.walk(folder) for name in names)


def test_what_was_written_is_read(place):
    """Text and bytes come back, the size counts bytes, and the hash is that of now."""
    file = File(f"{place}/x/y.txt")
    assert not file.exists()
    assert file.write("h\u00e9\n").exists()
    assert (file.read(), file.read("rb"), file.size()) == ("h\u00e9\n", "h\u00e9\n".encode(), 4)
    assert file.readlines() == ["h\u00e9\n"]
    assert file.is_valid()
    assert (file.isfile(), file.isdir()) == (True, False)
    assert (File(f"{place}/x").isfile(), File(f"{place}/x").isdir()) == (False, True)
    assert file.write(b"\x00").read("rb") == b"\x00"


def test_a_change_of_size_makes_it_invalid(place):
    """A file is valid until it changes or goes, and again when it is looked at."""
    file = File(f"{place}/a").write("1")
    other = pickle.loads(pickle.dumps(file))
    assert other.is_valid()
    file.write("22")
    assert not other.is_valid()
    other.refresh()
    assert other.is_valid()
    file.remove()
    file.remove()
    assert not other.is_valid()


def test_appending_adds(place):
    """Mode ``a`` adds to what is there, and makes what is not."""
    file = File(f"{place}/a")
    assert file.write("1", mode="a").write("2", mode="a").read() == "12"
    with file.open("ab") as stream:
        stream.write(b"3")
    assert file.read() == "123"
    assert file.is_valid()


def test_exclusive_mode_refuses_what_is_there(place):
    """Mode ``x`` makes a new file only."""
    with File(f"{place}/a").open("x") as stream:
        stream.write("new")
    with pytest.raises((FileExistsError, StorageError)):
        File(f"{place}/a").open("x").close()
    assert File(f"{place}/a").read() == "new"


def fail_halfway(file, mode, half):
    """Write something, then raise."""
    with file.open(mode) as stream:
        stream.write(half)
        raise RuntimeError


def test_a_block_that_fails_publishes_nothing(place):
    """The file that was there stays as it was; one that was not is not; nothing is left over."""
    kept = File(f"{place}/kept").write("before")
    for file in (kept, File(f"{place}/new")):
        for mode, half in (("w", "half"), ("wb", b"half")):
            with pytest.raises(RuntimeError):
                fail_halfway(file, mode, half)
    assert kept.read() == "before"
    assert names_in(place) == ["kept"]


def test_nothing_is_seen_before_it_is_closed(place):
    """A reader sees the file before, or the file after."""
    file = File(f"{place}/a").write("before")
    with file.open("w") as stream:
        stream.write("after")
        stream.flush()
        assert file.read() == "before"
    assert file.read() == "after"
    assert file.is_valid()
    assert names_in(place) == ["a"]


@pytest.fixture
def small_requests(monkeypatch):
    """What counts as too large for one request is less than LARGE."""
    monkeypatch.setattr(remote_room, "_WHOLE_BYTES", 100_000)
    monkeypatch.setattr(remote_room, "CHUNK_BYTES", 50_000)


def test_large_files_go_in_pieces(place, small_requests):
    """More than fits into one request is written and read whole, and copied with its progress told."""
    file = File(f"{place}/large").write(LARGE)
    assert file.size() == len(LARGE)
    told = []
    copy = file.copy_to(File(f"{place}/copy"), progress=lambda done, size: told.append((done, size)))
    assert copy.read("rb") == LARGE
    assert told[-1] == (len(LARGE), len(LARGE))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_large_files_that_fail_halfway_are_not_there(place, small_requests):
    """A source that breaks after the first pieces leaves nothing under the name, and nothing beside it."""

    class Breaking(io.BytesIO):
        def read(self, count=-1):
            if self.tell() > 200_000:
                raise ConnectionResetError
            return super().read(50_000 if count < 0 else min(count, 50_000))

    with pytest.raises(StorageError) as caught:
        place_of(place).store(f"{place}/large", Breaking(LARGE), size=None, progress=None)
    assert caught.value.transient
    assert names_in(place) == []


@pytest.mark.parametrize("name", ["a b'\"\u00fc", "a+b=c&d#e?f 100%", "-rf", "x" * 200])
def test_names_are_taken_literally(place, name):
    """Odd names are written, listed, read, copied and removed as they are."""
    file = File(f"{place}/{name}").write(name)
    assert [each.path for each in Dir(place)] == [file.path]
    assert [each.path for each in FileSet(f"{place}/*")] == [file.path]
    assert file.read() == name
    assert Dir(place).copy_to(Dir(f"{place}-2")).file(name).read() == name
    file.remove()
    assert Dir(place).files() == []


def test_a_missing_file_is_the_builtin_error_too(place):
    """Opening, measuring and hashing by content say which file is missing, as FileNotFoundError."""
    path = f"{place}/none"
    for act in (lambda: File(path).open(), lambda: File(path).size(), lambda: ContentFile(path).hash):
        with pytest.raises(FileNotFoundError) as caught:
            act()
        assert isinstance(caught.value, FileMissingError)
        assert (caught.value.code, caught.value.path, caught.value.filename) == ("file_not_found", path, path)
        assert path in str(caught.value)


def test_folders_are_made_listed_and_removed(place):
    """A folder's files at any depth are its own; without `recursive` it is removed only when it is empty."""
    folder = Dir(f"{place}/d")
    folder.mkdir()
    assert folder.files() == []
    before = folder.hash
    for name in ("a", "b/c", "b/d/e"):
        folder.file(name).write(name)
    assert sorted(file.path for file in folder) == [f"{place}/d/{name}" for name in ("a", "b/c", "b/d/e")]
    assert not folder.is_valid()
    folder.refresh()
    assert folder.hash != before
    with pytest.raises(OSError, match=r"(?i)empty"):
        folder.rmdir()
    assert len(folder.files()) == 3
    folder.rmdir(recursive=True)
    folder.rmdir()
    assert not folder.exists()
    assert folder.hash == before


def test_a_neighbour_that_begins_alike_is_not_inside(place):
    """``dirX`` is not in ``dir``."""
    File(f"{place}/dir/a").write("1")
    File(f"{place}/dirX/b").write("2")
    assert [file.path for file in Dir(f"{place}/dir/")] == [f"{place}/dir/a"]


def test_touch_makes_and_keeps(place):
    """It makes an empty file, and changes nothing in one that is there."""
    file = File(f"{place}/a")
    file.touch()
    assert file.size() == 0
    file.write("1").touch()
    assert file.read() == "1"
    assert file.is_valid()


def test_a_hash_by_content_is_of_what_is_in_it(place):
    """Written again with the same content it is valid; with another of the same size it is not."""
    file = ContentFile(f"{place}/a").write("one")
    other = pickle.loads(pickle.dumps(file))
    file.write("one")
    assert other.is_valid()
    file.write("two")
    assert not other.is_valid()
    file.remove()
    assert not other.is_valid()


def test_a_file_that_is_written_while_it_is_hashed_has_no_hash(place, monkeypatch):
    """The content read may be of no state that ever was, so it is an error that retrying cures."""
    path = f"{place}/a"
    File(path).write("before")
    files = place_of(path)
    opened = type(files).open

    def open_and_change(self, at, mode, **options):
        stream = opened(self, at, mode, **options)
        if mode == "rb":
            data = io.BytesIO(stream.read())
            File(path).write("after it")
            return data
        return stream

    monkeypatch.setattr(type(files), "open", open_and_change)
    with pytest.raises(StorageError) as caught:
        _ = ContentFile(path).hash
    assert (caught.value.code, caught.value.transient, caught.value.path) == (
        "changed_while_hashed",
        True,
        path,
    )
    monkeypatch.undo()
    assert ContentFile(path).is_valid()


def test_places_are_pickled_with_the_files_that_lie_in_them(place):
    """A file goes to another process as its path and hash, whatever connections this one has."""
    file = File(f"{place}/a").write("1")
    again = pickle.loads(pickle.dumps(file))
    assert (again.path, again.hash, again.read()) == (file.path, file.hash, "1")
    if isinstance(file.filesystem, RemoteFiles):
        copy = pickle.loads(pickle.dumps(file.filesystem))
        assert copy.hash(file.path) == file.hash


def test_many_threads_use_one_place(place):
    """Each thread has connections of its own where one connection is one conversation."""
    files = [File(f"{place}/{number}").write(f"{number}" * 100) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda file: (file.read(), File(file.path).hash), files * 2))
    assert found == [(f"{number}" * 100, files[number].hash) for number in range(8)] * 2


BREAK = {
    "ftp_files": lambda connection: connection.ftp.sock.shutdown(socket.SHUT_RDWR),
    "sftp_files": lambda connection: connection.client.close(),
}


@pytest.mark.parametrize("idle", [0.0, 60.0])
@pytest.mark.parametrize("server", BREAK)
def test_a_connection_that_broke_is_made_again(request, server, idle):
    """A server that hung up is asked anew: at once for a look, after a pause for anything."""
    path = f"{request.getfixturevalue(server)}/{os.urandom(4).hex()}"
    file = File(path).write("1")
    connection = file.filesystem._at(path)[0]
    BREAK[server](connection)
    if idle:
        file.filesystem._local.used -= idle
        assert file.read() == "1"
    else:
        assert file.is_valid()
    assert file.filesystem._at(path)[0] is not connection


@pytest.mark.parametrize("server", ["ftp_files", "sftp_files"])
def test_the_half_file_of_a_writer_that_died_is_not_listed(request, server):
    """It has a name that listings leave out."""
    folder = Dir(f"{request.getfixturevalue(server)}/{os.urandom(4).hex()}")
    folder.file("a").write("1")
    filesystem, name = folder.filesystem._at(f"{folder.path}/{TEMPORARY}0123")
    filesystem.pipe_file(name, b"half")
    assert [file.basename() for file in folder] == ["a"]
    assert [file.basename() for file in FileSet(f"{folder.path}/*")] == ["a"]


# what cannot be ------------------------------------------------------------------------------------------


def test_a_package_that_is_missing_is_named_by_its_extra(monkeypatch):
    """A protocol whose package is absent says which extra brings it, when it is first used."""

    def absent(protocol):
        raise ImportError(protocol)

    monkeypatch.setattr(places, "_places", {})
    monkeypatch.setattr("fsspec.get_filesystem_class", absent)
    extras = {"s3": "s3", "gs": "gcs", "az": "azure", "abfs": "azure", "http": "http", "sftp": "sftp"}
    for protocol, extra in extras.items():
        with pytest.raises(StorageError) as caught:
            _ = File(f"{protocol}://box/a").hash
        assert (caught.value.code, caught.value.extra) == ("missing_package", extra)
        assert f"pip install 'eventstore[{extra}]'" in str(caught.value)


def test_a_server_that_is_down_is_not_a_missing_file():
    """What cannot be asked is a transient error, never a hash; the password is not in it."""
    for url in ("http://127.0.0.1:9/a", "ftp://ada:s3cr3t@127.0.0.1:9/a"):
        with pytest.raises(StorageError) as caught:
            _ = File(url).hash
        assert caught.value.transient
        assert not isinstance(caught.value, FileNotFoundError)
        assert "s3cr3t" not in f"{caught.value}{caught.value.facts}"


@pytest.mark.parametrize(("answer", "kind"), [(403, FilePermissionError), (401, FilePermissionError)])
def test_a_server_that_forbids_is_the_builtin_error_too(http_files, answer, kind):
    """A refusal is PermissionError, with the path."""
    path = f"{http_files}/{answer}/a"
    with pytest.raises(PermissionError) as caught:
        _ = File(path).hash
    assert isinstance(caught.value, kind)
    assert (caught.value.code, caught.value.path) == ("no_permission", path)


def test_a_server_in_trouble_is_not_a_missing_file(http_files):
    """An answer of the 500s is an error; 404 and 410 mean that there is no file."""
    with pytest.raises(StorageError) as caught:
        _ = File(f"{http_files}/503/a").hash
    assert caught.value.transient
    assert not File(f"{http_files}/404/a").exists()
    assert not File(f"{http_files}/410/a").exists()


def test_http_is_read_only(http_files, web_folder):
    """Reading and copying from works; every change is refused with one code."""
    (web_folder / "a").write_text("content")
    file = File(f"{http_files}/a")
    assert file.read() == "content"
    for act in (
        lambda: file.write("x"),
        lambda: file.copy_to(File(f"{http_files}/b")),
        lambda: File(f"{web_folder}/a").copy_to(File(f"{http_files}/b")),
        file.remove,
        lambda: Dir(http_files).mkdir(),
        lambda: Dir(http_files).rmdir(),
    ):
        with pytest.raises(StorageError) as caught:
            act()
        assert caught.value.code == "read_only"


@pytest.mark.parametrize("path", ["/../x", "/a/../../x", "/a\nDELE b", "/a\r\nDELE b"])
def test_paths_that_servers_would_misread_are_refused(ftp_files, path):
    """``..`` and line ends never reach a server whose commands are lines."""
    with pytest.raises(InvalidEventError) as caught:
        _ = File(ftp_files + path).hash
    assert caught.value.code == "bad_path"


def test_changing_in_place_is_refused_where_files_are_whole(memory_files):
    """Mode ``r+`` works on this machine only, and says what to do instead."""
    with pytest.raises(InvalidEventError, match="copy it to a local file") as caught:
        File(f"{memory_files}/a").open("r+")
    assert caught.value.code == "bad_mode"


@pytest.mark.parametrize("mode", ["", "rw", "q", "bt", "rbt", "w++"])
def test_a_mode_that_open_does_not_know_is_refused(memory_files, tmp_path, mode):
    """As by Python's own open: ValueError, and nothing is made."""
    for folder in (memory_files, tmp_path):
        with pytest.raises(ValueError, match="mode"):
            File(f"{folder}/a").open(mode)
    assert list(tmp_path.iterdir()) == []


def test_times_of_a_remote_file_cannot_be_set(memory_files):
    """Its place sets them, so touch() with times says no."""
    with pytest.raises(InvalidEventError) as caught:
        File(f"{memory_files}/a").touch((1, 2))
    assert caught.value.code == "no_times"


def test_a_protocol_is_connected_when_it_is_first_used(monkeypatch):
    """A path of a server that is not there is a file still, until somebody asks for it."""
    monkeypatch.setattr(places, "_places", {})
    made = []
    register_protocol("toy", lambda: made.append(1) or RemoteFiles("memory"))
    assert made == []
    File("toy://a")
    assert made == [1]
    File("toy://b")
    assert made == [1]
    monkeypatch.delitem(places._makers, "toy")
