"""`eventstore verify`, `seal` and `info`: the state of a store."""

from __future__ import annotations

from pathlib import Path

from eventstore import EventStore, ExecutionHeartbeat, ValueRecorded
from eventstore.cli.exits import ExitCode
from eventstore.layout import value_path
from tests.unit.cli.conftest import Run, damage, objects

BEAT = ExecutionHeartbeat(execution_id="exec-1")


def files_of(store: Path) -> dict[Path, bytes]:
    """Every file of the store."""
    return {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_intact_store_is_told_with_what_was_read(run: Run, store: Path) -> None:
    """A whole store ends with 0; the summary has counts, size and root, and nothing was changed."""
    before = files_of(store)
    result = run("verify", store, "--json")
    assert result.exit_code == 0
    (summary,) = objects(result)
    with EventStore.open(store, read_only=True) as opened:
        head = opened.head()
    assert summary["type"] == "summary"
    assert summary["ok"] is True
    assert (summary["events"], summary["segments"], summary["seals"]) == (6, 1, 1)
    assert (summary["size"], summary["root"]) == (6, head.root.hex())
    assert "intact: 0 errors, 0 warnings" in run("verify", store).stdout
    assert files_of(store) == before


def test_damaged_segment_is_named(run: Run, store: Path) -> None:
    """One changed byte ends with 4, and the finding names the file, for people and for programs."""
    path = damage(store)
    result = run("verify", store)
    assert result.exit_code == ExitCode.INTEGRITY
    assert path in result.stdout
    assert "DAMAGED: 1 error" in result.stdout
    found = objects(run("verify", store, "--json"))
    assert [one["type"] for one in found] == ["finding", "summary"]
    assert (found[0]["severity"], found[0]["path"]) == ("error", path)
    assert found[1]["ok"] is False
    assert found[1]["errors"] == 1


def test_missing_value_is_found_unless_not_read(run: Run, store: Path) -> None:
    """A large value that is gone is an error; --no-values does not look."""
    with EventStore.open(store) as opened:
        digest = opened.values.put(b"x" * 100)
        opened.append(ValueRecorded(value_hash="a" * 40, type_name="x", size_bytes=100, data_digest=digest))
    assert run("verify", store).exit_code == 0
    (store / value_path(digest)).unlink()
    result = run("verify", store, "--json")
    assert result.exit_code == ExitCode.INTEGRITY
    assert objects(result)[0]["path"] == value_path(digest)
    result = run("verify", store, "--no-values")
    assert result.exit_code == 0
    assert "not read (--no-values)" in result.stdout


def test_warning_alone_is_no_failure(run: Run, store: Path) -> None:
    """A foreign file is told, with 0."""
    (store / "notes.txt").write_text("hello")
    result = run("verify", store)
    assert result.exit_code == 0
    assert "warning[foreign_file]" in result.stdout
    assert "'notes.txt'" in result.stdout
    assert "0 errors, 1 warning" in result.stdout


def test_seal_places_what_waits(run: Run, store: Path) -> None:
    """Events that were appended without sealing get their positions, once."""
    with EventStore.open(store, auto_seal=False) as opened:
        opened.append(BEAT, BEAT)
    (told,) = objects(run("seal", store, "--json"))
    assert (told["placed"], told["size"], told["number"]) == (2, 8, 2)
    result = run("seal", store, "--everywhere")
    assert result.exit_code == 0
    assert "everything was sealed already" in result.stderr
    assert told["root"] in result.stdout


def test_seal_recovers_dead_writers(run: Run, store: Path) -> None:
    """What a killed writer of this machine left in its journal is made durable and placed."""
    opened = EventStore.open(store, flush_seconds=None)
    opened.append(BEAT)
    opened.abandon()
    (told,) = objects(run("seal", store, "--json"))
    assert (told["placed"], told["size"]) == (1, 7)


def test_info_tells_everything(run: Run, store: Path) -> None:
    """Counts by kind, head, tail by level, values, tables with their lag, and times."""
    assert run("rebuild", store, "jobs").exit_code == 0
    with EventStore.open(store, flush_seconds=None) as opened:
        opened.append(BEAT)
        opened.seal()
    with EventStore.open(store, auto_seal=False, flush_seconds=None) as writer:
        writer.append(BEAT, BEAT)
        writer.flush()
        writer.append(BEAT)
        writer.values.put(b"x" * 1000)
        (told,) = objects(run("info", store, "--json"))
        shown = run("info", store).stdout
        head = writer.head()
    assert told["head"] == {"size": 7, "number": 2, "root": head.root.hex()}
    assert (told["unsealed_segments"], told["unsealed_events"], told["journaled_events"]) == (1, 2, 1)
    assert (told["segments"], told["values"], told["format"]) == (2, 1, 1)
    assert told["kinds"]["execution.heartbeat"] == 4
    assert sum(told["kinds"].values()) == 10
    assert told["tables"] == [{"name": "jobs", "version": 1, "position": 6, "behind": 1}]
    assert told["first_event_at"] < told["last_event_at"]
    assert told["store_id"] in shown
    assert "2 events in 1 segment, 1 journaled on this machine" in shown
    assert head.root.hex() in shown


def test_info_of_an_empty_store(run: Run, tmp_path: Path) -> None:
    """A store without events has nothing to tell, and says so."""
    EventStore.open(tmp_path / "empty", create=True).close()
    result = run("info", tmp_path / "empty")
    assert result.exit_code == 0
    assert "(nothing sealed yet)" in result.stdout
    assert "nothing yet" in result.stdout


def test_reading_verbs_change_nothing(run: Run, store: Path, journals_of_the_test: Path) -> None:
    """Reading leaves store and journals as they are, also those of a killed writer."""
    opened = EventStore.open(store, flush_seconds=None)
    opened.append(BEAT)
    opened.abandon()
    before = files_of(store), files_of(journals_of_the_test)
    for verb in ("info", "events", "verify"):
        assert run(verb, store).exit_code == 0
    assert (files_of(store), files_of(journals_of_the_test)) == before
