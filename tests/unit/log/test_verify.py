"""Verification finds every damage that a file can have, names the file, and says which event it begins at."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_kit import WRITERS, beat, beats, cut, flip, found, one, open_store, segment_of, value

from eventstore import EventStore, VerifyReport, layout
from eventstore.codec.canonical import event_hashes
from eventstore.codec.compression import compress
from eventstore.journal import read_journal
from eventstore.journal_folder import JournalFolder
from eventstore.log.verify import verify_store
from eventstore.merkle import Peaks
from eventstore.seal import Seal
from eventstore.segment import Segment, encode_segment
from eventstore.testing import FaultPlan, FaultyStorage

LARGE = b"a large value " * 100


@pytest.fixture(autouse=True)
def every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot after every second seal."""
    monkeypatch.setattr(layout, "SNAPSHOT_EVERY", 2)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store of nine events: three seals, four segments, a snapshot, a large value, a journal."""
    place = tmp_path / "store"
    first = open_store(place, inline_limit=100, auto_seal=False)
    first.append(*beats("a", "b", "c"))
    first.seal()
    first.append(value(LARGE), beat("d"))
    first.flush()
    with open_store(place, auto_seal=False) as second:
        second.append(beat("e"))
        second.seal()
    first.append(*beats("f", "g", "h"))
    first.seal()
    first.append(beat("journaled"))
    first.abandon()
    return place


def _store(place: Path) -> EventStore:
    return open_store(place, read_only=True)


def _verify(place: Path) -> VerifyReport:
    return _store(place).verify()


def _segments(place: Path) -> list[Segment]:
    return list(_store(place)._sequence.refresh().segments)


def _errors(place: Path) -> list[tuple[str, str, int | None]]:
    report = _verify(place)
    return [
        (finding.code, finding.path, finding.position)
        for finding in report.findings
        if finding.severity == "error"
    ]


def test_a_whole_store_has_no_findings_and_the_report_says_what_was_read(place: Path) -> None:
    """Counts, size and root are those of the store."""
    report = _verify(place)
    assert report.ok
    assert report.findings == []
    assert (report.seals, report.snapshots, report.segments, report.events) == (3, 1, 4, 9)
    assert (report.values, report.unsealed_segments, report.journaled_events) == (1, 0, 1)
    head = _store(place).head()
    assert (report.size, report.root) == (head.size, head.root)
    on_disk = sum(path.stat().st_size for path in place.rglob("*") if path.suffix in (".parquet", ".json"))
    assert report.bytes_read >= on_disk - (place / "store.json").stat().st_size
    assert report.seconds > 0


def test_an_empty_store_is_whole(tmp_path: Path) -> None:
    """Nothing is missing where nothing was recorded."""
    open_store(tmp_path / "store").close()
    report = _verify(tmp_path / "store")
    assert (report.findings, report.size, report.root) == ([], 0, b"")


def test_progress_is_told(place: Path) -> None:
    """Events checked so far, and how many there are."""
    told: list[tuple[int, int]] = []
    _store(place).verify(progress=lambda done, size: told.append((done, size)))
    assert told == [(3, 9), (5, 9), (6, 9), (9, 9)]


def test_verifying_changes_nothing(place: Path) -> None:
    """Not a byte, of damaged files neither."""
    flip(place / _segments(place)[0].path, 100)
    before = {path: path.read_bytes() for path in place.parent.rglob("*") if path.is_file()}
    _verify(place)
    assert {path: path.read_bytes() for path in place.parent.rglob("*") if path.is_file()} == before


# every bit ------------------------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere_in_a_segment_is_found(place: Path) -> None:
    """At 200 places over the file: one error that names it, with a position inside it."""
    segment = _segments(place)[1]
    path = place / segment.path
    step = max(1, segment.size_bytes // 200)
    offsets = range(0, segment.size_bytes, step)
    assert len(offsets) >= 200
    store = _store(place)
    for offset in offsets:
        flip(path, offset, offset % 8)
        report = verify_store(store.storage, store_id=store.store_id, check_values=False)
        assert found(report) == [("error", "segment_damaged", segment.path)], offset
        position = report.findings[0].position
        assert position is not None
        assert 3 <= position < 5
        flip(path, offset, offset % 8)
    assert _errors(place) == []


@pytest.mark.parametrize(
    ("pattern", "code"),
    [("seals/00*1.json", "seal_damaged"), ("seals/00*3.json", "seal_damaged")],
)
def test_a_flipped_bit_anywhere_in_a_seal_is_found(place: Path, pattern: str, code: str) -> None:
    """One error that names the seal."""
    path = one(place.glob(pattern))
    store = _store(place)
    for offset in range(0, path.stat().st_size, 41):
        flip(path, offset, offset % 8)
        report = verify_store(store.storage, store_id=store.store_id, check_values=False)
        assert ("error", code, f"seals/{path.name}") in found(report), offset
        flip(path, offset, offset % 8)


def test_a_flipped_bit_in_a_snapshot_is_found_or_does_not_matter(place: Path) -> None:
    """An error, though the seals serve without it; some bits of Parquet are never looked at."""
    path = one(place.glob("seals/*.parquet"))
    store = _store(place)
    reports = []
    for offset in range(0, path.stat().st_size, 151):
        flip(path, offset, offset % 8)
        reports.append(found(verify_store(store.storage, store_id=store.store_id, check_values=False)))
        flip(path, offset, offset % 8)
    bad = [("error", "snapshot_damaged", f"seals/{path.name}")]
    assert all(report in ([], bad) for report in reports)
    assert reports.count(bad) > len(reports) // 4


def test_a_flipped_bit_in_a_value_is_found(place: Path) -> None:
    """With the position of the event that names it."""
    path = one(place.glob("values/*/*"))
    for offset in range(0, path.stat().st_size - 1, 3):
        flip(path, offset, 3)
        (finding,) = _verify(place).findings
        assert (finding.severity, finding.path) == ("error", str(path.relative_to(place)))
        assert finding.code in ("bad_frame", "value_digest")
        assert finding.position == 3
        flip(path, offset, 3)


def test_a_flipped_bit_in_a_journal_is_found(place: Path) -> None:
    """In the last line it may be what a power cut left of it, before that it is an error."""
    path = one(place.parent.rglob("*.jsonl"))
    raw = path.read_bytes()
    last = raw[:-1].rindex(b"\n") + 1
    for offset in range(0, len(raw), 17):
        flip(path, offset, 1)
        (finding,) = _verify(place).findings
        expected = ("error", "journal_damaged") if offset < last else ("warning", "journal_torn")
        assert (finding.severity, finding.code, finding.path) == (*expected, path.name)
        flip(path, offset, 1)


# truncated, missing, foreign ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "harm", "code", "position"),
    [
        ("segments/**/*.parquet", "cut", "segment_damaged", 0),
        ("segments/**/*.parquet", "empty", "segment_damaged", 0),
        ("segments/**/*.parquet", "gone", "segment_missing", 0),
        ("seals/00*2.json", "cut", "seal_damaged", 3),
        ("seals/00*2.json", "gone", "seal_damaged", 3),
        ("seals/00*1.json", "gone", "seal_damaged", 0),
        ("seals/*.parquet", "cut", "snapshot_damaged", None),
        ("values/*/*", "cut", "bad_frame", 3),
        ("values/*/*", "gone", "value_missing", 3),
    ],
)
def test_a_truncated_or_missing_file_is_an_error_that_names_it(
    place: Path, pattern: str, harm: str, code: str, position: int | None
) -> None:
    """And, where it holds events, the position that they begin at."""
    path = sorted(place.glob(pattern))[0]
    if pattern.startswith("segments"):
        path = place / _segments(place)[0].path
    if harm == "gone":
        path.unlink()
    else:
        cut(path, path.stat().st_size // 2 if harm == "cut" else 0)
    store_id = json.loads((place / "store.json").read_bytes())["store_id"]
    report = verify_store(open_store(place, read_only=True).storage, store_id=store_id)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert [(finding.code, finding.path, finding.position) for finding in errors] == [
        (code, str(path.relative_to(place)), position)
    ]
    assert not report.ok


def test_one_damaged_segment_does_not_hide_another(place: Path) -> None:
    """Each is reported with its own position; the seals after them are still checked."""
    first, _, third, fourth = _segments(place)
    flip(place / first.path, 60)
    (place / third.path).unlink()
    cut(place / fourth.path, 10)
    assert _errors(place) == [
        ("segment_damaged", first.path, 0),
        ("segment_missing", third.path, 5),
        ("segment_damaged", fourth.path, 6),
    ]


def test_a_chain_that_was_cut_short_is_found_by_its_snapshot(place: Path) -> None:
    """The newest seals are gone, and a snapshot still sums them up."""
    (place / layout.seal_path(3)).unlink()
    (place / layout.seal_path(2)).unlink()
    assert _errors(place) == [("seal_damaged", layout.seal_path(2), None)]


def test_a_missing_newest_seal_leaves_its_segments_to_be_sealed_again(place: Path) -> None:
    """Nothing on the place knows of it; its events are there, and are reported as unsealed."""
    last = _segments(place)[3]
    (place / layout.seal_path(3)).unlink()
    report = _verify(place)
    assert found(report) == [("warning", "unsealed_segment", last.path)]


def test_files_that_are_not_of_the_format_are_warned_of(place: Path) -> None:
    """Foreign files and leftovers of killed processes; projections are not looked into."""
    foreign = ["notes.txt", "seals/.tmp-0123", "seals/1.json", "segments/x.parquet", "values/ab/cd"]
    for name in [*foreign, "projections/jobs/v1/1/rows.parquet"]:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    report = _verify(place)
    assert report.ok
    assert found(report) == [("warning", "foreign_file", name) for name in sorted(foreign)]


def test_a_torn_journal_line_is_a_warning(place: Path) -> None:
    """It was never acknowledged; recovering takes the rest."""
    path = one(place.parent.rglob("*.jsonl"))
    with path.open("ab") as stream:
        stream.write(b"0123")
    report = _verify(place)
    assert found(report) == [("warning", "journal_torn", path.name)]
    assert report.journaled_events == 1


def test_journals_of_another_host_name_are_looked_at(place: Path) -> None:
    """A machine that was renamed leaves its journals behind; what is damaged there is found too."""
    (hosts,) = (place.parent / "store-state").iterdir()
    (here,) = hosts.iterdir()
    here.rename(hosts / "old-name")
    report = _verify(place)
    assert found(report) == [("warning", "journal_elsewhere", "old-name/journals")]
    assert report.journaled_events == 1
    path = one(place.parent.rglob("*.jsonl"))
    flip(path, 30)
    assert found(_verify(place)) == [
        ("warning", "journal_elsewhere", "old-name/journals"),
        ("error", "journal_damaged", path.name),
    ]


def test_a_journal_that_was_set_aside_is_an_error(place: Path) -> None:
    """Its good lines behind the damage are in no log yet."""
    path = one(place.parent.rglob("*.jsonl"))
    (root,) = (place.parent / "store-state").iterdir()
    aside = JournalFolder(root).put_aside(path, "damaged")
    assert found(_verify(place)) == [("error", "journal_damaged", aside.name)]


def test_rows_before_the_damage_of_a_journal_are_counted(place: Path) -> None:
    """They are what recovering takes over."""
    path = one(place.parent.rglob("*.jsonl"))
    with path.open("ab") as stream:
        stream.write(b"00000000 {}\n" * 2)
    assert len(read_journal(path, good_prefix=True).rows) == 1  # type: ignore[union-attr]
    report = _verify(place)
    assert found(report) == [("error", "journal_damaged", path.name)]
    assert report.journaled_events == 1


def test_a_table_that_stands_beyond_the_head_is_an_error(place: Path) -> None:
    """It has folded events that no seal knows any more."""
    for position in (0, 6, 9):
        manifest = place / layout.manifest_path("jobs", 1, position, 1)
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_bytes(b"{}")
    assert _verify(place).findings == []
    (place / layout.seal_path(3)).unlink()
    assert _errors(place) == [("seal_damaged", layout.seal_path(3), 6)]


def test_a_snapshot_that_goes_while_we_look_is_no_finding(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes the next but one deletes it."""
    store = _store(place)
    real = store.storage.read

    def read(path: str) -> bytes:
        if layout.parse_snapshot(path):
            (place / path).unlink()
        return real(path)

    monkeypatch.setattr(store.storage, "read", read)
    report = store.verify()
    assert (report.findings, report.snapshots) == ([], 0)


def test_what_is_kept_does_not_grow_with_the_seals(tmp_path: Path) -> None:
    """Seals are let go as soon as they are followed."""
    place = tmp_path / "store"
    with open_store(place) as store:
        for number in range(12):
            store.append(beat(str(number)))
            store.seal()
    store = _store(place)

    def alive() -> int:
        return sum(type(thing) is Seal for thing in gc.get_objects())

    before, most = alive(), []
    report = store.verify(progress=lambda _done, _all: most.append(alive() - before))
    assert report.seals == len(most) == 12
    assert max(most) <= 2


def test_storage_that_fails_is_reported_and_not_raised_over_the_rest(place: Path) -> None:
    """A file that cannot be read now is one finding among others."""
    store = _store(place)
    path = _segments(place)[2].path
    plan = FaultPlan()
    verify_store(FaultyStorage(store.storage, plan), store_id=store.store_id)
    plan = FaultPlan(plan.trace.index(f"read {path}"))
    report = verify_store(FaultyStorage(store.storage, plan), store_id=store.store_id)
    assert found(report) == [("error", "storage", path)]
    assert report.findings[0].position == 5


# what is not sealed ---------------------------------------------------------------------------------------


def test_an_unsealed_segment_is_a_warning_that_says_what_to_do(place: Path) -> None:
    """Its events wait for a seal; damage to it is an error."""
    with open_store(place, auto_seal=False) as store:
        sealed = {place / segment.path for segment in _segments(place)}
        path = one(set(place.glob("segments/**/*.parquet")) - sealed)
        report = store.verify()
        assert found(report) == [("warning", "unsealed_segment", str(path.relative_to(place)))]
        assert "eventstore seal" in report.findings[0].message
        assert report.unsealed_segments == 1
        flip(path, path.stat().st_size // 2)
        assert found(store.verify()) == [("error", "segment_damaged", str(path.relative_to(place)))]


def _rows(place: Path, *segments: Segment) -> pa.Table:
    return pa.concat_tables([pq.read_table(place / segment.path) for segment in segments])


def _put_again(place: Path, table: pa.Table, **changed: list[str]) -> str:
    """Put events a second time, as a recovery does: with new salts and so new hashes; returns the path."""
    salts = pa.array([os.urandom(16) for _ in range(table.num_rows)], pa.binary(16))
    for name, column in {"salt": salts, **changed}.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(column))
    hashes = pa.array(event_hashes(table), pa.binary(32))
    table = table.set_column(table.schema.get_field_index("event_hash"), "event_hash", hashes)
    made = encode_segment(table, day="2024/05/06", store_id=_store(place).store_id)
    path = place / made.segment.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.data)
    return made.segment.path


def test_a_repeat_is_a_warning(place: Path) -> None:
    """The same events under another digest are sealed once and may be deleted."""
    first, second, _, fourth = _segments(place)
    assert first.writer == second.writer == fourth.writer
    paths = [
        _put_again(place, _rows(place, first)),
        _put_again(place, _rows(place, first).slice(0, 2)),
        _put_again(place, _rows(place, second, fourth).slice(1, 3)),
    ]
    report = _verify(place)
    assert sorted(found(report)) == [("warning", "duplicate_segment", path) for path in sorted(paths)]
    assert "delete it" in report.findings[0].message


@pytest.mark.parametrize("case", ["longer", "other", "sealed one gone", "sealed one damaged"])
def test_a_repeat_that_says_more_or_something_else_is_an_error(place: Path, case: str) -> None:
    """It may hold what was acknowledged and sealed nowhere: it is to be kept."""
    _, second, _, fourth = _segments(place)
    table = _rows(place, fourth)
    if case == "longer":
        last = table.slice(2, 1)
        number = last.schema.get_field_index("sequence")
        last = last.set_column(number, "sequence", pa.array([fourth.end_sequence]))
        path = _put_again(place, pa.concat_tables([table, last]))
    elif case == "other":
        path = _put_again(place, table, execution_id=["f", "g", "another"])
    else:
        path = _put_again(place, _rows(place, second, fourth))
        if case == "sealed one gone":
            (place / fourth.path).unlink()
        else:
            flip(place / fourth.path, fourth.size_bytes - 20)
    finding = _verify(place).findings[-1]
    assert (finding.severity, finding.code, finding.path) == ("error", "overlapping_segment", path)
    assert "Keep it" in finding.message
    assert "delete" not in finding.message


def test_a_gap_in_a_writers_events_is_an_error(place: Path) -> None:
    """A later segment is there and the one before it is not: something durable is gone."""
    paths = []
    store_id = _store(place).store_id
    for writer, first in ((WRITERS[0], 0), (WRITERS[0], 1), (WRITERS[0], 2), (WRITERS[1], 0)):
        made, _ = segment_of(beats("x"), writer=writer, first=first, store_id=store_id)
        path = place / made.segment.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.data)
        paths.append(path)
    assert _errors(place) == []
    paths[1].unlink()
    assert _errors(place) == [("sequence_gap", str(paths[2].relative_to(place)), None)]
    paths[0].unlink()
    errors = _errors(place)
    assert [code for code, *_ in errors] == ["sequence_gap"]


# forgery --------------------------------------------------------------------------------------------------


def _body(raw: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(raw)["seal"]
    return said


def _framed(body: dict[str, Any]) -> bytes:
    """A seal with this body, and a digest that fits."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return b'{"digest":"%b","seal":%b}\n' % (hashlib.sha256(text).hexdigest().encode(), text)


def _patch(place: Path, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a seal as a forger would: with entries and a digest that fit."""
    path = place / layout.seal_path(number)
    body = _body(path.read_bytes())
    before = _body((place / layout.seal_path(number - 1)).read_bytes())["entries"] if number > 1 else "0" * 64
    change(body)
    for known in body["segments"]:
        listed = json.dumps(known, sort_keys=True, separators=(",", ":"))
        before = hashlib.sha256((before + listed).encode()).hexdigest()
    body["entries"] = before
    path.write_bytes(_framed(body))


def _forge(place: Path, segment: Segment, table: pa.Table) -> dict[str, Any]:
    """Put another segment file in a segment's place; returns what a seal must say of it."""
    store_id = json.loads((place / "store.json").read_bytes())["store_id"]
    name = layout.parse_segment(segment.path)
    assert name is not None
    made = encode_segment(table, day=name.day, store_id=store_id)
    (place / segment.path).unlink()
    (place / made.segment.path).write_bytes(made.data)
    writers = [[segment.writer, segment.first_sequence, table.num_rows]]
    told = {"path": made.segment.path, "size_bytes": len(made.data)}
    return told | {"count": table.num_rows, "writers": writers}


def test_two_seals_that_changed_places_are_found(place: Path) -> None:
    """Each says its own number."""
    one_, two = (place / layout.seal_path(number) for number in (2, 3))
    raw = one_.read_bytes()
    one_.write_bytes(two.read_bytes())
    two.write_bytes(raw)
    assert _errors(place)[0][:2] == ("seal_damaged", layout.seal_path(2))


def test_two_segments_that_changed_places_are_found(place: Path) -> None:
    """Each has its own digest."""
    first, second = (place / segment.path for segment in _segments(place)[:2])
    raw = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(raw)
    assert [(code, path) for code, path, _ in _errors(place)] == [
        ("segment_damaged", str(first.relative_to(place))),
        ("segment_damaged", str(second.relative_to(place))),
    ]


def test_an_event_that_was_dropped_is_found(place: Path) -> None:
    """The segment was written anew without it, under its new name, and the seal patched."""
    segment = _segments(place)[3]
    table = pq.read_table(place / segment.path)
    told = _forge(place, segment, pa.concat_tables([table.slice(0, 1), table.slice(2)]))

    def change(body: dict[str, Any]) -> None:
        body["segments"][0].update(told)

    _patch(place, 3, change)
    assert _errors(place)[0][:2] == ("seal_damaged", layout.seal_path(3))

    def and_its_tree(body: dict[str, Any]) -> None:
        """Also sizes, kinds, peaks and root: but the sequences have a gap."""
        sealed = _segments_of_two(place)
        peaks = Peaks()
        for known in sealed:
            peaks.extend(pq.read_table(place / known.path)["event_hash"].to_pylist())
        peaks.extend(pq.read_table(place / told["path"])["event_hash"].to_pylist())
        body["segments"][0]["kinds"] = [["execution.heartbeat", 1, 2]]
        body.update(size=8, root=peaks.root().hex(), peaks=[peak.hex() for peak in peaks.peaks])

    _patch(place, 3, and_its_tree)
    assert _errors(place) == [("segment_damaged", told["path"], 7)]


def _segments_of_two(place: Path) -> list[Segment]:
    """The segments of the first two seals."""
    shutil.move(place / layout.seal_path(3), place.parent / "third")
    segments = _segments(place)
    shutil.move(place.parent / "third", place / layout.seal_path(3))
    return segments


def test_an_event_that_was_changed_is_found(place: Path) -> None:
    """Its stored hash is not that of its columns, whatever the names and seals say."""
    segment = _segments(place)[3]
    table = pq.read_table(place / segment.path)
    altered = pa.array(["f", "forged", "h"])
    table = table.set_column(table.schema.get_field_index("execution_id"), "execution_id", altered)
    told = _forge(place, segment, table)
    _patch(place, 3, lambda body: body["segments"][0].update(told))
    assert _errors(place) == [("segment_damaged", told["path"], 7)]


def test_an_event_that_was_changed_with_its_hash_is_found(place: Path) -> None:
    """Then the tree has another root than its seal says."""
    segment = _segments(place)[3]
    table = pq.read_table(place / segment.path)
    altered = pa.array(["f", "forged", "h"])
    table = table.set_column(table.schema.get_field_index("execution_id"), "execution_id", altered)
    hashes = pa.array(event_hashes(table), pa.binary(32))
    table = table.set_column(table.schema.get_field_index("event_hash"), "event_hash", hashes)
    told = _forge(place, segment, table)
    _patch(place, 3, lambda body: body["segments"][0].update(told))
    ((code, path, position),) = _errors(place)
    assert (code, path, position) == ("seal_damaged", layout.seal_path(3), 6)


@pytest.mark.parametrize(
    "change",
    [
        {"kinds": [["job.started", 1, 3]]},
        {"kinds": [["execution.heartbeat", 2, 3]]},
        {"recorded_from_us": 5},
        {"recorded_to_us": 5},
        {"size_bytes": 5},
    ],
    ids=str,
)
def test_what_a_seal_says_of_a_segment_is_checked(place: Path, change: dict[str, Any]) -> None:
    """Readers skip by it: a seal that tells them wrong would hide events."""
    segment = _segments(place)[3]
    _patch(place, 3, lambda body: body["segments"][0].update(change))
    assert _errors(place) == [("segment_damaged", segment.path, 6)]


@pytest.mark.parametrize("change", [{"store_id": "cd" * 16}, {"previous": "f" * 64}, {"number": 4}], ids=str)
def test_a_seal_of_another_chain_is_found(place: Path, change: dict[str, Any]) -> None:
    """The error stands at the position where the chain breaks."""
    _patch(place, 2, lambda body: body.update(change))
    assert _errors(place)[0] == ("seal_damaged", layout.seal_path(2), 3)


def test_a_segment_of_another_store_is_found(place: Path) -> None:
    """Its events and hashes are right, and its footer says that they belong elsewhere."""
    segment = _segments(place)[3]
    name = layout.parse_segment(segment.path)
    assert name is not None
    made = encode_segment(_rows(place, segment), day=name.day, store_id="cd" * 16)
    (place / made.segment.path).write_bytes(made.data)
    told = {"path": made.segment.path, "size_bytes": len(made.data)}
    (place / segment.path).unlink()
    _patch(place, 3, lambda body: body["segments"][0].update(told))
    assert _errors(place) == [("segment_damaged", made.segment.path, 6)]


def test_entries_that_do_not_go_on_are_found(place: Path) -> None:
    """A snapshot is compared with them, so they are compared with the seals."""
    path = place / layout.seal_path(3)
    body = _body(path.read_bytes())
    path.write_bytes(_framed(body | {"entries": "f" * 64}))
    assert _errors(place)[0] == ("seal_damaged", layout.seal_path(3), 6)


def test_a_snapshot_that_tells_another_story_is_found(place: Path) -> None:
    """Whole in itself, and not what the seals say."""
    other = place.parent / "other"
    with open_store(other) as store:
        store.append(beat("x"))
        store.flush()
        store.append(beat("y"))
    shutil.copy(other / layout.snapshot_path(2), place / layout.snapshot_path(2))
    assert _errors(place) == [("snapshot_damaged", layout.snapshot_path(2), None)]


def test_a_segment_with_a_forged_name_does_not_stop_verification(place: Path) -> None:
    """Whatever a crafted file does to a decoder, the others are checked too."""
    segment = _segments(place)[3]
    table = pq.read_table(place / segment.path)
    columns = table.drop_columns(["salt"]).append_column("salt", pa.array([1, 2, 3]))
    told = _forge(place, segment, columns)
    _patch(place, 3, lambda body: body["segments"][0].update(told))
    flip(place / _segments(place)[0].path, 50)
    assert [code for code, *_ in _errors(place)] == ["segment_damaged", "segment_damaged"]


def test_a_value_of_another_size_than_was_recorded_is_found(place: Path) -> None:
    """Digest and size belong together; and other bytes under the name are damage."""
    path = one(place.glob("values/*/*"))
    path.write_bytes(compress(b"other"))
    assert _errors(place) == [("value_digest", str(path.relative_to(place)), 3)]


def test_a_value_that_no_event_names_is_only_warned_of(place: Path) -> None:
    """It may be on its way; damage to it loses nothing that was acknowledged."""
    digest = _store(place).values.put(b"on its way")
    assert _verify(place).findings == []
    path = layout.value_path(digest)
    cut(place / path, 3)
    assert found(_verify(place)) == [("warning", "bad_frame", path)]


def test_values_can_be_left_out(place: Path) -> None:
    """Then none is read."""
    one(place.glob("values/*/*")).unlink()
    report = _store(place).verify(values=False)
    assert (report.findings, report.values) == ([], 0)


def test_rows_may_be_split_into_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in a later row group is found with its position."""
    monkeypatch.setattr("eventstore.segment.own.ROW_GROUP_ROWS", 2)
    with open_store(tmp_path / "store") as store:
        store.append(*beats(*"abcdefg"))
    segment = _segments(tmp_path / "store")[0]
    table = pq.read_table(tmp_path / "store" / segment.path)
    altered = pa.array([*"abcdef", "forged"])
    table = table.set_column(table.schema.get_field_index("execution_id"), "execution_id", altered)
    told = _forge(tmp_path / "store", segment, table)
    _patch(tmp_path / "store", 1, lambda body: body["segments"][0].update(told))
    assert _errors(tmp_path / "store") == [("segment_damaged", told["path"], 6)]
