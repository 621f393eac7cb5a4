"""Merging of runs: which are due, and how several become one, part of the keys by part of the keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eventstore.errors import StateError
from eventstore.index.records import Keep, Records
from eventstore.index.run_file import Run
from eventstore.index.run_writer import write_run

__all__ = ["TIER_RATIO", "due", "merge_runs"]

TIER_RATIO = 4
"""A run has at least this many times the bytes of all newer ones together; more means fewer runs, and more
rewriting."""


def due(sizes: Sequence[int]) -> int:
    """Return the number of the first run, oldest first, that newer ones have come too close to.

    It and all newer ones are to become one. Without such a run the answer is ``len(sizes)``.
    """
    newer = sum(sizes)
    for number, size in enumerate(sizes[:-1]):
        newer -= size
        if size < TIER_RATIO * newer:
            return number
    return len(sizes)


def merge_runs(
    path: Path,
    runs: Sequence[Run],
    *,
    keep: Mapping[int, Keep],
    facts: Mapping[str, Any],
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Write runs, oldest first, as one under a new name; memory is bounded by a part of the keys.

    Parameters
    ----------
    keep
        What counts of several records with one key, by family.
    facts
        What the header says besides.
    stopped
        Asked between parts; True gives up.

    Returns
    -------
    The number of records written.

    Raises
    ------
    IndexDamagedError
        What would be merged is damaged.
    StateError
        It was stopped (code ``closed``).
    StorageError
        The disk refused (codes ``disk_full``, ``index_refused``). In all these cases nothing is left behind.
    """

    def source(low: int, high: int) -> Records:
        if stopped():
            raise StateError(
                f"the index of {path.parent} was closed, and a merge of its runs given up; open it again",
                code="closed",
            )
        parts = [run.between(low, high) for run in runs]
        return Records.join(parts).settled(keep).between(low, high)

    return write_run(
        path,
        source,
        count=sum(run.records for run in runs),
        size_bytes=sum(run.size_bytes for run in runs),
        facts=facts,
    )
