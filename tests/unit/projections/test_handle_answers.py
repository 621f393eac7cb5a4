"""Questions about handles: where they stand, and what led to a state or followed from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from store_kit import memory_url, open_store
from tables_kit import h

from eventstore import EventStore, HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack
from projections import Tables, open_tables
from projections.handle_answers import HANDLE_TABLES, TableHandles, current_handles, handle_lineage

NAMES = {h(name): name for name in "abcdefg"}


def advanced(child: str, *parents: str, full: str = "db") -> HandleAdvanced:
    """Return an advance from parents to a child."""
    return HandleAdvanced(handle_hash=h(child), handle_name=full, parents=tuple(map(h, parents)))


@pytest.fixture
def store() -> Iterator[EventStore]:
    """A handle `db` that was forked and merged, and rolled back in one branch; and a handle `fs`."""
    with open_store(memory_url()) as store:
        store.append(
            HandleRecorded(handle_hash=h("a"), handle_name="db", value_hash=h("a")),
            HandleForked(handle_hash=h("b"), handle_name="db", handle_key="1", parents=(h("a"),)),
            HandleForked(handle_hash=h("c"), handle_name="db", handle_key="2", parents=(h("a"),)),
            advanced("d", "b", "c"),
            advanced("e", "d"),
            HandleRolledBack(handle_hash=h("d"), handle_name="db"),
            advanced("f", full="fs"),
        )
        store.seal()
        yield store


@pytest.fixture
def tables(store: EventStore) -> Iterator[Tables]:
    """Its tables."""
    with open_tables(store, HANDLE_TABLES, fresh="sealed") as tables:
        yield tables


def named(frame: Any) -> str:
    """Return the names of states, in their order."""
    return "".join(NAMES[one] for one in frame["handle_hash"])


def test_a_handle_stands_where_no_valid_state_follows(store: EventStore, tables: Tables) -> None:
    """States that were rolled back do not count; each name has its own; a branch has several ends."""
    assert set(named(current_handles(tables).collect())) == {"d", "f"}
    assert named(current_handles(tables, ["fs"]).collect()) == "f"
    assert current_handles(tables, ["db"]).collect_schema() == tables["handles"].collect_schema()
    store.append(HandleRolledBack(handle_hash=h("b"), handle_name="db"))
    with open_tables(store, HANDLE_TABLES, fresh="tail") as later:
        assert set(named(current_handles(later, ["db"]).collect())) == {"b", "c"}


def test_a_state_that_leads_to_itself_is_still_where_the_handle_stands(store: EventStore) -> None:
    """As after a merge of a state with itself."""
    store.append(advanced("g", "g", full="own"))
    with open_tables(store, HANDLE_TABLES, fresh="tail") as tables:
        assert named(current_handles(tables, ["own"]).collect()) == "g"
        assert named(handle_lineage(tables, h("g"))) == "g"


def test_lineage_goes_up_and_down(tables: Tables) -> None:
    """Every state above or below with its least distance, valid or not, whatever joins it."""
    above = handle_lineage(tables, h("e"))
    assert list(zip(named(above), above["distance"], strict=True)) == [
        ("e", 0),
        ("d", 1),
        ("b", 2),
        ("c", 2),
        ("a", 3),
    ]
    assert above["is_valid"].to_list() == [False, True, True, True, True]
    assert named(handle_lineage(tables, h("b"), way="below")) == "bde"
    assert named(handle_lineage(tables, h("f"))) == "f"


def test_an_unknown_state_has_no_lineage_and_is_not_valid(tables: Tables) -> None:
    """Nothing is known of it: no rows, not valid, not known."""
    assert handle_lineage(tables, h("x")).is_empty()
    answers = TableHandles(tables)
    assert (answers.is_valid_handle(h("x")), answers.knows_handle(h("x"))) == (False, False)
    assert (answers.is_valid_handle(h("d")), answers.knows_handle(h("d"))) == (True, True)
    assert (answers.is_valid_handle(h("e")), answers.knows_handle(h("e"))) == (False, True)
