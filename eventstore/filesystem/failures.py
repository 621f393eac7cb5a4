"""What filesystems raise, as `StorageError`, with credentials masked."""

from __future__ import annotations

import errno
import re

from eventstore.errors import StorageError

__all__ = ["answer", "mask_url", "storage_error"]

# `user@`, and `user:password@` up to the last `@`: passwords come with slashes, as AWS's do, or with an `@`.
# `host:8080/a@b` looks like one, and is masked too: rather too much than a secret.
_USER = re.compile(r"://(?:[^/@\s:]*:\S*|[^/\s]+)@")
_WORDS = "key|secret|token|passw|pwd|sig|credential|sas|auth(?!or)"
_QUOTED = r"""'[^']*'|"[^"]*"|[^&;,\s'"}]+"""
_PAIR = re.compile(rf"""(?<![\w-])([\w-]*(?:{_WORDS})[\w-]*['"]?\s*[=:]\s*)(?:{_QUOTED})""", re.IGNORECASE)
_SCHEME = re.compile(r"\b(bearer|basic)\s+[^\s'\",]+", re.IGNORECASE)


def mask_url(text: str) -> str:
    """Replace credentials in URLs, in ``name=value`` pairs and in headers by ``***``."""
    text = _USER.sub("://***@", text)
    return _SCHEME.sub(r"\1 ***", _PAIR.sub(r"\1***", text))


_TRANSIENT = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.ENETUNREACH,
    errno.ESTALE,
    errno.ETIMEDOUT,
    getattr(errno, "EREMOTEIO", errno.ETIMEDOUT),  # s3fs's word for a 500; macOS does not have it
}
_TRANSIENT_ANSWERS = {"ConditionalRequestConflict", "InternalError", "RequestTimeout", "SlowDown"}
_TRANSIENT_NAMES = ("ConnectionError", "ConnectionClosedError", "HTTPClientError", "TimeoutError")
_HINTS = {
    errno.ENOSPC: ("disk_full", "the disk is full: make room, then flush again"),
    errno.EDQUOT: ("disk_full", "the quota is used up: make room, then flush again"),
    errno.EROFS: ("read_only", "the folder is read-only: choose another, or open with read_only=True"),
    errno.EACCES: ("no_permission", "no permission: check the folder's owner and mode"),
    errno.EPERM: ("no_permission", "no permission: check the folder's owner and mode"),
    errno.ENOENT: ("no_folder", "the bucket or folder is not there: make it first"),
}


def storage_error(verb: str, path: str, url: str, error: BaseException) -> StorageError:
    """Build our error for what a filesystem raised; credentials are masked."""
    number = getattr(error, "errno", None)
    if number is None and isinstance(error, OSError):
        named = {PermissionError: errno.EACCES, FileNotFoundError: errno.ENOENT}
        number = named.get(type(error))
    code, hint = _HINTS.get(number or 0, ("storage", "the error that caused this one says more"))
    names = [base.__name__ for base in type(error).__mro__]
    if any("Credential" in name for name in names):
        code, hint = "no_credentials", "give credentials by environment, profile or storage_options"
    transient = (
        number in _TRANSIENT
        or answer(error) in _TRANSIENT_ANSWERS
        or any(name.endswith(_TRANSIENT_NAMES) for name in names)
    )
    found = mask_url(str(error)) or type(error).__name__
    return StorageError(
        f"{verb} {path!r} in {url} failed: {found}; {hint}",
        code=code,
        transient=transient,
        path=path,
        url=url,
    )


def answer(error: BaseException) -> str | None:
    """Return the code of an object store's refusal, where the client kept it in its own error's cause."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return {"412": "PreconditionFailed", "409": "ConditionalRequestConflict"}.get(code or "", code)
