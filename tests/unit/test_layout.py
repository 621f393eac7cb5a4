"""Paths: every one that is made is read back, and nothing else is."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import ids, layout
from eventstore.ids import Digest, WriterId

DIGEST = "0123456789abcdef" * 4
WRITER = "01jd9f3m0000000000000000zz"
SEGMENT = f"segments/2026/11/22/{WRITER}-000000000007-{DIGEST}.parquet"
COMPACTED = f"compacted/00000000000000000005-00000000000000000025-{DIGEST}.parquet"
ARCHIVE = "seals/archive-00000000000000000001-00000000000000000063.jsonl.zst"
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map(Digest)
writers = st.from_regex(ids.WRITER_PATTERN, fullmatch=True).map(WriterId)
days = st.datetimes(timezones=st.just(dt.UTC)).map(layout.segment_day)


@given(days, writers, st.integers(0, 10**12 - 1), digests)
def test_segment_paths_read_back(day: str, writer: WriterId, first: int, digest: Digest) -> None:
    """Day, author, first sequence and digest come back from the path, and make it again."""
    path = layout.segment_path(day, writer, first, digest)
    name = layout.parse_segment(path)
    assert name == layout.SegmentName(day, writer, first, digest)
    assert name.path == path


@given(st.integers(0, 10**20 - 1))
def test_seal_and_snapshot_paths_read_back(number: int) -> None:
    """A number comes back from its seal and from its snapshot, and neither is taken for the other."""
    seal, snapshot = layout.seal_path(number), layout.snapshot_path(number)
    assert (layout.parse_seal(seal), layout.parse_seal(snapshot)) == (number, None)
    assert (layout.parse_snapshot(snapshot), layout.parse_snapshot(seal)) == (number, None)


@given(st.integers(0, 10**20 - 2), st.integers(1, 10**6), digests)
def test_compacted_paths_read_back(first: int, count: int, digest: Digest) -> None:
    """First and end position and digest come back; a range that is empty is nobody's."""
    end = min(first + count, 10**20 - 1)
    name = layout.parse_compacted(layout.compacted_path(first, end, digest))
    assert name == layout.CompactedName(first, end, digest)  # type: ignore[arg-type]
    assert layout.parse_compacted(layout.compacted_path(end, first, digest)) is None
    assert layout.parse_segment(layout.compacted_path(first, end, digest)) is None


@given(st.integers(1, 10**20 - 2), st.integers(0, 10**6))
def test_archive_paths_read_back(first: int, more: int) -> None:
    """First and last number come back; neither a seal nor a snapshot is taken for one."""
    last = min(first + more, 10**20 - 1)
    path = layout.archive_path(first, last)
    assert layout.parse_archive(path) == layout.ArchiveName(first, last)
    assert (layout.parse_seal(path), layout.parse_snapshot(path)) == (None, None)
    assert layout.parse_archive(layout.archive_path(last + 1, first)) is None
    assert layout.parse_archive(layout.archive_path(0, last)) is None


@given(st.lists(st.integers(0, 10**20 - 1), max_size=6))
def test_seal_paths_sort_as_their_numbers(numbers: list[int]) -> None:
    """A sorted listing of seals is in the order of the log."""
    assert sorted(map(layout.seal_path, numbers)) == [layout.seal_path(n) for n in sorted(numbers)]


@given(digests)
def test_value_paths_read_back(digest: Digest) -> None:
    """A digest comes back from the path of its bytes."""
    assert layout.parse_value(layout.value_path(digest)) == digest


@given(st.from_regex(layout.SUBSCRIPTION_PATTERN, fullmatch=True), st.integers(0, 10**20 - 1))
def test_subscription_paths_read_back(name: str, revision: int) -> None:
    """Name and revision come back from the path of a checkpoint, which lies in the name's folder."""
    path = layout.subscription_path(name, revision)
    assert layout.parse_subscription(path) == (name, revision)
    assert path.rpartition("/")[0] == layout.subscription_folder(name)


def test_paths_are_those_of_the_format() -> None:
    """The layout is a promise to readers without our code: one example of each path."""
    assert layout.segment_path("2026/11/22", WRITER, 7, DIGEST) == SEGMENT
    assert layout.seal_path(1) == "seals/00000000000000000001.json"
    assert layout.snapshot_path(64) == "seals/snapshot-00000000000000000064.parquet"
    assert layout.compacted_path(5, 25, DIGEST) == COMPACTED
    assert layout.archive_path(1, 63) == ARCHIVE
    assert layout.value_path(DIGEST) == f"values/01/{DIGEST[2:]}.zst"
    assert layout.projection_folder("jobs", 2) == "projections/jobs/v2"
    assert layout.subscription_path("mail", 3) == "subscriptions/mail/00000000000000000003.json"
    assert layout.STORE_FILE == "store.json"


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (dt.datetime(2026, 11, 22, 23, 59, tzinfo=dt.UTC), "2026/11/22"),
        (dt.datetime(2026, 11, 22, 23, 59, tzinfo=dt.timezone(dt.timedelta(hours=-5))), "2026/11/23"),
        (dt.datetime(7, 1, 2, tzinfo=dt.UTC), "0007/01/02"),
    ],
)
def test_the_day_of_a_segment_is_utc(moment: dt.datetime, day: str) -> None:
    """The folder is the day in UTC, in four, two and two digits."""
    assert layout.segment_day(moment) == day


@pytest.mark.parametrize(
    "parse",
    [
        "parse_segment",
        "parse_compacted",
        "parse_seal",
        "parse_archive",
        "parse_snapshot",
        "parse_subscription",
        "parse_value",
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "",
        "store.json",
        "segments",
        SEGMENT.replace("parquet", "tmp"),
        SEGMENT + "\n",
        "/" + SEGMENT,
        "x/" + SEGMENT,
        SEGMENT.replace("2026/11", "2026/13"),
        SEGMENT.replace("11/22", "11/00"),
        SEGMENT.replace("2026", "٢٠٢٦"),
        SEGMENT.replace(WRITER, "8" + WRITER[1:]),
        SEGMENT.replace(WRITER, WRITER[:-1] + "l"),
        SEGMENT.replace(DIGEST, DIGEST.upper()),
        SEGMENT.replace("000000000007", "7"),
        COMPACTED.replace("25-", "05-"),
        COMPACTED.replace("00000000000000000005", "5"),
        COMPACTED.replace("compacted/", "compacted/x/"),
        COMPACTED.replace(DIGEST, DIGEST[1:]),
        COMPACTED + "\n",
        ARCHIVE.replace("00000000000000000001", "00000000000000000064"),
        ARCHIVE.replace("jsonl", "json"),
        ARCHIVE.replace("seals/", "seals/../seals/"),
        "seals/1.json",
        "seals/" + "٣" * 20 + ".json",
        "seals/.tmp-0123456789abcdef",
        "seals/snapshot-1.parquet",
        "seals/../seals/00000000000000000001.json",
        "subscriptions/mail/3.json",
        "subscriptions/Mail/00000000000000000003.json",
        "subscriptions/a/b/00000000000000000003.json",
        "subscriptions//00000000000000000003.json",
        f"values/{DIGEST}.zst",
        f"values/01/{DIGEST[2:-1]}.zst",
        f"values/01/{DIGEST[2:]}",
        f"values/0A/{DIGEST[2:]}.zst",
    ],
)
def test_foreign_names_are_nobodys(parse: str, path: str) -> None:
    """A path that this room would never make is None to every reader of paths."""
    assert getattr(layout, parse)(path) is None


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ("projections/jobs/v2/manifests/00000000000000000005-000003.json", (5, 3)),
        ("projections/jobs/v2/manifests/5-3.json", None),
        ("projections/jobs/v2/00000000000000000005-000003.json", None),
        ("projections/jobs/v2/manifests/x/00000000000000000005-000003.json", None),
        ("other/jobs/v2/manifests/00000000000000000005-000003.json", None),
    ],
)
def test_the_path_of_a_manifest_says_where_its_table_stands(
    path: str, position: tuple[int, int] | None
) -> None:
    """And at which revision; no other path does."""
    assert layout.parse_manifest(path) == position


def test_paths_of_tables_and_back() -> None:
    """A manifest and a run are found again by what their names say."""
    path = layout.manifest_path("jobs", 2, 5, 3)
    assert path == "projections/jobs/v2/manifests/00000000000000000005-000003.json"
    assert layout.parse_manifest(path) == (5, 3)
    made = dt.datetime(2026, 3, 1, 12, 30, 5, tzinfo=dt.UTC)
    name = layout.run_name(5, 9, made, "0123abcd")
    assert name == "00000000000000000005-00000000000000000009-20260301T123005-0123abcd"
    assert layout.parse_run_name(name) == (5, 9, made)
    assert layout.run_folder("jobs", 2, name) == f"projections/jobs/v2/runs/{name}"
    assert layout.parse_run_name(name.replace("20260301", "20261301")) is None
    assert layout.parse_run_name("runs") is None
