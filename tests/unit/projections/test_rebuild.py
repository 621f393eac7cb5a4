"""Rebuild: from a store's sealed log to snapshots of all tables, in one pass and in bounded memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest
from tables_kit import ALL, USERS, assert_tables, at, expected, h, shrink, table_from

from eventstore import (
    EventStore,
    EventStoreError,
    ExecutionStarted,
    HandleAdvanced,
    HandleRolledBack,
    JobEnded,
    JobStarted,
    NotFoundError,
    ProjectionError,
    StateError,
    Tag,
    TagsRecorded,
    TaskRecorded,
    ValueRecorded,
)
from projections import (
    BUILT_IN_TABLES,
    GeneralProjection,
    KeyedProjection,
    ProjectionRegistry,
    default_projections,
    open_tables,
    rebuild,
    text,
)
from projections.builder import SCRATCH, advance_delta
from projections.fold import fold_events
from projections.scratch import Scratch


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[EventStore]:
    """An empty store, in memory or in a folder."""
    url = f"memory://{uuid.uuid4().hex}" if request.param == "memory" else str(tmp_path / "store [1]")
    with EventStore.open(url, create=True, actor="ada", state_dir=tmp_path / "state") as store:
        yield store


in_a_folder = pytest.mark.parametrize("store", ["folder"], indirect=True)
"""For what does not depend on where the store is, and takes its time."""


def history() -> list[Any]:
    """Return a small history that touches most tables."""
    jobs = [f"job{n}" for n in range(6)]
    return [
        TaskRecorded(task_hash=h("task"), task_name="weigh"),
        ExecutionStarted(execution_id="run", occurred_at=at(0)),
        *(JobStarted(job_id=job, execution_id="run", task_hash=h("task"), parent_id="x") for job in jobs),
        ValueRecorded(value_hash=h("v"), type_name="builtins.int", size_bytes=3, data=b"abc"),
        *(JobEnded(job_id=job, execution_id="run", task_hash=h("task"), status="DONE") for job in jobs[:4]),
        TagsRecorded(entity_type="Job", entity_id="job1", tags=(Tag(tag_hash=h("t"), key="a", value="1"),)),
        HandleAdvanced(handle_hash=h("b"), handle_name="db", parents=(h("a"),)),
        HandleRolledBack(handle_hash=h("a"), handle_name="db"),
        HandleAdvanced(handle_hash=h("c"), handle_name="db", parents=(h("a"),)),
    ]


def fill(store: EventStore, events: list[Any]) -> None:
    """Append in several segments, all sealed."""
    for start in range(0, len(events), 5):
        store.append(*events[start : start + 5])
        store.flush()
    store.seal()


def test_all_tables_are_built_at_the_sealed_head(store: EventStore) -> None:
    """Each table has a whole snapshot at the head, with the rows that its events say."""
    fill(store, history())
    made = rebuild(store)
    assert set(made) == {one.name for one in BUILT_IN_TABLES}
    tables = open_tables(store)
    assert tables.position == store.head().size == len(history())
    assert set(tables.positions.values()) == {tables.position}
    assert tables["jobs"].collect()["status"].to_list() == ["DONE"] * 4 + ["RUNNING"] * 2
    assert tables["executions"].collect()["status"].to_list() == ["DONE"]
    assert tables["handles"].filter("is_valid").collect()["handle_hash"].to_list() == sorted([h("a"), h("c")])
    assert tables["tags"].collect()["actor"].to_list() == ["ada"]
    for snapshot in made.values():
        snapshot.check()
        assert snapshot.manifest.is_whole
    assert_tables(store, tables)


def test_rows_lead_to_their_events(store: EventStore) -> None:
    """A value's position finds its bytes in the log."""
    fill(store, history())
    rebuild(store, ["values"])
    position = open_tables(store, ["values"])["values"].collect()["position"][0]
    [event] = store.events(after=position - 1, until=position + 1)
    assert event.event.data == b"abc"


def test_the_tail_is_not_in_a_snapshot(store: EventStore) -> None:
    """What is appended and not sealed waits for the next rebuild."""
    fill(store, history())
    store.append(TaskRecorded(task_hash=h("late"), task_name="late"))
    assert rebuild(store, ["tasks"])["tasks"].rows == 1
    store.seal()
    assert rebuild(store, ["tasks"])["tasks"].rows == 2
    assert open_tables(store, ["tasks"]).position == len(history()) + 1


def folded(store: EventStore, until: int, **how: Any) -> dict[str, pl.DataFrame]:
    """Return the table that each recipe's fold gives, from what waits in memory and what was spilled."""
    recipes = list(ALL)
    with Scratch(store.local_folder / SCRATCH) as scratch:
        deltas = fold_events(store, recipes, after=None, until=until, scratch=scratch, **how)
        return {
            one.name: one.table(pl.concat([one.state_schema.to_frame(), *batches]))
            for one in recipes
            for batches in [list(advance_delta(store, one, [], deltas[one.name]))]
        }


def assert_equal(found: dict[str, pl.DataFrame], store: EventStore, until: int) -> None:
    """Each of these tables is what one fold makes of the events."""
    events = store.scan(until=until).collect()
    for one in ALL:
        assert found[one.name].equals(table_from(one, events)), one.name


@in_a_folder
@pytest.mark.parametrize(("batch_rows", "memory_bytes"), [(1, 1), (4, 10_000), (4, 10**9), (1000, 1)])
def test_neither_batches_nor_memory_change_a_table(
    store: EventStore, batch_rows: int, memory_bytes: int
) -> None:
    """The log may be read in any pieces, and states may be spilled: the tables are those of one pass."""
    fill(store, history())
    found = folded(store, len(history()), batch_rows=batch_rows, memory_bytes=memory_bytes)
    assert_equal(found, store, len(history()))


@in_a_folder
def test_what_does_not_fit_into_memory_goes_to_scratch_files(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the memory that is set rows are spilled, and none of it is left when the rebuild is done."""
    spilled: list[int] = []
    write = Scratch.write

    def noted(self: Scratch, batches: Iterator[pl.DataFrame]) -> Any:
        made = list(batches)
        spilled.append(sum(batch.height for batch in made))
        return write(self, iter(made))

    monkeypatch.setattr(Scratch, "write", noted)
    shrink(monkeypatch)
    fill(store, history())
    first = {name: made.digest for name, made in rebuild(store, registry=ALL).items()}
    assert spilled == []
    again = {name: made.digest for name, made in rebuild(store, registry=ALL, memory_bytes=10).items()}
    assert len(spilled) >= 3
    assert again == first
    assert list((store.local_folder / SCRATCH).iterdir()) == []


@in_a_folder
def test_waiting_states_are_merged_under_way(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long fold merges its partial states now and then; the tables are the same."""
    fill(store, history())
    monkeypatch.setattr("projections.deltas._MERGE_ROWS", 2)
    found = folded(store, len(history()), batch_rows=3)
    assert_equal(found, store, len(history()))


@in_a_folder
@pytest.mark.parametrize("until", [0, 4, 15])
def test_a_fold_may_end_before_the_head(store: EventStore, until: int) -> None:
    """Only the events below the asked position are folded."""
    fill(store, history())
    found = folded(store, until)
    assert_equal(found, store, until)


def test_a_kind_that_is_named_twice_is_read_once(store: EventStore) -> None:
    """A recipe's list of kinds is a set: no event is counted double."""
    kinds = next(one for one in USERS if one.name == "kinds")
    doubled = GeneralProjection(**{**vars(kinds), "name": "doubled", "kinds": kinds.kinds * 2})
    fill(store, history())
    rebuild(store, registry=ProjectionRegistry([doubled]))
    tables = open_tables(store, registry=ProjectionRegistry([doubled]))
    assert tables["doubled"].collect().equals(expected(store, kinds))


def test_an_empty_store_has_empty_tables(store: EventStore) -> None:
    """Tables of no events are there, stand at 0, and have their columns."""
    rebuild(store)
    tables = open_tables(store)
    assert tables.position == 0
    for one in BUILT_IN_TABLES:
        frame = tables[one.name].collect()
        assert (frame.height, frame.schema) == (0, one.schema)


def test_progress_ends_at_the_head(store: EventStore) -> None:
    """Progress never falls and ends with everything done."""
    fill(store, history())
    seen: list[tuple[int, int]] = []
    rebuild(store, ["jobs"], progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(history()), len(history()))


def test_rebuilding_twice_gives_the_same_content(store: EventStore) -> None:
    """The content digest of every table depends on the events alone."""
    fill(store, history())
    first = {name: made.digest for name, made in rebuild(store).items()}
    assert {name: made.digest for name, made in rebuild(store).items()} == first
    assert None not in first.values()


def test_an_unknown_name_builds_nothing(store: EventStore) -> None:
    """A typing error is found before anything is read or written."""
    fill(store, history())
    with pytest.raises(NotFoundError, match="jobbs"):
        rebuild(store, ["jobs", "jobbs"])
    assert store.storage.files("projections") == []


def test_a_failing_recipe_publishes_nothing(store: EventStore) -> None:
    """One bad recipe ends the rebuild with its name; no other table is half new."""

    def rows(events: pl.LazyFrame) -> pl.LazyFrame:
        raise RuntimeError("out of ink")

    bad = KeyedProjection(
        name="bad",
        version=1,
        doc="Never.",
        kinds=("job.ended",),
        inputs=("job_id",),
        key=("job_id",),
        columns={"job_id": text("job")},
        rows=rows,
    )
    fill(store, history())
    with pytest.raises(ProjectionError, match=r"bad version 1 in the batch at position 9.*out of ink"):
        rebuild(store, registry=ProjectionRegistry([*BUILT_IN_TABLES, bad]))
    assert store.storage.files("projections") == []


def test_a_log_that_cannot_be_read_is_an_error(store: EventStore) -> None:
    """A segment that is gone ends the rebuild; nothing is published."""
    fill(store, history())
    store.storage.delete(store.storage.files("segments")[0].path)
    with pytest.raises((ProjectionError, NotFoundError)):
        rebuild(store, ["jobs"])
    assert store.storage.files("projections") == []


def test_a_read_only_store_is_left_alone(store: EventStore, tmp_path: Any) -> None:
    """A rebuild writes, so a store that was opened to read refuses it and says how to open it."""
    fill(store, history())
    with (
        EventStore.open("", storage=store.storage, read_only=True, state_dir=tmp_path / "reader") as reader,
        pytest.raises(StateError, match="read_only") as got,
    ):
        rebuild(reader)
    assert got.value.code == "read_only"
    assert store.storage.files("projections") == []


def test_an_input_that_the_log_lacks_is_named_with_its_recipe(store: EventStore) -> None:
    """A misspelt column is found before the log is read, and the error names the recipe."""
    jobs = default_projections.get("jobs")
    bad = KeyedProjection(**{**vars(jobs), "name": "misspelt", "inputs": ("jbo_id",)})
    with pytest.raises(ProjectionError, match=r"misspelt.*jbo_id") as got:
        rebuild(store, registry=ProjectionRegistry([jobs, bad]))
    assert got.value.code == "unknown_input"


def test_two_rows_with_one_key_publish_nothing(store: EventStore) -> None:
    """A recipe whose `finish` gives a key twice fails while files are written: none of them stays."""
    bad = KeyedProjection(
        name="twice",
        version=1,
        doc="Never.",
        kinds=("job.started",),
        inputs=("job_id",),
        key=("job_id",),
        columns={"job_id": text("job")},
        finish=lambda state: pl.concat([state, state]),
        rows=lambda events: events.drop("kind"),
    )
    fill(store, history())
    with pytest.raises(ProjectionError, match="twice") as got:
        rebuild(store, registry=ProjectionRegistry([*BUILT_IN_TABLES, bad]))
    assert got.value.code == "key_not_unique"
    assert store.storage.files("projections") == []


def test_a_damaged_segment_is_named_and_nothing_published(store: EventStore) -> None:
    """A bit that flipped in the log ends the rebuild with the segment's name."""
    fill(store, history())
    path = store.storage.files("segments")[0].path
    data = bytearray(store.storage.read(path))
    data[len(data) // 2] ^= 1
    store.storage.put(path, bytes(data))
    with pytest.raises(EventStoreError, match=path.rpartition("/")[2][:20]):
        rebuild(store)
    assert store.storage.files("projections") == []
