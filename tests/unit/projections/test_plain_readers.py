"""Tables without this package: DuckDB reads a whole table by its path, with the SQL that the docs give."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from store_kit import open_store
from tables_kit import jobs

from projections import BUILT_IN_TABLES, open_tables, rebuild, refresh

PAGE = Path(__file__).parents[3] / "docs" / "format.md"

AGAIN = """
import sys
from eventstore import EventStore
from projections import rebuild
with EventStore.open(sys.argv[1], state_dir=sys.argv[2]) as store:
    for name, made in rebuild(store).items():
        print(name, made.digest)
"""


def test_duckdb_reads_a_whole_table_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest manifest names one run: the files below its `table` folder are the table, as documented."""
    monkeypatch.setattr("projections.run._FILE_ROWS", 3)
    root = tmp_path / "store"
    with open_store(root) as store:
        store.append(*jobs(0, 8))
        store.seal()
        refresh(store)
        store.append(*jobs(8, 10))
        store.seal()
        refresh(store)
        refresh(store, merge="all")
        tables = open_tables(store)
        found = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
        [find, read] = [sql for sql in found if "projections/" in sql]
        with duckdb.connect() as database:
            for one in BUILT_IN_TABLES:
                asked = find.replace("projections/jobs", f"{root}/projections/{one.name}")
                [(position, runs, run, columns)] = database.sql(asked).fetchall()
                assert (position, runs) == (10, 1)
                path = f"{root}/projections/{one.name}/v1/runs/{run}/table/*.parquet"
                relation = database.sql(read.replace("projections/jobs/v1/runs/<run>/table/*.parquet", path))
                assert [name for name, _ in columns] == relation.columns == list(one.schema)
                rows = relation.pl().cast(one.schema).sort(one.key)  # type: ignore[arg-type]
                assert rows.equals(tables[one.name].collect().sort(one.key)), one.name
        assert tables["jobs"].collect().height == 10


def test_a_rebuild_in_another_process_gives_the_same_tables(tmp_path: Path) -> None:
    """By content digest: nothing of a process, such as its hash seed or the time, is in a table."""
    root = tmp_path / "store"
    with open_store(root) as store:
        store.append(*jobs(0, 20))
        store.seal()
        digests = {name: made.digest for name, made in rebuild(store).items()}
    command = [sys.executable, "-c", AGAIN, str(root), str(tmp_path / "elsewhere")]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert dict(line.split() for line in said.splitlines()) == digests
