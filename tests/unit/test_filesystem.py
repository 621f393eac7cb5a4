"""Storage from the outside in: masking, opening, errors by what they mean, and how local files are put."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from eventstore.errors import NotFoundError, StorageError
from eventstore.filesystem import TEMPORARY, Abilities, FsspecStorage, mask_url, open_storage

SECRETS = ["AKIAEXAMPLE", "wJalr/XUtn+FEMI", "s3cr3t", "abc%2Fdef"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("s3://AKIAEXAMPLE:s3cr3t@host/bucket", "s3://***@host/bucket"),
        ("s3://AKIAEXAMPLE:wJalr/XUtn+FEMI@bucket/x", "s3://***@bucket/x"),
        ("sftp://s3cr3t@host/x", "sftp://***@host/x"),
        ("filecache::s3://AKIAEXAMPLE:s3cr3t@b", "filecache::s3://***@b"),
        ("az://c/x?sv=2024&sig=abc%2Fdef&se=1", "az://c/x?sv=2024&sig=***&se=1"),
        ("https://h/x?X-Amz-Signature=s3cr3t&a=1", "https://h/x?X-Amz-Signature=***&a=1"),
        ("https://h/x?X-Amz-Credential=AKIAEXAMPLE/2026", "https://h/x?X-Amz-Credential=***"),
        ("AWS_SECRET_ACCESS_KEY=wJalr/XUtn+FEMI", "AWS_SECRET_ACCESS_KEY=***"),
        ("{'secret': 's3cr3t', 'n': 1}", "{'secret': ***, 'n': 1}"),
        ('{"password": "s3cr3t with blanks s3cr3t"}', '{"password": ***}'),
        ("AccountName=a;AccountKey=s3cr3t==;B=c", "AccountName=a;AccountKey=***;B=c"),
        ("token = s3cr3t, next", "token = ***, next"),
        ("Authorization: Bearer s3cr3t", "Authorization: Bearer ***"),
        ("sftp://user:s3cr3t@s3cr3t@host/x", "sftp://***@host/x"),
        ("sftp://s3cr3t@s3cr3t@host/x", "sftp://***@host/x"),
        ("https://u:12345/s3cr3t@h", "https://***@h"),
        ("postgres://u:1234/s3cr3t@h", "postgres://***@h"),
        ("https://h/p?auth=s3cr3t&a=1", "https://h/p?auth=***&a=1"),
        ("ftp://u:s3cr3t@a/x and s3://AKIAEXAMPLE:s3cr3t@b/y", "ftp://***@a/x and s3://***@b/y"),
    ],
)
def test_credentials_are_masked(text: str, masked: str) -> None:
    """Whatever form they come in, no secret is left, and what is not secret stays readable."""
    assert mask_url(text) == masked
    assert not any(secret in masked for secret in SECRETS)


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/folder/x.parquet",
        "memory://store",
        "/data/store",
        "http://host:8080/a/b",
        "http://host/a@b",
        "file://" + "/data/a:b@c",
        "s3://bucket/a:b@c",
        "author=ada, authority: none",
        "segments/2026/11/22/01jd-000000000000-00.parquet",
        "[Errno 28] No space left on device: '/data/x'",
    ],
)
def test_what_holds_no_credential_is_left_alone(text: str) -> None:
    """Ordinary URLs, paths and messages pass unchanged."""
    assert mask_url(text) == text


def test_credentials_show_in_no_repr_url_or_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage opened with a secret in its URL never prints it, not in an error either."""
    storage = open_storage("memory://AKIAEXAMPLE:s3cr3t@place/store")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("denied for memory://AKIAEXAMPLE:s3cr3t@place?sig=s3cr3t")

    monkeypatch.setattr(storage._fs, "cat_file", refuse, raising=False)
    with pytest.raises(StorageError) as caught:
        storage.read("x")
    said = f"{storage!r} {storage.url} {caught.value} {caught.value.facts}"
    assert "***" in said
    assert not any(secret in said for secret in SECRETS)


def test_an_unknown_protocol_is_a_clear_error() -> None:
    """The error names the protocol and hides the credential."""
    with pytest.raises(StorageError, match="known protocol") as caught:
        open_storage("gopher://me:s3cr3t@hole/x")
    assert caught.value.code == "unknown_protocol"
    assert "s3cr3t" not in str(caught.value)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol whose package is absent names the extra that brings it."""

    def absent(*_: Any, **__: Any) -> None:
        raise ImportError("no module")

    monkeypatch.setattr("fsspec.core.url_to_fs", absent)
    for url, extra in (("s3://b", "s3"), ("gs://b", "gcs"), ("abfs://b", "azure")):
        with pytest.raises(StorageError) as caught:
            open_storage(url)
        assert caught.value.code == "missing_package"
        assert f"pip install 'eventstore[{extra}]'" in str(caught.value)


def test_a_server_that_is_down_when_a_place_is_opened_is_a_storage_error() -> None:
    """Filesystems that connect at once fail like any other call: ours, worth a retry, without the secret."""
    with pytest.raises(StorageError, match="refused") as caught:
        open_storage("ftp://user:s3cr3t@127.0.0.1:9/x")
    assert caught.value.transient
    assert "s3cr3t" not in str(caught.value)


def test_abilities_are_declared(tmp_path: Path) -> None:
    """Local and in-memory places say what they are."""
    local, memory = open_storage(tmp_path), open_storage("memory://abilities")
    assert (local.abilities.atomic_create, local.abilities.local, local.abilities.shared) == (True,) * 3
    assert (memory.abilities.atomic_create, memory.abilities.local, memory.abilities.shared) == (
        True,
        False,
        False,
    )


def test_a_place_without_put_if_absent_says_so() -> None:
    """There `create` is an error with the way out, and writes nothing."""
    storage = open_storage("memory://plain")
    plain = FsspecStorage(_Plain(storage._fs), "/plain", url="sftp://plain", protocol="sftp")
    assert not plain.abilities.atomic_create
    with pytest.raises(StorageError, match="single_sealer=True") as caught:
        plain.create("seals/1", b"x")
    assert caught.value.code == "no_atomic_create"
    plain.put("segments/1", b"x")
    assert [entry.path for entry in plain.files()] == ["segments/1"]


class _Plain:
    """A filesystem that is neither local nor in memory, as far as its type tells."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("verb", ["put", "create"])
@pytest.mark.parametrize(
    ("number", "code", "transient"),
    [
        (errno.ENOSPC, "disk_full", False),
        (errno.EDQUOT, "disk_full", False),
        (errno.EROFS, "read_only", False),
        (errno.EACCES, "no_permission", False),
        (errno.EPERM, "no_permission", False),
        (errno.EIO, "storage", False),
        (errno.EAGAIN, "storage", True),
        (errno.ESTALE, "storage", True),
        (errno.ETIMEDOUT, "storage", True),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "open"])
def test_a_refused_write_has_a_code_and_leaves_nothing(
    verb: str,
    number: int,
    code: str,
    transient: bool,
    call: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Full, read-only or unwilling disks are told apart, and neither file nor leftover stays."""
    storage = open_storage(tmp_path)
    storage.put("folder/old", b"old")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(*(("os.fsync", refuse) if call == "fsync" else (Path, "open", refuse)))
        with pytest.raises(StorageError, match=os.strerror(number)) as caught:
            getattr(storage, verb)("folder/new", b"data")
    assert (caught.value.code, caught.value.transient, caught.value.path) == (code, transient, "folder/new")
    assert [entry.path for entry in storage.files("folder", temporary=True)] == ["folder/old"]


def test_a_filesystem_without_links_cannot_create(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hard links are unknown, `create` says that it is not atomic, and leaves nothing."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "link", refuse)
    storage = open_storage(tmp_path)
    with pytest.raises(StorageError) as caught:
        storage.create("seals/1", b"x")
    assert caught.value.code == "no_atomic_create"
    assert storage.files(temporary=True) == []
    assert storage.abilities == Abilities(atomic_create=False, local=True, shared=True)


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_fault_does_not_make_a_file_absent(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`exists` says no only where there is nothing; what cannot be looked at is an error."""
    storage = open_storage(tmp_path if place == "local" else "memory://fault")
    storage.put("seals/1", b"x")

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        patch.setattr(storage._fs, "info", refuse, raising=False)
        with pytest.raises(StorageError, match="reset by peer") as caught:
            storage.exists("seals/1")
        assert caught.value.transient
    assert storage.exists("seals/1")
    assert not storage.exists("seals/1/2")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc which file is flushed")
def test_new_folders_are_flushed_with_what_is_put_into_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put is durable only if every folder made for it is: each one's parent is flushed, then its own."""
    flushed: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append("file" if name.name.startswith(TEMPORARY) else str(name.relative_to(tmp_path)))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    storage = open_storage(tmp_path)
    storage.put("a/b/c", b"x")
    assert flushed == [".", "a", "file", "a/b"]
    flushed.clear()
    storage.put("a/b/d", b"x")
    assert flushed == ["file", "a/b"]


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing is complete or fails: a reader who is shown fewer files would lose events."""
    storage = open_storage(tmp_path)
    storage.put("seals/1", b"x")
    storage.put("segments/1", b"x")
    real = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("seals"):
            raise OSError(errno.EIO, "bad sector")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="bad sector"):
        storage.files()
    with pytest.raises(StorageError, match="bad sector"):
        storage.folders("seals")


def test_a_folder_that_vanishes_while_listing_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compaction may delete a folder under a listing: all that is still there is found."""
    storage = open_storage(tmp_path)
    for name in ("a/1", "b/1", "c/1"):
        storage.put(name, b"x")
    real = os.scandir

    def vanish(path: Any) -> Any:
        if str(path).endswith("/b"):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", vanish)
    assert [entry.path for entry in storage.files()] == ["a/1", "c/1"]


class _RefusalError(Exception):
    """As a client of an object store has them: not an OSError."""


class EndpointConnectionError(_RefusalError):
    """Named as botocore names it."""


class NoCredentialsError(_RefusalError):
    """Named as botocore names it."""


@pytest.mark.parametrize(
    ("error", "code", "transient"),
    [
        (EndpointConnectionError("no route"), "storage", True),
        (NoCredentialsError("none found"), "no_credentials", False),
        (_RefusalError("odd"), "storage", False),
        (TimeoutError(), "storage", True),
        (ConnectionResetError(), "storage", True),
    ],
)
def test_foreign_exceptions_become_ours(
    error: Exception, code: str, transient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are no OSError; the cause stays attached."""
    storage = open_storage("memory://foreign")

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(storage._fs, "info", refuse, raising=False)
    with pytest.raises(StorageError) as caught:
        storage.size("x")
    assert (caught.value.code, caught.value.transient) == (code, transient)
    assert caught.value.__cause__ is error


def test_our_own_mistakes_are_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TypeError is a bug and stays one."""
    storage = open_storage("memory://bug")
    with pytest.raises(TypeError):
        storage.put("x", 5)  # type: ignore[arg-type]


class _ClientError(Exception):
    """Carries the answer of the server, as botocore's does."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}}


class _Conditional(_Plain):
    """An object store whose conditional put is answered by `code`; other calls go to memory."""

    def __init__(self, inner: Any, code: str, constructor: Any = OSError) -> None:
        super().__init__(inner)
        self.code, self.constructor = code, constructor

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise self.constructor(errno.EIO, "refused") from _ClientError(self.code)
        self._inner.pipe_file(path, data)


def conditional(code: str, constructor: Any = OSError) -> FsspecStorage:
    """A storage whose conditional puts are refused with `code`."""
    inner = open_storage(f"memory://conditional-{code}")._fs
    return FsspecStorage(_Conditional(inner, code, constructor), f"/cond-{code}", url="s3://b", protocol="s3")


@pytest.mark.parametrize("code", ["PreconditionFailed", "412"])
def test_a_failed_condition_means_taken_unless_the_bytes_are_ours(code: str) -> None:
    """Someone else's bytes under the name: False. Our own, after a reply was lost: True."""
    storage = conditional(code)
    storage.put("seals/1", b"theirs")
    assert storage.create("seals/1", b"ours") is False
    assert storage.create("seals/1", b"theirs") is True
    assert storage.read("seals/1") == b"theirs"


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "409", "SlowDown", "InternalError"])
def test_a_conflict_or_a_busy_server_means_try_again(code: str) -> None:
    """S3's 409 does not say that the name is taken, only that the answer is not known yet."""
    with pytest.raises(StorageError) as caught:
        conditional(code).create("seals/1", b"x")
    assert caught.value.transient is True


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path) -> None:
    """The error names path and place, and is a LookupError."""
    with pytest.raises(NotFoundError, match="no such file") as caught:
        open_storage(tmp_path).read("seals/9")
    assert (caught.value.code, caught.value.path) == ("file_not_found", "seals/9")
    assert str(tmp_path) in str(caught.value)


def test_local_files_have_paths_and_others_come_as_bytes(tmp_path: Path) -> None:
    """A scan gets a path where there is one, and otherwise the bytes."""
    local, memory = open_storage(tmp_path), open_storage("memory://source")
    memory.put("x", b"data")
    assert local.local_path("a/b") == tmp_path / "a" / "b"
    assert local.polars_source("a/b") == str(tmp_path / "a" / "b")
    assert memory.local_path("x") is None
    assert memory.polars_source("x") == b"data"
