"""What is mentioned comes before its mention, whatever the graph."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from eventstore.redun.importing.order import mentioned_first

graphs = st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), max_size=12)


def _order(graph: dict[str, list[str]], keys: Sequence[str], known: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    asked: list[str] = []

    def mentions(some: Sequence[str]) -> dict[str, list[str]]:
        asked.extend(some)
        return {key: graph.get(key, []) for key in some}

    order = mentioned_first(keys, mentions=mentions, is_known=known.__contains__)
    assert len(asked) == len(set(asked)), "something was asked for twice"
    return order


@given(graphs, st.sets(st.integers(0, 12)), st.lists(st.integers(0, 12)))
def test_each_comes_once_and_after_all_that_it_mentions(
    above: dict[int, list[int]], known: set[int], keys: list[int]
) -> None:
    """In a graph without circles; known ones are left out, and what only they mention."""
    graph = {str(key): [str(other) for other in others if other < key] for key, others in above.items()}
    done = {str(key) for key in known}
    begin = [str(key) for key in keys if key not in known]
    order = _order(graph, begin, done)
    assert len(order) == len(set(order))
    assert set(begin) <= set(order)
    assert not done & set(order)
    for place, key in enumerate(order):
        assert set(graph.get(key, [])) <= set(order[:place]) | done


@given(graphs, st.lists(st.integers(0, 12)))
def test_circles_end(any_graph: dict[int, list[int]], keys: list[int]) -> None:
    """No history has them, but a database may hold anything: all are there, once."""
    graph = {str(key): [str(other) for other in others] for key, others in any_graph.items()}
    order = _order(graph, [str(key) for key in keys])
    assert len(order) == len(set(order))
    assert {str(key) for key in keys} <= set(order)


def test_a_chain_may_be_longer_than_the_stack() -> None:
    """Depth costs no recursion."""
    graph = {f"{number}": [f"{number - 1}"] for number in range(1, 20_000)}
    assert _order(graph, ["19999"]) == [f"{number}" for number in range(20_000)]
