"""Logs of released formats are still read: what they hold is compared with what was written down then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventstore import Event, EventStore
from tools.make_golden import golden_registry

HERE = Path(__file__).parent
FORMATS = sorted(HERE.glob("format-*"))


@pytest.mark.parametrize("golden", FORMATS, ids=lambda path: path.name)
def test_events_and_root_are_those_that_were_written(golden: Path, tmp_path: Path) -> None:
    """Every event has its id, hash, time and fields; the root stands; verification finds nothing."""
    expected = json.loads((golden / "expected.json").read_text())
    with EventStore.open(
        golden / "store", read_only=True, registry=golden_registry(), state_dir=tmp_path
    ) as store:
        assert store.head().size == expected["size"] == len(expected["events"])
        assert store.head().root.hex() == expected["root"]
        for said, found in zip(expected["events"], store.events(), strict=True):
            assert isinstance(found.event, Event)
            assert said == {
                "id": str(found.id),
                "kind": found.kind,
                "hash": found.event_hash.hex(),
                "recorded_at": found.recorded_at.isoformat(),
                "fields": json.loads(found.event.model_dump_json()),
            }
        report = store.verify()
    assert report.findings == []
    assert (report.events, report.values) == (expected["size"], 1)


def test_there_is_a_golden_log() -> None:
    """The first format has one."""
    assert [path.name for path in FORMATS][:1] == ["format-1"]
