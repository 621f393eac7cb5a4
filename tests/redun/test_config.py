"""Settings from redun.ini, and which store a ``db_uri`` means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import workflow_kit as kit
from redun import Scheduler
from redun.backends.db import RedunBackendDb
from redun.cli import setup_config
from redun.config import Config, create_config_section

from eventstore.errors import InvalidEventError
from eventstore.redun import EventStoreBackend, setup_scheduler
from eventstore.redun.config import Settings, is_store_url, store_url

FILE = "file://"
"""A scheme before an absolute path."""


@pytest.mark.parametrize(
    ("db_uri", "expected"),
    [
        ("history", True),
        ("/somewhere/history", True),
        (f"{FILE}/somewhere/history", True),
        ("s3://bucket/history", True),
        ("memory://name", True),
        ("sqlite:///redun.db", False),
        ("sqlite:///:memory:", False),
        ("postgresql://host/db", False),
        ("postgresql+psycopg2://host/db", False),
    ],
)
def test_whose_url(db_uri: str, expected: bool) -> None:
    """URLs of SQL databases stay redun's; all others are stores."""
    assert is_store_url(db_uri) is expected


@pytest.mark.parametrize(
    ("db_uri", "expected"),
    [
        ("history", "{cwd}/history"),
        ("../history", "{parent}/history"),
        ("/somewhere/history/", "/somewhere/history"),
        (f"{FILE}/somewhere/history", "/somewhere/history"),
        (f"{FILE}////somewhere/history", "/somewhere/history"),
        ("sqlite:///some/redun.db", "{cwd}/some/redun.db"),
        ("sqlite:////some/redun.db", "/some/redun.db"),
        ("s3://bucket/history", "s3://bucket/history"),
        ("memory://name", "memory://name"),
    ],
)
def test_urls_as_given(db_uri: str, expected: str) -> None:
    """A path starts in the current folder; URLs of other places stay as they are."""
    cwd = Path.cwd()
    assert store_url(db_uri) == expected.format(cwd=cwd, parent=cwd.parent)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("history", "{config}/history"),
        ("./history", "{config}/history"),
        ("../history", "{project}/history"),
        ("/somewhere/history", "/somewhere/history"),
        (f"{FILE}/somewhere/history", "/somewhere/history"),
        (f"{FILE}//somewhere/history", "/somewhere/history"),
        ("s3://bucket/history", "s3://bucket/history"),
        ("${PLACE}/history", "/place/history"),
    ],
)
def test_urls_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, expected: str) -> None:
    """What redun.ini says counts, also where redun has rewritten it; relative paths start beside the file."""
    monkeypatch.setenv("PLACE", "/place")
    config_dir = tmp_path / ".redun"
    config_dir.mkdir()
    (config_dir / "redun.ini").write_text(f"[backend]\ndb_uri = {written}\n")
    config = setup_config(str(config_dir))
    settings = Settings.read(config["backend"])
    assert settings.url == expected.format(config=config_dir, project=tmp_path)


def test_in_memory() -> None:
    """Without a URL, and with redun's own for memory, the store is in memory."""
    assert Settings.read(None).url is None
    assert Settings.read({"db_uri": "sqlite:///:memory:"}).url is None
    assert Settings.read({"db_uri": "/data"}, "sqlite:///:memory:").url is None


def test_keys_of_redun() -> None:
    """Keys that redun has mean what they mean there, as text or numbers; those of databases mean nothing."""
    settings = Settings.read(
        create_config_section(
            {
                "db_uri": "/data",
                "automigrate": "False",
                "max_value_size": 100,
                "value_store_min_size": "0",
                "value_store_path": "values",
                "config_dir": "/etc/redun",
                "db_retries": "5",
                "db_retries_backoff": "0.5",
                "db_retries_backoff_max": "7",
                "db_username_env": "NAME",
                "durability": "fsync",
            }
        )
    )
    assert settings == Settings(
        db_uri="/data",
        url="/data",
        automigrate=False,
        value_store_path="/etc/redun/values",
        value_store_min_size=0,
        max_value_size=100,
        db_retries=5,
        db_retries_backoff=0.5,
        db_retries_backoff_max=7.0,
        durability="fsync",
    )


def test_default_value_store_folder() -> None:
    """Without a config folder a relative value store lies in .redun; a URL stays."""
    assert Settings.read({"value_store_path": "v"}).value_store_path == f"{Path.cwd()}/.redun/v"
    assert Settings.read({"value_store_path": "s3://b/v"}).value_store_path == "s3://b/v"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_value_size", "much"),
        ("db_retries", "-1"),
        ("db_retries_backoff", "nan"),
        ("fresh_seconds", "inf"),
        ("automigrate", "perhaps"),
        ("durability", "none"),
    ],
)
def test_bad_settings(key: str, value: str) -> None:
    """A setting that is none is refused, with its key and what was expected."""
    with pytest.raises(InvalidEventError, match=f"{key}.*{value}") as caught:
        EventStoreBackend({key: value})
    assert caught.value.code == "bad_setting"
    assert caught.value.key == key


class TestChoice:
    """Which backend redun makes."""

    def test_by_url(self, tmp_path: Path) -> None:
        """A store's URL gives ours, by config and by argument; a database's, and none, gives redun's."""
        store = str(tmp_path / "store")
        assert type(Scheduler(config=kit.make_config(store)).backend) is EventStoreBackend
        assert type(RedunBackendDb(db_uri=store)) is EventStoreBackend
        assert type(RedunBackendDb(db_uri=f"sqlite:///{tmp_path}/redun.db")) is RedunBackendDb
        assert type(Scheduler(config=kit.make_config(None)).backend) is RedunBackendDb
        secret = create_config_section({"db_uri": store, "db_aws_secret_name": ""})
        assert type(RedunBackendDb(config=secret)) is EventStoreBackend

    def test_subclasses_stay(self, tmp_path: Path) -> None:
        """A subclass of redun's backend is what it was."""

        class Mine(RedunBackendDb):
            pass

        assert type(Mine(db_uri=f"sqlite:///{tmp_path}/redun.db")) is Mine

    def test_redun_works_beside(self, tmp_path: Path) -> None:
        """The backend of databases still loads, records and is cloned."""
        backend = RedunBackendDb(db_uri=f"sqlite:///{tmp_path}/redun.db")
        backend.load()
        value_hash = backend.record_value(5)
        assert backend.clone().get_value(value_hash) == (5, True)


class TestSetup:
    """`setup_scheduler`, which redun.ini names."""

    def test_scheduler(self, tmp_path: Path) -> None:
        """It gives a scheduler on the store of the file."""
        config_dir = tmp_path / ".redun"
        config_dir.mkdir()
        (config_dir / "redun.ini").write_text("[backend]\ndb_uri = history\nvalue_store_path = values\n")
        scheduler = setup_scheduler(setup_config(str(config_dir)))
        scheduler.load()
        assert scheduler.run(kit.leaf(1)) == 2
        assert (config_dir / "history" / "store.json").exists()
        scheduler.backend.close()

    def test_config_for_workers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Workers are told the absolute place, and to make no store; the rest is as redun forwards it."""
        monkeypatch.chdir(tmp_path)
        config_dir = tmp_path / ".redun"
        config_dir.mkdir()
        (config_dir / "redun.ini").write_text("[backend]\ndb_uri = history\nvalue_store_path = values\n")
        scheduler = setup_scheduler(setup_config(str(config_dir)))
        forwarded = scheduler.config.get_config_dict(replace_config_dir=".")
        assert forwarded["backend"] == {
            "db_uri": f"{config_dir}/history",
            "value_store_path": f"{config_dir}/values",
            "automigrate": "False",
            "config_dir": ".",
        }
        settings = Settings.read(Config(forwarded)["backend"])
        assert (settings.url, settings.value_store_path) == (f"{config_dir}/history", f"{config_dir}/values")
        assert "automigrate" not in scheduler.config.get_config_dict()["backend"]

    @pytest.mark.parametrize("db_uri", ["sqlite:///redun.db", "sqlite:///:memory:", "postgresql://h/d"])
    def test_database(self, db_uri: str) -> None:
        """With the URL of a database it says what is expected, rather than to go on with a SQLite file."""
        with pytest.raises(InvalidEventError, match="db_uri") as caught:
            setup_scheduler(kit.make_config(db_uri))
        assert caught.value.code == "not_a_store_url"
        assert not Path("redun.db").exists()


def test_expanded_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tilde is the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_url("~/history") == str(tmp_path / "history")


def test_no_file_beside_a_url(tmp_path: Path) -> None:
    """A configuration that comes from no file counts as it is."""
    section: dict[str, Any] = {"db_uri": "/somewhere/history", "config_dir": str(tmp_path)}
    assert Settings.read(section).url == "/somewhere/history"
