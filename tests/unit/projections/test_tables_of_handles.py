"""The tables of handles, from their events by hand: what is valid, and which state follows which."""

from __future__ import annotations

from tables_kit import h, rows_of

from eventstore import HandleAdvanced, HandleForked, HandleRecorded, HandleRolledBack
from projections.handles import HANDLE_EDGES, HANDLES


def recorded(name: str, full: str = "db") -> HandleRecorded:
    """Return the record of a state."""
    return HandleRecorded(handle_hash=h(name), handle_name=full, value_hash=h(f"value of {name}"))


def advanced(child: str, *parents: str, full: str = "db") -> HandleAdvanced:
    """Return an advance from parents to a child."""
    return HandleAdvanced(handle_hash=h(child), handle_name=full, parents=tuple(h(one) for one in parents))


def forked(child: str, parent: str, key: str = "1") -> HandleForked:
    """Return a fork of a parent."""
    return HandleForked(handle_hash=h(child), handle_name="db", handle_key=key, parents=(h(parent),))


def rolled_back(name: str, full: str = "db") -> HandleRolledBack:
    """Return a rollback to a state."""
    return HandleRolledBack(handle_hash=h(name), handle_name=full)


def valid(*events: HandleRecorded | HandleAdvanced | HandleForked | HandleRolledBack) -> set[str]:
    """Return which of the states a to g are valid."""
    names = {h(name): name for name in "abcdefg"}
    return {names[row["handle_hash"]] for row in rows_of(HANDLES, *events) if row["is_valid"]}


def test_a_handle_gathers_what_events_say_of_it() -> None:
    """Name, key and value come from whichever event says them first; the row stands at the first mention."""
    assert rows_of(HANDLES, forked("b", "a", "k"), recorded("b")) == sorted(
        [
            {
                "handle_hash": h("a"),
                "position": 0,
                "handle_name": "db",
                "handle_key": None,
                "value_hash": None,
                "is_valid": True,
            },
            {
                "handle_hash": h("b"),
                "position": 0,
                "handle_name": "db",
                "handle_key": "k",
                "value_hash": h("value of b"),
                "is_valid": True,
            },
        ],
        key=lambda row: row["handle_hash"],
    )


def test_a_rollback_invalidates_everything_below_and_not_the_state_itself() -> None:
    """From a -> b -> c with a fork b -> d, rolling back to b leaves a and b."""
    chain = [recorded("a"), advanced("b", "a"), advanced("c", "b"), forked("d", "b")]
    assert valid(*chain) == set("abcd")
    assert valid(*chain, rolled_back("b")) == {"a", "b"}
    assert valid(*chain, rolled_back("a")) == {"a"}


def test_advancing_again_makes_what_it_mentions_valid() -> None:
    """After a rollback, a call that comes to the same child makes parent and child valid, and no others."""
    chain = [advanced("b", "a"), advanced("c", "b"), rolled_back("a")]
    assert valid(*chain, advanced("b", "a")) == {"a", "b"}
    assert valid(*chain, recorded("c")) == {"a", "c"}


def test_a_rollback_does_not_pass_an_invalid_state() -> None:
    """Only edges out of valid states are followed: c stays valid below the invalid b."""
    chain = [advanced("b", "a"), rolled_back("a"), advanced("d", "c"), advanced("c")]
    assert valid(*chain, rolled_back("b")) == {"a", "c", "d"}
    behind = [advanced("c", "b"), advanced("b", "a"), rolled_back("a"), recorded("c"), rolled_back("a")]
    assert valid(*behind) == {"a", "c"}


def test_a_rollback_of_an_invalid_state_does_nothing() -> None:
    """Below an invalid state nothing changes, even if a child was made valid again."""
    chain = [advanced("b", "a"), advanced("c", "b"), rolled_back("a"), recorded("c")]
    assert valid(*chain, rolled_back("b")) == {"a", "c"}


def test_a_rollback_of_an_unknown_state_does_nothing() -> None:
    """An unknown state gets no row and changes none."""
    assert len(rows_of(HANDLES, recorded("a"), rolled_back("g"))) == 1


def test_only_edges_of_the_same_full_name_are_followed() -> None:
    """An edge into another name's state invalidates that state and goes no further."""
    chain = [
        advanced("b", "a"),
        advanced("c", full="other"),
        advanced("c", "b"),
        advanced("d", "c", full="other"),
    ]
    assert valid(*chain, rolled_back("a")) == {"a", "d"}
    assert valid(*chain, rolled_back("a", full="other")) == set("abcd")


def test_a_circle_ends_and_spares_its_start() -> None:
    """States that lead back to themselves are each visited once; the start keeps its flag."""
    assert valid(advanced("b", "a"), advanced("a", "b"), rolled_back("a")) == {"a"}


def test_edges_stand_once_with_their_first_kind() -> None:
    """A pair that is forked and then advanced is one edge, a fork; a merge has an edge for each parent."""
    rows = rows_of(HANDLE_EDGES, forked("b", "a"), advanced("b", "a"), advanced("d", "b", "c"))
    found = {(row["parent_hash"], row["child_hash"]): (row["kind"], row["position"]) for row in rows}
    assert found == {
        (h("a"), h("b")): ("fork", 0),
        (h("b"), h("d")): ("advance", 2),
        (h("c"), h("d")): ("advance", 2),
    }
    assert {row["handle_name"] for row in rows} == {"db"}
