"""The places of the tests of files."""

import pytest
from places_kit import (  # noqa: F401 - fixtures
    ftp_files,
    http_files,
    memory_files,
    place_named,
    places,
    s3_files,
    sftp_files,
    web_folder,
)


@pytest.fixture(params=places("local", "memory", "s3", "ftp", "sftp"))
def place(request, tmp_path):
    """The URL of an empty folder, in one place after the other."""
    return place_named(request.param, request, tmp_path)
