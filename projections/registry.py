"""Which projections there are: the built-in tables and the user's own, by name.

A new registry is empty; `default_projections` in `projections.catalog` knows the built-in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from eventstore import NotFoundError
from projections.keyed import KeyedProjection, Rows
from projections.projection import Column, Finish, Projection

__all__ = ["ProjectionRegistry"]


class ProjectionRegistry:
    """Projections by name; iterating gives them sorted by name."""

    def __init__(self, projections: Iterable[Projection] = ()) -> None:
        self._projections: dict[str, Projection] = {}
        for projection in projections:
            self.register(projection)

    def __iter__(self) -> Iterator[Projection]:
        return iter([self._projections[name] for name in self.names])

    def __contains__(self, name: object) -> bool:
        return name in self._projections

    def __len__(self) -> int:
        return len(self._projections)

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._projections)

    def register(self, projection: Projection, *, replace: bool = False) -> Projection:
        """Make a projection known; the same one again is fine.

        Parameters
        ----------
        replace
            Take the place of another recipe of this name, as when a notebook's cell runs again.

        Raises
        ------
        ProjectionError
            Another recipe has this name (code ``projection_taken``).
        """
        known = self._projections.get(projection.name)
        if known is None or replace:
            self._projections[projection.name] = projection
        elif known is not projection:
            raise projection.error(
                "projection_taken",
                "a name of its own",
                f"another recipe under this name, version {known.version} over {', '.join(known.kinds)}",
                "choose another name, or say replace=True",
            )
        return projection

    def get(self, name: str) -> Projection:
        """Return the projection of this name; raises NotFoundError (code ``unknown_projection``)."""
        found = self._projections.get(name)
        if found is None:
            raise NotFoundError(
                f"a known table was expected ({', '.join(self.names) or 'none is registered'}), "
                f"found {name!r}; register its projection in this process first",
                code="unknown_projection",
                projection=name,
            )
        return found

    def select(self, names: Iterable[str] | None = None) -> list[Projection]:
        """Return the projections of these names, each once, sorted; None means all."""
        return list(self) if names is None else [self.get(name) for name in sorted(set(names))]

    def projection(
        self,
        name: str,
        *,
        version: int = 1,
        doc: str = "",
        kinds: Iterable[str],
        inputs: Iterable[str],
        key: Iterable[str],
        columns: Mapping[str, Column],
        finish: Finish | None = None,
        replace: bool = False,
    ) -> Callable[[Rows], KeyedProjection]:
        """Register the decorated function from events to rows; see `KeyedProjection` and `register`.

        Returns
        -------
        A decorator that gives the projection; its ``doc`` is the function's docstring unless it is given.

        Raises
        ------
        ProjectionError
            The recipe is malformed (``bad_projection``) or its name is taken (``projection_taken``).
        """

        def decorate(rows: Rows) -> KeyedProjection:
            made = KeyedProjection(
                name=name,
                version=version,
                doc=doc or (rows.__doc__ or "").strip().partition("\n")[0],
                # The recipe makes tuples of these, and refuses one text, which here would become letters.
                kinds=cast("tuple[str, ...]", kinds),
                inputs=cast("tuple[str, ...]", inputs),
                key=cast("tuple[str, ...]", key),
                columns=columns,
                rows=rows,
                finish=finish,
            )
            self.register(made, replace=replace)
            return made

        return decorate
