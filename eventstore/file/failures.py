"""What filesystems raise, as errors of ours that carry the path and are Python's own kinds too."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from eventstore.errors import EventStoreError, FileMissingError, FilePermissionError, StorageError
from eventstore.filesystem import mask_url, storage_error

__all__ = ["failure", "is_missing", "missing_file", "shown", "translated"]

_CONTAINER = re.compile(r"((?:az|abfss?)://[^/@:]+@)(.*)", re.DOTALL)

_FORBIDDEN = frozenset({401, 403, "401", "403", "AccessDenied", "AuthorizationFailure", "Forbidden"})
_BUSY = frozenset({429, 500, 502, 503, 504})
_GONE = frozenset({404, 410, "404", "410", "NoSuchKey", "BlobNotFound", "ContainerNotFound"})


def shown(path: str) -> str:
    """Return a path as it may be shown and logged: without credentials, with Azure's ``container@``."""
    match = _CONTAINER.fullmatch(path)
    return f"{match[1]}{mask_url(match[2])}" if match else mask_url(path)


@contextmanager
def translated(verb: str, path: str) -> Iterator[None]:
    """Turn the exceptions of a filesystem into ours; what Python raises by itself passes through."""
    try:
        yield
    except EventStoreError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | EOFError) and type(error).__module__ == "builtins":
            raise
        raise failure(verb, path, error) from error


def failure(verb: str, path: str, error: BaseException) -> EventStoreError:
    """Return our error for what a filesystem raised."""
    if is_missing(error):
        return missing_file(verb, path)
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    named = shown(path)
    if isinstance(error, PermissionError) or _answers(error) & _FORBIDDEN:
        return FilePermissionError(
            f"{verb} {named!r} failed: no permission ({mask_url(str(error)) or type(error).__name__}); check "
            "who owns it and the credentials in use",
            path=named,
        )
    if getattr(error, "errno", None) == errno.ELOOP:
        return StorageError(
            f"{verb} {named!r} failed: its symbolic links lead back to themselves; remove the link that does",
            code="symlink_loop",
            path=named,
        )
    if isinstance(error, IsADirectoryError):
        return StorageError(
            f"{verb} {named!r} failed: a file was expected, found a folder; use Dir",
            code="is_a_folder",
            path=named,
        )
    found = storage_error(verb, named, "files", error)
    if isinstance(error, EOFError) or _answers(error) & _BUSY:
        found.facts["transient"] = True
    return found


def missing_file(verb: str, path: str) -> FileMissingError:
    """Return the error for a file that is not there."""
    named = shown(path)
    return FileMissingError(
        f"{verb} {named!r} failed: there is no such file; make it, or correct the path", path=named
    )


def is_missing(error: BaseException) -> bool:
    """Whether an exception says that there is no such file, and not that nobody could be asked."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        # fsspec's HTTP says so of every failure, and keeps the server's own words as the cause.
        cause = error.__cause__
        return cause is None or isinstance(cause, LookupError) or _plainly_missing(cause)
    return bool(_answers(error) & _GONE)


def _plainly_missing(cause: BaseException) -> bool:
    said = _answers(cause)
    if said:
        return bool(said & _GONE)
    names = {base.__name__ for base in type(cause).__mro__}
    return not names & {"ClientConnectionError", "TimeoutError", "ServerTimeoutError", "ClientError"}


def _answers(error: BaseException) -> set[object]:
    """What a server answered, where a client kept it: its status and its word."""
    found: set[object] = set()
    for each in (error, error.__cause__):
        for name in ("status", "status_code", "code", "error_code"):
            if name == "code" and found:
                continue  # aiohttp warns of it
            value = getattr(each, name, None)
            if isinstance(value, int | str):
                found.add(value)
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            found.add(response.get("Error", {}).get("Code"))
    return found
