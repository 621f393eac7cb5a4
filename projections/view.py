"""One table as it is read: the finished rows of its first run, joined with what newer events say.

Newer events are those of later runs and those that were folded for this reader alone. Whatever they speak of
is finished anew from all states; the rest is read from the first run's files as it is, pruned by polars.

A table that another version of the recipe made is read as what it says it is: see `FinishedTable`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import polars as pl

from eventstore.layout import run_folder
from projections.digest import ContentDigest
from projections.files import check_file, read_source
from projections.joined import JoinedProjection
from projections.merge import merge_sorted, sorted_chunks
from projections.projection import Column, Fold, Projection
from projections.run import CHUNK_ROWS, Run, read_chunks
from projections.snapshot import Snapshot

__all__ = ["FinishedTable", "View", "whole_state"]


@dataclass(frozen=True, slots=True)
class View:
    """A table at a position.

    Parameters
    ----------
    recipe
        What made it; of a table that another version made, a `FinishedTable`.
    parts
        Runs in order of their positions, each with the snapshot that has its files; the first run is
        finished. Empty where nothing was ever built.
    newest
        The state that events behind the runs gave (of a general recipe: the whole state), in memory.
    version
        The version of `recipe`: an older one until the present one is built.
    """

    recipe: Projection
    position: int
    parts: tuple[tuple[Snapshot, Run], ...]
    newest: pl.DataFrame | None
    version: int

    def frame(self) -> pl.LazyFrame:
        """Return the table, lazily; rows are in no promised order.

        Raises
        ------
        ProjectionError
            A file is missing or damaged.
        """
        if not isinstance(self.recipe, JoinedProjection) or not self.parts:
            return self._whole(self.recipe)
        table = self._scan_table()
        newer = self._newer(self.recipe)
        if not newer:
            return table
        by = list(self.recipe.together)
        keys = pl.concat([one.select(by) for one in newer]).unique()
        before = self._scan_state().join(keys, on=by, how="semi")
        touched = self._finished(self.recipe, pl.concat([before, *newer]))
        return pl.concat([table.join(keys, on=by, how="anti"), touched])

    def select(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Return the finished rows whose first key columns are those of `keys`, a frame of such columns."""
        by = keys.columns
        if not isinstance(self.recipe, JoinedProjection):
            return self.frame().join(keys.lazy(), on=by, how="semi").collect()
        low, high = (keys[by[0]].min(), keys[by[0]].max())
        near = pl.col(by[0]).is_between(pl.lit(low), pl.lit(high))
        states = [self._scan_state()] if self.parts else [self.recipe.state_schema.to_frame().lazy()]
        # Rows that are reduced or finished together are chosen together, whatever else the keys say.
        whole = by[: len(self.recipe.together)]
        found = [
            one.filter(near).join(keys.lazy(), on=whole, how="semi")
            for one in (*states, *self._newer(self.recipe))
        ]
        table = self._finished(self.recipe, pl.concat(found))
        return (table if whole == by else table.join(keys.lazy(), on=by, how="semi")).collect()

    def _whole(self, recipe: Projection) -> pl.LazyFrame:
        if self.newest is None:
            return self._scan_table() if self.parts else recipe.schema.to_frame().lazy()
        return recipe.table(self.newest).lazy()

    def _scan_table(self) -> pl.LazyFrame:
        snapshot, run = self.parts[0]
        return snapshot.scan(run, "table")

    def _scan_state(self) -> pl.LazyFrame:
        snapshot, run = self.parts[0]
        return snapshot.scan(run, "state")

    def _newer(self, recipe: JoinedProjection) -> list[pl.LazyFrame]:
        found = [snapshot.scan(run, "state") for snapshot, run in self.parts[1:] if run.rows]
        if self.newest is not None and self.newest.height:
            found.append(self.newest.lazy())
        return [one.select(list(recipe.state_columns)) for one in found]

    @staticmethod
    def _finished(recipe: JoinedProjection, states: pl.LazyFrame) -> pl.LazyFrame:
        state = recipe.reduced(states)
        table = state if recipe.finish is None else recipe.finish(state)
        known = pl.all_horizontal(pl.col(name).is_not_null() for name in recipe.key)
        return table.select(list(recipe.schema)).filter(known)

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the table in key order, in bounded memory; each batch is what `Projection.table` gives."""
        recipe = self.recipe
        if not isinstance(recipe, JoinedProjection) or (not self.parts and self.newest is None):
            yield self._whole(recipe).collect().sort(recipe.key)
            return
        for state in self.states(recipe):
            yield recipe.table(state)

    def states(self, recipe: JoinedProjection) -> Iterator[pl.DataFrame]:
        """Yield the joined state in key order, in bounded memory."""
        sequences = [
            read_chunks(snapshot.storage, recipe, run, files)
            for snapshot, run in self.parts
            for files in run.slices("state")
        ]
        newest = [sorted_chunks(self.newest, CHUNK_ROWS)] if self.newest is not None else []
        yield from merge_sorted(
            [*sequences, *newest], key=recipe.group, together=recipe.together, reduce=recipe.reduce_sorted
        )

    def content(self) -> tuple[int, str]:
        """Return the number of rows and the content digest of the table, in bounded memory."""
        digest = ContentDigest(self.recipe.schema, self.recipe.key)
        for batch in self.batches():
            digest.add(batch)
        return digest.rows, digest.hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class FinishedTable(Projection):
    """A table whose recipe is not here: it has a version, a key and columns of its own, and no state.

    So it is read as the files of its first run, which are finished. Kinds and inputs are those of the recipe
    that takes its place.
    """

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Return what the manifest of a snapshot says, with types from the first of its files.

        Raises
        ------
        ProjectionError
            That file is missing or damaged.
        """
        manifest, recipe, storage = snapshot.manifest, snapshot.recipe, snapshot.storage
        run = manifest.runs[0]
        file = run.of_role("table")[0]
        path = f"{run_folder(manifest.projection, manifest.version, run.name)}/{file.name}"
        raw = check_file(storage, recipe, path, sha256=file.sha256, size_bytes=file.size_bytes)
        types = pl.read_parquet_schema(read_source(storage, path, raw))
        return cls(
            name=manifest.projection,
            version=manifest.version,
            doc=recipe.doc,
            kinds=recipe.kinds,
            inputs=recipe.inputs,
            key=manifest.key,
            columns={name: Column(types[name], "") for name, _ in manifest.columns},
        )

    def begin(self, state: pl.DataFrame | None = None) -> Fold:  # noqa: ARG002, D102 - see Projection
        raise self.error(
            "recipe_not_known",
            "the recipe of this version, to fold with",
            "its finished table alone",
            f"run `eventstore rebuild {self.name}`, which makes the present version",
        )


def whole_state(recipe: Projection, parts: tuple[tuple[Snapshot, Run], ...]) -> pl.DataFrame:
    """Return the state that runs say, in memory; a recipe whose states cannot be joined has but one run.

    Raises
    ------
    ProjectionError
        A file is missing or damaged.
    """
    if isinstance(recipe, JoinedProjection):
        batches = View(recipe, parts[-1][1].until, parts, None, recipe.version).states(recipe)
    else:
        [(snapshot, run)] = parts
        batches = read_chunks(snapshot.storage, recipe, run, run.of_role("state"))
    return pl.concat([recipe.state_schema.to_frame(), *batches])
