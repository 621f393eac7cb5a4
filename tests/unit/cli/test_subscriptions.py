"""Named subscriptions on the command line: following by name, and what an operator does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventstore import EventStore, ExecutionHeartbeat, StateError
from eventstore.cli.exits import ExitCode
from eventstore.ids import Digest
from eventstore.layout import subscription_path
from eventstore.log.subscription.checkpoint import encode_checkpoint
from tests.unit.cli.conftest import Run, objects

FOLLOW = ("--follow", "--subscription", "mail")


def shown(run: Run, store: Path, *args: str) -> list[int]:
    """Positions that the subscription `mail` is shown."""
    result = run("events", store, "--subscription", "mail", "--json", *args)
    assert result.exit_code == 0, result.stderr
    return [one["position"] for one in objects(result)]


def listed(run: Run, store: Path, *args: str) -> list[dict[str, Any]]:
    """What the verb says."""
    result = run("subscriptions", store, "--json", *args)
    assert result.exit_code == 0, result.stderr
    return objects(result)


@pytest.fixture
def parked(store: Path) -> Path:
    """A store whose subscription `mail` is parked at position 3."""

    def handler(batch: Any) -> None:
        if 3 in batch["position"].to_pylist():
            raise ValueError("token=abc \x1b[2J")

    with EventStore.open(store) as opened:
        subscription = opened.subscription("mail", retries=0, sleep=lambda _: None)
        with pytest.raises(StateError):
            subscription.run(handler)
    return store


# following by name ----------------------------------------------------------------------------------------


def test_a_named_subscription_is_shown_each_event_once(run: Run, store: Path) -> None:
    """Each call goes on behind what the one before has shown, also amid a batch."""
    assert shown(run, store, "--limit", "2") == [0, 1]
    assert shown(run, store, "--limit", "1") == [2]
    assert shown(run, store) == [3, 4, 5]
    assert shown(run, store) == []
    with EventStore.open(store) as opened:
        opened.append(ExecutionHeartbeat(execution_id="exec-1"))
    assert shown(run, store) == [6]


def test_what_a_filter_leaves_out_counts_as_shown(run: Run, store: Path) -> None:
    """Kinds belong to the subscription, other filters to the call."""
    assert shown(run, store, "--kind", "job.started", "--entity", "job-2") == [4]
    assert listed(run, store)[0]["position"] == 6
    assert listed(run, store)[0]["kinds"] == ["job.started"]
    result = run("events", store, "--subscription", "mail", "--kind", "job.ended")
    assert result.exit_code == ExitCode.USAGE
    assert "bad_subscription" in result.stderr


def test_after_says_where_a_new_one_begins(run: Run, store: Path) -> None:
    """And nothing of one that is there."""
    assert shown(run, store, "--after", "3", "--limit", "1") == [4]
    assert shown(run, store, "--after", "-1") == [5]


def test_following_by_name_begins_near_the_end_and_remembers(run: Run, store: Path) -> None:
    """As --follow does without a name."""
    with EventStore.open(store) as opened:
        opened.append(*[ExecutionHeartbeat(execution_id="exec-1")] * 9)
    assert shown(run, store, "--follow", "--limit", "2") == [5, 6]
    assert shown(run, store, "--follow", "--limit", "2") == [7, 8]


def test_a_process_that_follows_by_name_remembers_what_it_showed(run: Run, store: Path) -> None:
    """Ctrl-C ends it with 0, and the next call goes on behind the last line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "eventstore", "events", str(store), *FOLLOW, "--after", "3", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert process.stdout is not None
    assert [json.loads(process.stdout.readline())["position"] for _ in range(2)] == [4, 5]
    with EventStore.open(store) as opened:
        opened.append(ExecutionHeartbeat(execution_id="exec-1"))
        opened.seal()
        assert json.loads(process.stdout.readline())["position"] == 6
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (0, "")
    again = shown(run, store)
    assert again in ([], [6]), "the last line may have been printed and not remembered"


def test_a_subscription_has_no_tail(run: Run, store: Path) -> None:
    """What is not sealed has no position to remember."""
    assert run("events", store, "--subscription", "mail", "--tail").exit_code == ExitCode.USAGE


def test_a_parked_subscription_shows_nothing(run: Run, parked: Path) -> None:
    """Its handler is another program, which has to be corrected first."""
    result = run("events", parked, "--subscription", "mail")
    assert result.exit_code == ExitCode.FAILED
    assert "subscription_parked" in result.stderr


# operators ------------------------------------------------------------------------------------------------


def test_a_list_says_where_each_stands(run: Run, parked: Path) -> None:
    """With state and error, for eyes and for programs; nothing of an error steers the terminal."""
    with EventStore.open(parked) as opened:
        opened.subscription("post", kinds=["job.ended"], start="head")
    mail, post = listed(run, parked)
    assert (mail["name"], mail["state"], mail["position"], mail["behind"]) == ("mail", "parked", 3, 3)
    assert mail["failure"]["first"] == 3
    assert (post["name"], post["state"], post["kinds"], post["behind"]) == (
        "post",
        "active",
        ["job.ended"],
        0,
    )
    result = run("subscriptions", parked)
    assert [line.split()[0] for line in result.stdout.splitlines() if line[:4] in ("mail", "post")] == [
        "mail",
        "post",
    ]
    assert r"ValueError: token=*** \x1b[2J" in result.stderr
    assert "\x1b" not in result.stderr
    assert [one["name"] for one in listed(run, parked, "--name", "post")] == ["post"]


@pytest.mark.parametrize(
    ("action", "then"),
    [(["--resume"], [3, 4, 5]), (["--skip"], [4, 5]), (["--seek", "1"], [1, 2, 3, 4, 5])],
)
def test_an_action_is_shown_first_and_done_with_apply(
    run: Run, parked: Path, action: list[str], then: list[int]
) -> None:
    """Without it nothing changes."""
    planned = run("subscriptions", parked, "--name", "mail", *action)
    assert planned.exit_code == 0
    assert "nothing was changed; --apply does it" in planned.stderr
    assert listed(run, parked)[0]["state"] == "parked"
    done = listed(run, parked, "--name", "mail", *action, "--apply")
    assert [(one["state"], one["position"]) for one in done] == [("active", then[0])]
    assert shown(run, parked) == then


def test_a_deleted_subscription_is_gone(run: Run, parked: Path) -> None:
    """With --apply."""
    run("subscriptions", parked, "--name", "mail", "--delete")
    assert len(listed(run, parked)) == 1
    assert listed(run, parked, "--name", "mail", "--delete", "--apply") == []
    result = run("subscriptions", parked)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no subscription" in result.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--resume"], ExitCode.USAGE),
        (["--name", "mail", "--resume", "--skip"], ExitCode.USAGE),
        (["--name", "mail", "--seek", "7", "--apply"], ExitCode.USAGE),
        (["--name", "absent"], ExitCode.FAILED),
        (["--name", "absent", "--seek", "0", "--apply"], ExitCode.FAILED),
    ],
)
def test_what_cannot_be_done_changes_nothing(run: Run, parked: Path, args: list[str], code: ExitCode) -> None:
    """No action without a name, no two at once, none on what is not there, none beyond the head."""
    before = listed(run, parked)
    assert run("subscriptions", parked, *args).exit_code == code
    assert listed(run, parked) == before


@pytest.fixture
def foreign(store: Path) -> Path:
    """A store whose subscription `mail` was at position 2 of a log with another first seal."""
    with EventStore.open(store) as opened:
        opened.subscription("mail", start=2)
        (known,) = opened.subscriptions()
        other = replace(known, seal_digest=Digest("ab" * 32))
        opened.storage.put(subscription_path("mail", 1), encode_checkpoint(other))
    return store


def test_a_foreign_subscription_is_listed_and_shows_nothing(run: Run, foreign: Path) -> None:
    """How far it is behind cannot be said, and what to do is."""
    (known,) = listed(run, foreign)
    assert (known["foreign"], known["behind"], known["state"]) == (True, None, "active")
    result = run("subscriptions", foreign)
    assert "foreign" in result.stdout
    assert "mail stands in another history" in result.stderr
    shows = run("events", foreign, "--subscription", "mail")
    assert (shows.exit_code, shows.stdout) == (ExitCode.FAILED, "")
    assert "foreign_checkpoint" in shows.stderr
    planned = run("subscriptions", foreign, "--name", "mail", "--resume")
    assert "only --seek lets it go on" in planned.stderr
    assert run("subscriptions", foreign, "--name", "mail", "--resume", "--apply").exit_code == ExitCode.FAILED


def test_a_foreign_subscription_is_moved(run: Run, foreign: Path) -> None:
    """And then is one of this log."""
    (moved,) = listed(run, foreign, "--name", "mail", "--seek", "4", "--apply")
    assert (moved["foreign"], moved["behind"]) == (False, 2)
    assert shown(run, foreign) == [4, 5]


def test_a_foreign_subscription_is_deleted(run: Run, foreign: Path) -> None:
    """And the next of its name begins with the first event."""
    assert listed(run, foreign, "--name", "mail", "--delete", "--apply") == []
    assert shown(run, foreign, "--limit", "2") == [0, 1]


def test_only_what_is_parked_can_be_skipped(run: Run, store: Path) -> None:
    """The plan says so, and doing it is refused."""
    assert shown(run, store, "--limit", "1") == [0]
    planned = run("subscriptions", store, "--name", "mail", "--skip")
    assert "is not parked" in planned.stderr
    result = run("subscriptions", store, "--name", "mail", "--skip", "--apply")
    assert result.exit_code == ExitCode.FAILED
    assert "not_parked" in result.stderr
