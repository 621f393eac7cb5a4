"""`eventstore append`: all lines or none, and who is told what."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from eventstore import EventStore
from eventstore.cli.commands import append as append_module
from eventstore.cli.exits import ExitCode
from eventstore.cli.intake import MOST_REPORTED, Intake, event_of_line
from eventstore.errors import InvalidEventError, StorageError
from eventstore.events import Registry, ValueRecorded
from tests.unit.cli.conftest import Run, lines, objects

STARTED = {"kind": "execution.started", "execution_id": "exec-9", "occurred_at": "2026-03-02T01:02:03Z"}
BEAT = {"kind": "execution.heartbeat", "execution_id": "exec-9"}


def count(store: Path) -> int:
    """How many events the store holds, sealed or not."""
    with EventStore.open(store, read_only=True) as opened:
        return sum(batch.num_rows for batch in opened.read(tail=True))


def test_lines_become_events(run: Run, tmp_path: Path) -> None:
    """Good lines are stored in their order, with their own time and actor, and the ids are told."""
    url = tmp_path / "new"
    given = lines({**STARTED, "actor": "bob", "reason": "why not"}, BEAT)
    result = run("append", url, "--create", "--json", "--actor", "ann", input=f"\n{given}\n")
    assert result.exit_code == 0, result.stderr
    (told,) = objects(result)
    with EventStore.open(url, read_only=True) as store:
        found = list(store.events())
    assert [one.kind for one in found] == ["execution.started", "execution.heartbeat"]
    assert [one.event.actor for one in found] == ["bob", "ann"]  # type: ignore[union-attr]
    assert found[0].event.reason == "why not"  # type: ignore[union-attr]
    assert found[0].event.occurred_at.isoformat() == "2026-03-02T01:02:03+00:00"  # type: ignore[union-attr]
    assert told == {"count": 2, "first": str(found[0].id), "last": str(found[1].id), "level": "sealed"}


def test_bytes_are_base64(run: Run, store: Path, tmp_path: Path) -> None:
    """Bytes come in as base64, from a file as from standard input."""
    file = tmp_path / "events.jsonl"
    file.write_text(
        lines(
            {
                "kind": "value.recorded",
                "value_hash": "a" * 40,
                "type_name": "x",
                "size_bytes": 3,
                "data": "AQID",
            }
        )
    )
    assert run("append", store, "--file", file).exit_code == 0
    with EventStore.open(store, read_only=True) as opened:
        (found,) = opened.events(kinds=["value.recorded"])
    assert isinstance(found.event, ValueRecorded)
    assert found.event.data == b"\x01\x02\x03"


def test_no_seal_leaves_events_durable(run: Run, store: Path) -> None:
    """With --no-seal the events are durable, and positions wait."""
    result = run("append", store, "--no-seal", input=lines(BEAT))
    assert "level  durable" in result.stdout
    with EventStore.open(store, read_only=True) as opened:
        assert opened.head().size == 6
    assert count(store) == 7


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "JSON was expected"),
        ("[1]", "a JSON object was expected, found list"),
        ('{"execution_id": "x"}', '"kind" was expected'),
        ('{"kind": "lab.unheard_of"}', "--module NAME imports"),
        ('{"kind": "job.started", "job_id": 5}', "job_id: expected"),
        ('{"kind": "execution.heartbeat", "execution_id": "x", "color": 1}', "color: expected no field"),
        ('{"kind": "execution.heartbeat", "execution_id": "a", "execution_id": "b"}', "twice in one object"),
        (
            '{"kind": "execution.heartbeat", "execution_id": "x", "occurred_at": "2026-01-01T00:00:00"}',
            "timezone",
        ),
    ],
)
def test_bad_line_in_the_middle_is_named_and_nothing_is_stored(
    run: Run, store: Path, line: str, told: str
) -> None:
    """A bad third line is named by its number with what is wrong; the good ones around it are not stored."""
    result = run("append", store, input=f"{lines(STARTED, BEAT)}{line}\n{lines(BEAT)}")
    assert result.exit_code == ExitCode.USAGE
    assert "1 of 4 lines is not an event; nothing was stored" in result.stderr
    assert "line 3: " in result.stderr
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert count(store) == 6


def test_bytes_that_are_no_text_are_a_bad_line(run: Run, store: Path) -> None:
    """A line that is not UTF-8 is named like any other bad line."""
    result = run("append", store, input=lines(BEAT).encode() + b'{"kind": "\xff"}\n')
    assert result.exit_code == ExitCode.USAGE
    assert "line 2: " in result.stderr


def test_many_bad_lines_are_counted(run: Run, store: Path) -> None:
    """The first ten bad lines are named, the others counted, and line numbers count blank lines."""
    result = run("append", store, input="\n" + "nonsense\n" * 12)
    assert "12 of 12 lines are not an event" in result.stderr
    assert result.stderr.count("  line ") == MOST_REPORTED
    assert "line 2: " in result.stderr
    assert "... and 2 more" in result.stderr


def test_empty_input_stores_nothing(run: Run, store: Path) -> None:
    """No line is no error, and no event."""
    result = run("append", store, "--json", input="\n\n")
    assert result.exit_code == 0
    assert objects(result) == [{"count": 0}]
    assert count(store) == 6


def test_module_registers_a_kind(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind of the user's own is known once its module is imported, from the current folder."""
    (tmp_path / "kinds_of_the_test.py").write_text(
        "from eventstore import Event, event_kind\n"
        '@event_kind("clitest.weighed")\n'
        "class Weighed(Event):\n"
        "    stream: str\n"
        "    grams: float\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    given = lines({"kind": "clitest.weighed", "stream": "sample-1", "grams": 2.5})
    assert run("append", store, input=given).exit_code == ExitCode.USAGE
    assert run("append", store, "--module", "kinds_of_the_test", input=given).exit_code == 0
    found = objects(run("events", store, "--kind", "clitest.weighed", "--json"))
    assert [one["payload"] for one in found] == [{"grams": 2.5}]
    assert found[0]["stream"] == "sample-1"


def test_module_that_does_not_import_is_named(run: Run, store: Path) -> None:
    """A module that is not there is a usage error, before anything is stored."""
    result = run("append", store, "--module", "no_such_module_here", input=lines(BEAT))
    assert result.exit_code == ExitCode.USAGE
    assert "error[bad_module]" in result.stderr
    assert "no_such_module_here" in result.stderr


def test_long_input_is_stored_in_batches(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many lines arrive complete and in order, whatever the size of a batch."""
    monkeypatch.setattr(append_module, "BATCH", 7)
    given = [{**BEAT, "reason": str(number)} for number in range(40)]
    assert run("append", store, input=lines(*given)).exit_code == 0
    found = objects(run("events", store, "--after", "5", "--json"))
    assert [one["reason"] for one in found] == [str(number) for number in range(40)]


def test_failure_in_between_names_the_line_to_go_on_from(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fills up after two batches, the message says what is stored and where to go on."""
    monkeypatch.setattr(append_module, "BATCH", 10)
    original, calls = EventStore.append, []

    def append(self: EventStore, *events: object) -> object:
        calls.append(len(events))
        if len(calls) == 3:
            raise StorageError("the disk is full", code="disk_full")
        return original(self, *events)  # type: ignore[arg-type]

    monkeypatch.setattr(EventStore, "append", append)
    result = run("append", store, input="\n" + lines(*[BEAT] * 25))
    assert result.exit_code == ExitCode.FAILED
    assert "20 events stored, none from line 22 on" in result.stderr
    assert "error[disk_full]" in result.stderr
    assert calls == [10, 10, 5]
    assert count(store) == 26


def test_failure_to_seal_says_that_the_events_are_stored(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When only sealing fails, the user is told not to append again, and the events are there."""

    def seal(self: EventStore) -> None:
        raise StorageError("no seal today", code="no_atomic_create")

    monkeypatch.setattr(EventStore, "seal", seal)
    result = run("append", store, input=lines(BEAT))
    assert result.exit_code == ExitCode.FAILED
    assert "do not append them again" in result.stderr
    assert "--single-sealer" in result.stderr
    assert count(store) == 7


def test_store_is_made_only_when_asked(run: Run, tmp_path: Path) -> None:
    """Without --create a missing store is an error with the hint, and no folder is made."""
    result = run("append", tmp_path / "new", input=lines(BEAT))
    assert result.exit_code == ExitCode.FAILED
    assert "--create" in result.stderr
    assert not (tmp_path / "new").exists()


def test_missing_file_is_a_usage_error(run: Run, store: Path) -> None:
    """--file names a file that is there."""
    assert run("append", store, "--file", "nowhere.jsonl").exit_code == ExitCode.USAGE


def test_what_is_checked_is_what_is_stored() -> None:
    """An intake gives the events again as often as asked, with the numbers of their lines."""
    given = ["", json.dumps(BEAT), " ", json.dumps(STARTED)]
    with Intake([f"{line}\n".encode() for line in given], registry=Registry()) as intake:
        assert intake.count == 2
        for size, expected in ((1, [[2], [4]]), (5, [[2, 4]])):
            assert [[number for number, _ in batch] for batch in intake.batches(size)] == expected


def test_deep_nesting_is_a_bad_line() -> None:
    """JSON too deep for the parser is refused, not a crash."""
    with pytest.raises(InvalidEventError) as caught:
        event_of_line(b'{"kind": "job.started", "job_id": ' + b"[" * 200_000 + b"}", Registry())
    assert caught.value.code == "bad_json"
