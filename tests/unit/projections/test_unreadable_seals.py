"""One damaged or missing old seal: the log works without it, and so do tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_kit import open_store
from tables_kit import add, assert_tables, jobs

from eventstore import EventStore, ProjectionError
from eventstore.layout import SNAPSHOT_EVERY, manifest_folder, seal_path
from projections import Manifest, open_tables, plan_prune, rebuild, refresh

MANIFESTS = manifest_folder("jobs", 1)
SEALS = SNAPSHOT_EVERY + 4
AT = 10
"""The seal at which a table was built, and which is lost then."""


@pytest.fixture(params=["cut", "gone"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    """A log of many seals, with tables of an old seal that cannot be read any more and of a newer one."""
    place = tmp_path / "store"
    with open_store(place) as store:
        for number in range(SEALS):
            add(store, *jobs(number, number + 1))
            if number + 1 in (AT, SEALS - 2):
                refresh(store, ["jobs"])
    seal = place / seal_path(AT)
    if request.param == "cut":
        seal.write_bytes(seal.read_bytes()[:50])
    else:
        seal.unlink()
    with open_store(place) as store:
        yield store


def runs_with_files(store: EventStore) -> set[str]:
    """Return the names of the runs of `jobs` that have files."""
    return {entry.path.split("/")[4] for entry in store.storage.files("projections/jobs/v1/runs")}


def known_runs(store: EventStore) -> set[str]:
    """Return the names of the runs that any manifest of `jobs` has, or says to be replaced."""
    read = store.storage.read
    manifests = [Manifest.decode(read(entry.path)) for entry in store.storage.files(MANIFESTS)]
    return {run.name for one in manifests for run in (*one.runs, *(old.run for old in one.retired))}


def test_tables_open_as_fresh_as_asked(store: EventStore) -> None:
    """The newer snapshot serves, also where older ones are looked at."""
    assert open_tables(store, ["jobs"]).position == SEALS - 2
    with open_tables(store, ["jobs"], fresh="sealed") as tables:
        assert_tables(store, tables)
    with open_tables(store, ["jobs"], at=AT + 1) as tables:
        assert_tables(store, tables, AT + 1)


@pytest.mark.parametrize("build", [refresh, rebuild])
def test_tables_are_built(store: EventStore, build: Callable[..., Any]) -> None:
    """Again and again, until the old one has gone by its age; nothing is left without a manifest."""
    for number in range(SEALS, SEALS + 4):
        build(store, ["jobs"])
        assert_tables(store, open_tables(store, ["jobs"]))
        assert runs_with_files(store) <= known_runs(store)
        add(store, *jobs(number, number + 1))
    assert not any(f"{AT:020d}-" in one.path for one in store.storage.files(MANIFESTS))


def test_nothing_is_planned_to_go(store: EventStore) -> None:
    """What cannot be judged is not taken for another log's."""
    assert plan_prune(store) == []


def test_alone_it_is_an_error_to_read_and_none_to_build(store: EventStore) -> None:
    """The error names the seal, and says to verify the log; a refresh builds anew."""
    [newer] = [one.path for one in store.storage.files(MANIFESTS) if f"{AT:020d}-" not in one.path]
    store.storage.delete(newer)
    with pytest.raises(ProjectionError, match="eventstore verify") as got:
        open_tables(store, ["jobs"])
    assert (got.value.code, got.value.seal) == ("seal_unreadable", seal_path(AT))
    assert refresh(store, ["jobs"])["jobs"].position == SEALS
    assert_tables(store, open_tables(store, ["jobs"]))
