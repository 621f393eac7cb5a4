"""Damage to a snapshot: each kind has its code, is set aside for an older whole one, never mixed in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from snapshots_kit import (
    ONLY,
    TABLE,
    THINGS,
    Place,
    body_of,
    build,
    first_file,
    read,
    written,
)
from store_kit import memory_url

from eventstore import ProjectionError
from projections import (
    Snapshot,
    find_snapshot,
    open_tables,
)
from projections.snapshot import publish


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Place:
    """An empty place, in memory or in a folder."""
    url = memory_url() if request.param == "memory" else str(tmp_path / "store [1]")
    return Place(url, tmp_path / "local")


def _cut_manifest(place: Place, made: Snapshot) -> None:
    raw = place.storage.read(made.path)
    place.storage.put(made.path, raw[: len(raw) // 2])


def _alter_manifest(place: Place, made: Snapshot) -> None:
    raw = place.storage.read(made.path)
    place.storage.put(made.path, raw.replace(b'"rows":2', b'"rows":3', 1))


def _empty_manifest(place: Place, made: Snapshot) -> None:
    place.storage.put(made.path, b"")


def _lose_file(place: Place, made: Snapshot) -> None:
    place.storage.delete(first_file(made))


def _cut_file(place: Place, made: Snapshot) -> None:
    path = first_file(made)
    place.storage.put(path, place.storage.read(path)[:-1])


def _flip_byte(place: Place, made: Snapshot) -> None:
    path = first_file(made)
    data = bytearray(place.storage.read(path))
    data[len(data) // 2] ^= 1
    place.storage.put(path, bytes(data))


def _forge(change: Callable[[dict[str, Any]], object]) -> Callable[[Place, Snapshot], None]:
    """Write the manifest anew with a change, under a digest that fits."""

    def forge(place: Place, made: Snapshot) -> None:
        manifest = json.loads(place.storage.read(made.path))["manifest"]
        change(manifest)
        body = body_of(manifest)
        digest = hashlib.sha256(body).hexdigest().encode()
        place.storage.put(made.path, b'{"digest":"' + digest + b'","manifest":' + body + b"}\n")

    return forge


def _say(**changes: object) -> Callable[[Place, Snapshot], None]:
    return _forge(lambda manifest: manifest.update(changes))


def _say_of_run(**changes: object) -> Callable[[Place, Snapshot], None]:
    return _forge(lambda manifest: manifest["runs"][0].update(changes))


def _say_of_file(**changes: object) -> Callable[[Place, Snapshot], None]:
    return _forge(lambda manifest: manifest["runs"][0]["files"][0].update(changes))


DAMAGE = {
    "cut manifest": (_cut_manifest, "bad_manifest"),
    "altered manifest": (_alter_manifest, "bad_manifest"),
    "empty manifest": (_empty_manifest, "bad_manifest"),
    "a file outside": (_say_of_file(sha256="../" * 21 + "x"), "bad_manifest"),
    "a role outside": (_say_of_file(role="../../.."), "bad_manifest"),
    "a run outside": (_say_of_run(name="../../../../segments"), "bad_manifest"),
    "another format": (_say(format=2), "bad_manifest"),
    "position as text": (_say(position="7"), "bad_manifest"),
    "one field more": (_say(surprise=1), "bad_manifest"),
    "one field of a run more": (_say_of_run(surprise=1), "bad_manifest"),
    "no runs": (_say(runs=[]), "bad_manifest"),
    "a first run from the middle": (_say_of_run(first=3), "bad_manifest"),
    "a first run without a table": (_say_of_run(table_digest=None), "bad_manifest"),
    "runs beyond the position": (_say_of_run(until=8), "bad_manifest"),
    "not an object": (_forge(lambda manifest: manifest.clear()), "bad_manifest"),
    "missing file": (_lose_file, "missing_file"),
    "cut file": (_cut_file, "wrong_size"),
    "altered file": (_flip_byte, "wrong_digest"),
    "no seal": (_say(seal="7"), "bad_manifest"),
    "no digest of a seal": (_say(seal_digest=None), "bad_manifest"),
    "another store": (_say(store_id="elsewhere"), "foreign_snapshot"),
    "another position": (_say(position=8), "foreign_snapshot"),
    "another history": (_say(seal_digest="0" * 64), "foreign_snapshot"),
    "another seal": (_say(seal=6), "foreign_snapshot"),
    "a seal that is not there": (_say(seal=1_001), "foreign_snapshot"),
    "another table": (_say(projection="others"), "foreign_snapshot"),
    "another version": (_say(version=2), "foreign_snapshot"),
    "another key": (_say(key=["size"]), "recipe_changed"),
    "other columns": (_say(columns=[["name", "String"]]), "recipe_changed"),
}
EVERY_DAMAGE = pytest.mark.parametrize(("damage", "code"), DAMAGE.values(), ids=DAMAGE)


@EVERY_DAMAGE
def test_a_damaged_snapshot_is_set_aside(
    place: Place, damage: Callable[[Place, Snapshot], None], code: str
) -> None:
    """An older good snapshot answers instead, with its own rows, and says why the newer was passed over."""
    build(place, 5, TABLE.head(1))
    made = build(place, 7)
    damage(place, made)
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert found.position == 5
    assert read(found).equals(TABLE.head(1))
    assert [error.code for error in found.set_aside] == [code]
    assert open_tables(place, registry=ONLY)["things"].collect().equals(TABLE.head(1))


@EVERY_DAMAGE
def test_damage_without_an_older_snapshot_is_an_error(
    place: Place, damage: Callable[[Place, Snapshot], None], code: str
) -> None:
    """Never a wrong answer: the error names projection, file and next step; a new snapshot heals it."""
    damage(place, build(place, 7))
    with pytest.raises(ProjectionError, match="eventstore rebuild things") as got:
        open_tables(place, registry=ONLY)
    assert (got.value.code, got.value.projection) == (code, "things")
    assert got.value.path.startswith("projections/things/v1/")
    publish(place, THINGS, place.head(7), [written(place, TABLE, 7)], None)
    assert open_tables(place, registry=ONLY)["things"].collect().equals(TABLE)


def test_a_snapshot_whose_seal_cannot_be_read_is_set_aside(place: Place) -> None:
    """As a damaged one: newer and older ones serve, and alone it is an error that says what to do."""
    build(place, 5, TABLE.head(1))
    build(place, 7)
    place.unreadable = {5}
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert (found.position, found.set_aside) == (7, ())
    place.unreadable = {7}
    found = find_snapshot(place, THINGS)
    assert found is not None
    assert (found.position, [error.code for error in found.set_aside]) == (5, ["seal_unreadable"])
    assert open_tables(place, registry=ONLY)["things"].collect().equals(TABLE.head(1))
    place.unreadable = {5, 7}
    with pytest.raises(ProjectionError, match="eventstore verify") as got:
        open_tables(place, registry=ONLY)
    assert (got.value.code, got.value.projection) == ("seal_unreadable", "things")
    assert got.value.seal == f"seals/{7:020d}.json"
    build_anew = publish(place, THINGS, place.head(9), [written(place, TABLE, 9)], None)
    assert open_tables(place, registry=ONLY).position == build_anew.position == 9


def test_damage_after_the_check_is_found_when_the_table_is_read(place: Place) -> None:
    """A file that was whole when the tables were opened and is not any more is an error, not an answer."""
    made = build(place, 7)
    tables = open_tables(place, registry=ONLY)
    _flip_byte(place, made)
    with pytest.raises(ProjectionError) as got:
        tables["things"]
    assert got.value.code == "wrong_digest"


def test_without_verification_the_size_is_looked_at(tmp_path: Any) -> None:
    """`verify=False` reads no file to open a local table, yet sees one that is cut or gone."""
    place = Place(str(tmp_path / "store"), tmp_path / "local")
    made = build(place, 7)
    _flip_byte(place, made)
    assert find_snapshot(place, THINGS, verify=False) is not None
    _cut_file(place, made)
    with pytest.raises(ProjectionError) as got:
        find_snapshot(place, THINGS, verify=False)
    assert got.value.code == "wrong_size"
