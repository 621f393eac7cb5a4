"""docs/tables.md and the recipes say the same."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from projections import (
    BUILT_IN_TABLES,
    Column,
    KeyedProjection,
    ProjectionRegistry,
    describe,
)

PAGE = Path(__file__).parents[3] / "docs" / "tables.md"


def test_the_page_is_made_from_the_recipes() -> None:
    """The page equals what `projections.describe()` gives today."""
    assert PAGE.read_text(encoding="utf-8") == describe(), "write it anew from projections.describe()"


def test_every_column_is_on_the_page() -> None:
    """Each table has its section, with a line for each column that says what it means."""
    page = describe()
    for one in BUILT_IN_TABLES:
        section = page.partition(f"\n## {one.name}\n")[2].partition("\n## ")[0]
        for name, column in one.columns.items():
            assert column.doc
            assert f"| `{name}` | " in section


def test_a_users_table_joins_the_page() -> None:
    """A registry with a user's own projection describes that one last."""
    own = KeyedProjection(
        name="weights",
        version=4,
        doc="One sample.",
        kinds=("lab.weighed",),
        inputs=(),
        key=("sample",),
        columns={"sample": Column(pl.Datetime("ms"), "when")},
        rows=lambda events: events,
    )
    section = describe(ProjectionRegistry([own])).partition("\n## weights\n")[2]
    assert "One sample. Version 4." in section
    assert "| `sample` | Datetime(ms, no zone) | when |" in section
