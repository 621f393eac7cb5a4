"""Data sets in shards: written, read by three libraries, hashed by their names, on disk and elsewhere."""

from __future__ import annotations

import pickle

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from eventstore.errors import FileMissingError, InvalidEventError
from eventstore.file import Dir, File, ShardedDataset
from eventstore.value import default_types

FRAME = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "\u00e9", None], "x": [0.5, 1.5, 2.5]})


@pytest.mark.parametrize("format_name", ["parquet", "csv"])
@pytest.mark.parametrize("made_of", [lambda f: f, lambda f: f.to_arrow(), lambda f: f.to_pandas()])
def test_what_was_written_is_read(tmp_path, format_name, made_of):
    """A table of each library comes back by each library, in its order."""
    made = ShardedDataset.from_data(made_of(FRAME), f"{tmp_path}/set/", format_name, max_rows=2)
    assert len(made.filenames) == 2
    assert_frame_equal(made.load_polars(), FRAME)
    assert made.load_arrow().to_pylist() == pa.Table.from_pylist(made.load_polars().to_dicts()).to_pylist()
    assert made.load_pandas()["id"].tolist() == [1, 2, 3]
    assert [len(shard) for shard in made.load_pandas_shards()] == [2, 1]
    assert made.load_polars(max_shards=1)["id"].to_list() == [1, 2]


def test_shards_lie_anywhere(place):
    """Every place has data sets, whether or not the readers know it."""
    made = ShardedDataset.from_data(FRAME, f"{place}/set", max_rows=2)
    assert_frame_equal(made.load_polars(), FRAME)
    assert made.load_arrow().num_rows == len(made.load_pandas()) == 3


def test_rows_are_put_into_folders_by_their_keys(tmp_path):
    """Each combination of values has a folder of its own, whose shards leave the columns out."""
    table = pl.DataFrame({"day": ["1/2", None, "1/2"], "kind": [1, 1, 2], "x": [1, 2, 3]})
    made = ShardedDataset.from_data(table, f"{tmp_path}/set", partition_keys=["day", "kind"])
    folders = sorted(name.removeprefix(f"{tmp_path}/set/").rpartition("/")[0] for name in made.filenames)
    assert folders == ["day=1%2F2/kind=1", "day=1%2F2/kind=2", "day=__HIVE_DEFAULT_PARTITION__/kind=1"]
    assert made.load_polars().columns == ["x"]
    assert sorted(made.load_polars()["x"].to_list()) == [1, 2, 3]
    with pytest.raises(InvalidEventError) as caught:
        ShardedDataset.from_data(table, tmp_path, partition_keys=["none"])
    assert caught.value.code == "bad_partition"


def test_lines_of_json_and_orc_are_read(tmp_path):
    """Formats that others write are read by all three."""
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    File(tmp_path / "j" / "1.json").write('{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n')
    pa_orc = pytest.importorskip("pyarrow.orc")
    (tmp_path / "o").mkdir()
    pa_orc.write_table(pa.Table.from_pylist(rows), f"{tmp_path}/o/1.orc")
    for name, format_name in (("j", "json"), ("o", "orc")):
        made = ShardedDataset(tmp_path / name, format_name)
        assert made.load_polars().to_dicts() == made.load_arrow().to_pylist() == rows
        assert made.load_pandas().to_dict("records") == rows


def test_the_hash_is_that_of_the_shards_names(tmp_path):
    """A shard that comes makes it invalid; one that is rewritten does not; it is pickled with its names."""
    made = ShardedDataset.from_data(FRAME, f"{tmp_path}/set")
    again = pickle.loads(pickle.dumps(made))
    assert (again.hash, again.filenames, again.shard_format) == (made.hash, made.filenames, "parquet")
    File(made.filenames[0]).write(b"other")
    assert again.is_valid()
    ShardedDataset.from_data(FRAME, f"{tmp_path}/set")
    assert not again.is_valid()
    assert len(again.postprocess({}).filenames) == 2
    assert again.is_valid()
    assert [value.file_path for value in again.iter_subvalues()] == again.filenames
    assert default_types.describe(again).type_name == "redun.ShardedS3Dataset"


def test_a_data_set_of_files(tmp_path):
    """Files in one folder are a data set, if they agree in ending and nobody else is there."""
    folder = Dir(tmp_path / "set")
    files = [folder.file(name).write(b"x") for name in ("a/1.csv", "b/2.csv")]
    made = ShardedDataset.from_files(files)
    assert (made.path, made.shard_format, made.filenames) == (folder.path, "csv", [f.path for f in files])
    assert ShardedDataset.from_files(files[:1]).path == f"{folder.path}/a"
    folder.file("a/3.csv").write(b"x")
    with pytest.raises(InvalidEventError, match="1 more") as caught:
        ShardedDataset.from_files(files)
    assert caught.value.code == "bad_shards"
    assert len(ShardedDataset.from_files(files, allow_additional_files=True).filenames) == 3
    for wrong in ([], [*files, folder.file("n.txt").write(b"x")]):
        with pytest.raises(InvalidEventError) as caught:
            ShardedDataset.from_files(wrong)
        assert caught.value.code == "bad_shards"
    with pytest.raises(FileMissingError):
        ShardedDataset.from_files([folder.file("none.csv")])


def test_what_cannot_be_read_is_said(tmp_path):
    """No shards, a format without a reader, one that nobody knows, and data that is no table."""
    with pytest.raises(FileNotFoundError) as caught:
        ShardedDataset(tmp_path).load_arrow()
    assert (caught.value.code, caught.value.path) == ("no_shards", str(tmp_path))
    File(tmp_path / "a.avro").write(b"x")
    named = ShardedDataset(tmp_path, "avro")
    for load in (named.load_arrow, named.load_polars, named.load_pandas):
        with pytest.raises(InvalidEventError) as caught:
            load()
        assert caught.value.code == "bad_format"
    with pytest.raises(InvalidEventError):
        ShardedDataset(tmp_path, "exe")
    with pytest.raises(InvalidEventError) as caught:
        ShardedDataset.from_data([1, 2], tmp_path)
    assert caught.value.code == "bad_data"
    with pytest.raises(InvalidEventError) as caught:
        ShardedDataset.from_data(pd.DataFrame({"a": [1]}), tmp_path, "orc")
    assert caught.value.code == "bad_format"
