"""The scenario that the fault campaigns walk through, and what must hold after it, however it ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from eventstore import (
    EventStore,
    EventStoreError,
    ExecutionHeartbeat,
    NotFoundError,
    Receipt,
    Severity,
    ValueRecorded,
)
from eventstore.filesystem import open_storage
from eventstore.testing import FaultPlan, FaultyFiles, FaultyStorage, When

Result = TypeVar("Result")
LARGE = b"0123456789abcdef" * 8
INLINE_LIMIT = 64
BATCHES = {"single": 1, "batch": 4, "value": 2, "later": 1, "left behind": 3, "second": 1, "last": 2}
"""The batches that the scenario appends, and how many events each has."""
HARMLESS = {"foreign_file", "duplicate_segment"}
"""Findings that a killed process may leave: a half-written file, the same events put twice."""


def batch(name: str) -> list[ExecutionHeartbeat | ValueRecorded]:
    """The events of a batch, each of which says which one it is."""
    made: list[ExecutionHeartbeat | ValueRecorded] = [
        ExecutionHeartbeat(execution_id=f"{name}/{number}") for number in range(BATCHES[name])
    ]
    if name == "value":
        made[1] = ValueRecorded(
            value_hash="ab" * 20,
            type_name="bytes",
            size_bytes=len(LARGE),
            data=LARGE,
            reason="value/1",
        )
    return made


@dataclass
class Place:
    """A store somewhere, opened with the faults of a plan or without."""

    url: str
    state: Path

    def open(self, plan: FaultPlan | None = None, **options: object) -> EventStore:
        """Open the store, made if need be, without a flush timer."""
        settings: dict[str, object] = {
            "create": True,
            "durability": "fsync",
            "flush_seconds": None,
            "inline_limit": INLINE_LIMIT,
            "state_dir": self.state,
        }
        if plan is not None:
            settings["storage"] = FaultyStorage(open_storage(self.url), plan)
            settings["local_files"] = FaultyFiles(plan)
        return EventStore.open(self.url, **(settings | options))  # type: ignore[arg-type]


@dataclass
class Acknowledged:
    """What a run was told: for each batch the id of its first event and the level that was promised."""

    levels: dict[str, int] = field(default_factory=dict)
    firsts: dict[str, str] = field(default_factory=dict)
    tell: Callable[[str], object] = lambda _: None

    def note(self, name: str, receipt: Receipt | None, level: int) -> None:
        """Write down that a batch has reached a level, and tell it."""
        if receipt is not None:
            self.firsts[name] = str(receipt.first)
        self.levels[name] = max(level, self.levels.get(name, 0))
        self.tell(json.dumps([name, self.firsts[name], level]) + "\n")

    @classmethod
    def heard(cls, text: str) -> Acknowledged:
        """Read what another process has told, line by line."""
        made = cls()
        for line in text.splitlines():
            name, first, level = json.loads(line)
            made.firsts[name], made.levels[name] = first, level
        return made


WITH_HALVES = {"put", "create", "journal_write"}
CHANGING = WITH_HALVES | {"delete", "journal_create", "journal_truncate", "journal_remove"}


def worth_striking(trace: list[str], when: When) -> list[tuple[int, str]]:
    """The operations of a trace, with their numbers, at which a fault leaves a place as no other does.

    After an operation that changes nothing is before the next one; what has no halves is not torn.
    """
    names = [line.partition(" ")[0] for line in trace]
    worth = {When.BEFORE: set(names), When.AFTER: CHANGING, When.TORN: WITH_HALVES}[when]
    return [(at, name) for at, name in enumerate(names) if name in worth]


def run_scenario(place: Place, plan: FaultPlan | None, told: Acknowledged) -> None:
    """Make a store, append, flush, seal, leave a journal behind; open again, append, close; look again."""
    store = place.open(plan)
    told.note("single", store.append(*batch("single")), 1)
    told.note("batch", store.append(*batch("batch")), 1)
    told.note("value", store.append(*batch("value")), 1)
    store.flush()
    for name in ("single", "batch", "value"):
        told.note(name, None, 2)
    told.note("later", store.append(*batch("later")), 1)
    store.seal()
    for name in ("single", "batch", "value", "later"):
        told.note(name, None, 3)
    told.note("left behind", store.append(*batch("left behind")), 1)
    store.abandon()
    with place.open(plan) as second:
        told.note("left behind", None, 2)
        told.note("second", second.append(*batch("second")), 1)
        second.flush()
        told.note("second", None, 2)
        told.note("last", second.append(*batch("last")), 1)
    for name in BATCHES:
        told.note(name, None, 2)
    with place.open(plan) as third:
        assert third.head().size == sum(BATCHES.values())


def run_with_retries(place: Place, plan: FaultPlan, told: Acknowledged) -> list[EventStoreError]:
    """Do the same, and call again whatever fails; returns the errors that came out, at most one a call."""
    errors: list[EventStoreError] = []

    def again(call: Callable[[], Result]) -> Result:
        try:
            return call()
        except EventStoreError as error:
            errors.append(error)
            return call()

    # So few rows that an append flushes.
    store = again(lambda: place.open(plan, flush_rows=6))
    for name in ("single", "batch", "value", "later"):
        told.note(name, again(lambda name=name: store.append(*batch(name))), 1)
    again(store.flush)
    told.note("left behind", again(lambda: store.append(*batch("left behind"))), 1)
    again(store.seal)
    for name in told.firsts:
        told.note(name, None, 2)
    again(store.close)
    second = again(lambda: place.open(plan))
    told.note("second", again(lambda: second.append(*batch("second"))), 1)
    second.abandon()
    third = again(lambda: place.open(plan))
    told.note("last", again(lambda: third.append(*batch("last"))), 1)
    assert again(lambda: {_name(event)[0] for event in third.events(tail=True)}) == set(BATCHES)
    again(third.close)
    return errors


def check_afterwards(place: Place, told: Acknowledged) -> None:
    """Nothing that was promised is lost, doubled, torn apart or altered, and the store verifies."""
    try:
        with place.open(create=False, read_only=True, state_dir=place.state / "elsewhere") as elsewhere:
            durable = {_name(event)[0] for event in elsewhere.events(tail=True)}
    except NotFoundError:
        assert not told.levels, "events were acknowledged, and there is no store"
        durable = set()
    assert durable >= {name for name, level in told.levels.items() if level >= 2}
    with place.open() as store:
        store.seal()
        found = list(store.events())
        assert [event.position for event in found] == list(range(len(found)))
        assert store.head().size == len(found)
        assert [event.id for event in store.events(tail=True)] == [event.id for event in found]
        order = [_name(event) for event in found]
        for name, size in BATCHES.items():
            places = [place for place, (batch_name, _) in enumerate(order) if batch_name == name]
            if not places and name not in told.levels:
                continue
            assert len(places) == size, f"of the batch {name!r} there are {len(places)} of {size} events"
            assert places == list(range(places[0], places[0] + size)), f"{name!r} is torn apart"
            assert [number for _, number in order[places[0] : places[-1] + 1]] == list(range(size))
            if name in told.firsts:
                assert str(found[places[0]].id) == told.firsts[name]
        if ("value", 1) in order:
            value = found[order.index(("value", 1))].event
            assert isinstance(value, ValueRecorded)
            assert value.data_digest is not None
            assert store.values.get(value.data_digest) == LARGE
        report = store.verify()
        assert report.ok, [finding for finding in report.findings if finding.severity is Severity.ERROR]
        assert {finding.code for finding in report.findings} <= HARMLESS, report.findings
        assert report.events == len(found)


def _name(event: object) -> tuple[str, int]:
    inner = event.event  # type: ignore[attr-defined]
    name, _, number = (inner.reason or inner.execution_id).partition("/")
    return name, int(number)
