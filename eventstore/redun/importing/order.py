"""What others mention comes before them: children before parents in a graph that is read piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["mentioned_first"]


def mentioned_first(
    keys: Iterable[str],
    *,
    mentions: Callable[[Sequence[str]], Mapping[str, Sequence[str]]],
    is_known: Callable[[str], bool],
) -> list[str]:
    """Return `keys` and what they mention at any depth, each once and after all that it mentions.

    What is known is left out, and so is what only known ones mention. Only the hashes of these, and who
    mentions whom, are held in memory. In a circle, which no honest history has, some order is chosen.

    Parameters
    ----------
    keys
        Those to begin with; none of them is known.
    mentions
        Returns for each of some keys those that it mentions.
    is_known
        Whether a key needs no place any more.
    """
    graph: dict[str, Sequence[str]] = {}
    begin = list(dict.fromkeys(keys))
    new = begin
    while new:
        graph.update(mentions(new))
        met = dict.fromkeys(other for key in new for other in graph[key])
        new = [other for other in met if other not in graph and not is_known(other)]
    order: dict[str, None] = {}
    entered: set[str] = set()
    for key in begin:
        # Depth first without recursion: chains are as long as histories are.
        path: list[tuple[str, Iterator[str]]] = []
        following: str | None = key
        while following is not None or path:
            if following is not None and following in graph and following not in entered:
                entered.add(following)
                path.append((following, iter(graph[following])))
            if not path:
                break
            here, others = path[-1]
            following = next(others, None)
            if following is None:
                order[here] = None
                path.pop()
    return list(order)
