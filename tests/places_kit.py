"""Places that files lie in, for tests: a folder, memory, and servers on loopback, each started once.

A fixture of a server registers its protocol with the options that reach it, and stops it in the end.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from eventstore.file import AzureFiles, GoogleFiles, S3Files, SftpFiles, place_of, register_protocol
from tools.emulators import azure
from tools.emulators.ftp import serve_ftp
from tools.emulators.google import serve_google
from tools.emulators.s3 import serve_s3
from tools.emulators.sftp import PASSWORD, USER, serve_sftp
from tools.emulators.web import serve_web

BUCKET = "box"
ANONYMOUS = "anon"


@pytest.fixture(scope="session")
def s3_files() -> Iterator[str]:
    """A bucket of an S3 server."""
    known = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    with serve_s3() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in (known | {"AWS_ENDPOINT_URL": endpoint}).items():
            patch.setenv(name, value)
        register_protocol("s3", partial(S3Files, "s3"))
        place_of("s3://x")._at("s3://x")[0].call_s3("create_bucket", Bucket=BUCKET)
        yield f"s3://{BUCKET}"
    register_protocol("s3", partial(S3Files, "s3"))


@pytest.fixture(scope="session")
def gs_files() -> Iterator[str]:
    """A bucket of a Google server."""
    with pytest.MonkeyPatch.context() as patch:
        # Else gcsfs asks another service, by gRPC, what kind of bucket this is.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        with serve_google(BUCKET) as endpoint:
            made = partial(GoogleFiles, "gs", endpoint_url=endpoint, token=ANONYMOUS, project="test")
            register_protocol("gs", made)
            yield f"gs://{BUCKET}"
    register_protocol("gs", partial(GoogleFiles, "gs"))


@pytest.fixture(scope="session")
def azure_ahead() -> Iterator[Callable[[], str] | None]:
    """An Azure server that starts while other tests run: it takes seconds."""
    if azure.why_not():
        yield None
    else:
        with azure.start_azure() as ready:
            yield ready


@pytest.fixture(scope="session")
def az_files(azure_ahead: Callable[[], str] | None) -> Iterator[str]:
    """A container of that server, written as redun has it."""
    if azure_ahead is None:
        pytest.skip(azure.why_not() or "")
    register_protocol("az", partial(AzureFiles, "az", connection_string=azure_ahead()))
    url = f"az://{BUCKET}@{azure.ACCOUNT}.blob.core.windows.net"
    place_of(url)._at(f"{url}/x")[0].mkdir(BUCKET)
    yield url
    register_protocol("az", partial(AzureFiles, "az"))


@pytest.fixture(scope="session")
def web_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the HTTP server shows."""
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="session")
def http_files(web_folder: Path) -> Iterator[str]:
    """The URL of that folder."""
    with serve_web(web_folder) as url:
        yield url


@pytest.fixture(scope="session")
def ftp_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder of an FTP server."""
    with serve_ftp(tmp_path_factory.mktemp("ftp")) as url:
        yield url


@pytest.fixture(scope="session")
def sftp_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder of an SFTP server, whose password is in the options and not in the paths."""
    with serve_sftp(tmp_path_factory.mktemp("sftp")) as url:
        options = {"username": USER, "password": PASSWORD, "look_for_keys": False, "allow_agent": False}
        register_protocol("sftp", partial(SftpFiles, "sftp", **options))
        yield url
    register_protocol("sftp", partial(SftpFiles, "sftp"))


@pytest.fixture(scope="session")
def memory_files() -> str:
    """A folder in memory."""
    return f"memory://{uuid.uuid4().hex}"


SERVERS = ("s3", "gs", "az", "ftp", "sftp")


def place_named(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a folder that nothing has yet, in the place of this name."""
    if name == "local":
        return f"{tmp_path}/local"
    return f"{request.getfixturevalue(f'{name}_files')}/{os.urandom(6).hex()}"


def places(*names: str) -> list[object]:
    """Parameters for a fixture over places; those that are servers are marked so."""
    marked = {name: pytest.param(name, marks=pytest.mark.emulator) for name in SERVERS}
    return [marked.get(name, name) for name in names]
