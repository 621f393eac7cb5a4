"""Events as the overlay takes them from batches: kind by kind, where order matters in that of the log."""

from __future__ import annotations

from columns_kit import batch_of
from hypothesis import given
from tables_kit import histories

from eventstore.index.families import BUILDERS, KEEP, Family
from eventstore.index.log_events import log_events


@given(histories)
def test_records_of_a_key_come_in_the_order_of_the_log(history: list[object]) -> None:
    """Of families that keep more than one, whatever kinds the records are of; and no event is left out."""
    batch = batch_of(history)
    found = [
        (sequence, family, key)
        for events in log_events(batch)
        if events.kind in BUILDERS
        for _, sequence, entries in events.entries()
        for family, key, _ in entries
    ]
    by_key: dict[tuple[Family, object], list[int]] = {}
    for sequence, family, key in found:
        by_key.setdefault((family, key), []).append(sequence)
    assert all(sequences == sorted(sequences) for sequences in by_key.values())
    assert {family for family, _ in by_key} <= set(KEEP)
    counted = sum(len(events.times) for events in log_events(batch))
    assert counted == sum(kind != "call_context.recorded" for kind in batch.column("kind").to_pylist())
