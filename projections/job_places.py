"""Which job of one execution stands where a job of another stood: two call trees, walked side by side.

Below a pair of jobs, the calls of one task are paired first where their arguments are equal, then in the
order in which they began. Whatever hangs below a job without a counterpart has none either.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

__all__ = ["place_jobs"]

Numbers = list[int]
"""Jobs of one execution, by row."""
Step = tuple[int | None, int | None, str]
"""A job of the first, one of the second (None: no counterpart), and their step of the path."""

_ALONE = ("job_id", "task_hash", "args_hash", "value_hash", "status", "cached")


def place_jobs(first: pl.DataFrame, second: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Match the jobs of two executions.

    Parameters
    ----------
    first, second
        Jobs with `job_id`, `parent_id`, `position`, `task_name`, `task_hash`, `args_hash`, `value_hash`,
        `status` and `cached`, and any others. Root jobs are paired whatever they are called; jobs whose
        caller is not among them hang below nothing.

    Returns
    -------
    Pairs, then what is left of the first and of the second, each depth first. All begin with `path` (names
    of tasks from the root, with a number from 1 on for further calls of the same one) and `task_name`; pairs
    have the other columns with ``_first`` and ``_second`` behind their names, what is left has
    `under_cached`: whether a job above it is paired with one whose result came from a cache.
    """
    one, two = _Tree(first), _Tree(second)
    paths: list[str] = []
    rows_one: Numbers = []
    rows_two: Numbers = []
    only_one, only_two = _Left(), _Left()
    for path, number_one, number_two, under_cached in _walk(one, two):
        if number_one is not None and number_two is not None:
            paths.append(path)
            rows_one.append(number_one)
            rows_two.append(number_two)
        elif number_one is not None:
            only_one.add(path, number_one, under_cached)
        elif number_two is not None:
            only_two.add(path, number_two, under_cached)
    mine, theirs = one.jobs[rows_one], two.jobs[rows_two]
    pairs = [
        pl.DataFrame({"path": paths}, schema={"path": pl.String}),
        mine.select("task_name"),
        mine.select(pl.exclude("task_name").name.suffix("_first")),
        theirs.select(pl.exclude("task_name").name.suffix("_second")),
    ]
    return pl.concat(pairs, how="horizontal"), only_one.frame(one.jobs), only_two.frame(two.jobs)


@dataclass(slots=True)
class _Left:
    """Jobs without a counterpart, by column."""

    paths: list[str] = field(default_factory=list)
    rows: Numbers = field(default_factory=list)
    under_cached: list[bool] = field(default_factory=list)

    def add(self, path: str, row: int, under_cached: bool) -> None:
        self.paths.append(path)
        self.rows.append(row)
        self.under_cached.append(under_cached)

    def frame(self, jobs: pl.DataFrame) -> pl.DataFrame:
        found = jobs[self.rows].select("task_name", *_ALONE)
        found = found.with_columns(under_cached=pl.Series(self.under_cached, dtype=pl.Boolean))
        return found.insert_column(0, pl.Series("path", self.paths, pl.String))


class _Tree:
    """The jobs of one execution in order of their first events, and who called whom, by row."""

    def __init__(self, jobs: pl.DataFrame) -> None:
        self.jobs = jobs.sort("position", "job_id")
        self.ids: list[str] = self.jobs["job_id"].to_list()
        self.names: list[str] = self.jobs["task_name"].to_list()
        self.args: list[str | None] = self.jobs["args_hash"].to_list()
        self.cached: list[bool | None] = self.jobs["cached"].to_list()
        self.placed = bytearray(len(self.ids))
        self.roots: Numbers = []
        self.orphans: Numbers = []
        self._below: dict[str, Numbers] = defaultdict(list)
        known = set(self.ids)
        for number, parent in enumerate(self.jobs["parent_id"].to_list()):
            if parent is None:
                self.roots.append(number)
            elif parent in known:
                self._below[parent].append(number)
            else:
                self.orphans.append(number)

    def below(self, number: int | None) -> Numbers:
        """The jobs that a job called and that have no place yet, in order."""
        return [] if number is None else self.open(self._below.get(self.ids[number], ()))

    def open(self, numbers: Sequence[int]) -> Numbers:
        """Those of some jobs that have no place yet."""
        return [number for number in numbers if not self.placed[number]]

    def place(self, number: int | None) -> None:
        """Note that a job has its place."""
        if number is not None:
            self.placed[number] = 1


def _walk(one: _Tree, two: _Tree) -> Iterator[tuple[str, int | None, int | None, bool]]:
    """Yield path, the job or jobs there, and whether that is under a cached one; every job once."""
    for top in _tops(one, two):
        waiting = [("", step, False) for step in reversed(top)]
        while waiting:
            above, (first, second, step), under_cached = waiting.pop()
            path = f"{above}/{step}" if above else step
            yield path, first, second, under_cached
            if first is not None and second is not None:
                under_cached = bool(one.cached[first]) or bool(two.cached[second])
            below = _steps(one, two, one.below(first), two.below(second))
            waiting += [(path, step, under_cached) for step in reversed(below)]


def _tops(one: _Tree, two: _Tree) -> Iterator[list[Step]]:
    """Yield what hangs below nothing, each after all below the one before has its place."""
    yield _steps(one, two, one.roots, two.roots, named=False)
    yield _steps(one, two, one.orphans, two.orphans)
    # Jobs that call each other in a ring, which no engine records.
    yield _steps(one, two, one.open(range(len(one.ids))), two.open(range(len(two.ids))))


def _steps(one: _Tree, two: _Tree, first: Numbers, second: Numbers, *, named: bool = True) -> list[Step]:
    """Match jobs that were called from one place; those without a counterpart come where they began."""
    found: list[Step] = []
    groups: dict[str, tuple[Numbers, Numbers]] = defaultdict(lambda: ([], []))
    for number in first:
        groups[one.names[number] if named else ""][0].append(number)
    for number in second:
        groups[two.names[number] if named else ""][1].append(number)
    for mine, theirs in groups.values():
        partner = _partners(one, two, mine, theirs)
        taken = set(partner.values())
        ordinals = {number: place for place, number in enumerate(mine)}
        found += [(number, partner.get(number), _step(one, number, ordinals[number])) for number in mine]
        found += [
            (None, number, _step(two, number, place))
            for place, number in enumerate(theirs)
            if number not in taken
        ]
    for step in found:
        one.place(step[0])
        two.place(step[1])
    return found


def _step(tree: _Tree, number: int, ordinal: int) -> str:
    return f"{tree.names[number]}[{ordinal}]" if ordinal else tree.names[number]


def _partners(one: _Tree, two: _Tree, mine: Numbers, theirs: Numbers) -> dict[int, int]:
    """Pair calls of one task: those with equal arguments, then what is left, both in order."""
    by_args: dict[str, deque[int]] = defaultdict(deque)
    for number in theirs:
        if (args := two.args[number]) is not None:
            by_args[args].append(number)
    partner = {}
    for number in mine:
        args = one.args[number]
        if args is not None and by_args.get(args):
            partner[number] = by_args[args].popleft()
    taken = set(partner.values())
    rest = zip(
        [number for number in mine if number not in partner],
        [number for number in theirs if number not in taken],
        strict=False,
    )
    return partner | dict(rest)
