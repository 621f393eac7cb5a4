"""Settings of the backend, from the section ``[backend]`` of redun.ini; and which store a ``db_uri`` means.

redun rewrites ``db_uri`` while it reads redun.ini as if it were one of SQLAlchemy's, which damages paths and
``file://`` URLs. So what was written is read from the file once more, where there is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redun.config import Config
from redun.scheduler_config import REDUN_INI_FILE, get_abs_db_uri

from eventstore.errors import InvalidEventError

__all__ = ["MEMORY_URI", "Settings", "is_store_url", "store_url"]

MEMORY_URI = "sqlite:///:memory:"
"""What redun calls a store in memory: each one is fresh, and nobody else's."""
_SQL_SCHEMES = frozenset({"mssql", "mysql", "oracle", "postgres", "postgresql", "sqlite"})
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_TRUTHS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}

Number = TypeVar("Number", int, float)


def is_store_url(db_uri: str) -> bool:
    """Whether a ``db_uri`` means an event store: all do but the URLs of SQL databases."""
    found = _SCHEME.match(db_uri)
    return found is None or found[0].partition("+")[0].lower() not in _SQL_SCHEMES


def store_url(db_uri: str, config_dir: str | None = None) -> str:
    """Return the URL to open a store at: an absolute path, or a URL of another filesystem as it is.

    Parameters
    ----------
    db_uri
        From a configuration. ``sqlite:///some/path`` is taken for the path, which is then a folder.
    config_dir
        Where redun.ini lies, if `db_uri` comes from there: a relative path starts here. Otherwise in the
        current folder.
    """
    if urlsplit(db_uri).netloc:
        return db_uri
    written = _as_written(db_uri, config_dir) if config_dir else None
    text = db_uri if written is None else written
    scheme = _SCHEME.match(text)
    path = text
    if scheme is not None:
        # SQLAlchemy's three slashes are no part of the path; of a file's, however many, one is.
        path = text[scheme.end() + 1 :]
        path = path.removeprefix("///") if scheme[0] == "sqlite" else re.sub("^/+", "/", path)
        if scheme[0] not in {"file", "local", "sqlite"}:
            return text
    start = config_dir if written is not None and config_dir else ""
    return os.path.normpath(Path.cwd() / start / Path(path).expanduser())


def _as_written(db_uri: str, config_dir: str) -> str | None:
    """Return the ``db_uri`` of redun.ini, if it is the one that redun made `db_uri` of."""
    config = Config()
    try:
        config.read_path(str(Path(config_dir) / REDUN_INI_FILE))
        written = str(config["backend"]["db_uri"])
    except (OSError, KeyError):
        return None
    return written if get_abs_db_uri(written, config_dir) == db_uri else None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a backend goes by; the names are the keys of ``[backend]``.

    Keys that only a SQL database has, such as those of credentials, mean nothing here.
    """

    db_uri: str
    """As it was given."""
    url: str | None
    """Where the store is; None for a fresh one in memory."""
    automigrate: bool = True
    """Make the store if there is none."""
    value_store_path: str | None = None
    """redun's value store, for larger values: a folder or any URL. None keeps them in the store."""
    value_store_min_size: int = 1024
    """From this size on a value goes there; Python counts 33 more than its bytes."""
    max_value_size: int = 1_000_000_000
    """Most bytes of a value."""
    db_retries: int = 3
    """How often a call is tried again after a transient error of storage."""
    db_retries_backoff: float = 1.0
    """Seconds before the first of them; the pause doubles each time."""
    db_retries_backoff_max: float = 60.0
    """Longest pause."""
    durability: str = "process"
    """``process`` survives a killed process, ``fsync`` also power loss."""
    flush_seconds: float = 5.0
    """After so long what was recorded leaves this machine, if there is not enough of it before."""
    fresh_seconds: float = 1.0
    """How late what has left another machine may be seen here."""
    state_dir: str | None = None
    """Where journals and indexes lie on this machine; None means the user's state folder."""
    single_sealer: bool = False
    """This machine does all sealing; needed where storage has no atomic put-if-absent."""
    auto_compact: bool = False
    """Merge small files in passing."""

    @property
    def visible_seconds(self) -> float:
        """After so long at most, but for the time that storage takes, other machines see a record.

        `get_job` waits so long for a job that is not there.
        """
        return self.flush_seconds + self.fresh_seconds

    @classmethod
    def read(cls, section: Mapping[str, Any] | None, db_uri: str | None = None) -> Settings:
        """Return the settings of a section, such as ``config["backend"]``.

        Parameters
        ----------
        section
            None means an empty one.
        db_uri
            Goes before that of the section; if there is neither, the store is in memory.

        Raises
        ------
        InvalidEventError
            A value is not one of its key's (code ``bad_setting``).
        """
        given = _Given(section if section is not None else {})
        uri = db_uri or given.text("db_uri") or MEMORY_URI
        config_dir = given.text("config_dir")
        # A URI that came as an argument did not come from a file.
        url = None if _is_in_memory(uri) else store_url(uri, None if db_uri else config_dir)
        values = given.text("value_store_path")
        durability = given.text("durability") or "process"
        if durability not in {"process", "fsync"}:
            raise _bad_setting("durability", "process or fsync", durability)
        return cls(
            db_uri=uri,
            url=url,
            automigrate=given.truth("automigrate", default=True),
            value_store_path=value_root(values, config_dir) if values else None,
            value_store_min_size=given.number("value_store_min_size", 1024),
            max_value_size=given.number("max_value_size", 1_000_000_000),
            db_retries=given.number("db_retries", 3),
            db_retries_backoff=given.number("db_retries_backoff", 1.0),
            db_retries_backoff_max=given.number("db_retries_backoff_max", 60.0),
            durability=durability,
            flush_seconds=given.number("flush_seconds", 5.0),
            fresh_seconds=given.number("fresh_seconds", 1.0),
            state_dir=given.text("state_dir"),
            single_sealer=given.truth("single_sealer", default=False),
            auto_compact=given.truth("auto_compact", default=False),
        )


def value_root(path: str, config_dir: str | None) -> str:
    """Return where redun's value store is: a relative path starts in the config folder, by default .redun."""
    if "://" in path:
        return path
    return os.path.normpath(Path.cwd() / (config_dir or ".redun") / Path(path).expanduser())


def _is_in_memory(db_uri: str) -> bool:
    return db_uri in {"sqlite://", "sqlite:///"} or (
        db_uri.startswith("sqlite:") and db_uri.endswith(":memory:")
    )


class _Given:
    """Reads one section; values may also be numbers, as dictionaries of settings have them."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._section = section

    def text(self, key: str) -> str | None:
        value = self._section.get(key)
        return None if value is None or not str(value).strip() else str(value).strip()

    def number(self, key: str, default: Number) -> Number:
        text = self.text(key)
        if text is None:
            return default
        try:
            number = type(default)(text)
        except ValueError:
            raise _bad_setting(key, "a number", text) from None
        if not number >= 0 or number == float("inf"):
            raise _bad_setting(key, "a number of at least 0", text)
        return number

    def truth(self, key: str, *, default: bool) -> bool:
        text = self.text(key)
        if text is None:
            return default
        if text.lower() not in _TRUTHS:
            raise _bad_setting(key, "True or False", text)
        return _TRUTHS[text.lower()]


def _bad_setting(key: str, expected: str, found: str) -> InvalidEventError:
    return InvalidEventError(
        f"{expected} was expected as {key} in [backend], found {found!r}; correct redun.ini",
        code="bad_setting",
        key=key,
    )
