"""Which backend redun makes from a configuration: ours where ``db_uri`` is the URL of a store.

redun's configuration cannot name a class: wherever redun makes a backend, it calls `RedunBackendDb`. So that
call is taught to look at the URL; that of a SQL database gets what it always got. Importing this package
teaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from redun.backends.db import RedunBackendDb
from redun.config import Config
from redun.scheduler import Scheduler

from eventstore.errors import InvalidEventError
from eventstore.redun.backend import EventStoreBackend
from eventstore.redun.config import Settings, is_store_url
from eventstore.redun.subruns import start_sub_schedulers_here

__all__ = ["StoreConfig", "setup_scheduler", "teach_redun"]

_is_ours: Callable[[str], bool] = is_store_url


def teach_redun(is_ours: Callable[[str], bool] = is_store_url) -> None:
    """Let redun open a ``db_uri`` as an event store where `is_ours` says so, here and in workers."""
    global _is_ours
    _is_ours = is_ours
    # redun's commands ask for a backend of a database before they use its `session`, which ours has too.
    RedunBackendDb.register(EventStoreBackend)
    RedunBackendDb.__new__ = _new_backend  # type: ignore[method-assign,assignment]
    start_sub_schedulers_here()


def _new_backend(
    cls: type[RedunBackendDb],
    db_uri: str | None = None,
    config: Mapping[str, Any] | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    section = config if config is not None else {}
    uri = db_uri or section.get("db_uri")
    if cls is RedunBackendDb and uri and not section.get("db_aws_secret_name") and _is_ours(uri):
        return EventStoreBackend(config, db_uri, *args, **kwargs)
    return object.__new__(cls)


class StoreConfig(Config):
    """A configuration that sub-schedulers can use as it is: its store and its folders are named absolutely.

    redun hands it to them with the config folder replaced by ``.``, which no worker could find a store by.

    Parameters
    ----------
    config
        What redun.ini says; it shares its sections with this one.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.__dict__.update(vars(config))
        section = self["backend"]
        settings = Settings.read(section)
        if settings.url is None or not _is_ours(settings.db_uri):
            raise InvalidEventError(
                "the path or URL of an event store was expected as db_uri in [backend], found "
                f"{settings.db_uri!r}; name one, and see `eventstore import` for what a database holds",
                code="not_a_store_url",
                db_uri=settings.db_uri,
            )
        self._absolute = {"db_uri": settings.url}
        if settings.value_store_path is not None:
            self._absolute["value_store_path"] = settings.value_store_path
        for key, text in self._absolute.items():
            section[key] = text.replace("$", "$$")

    def get_config_dict(self, replace_config_dir: str | None = None) -> dict[str, dict[str, Any]]:
        """Return it as nested dictionaries; with `replace_config_dir`, for a worker, which makes no store."""
        sections: dict[str, dict[str, Any]] = super().get_config_dict(replace_config_dir)
        if replace_config_dir is not None:
            sections["backend"].update(self._absolute, automigrate="False")
        return sections


def setup_scheduler(config: Config) -> Scheduler:
    """Return a Scheduler on the store that ``db_uri`` names; for ``setup_scheduler`` in redun.ini.

    Raises
    ------
    InvalidEventError
        ``db_uri`` is none of a store (code ``not_a_store_url``), or a setting is wrong (``bad_setting``).
    """
    return Scheduler(config=StoreConfig(config))
