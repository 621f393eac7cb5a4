"""A process is killed at every operation of storage and journal in turn: nothing acknowledged is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from faults_kit import Acknowledged, Place, check_afterwards, run_scenario, worth_striking
from fork_kit import forked, status_of

from eventstore.testing import KILLED, Act, FaultPlan, When


def _run_in_child(place: Place, plan: FaultPlan) -> tuple[int, Acknowledged]:
    """Run the scenario in a forked child; returns how it ended, and what it was told until then."""
    reading, writing = os.pipe()
    told = Acknowledged(tell=lambda line: os.write(writing, line.encode()))
    child = forked(lambda: run_scenario(place, plan, told))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        heard = pipe.read()
    return status_of(child), Acknowledged.heard(heard)


@pytest.mark.parametrize("when", When)
def test_whatever_a_kill_interrupts_what_was_acknowledged_is_there_once(tmp_path: Path, when: When) -> None:
    """A kill before, amid or after any operation loses, doubles and tears apart nothing acknowledged."""
    counted = FaultPlan()
    run_scenario(Place(str(tmp_path / "counted"), tmp_path / "state"), counted, Acknowledged())
    struck = worth_striking(counted.trace, when)
    assert len(struck) > 10
    for at, name in struck:
        folder = tmp_path / f"{when}-{at}"
        place = Place(str(folder / "store"), folder / "state")
        status, told = _run_in_child(place, FaultPlan(at, when=when, act=Act.KILL))
        where = f"killed {when} operation {at} of {len(counted.trace)}, {name}"
        assert status == KILLED, where
        try:
            check_afterwards(place, told)
        except BaseException as error:
            error.add_note(where)
            raise
        shutil.rmtree(folder)


def test_the_scenario_without_a_fault_leaves_nothing_to_report(tmp_path: Path) -> None:
    """The campaign's own baseline: everything is sealed, and verify finds nothing at all."""
    place = Place(str(tmp_path / "store"), tmp_path / "state")
    status, told = _run_in_child(place, FaultPlan())
    assert status == 0
    check_afterwards(place, told)
    with place.open() as store:
        assert store.verify().findings == []
        assert store.head().size == 14
