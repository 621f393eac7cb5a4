"""`eventstore compact` and `eventstore clean`: shown first, done with --apply."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from eventstore import EventStore, ExecutionHeartbeat
from eventstore.cli.exits import ExitCode
from eventstore.journal_folder import JournalFolder
from eventstore.store import STATE_VARIABLE
from tests.unit.cli.conftest import Run, damage, objects
from tests.unit.cli.test_verify_and_seal import files_of


@pytest.fixture
def many(store: Path) -> Path:
    """The store with eleven segments."""
    with EventStore.open(store, flush_seconds=None) as opened:
        for number in range(10):
            opened.append(ExecutionHeartbeat(execution_id=f"exec-{number}"))
            opened.flush()
    return store


def test_a_plan_is_shown_and_nothing_is_changed(run: Run, many: Path) -> None:
    """How many segments become how many files; the same as an object."""
    before = files_of(many)
    result = run("compact", many)
    assert result.exit_code == 0
    assert "11 segments of 11 with 16 events" in result.stderr
    assert "1 are left" in result.stderr
    assert "--apply does it" in result.stderr
    (plan,) = objects(run("compact", many, "--json"))
    assert plan["type"] == "plan"
    assert (plan["files"], plan["files_after"], plan["merges"], plan["events"]) == (11, 1, 1, 16)
    assert plan["apply"] is False
    assert run("clean", many).exit_code == 0
    assert files_of(many) == before


def test_compact_and_clean_leave_the_same_log_in_fewer_files(run: Run, many: Path) -> None:
    """Events are told as before, verify finds nothing, and the old files are gone after their grace."""
    told = run("events", many, "--after", "-1", "--json").stdout
    plan, done = objects(run("compact", many, "--apply", "--json"))
    assert plan["apply"] is True
    assert (done["type"], done["files"], done["events"], done["given_up"]) == ("done", 1, 16, 0)
    assert "nothing to merge: 1 segment" in run("compact", many, "--apply").stderr
    assert "11 files stay for now: within the grace period" in run("clean", many).stderr
    assert objects(run("clean", many, "--json")) == [
        {"type": "kept", "part": "log", "files": 11, "reason": "within the grace period"}
    ]
    shown = run("clean", many, "--grace", "0")
    assert "replaced by compaction" in shown.stdout
    assert "--apply does it" in shown.stderr
    assert len(list((many / "segments").rglob("*.parquet"))) == 11
    *removals, done = objects(run("clean", many, "--grace", "0", "--apply", "--json"))
    assert {one["type"] for one in removals} == {"removal"}
    assert {one["reason"] for one in removals} == {"replaced by compaction"}
    assert (done["type"], done["files"]) == ("done", 11)
    assert done["bytes"] == sum(one["bytes"] for one in removals)
    assert list((many / "segments").rglob("*.parquet")) == []
    assert run("events", many, "--after", "-1", "--json").stdout == told
    assert "intact: 0 errors, 0 warnings" in run("verify", many).stdout
    assert "nothing to remove of the log" in run("clean", many).stderr


def test_a_damaged_segment_ends_with_4_and_changes_nothing(run: Run, many: Path) -> None:
    """It is named, with the position from which on it is damaged."""
    path = damage(many)
    before = files_of(many)
    result = run("compact", many, "--apply")
    assert result.exit_code == ExitCode.INTEGRITY
    assert path in result.stderr
    assert "nothing was published" in result.stderr
    assert files_of(many).keys() >= before.keys()
    assert not (many / "compacted").exists()


def test_another_compactor_ends_with_3(
    run: Run, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at a time on a machine."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    with EventStore.open(many, read_only=True) as opened:
        lock = JournalFolder(tmp_path / "state" / opened.store_id).compacting_turn()
    assert lock is not None
    result = run("compact", many, "--apply")
    assert result.exit_code == ExitCode.CONFLICT
    assert "error[compacting]" in result.stderr
    lock.release(remove=False)
    assert run("compact", many, "--apply").exit_code == 0


def test_a_negative_grace_is_refused(run: Run, many: Path) -> None:
    """With 2, before the store is opened."""
    assert run("clean", many, "--grace", "-1").exit_code == ExitCode.USAGE


def test_tables_of_older_recipes_go(run: Run, store: Path) -> None:
    """What an older version made stays an hour beside a newer one, or less where --grace says so."""
    run("rebuild", store, "jobs")
    old = store / "projections" / "jobs"
    (old / "v1").rename(old / "v2")
    run("rebuild", store, "jobs")
    for manifest in (old / "v2" / "manifests").iterdir():
        raw = manifest.read_bytes()
        body = raw[len(b'{"digest":"') + 64 + len(b'","manifest":') : -2].replace(
            b'"version":1', b'"version":2'
        )
        digest = hashlib.sha256(body).hexdigest().encode()
        manifest.write_bytes(b'{"digest":"' + digest + b'","manifest":' + body + b"}\n")
    assert "nothing to remove of the tables" in run("clean", store).stderr
    shown = run("clean", store, "--grace", "0")
    assert "version 2 is built" in shown.stdout
    assert (old / "v1").exists()
    assert run("clean", store, "--grace", "0", "--apply").exit_code == 0
    assert [path for path in (old / "v1").rglob("*") if path.is_file()] == []
    assert [path for path in (old / "v2").rglob("*") if path.is_file()]
