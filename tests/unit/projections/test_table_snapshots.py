"""Snapshots: what makes one visible, what damage does, and the digest of a table's content."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import struct
import uuid
from collections.abc import Callable

import polars as pl
import pytest

from eventstore import NotFoundError, ProjectionError, Storage
from eventstore.filesystem import open_storage
from projections import (
    KeyedProjection,
    Manifest,
    ProjectionRegistry,
    Snapshot,
    check_snapshot,
    content_digest,
    find_snapshot,
    open_tables,
    publish,
    text,
    whole,
)
from projections.snapshot import MANIFEST


def recipe(version: int = 1, *more: str) -> KeyedProjection:
    """Return a recipe with text columns for each of `more`."""
    columns = {"name": text("name"), "size": whole("size"), **{name: text(name) for name in more}}
    return KeyedProjection(
        name="things",
        version=version,
        doc="One thing.",
        kinds=("lab.seen",),
        inputs=(),
        key=("name",),
        columns=columns,
        rows=lambda events: events,
    )


THINGS = recipe()
TABLE = pl.DataFrame({"name": ["a", "b"], "position": [0, 1], "size": [1, None]}, schema=THINGS.schema)


class Place:
    """A storage with a store's id, which is all that snapshots need."""

    def __init__(self, store_id: str = "here") -> None:
        self.storage: Storage = open_storage(f"memory://{uuid.uuid4().hex}")
        self.store_id = store_id


@pytest.fixture
def place() -> Place:
    """An empty place."""
    return Place()


def test_a_snapshot_reads_back(place: Place) -> None:
    """What is published is found, with rows, position, digest, and who made it."""
    publish(place, THINGS, 7, TABLE)
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert found.scan().collect().equals(TABLE)
    assert (found.position, found.manifest.rows, found.manifest.store_id) == (7, 2, "here")
    assert found.manifest.digest == content_digest(TABLE, ("name",))
    assert "polars" in found.manifest.made_by
    check_snapshot(found)


def test_files_are_where_the_format_says_and_named_by_content(place: Place) -> None:
    """The folder is projections/<table>/v<version>/<20 digits>; each file's name is its SHA-256."""
    made = publish(place, THINGS, 7, TABLE, TABLE.with_columns(more=pl.lit(1)))
    assert made.folder == "projections/things/v1/00000000000000000007"
    raw = json.loads(place.storage.read(f"{made.folder}/{MANIFEST}"))
    assert [file["role"] for file in raw["files"]] == ["table", "state"]
    for file in raw["files"]:
        data = place.storage.read(f"{made.folder}/{file['sha256']}.parquet")
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        assert (len(data), pl.read_parquet(io.BytesIO(data)).height) == (file["size_bytes"], file["rows"])


def test_the_state_is_the_table_unless_it_is_more(place: Place) -> None:
    """A refresh reads the state; where none was kept the table is the state."""
    state = TABLE.with_columns(more=pl.lit("x"))
    assert publish(place, THINGS, 1, TABLE, state).scan("state").collect().equals(state)
    assert publish(place, THINGS, 2, TABLE).scan("state").collect().equals(TABLE)


def test_an_empty_table_has_a_snapshot(place: Place) -> None:
    """No rows is an answer, and not the same as no snapshot."""
    publish(place, THINGS, 0, TABLE.clear())
    assert open_tables(place, registry=ProjectionRegistry([THINGS]))["things"].collect().equals(TABLE.clear())


def test_a_large_table_is_several_files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come back in the order of the key over all files."""
    monkeypatch.setattr("projections.snapshot._PART_ROWS", 3)
    table = pl.DataFrame(
        {"name": [f"n{n}" for n in range(8)], "position": range(8), "size": range(8)}, schema=THINGS.schema
    )
    made = publish(place, THINGS, 8, table)
    assert [file.rows for file in made.manifest.files] == [3, 3, 2]
    assert made.scan().collect().equals(table)


def test_without_a_manifest_there_is_no_snapshot(place: Place) -> None:
    """Files without a manifest are somebody's unfinished work: the older snapshot is the newest."""
    publish(place, THINGS, 5, TABLE)
    unfinished = publish(place, THINGS, 9, TABLE)
    place.storage.delete(f"{unfinished.folder}/{MANIFEST}")
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert (found.position, found.set_aside) == (5, ())


def test_the_manifest_is_written_last() -> None:
    """Whenever a manifest is visible, every file that it names is there."""
    place = Place()
    order: list[str] = []
    put = place.storage.put

    def noted(path: str, data: bytes) -> None:
        order.append(path)
        put(path, data)

    place.storage.put = noted  # type: ignore[method-assign]
    publish(place, THINGS, 5, TABLE, TABLE)
    assert [path.endswith(MANIFEST) for path in order] == [False, False, True]


def _spoil_json(place: Place, made: Snapshot) -> None:
    raw = place.storage.read(f"{made.folder}/{MANIFEST}")
    place.storage.put(f"{made.folder}/{MANIFEST}", raw[: len(raw) // 2])


def _lose_file(place: Place, made: Snapshot) -> None:
    place.storage.delete(f"{made.folder}/{made.manifest.files[0].name}")


def _cut_file(place: Place, made: Snapshot) -> None:
    path = f"{made.folder}/{made.manifest.files[0].name}"
    place.storage.put(path, place.storage.read(path)[:-1])


def _flip_byte(place: Place, made: Snapshot) -> None:
    path = f"{made.folder}/{made.manifest.files[0].name}"
    data = bytearray(place.storage.read(path))
    data[len(data) // 2] ^= 1
    place.storage.put(path, bytes(data))


def _edit(**changes: object) -> Callable[[Place, Snapshot], None]:
    def edit(place: Place, made: Snapshot) -> None:
        path = f"{made.folder}/{MANIFEST}"
        place.storage.put(path, json.dumps({**json.loads(place.storage.read(path)), **changes}).encode())

    return edit


DAMAGE = [
    (_spoil_json, "bad_manifest"),
    (_edit(files=[{"role": "table", "sha256": "../../x", "size_bytes": 1, "rows": 1}]), "bad_manifest"),
    (_edit(format=2), "bad_manifest"),
    (_edit(position="7"), "bad_manifest"),
    (_edit(surprise=1), "bad_manifest"),
    (_lose_file, "missing_file"),
    (_cut_file, "wrong_size"),
    (_flip_byte, "wrong_digest"),
    (_edit(store_id="elsewhere"), "foreign_snapshot"),
    (_edit(position=6), "foreign_snapshot"),
    (_edit(key=["size"]), "recipe_changed"),
]


@pytest.mark.parametrize(("damage", "code"), DAMAGE)
def test_a_damaged_snapshot_is_set_aside(
    place: Place, damage: Callable[[Place, Snapshot], None], code: str
) -> None:
    """An older good snapshot answers instead, and says why the newer one was passed over."""
    publish(place, THINGS, 5, TABLE)
    damage(place, publish(place, THINGS, 7, TABLE))
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert found.position == 5
    assert [(error.code, error.position) for error in found.set_aside] == [(code, 7)]


@pytest.mark.parametrize(("damage", "code"), DAMAGE)
def test_damage_without_an_older_snapshot_is_an_error(
    place: Place, damage: Callable[[Place, Snapshot], None], code: str
) -> None:
    """Never a wrong answer: the error names projection, position, file and next step; a rebuild heals it."""
    damage(place, publish(place, THINGS, 7, TABLE))
    with pytest.raises(ProjectionError, match="eventstore rebuild things") as got:
        open_tables(place, registry=ProjectionRegistry([THINGS]))
    assert (got.value.code, got.value.projection, got.value.position) == (code, "things", 7)
    assert got.value.path.startswith("projections/things/v1/00000000000000000007/")
    publish(place, THINGS, 7, TABLE)
    assert find_snapshot(place, THINGS) is not None


def test_wrong_rows_under_right_file_digests_are_found(place: Place) -> None:
    """The content digest guards against a manifest that was rewritten to fit other rows."""
    made = publish(place, THINGS, 7, TABLE.with_columns(size=pl.lit(5, pl.Int64)))
    _edit(digest=content_digest(TABLE, ("name",)))(place, made)
    found = find_snapshot(place, THINGS)
    assert found is not None
    with pytest.raises(ProjectionError, match="content digest") as got:
        check_snapshot(found)
    assert got.value.code == "wrong_content"


def test_a_new_version_does_not_see_the_old_ones_snapshots(place: Place) -> None:
    """A recipe with the next version starts without a snapshot."""
    publish(place, THINGS, 5, TABLE)
    assert find_snapshot(place, recipe(2)) is None


def test_a_recipe_that_changed_without_a_new_version_is_told_so(place: Place) -> None:
    """Other columns under the same version are refused, with the advice to count up."""
    publish(place, THINGS, 5, TABLE)
    with pytest.raises(ProjectionError, match="next version") as got:
        find_snapshot(place, recipe(1, "colour"))
    assert got.value.code == "recipe_changed"


def test_no_snapshot_is_not_found_with_the_next_step(place: Place) -> None:
    """Both opening nothing and asking for one missing table say how to make it."""
    registry = ProjectionRegistry([THINGS])
    with pytest.raises(NotFoundError, match="run `eventstore rebuild`") as got:
        open_tables(place, registry=registry)
    assert got.value.code == "no_snapshot"
    other = KeyedProjection(**{**vars(THINGS), "name": "others"})
    publish(place, THINGS, 5, TABLE)
    both = ProjectionRegistry([THINGS, other])
    with pytest.raises(NotFoundError, match="others"):
        open_tables(place, ["things", "others"], registry=both)
    tables = open_tables(place, registry=both)
    assert list(tables) == ["things"]
    assert "others" not in tables
    with pytest.raises(NotFoundError, match="run `eventstore rebuild`"):
        tables["others"]


def test_tables_say_where_they_stand(place: Place) -> None:
    """`position` is what all tables have folded; each table's own is in `positions`."""
    other = KeyedProjection(**{**vars(THINGS), "name": "others"})
    publish(place, THINGS, 5, TABLE)
    publish(place, THINGS, 9, TABLE)
    publish(place, other, 8, TABLE)
    registry = ProjectionRegistry([THINGS, other])
    tables = open_tables(place, registry=registry)
    assert (tables.position, tables.positions) == (8, {"things": 9, "others": 8})
    assert open_tables(place, ["things"], registry=registry, until=8).position == 5


def test_a_manifest_survives_its_encoding(place: Place) -> None:
    """decode(encode(x)) = x."""
    manifest = publish(place, THINGS, 7, TABLE).manifest
    assert Manifest.decode(manifest.encode()) == manifest


def test_foreign_folders_are_ignored(place: Place) -> None:
    """Only folders of 20 digits are snapshots."""
    publish(place, THINGS, 5, TABLE)
    place.storage.put("projections/things/v1/notes/manifest.json", b"{}")
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert found.position == 5


# the content digest --------------------------------------------------------------------------------------


def test_the_digest_is_what_its_definition_says() -> None:
    """Computed by hand from the definition, for text, whole numbers, nulls, lists and truth values."""
    table = pl.DataFrame(
        {"k": ["a", "é"], "n": [None, -2], "l": [["x", None], []], "b": [True, None]},
        schema={"k": pl.String, "n": pl.Int64, "l": pl.List(pl.String), "b": pl.Boolean},
    )
    columns = '[["k","String"],["n","Int64"],["l","List(String)"],["b","Boolean"]]'
    head = f'{{"columns":{columns},"key":["k"],"rows":2}}\n'
    parts = [
        head.encode(),
        b"\x00" + struct.pack("<II", 1, 2) + "aé".encode(),
        b"\x01" + b"\x00\x01" + struct.pack("<qq", 0, -2),
        b"\x00" + struct.pack("<II", 2, 0) + b"\x01" + b"\x01\x00" + struct.pack("<II", 1, 0) + b"x",
        b"\x01" + b"\x01\x00" + b"\x01\x00",
    ]
    assert content_digest(table, ("k",)) == hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        {"k": ["a", "b"], "n": [1, 3]},
        {"k": ["a", "c"], "n": [1, 2]},
        {"k": ["ab", ""], "n": [1, 2]},
        {"k": ["a", None], "n": [1, 2]},
        {"k": ["a", "b"], "n": [1, None]},
        {"k": ["a", "b"], "m": [1, 2]},
        {"k": ["a"], "n": [1]},
    ],
)
def test_any_change_of_content_changes_the_digest(other: dict[str, list[object]]) -> None:
    """Cells, their borders, nulls, names and rows all enter."""
    base = content_digest(pl.DataFrame({"k": ["a", "b"], "n": [1, 2]}), ("k",))
    assert content_digest(pl.DataFrame(other), ("k",)) != base


def test_the_digest_does_not_see_how_the_table_lies_in_memory() -> None:
    """Chunks, slices and a way through Parquet make no difference; nor do bytes under nulls."""
    table = pl.DataFrame(
        {
            "k": [f"key {n:03}" for n in range(40)],
            "t": [None if n % 3 else f"a longer text than twelve bytes {n}" for n in range(40)],
            "when": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=n) for n in range(40)],
            "s": [{"a": n, "b": [n] * (n % 3)} if n % 5 else None for n in range(40)],
            "raw": [bytes([n]) * n for n in range(40)],
        }
    )
    digest = content_digest(table, ("k",))
    chunked = pl.concat([table.slice(0, 7), table.slice(7, 20), table.slice(27)], rechunk=False)
    padded = pl.concat([table.head(3), table, table.tail(3)]).slice(3, 40)
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    buffer.seek(0)
    hidden = table.with_columns(pl.when(pl.col("t").is_not_null()).then(pl.col("t").fill_null("hidden")))
    for same in (chunked, padded, pl.read_parquet(buffer), hidden):
        assert content_digest(same, ("k",)) == digest


def test_a_type_without_canonical_form_is_refused() -> None:
    """A column that has no canonical bytes is an error and not a made-up digest."""
    with pytest.raises(ProjectionError) as got:
        content_digest(pl.DataFrame({"k": pl.Series(["a"], dtype=pl.Categorical)}), ("k",))
    assert got.value.code == "unsupported_type"
