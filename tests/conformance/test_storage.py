"""What every place must do: one promise a test, over a local folder, memory, and S3 through an emulator.

The emulator runs in this process on loopback. Raw hooks go round our code, so it cannot fool the suite.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventstore.errors import NotFoundError, StorageError
from eventstore.filesystem import TEMPORARY, Entry, FsspecStorage, open_storage

RACERS = 16


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server on an ephemeral port of loopback, empty, that knows no credentials."""
    server_module = pytest.importorskip("moto.server")
    responses = pytest.importorskip("moto.s3.responses").S3Response
    put_object, lock = responses.put_object, threading.Lock()

    def put_object_alone(*args: Any, **kwargs: Any) -> Any:
        # S3 checks the condition and writes as one step; the emulator's threads may come in between.
        with lock:
            return put_object(*args, **kwargs)

    responses.put_object = put_object_alone
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    responses.put_object = put_object


def open_s3(endpoint: str, place: str, *, make_bucket: bool = True) -> FsspecStorage:
    """A storage in a bucket of the emulator."""
    options = {"key": "test", "secret": "test", "endpoint_url": endpoint}
    storage = open_storage(f"s3://{place}", **options)
    if make_bucket:
        storage._fs.call_s3("create_bucket", Bucket=place.partition("/")[0])
    return storage


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.emulator)])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], FsspecStorage]:
    """A maker of storages at one place, empty at first."""
    name = uuid.uuid4().hex
    if request.param == "local":
        return lambda: open_storage(tmp_path / "root")
    if request.param == "memory":
        return lambda: open_storage(f"memory://{name}/root")
    endpoint = request.getfixturevalue("s3_endpoint")
    open_s3(endpoint, name)
    return lambda: open_s3(endpoint, f"{name}/root", make_bucket=False)


@pytest.fixture
def storage(reopen: Callable[[], FsspecStorage]) -> FsspecStorage:
    """A storage at an empty place."""
    return reopen()


def raw(storage: FsspecStorage, path: str) -> bytes:
    """A file's bytes, read round our code."""
    if storage.abilities.local:
        return Path(storage._root, path).read_bytes()
    data: bytes = storage._fs.cat_file(f"{storage._root}/{path}")
    return data


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_put_then_read_gives_the_bytes(storage: FsspecStorage, size: int) -> None:
    """What was put is there whole, by our reading and by the filesystem's own, and has its size."""
    data = os.urandom(size)
    storage.put("a/b/c", data)
    assert storage.read("a/b/c") == raw(storage, "a/b/c") == data
    assert storage.size("a/b/c") == size
    assert storage.exists("a/b/c")


def test_put_replaces(storage: FsspecStorage) -> None:
    """A second put under the name wins, also when it is shorter."""
    storage.put("a", b"long long long")
    storage.put("a", b"short")
    assert storage.read("a") == b"short"


def test_a_put_is_seen_by_another_opener(reopen: Callable[[], FsspecStorage]) -> None:
    """No cache stands between two openers: puts and deletes show at once, in listings too."""
    mine, other = reopen(), reopen()
    assert other.files() == []
    mine.put("a/1", b"x")
    assert other.files() == [Entry("a/1", 1)]
    mine.put("a/2", b"xx")
    assert other.files() == [Entry("a/1", 1), Entry("a/2", 2)]
    mine.delete("a/1")
    assert other.files() == [Entry("a/2", 2)]
    assert not other.exists("a/1")


def test_open_reads_ranges(storage: FsspecStorage) -> None:
    """An open file seeks from both ends and reads what was asked for."""
    storage.put("a", bytes(range(256)) * 100)
    with storage.open("a") as stream:
        assert stream.seek(-4, os.SEEK_END) == 25_596
        assert stream.read() == b"\xfc\xfd\xfe\xff"
        stream.seek(256)
        assert stream.read(3) == b"\x00\x01\x02"


def test_create_takes_a_free_name_once(storage: FsspecStorage) -> None:
    """The first create is True, the second False, and the first one's bytes stay."""
    assert storage.create("seals/1", b"first") is True
    assert storage.create("seals/1", b"second") is False
    assert raw(storage, "seals/1") == b"first"


def test_create_after_put_is_refused(storage: FsspecStorage) -> None:
    """A name that a put took is taken."""
    storage.put("seals/1", b"first")
    assert storage.create("seals/1", b"second") is False
    assert storage.read("seals/1") == b"first"


def test_one_of_many_threads_creates(storage: FsspecStorage) -> None:
    """Of 16 threads that create each of several names at once, exactly one wins, and its bytes stay."""
    barrier = threading.Barrier(RACERS)
    wins: list[tuple[int, int]] = []

    def race(racer: int) -> None:
        for number in range(5):
            barrier.wait()
            if storage.create(f"seals/{number}", b"by racer %d" % racer):
                wins.append((number, racer))

    threads = [threading.Thread(target=race, args=(racer,)) for racer in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in wins) == list(range(5))
    for number, racer in wins:
        assert raw(storage, f"seals/{number}") == b"by racer %d" % racer


_RACE = """
import sys
from eventstore.filesystem import open_storage
storage = open_storage(sys.argv[1])
sys.stdout.write("ready\\n"); sys.stdout.flush(); sys.stdin.readline()
print([n for n in range(50) if storage.create(f"seals/{n}", sys.argv[2].encode())])
"""


def test_one_of_many_processes_creates(tmp_path: Path) -> None:
    """Of 4 processes that create each of 50 local names at once, exactly one wins each."""
    command = [sys.executable, "-c", _RACE, str(tmp_path)]
    racers = [
        subprocess.Popen([*command, f"racer {n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = [json.loads(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sorted(number for numbers in won for number in numbers) == list(range(50))
    for racer, numbers in enumerate(won):
        for number in numbers:
            assert (tmp_path / "seals" / str(number)).read_text() == f"racer {racer}"
    assert len(list((tmp_path / "seals").iterdir())) == 50


def test_a_reader_never_sees_half_a_file(storage: FsspecStorage) -> None:
    """While one thread replaces a file again and again, every read is one whole version."""
    versions = [bytes([n]) * 200_000 for n in range(12)]
    storage.put("a", versions[0])
    stop = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not stop.is_set():
            data = storage.read("a")
            if len(data) != 200_000 or len(set(data)) != 1:
                torn.append(len(data))

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions:
        storage.put("a", version)
    stop.set()
    reader.join()
    assert torn == []


def test_listing_is_deep_sorted_and_sized(storage: FsspecStorage) -> None:
    """All files at any depth come with path and size, by path; folders and neighbours do not."""
    for path in ("s/2/b", "s/10/a", "s/2/a", "s/z", "sx/1", "t"):
        storage.put(path, path.encode())
    expected = ["s/10/a", "s/2/a", "s/2/b", "s/z"]
    assert storage.files("s") == [Entry(path, len(path)) for path in expected]
    assert [entry.path for entry in storage.files()] == [*expected, "sx/1", "t"]


def test_listing_says_when_a_file_was_written(storage: FsspecStorage) -> None:
    """By the place's clock, which is near ours here; cleaning counts the age of leftovers from it."""
    storage.put("s/new", b"x")
    (entry,) = storage.files("s")
    assert entry.modified_at is not None
    assert abs(entry.modified_at - time.time()) < 600


def test_listing_where_nothing_is_gives_nothing(storage: FsspecStorage) -> None:
    """Neither an empty place nor a folder that was never made is an error."""
    assert storage.files() == storage.files("segments") == []
    assert storage.folders("segments") == []


def test_folders_are_listed_one_level_deep(storage: FsspecStorage) -> None:
    """Only the folders directly inside, sorted, relative to the root; files are left out."""
    for path in ("s/2026/11/a", "s/2025/01/b", "s/2026/12/c", "s/file"):
        storage.put(path, b"x")
    assert storage.folders("s") == ["s/2025", "s/2026"]
    assert storage.folders("s/2026") == ["s/2026/11", "s/2026/12"]


def test_leftovers_are_not_listed_unless_asked_for(storage: FsspecStorage) -> None:
    """A file that a killed writer left half-written is seen by no reader, but by who cleans up."""
    storage.put("s/a", b"x")
    storage.put(f"s/{TEMPORARY}0123", b"half")
    assert [entry.path for entry in storage.files()] == ["s/a"]
    assert [entry.path for entry in storage.files("s", temporary=True)] == [f"s/{TEMPORARY}0123", "s/a"]


def test_writing_leaves_no_leftovers(storage: FsspecStorage) -> None:
    """After puts, creates won and creates lost there is nothing but the files."""
    storage.put("s/a", b"x")
    storage.put("s/a", b"y")
    storage.create("s/b", b"x")
    storage.create("s/b", b"y")
    assert [entry.path for entry in storage.files(temporary=True)] == ["s/a", "s/b"]


def test_listing_stands_a_crowd(storage: FsspecStorage) -> None:
    """While others write and delete, a listing shows all that was there before and stays."""
    kept = [f"s/keep-{n}" for n in range(5)]
    for path in kept:
        storage.put(path, b"x")
    stop = threading.Event()

    def churn(racer: int) -> None:
        number = 0
        while not stop.is_set():
            storage.put(f"s/{racer}/{number}", b"x")
            storage.delete(f"s/{racer}/{number}")
            number += 1

    threads = [threading.Thread(target=churn, args=(racer,)) for racer in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(25):
            seen = {entry.path for entry in storage.files("s")}
            assert seen >= set(kept)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_delete_is_idempotent(storage: FsspecStorage) -> None:
    """A file that is deleted is gone; deleting it again, or one that never was, is fine."""
    storage.put("a/b", b"x")
    storage.delete("a/b")
    assert not storage.exists("a/b")
    storage.delete("a/b")
    storage.delete("never/was")


def test_a_deleted_name_is_free_again(storage: FsspecStorage) -> None:
    """Create takes a name whose file was deleted."""
    storage.create("a", b"one")
    storage.delete("a")
    assert storage.create("a", b"two") is True
    assert storage.read("a") == b"two"


@pytest.mark.parametrize("verb", ["read", "open", "size"])
def test_what_is_not_there_is_not_found(storage: FsspecStorage, verb: str) -> None:
    """Reading a missing file is NotFoundError with the path, and it does not exist."""
    storage.put("a/other", b"x")
    with pytest.raises(NotFoundError) as caught:
        getattr(storage, verb)("a/b")
    assert (caught.value.code, caught.value.path) == ("file_not_found", "a/b")
    assert not storage.exists("a/b")


def test_a_folder_is_not_a_file(storage: FsspecStorage) -> None:
    """`exists` speaks of files."""
    storage.put("a/b", b"x")
    assert not storage.exists("a")


@pytest.mark.parametrize("name", ["with blank", "ünïcode", "a+b=c&d", "100%", "x" * 200])
def test_names_are_taken_literally(storage: FsspecStorage, name: str) -> None:
    """Blanks, letters beyond ASCII and URL characters are part of the name."""
    storage.put(f"a/{name}", b"x")
    assert storage.files("a") == [Entry(f"a/{name}", 1)]
    assert storage.read(f"a/{name}") == b"x"


def test_roots_do_not_mix(reopen: Callable[[], FsspecStorage]) -> None:
    """A storage whose root is the start of another's name does not see its files."""
    storage = reopen()
    neighbour = f"{storage._root}-neighbour"
    if storage.abilities.local:
        Path(neighbour).write_bytes(b"x")
    else:
        storage._fs.pipe_file(neighbour, b"x")
    storage.put("a", b"x")
    assert storage.files() == [Entry("a", 1)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("verb", ["put", "create"])
def test_a_folder_without_permission_refuses(tmp_path: Path, verb: str) -> None:
    """A local folder that may not be written is ``no_permission``, and nothing is made."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError) as caught:
            getattr(open_storage(tmp_path), verb)("a", b"x")
        assert caught.value.code == "no_permission"
        assert list(tmp_path.iterdir()) == []
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.emulator
def test_a_missing_bucket_is_clear(s3_endpoint: str) -> None:
    """Writing to a bucket that does not exist says to make it; listing it finds nothing."""
    storage = open_s3(s3_endpoint, uuid.uuid4().hex, make_bucket=False)
    for verb in ("put", "create"):
        with pytest.raises(StorageError, match="make it first") as caught:
            getattr(storage, verb)("a", b"x")
        assert caught.value.code == "no_folder"
    assert storage.files() == []


@pytest.mark.emulator
def test_an_unreachable_server_is_transient() -> None:
    """A server that does not answer is a storage error that retrying may cure, without the secret."""
    storage = open_storage(
        "s3://bucket",
        key="AKIAEXAMPLE",
        secret="s3cr3t",  # noqa: S106 - the test looks for it
        endpoint_url="http://127.0.0.1:9",
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 1},
    )
    storage._fs.retries = 1
    with pytest.raises(StorageError) as caught:
        storage.read("a")
    assert caught.value.transient
    assert "s3cr3t" not in str(caught.value)
