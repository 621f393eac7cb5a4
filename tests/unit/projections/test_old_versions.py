"""Tables that an older version of a recipe made are read as what they are, not as the present one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from store_kit import flip, memory_url, open_store
from tables_kit import jobs

from eventstore import EventStore, ProjectionError
from eventstore.checked_file import IndexDamagedError
from projections import (
    Column,
    GeneralProjection,
    KeyedProjection,
    Projection,
    ProjectionRegistry,
    Tables,
    diff_moments,
    find_snapshot,
    open_tables,
    rebuild,
    refresh,
    text,
    whole,
)
from projections.keyed_reads import KeyedReads
from projections.tables import INDEXES

JOBS = 10
"""Jobs in the first run of the old version; one more is in the next run."""


def keyed(version: int, key: tuple[str, ...], columns: dict[str, Column], **more: Any) -> KeyedProjection:
    """Return a recipe of jobs, with rows of these columns, by name."""
    cells = {
        "job_id": pl.col("job_id"),
        "position": pl.col("position"),
        "task_hash": pl.col("task_hash"),
        "run": pl.col("execution_id"),
        "number": pl.col("position") * 10,
    }
    names = {**columns, "position": whole("")} if "state" not in more else more["state"]
    given: dict[str, Any] = {
        "rows": lambda events: events.select(
            cells[name].cast(column.dtype).alias(name) for name, column in names.items()
        )
    }
    return KeyedProjection(
        name="mine",
        version=version,
        doc="Mine.",
        kinds=("job.started",),
        inputs=("job_id", "execution_id", "task_hash"),
        key=key,
        columns=columns,
        **given,
        **more,
    )


def counted(version: int) -> GeneralProjection:
    """Return a recipe that is no rows by key: how many jobs each run has."""

    def step(state: pl.DataFrame | None, events: pl.DataFrame) -> pl.DataFrame:
        new = events.group_by(run="execution_id").agg(pl.col("position").min(), n=pl.len().cast(pl.Int64))
        both = new if state is None else pl.concat([state, new])
        return both.group_by("run").agg(pl.col("position").min(), pl.col("n").sum())

    return GeneralProjection(
        name="mine",
        version=version,
        doc="Mine.",
        kinds=("job.started",),
        inputs=("execution_id",),
        key=("run",),
        columns={"run": text("run"), "position": whole("first"), "n": whole("jobs")},
        step=step,
    )


OLD = keyed(1, ("job_id",), {"job_id": text("job"), "task_hash": text("task")})

NEWER: dict[str, Callable[[int], Projection]] = {
    "as many columns": lambda version: keyed(
        version, ("job_id",), {"job_id": text("job"), "number": whole("number")}
    ),
    "another type": lambda version: keyed(
        version, ("job_id",), {"job_id": text("job"), "task_hash": Column(pl.Binary, "task")}
    ),
    "another order": lambda version: keyed(
        version, ("job_id",), {"task_hash": text("task"), "job_id": text("job"), "position": whole("first")}
    ),
    "more columns": lambda version: keyed(
        version, ("job_id",), {"job_id": text("job"), "run": text("run"), "number": whole("number")}
    ),
    "fewer columns": lambda version: keyed(version, ("job_id",), {"job_id": text("job")}),
    "another key": lambda version: keyed(
        version, ("task_hash",), {"job_id": text("job"), "task_hash": text("task")}
    ),
    "a longer key": lambda version: keyed(
        version, ("run", "job_id"), {"run": text("run"), "job_id": text("job"), "number": whole("number")}
    ),
    "a key of a new column": lambda version: keyed(
        version, ("number",), {"number": whole("number"), "job_id": text("job")}
    ),
    "a state": lambda version: keyed(
        version,
        ("run",),
        {"run": text("run"), "position": whole("first")},
        state={"run": text(""), "job_id": text(""), "position": whole("")},
        state_key=("run", "job_id"),
        finish=lambda state: state.group_by("run").agg(pl.col("position").min()),
    ),
    "a general recipe": counted,
}

newer = pytest.mark.parametrize("make", NEWER.values(), ids=NEWER)


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    """A store whose table the first version built, with a newer run behind the first."""
    url = memory_url() if request.param == "memory" else str(tmp_path / "store")
    with open_store(url, state_dir=tmp_path / "state") as store:
        store.append(*jobs(0, JOBS))
        store.seal()
        rebuild(store, registry=ProjectionRegistry([OLD]))
        store.append(*jobs(JOBS, JOBS + 1))
        store.seal()
        refresh(store, registry=ProjectionRegistry([OLD]))
        yield store


def opened(store: EventStore, recipe: Projection, **asked: Any) -> Tables:
    """Open the table by a recipe."""
    return open_tables(store, registry=ProjectionRegistry([recipe]), **asked)


def assert_lookups(tables: Tables, key: tuple[str, ...], rows: int) -> None:
    """Each row that a scan gives is found by its key, one by one and together, and other keys are not."""
    table = tables["mine"].collect()
    assert table.height == rows
    scanned = list(table.iter_rows(named=True))
    keys = list(table.select(key).iter_rows())
    absent = tuple("~" if isinstance(cell, str) else -1 for cell in keys[0])
    assert tables.lookup("mine", absent) is None
    assert [tables.lookup("mine", one) for one in keys] == scanned
    assert tables.lookup_many("mine", [*keys, absent]) == [*scanned, None]
    if len(key) == 1:
        assert tables.lookup("mine", keys[0][0]) == scanned[0]
    with pytest.raises(ProjectionError) as got:
        tables.lookup("mine", (*keys[0], "one too many"))
    assert got.value.code == "bad_key"


@newer
@pytest.mark.parametrize("indexed", [False, True], ids=["without its index", "with its index"])
@pytest.mark.parametrize("verify", [True, False], ids=["verified", "looked for"])
def test_lookups_before_the_new_version_is_built(
    store: EventStore, make: Callable[[int], Projection], indexed: bool, verify: bool
) -> None:
    """Rows have the columns and the key of the version that made them, whichever index there is."""
    if indexed:
        with opened(store, OLD) as tables:
            assert_lookups(tables, ("job_id",), JOBS + 1)
    with opened(store, make(2), verify=verify) as tables:
        assert (tables.versions, tables.position) == ({"mine": 1}, JOBS)
        assert tables["mine"].collect().columns == ["job_id", "position", "task_hash"]
        assert_lookups(tables, ("job_id",), JOBS)
        found = tables.lookup("mine", "job000003")
        assert found is not None
        assert (list(found), found["position"]) == (["job_id", "position", "task_hash"], 3)


@newer
def test_lookups_after_the_new_version_is_built(store: EventStore, make: Callable[[int], Projection]) -> None:
    """Who opened before goes on with the old table, who opens then has the new one; indexes are apart."""
    recipe = make(2)
    with opened(store, recipe) as before, opened(store, OLD) as old:
        assert_lookups(before, ("job_id",), JOBS)
        refresh(store, registry=ProjectionRegistry([recipe]))
        with opened(store, recipe) as tables:
            assert (tables.versions, tables.position) == ({"mine": 2}, JOBS + 1)
            rows = tables["mine"].select(pl.len()).collect().item()
            assert_lookups(tables, recipe.key, rows)
        assert_lookups(before, ("job_id",), JOBS)
        assert_lookups(old, ("job_id",), JOBS + 1)


@newer
def test_an_old_version_is_looked_up_without_an_index(
    store: EventStore, make: Callable[[int], Projection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where indexes stay damaged the row is read as a scan would read it, by the key of the old version."""

    def damaged(_: KeyedReads) -> Callable[[Any], Any]:
        def answer(_: Any) -> Any:
            raise IndexDamagedError("damaged", code="index_damaged")

        return answer

    monkeypatch.setattr(KeyedReads, "_open", damaged)
    with opened(store, make(2)) as tables:
        assert_lookups(tables, ("job_id",), JOBS)
    assert not list((store.local_folder / INDEXES).rglob("*.index"))


@newer
def test_an_old_version_is_the_table_that_its_manifest_says(
    store: EventStore, make: Callable[[int], Projection]
) -> None:
    """Its view has that version, key, columns and types, and the content that the first run's digest says."""
    snapshot = find_snapshot(store, OLD)
    assert snapshot is not None
    with opened(store, make(2)) as tables:
        view = tables.views["mine"]
        assert (view.recipe.name, view.recipe.version) == ("mine", view.version) == ("mine", 1)
        assert (view.recipe.key, view.recipe.schema) == (OLD.key, OLD.schema)
        run = snapshot.manifest.runs[0]
        assert view.content() == (run.table_rows, run.table_digest)
        keys = pl.DataFrame({"job_id": ["job000003", "nothing"]})
        assert view.select(keys)["position"].to_list() == [3]
        with pytest.raises(ProjectionError) as got:
            view.recipe.begin()
        assert got.value.code == "recipe_not_known"


def test_types_of_an_old_version_are_those_of_its_files(store: EventStore) -> None:
    """Also nested types, times and decimals are what they were, in scans and in the digest."""
    cells = {
        "due": (pl.Datetime("us", "UTC"), pl.lit(5).cast(pl.Datetime("us", "UTC"))),
        "price": (pl.Decimal(10, 2), pl.lit("1.25").cast(pl.Decimal(10, 2))),
        "parts": (pl.List(pl.Struct({"a": pl.Int8})), pl.lit([{"a": 1}], pl.List(pl.Struct({"a": pl.Int8})))),
    }
    recipe = KeyedProjection(
        name="typed",
        version=1,
        doc="Typed.",
        kinds=("job.started",),
        inputs=("job_id",),
        key=("job_id",),
        columns={"job_id": text(""), **{name: Column(dtype, "") for name, (dtype, _) in cells.items()}},
        rows=lambda events: events.select(
            "job_id", "position", **{name: cell for name, (_, cell) in cells.items()}
        ),
    )
    rebuild(store, registry=ProjectionRegistry([recipe]))
    present = KeyedProjection(**{**vars(recipe), "version": 2, "columns": {"job_id": text("")}})
    with opened(store, present) as tables:
        view = tables.views["typed"]
        assert view.recipe.schema == recipe.schema == tables["typed"].collect_schema()
        snapshot = find_snapshot(store, recipe)
        assert snapshot is not None
        assert view.content()[1] == snapshot.digest


def test_an_old_version_found_damaged_only_then_is_passed_over(store: EventStore) -> None:
    """Without comparing files before, a damaged one still gives no table: the version before it is read."""
    second = NEWER["as many columns"](2)
    rebuild(store, registry=ProjectionRegistry([second]))
    snapshot = find_snapshot(store, second)
    assert snapshot is not None
    path, *_ = next(snapshot.files(snapshot.manifest.runs[0]))
    local = store.storage.local_path(path)
    if local is not None:
        flip(local, 40)
    else:
        raw = store.storage.read(path)
        store.storage.put(path, raw[:40] + bytes([raw[40] ^ 1]) + raw[41:])
    with opened(store, NEWER["more columns"](3), verify=False) as tables:
        assert tables.versions == {"mine": 1}
        assert_lookups(tables, ("job_id",), JOBS)


def test_two_looks_at_an_old_version_are_compared_by_its_own_key(store: EventStore) -> None:
    """The present recipe has another key, which tells nothing of these rows."""
    newer = NEWER["another key"](2)
    registry = ProjectionRegistry([newer])
    with opened(store, newer) as then, opened(store, newer) as now:
        found = diff_moments(then, now, "mine", registry=registry)
    assert (found.key, found.counts().unchanged) == (("job_id",), JOBS)
