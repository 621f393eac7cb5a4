"""`eventstore events`: what is shown, of what, and for how long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore import EventStore, ExecutionHeartbeat, TagsRecorded, ValueRecorded
from eventstore.cli.event_lines import LINE_COLUMNS
from eventstore.cli.exits import ExitCode
from eventstore.cli.filters import ID_COLUMNS, LIST_COLUMNS
from eventstore.tags import record_tags
from tests.unit.cli.conftest import TASK, Run, damage, objects


def positions(run: Run, *args: str | Path) -> list[int | None]:
    """Positions that the verb shows."""
    result = run("events", *args, "--json")
    assert result.exit_code == 0, result.stderr
    return [one["position"] for one in objects(result)]


def test_one_line_for_each_event(run: Run, store: Path) -> None:
    """Without a terminal each event is one whole line with position, time, kind and fields."""
    shown = run("events", store).stdout.splitlines()
    assert len(shown) == 6
    assert shown[5].split()[:4] == ["5", "2026-03-01", "12:00:03.000Z", "job.ended"]
    assert "status=FAILED" in shown[5]
    assert f"task_hash={TASK[:8]}" in shown[5]
    assert TASK not in shown[5]


def test_lines_are_made_of_all_ids() -> None:
    """What a line is made of includes every column that --entity looks into."""
    assert {*ID_COLUMNS, *(name for name, _ in LIST_COLUMNS)} <= set(LINE_COLUMNS)


def test_json_gives_everything(run: Run, store: Path) -> None:
    """--json gives the columns that say something, the event's id, and hashes as hex."""
    last = objects(run("events", store, "--json"))[-1]
    with EventStore.open(store, read_only=True) as opened:
        event = list(opened.events())[-1]
    assert last["id"] == str(event.id)
    assert bytes.fromhex(last["event_hash"]) == event.event_hash
    assert last["occurred_at"] == "2026-03-01T12:00:03Z"
    assert (last["job_id"], last["task_hash"], last["cached"]) == ("job-2", TASK, False)
    assert "data" not in last


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--kind", "job.started"], [2, 4]),
        (["--kind", "job.started", "--kind", "execution.started"], [1, 2, 4]),
        (["--kind", "no.such"], []),
        (["--entity", "job-1"], [1, 2, 3]),
        (["--entity", "job"], [1, 2, 3, 4, 5]),
        (["--entity", TASK[:9]], [0, 2, 3, 4, 5]),
        (["--entity", "zzz"], []),
        (["--after", "3"], [4, 5]),
        (["--after", "-1", "--limit", "2"], [0, 1]),
        (["--since", "2026-03-01T12:00:02Z"], [3, 4, 5]),
        (["--until", "2026-03-01T14:00:01+02:00"], [0, 1]),
        (["--since", "2026-03-01T12:00:01Z", "--until", "2026-03-01T12:00:02Z"], [2]),
        (["--kind", "job.ended", "--entity", "job-2"], [5]),
    ],
)
def test_filters(run: Run, store: Path, options: list[str], expected: list[int]) -> None:
    """Each filter keeps exactly the events that it names, alone and with others."""
    assert positions(run, store, *options) == expected


def test_entity_finds_ids_in_lists(run: Run, store: Path) -> None:
    """--entity looks into subvalues and tags, and takes an event's own id."""
    with EventStore.open(store) as opened:
        opened.append(
            ValueRecorded(
                value_hash="a" * 40, type_name="x", size_bytes=0, data=b"", subvalues=("b" * 40, "c" * 40)
            )
        )
        tags = record_tags("Value", "d" * 40, {"color": "red"})
        assert isinstance(tags, TagsRecorded)
        receipt = opened.append(tags)
    assert positions(run, store, "--entity", "c" * 40) == [6]
    assert positions(run, store, "--entity", "dddd") == [7]
    assert positions(run, store, "--entity", tags.tags[0].tag_hash[:12]) == [7]
    assert positions(run, store, "--entity", str(receipt.first)) == [7]


def test_time_without_timezone_is_utc_and_said(run: Run, store: Path) -> None:
    """A naive time is taken as UTC with a note on stderr; nonsense is a usage error."""
    result = run("events", store, "--since", "2026-03-01T12:00:03", "--json")
    assert [one["position"] for one in objects(result)] == [5]
    assert "note: --since 2026-03-01T12:00:03 names no timezone" in result.stderr
    result = run("events", store, "--until", "yesterday")
    assert result.exit_code == ExitCode.USAGE
    assert "yesterday" in result.stderr


def test_tail_is_shown_unless_told_otherwise(run: Run, store: Path) -> None:
    """Unsealed events come last without a position, durable ones and journaled ones."""
    with EventStore.open(store, auto_seal=False, flush_seconds=None) as writer:
        writer.append(ExecutionHeartbeat(execution_id="exec-1"))
        writer.flush()
        writer.append(ExecutionHeartbeat(execution_id="exec-1"))
        shown = run("events", store).stdout.splitlines()
        assert [line.split()[0] for line in shown[6:]] == ["unsealed", "unsealed"]
        assert positions(run, store)[5:] == [5, None, None]
        assert positions(run, store, "--no-tail") == [0, 1, 2, 3, 4, 5]


def test_text_of_the_store_cannot_steer_the_terminal(run: Run, store: Path) -> None:
    """Control characters in stored text are made visible, and markup is text."""
    with EventStore.open(store) as opened:
        opened.append(ExecutionHeartbeat(execution_id="\x1b[2J[red]x", reason="two\nlines"))
    shown = run("events", store, "--after", "5").stdout
    assert "\x1b" not in shown
    assert r"\x1b[2J[red]x" in shown
    assert "reason=two lines" in shown


def test_damaged_segment_ends_with_integrity(run: Run, store: Path) -> None:
    """Reading a segment that was altered ends with 4 and names the file."""
    path = damage(store)
    result = run("events", store)
    assert result.exit_code == ExitCode.INTEGRITY
    assert path in result.stderr


def test_follow_and_tail_exclude_each_other(run: Run, store: Path) -> None:
    """What is not sealed has no position to go on from."""
    assert run("events", store, "--follow", "--tail").exit_code == ExitCode.USAGE


def test_follow_begins_near_the_end_and_stops_at_the_limit(run: Run, store: Path) -> None:
    """--follow shows the last ten positions; --after says otherwise, and --limit ends it."""
    with EventStore.open(store) as opened:
        opened.append(*[ExecutionHeartbeat(execution_id="exec-1")] * 9)
    assert positions(run, store, "--follow", "--limit", "2") == [5, 6]
    assert positions(run, store, "--follow", "--after", "-1", "--limit", "2") == [0, 1]


def test_follow_goes_on_until_ctrl_c(store: Path) -> None:
    """A real process sees what is sealed while it follows, and Ctrl-C ends it with 0 and no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eventstore", "events", str(store), "--follow", "--after", "5", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert process.stdout is not None
    with EventStore.open(store) as opened:
        opened.append(ExecutionHeartbeat(execution_id="exec-1"))
        opened.seal()
        assert json.loads(process.stdout.readline())["position"] == 6
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (0, "")


def test_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    """A pipe that is closed after one line ends the command without a message."""
    url = tmp_path / "long"
    with EventStore.open(url, create=True) as opened:
        opened.append(*[ExecutionHeartbeat(execution_id="exec-1")] * 5000)
    process = subprocess.Popen(
        [sys.executable, "-m", "eventstore", "events", str(url)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().split()[0] == "0"
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(timeout=30)
