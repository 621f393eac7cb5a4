"""Snapshots: where files are, what makes one visible, and which of them is read."""

from __future__ import annotations

import hashlib
import io
import json
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from snapshots_kit import (
    FINISHED,
    ONLY,
    TABLE,
    THINGS,
    Place,
    body_of,
    build,
    first_file,
    read,
    recipe,
    written,
)
from store_kit import memory_url

from eventstore import NotFoundError, ProjectionError
from eventstore.layout import manifest_path, parse_manifest, run_folder
from eventstore.testing import FaultyStorage
from projections import (
    Manifest,
    ProjectionRegistry,
    content_digest,
    find_snapshot,
    open_tables,
)
from projections.snapshot import list_snapshots, publish


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    """An empty place, in memory or in a folder."""
    url = memory_url() if request.param == "memory" else str(tmp_path / "store [1]")
    return Place(url, tmp_path / "local")


def test_a_snapshot_reads_back(place: Place) -> None:
    """What is published is found, with rows, position, digest, and who made it."""
    build(place, 7)
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert read(found).equals(TABLE)
    assert (found.position, found.rows, found.manifest.store_id) == (7, 2, "here")
    assert found.digest == content_digest(TABLE, ("name",))
    assert "polars" in found.manifest.made_by


def test_files_are_where_the_format_says_and_named_by_content(place: Place) -> None:
    """A run's files lie in its folder, by role, and each file's name is its SHA-256; so does the manifest."""
    state = pl.DataFrame({"name": ["a"], "position": [0], "raw": [4]}, schema=FINISHED.state_schema)
    made = build(place, 7, state, one=FINISHED)
    [run] = made.manifest.runs
    assert made.path == "projections/things/v1/manifests/00000000000000000007-000001.json"
    assert run.name.startswith("00000000000000000000-00000000000000000007-")
    stored = {entry.path: place.storage.read(entry.path) for entry in place.storage.files("projections")}
    raw = json.loads(stored.pop(made.path))
    assert hashlib.sha256(body_of(raw["manifest"])).hexdigest() == raw["digest"]
    files = raw["manifest"]["runs"][0]["files"]
    assert [file["role"] for file in files] == ["table", "state"]
    for file in files:
        path = f"projections/things/v1/runs/{run.name}/{file['role']}/{file['sha256']}.parquet"
        data = stored.pop(path)
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        assert (len(data), pl.read_parquet(io.BytesIO(data)).height) == (file["size_bytes"], file["rows"])
    assert stored == {}


def test_the_state_is_the_table_unless_it_is_more(place: Place) -> None:
    """A refresh goes on from the state; where none was kept the table is the state."""
    state = pl.DataFrame({"name": ["a"], "position": [0], "raw": [4]}, schema=FINISHED.state_schema)
    made = build(place, 1, state, one=FINISHED)
    assert made.scan(made.manifest.runs[0], "state").collect().equals(state)
    assert read(made).rows() == [("a", 0, 2)]
    plain = build(place, 2)
    assert plain.scan(plain.manifest.runs[0], "state").collect().equals(TABLE)
    assert [file.role for file in plain.manifest.runs[0].files] == ["table"]


def test_an_empty_table_has_a_snapshot(place: Place) -> None:
    """No rows is an answer, and not the same as no snapshot."""
    build(place, 0, TABLE.clear())
    assert open_tables(place, registry=ONLY)["things"].collect().equals(TABLE.clear())


def test_a_large_table_is_several_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come back in the order of the key over all files."""
    monkeypatch.setattr("projections.run._FILE_ROWS", 4)
    table = pl.DataFrame(
        {"name": [f"n{n}" for n in range(10)], "position": range(10), "size": range(10)}, schema=THINGS.schema
    )
    made = build(place, 10, table)
    files = made.manifest.runs[0].files
    assert len(files) >= 3
    assert max(file.rows for file in files) <= 4
    assert read(made).equals(table)
    assert made.digest == content_digest(table, ("name",))


def test_rows_of_near_positions_lie_together(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is sliced by position: each slice is sorted by key and has only its range of positions."""
    monkeypatch.setattr("projections.run._SLICE_POSITIONS", 4)
    table = pl.DataFrame(
        {"name": [f"n{n}" for n in range(9)], "position": [8, 0, 5, 3, 7, 1, 6, 2, 4], "size": range(9)},
        schema=THINGS.schema,
    )
    made = build(place, 9, table)
    [run] = made.manifest.runs
    slices = run.slices("table")
    assert [sum(file.rows for file in files) for files in slices] == [4, 4, 1]
    for number, files in enumerate(slices):
        folder = run_folder("things", 1, run.name)
        part = pl.concat(
            pl.read_parquet(io.BytesIO(place.storage.read(f"{folder}/{file.name}"))) for file in files
        )
        assert part["name"].is_sorted()
        assert set(part["position"] // 4) == {number}
    assert read(made).sort("name").equals(table)
    assert made.digest == content_digest(table, ("name",))


def test_one_waiting_slice_is_written_when_too_many_rows_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of many slices do not pile up: beyond a limit the fullest slice is written, and none is lost."""
    monkeypatch.setattr("projections.run._SLICE_POSITIONS", 10)
    monkeypatch.setattr("projections.run._MOST_ROWS", 5)
    table = pl.DataFrame(
        {"name": [f"n{n:02}" for n in range(40)], "position": [n * 7 % 40 for n in range(40)]}
    ).with_columns(size=pl.lit(1, pl.Int64))
    made = build(place, 40, table)
    assert read(made).sort("name").equals(table)
    for files in made.manifest.runs[0].slices("table"):
        folder = run_folder("things", 1, made.manifest.runs[0].name)
        lowest = [
            pl.read_parquet(io.BytesIO(place.storage.read(f"{folder}/{file.name}")))["name"].min()
            for file in files
        ]
        assert lowest == sorted(lowest)


def test_without_a_manifest_there_is_no_snapshot(place: Place) -> None:
    """Files without a manifest are somebody's unfinished work: the older snapshot is the newest."""
    build(place, 5)
    unfinished = build(place, 9)
    place.storage.delete(unfinished.path)
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert (found.position, found.set_aside) == (5, ())


def test_the_manifest_is_written_last(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a manifest is visible, every file that it names is there."""
    monkeypatch.setattr("projections.run._FILE_ROWS", 1)
    made = build(place, 5)
    wrote = [line.partition(" ") for line in place.plan.trace]
    order = [(verb, path) for verb, _, path in wrote if verb in ("put", "create", "delete")]
    assert order[-1] == ("create", made.path)
    assert sorted(path for _, path in order[:-1]) == sorted(
        path for path, _, _ in made.files(made.manifest.runs[0])
    )


def test_at_one_position_the_highest_revision_counts(place: Place) -> None:
    """Who publishes a second time, or at the same time as another, takes the next free revision."""
    build(place, 5)
    second = build(place, 5, TABLE.head(1))
    assert list_snapshots(place, THINGS) == [(5, 2), (5, 1)]
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert (found.revision, found.manifest) == (2, second.manifest)
    # A revision that another took since the listing is not written over.
    run = written(place, TABLE, 5)
    taken = manifest_path("things", 1, 5, 3)
    listing = place.storage.files

    def late(folder: str = "", *, temporary: bool = False) -> Any:
        found = listing(folder, temporary=temporary)
        if not place.storage.exists(taken):
            place.storage.create(taken, b"someone else's")
        return found

    place.storage.files = late  # type: ignore[method-assign]
    assert publish(place, THINGS, place.head(5), [run], second).revision == 4
    assert place.storage.read(taken) == b"someone else's"


def test_storage_without_put_if_absent_publishes_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain put does where nothing better is there; a revision that is taken is left."""

    class Plain:
        atomic_create = False

    monkeypatch.setattr(FaultyStorage, "abilities", Plain())
    assert (build(place, 5).revision, build(place, 5).revision) == (1, 2)
    assert not any(line.startswith("create") for line in place.plan.trace)


def test_a_table_of_several_runs_is_not_whole_by_path(place: Place) -> None:
    """While newer runs wait, the snapshot has no digest of the table, and the tables join them."""
    first = written(place, TABLE, 5)
    newer = pl.DataFrame({"name": ["b", "c"], "position": [6, 7], "size": [9, 3]}, schema=THINGS.schema)
    made = publish(place, THINGS, place.head(9), [first, written(place, newer, 9, first=5)], None)
    assert (made.digest, made.manifest.is_whole, made.rows) == (None, False, 4)
    found = open_tables(place, registry=ONLY)["things"].collect().sort("name")
    assert found.rows() == [("a", 0, 1), ("b", 1, None), ("c", 7, 3)]


@pytest.mark.parametrize("ranges", [[(0, 5), (4, 7)], [(0, 7), (7, 9)], [(0, 3), (5, 4)]])
def test_runs_that_overlap_or_go_beyond_are_no_manifest(place: Place, ranges: list[Any]) -> None:
    """Runs follow one another up to the position at most; anything else is refused."""
    runs = [written(place, TABLE, until, first=first) for first, until in ranges]
    made = publish(place, THINGS, place.head(8), runs, None)
    with pytest.raises(ValueError, match="runs"):
        Manifest.decode(place.storage.read(made.path))


def test_a_new_version_does_not_see_the_old_ones_snapshots(place: Place) -> None:
    """A recipe with the next version starts without a snapshot."""
    build(place, 5)
    assert find_snapshot(place, recipe(2)) is None


def test_a_recipe_that_changed_without_a_new_version_is_told_so(place: Place) -> None:
    """Other columns under the same version are refused, with the advice to count up."""
    build(place, 5)
    with pytest.raises(ProjectionError, match="next version") as got:
        find_snapshot(place, recipe(1, "colour"))
    assert got.value.code == "recipe_changed"


def test_no_snapshot_is_not_found_with_the_next_step(place: Place) -> None:
    """Both opening nothing and asking for one missing table say how to make it."""
    with pytest.raises(NotFoundError, match="run `eventstore rebuild`") as got:
        open_tables(place, registry=ONLY)
    assert got.value.code == "no_snapshot"
    build(place, 5)
    both = ProjectionRegistry([THINGS, recipe(name="others")])
    with pytest.raises(NotFoundError, match="others"):
        open_tables(place, ["things", "others"], registry=both)
    tables = open_tables(place, registry=both)
    assert list(tables) == ["things"]
    assert "others" not in tables
    with pytest.raises(NotFoundError, match="run `eventstore rebuild`"):
        tables["others"]


def test_tables_say_where_they_stand(place: Place) -> None:
    """`position` is what all tables have folded; each table's own is in `positions`."""
    other = recipe(name="others")
    build(place, 5)
    build(place, 9)
    build(place, 8, one=other)
    tables = open_tables(place, registry=ProjectionRegistry([THINGS, other]))
    assert (tables.position, tables.positions) == (8, {"things": 9, "others": 8})


def test_a_manifest_survives_its_encoding(place: Place) -> None:
    """decode(encode(x)) = x, with runs and retired ones."""
    build(place, 5)
    manifest = build(place, 7).manifest
    assert len(manifest.retired) == 1
    assert Manifest.decode(manifest.encode()) == manifest
    assert manifest.encode().endswith(b"}\n")


def test_foreign_files_are_ignored(place: Place) -> None:
    """Only names of the format are manifests."""
    build(place, 5)
    for name in (
        "9-1.json",
        "00000000000000000009-000001.json.bak",
        "notes/00000000000000000009-000001.json",
    ):
        place.storage.put(f"projections/things/v1/manifests/{name}", b"{}")
    assert list_snapshots(place, THINGS) == [(5, 1)]
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert (found.position, found.set_aside) == (5, ())


def test_only_the_newest_manifests_are_kept(place: Place) -> None:
    """Three stay, and those are whole, however long ago the runs that they name were replaced."""
    made = [build(place, position) for position in range(1, 7)]
    kept = [parse_manifest(entry.path) for entry in place.storage.files("projections/things/v1/manifests")]
    assert kept == [(4, 1), (5, 1), (6, 1)]
    for older, newer in pairwise(made):
        assert older.manifest.runs[0].name in {one.run.name for one in newer.manifest.retired}


def test_a_reader_whose_manifest_went_takes_the_next(place: Place) -> None:
    """Between listing and reading others may publish so often that nothing of the listing is left."""
    build(place, 1)
    busy = [True]
    read_file = place.storage.read

    def slow(path: str) -> bytes:
        if busy.pop() if busy else False:
            for position in range(2, 6):
                publish(place, THINGS, place.head(position), [written(place, TABLE, position)], None)
            assert not place.storage.exists(path)
        return read_file(path)

    place.storage.read = slow  # type: ignore[method-assign]
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert found.position == 5


def test_snapshots_of_a_lost_history_go_with_the_next_publication(place: Place) -> None:
    """The log was restored from a copy: what stands beyond it is passed over, then deleted, with its runs."""
    build(place, 5, TABLE.head(1))
    lost = [build(place, position) for position in (7, 8, 9)]
    place.sealed, place.history = 6, "second"
    with pytest.raises(ProjectionError, match="restored from a copy"):
        find_snapshot(place, THINGS)
    made = publish(place, THINGS, place.head(6), [written(place, TABLE, 6)], None)
    assert list_snapshots(place, THINGS) == [(6, 1)]
    assert {one.run.name for one in made.manifest.retired} >= {one.manifest.runs[0].name for one in lost}


def test_snapshots_of_a_lost_history_do_not_count_among_those_that_are_kept(place: Place) -> None:
    """Also where the log has gone on past them: they go, and what is of the log that is here stays."""
    build(place, 4)
    good = build(place, 5, TABLE.head(1))
    lost = build(place, 7)
    place.common, place.history = 5, "second"
    made = build(place, 9)
    assert list_snapshots(place, THINGS) == [(9, 1), (5, 1), (4, 1)]
    assert lost.manifest.runs[0].name in {one.run.name for one in made.manifest.retired}
    place.storage.delete(first_file(made))
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert (found.position, read(found).equals(TABLE.head(1))) == (5, True)
    good.check()


def test_a_snapshot_whose_seal_cannot_be_read_stays_and_does_not_count(place: Place) -> None:
    """Nobody knows whether it is of this log: it goes only when enough newer ones are known to be."""
    for position in (1, 2, 3):
        build(place, position)
    place.unreadable = {3}
    build(place, 4)
    assert list_snapshots(place, THINGS) == [(4, 1), (3, 1), (2, 1), (1, 1)]
    build(place, 5)
    assert list_snapshots(place, THINGS) == [(5, 1), (4, 1), (3, 1), (2, 1)]
    made = build(place, 6)
    assert list_snapshots(place, THINGS) == [(6, 1), (5, 1), (4, 1)]
    assert 3 in {one.run.until for one in made.manifest.retired}


def test_a_snapshot_that_another_published_beyond_our_head_stays(place: Place) -> None:
    """Who is slow meets manifests beyond what it folded; they are of the same log, so they serve."""
    build(place, 7)
    publish(place, THINGS, place.head(5), [written(place, TABLE.head(1), 5)], None)
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert (found.position, list_snapshots(place, THINGS)) == (7, [(7, 1), (5, 1)])
