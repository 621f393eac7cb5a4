"""Many processes append to one store, flush and seal at once: no event is lost, doubled or out of order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import pytest
from store_kit import open_store

from eventstore import EventStore, ExecutionStarted

WRITER = """
import json, random, sys, time
from pathlib import Path
from store_kit import beats, open_store

place, number, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
dice = random.Random(number)
end = time.monotonic() + seconds
count = 0
while time.monotonic() < end or not count:
    # Opened anew now and then, and left as by a kill: others take over what is in the journal.
    store = open_store(place, flush_rows=dice.choice([5, 50, 10_000]), auto_seal=dice.random() < 0.7)
    for _ in range(dice.randrange(5, 60)):
        size = dice.choice([1, 1, 3, 20])
        receipt = store.append(*beats(*(f"{number}/{count + place}" for place in range(size))))
        print(json.dumps([str(receipt.first.writer), receipt.first.sequence, count, size]), flush=True)
        count += size
        dice.choice([lambda: None] * 12 + [store.flush, store.seal])()
    dice.choice([store.close, store.abandon])()
"""


def _run(place: Path, processes: int, seconds: float) -> None:
    """Let `processes` write for so long while one thread reads along; then check everything."""
    open_store(place).close()
    followed: list[int] = []
    trouble: list[BaseException] = []

    def follow() -> None:
        try:
            with open_store(place, read_only=True) as reader:
                for batch in reader.subscribe(poll_seconds=0.02, columns=["kind"]):
                    followed.extend(batch.column("position").to_pylist())
                    if "execution.started" in batch.column("kind").to_pylist():
                        return
        except BaseException as error:
            trouble.append(error)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    here = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(here)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(place), str(number), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(processes)
    ]
    told = {number: process.communicate()[0] for number, process in enumerate(running)}
    assert [process.returncode for process in running] == [0] * processes

    with open_store(place) as store:
        store.seal()
        _check(store, told)
        store.append(ExecutionStarted(execution_id="the end"))
        head = store.seal()
        follower.join(60)
        assert trouble == []
        assert followed == list(range(head.size))
        report = store.verify()
        assert report.ok, report.findings
        assert report.findings == []
        assert report.journaled_events == 0


def _check(store: EventStore, told: dict[int, str]) -> None:
    """Every acknowledged event is there once, with its id, in its writer's order, in its batch's."""
    found = list(store.events())
    assert [event.position for event in found] == list(range(len(found)))
    sequences = defaultdict(list)
    for event in found:
        sequences[event.id.writer].append(event.id.sequence)
    assert all(numbers == list(range(len(numbers))) for numbers in sequences.values())
    places = {event.event.execution_id: event for event in found}  # type: ignore[union-attr]
    assert len(places) == len(found)
    acknowledged = 0
    for number, text in told.items():
        for line in text.splitlines():
            writer, first, start, size = json.loads(line)
            acknowledged += size
            events = [places[f"{number}/{start + place}"] for place in range(size)]
            assert [(event.id.writer, event.id.sequence) for event in events] == [
                (writer, first + place) for place in range(size)
            ]
            positions = [event.position for event in events]
            assert positions == list(range(positions[0] or 0, (positions[0] or 0) + size))
    assert acknowledged == len(found)


def test_a_few_processes_for_a_moment(tmp_path: Path) -> None:
    """Four writers that flush, seal, close and die, and a reader that follows."""
    _run(tmp_path / "store", 4, 1.5)


@pytest.mark.soak
def test_many_processes_for_long(tmp_path: Path) -> None:
    """Eight of them; EVENTSTORE_SOAK_SECONDS says for how long."""
    _run(tmp_path / "store", 8, float(os.environ.get("EVENTSTORE_SOAK_SECONDS", "60")))
