"""The places of the tests against redun."""

from places_kit import (  # noqa: F401 - fixtures
    az_files,
    azure_ahead,
    ftp_files,
    gs_files,
    http_files,
    s3_files,
    web_folder,
)
